"""Reports on disk: a line for each transfer as it ends, under the final name when the run ends.

A report grows beside its name and takes it in whatever way the run ends, short of SIGKILL. The
run's own copy in the state folder is what `Report.lines` reads; the oldest are dropped.
"""

from __future__ import annotations

import contextlib
import os
from io import TextIOWrapper
from pathlib import Path
from typing import Protocol, Self

from penstock.core.errors import RunStopped, UsageError

# Runs whose lines are kept.
KEPT = 20
# Bytes of lines that are written at once.
_BUFFER = 1 << 18


class ReportLine(Protocol):
    """What a report has lines of: transfers, or actions."""

    def json(self) -> str:
        """The line, without a line end."""
        ...


class ReportWriter:
    """Writes lines to the run's own report and, where asked for, to another file."""

    def __init__(self, folder: Path, run: str, wanted: Path | None) -> None:
        self.path = folder / f"{run}.jsonl"
        self._folder = folder
        self._targets = [self.path] + ([wanted] if wanted is not None else [])
        self._files: list[TextIOWrapper] = []
        self._lost: set[Path] = set()

    def __enter__(self) -> Self:
        """Raises `UsageError` where a report cannot be written."""
        for target in self._targets:
            try:
                mode = 0o700 if target is self.path else 0o777
                target.parent.mkdir(parents=True, exist_ok=True, mode=mode)
                if target.is_dir():
                    raise IsADirectoryError(21, "is a folder", str(target))
                descriptor = os.open(
                    growing(target),
                    os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                    0o600 if target is self.path else 0o666,
                )
                self._files.append(
                    os.fdopen(descriptor, "w", _BUFFER, encoding="utf-8", errors="surrogateescape")
                )
            except OSError as error:
                self.give_up()
                raise UsageError(
                    f"the report {target} cannot be written: {error.strerror}"
                ) from error
        return self

    def give_up(self) -> None:
        """What was begun is gone: nothing moved that it could be the report of."""
        for file, target in zip(self._files, self._targets, strict=False):
            file.close()
            growing(target).unlink(missing_ok=True)
        self._files = []

    def write(self, line: ReportLine) -> None:
        """One line more. Raises, once, what stops a run whose report cannot be written on."""
        text = line.json() + "\n"
        for file, target in zip(self._files, self._targets, strict=False):
            if self._lost and target in self._lost:
                continue
            try:
                file.write(text)
            except OSError as error:
                self._lost.add(target)
                raise RunStopped(
                    f"the report {target} cannot be written on: {error.strerror}; nothing that was "
                    "proved is lost. Free some space and run the same command again"
                ) from error

    def __exit__(self, *_: object) -> None:
        for file, target in zip(self._files, self._targets, strict=False):
            with contextlib.suppress(OSError):
                file.close()
                growing(target).replace(target)
        self._files = []
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        with contextlib.suppress(OSError):
            kept = sorted(self._folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
            for old in kept[:-KEPT]:
                old.unlink(missing_ok=True)


def growing(target: Path) -> Path:
    """Where a report stands until its run ends."""
    return target.with_name(f".{target.name}.part")
