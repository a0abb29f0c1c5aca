"""What a cut of the power leaves on a disk: nothing that was not flushed, neither bytes nor names.

`Disk` takes the moments of a run (`penstock.engine.moments`) in their order and knows what a disk
need not hold at their end. `lose` makes the files so: bytes become other bytes, a rename is undone,
a file whose name was never flushed is gone.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Range = tuple[int, int]


class Disk:
    def __init__(self) -> None:
        self._unflushed: dict[str, list[Range]] = defaultdict(list)
        self._under_way: dict[str, list[Range]] = defaultdict(list)
        # The name a file had before; None where it had none.
        self._unnamed: dict[str, str | None] = {}
        self._flushing: dict[tuple[str, int], tuple[list[Range], list[str]]] = {}

    @classmethod
    def after(cls, moments: Iterable[tuple[Any, ...]]) -> Disk:
        disk = cls()
        for name, *what, thread in moments:
            path = str(what[0])
            match name:
                case "made":
                    if path not in disk._unflushed:
                        disk._unnamed[path] = None
                case "writing":
                    disk._under_way[path].append((what[1], what[2]))
                    disk._unflushed[path].append((what[1], what[2]))
                case "wrote":
                    disk._under_way[path].remove((what[1], what[2]))
                case "flushing":
                    disk._begin_flush(path, thread)
                case "flushed":
                    disk._end_flush(path, thread)
                case "renaming":
                    disk._rename(path, str(what[1]))
        return disk

    def _begin_flush(self, path: str, thread: int) -> None:
        """It covers what was written, and named, before it began."""
        done = [each for each in self._unflushed[path] if each not in self._under_way[path]]
        here = [each for each in self._unnamed if os.path.dirname(each) == path]  # noqa: PTH120
        self._flushing[path, thread] = (done, here)

    def _end_flush(self, path: str, thread: int) -> None:
        done, here = self._flushing.pop((path, thread))
        self._unflushed[path] = [each for each in self._unflushed[path] if each not in done]
        for each in here:
            self._unnamed.pop(each, None)

    def _rename(self, old: str, new: str) -> None:
        self._unflushed[new] = self._unflushed.pop(old, [])
        self._unnamed[new] = None if old in self._unnamed else old
        self._unnamed.pop(old, None)

    def lose(self) -> None:
        """The files are as they may be when the power is back."""
        for path, ranges in self._unflushed.items():
            if Path(path).is_file():
                with Path(path).open("r+b") as file:
                    for offset, length in ranges:
                        file.seek(offset)
                        file.write(b"\xff" * length)
        for path, before in self._unnamed.items():
            if before is None:
                Path(path).unlink(missing_ok=True)
            elif Path(path).is_file():
                Path(path).replace(before)
