"""The slots of one quota: at most N in use, each used again only at its answer + T or later.

A request reaches the server somewhere between being sent and being answered. A slot that is held
until its answer + T therefore never serves two arrivals less than T apart on the server's clock:
N slots, at most N arrivals in any T, for every latency and order, and no clock is shared. A
request that was given up may still arrive, at most `longest_delay` later: its slot is held until
then + T.

Times are whole nanoseconds, so that a comparison is exact: a slot is free or it is not. The
window is told the time; a time that goes back is taken as no time having passed. What answers say
about the quota does not belong here (see `quota`), nor does waiting.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from fractions import Fraction

from penstock.core.values import quick_value

NS_PER_S = 1_000_000_000
# A share is a fraction of small numbers, whatever a float makes of it: 0.29 of 100 is 29.
_SHARES = 1_000_000


def ns(seconds: float) -> int:
    """Whole nanoseconds, rounded up: a hold is never a fraction too short."""
    return math.ceil(seconds * NS_PER_S)


@quick_value(frozen=True, slots=True)
class Terms:
    """What a profile says about its quota: `quota` requests in any `window_ns`.

    `share` is the part of it that is ours to spend, `together` with whatever else is spent here,
    runs of another share among it; `longest_delay_ns` is how long after it was given up a request
    may still be counted; `headers` is whether quota fields are to be believed.
    """

    quota: int
    window_ns: int
    longest_delay_ns: int = 0
    share: float = 1.0
    headers: bool = True
    together: bool = False

    @property
    def top(self) -> int:
        """The most slots that runs of this share ever use."""
        share = Fraction(self.share).limit_denominator(_SHARES)
        return min(self.quota, max(1, int(self.quota * share)))


@quick_value(frozen=True, slots=True)
class Count:
    """The slots of a key at one moment.

    `used` are all that may not be taken; of these, `in_flight` have no answer and might not yet
    have been counted by the server (given-up requests that may still arrive are among them).
    `next_free_ns` is when the first held one becomes free; None where none is held.
    """

    used: int = 0
    in_flight: int = 0
    next_free_ns: int | None = None


class Window:
    """Slots in memory. Each operation is O(log n) in the slots used.

    `window_ns` is T. Slots are named by the number `take` gave them; a number is settled once, by
    `give_back` or `hold`, and settling an unknown or settled one changes nothing.
    """

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._last_number = 0
        self._in_flight: set[int] = set()
        self._held: list[int] = []
        self._late: list[int] = []
        self._now_ns = 0

    def _advance(self, now_ns: int) -> int:
        now_ns = self._now_ns = max(self._now_ns, now_ns)
        while self._held and self._held[0] <= now_ns:
            heapq.heappop(self._held)
        while self._late and self._late[0] <= now_ns + self._window_ns:
            heapq.heappop(self._late)
        return now_ns

    def count(self, now_ns: int) -> Count:
        """The slots at `now_ns`."""
        self._advance(now_ns)
        out = len(self._in_flight)
        return Count(
            used=out + len(self._held),
            in_flight=out + len(self._late),
            next_free_ns=self._held[0] if self._held else None,
        )

    def take(self, slots: int, now_ns: int, *, limit: int) -> range:
        """The numbers of up to `slots` slots taken now, fewer where `limit` would be passed."""
        self._advance(now_ns)
        free = max(0, limit - len(self._in_flight) - len(self._held))
        first = self._last_number + 1
        taken = range(first, first + min(slots, free))
        self._in_flight.update(taken)
        self._last_number += len(taken)
        return taken

    def is_in_flight(self, number: int) -> bool:
        """Whether the slot is taken and not settled."""
        return number in self._in_flight

    def give_back(self, numbers: Iterable[int]) -> None:
        """Free at once: the requests never left."""
        self._in_flight.difference_update(numbers)

    def hold(self, number: int, until_ns: int) -> None:
        """Keep the slot until `until_ns`: answer + T, or give-up + longest delay + T."""
        if number not in self._in_flight:
            return
        self._in_flight.remove(number)
        heapq.heappush(self._held, until_ns)
        if until_ns > self._now_ns + self._window_ns:
            heapq.heappush(self._late, until_ns)

    def hold_all(self, held: Iterable[tuple[int, int]]) -> None:
        """Keep each slot until its moment, as `hold` does."""
        for number, until_ns in held:
            self.hold(number, until_ns)

    def next_free_at(self, now_ns: int) -> int | None:
        """When a slot that is held becomes free; None where none is held."""
        self._advance(now_ns)
        return self._held[0] if self._held else None

    def __repr__(self) -> str:
        return f"<Window {len(self._in_flight)} in flight, {len(self._held)} held>"
