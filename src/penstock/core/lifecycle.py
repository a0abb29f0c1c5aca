"""The states of a transfer, and the only ways from one to the next.

    planned ─claim─► moving ─all parts─► arrived ─proof─► verified
       │               │                    └───no proof to be had─► unverified
       │               └─ interrupted ─► planned
       └─ skip ─► skipped              any but verified ─ fail ─► failed

`verified` is left by no event: what was proved stays proved until its source or its file is seen
to differ, and then it is a new transfer. `failed` and `unverified` are planned again by a new run.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a transfer stands."""

    PLANNED = "planned"
    MOVING = "moving"
    ARRIVED = "arrived"
    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    SKIPPED = "skipped"
    FAILED = "failed"

    # A member is itself alone: the inherited hash is that of its name, reckoned in Python.
    __hash__ = object.__hash__


class Event(enum.Enum):
    """What happens to a transfer."""

    CLAIM = "claim"
    INTERRUPT = "interrupt"
    ALL_PARTS = "all parts"
    PROOF = "proof"
    NO_PROOF = "no proof to be had"
    SKIP = "skip"
    FAIL = "fail"
    PLAN_AGAIN = "plan again"


class ImpossibleEvent(Exception):
    """An event that cannot happen in a state: a defect in the engine, never a user's error."""


_NEXT: dict[tuple[State, Event], State] = {
    (State.PLANNED, Event.CLAIM): State.MOVING,
    (State.PLANNED, Event.SKIP): State.SKIPPED,
    (State.PLANNED, Event.FAIL): State.FAILED,
    (State.MOVING, Event.INTERRUPT): State.PLANNED,
    (State.MOVING, Event.SKIP): State.SKIPPED,
    (State.MOVING, Event.ALL_PARTS): State.ARRIVED,
    (State.MOVING, Event.FAIL): State.FAILED,
    (State.ARRIVED, Event.INTERRUPT): State.PLANNED,
    (State.ARRIVED, Event.PROOF): State.VERIFIED,
    (State.ARRIVED, Event.NO_PROOF): State.UNVERIFIED,
    (State.ARRIVED, Event.FAIL): State.FAILED,
    (State.UNVERIFIED, Event.PLAN_AGAIN): State.PLANNED,
    (State.UNVERIFIED, Event.PROOF): State.VERIFIED,
    (State.UNVERIFIED, Event.FAIL): State.FAILED,
    (State.SKIPPED, Event.PLAN_AGAIN): State.PLANNED,
    (State.FAILED, Event.PLAN_AGAIN): State.PLANNED,
}

ENDED = frozenset((State.VERIFIED, State.UNVERIFIED, State.SKIPPED, State.FAILED))


def after(state: State, event: Event) -> State:
    """The state that follows.

    Raises `ImpossibleEvent` where the event cannot happen in that state.
    """
    try:
        return _NEXT[state, event]
    except KeyError:
        raise ImpossibleEvent(
            f"{event.value!r} cannot happen to a transfer that is {state.value}"
        ) from None
