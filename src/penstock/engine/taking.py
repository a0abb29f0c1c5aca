"""A large response body, taken over from aiohttp and received straight into reused buffers.

aiohttp makes the request: its pool, TLS, proxies, response head. From there on each byte of a
body would be copied three times and handed on in pieces of its choosing. So the connection's
transport is given another protocol, which receives the rest of a body of known length into two
large buffers in turn: one fills while a thread writes and digests the other. When the last byte is
there the connection goes back to the pool as if aiohttp had read it.

This is the only module that leans on what aiohttp does not document: `ClientResponse.connection`,
`Connection.protocol`, its `read_timeout` and `start_timeout`, `StreamReader.read_nowait` and
`feed_eof`. `takeable` says whether they are all there and the body is one that can be taken; where
not, the public API reads it. Tried with aiohttp 3.12.0 and 3.14.5.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from penstock.core.model import MIB
from penstock.engine.pacing import Pacer
from penstock.engine.stalling import Watch

# Below, aiohttp's own reading is as quick: setting up costs more than the copies.
# Source: own measurement (256 KiB slower, 64 MiB twice as quick), 2026-11-21.
SMALLEST_TAKEN = MIB
# A buffer's size: 4 MiB a write cost a quarter less than 1 MiB in CPU. With many bodies in flight
# each has less, so that all of them together stay within `_BUDGET`.
_LARGE, _SMALL = 4 * MIB, MIB
_BUDGET = 32 * MIB
# Bytes received between two words of progress.
_TOLD_EACH = 256 * 1024


class Buffers:
    """Buffers, used again by one body after another. Two a body."""

    def __init__(self) -> None:
        self._idle: dict[int, list[bytearray]] = {_LARGE: [], _SMALL: []}
        self._out = 0
        self.held_up = 0
        """How often a body had to wait because what came was not yet written and digested."""

    def take(self, length: int) -> bytearray:
        """A buffer for a body of `length` bytes."""
        size = _LARGE if length > _LARGE and self._out + _LARGE <= _BUDGET else _SMALL
        self._out += size
        idle = self._idle[size]
        return idle.pop() if idle else bytearray(size)

    def give(self, buffer: bytearray) -> None:
        """The buffer is not used any more."""
        self._out -= len(buffer)
        self._idle[len(buffer)].append(buffer)


# What is asked of aiohttp and of the event loop beyond what they document, by who must have it.
_LEANT_ON = {
    "protocol": ("read_timeout", "start_timeout"),
    "transport": ("set_protocol", "pause_reading", "resume_reading", "is_closing", "abort"),
    "content": ("read_nowait", "feed_eof", "is_eof", "exception"),
}


def is_there(answer: aiohttp.ClientResponse) -> bool:
    """Whether a whole body came with its head, so that reading it waits for nothing."""
    is_eof: Callable[[], bool] | None = getattr(answer.content, "is_eof", None)
    return is_eof is not None and is_eof()


def takeable(answer: aiohttp.ClientResponse, length: int) -> bool:
    """Whether the rest of a body of `length` bytes can be taken over."""
    connection = getattr(answer, "connection", None)
    if connection is None or length < SMALLEST_TAKEN:
        return False
    parts = {
        "protocol": getattr(connection, "protocol", None),
        "transport": getattr(connection, "transport", None),
        "content": answer.content,
    }
    for name, leant_on in _LEANT_ON.items():
        if not all(hasattr(parts[name], each) for each in leant_on):
            return False
    return (
        answer.headers.get("Content-Length") == str(length)
        and "Transfer-Encoding" not in answer.headers
        and "Content-Encoding" not in answer.headers
        and not connection.transport.is_closing()
        and answer.content.exception() is None
        and not answer.content.is_eof()
    )


class Taken(asyncio.BufferedProtocol):
    """The rest of one body. Only `pieces` waits."""

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        length: int,
        buffers: Buffers,
        *,
        stall_timeout_s: float | None,
        progress: Callable[[int], None],
        pacer: Pacer | None,
    ) -> None:
        connection = answer.connection
        assert connection is not None
        assert connection.protocol is not None
        self._loop = asyncio.get_running_loop()
        self._content = answer.content
        self._inner: Any = connection.protocol
        self._transport: Any = connection.transport
        self._missing = length
        self._stall_timeout_s = stall_timeout_s
        self._progress = progress
        self._pacer = pacer
        self._untold = 0
        # What aiohttp has read of the body already. Reading it may make it parse more.
        self._begun: list[bytes] = []
        while data := self._content.read_nowait():
            self._begun.append(data)
            self._missing -= len(data)
        self._pool, self._buffers = buffers, [buffers.take(length) for _ in range(2)]
        self._free = deque(self._buffers)
        self._filling: bytearray | None = None
        self._filled = 0
        self._full: deque[tuple[bytearray, int]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._paused = False
        self._pacing: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._moved_at_s = self._loop.time()
        self._rate = Watch(stall_timeout_s, self._moved_at_s)
        self._ours = False

    @asynccontextmanager
    async def pieces(self) -> AsyncIterator[AsyncIterator[memoryview]]:
        """The body in order, in large pieces; one is only valid until the next is asked for.

        Raises `aiohttp.ClientPayloadError` where the body breaks off or holds too much, and
        `TimeoutError` where nothing comes for the stall time. Left early, the connection is
        closed.
        """
        self._begin()
        try:
            yield self._pieces()
        finally:
            self._end()

    async def _pieces(self) -> AsyncIterator[memoryview]:
        for data in self._begun:
            self._progress(len(data))
            yield memoryview(data)
        self._begun.clear()
        while True:
            while not self._full:
                if self._failure is not None:
                    raise self._failure
                if not self._missing:
                    return
                self._waiter = self._loop.create_future()
                await self._waiter
            buffer, size = self._full.popleft()
            yield memoryview(buffer)[:size]
            self._free.append(buffer)
            self._flow()

    def _begin(self) -> None:
        if self._missing < 0:
            raise aiohttp.ClientPayloadError("more came than was announced")
        if not self._missing:
            return
        # aiohttp's own read time-out would strike: it no longer sees what comes.
        self._inner.read_timeout = None
        self._inner.start_timeout()
        self._filling = self._free.popleft()
        self._ours = True
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        self._look()

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._pacing is not None:
            self._pacing.cancel()
        if self._ours:
            # Left before the end: whatever the connection still brings is nobody's.
            self._hand_back()
            self._transport.abort()
        for buffer in self._buffers:
            self._pool.give(buffer)

    def _hand_back(self) -> None:
        self._ours = False
        self._transport.set_protocol(self._inner)

    # -- what the event loop calls -----------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's
        """Where the next bytes go: never beyond the body's end."""
        assert self._filling is not None
        room = min(len(self._filling) - self._filled, self._missing)
        if self._pacer is not None:
            room = min(room, self._pacer.step)
        return memoryview(self._filling)[self._filled : self._filled + room]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        assert self._filling is not None
        self._moved_at_s = self._loop.time()
        self._filled += nbytes
        self._missing -= nbytes
        self._untold += nbytes
        if self._rate.moved(nbytes, self._moved_at_s) and self._missing:
            self._fail(TimeoutError("too little came for too long"))
        if self._untold >= _TOLD_EACH or self._pacer is not None or not self._missing:
            self._progress(self._untold)
            self._untold = 0
        if self._filled == len(self._filling) or not self._missing:
            self._full.append((self._filling, self._filled))
            self._filling, self._filled = None, 0
            self._wake()
        if not self._missing:
            self._hand_back()
            self._content.feed_eof()
            return
        wait_s = self._pacer.spend(nbytes) if self._pacer is not None else 0.0
        if wait_s:
            self._pacing = self._loop.call_later(wait_s, self._paced)
        self._flow()

    def eof_received(self) -> None:
        """The server sends no more; `connection_lost` follows."""
        self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone before the body's end."""
        self._ours = False
        self._inner.connection_lost(exc)
        self._fail(aiohttp.ClientPayloadError("the body broke off"))

    def pause_writing(self) -> None:
        """Passed on: requests with a body are written by aiohttp."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Passed on, as above."""
        self._inner.resume_writing()

    # -- flow and time -----------------------------------------------------------------------

    def _paced(self) -> None:
        self._pacing = None
        self._moved_at_s = self._loop.time()
        self._flow()

    def _flow(self) -> None:
        """Reading goes on while there is room and the pacer lets it."""
        if not self._ours:
            return
        if self._filling is None and self._free:
            self._filling = self._free.popleft()
        pause = self._filling is None or self._pacing is not None
        if pause == self._paused:
            return
        self._paused = pause
        if pause:
            self._pool.held_up += self._filling is None
            self._transport.pause_reading()
        else:
            self._moved_at_s = self._loop.time()
            self._rate.rest(self._moved_at_s)
            self._transport.resume_reading()

    def _look(self) -> None:
        """Looks whether the stream stalls, now and later. A pause of our own is none."""
        if self._stall_timeout_s is None or not self._ours:
            return
        now_s = self._loop.time()
        due_s = self._stall_timeout_s - (0.0 if self._paused else now_s - self._moved_at_s)
        if due_s <= 0:
            self._fail(TimeoutError("nothing came for too long"))
            return
        self._watch = self._loop.call_later(due_s, self._look)

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
