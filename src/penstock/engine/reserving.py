"""A download's file before its bytes: made, with room for all of it.

Blocks are reserved, so that a full disk is found before bytes move and a file lies in one piece; in
memory, where that would fill pages twice, the room is only looked at.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from pathlib import Path

import anyio

from penstock.core.model import MIB
from penstock.engine import moments
from penstock.engine.files import hop, is_full, make_folder
from penstock.engine.mounts import in_memory

# Blocks reserved in one hop: some milliseconds where they are pages of memory.
RESERVED_AT_ONCE = 32 * MIB


def open_partial(path: str, size: int, *, reserved: bool = True) -> int:
    """The bytes a hidden partial already had; afterwards it exists, is ours, and has `size` bytes.

    Blocks are `reserved` where the file system can, so that a full disk is found before bytes
    move. Raises OSError. Blocks; call it through `hop`.
    """
    make_folder(Path(path).parent)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EEXIST, "stands in the way and is no file", path)
        if size and found.st_size != size:
            os.ftruncate(descriptor, size)
            if reserved:
                if _is_in_memory(found.st_dev, os.path.dirname(path)):  # noqa: PTH120 - speed
                    _check_room(descriptor, size)
                else:
                    _reserve(descriptor, 0, size)
        elif not size:
            os.ftruncate(descriptor, 0)
        moments.reached(moments.MADE, path)
        return found.st_size
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, offset: int, length: int) -> None:
    """Blocks are reserved where the file system can; where there are too few, none of the file."""
    try:
        os.posix_fallocate(descriptor, offset, length)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and is_full(error):
            os.ftruncate(descriptor, 0)
            raise


@functools.lru_cache(maxsize=64)
def _is_in_memory(device: int, folder: str) -> bool:  # noqa: ARG001 - what was mounted meanwhile
    return in_memory(Path(folder))


def _check_room(descriptor: int, size: int) -> None:
    """Nothing, or the OSError of a full disk, where a file of so many bytes has no room.

    The file is empty then.
    """
    found, has = os.fstatvfs(descriptor), os.fstat(descriptor).st_blocks * 512
    if found.f_blocks and found.f_bavail * found.f_frsize + has < size:
        os.ftruncate(descriptor, 0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Reserving:
    """A file's blocks, reserved in order while the first of them are written already.

    Nothing is written ahead of it: where a file system cannot reserve, the C library does so by
    writing into each block, which must not meet a writer. Source: posix_fallocate(3). In memory,
    where pages would be filled twice, the room is only looked at.
    """

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = size
        self._reached = 0
        self._moved = anyio.Event()

    async def run(self) -> None:
        """All is reserved. Raises OSError, the file then being empty."""
        with anyio.CancelScope(shield=True):
            descriptor = await hop(os.open, self._path, os.O_RDWR)
        try:
            while self._reached < self._size:
                length = min(RESERVED_AT_ONCE, self._size - self._reached)
                if await hop(self._is_in_memory, descriptor):
                    await hop(_check_room, descriptor, self._size)
                    length = self._size - self._reached
                else:
                    await hop(_reserve, descriptor, self._reached, length)
                self._reached += length
                moved, self._moved = self._moved, anyio.Event()
                moved.set()
        finally:
            with anyio.CancelScope(shield=True):
                await hop(os.close, descriptor)

    def _is_in_memory(self, descriptor: int) -> bool:
        folder = os.path.dirname(self._path)  # noqa: PTH120 - speed
        return _is_in_memory(os.fstat(descriptor).st_dev, folder)

    async def reach(self, end: int) -> None:
        """Returns when the file may be written up to `end`."""
        while self._reached < min(end, self._size):
            await self._moved.wait()
