"""A slice of a local file on its way out: read in threads, digested while its bytes are warm.

What fits in one piece takes one thread hop: opened, read, digested, looked at and closed. Of more,
the next piece is read and digested while one is being sent. Either way the descriptor is closed
with the last byte read, and not when all was sent: whoever still waits for a thread when the answer
comes is cancelled by aiohttp, and its connection closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio

from penstock.core.errors import SourceChanged
from penstock.core.model import FileSlice
from penstock.engine.digests import Digests
from penstock.engine.files import READ_SIZE, Beside, hop, open_file, settled, source_error

# Slices that were read before they are sent, to be signed for: their bytes, and digests of them.
Held: TypeAlias = dict[FileSlice, tuple[bytes, Digests]]


def read_at_once(source: FileSlice, digests: Digests, beside: Beside | None = None) -> bytes:
    """A whole slice, digested; `beside` has seen it. Blocks.

    Raises `SourceChanged` where the file ends before the slice does, `SourceMissing` or
    `SourceUnreadable`.
    """
    try:
        descriptor = open_file(source.path)
        try:
            data = os.pread(descriptor, source.length, source.offset)
            while len(data) < source.length:
                more = os.pread(descriptor, source.length - len(data), source.offset + len(data))
                if not more:
                    raise _shorter(source)
                data += more
        finally:
            os.close(descriptor)
    except OSError as error:
        raise source_error(error, source.path) from error
    digests.update(data)
    if beside is not None:
        beside(source.offset, data)
    return data


@asynccontextmanager
async def reading(
    source: FileSlice, digests: Digests, beside: Beside | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The slice's bytes in pieces of a megabyte, digested on the way; `beside` sees them too.

    Raises as `read_at_once` does.
    """
    opened = _Opened(source, digests, beside)
    try:
        yield opened.pieces()
    finally:
        await opened.end()


class _Opened:
    """A slice being read."""

    def __init__(self, source: FileSlice, digests: Digests, beside: Beside | None) -> None:
        self._source = source
        self._digests = digests
        self._beside = beside
        self._end = source.offset + source.length
        self._descriptor: int | None = None
        self._ahead: asyncio.Future[bytes] | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes in order."""
        source, offset = self._source, self._source.offset
        if source.length <= READ_SIZE:
            yield await hop(read_at_once, source, self._digests, self._beside)
            return
        self._begin(offset)
        while self._ahead is not None:
            try:
                data = await settled(self._ahead)
            except OSError as error:
                raise source_error(error, source.path) from error
            self._ahead = None
            if not data:
                raise _shorter(source)
            offset += len(data)
            self._begin(offset)
            yield data

    def _begin(self, offset: int) -> None:
        if offset < self._end:
            running = asyncio.get_running_loop().run_in_executor(None, self._read, offset)
            self._ahead = running

    def _read(self, offset: int) -> bytes:
        if self._descriptor is None:
            self._descriptor = open_file(self._source.path)
        data = os.pread(self._descriptor, min(READ_SIZE, self._end - offset), offset)
        self._digests.update(data)
        if self._beside is not None:
            self._beside(offset, data)
        if offset + len(data) >= self._end:
            self._close()
        return data

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    async def end(self) -> None:
        """Nothing reads any more, and the descriptor is closed."""
        try:
            if self._ahead is not None:
                # Nobody asks for it any more, but its thread reads from the descriptor.
                with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
                    await settled(self._ahead)
        finally:
            if self._descriptor is not None:
                await hop(self._close)


def _shorter(source: FileSlice) -> SourceChanged:
    return SourceChanged(f"{source.path} became shorter while it was being sent")
