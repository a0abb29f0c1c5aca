"""Permits for bodies in flight: as many as the width says, which finds its level as they move.

Every body takes a permit, tells what it moves, and gives it back. What to make of that is
`core.width`'s; here are the clock, the waiting, and a look at the memory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio

from penstock.core.model import MIB
from penstock.core.width import Width

# Bodies in flight from a moment after the first on: enough to fill a long line soon, few enough
# not to strain a laptop. Until then, and where bytes come as quickly as one core takes them or
# answers at once, `LEAST`: more would only push each other out of its caches (a fifth more CPU for
# files of 64 MiB from a server beside us).
BEGIN: Final = 16
_FIRST_LOOK_S: Final = 0.1
_FULL_RATE: Final = 200 * MIB
_NEAR_S: Final = 0.002
# Groups of bodies that are being written while the permits are out to others.
_LANDING: Final = 2
# As many as any line is worth: 64 of 20 MB/s are more than 10 Gbit/s.
MOST: Final = 64
# Fewer would leave threads idle while others digest.
LEAST: Final = 4
# What a run may grow by before its bodies are halved. The buffers of 64 take less.
_MOST_GROWTH: Final = 160 * MIB
# And then again, each time it has grown by so much more, or while it is as much as this.
_MORE_GROWTH: Final = 16 * MIB
_TOO_MUCH: Final = 240 * MIB
_LOOK_EACH_S: Final = 0.05
_LOOK_AT_MEMORY_EACH_S: Final = 1.0


def resident() -> int:
    """Bytes this process has in memory; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_bytes().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


class Body:
    """One body's permit, from `async with` to its end."""

    __slots__ = ("_asked_s", "_comes", "_is_lost", "_moved", "_permits", "_told")

    def __init__(self, permits: Permits, *, comes: bool) -> None:
        self._permits = permits
        self._comes = comes
        self._asked_s = 0.0
        self._moved = 0
        self._is_lost = False
        self._told = False

    async def __aenter__(self) -> Self:
        await self._permits.take()
        self._asked_s = self._permits.now()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._permits.give(lost=self._is_lost, told=self._told)

    def brought(self, size: int, waited_s: float) -> None:
        """One of several small bodies that share the permit: its bytes, and how long it waited."""
        self._told = True
        self._permits.width.waited(waited_s)
        self._permits.width.ended(lost=False)
        self._permits.moved(size)

    def moved(self, size: int) -> None:
        """So many bytes passed."""
        if self._comes and not self._moved:
            self._permits.width.waited(self._permits.now() - self._asked_s)
        self._moved += size
        self._permits.moved(size)

    def lost(self) -> None:
        """It broke off, timed out, or was refused for the server's sake.

        What was sent was for nothing; what came down stays.
        """
        self._is_lost = True
        if not self._comes:
            self._permits.moved(-self._moved)


class Permits:
    """The bodies of a run. `now` is a monotonic clock; `memory` what the process has resident."""

    def __init__(
        self,
        width: Width,
        now: Callable[[], float],
        *,
        memory: Callable[[], int] = resident,
        wide: int | None = None,
    ) -> None:
        """`wide`: so many soon, where it is not this machine or its neighbour that binds."""
        self._wide = wide
        self.width = width
        self.now = now
        self._memory = memory
        self.passed = 0
        """Bytes that all bodies of the run moved, so far."""
        self._limiter = anyio.CapacityLimiter(width.width)
        self.landing = anyio.CapacityLimiter(width.width + _LANDING)
        """For what holds bodies from before they come until they are on the disk: who comes
        quicker than the disk takes waits for it, for it all is in memory, and lost if killed."""
        self._look_s = 0.0
        self._look_at_memory_s = 0.0
        self._memory_at_first = memory()
        self._pressed_at = -_MORE_GROWTH

    @classmethod
    def fixed(cls, count: int, now: Callable[[], float] = lambda: 0.0) -> Permits:
        """So many, whatever happens."""
        return cls(Width(least=count, most=count, begin=count, now_s=now()), now)

    @property
    def borrowed_tokens(self) -> int:
        """Bodies in flight."""
        return self._limiter.borrowed_tokens

    @property
    def waiting(self) -> int:
        """Bodies that wait for a permit."""
        return self._limiter.statistics().tasks_waiting

    def body(self, *, comes: bool) -> Body:
        """A permit to be entered. `comes`: the body comes in, so that its first byte tells."""
        return Body(self, comes=comes)

    async def take(self) -> None:
        """A permit of the width, once one is free. For `Body`."""
        if self._wide is not None:
            wide, self._wide = self._wide, None
            asyncio.get_running_loop().call_later(_FIRST_LOOK_S, self._open, wide)
        try:
            # At once, where one is free: anyio would let a turn of the loop pass first.
            self._limiter.acquire_nowait()
        except anyio.WouldBlock:
            self.width.filled()
            await self._limiter.acquire()

    def give(self, *, lost: bool, told: bool = False) -> None:
        """A permit is free again; `told`: the width knows of its bodies already. For `Body`."""
        self._limiter.release()
        if lost or not told:
            self.width.ended(lost=lost)
        self._look()

    def moved(self, size: int) -> None:
        """Bytes passed. For `Body`."""
        self.passed += size
        self.width.moved(size)
        self._look()

    def _open(self, wide: int) -> None:
        """More bodies, unless those there are fill the machine, or wait for nothing."""
        soonest_s = self.width.soonest_s
        is_near = soonest_s is not None and soonest_s < _NEAR_S
        if not is_near and self.passed < _FULL_RATE * _FIRST_LOOK_S:
            self.width.open_to(wide, self.now())
            self._changed()

    def _changed(self) -> None:
        self._limiter.total_tokens = self.width.width
        self.landing.total_tokens = self.width.width + _LANDING

    def _look(self) -> None:
        now_s = self.now()
        if now_s < self._look_s or self.width.least == self.width.most:
            return
        self._look_s = now_s + _LOOK_EACH_S
        pressed = False
        if now_s >= self._look_at_memory_s:
            self._look_at_memory_s = now_s + _LOOK_AT_MEMORY_EACH_S
            grown = self._memory() - self._memory_at_first
            # What Python once had stays resident, so that only more of it speaks against fewer
            # bodies again: else one peak would leave a handful of them for the rest of the run.
            pressed = grown > min(max(_MOST_GROWTH, self._pressed_at + _MORE_GROWTH), _TOO_MUCH)
            if pressed:
                self._pressed_at = grown
        if self.waiting:
            self.width.filled()
        if self.width.look(now_s, pressed=pressed) != self._limiter.total_tokens:
            self._changed()


class Room:
    """Files under way: small ones as they come, of large ones as few as keep the permits in use.

    Every file under way is something that a kill leaves half done. Two bodies wanted for each
    permit bridge what a file's end takes: its digests, its flush, its name.
    """

    def __init__(self, permits: Permits) -> None:
        self._permits = permits
        self._wanted = 0
        self._freed = anyio.Event()

    @asynccontextmanager
    async def of(self, bodies: int) -> AsyncIterator[None]:
        """Room for a file that can have so many bodies in flight."""
        if bodies <= 1:
            yield
            return
        while self._wanted and self._wanted + bodies > 2 * self._permits.width.width:
            await self._freed.wait()
        self._wanted += bodies
        try:
            yield
        finally:
            self._wanted -= bodies
            self._freed.set()
            self._freed = anyio.Event()
