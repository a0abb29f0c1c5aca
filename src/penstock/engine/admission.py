"""The right to send one request, and how a quota stands: what a limiter gives its callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

from penstock.core.values import quick_value
from penstock.core.window import NS_PER_S, Terms
from penstock.engine.slots import Outcome

_TOO_MANY_REQUESTS = 429


@quick_value(frozen=True, slots=True)
class QuotaView:
    """A quota as it stands. Requests, and seconds; `closed_until` is epoch seconds or None.

    `limit` is the N in force; `spent` of it are answered and held, `in_flight` not answered,
    `left` may be sent now. `gate` is what the platform's headers leave, None where they say
    nothing. `next_free_s` is how long until more may be sent; None where that hangs on an answer.
    """

    quota: int
    window_s: float
    limit: int
    burst: int
    spent: int
    in_flight: int
    left: int
    gate: int | None
    next_free_s: float | None
    closed_until: float | None
    others: int
    waiting: int

    @property
    def held(self) -> int:
        """Slots that may not be taken: spent or in flight."""
        return self.spent + self.in_flight

    def told(self) -> str:
        """The quota in a line."""
        gate = "" if self.gate is None else f", {self.gate} by the platform's count"
        closed = "" if self.closed_until is None else f", closed until {self.closed_until:.1f}"
        others = f", others use {self.others}" if self.others else ""
        free = "" if self.next_free_s is None else f", more in {self.next_free_s:.1f} s"
        return (
            f"{self.quota}/{self.window_s:g}s N={self.limit} burst={self.burst}:"
            f" {self.spent} spent, {self.in_flight} in flight, {self.left} left"
            f"{gate}{closed}{others}{free}; {self.waiting} waiting"
        )


def view_of(
    outcome: Outcome, terms: Terms, now_ns: int, *, holder: str, window_s: float, waiting: int
) -> QuotaView:
    """The quota as a turn found it, now."""
    standing, counted = outcome.standing, outcome.count
    closed = now_ns < standing.closed_until_ns
    room = standing.room(counted, now_ns, terms, holder=holder)
    return QuotaView(
        quota=terms.quota,
        window_s=window_s,
        limit=standing.effective_limit(terms),
        burst=standing.burst,
        spent=counted.used - counted.in_flight,
        in_flight=counted.in_flight,
        left=room.slots,
        gate=standing.left(counted, now_ns, terms),
        next_free_s=None if room.next_ns is None else max(0, room.next_ns - now_ns) / NS_PER_S,
        closed_until=standing.closed_until_ns / NS_PER_S if closed else None,
        others=standing.others,
        waiting=waiting,
    )


class Notes(Protocol):
    """What hears a slot's verdict: a limiter."""

    def now_ns(self) -> int:
        """Now, on the store's axis."""
        ...

    def note_answer(
        self,
        number: int,
        sent_ns: int,
        status: int,
        headers: Mapping[str, str],
        *,
        refused: bool,
        full: bool,
        keyed: bool,
    ) -> None:
        """For `Slot.answered`."""
        ...

    def note_loss(self, number: int, sent_ns: int, *, silent: bool) -> None:
        """For `Slot.lost`."""
        ...

    def note_unsent(self, number: int) -> None:
        """For `Slot.unsent`."""
        ...


class Slot:
    """The right to send one request once. Every method is quick, and a second verdict is none.

    As a context manager: left without a verdict it is lost where `sent` was called, else unsent.
    """

    __slots__ = ("_limiter", "_open", "_sent_ns", "_taken_ns", "number")

    def __init__(self, limiter: Notes, number: int, taken_ns: int) -> None:
        self.number = number
        self._limiter = limiter
        self._taken_ns = taken_ns
        self._sent_ns: int | None = None
        self._open = True

    @property
    def was_sent(self) -> bool:
        """Whether the request may have left."""
        return self._sent_ns is not None

    def sent(self) -> None:
        """The request is about to leave."""
        if self._sent_ns is None:
            self._sent_ns = self._limiter.now_ns()

    def answered(
        self,
        status: int,
        headers: Mapping[str, str],
        *,
        quota_refused: bool = False,
        queue_full: bool = False,
        keyed: bool = True,
    ) -> None:
        """An answer came: hold the slot to now + T, and learn.

        `quota_refused` says that this platform means 429 by it, `queue_full` that it has too much
        to do, which is not about the quota; not `keyed`, that the request did not carry the token,
        of which the answer then says nothing.
        """
        if self._close():
            refused = (quota_refused or status == _TOO_MANY_REQUESTS) and not queue_full
            self._limiter.note_answer(
                self.number,
                self._began_ns,
                status,
                headers,
                refused=refused,
                full=queue_full,
                keyed=keyed,
            )

    def lost(self, *, unanswered: bool = False, body: bool = False) -> None:
        """Given up after it was sent.

        `unanswered`: by the server's doing, which let it wait or hung up; with a `body` that says
        nothing, for file bytes moved.
        """
        if self._close():
            self._limiter.note_loss(self.number, self._began_ns, silent=unanswered and not body)

    def unsent(self) -> None:
        """It never left. After `sent` that is not believed: the slot is lost."""
        if self.was_sent:
            self.lost()
        elif self._close():
            self._limiter.note_unsent(self.number)

    @property
    def _began_ns(self) -> int:
        return self._taken_ns if self._sent_ns is None else self._sent_ns

    def _close(self) -> bool:
        was_open, self._open = self._open, False
        return was_open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unsent()
