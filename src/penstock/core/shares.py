"""The runs that spend one key: what each has, and what each may take of what is free.

A run with a share is held to it; runs that find too little divide it by their weights. Nothing is
kept for a run that wants nothing, so one run alone may take all. Times are nanoseconds and handed
in. What may be spent at all does not belong here (see `quota`).
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.core.window import NS_PER_S, Count, Terms

# A run that missed slots, and has not asked this long after it could have, does not want them.
_MISSED_NS = NS_PER_S
# Weights as whole numbers.
_WEIGHT_SCALE = 1000
# How long a run that found too little a while ago, and now finds enough, is taken to be at work.
_QUIET_NS = 5 * NS_PER_S
_PER_S = 1000
# What a run takes within this part of T is kept for it; more would be idle where it slows down.
_SOON = 10


class Runs(dict[str, list[int]]):
    """The entries of `_Run`, by run: plain numbers, so that any store can keep them."""

    @classmethod
    def loads(cls, entries: dict[str, list[int]]) -> Runs:
        """From plain data; entries of another version are forgotten."""
        known = len(_Run._fields)
        return cls({name: entry for name, entry in entries.items() if len(entry) == known})

    def left(self, count: Count, now_ns: int, terms: Terms, holder: str) -> int:
        """Slots that a run with a share may take; N where it has none.

        All that is used counts against a share, but what live runs with another share have. So
        runs of one share spend it together, on each machine and across restarts, and a run with
        another share, or none, takes nothing from it.
        """
        if terms.top >= terms.quota:
            return terms.quota
        share = _millionths(terms.share)
        runs = {name: _Run(*entry) for name, entry in self.items()}
        elsewhere = sum(
            run.own
            for name, run in runs.items()
            if name != holder and run.share != share and now_ns - run.seen_ns < terms.window_ns
        )
        elsewhere = 0 if terms.together else elsewhere
        own = runs[holder].own if holder in runs else 0
        return max(0, terms.top - max(count.used - elsewhere, own))

    def tell(
        self,
        holder: str,
        own: int,
        weight: float,
        now_ns: int,
        terms: Terms,
        *,
        busy: bool,
        leaving: bool,
    ) -> None:
        """A run has so many slots, in flight or held; or it leaves, and its slots are nobody's.

        `busy`: it has requests in flight or waiting.
        """
        kept_ns = 2 * terms.window_ns + _MISSED_NS
        for name, run in [(name, _Run(*entry)) for name, entry in self.items()]:
            if now_ns - run.seen_ns >= kept_ns and now_ns >= run.until_ns:
                del self[name]
        if not holder:
            return
        if leaving:
            self.pop(holder, None)
            return
        scaled = max(1, round(weight * _WEIGHT_SCALE))
        run = _Run(*self.get(holder, _Run(since_ns=now_ns)))
        until_ns = run.until_ns
        if not run.missed:
            until_ns = now_ns + _QUIET_NS if busy else 0
        self[holder] = list(
            run._replace(
                weight=scaled,
                own=own,
                seen_ns=now_ns,
                until_ns=until_ns,
                share=_millionths(terms.share),
            )
        )

    def part_of(self, holder: str, free: int, now_ns: int, terms: Terms) -> int:
        """How many of the `free` slots a run may take.

        All, but what runs that lately found too little are to have by their weights, as far as
        they have been seen to take slots that fast. Nothing is kept for those that want nothing.
        """
        mine = _Run(*self.get(holder, ()))
        hungry = [
            run
            for run in (_Run(*entry) for name, entry in self.items() if name != holder)
            if now_ns < run.until_ns and now_ns - run.missed_ns < terms.window_ns
        ]
        if not holder or not hungry:
            return free
        pool = free + mine.own + sum(run.own for run in hungry)
        weights = mine.weight + sum(run.weight for run in hungry)
        reserved = 0
        for run in hungry:
            soon = run.rate(now_ns) * (terms.window_ns // _SOON) // (_PER_S * NS_PER_S)
            most = terms.quota * run.share // 1_000_000
            due = min(pool * run.weight // weights, most) - run.own
            reserved += max(0, min(due, max(soon, run.missed)))
        # Where it is not enough for all that is due, nobody waits for the others' part of it.
        mine_due = max(0, pool * mine.weight // weights - mine.own)
        return max(0, free - reserved, -(-free * mine_due // max(1, mine_due + reserved)))

    def served(self, holder: str, slots: int, want: int, now_ns: int, next_ns: int | None) -> None:
        """So many of the wanted slots were granted; the run asks again at `next_ns`."""
        entry = self.get(holder)
        if entry is None:
            return
        run = _Run(*entry)
        missed = want - slots
        if run.missed and slots:
            run = run._replace(since_ns=now_ns, got=0)
        run = run._replace(own=run.own + slots, got=run.got + slots)
        if missed:
            run = run._replace(
                missed_ns=now_ns,
                until_ns=max(now_ns, next_ns or now_ns) + _MISSED_NS,
                kept_rate=run.kept_rate if run.missed else run.rate(now_ns),
            )
        elif run.missed:
            run = run._replace(missed_ns=now_ns, until_ns=now_ns + _QUIET_NS)
        self[holder] = list(run._replace(missed=missed))


class _Run(NamedTuple):
    """One run that spends a key: what it has, and how much more it wants, as it last told.

    `until_ns` is how long that is believed, `missed_ns` when it last found too little. `got` slots
    since `since_ns`, and `kept_rate` (in thousandths a second), say how fast it takes them.
    """

    weight: int = _WEIGHT_SCALE
    own: int = 0
    seen_ns: int = 0
    until_ns: int = 0
    missed: int = 0
    missed_ns: int = -(1 << 62)
    since_ns: int = 0
    got: int = 0
    kept_rate: int = 0
    share: int = 1_000_000

    def rate(self, now_ns: int) -> int:
        """Slots taken in a second, in thousandths: now, or before it found too little."""
        if self.missed:
            return self.kept_rate
        now = self.got * _PER_S * NS_PER_S // max(NS_PER_S, now_ns - self.since_ns)
        return max(now, self.kept_rate) if now_ns - self.since_ns < NS_PER_S else now


def _millionths(share: float) -> int:
    return round(share * 1_000_000)
