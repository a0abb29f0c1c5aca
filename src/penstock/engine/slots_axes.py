"""A turn and its outcome on another axis of time: what a store with a clock of its own needs.

Pure. `later_ns` is what is added to a moment of the limiter's axis to get the store's.
"""

from __future__ import annotations

from copy import copy
from dataclasses import fields, replace

from penstock.core.quota import Standing
from penstock.engine.slots import Outcome, Turn

# All moments of a standing; the platform's own clock, by which it names its windows, is another.
_MOMENTS = tuple(
    known.name
    for known in fields(Standing)
    if known.name.endswith("_ns") and known.name != "gate_reset_ns"
)


def moved(turn: Turn, now_ns: int, later_ns: int) -> Turn:
    """The turn on the store's axis, made at `now_ns`."""
    return replace(
        turn,
        now_ns=now_ns,
        held=tuple((number, until_ns + later_ns) for number, until_ns in turn.held),
        heard=tuple(
            replace(heard, sent_ns=heard.sent_ns + later_ns, ended_ns=heard.ended_ns + later_ns)
            for heard in turn.heard
        ),
    )


def moved_back(outcome: Outcome, later_ns: int) -> Outcome:
    """The outcome on the limiter's axis; its standing is a copy."""
    standing = copy(outcome.standing)
    for name in _MOMENTS:
        moment = getattr(standing, name)
        if moment is not None:
            setattr(standing, name, moment - later_ns)
    return replace(
        outcome,
        standing=standing,
        count=replace(outcome.count, next_free_ns=_earlier(outcome.count.next_free_ns, later_ns)),
        next_ns=_earlier(outcome.next_ns, later_ns),
    )


def _earlier(moment_ns: int | None, by_ns: int) -> int | None:
    return None if moment_ns is None else moment_ns - by_ns
