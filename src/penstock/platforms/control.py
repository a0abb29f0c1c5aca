"""What a platform offers whose things are acted on: listed by pages, told to do something, watched.

Values and one protocol. An action is asked for once; whether it was done is read from the thing as
a listing shows it, by `Control.evidence`, and never from the answer alone. No file is moved here,
and nothing is repeated here.
"""

from __future__ import annotations

import enum
from typing import Protocol, runtime_checkable

from penstock.core.model import Flow
from penstock.core.values import quick_value


@quick_value(frozen=True, slots=True)
class Past:
    """An action as the platform remembers it: what, how it went, when it was asked for.

    `made_at` is epoch seconds by the platform's clock, None where it does not say.
    """

    action: str
    status: str
    made_at: float | None = None
    error: str | None = None


@quick_value(frozen=True, slots=True)
class Thing:
    """Something that can be acted on, as a listing shows it.

    `allowed` are the actions the platform offers in its present state, None where it does not say;
    `past` those it remembers, oldest first, None where it remembers none.
    """

    id: str
    name: str
    status: str
    allowed: frozenset[str] | None = None
    past: tuple[Past, ...] | None = None
    deletable: bool | None = None
    kind: str | None = None
    application: str | None = None
    owner: str | None = None
    group: str | None = None
    wallet: str | None = None


@quick_value(frozen=True, slots=True)
class ThingPage:
    """One page of things. `next` is the offset of the next, `total` as the server counts them."""

    things: tuple[Thing, ...]
    next: int | None
    total: int | None


@quick_value(frozen=True, slots=True)
class Scope:
    """Which things a listing is of, as far as the server is asked to choose."""

    own: bool = True
    group: str | None = None
    wallet: str | None = None


@quick_value(frozen=True, slots=True)
class Mark:
    """What was seen of a thing just before it was acted on, to tell later what is new.

    `made_at` is the newest of its past by the platform's clock, `count` how many there were.
    """

    status: str
    count: int = 0
    made_at: float | None = None

    @classmethod
    def of(cls, thing: Thing) -> Mark:
        """The mark of a thing as it is now."""
        past = thing.past or ()
        return cls(
            thing.status,
            len(past),
            max((entry.made_at for entry in past if entry.made_at is not None), default=None),
        )


class Sign(enum.Enum):
    """What a thing's looks say of an action that was, or may have been, asked for."""

    SETTLED = "settled"
    FAILED = "failed"
    UNDER_WAY = "under way"
    """Seen: the platform has taken it."""
    NOTHING = "nothing"
    """As before, and the platform's memory, which there is, holds no such action."""
    SILENT = "silent"
    """As before, and there is no memory that could tell."""


@quick_value(frozen=True, slots=True)
class Evidence:
    """A sign, and where it is of a failure the reason for it.

    `begun`: the thing is in the state that the action passes through. `stands`: it is in the one
    that the action leads to.
    """

    sign: Sign
    reason: str | None = None
    begun: bool = False
    stands: bool = False


@runtime_checkable
class Control(Protocol):
    """The flows of a platform whose things are acted on."""

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the actions there are."""
        ...

    def list_things(self, scope: Scope, offset: int) -> Flow[ThingPage]:
        """One page of things, in an order that holds; those that are gone may be left out.

        A thing's position is `offset` and its index in the page.
        """
        ...

    def act(self, action: str, thing: str) -> Flow[None]:
        """The platform has accepted the action. Sent with `Repeat.ASK`, once.

        Throws `Refused` where it said no, and `AnswerLost` or `AnswerUnusable` where it is not
        known what it said.
        """
        ...

    def forbids(self, action: str, thing: Thing) -> str | None:
        """Why a thing's state forbids an action, None where it does not."""
        ...

    def evidence(self, action: str, mark: Mark, now: Thing | None, *, begun: bool) -> Evidence:
        """What a thing as it is now (None: gone) says of an action asked for after `mark`.

        `begun`: what an earlier look's `Evidence.begun` said.
        """
        ...
