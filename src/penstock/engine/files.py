"""Local files: positioned reads and writes in threads, digests while bytes are warm, safe names.

Every hop into a thread goes through `hop`, which is awaited to its end whatever happens to the
task: a cancelled `aiofiles` call returns while its thread still runs, and a descriptor or buffer
closed under a running thread writes into whatever is opened next. Reads and writes carry their
offset (`pread`, `pwrite`), so two parts of one file never share a position.

The order that makes a download durable is: write → fsync → (receipt) → rename → fsync of the
folder. Nothing here decides what a file proves.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import anyio
from aiofiles import os as aio_os

from penstock.core.errors import (
    DestinationFull,
    DestinationRefused,
    PenstockError,
    RunStopped,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
)
from penstock.core.model import MIB, FileSlice, Fingerprint
from penstock.engine import moments
from penstock.engine.digests import Digests

P = ParamSpec("P")
T = TypeVar("T")

# One hop costs some 100 µs whatever it does, so it should do a megabyte of work.
# Source: own measurement of `aiofiles` against a bare `pwrite`, 2026-11-21.
READ_SIZE = MIB

# What is digested in one hop where nothing else waits for it: a tenth of a second of MD5.
DIGEST_AT_ONCE = 64 * MIB

_NO_LOCKS = frozenset((errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP))
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


async def hop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, run in a thread that is awaited to its end even when cancelled.

    A cancellation that arrives meanwhile, anyio's or asyncio's own, is raised once the thread is
    through.
    """
    work = functools.partial(function, *args, **kwargs)
    return await settled(asyncio.get_running_loop().run_in_executor(None, work))


async def settled(running: asyncio.Future[T]) -> T:
    """What `running` comes to. A cancellation is raised once it has, and stops nothing."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError as error:
        cancelled = error
    # anyio cancels anew at every turn of the loop, but for a shielded scope.
    with anyio.CancelScope(shield=True):
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                cancelled = error
    if not running.cancelled():
        running.exception()  # Seen: nobody is left to tell.
    raise cancelled


def local_error(error: OSError, path: str) -> PenstockError:
    """The error of ours for trouble at a local destination; says the file and what to do."""
    why = error.strerror or str(error)
    if error.errno in _FULL:
        return DestinationFull(
            f"no room left for {path}: {why}; free some space and run the same command again"
        )
    if error.errno == errno.EROFS:
        return RunStopped(
            f"cannot write {path}: {why}; once it can be written, run the same command again"
        )
    return DestinationRefused(f"cannot write {path}: {why}")


def is_full(error: OSError) -> bool:
    """Whether it says that there is no room."""
    return error.errno in _FULL


def source_error(error: OSError, path: str) -> PenstockError:
    """The error of ours for trouble at a local source."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return SourceMissing(f"{path} does not exist")
    return SourceUnreadable(f"cannot read {path}: {error.strerror or error}")


def open_file(path: str) -> int:
    """A descriptor to read a file by. `SourceChanged` for what is none, which is not waited for.

    A pipe that took the place of a file would keep whoever opens it until somebody writes to it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceChanged(f"{path} is no file any more; something else took its place")
    return descriptor


def fingerprint(path: str) -> Fingerprint:
    """A local file's size, time of change and inode.

    Raises `SourceMissing` or `SourceUnreadable`.
    """
    try:
        return fingerprint_of(os.stat(path))  # noqa: PTH116 - bytes paths and speed
    except OSError as error:
        raise source_error(error, path) from error


def fingerprint_of(found: os.stat_result) -> Fingerprint:
    """The fingerprint in a stat result."""
    return Fingerprint(size=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


async def unchanged(path: str, since: Fingerprint) -> None:
    """Nothing, or `SourceChanged` where a local file is not as it was planned."""
    await hop(check_unchanged, path, since)


def check_unchanged(path: str, since: Fingerprint) -> None:
    """As `unchanged`. Blocks."""
    now = fingerprint(path)
    if (now.size, now.mtime_ns, now.inode) != (since.size, since.mtime_ns, since.inode):
        raise SourceChanged(
            f"{path} changed while it was being sent; run the command again when it is at rest"
        )


class Beside:
    """Sees bytes of a file as they pass, and does nothing about it."""

    stood = 0
    """The offset up to which what was seen is settled: it does not pass again."""

    def __call__(self, offset: int, data: bytes | memoryview) -> None:
        """Bytes pass, which have this offset in the file. Called in a thread, while it is warm."""

    async def stands(self, end: int) -> None:
        """What was seen up to this offset is written. Whoever writes waits for it."""


class SliceWriter:
    """Writes one slice of a file from its offset on, digesting what it writes.

    `beside` sees the bytes as well.
    """

    def __init__(
        self, target: FileSlice, names: Iterable[str], beside: Beside | None = None
    ) -> None:
        self._target = target
        self._beside = beside
        self.digests = Digests(names)
        self._descriptor = -1
        self.written = 0

    async def write(
        self, pieces: Sequence[bytes | memoryview], *, last: bool = False, apart: bool = False
    ) -> None:
        """The pieces stand behind what was written before; after the `last` it is closed.

        `apart`: they are digested in another thread than they are written in, at the same time.

        Raises `DestinationFull` or `DestinationRefused`.
        """
        try:
            if apart and self._digests_anything:
                digesting = asyncio.get_running_loop().run_in_executor(None, self._digest, pieces)
                try:
                    size = await hop(self._write, pieces, last)
                finally:
                    await settled(digesting)
            else:
                size = await hop(self._write_and_digest, pieces, last)
        except OSError as error:
            raise local_error(error, self._target.path) from error
        self.written += size
        if self._beside is not None:
            await self._beside.stands(self._target.offset + self.written)

    @property
    def _digests_anything(self) -> bool:
        return self._beside is not None or bool(self.digests)

    def _write_and_digest(self, pieces: Sequence[bytes | memoryview], last: bool) -> int:  # noqa: FBT001 - hop's
        size = self._write(pieces, last)
        self._digest(pieces)
        return size

    def _digest(self, pieces: Sequence[bytes | memoryview]) -> None:
        offset = self._target.offset + self.written
        for piece in pieces:
            self.digests.update(piece)
            if self._beside is not None:
                self._beside(offset, piece)
            offset += len(piece)

    def _write(self, pieces: Sequence[bytes | memoryview], last: bool) -> int:  # noqa: FBT001 - hop's
        if self._descriptor < 0:
            flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self._target.path, flags)
        offset = self._target.offset + self.written
        for piece in pieces:
            view, began = memoryview(piece), offset
            moments.reached(moments.WRITING, self._target.path, began, len(view))
            while view:
                done = os.pwrite(self._descriptor, view, offset)
                offset += done
                view = view[done:]
            moments.reached(moments.WROTE, self._target.path, began, offset - began)
        if last:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
        return offset - self._target.offset - self.written

    async def close(self) -> None:
        """The descriptor is closed; what was written is not yet flushed."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            await hop(os.close, descriptor)

    def hex(self) -> dict[str, str]:
        """The digests of what was written."""
        return self.digests.hex()


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor to read a file by, as `open_file`. Raises OSError. Blocks."""
    descriptor = open_file(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_through(descriptor: int, offset: int, length: int) -> Iterator[memoryview]:
    """A file's bytes in order, all in one buffer: each piece ends when the next is asked for.

    They end early where the file does. Blocks.
    """
    view = memoryview(bytearray(min(READ_SIZE, max(length, 1))))
    end = offset + length
    while offset < end:
        size = os.preadv(descriptor, [view[: end - offset]], offset)
        if not size:
            return
        yield view[:size]
        offset += size


def digest_slice(path: str, offset: int, length: int, names: Iterable[str]) -> dict[str, str]:
    """Digests of `length` bytes of a file from `offset` on, in hex; shorter where the file is.

    Blocks; call it through `hop`.
    """
    digests = Digests(names)
    with opened(path) as descriptor:
        for data in read_through(descriptor, offset, length):
            digests.update(data)
    return digests.hex()


async def digest_file(path: str, size: int, names: Iterable[str]) -> dict[str, str]:
    """Digests of a file's first `size` bytes, in hops short enough to be interrupted between.

    Raises `SourceChanged` where the file is shorter, `SourceUnreadable` or `SourceMissing`.
    """
    digests = Digests(names)

    def read(offset: int, length: int) -> int:
        with opened(path) as descriptor:
            for data in read_through(descriptor, offset, length):
                digests.update(data)
                offset += len(data)
        return offset

    offset = 0
    while offset < size:
        end = min(offset + DIGEST_AT_ONCE, size)
        try:
            reached = await hop(read, offset, end - offset)
        except OSError as error:
            raise source_error(error, path) from error
        if reached != end:
            raise SourceChanged(f"{path} became shorter while it was read")
        offset = end
    return digests.hex()


async def block_md5s(path: str, size: int, block: int) -> list[str]:
    """The MD5 of each `block` bytes of a file, in order."""
    return [
        (await hop(digest_slice, path, offset, min(block, size - offset), ("md5",)))["md5"]
        for offset in range(0, max(size, 1), block)
    ]


def lock_partial(path: str) -> int | None:
    """A descriptor that holds a partial, made where it is missing, for this run alone.

    None where another run holds it. Nobody renames it away while it is held, so what is written
    by its path lands in it. Raises OSError. Blocks; call it through `hop`.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        try:
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            make_folder(Path(path).parent)
            descriptor = os.open(path, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here, there = os.fstat(descriptor), os.stat(path)  # noqa: PTH116
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            os.close(descriptor)  # It was published between opening and locking.
            continue
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor  # A file system without locks: the ledger's claim still guards.
            os.close(descriptor)
            raise
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return descriptor
        os.close(descriptor)


def flush(path: str) -> None:
    """A file's bytes are on the disk. Blocks; call it through `hop`."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        flush_open(descriptor, path)
    finally:
        os.close(descriptor)


def place(partial: str, final: str, modified_at: float | None = None) -> Fingerprint:
    """The partial stands under its final name; the fingerprint it has there.

    Durable once the caller has flushed the folder. Blocks. Raises OSError.
    """
    if modified_at is not None:
        os.utime(partial, (modified_at, modified_at))
    else:
        os.utime(partial)
    # Before it has its name: another program may change what stands there at once.
    return _placed(fingerprint_of(os.stat(partial)), partial, final)  # noqa: PTH116


def place_open(
    descriptor: int, partial: str, final: str, modified_at: float | None = None
) -> Fingerprint:
    """As `place`, of a small file that was written just now by this descriptor. Blocks."""
    if modified_at is not None:
        os.utime(partial, (modified_at, modified_at))
    return _placed(fingerprint_of(os.fstat(descriptor)), partial, final)


def _placed(published: Fingerprint, partial: str, final: str) -> Fingerprint:
    moments.reached(moments.RENAMING, partial, final)
    try:
        os.replace(partial, final)  # noqa: PTH105 - bytes paths and speed
    except FileNotFoundError:
        make_folder(Path(final).parent)
        os.replace(partial, final)  # noqa: PTH105
    moments.reached(moments.RENAMED, partial, final)
    return published


def write_small(descriptor: int, path: str, body: bytes, names: Iterable[str]) -> dict[str, str]:
    """The digests of `body`, which is now all that stands in an open file; not yet flushed.

    Blocks. Raises OSError.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EEXIST, "stands in the way and is no file", path)
    moments.reached(moments.MADE, path)
    if found.st_size > len(body):
        os.ftruncate(descriptor, len(body))
    digests = Digests(names)
    moments.reached(moments.WRITING, path, 0, len(body))
    view, offset = memoryview(body), 0
    while offset < len(view):
        offset += os.pwrite(descriptor, view[offset:], offset)
    moments.reached(moments.WROTE, path, 0, offset)
    digests.update(body)
    return digests.hex()


def flush_open(descriptor: int, path: str) -> None:
    """An open file's bytes are on the disk. Blocks."""
    moments.reached(moments.FLUSHING, path)
    os.fsync(descriptor)
    moments.reached(moments.FLUSHED, path)


def make_folder(path: Path) -> None:
    """A folder is there, and the names of those that were missing are on the disk.

    Blocks; call it through `hop`. Raises OSError.
    """
    try:
        path.mkdir()
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    flush_folder(str(path.parent))


def flush_folder(path: str) -> None:
    """A folder's entries are on the disk, where the system can say so."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    moments.reached(moments.FLUSHING, path)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # Some file systems cannot flush a folder; the rename itself has succeeded.
    finally:
        os.close(descriptor)
    moments.reached(moments.FLUSHED, path)


def unlink(path: str) -> None:
    """As `remove`. Blocks."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)  # noqa: PTH107 - bytes paths and speed
        moments.reached(moments.REMOVED, path)


async def remove(path: str) -> None:
    """A file is gone, or was not there."""
    with anyio.CancelScope(shield=True):
        with contextlib.suppress(FileNotFoundError):
            await aio_os.remove(path)
            moments.reached(moments.REMOVED, path)
