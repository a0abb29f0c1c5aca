"""Which ranges of a file one request asks for, and what is done as each of them is there.

Ranges are what a kill costs, requests are what a line's silence costs: so a stream that brings
several ranges in a moment asks for them in one request, a stretch. Each range still is flushed and
has its receipt by itself, while the next one comes. A stretch that breaks off is asked for again
from its first range that does not stand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskGroup

from penstock.core.model import MIB, Part
from penstock.engine.files import Beside
from penstock.engine.front import Front

# What a stream brings in this time, it may ask for at once. A choice: some round trips.
MOMENT_S = 0.5
LARGEST_STRETCH = 256 * MIB


class Stretches:
    """The ranges that are missing, dealt out in order: neighbours together, up to `most()` bytes.

    A range that is larger goes alone.
    """

    def __init__(self, missing: Iterable[Part], most: Callable[[], float]) -> None:
        self._missing = deque(missing)
        self._most = most

    def __iter__(self) -> Stretches:
        return self

    def __next__(self) -> tuple[Part, ...]:
        if not self._missing:
            raise StopIteration
        first = self._missing.popleft()
        parts, end, most = [first], first.offset + first.length, self._most()
        while self._missing:
            following = self._missing[0]
            if following.offset != end or end + following.length - first.offset > most:
                break
            parts.append(self._missing.popleft())
            end += following.length
        return tuple(parts)


class Pace:
    """Bytes a second that a stream of the run brought, the last time one was done."""

    def __init__(self) -> None:
        self._rate = 0.0

    def brought(self, size: int, seconds: float) -> None:
        """A stream brought so many bytes in so many seconds."""
        self._rate = size / max(seconds, 1e-3)

    def most(self) -> float:
        """Bytes that a stream may ask for at once."""
        return min(self._rate * MOMENT_S, LARGEST_STRETCH)


class Settling:
    """What is done about ranges that came, beside the coming of the next: one for each stream."""

    def __init__(self, group: TaskGroup, settle: Callable[[Part], Awaitable[None]]) -> None:
        self._group = group
        self._settle = settle
        self._streams = 0
        self._under_way = 0
        self._moved = anyio.Event()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A stream that brings ranges."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def start(self, part: Part) -> None:
        """A range is settled from now on; waits while more of them are than there are streams."""
        self._under_way += 1
        self._group.start_soon(self._run, part)
        while self._under_way > self._streams:
            await self._moved.wait()

    async def ended(self) -> None:
        """Returns when nothing is under way."""
        while self._under_way:
            await self._moved.wait()

    async def _run(self, part: Part) -> None:
        await self._settle(part)
        self._under_way -= 1
        moved, self._moved = self._moved, anyio.Event()
        moved.set()


class Stretch(Beside):
    """One stretch on its way: the front is shown its bytes, and each range settled that came."""

    def __init__(self, parts: tuple[Part, ...], front: Front, settling: Settling) -> None:
        self._parts = parts
        self._looks = [front.beside(part) for part in parts]
        self._settling = settling
        self._written = 0
        self.stood = parts[0].offset

    @property
    def rest(self) -> Part:
        """What is still to be asked for, as one range."""
        first, last = self._parts[min(self._written, len(self._parts) - 1)], self._parts[-1]
        return Part(first.number, first.offset, last.offset + last.length - first.offset)

    @property
    def length(self) -> int:
        """Bytes of the whole stretch."""
        last = self._parts[-1]
        return last.offset + last.length - self._parts[0].offset

    def __call__(self, offset: int, data: bytes | memoryview) -> None:
        """Bytes pass, in the thread that has them; each range is shown its own."""
        view = memoryview(data)
        while view:
            index = (offset - self._parts[0].offset) // self._parts[0].length
            part = self._parts[index]
            piece = view[: part.offset + part.length - offset]
            self._looks[index](offset, piece)
            offset += len(piece)
            view = view[len(piece) :]

    async def stands(self, end: int) -> None:
        """Ranges that end here or before are settled; returns when few are left to be."""
        while self._written < len(self._parts):
            part = self._parts[self._written]
            if part.offset + part.length > end:
                break
            self._written += 1
            self.stood = part.offset + part.length
            await self._settling.start(part)
