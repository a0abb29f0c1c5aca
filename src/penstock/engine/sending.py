"""A request's body, streamed from what a rope describes, in strides that a slow line can move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter

from penstock.core.errors import PenstockError
from penstock.core.model import FileSlice, Request
from penstock.engine.digests import Digests
from penstock.engine.files import READ_SIZE, Beside
from penstock.engine.gathering import Gathered
from penstock.engine.pacing import Pacer
from penstock.engine.reading import Held, read_at_once, reading
from penstock.engine.stalling import Stride


class RopeBody(payload.Payload):
    """A request body streamed from what a rope describes; keeps what went wrong on our side."""

    def __init__(
        self,
        request: Request,
        progress: Callable[[int], None],
        stall_timeout_s: float | None,
        pacer: Pacer | None,
        beside: Beside | None,
        files: Gathered,
        held: Held | None = None,
    ) -> None:
        super().__init__(request.body, content_type="application/octet-stream")
        self._pacer = pacer
        self._beside = beside
        self._files = files
        self._held = held or {}
        self._request = request
        self._progress = progress
        self._stall_timeout_s = stall_timeout_s
        self._size = request.body_length
        self.digests = Digests(request.digests)
        self.sent = 0
        self.failure: PenstockError | None = None
        self.ended: asyncio.Event | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's
        """No text; aiohttp asks for one only to print it."""
        return repr(self._request)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """The whole rope is written."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - aiohttp's
    ) -> None:
        """The whole rope is written; its length was announced."""
        self.ended = asyncio.Event()
        try:
            for piece in self._request.body:
                if isinstance(piece, bytes):
                    await writer.write(piece)
                    continue
                await self._write_slice(writer, piece)
        except PenstockError as error:
            self.failure = error
            raise
        finally:
            self.ended.set()

    async def _write_slice(self, writer: AbstractStreamWriter, piece: FileSlice) -> None:
        stride = Stride(self._stall_timeout_s)
        if piece in self._held:
            data, self.digests = self._held.pop(piece)
            await self._write_piece(writer, data, stride)
            return
        if piece.length <= READ_SIZE:
            read = partial(read_at_once, piece, self.digests, self._beside)
            await self._write_piece(writer, await self._files.do(read), stride)
            return
        async with reading(piece, self.digests, self._beside) as pieces:
            async for data in pieces:
                await self._write_piece(writer, data, stride)

    async def _write_piece(self, writer: AbstractStreamWriter, data: bytes, stride: Stride) -> None:
        now_s, first = asyncio.get_running_loop().time, 0
        while first < len(data):
            step = min(stride.size, self._pacer.step if self._pacer else len(data))
            some = data[first : first + step]
            first += len(some)
            if self._pacer is not None:
                await asyncio.sleep(self._pacer.spend(len(some)))
            began_s = now_s()
            async with asyncio.timeout(self._stall_timeout_s):
                await writer.write(some)
            stride.took(now_s() - began_s)
            self.sent += len(some)
            self._progress(len(some))
