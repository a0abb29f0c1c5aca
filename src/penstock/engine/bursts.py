"""Many small GETs to one host under one permit: the exchange's short way for what costs no quota.

Each is sent once, over `engine.lean`. What does not come to a whole answer, or to one that is not
accepted, is left to `Exchange.run`, which is given what came as its first try: refusals, lost
answers, pauses, tries and outages are judged there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from penstock.core.errors import AnswerLost, PenstockError
from penstock.core.heads import check_head
from penstock.core.model import NO_AUTH, AuthKind, Headers, Request, Response
from penstock.engine import moments
from penstock.engine.lean import Ask, host_of, wire
from penstock.engine.outages import Outages
from penstock.engine.passing import Progress
from penstock.engine.permits import Permits
from penstock.engine.signing import origin
from penstock.engine.transport import Transport

Signing: TypeAlias = Callable[[Request], Awaitable[tuple[tuple[str, str], ...]]]

# What one burst brings before what came is seen to, so that memory stays small and a kill costs
# little: bytes, and seconds.
_BYTES = 2 * 1024 * 1024
_SECONDS = 0.25
# What the quickest burst took counts by so much more after each other one: lines change.
_FORGETTING = 1.005
_OK = (200, 206)
# Answers to a body by which a server may mean that too many are in flight.
TOO_MUCH = frozenset((429, 500, 502, 503, 504))


@dataclass(slots=True, eq=False)
class Asked:
    """One request of a burst, and its outcome: an answer, an error, or None where none is known."""

    request: Request
    progress: Progress
    leaving: Callable[[], None]
    received: Callable[[int], None]
    outcome: Response | PenstockError | None = None
    ask: Ask | None = None

    @property
    def left(self) -> bool:
        """Whether it was sent."""
        return self.ask is not None and self.ask.left

    @property
    def is_good(self) -> bool:
        """Whether a whole answer came that is accepted."""
        outcome = self.outcome
        return isinstance(outcome, Response) and outcome.status in self.request.accept


class Bursts:
    """One exchange's bursts."""

    def __init__(
        self,
        transport: Transport,
        permits: Permits,
        outages: Outages,
        sign: Signing,
        won: Callable[[int], None],
        now: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._permits = permits
        self._outages = outages
        self._sign = sign
        self._won = won
        self._now = now
        self.each_s: float | None = None
        """How long one takes where nothing else is in its way; None before there was one."""

    def can(self, request: Request) -> bool:
        """Whether a request may be part of a burst."""
        return (
            not request.cost
            and request.method == "GET"
            and not request.body
            and request.held is not None
            and not request.again
            and request.auth.kind is not AuthKind.PLATFORM
            and self._transport.is_plain(request.url)
            and not self._outages.is_closed(origin(request.url))
        )

    async def run(self, asked: Sequence[Asked], going: Callable[[], bool]) -> None:
        """The first ones of what is asked for, all to one host, have their outcomes.

        None has where no connection is had. `going` says whether another may be begun. Cancelled,
        what came is dropped.
        """
        host = host_of(asked[0].request.url)
        async with self._permits.body(comes=True) as body:
            asks: dict[Ask, Asked] = {}
            for one in asked:
                ask = one.ask or await self._ask(one.request)
                if ask is None:
                    break
                one.ask = ask
                asks[ask] = one
            if not asks:
                return
            began_s = self._now()
            until_s = began_s + _SECONDS
            shown = asked[0].request.shown if asked[0].request.auth == NO_AUTH else None

            def leaving(ask: Ask) -> None:
                one = asks[ask]
                one.leaving()
                moments.reached(moments.ASKING, shown or one.request.shown)

            def goes_on(came: int) -> bool:
                return not came or (came < _BYTES and self._now() < until_s and going())

            # Without a connection nothing is sent, or no more: whoever asks again is told why.
            with suppress(OSError):
                await self._transport.burst(host, asks, leaving=leaving, going=goes_on)
            took_s, left, won = self._now() - began_s, 0, 0
            for ask, one in asks.items():
                if not ask.left:
                    break
                left += 1
                one.outcome = outcome = _outcome(one.request, ask)
                ask.body = b""
                if not isinstance(outcome, Response):
                    if not ask.status:
                        body.lost()
                    continue
                if ask.status in TOO_MUCH:
                    body.lost()
                moments.reached(moments.ANSWERED, shown or one.request.shown, ask.status)
                if outcome.body:
                    one.received(len(outcome.body))
                    one.progress(len(outcome.body))
                body.brought(len(outcome.body), ask.waited_s)
                won += one.is_good
            if left:
                each_s = took_s / left
                self.each_s = min((self.each_s or each_s) * _FORGETTING, each_s)
            if won:
                self._outages.answered(origin(host))
                self._won(won)

    async def _ask(self, request: Request) -> Ask | None:
        """A request as it is sent; None where it is not plain."""
        signed = () if request.auth == NO_AUTH else await self._sign(request)
        fields = (*request.headers, *signed)
        named = {name.lower() for name, _ in fields}
        usual = (each for each in self._transport.fields if each[0].lower() not in named)
        sent = wire(request.url, (*usual, *fields))
        return Ask(sent, request.held or 0) if sent is not None else None


def _outcome(request: Request, ask: Ask) -> Response | PenstockError | None:
    """What a burst's answer is to whoever asked; None where it must be read otherwise."""
    if not ask.status:
        if ask.timed_out:
            return AnswerLost(f"{request.shown}: nothing came for too long", timed_out=True)
        return AnswerLost(f"{request.shown}: the answer broke off")
    headers = ask.headers or Headers()
    response = Response(ask.status, headers, ask.body, received=len(ask.body))
    if request.sink is not None and ask.status in _OK:
        try:
            check_head(request, ask.status, headers)
        except PenstockError as error:
            return error
        if len(ask.body) != request.sink.length:
            return None
    return response
