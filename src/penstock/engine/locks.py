"""A live lock for whoever holds claims: the system frees it when the process ends, however it ends.

A holder is a file `holders/ID.lock` under an exclusive `flock`. Whoever wants to know whether a
holder lives tries the lock: had means dead. No heartbeat, no time-out, no clock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Self


class Holder:
    """This run's own lock, held from `__enter__` to `__exit__` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self.id = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(_path(self._folder, self.id), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            # The folder may be read-only by now, or gone; the lock ends with the descriptor.
            with suppress(OSError):
                _path(self._folder, self.id).unlink()
            os.close(self._descriptor)
            self._descriptor = -1

    def others(self) -> list[str]:
        """The other holders in the folder that are there."""
        names = (path.stem for path in self._folder.glob("*.lock"))
        return [name for name in names if name != self.id and self.lives(name)]

    def lives(self, other: str) -> bool:
        """Whether the holder `other` is still there. Tidies away the lock of one that is not."""
        if other == self.id:
            return True
        path = _path(self._folder, other)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)


def _path(folder: Path, holder: str) -> Path:
    return folder / f"{Path(holder).name}.lock"
