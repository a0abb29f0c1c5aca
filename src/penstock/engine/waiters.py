"""Who waits for a slot of a quota: lower ranks first, then first come first served.

A caller that left is skipped when its turn comes, and forgotten before many have. Nothing is
decided here: when a turn comes is the limiter's.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from penstock.core.model import Rank
from penstock.engine.admission import Slot

_FEW = 64


class Waiters:
    """Callers in their order. `now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.count = 0
        """Those that wait still."""
        self.waited_s = 0.0
        """How long somebody waited, all told."""
        self._now = now
        self._order = count()
        self._heap: list[tuple[int, int, asyncio.Future[Slot]]] = []
        self._since_s = 0.0

    def __len__(self) -> int:
        """Places in the queue, those of callers that left among them."""
        return len(self._heap)

    def add(self, rank: Rank) -> asyncio.Future[Slot]:
        """What one more caller waits for."""
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (rank, next(self._order), waiter))
        self.count += 1
        if self.count == 1:
            self._since_s = self._now()
        return waiter

    def next(self) -> asyncio.Future[Slot] | None:
        """Whose turn it is, taken from the queue; None where the first has left."""
        waiter = heapq.heappop(self._heap)[2]
        if waiter.done():
            return None
        self._one_less()
        return waiter

    def left(self) -> None:
        """A caller was cancelled: it waits no more, and the queue does not grow with such."""
        self._one_less()
        if len(self._heap) > _FEW + 2 * self.count:
            self._heap = [entry for entry in self._heap if not entry[2].done()]
            heapq.heapify(self._heap)

    def fail(self, error: Callable[[], Exception]) -> None:
        """All that wait are told an error of their own."""
        waiters, self._heap = self._heap, []
        for _, _, waiter in waiters:
            with suppress(asyncio.InvalidStateError):
                waiter.set_exception(error())
                self._one_less()

    def _one_less(self) -> None:
        self.count -= 1
        if not self.count:
            self.waited_s += self._now() - self._since_s
