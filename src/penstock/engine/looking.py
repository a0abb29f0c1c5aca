"""When to look at a listing's page again: few looks for many things, soon enough for few.

Things that were acted on lie together, for they were listed and sent in one order, so a page is
looked at when most of what was sent on it should have settled. How long that takes is learnt: from
a guess that is short, up by what is seen, down a little whenever a look came late enough. Pure but
for nothing: it is told the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from penstock.core.values import quick_value

# A look at everything, for what is not found at its position.
EVERYWHERE = -1

# Choices, tried in simulation: 10,000 actions settle in about one look and a third a page.
_FIRST_S = 1.0
_SHORTEST_S = 0.5
_LONGEST_S = 30.0
_GROWS_BY = 0.35
_SHRINKS_TO = 0.97
# Of what lay on a page when it was first looked at, so much may be late (a failure that takes ten
# minutes) without all others being waited for as long.
_LATE = 0.02
# Things that a look should find settled, over the run, and how many it may be behind by.
_WORTH = 30
_CREDIT = 1500
# Fewer say little about how long most take.
_TELLING = 10


@dataclass(slots=True)
class Group:
    """Things on one page that have not settled: since when each is waited for, in seconds.

    `batch` is how many they were at the first look since the newest of them came.
    """

    since_s: dict[str, float] = field(default_factory=dict)
    newest_s: float = 0.0
    oldest_s: float = math.inf
    looked_s: float | None = None
    batch: int = 0


@quick_value(frozen=True, slots=True)
class Look:
    """A look that began: at what, when, and what was waited for there."""

    page: int
    began_s: float
    things: tuple[str, ...] = ()
    newest_s: float = 0.0
    batch: int = 0
    first: bool = True


class Looking:
    """The pages with something unsettled on them. `timeout_s` is how long a thing is waited for."""

    def __init__(self, timeout_s: float) -> None:
        self._groups: dict[int, Group] = {}
        self._timeout_s = timeout_s
        self._looks = 0
        self._settled = 0
        self.settles_in_s = _FIRST_S

    def __len__(self) -> int:
        return sum(len(group.since_s) for group in self._groups.values())

    def add(self, page: int, thing: str, now_s: float) -> None:
        """The thing is waited for from now on."""
        group = self._groups.setdefault(page, Group())
        group.since_s[thing] = group.newest_s = now_s
        group.oldest_s = min(group.oldest_s, now_s)

    def move(self, page: int, to: int, thing: str) -> None:
        """The thing is elsewhere; it is looked for there as soon as may be."""
        since_s = self._groups[page].since_s[thing]
        self.drop(page, thing)
        group = self._groups.setdefault(to, Group())
        group.since_s[thing] = since_s
        group.newest_s = max(group.newest_s, since_s)
        group.oldest_s = min(group.oldest_s, since_s)

    def drop(self, page: int, thing: str) -> None:
        """The thing is waited for no more."""
        group = self._groups[page]
        del group.since_s[thing]
        if not group.since_s:
            del self._groups[page]

    def begin(self, page: int, now_s: float) -> Look:
        """A look at a page, with what is waited for there."""
        group = self._groups.get(page)
        if group is None:
            return Look(page, now_s)
        first = group.looked_s is None or group.newest_s > group.looked_s
        if first:
            group.batch = len(group.since_s)
        return Look(page, now_s, tuple(group.since_s), group.newest_s, group.batch, first)

    def next(self, *, starved: bool) -> tuple[int, float] | None:
        """The page to look at next, and when; None where nothing is waited for.

        `starved`: nothing more may be sent until something has settled. Then a page is looked at
        when its oldest should have, as long as looks have been worth their price.
        """
        eager = starved and self._looks * _WORTH <= self._settled + _CREDIT
        due = ((self._due_s(group, eager=eager), page) for page, group in self._groups.items())
        first = min(due, default=None)
        return None if first is None else (first[1], first[0])

    def _due_s(self, group: Group, *, eager: bool) -> float:
        oldest_s = group.oldest_s
        ripe_s = (oldest_s if eager else group.newest_s) + self.settles_in_s
        # A page that fills slowly, so that its newest is always new, is looked at all the same.
        most_s = max(self.settles_in_s, _LONGEST_S)
        if group.looked_s is None:
            due_s = min(ripe_s, oldest_s + 2 * most_s)
        else:
            gap_s = _GROWS_BY * (group.looked_s - oldest_s)
            again_s = group.looked_s + min(max(gap_s, _SHORTEST_S), _LONGEST_S)
            due_s = max(again_s, min(ripe_s, group.looked_s + most_s))
        ends_s = oldest_s + self._timeout_s
        return min(due_s, ends_s) if group.looked_s is None or group.looked_s < ends_s else due_s

    def end(self, look: Look, settled: int) -> None:
        """The look found so many to have settled; they were dropped."""
        self._looks += 1
        self._settled += settled
        group = self._groups.get(look.page)
        if group is not None:
            group.looked_s = look.began_s
            group.oldest_s = min(group.since_s.values())
        left = len(look.things) - settled
        age_s = look.began_s - look.newest_s
        if len(look.things) >= max(_TELLING, look.batch / 2) and 2 * settled < len(look.things):
            # Most are younger than it takes.
            self.settles_in_s = max(self.settles_in_s, (1 + _GROWS_BY) * age_s)
        if not settled or left > _LATE * look.batch:
            return
        if look.first:
            self.settles_in_s = max(self.settles_in_s * _SHRINKS_TO, _SHORTEST_S)
        elif left + settled > _LATE * look.batch:
            self.settles_in_s += 0.5 * (age_s - self.settles_in_s)
