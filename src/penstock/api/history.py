"""Earlier runs: what the ledger says of them, and their reports, written again.

Reads what runs left in the state folder; asks no platform and changes nothing there.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from penstock.api.opening import folders_of
from penstock.core.actionreport import STATUSES, ActionLine, read_action
from penstock.core.errors import UsageError
from penstock.core.report import Line, read_line
from penstock.core.units import format_size
from penstock.core.values import quick_value
from penstock.engine.clock import Clock
from penstock.engine.files import hop
from penstock.engine.ledger import Run
from penstock.session import ledger_in


@quick_value(frozen=True, slots=True)
class RunStatus:
    """One earlier run. `summary` is the contract's object, None while it is under way or killed.

    `path` is its report, as long as that is kept; `left` are sources that did not end well.
    """

    run: str
    began_at: float
    ended_at: float | None
    sources: tuple[str, ...]
    destination: str
    summary: Mapping[str, Any] | None
    path: Path | None
    left: tuple[str, ...] = field(default=())

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the summary counts: ways for a transfer, or for an action, to end."""
        if "action" in (self.summary or ()):
            return STATUSES
        return ("verified", "unverified", "skipped", "failed")


async def status(
    run: str | None = None,
    *,
    state: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[RunStatus]:
    """Earlier runs, the newest first; or the one whose id is, or begins with, `run`.

    Raises `UsageError` where no run, or more than one, is meant.
    """
    environ = os.environ if environ is None else environ
    folders = folders_of(state, environ)
    async with ledger_in(folders, Clock.running()) as ledger:
        runs = await ledger.runs()
    if run is not None:
        meant = [each for each in runs if each.id == run] or [
            each for each in runs if each.id.startswith(run)
        ]
        if len(meant) != 1:
            many = "several runs begin" if meant else "no run is called so, or begins"
            raise UsageError(f"{many} with {run!r}; see: penstock status")
        runs = meant
    return [await hop(_status, folders.state / "reports", each, run is not None) for each in runs]


def _status(folder: Path, run: Run, whole: bool) -> RunStatus:  # noqa: FBT001
    path = folder / f"{run.id}.jsonl"
    if not path.is_file():
        path = folder / f".{run.id}.jsonl.part"
    kept = path if path.is_file() else None
    left: tuple[str, ...] = ()
    if whole and kept is not None:
        bad = (line for line in lines_of(kept) if line.status in {"failed", "unknown"})
        left = tuple(line.source if isinstance(line, Line) else line.id for line in bad)
    summary = json.loads(run.summary) if run.summary is not None else None
    return RunStatus(
        run.id, run.began_at, run.ended_at, run.sources, run.destination, summary, kept, left
    )


def lines_of(path: Path) -> Iterator[Line | ActionLine]:
    """A report's lines, one at a time; a last one that was cut off is left out. Blocks."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith("\n"):
                continue
            try:
                fields = json.loads(text)
                line = read_action(fields) if "action" in fields else read_line(fields)
            except (ValueError, TypeError, LookupError, RecursionError):
                raise UsageError(
                    f"{path}, line {number}: no line of a report; was it changed?"
                ) from None
            yield line


def as_checksums(lines: Iterable[Line | ActionLine], name: str) -> Iterator[str]:
    """The lines `md5sum -c` and `sha256sum -c` read, for local files whose digest is known.

    Source: GNU coreutils manual, "md5sum invocation": a name with a backslash or a line end is
    escaped, and its line begins with a backslash.
    """
    for line in lines:
        if isinstance(line, ActionLine):
            continue
        digest = line.digests.get(name)
        local = next((p for p in (line.destination, line.source) if os.path.isabs(p)), None)  # noqa: PTH117
        if digest is None or local is None or line.status == "failed":
            continue
        escaped = local.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        mark = "\\" if escaped != local else ""
        yield f"{mark}{digest}  {escaped}"


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;text-align:left;"
    "border-bottom:1px solid #ddd;word-break:break-all}th{position:sticky;top:0;background:#fff}"
    ".failed td:first-child{color:#b00020;font-weight:600}.verified td:first-child{color:#1b6e3c}"
)


def as_page(run: RunStatus, lines: Iterable[Line | ActionLine]) -> Iterator[str]:
    """The report as one HTML page without scripts, piece by piece."""
    yield (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>penstock {html.escape(run.run)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Run {html.escape(run.run)}</h1>"
        f"<p>{html.escape(', '.join(run.sources))} → {html.escape(run.destination)}</p>"
    )
    if run.summary is not None:
        counts = ", ".join(f"{run.summary.get(kind, 0):,} {kind}" for kind in run.kinds)
        yield f"<p>{counts}; {format_size(int(run.summary.get('bytes', 0)))}</p>"
    heads = "status source destination size proved digests why"
    if "action" in (run.summary or ()):
        heads = "status name id action before after why"
    shown = "".join(f"<th>{head}</th>" for head in heads.split())
    yield f"<table><thead><tr>{shown}</tr></thead><tbody>"
    for line in lines:
        shown = "".join(f"<td>{html.escape(_printable(cell))}</td>" for cell in _cells(line))
        yield f"<tr class='{html.escape(line.status)}'>{shown}</tr>\n"
    yield "</tbody></table></body></html>\n"


def _cells(line: Line | ActionLine) -> tuple[str, ...]:
    if isinstance(line, ActionLine):
        states = (line.before or "", line.after or "")
        return (
            line.status,
            line.name or "",
            line.id,
            line.action,
            *states,
            line.reason or "",
        )
    why = line.error["message"] if line.error else line.reason or ""
    size = format_size(line.size) if line.size is not None else ""
    digests = " ".join(f"{name}:{value}" for name, value in line.digests.items())
    return (
        line.status,
        line.source,
        line.destination,
        size,
        line.verified_by or "",
        digests,
        why,
    )


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
