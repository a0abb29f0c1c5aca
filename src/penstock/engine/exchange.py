"""One request done properly: permit → slot → signature → send → learn → accept, throw or again.

The exchange runs flows. For each request a flow yields it takes a body permit where file bytes
move, then a slot of the quota where the request counts, signs for the platform's own host and no
other, sends, tells the limiter what came back, and hands the answer to the flow, or throws. Every
send is admitted again, a repeated one too. Waiting for quota happens in the limiter; the only
sleep here is the pause before a failed request is repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from penstock.config import Token
from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    ExchangeError,
    LeaseExpired,
    NotSent,
    PenstockError,
    Refused,
    RemoteChanged,
    TokenRefused,
    Untrusted,
)
from penstock.core.model import AuthKind, Flow, Headers, Request, Response
from penstock.core.retry import Verdict, decide
from penstock.core.times import http_date
from penstock.engine import moments
from penstock.engine.admission import Slot
from penstock.engine.bursts import TOO_MUCH, Bursts
from penstock.engine.clock import Clock
from penstock.engine.coming import GOT_ON, Coming
from penstock.engine.files import Beside
from penstock.engine.limiter import Limiter
from penstock.engine.outages import Outages
from penstock.engine.passing import Progress
from penstock.engine.permits import Body, Permits
from penstock.engine.reading import Held
from penstock.engine.signing import Keys, origin
from penstock.engine.transport import Transport
from penstock.platforms.base import Platform
from penstock.platforms.handing import Carrying, Handed

T = TypeVar("T")

# Tries of one request. With full jitter up to a minute apart they span some minutes of trouble.
TRIES = 6
# Answers one flow may take: a server whose pages lead round in a circle ends nothing else.
MOST_ANSWERS = 1000
# A key that is refused this often although the limiter waited is not ours to spend.
MOST_QUOTA_REFUSALS = 50
# Repeats a run may have beyond what its answers win it, so that trouble everywhere ends soon: an
# accepted answer wins half a repeat. A choice: one request in three may fail for ever.
MOST_SPARE_TRIES = 500.0
SPARE_TRIES_WON = 0.5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0

_UNAUTHORISED = 401


@dataclass(slots=True)
class Tally:
    """What a flow's requests cost, added up."""

    api_requests: int = 0
    storage_requests: int = 0
    refused_by_quota: int = 0
    repeats: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(slots=True)
class Credentials:
    """A profile's token, read again once after it was refused where its source can have another."""

    profile: str
    token: Token
    reread: Callable[[], Awaitable[Token | None]]
    _asked: bool = field(default=False, init=False)
    _lock: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    async def other_than(self, refused: Token) -> Token | None:
        """A token that was not refused, or None."""
        async with self._lock:
            return await self._other_than(refused)

    async def _other_than(self, refused: Token) -> Token | None:
        if self.token.fingerprint() != refused.fingerprint():
            return self.token
        if self._asked:
            return None
        self._asked = True
        other = await self.reread()
        if other is None or other.fingerprint() == refused.fingerprint():
            return None
        self.token = other
        return other


class _Passing:
    """File bytes that pass with one send, either way: counted, told, and taken back if in vain."""

    __slots__ = ("_fetches", "_passed", "_progress", "beside", "body", "coming")

    def __init__(
        self,
        request: Request,
        coming: Coming,
        body: Body,
        progress: Progress,
        beside: Beside | None,
    ) -> None:
        self._fetches = request.fetches
        self._passed = 0
        self._progress = progress
        self.beside = beside
        self.body = body
        self.coming = coming

    def moved(self, size: int) -> None:
        """So many bytes passed."""
        self._passed += size
        self._progress(size)
        self.body.moved(size)

    def broke(self, *, lost: bool) -> None:
        """What moved and is not kept does not count: it will move again, or never."""
        if lost:
            self.body.lost()
        self.take_back(self.coming.gained)

    def take_back(self, kept: int = 0) -> None:
        """What moved is told to move again, but for what is kept."""
        if self._passed != kept:
            self._progress(kept - self._passed)

    def add_to(self, *sums: Tally) -> None:
        """What moved is part of these sums, whatever came of it."""
        for tally in sums:
            if self._fetches:
                tally.bytes_received += self._passed
            else:
                tally.bytes_sent += self._passed


class Exchange:
    """Runs the flows of one platform for one profile."""

    def __init__(
        self,
        platform: Platform,
        *,
        credentials: Credentials,
        limiter: Limiter,
        transport: Transport,
        permits: Permits,
        clock: Clock,
        tries: int = TRIES,
        pause: Callable[[int], float] | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.platform = platform
        self.limiter = limiter
        self._credentials = credentials
        self._transport = transport
        self.permits = permits
        self._clock = clock
        self._tries = tries
        self._pause = pause or _full_jitter
        self._origin = origin(platform.endpoint)
        self._keys = Keys()
        self._server_ahead_s: float | None = None
        self._outages = Outages(tell)
        self._spare = MOST_SPARE_TRIES
        self.bursts = Bursts(
            transport, permits, self._outages, self._keys.sign, self._won, clock.now_s
        )
        self.total = Tally()
        self.once = 0
        """API requests whose answers are remembered, so that no later run sends them."""

    async def hand_over(self, container: str, handed: Handed) -> None:
        """A container's files are asked of its carrier from now on, with the keys handed over.

        Raises `UsageError` where what signs with them is not installed, and `AnswerUnusable` where
        a key is for a host without TLS, the platform's own having it.
        """
        for key in handed.keys:
            if self._origin[0] == "https" != origin(key.host)[0]:
                raise AnswerUnusable(f"the storage of {container} is at a host without TLS")
        await self._keys.add(handed.keys)
        own = self.platform
        carrying = own if isinstance(own, Carrying) else Carrying(own, {})
        self.platform = carrying.with_(container, handed.carrier)

    @property
    def held_up(self) -> int:
        """How often a large body had to wait for what takes it in, so far."""
        return self._transport.held_up

    def server_at(self) -> float:
        """Epoch seconds by the platform's clock, as its answers told it: never ahead of the truth.

        Before the first answer it is our own clock's time.
        """
        if self._server_ahead_s is None:
            return self._clock.wall_at()
        return self._clock.now_s() + self._server_ahead_s

    async def run(
        self,
        flow: Flow[T],
        *,
        tally: Tally | None = None,
        progress: Progress = lambda _: None,
        beside: Beside | None = None,
        first: Response | PenstockError | None = None,
    ) -> T:
        """What the flow returns. `beside` sees file bytes as they pass, in the thread they do.

        `first` is what came of a first try of its first request, which a burst sent.

        Raises whatever the flow does not catch, and `TokenRefused`, which no flow is asked about.
        Cancelled, the flow is closed and every slot and permit is given back or held as it must.
        """
        tally = tally if tally is not None else Tally()
        try:
            request = next(flow)
            for _ in range(MOST_ANSWERS):
                try:
                    response = await self._request(request, tally, progress, beside, first)
                except (ExchangeError, RemoteChanged) as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
                first = None
            raise AnswerUnusable(f"{request.shown}: {MOST_ANSWERS} answers led to no end")
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    async def _request(
        self,
        request: Request,
        tally: Tally,
        progress: Progress,
        beside: Beside | None,
        first: Response | PenstockError | None,
    ) -> Response:
        """An accepted answer, after as many tries as the request may have."""
        self._check_host(request)
        if request.again:
            await self._begin_again(request, tally)
        coming = Coming(request, progress, beside)
        try:
            return await self._try(coming, tally, progress, beside, first)
        except BaseException:
            coming.drop()
            raise

    async def _try(
        self,
        coming: Coming,
        tally: Tally,
        progress: Progress,
        beside: Beside | None,
        first: Response | PenstockError | None,
    ) -> Response:
        request = coming.whole
        tried = refused_by_quota = 0
        while True:
            try:
                if first is not None:
                    given, first = first, None
                    response = await self._given(request, given, progress)
                else:
                    response = await self._send_when_open(coming, tally, progress, beside)
            except PenstockError as error:
                anew = coming.broke(error)
                await self._ask_the_network(request, error)
                if self._is_outage(request, error) and self._spare >= 1:
                    if not self._outages.is_closed(origin(request.url)):
                        self._spare -= 1
                        await anyio.sleep(self._pause(1))
                    continue
                verdict = Verdict.AGAIN if anew else decide(error, request)
                if verdict is Verdict.THROW_LOST:
                    raise AnswerLost(f"{error} (whether it was done is not known)") from error
                if verdict is Verdict.THROW:
                    raise
                if verdict is Verdict.AGAIN_FREE:
                    refused_by_quota += 1
                    tally.refused_by_quota += 1
                    self.total.refused_by_quota += 1
                    if refused_by_quota >= MOST_QUOTA_REFUSALS:
                        raise
                    continue
                tried = tried + 1 if coming.gained < GOT_ON else 0
                if tried >= self._tries or self._spare < 1:
                    _say_tries(error, tried)
                    raise
                asked_s = _asked_for(error)
            else:
                self._won(1)
                return coming.ended(response)
            self._spare -= 1
            tally.repeats += 1
            self.total.repeats += 1
            await anyio.sleep(max(self._pause(max(tried, 1)), asked_s))

    def _won(self, answers: int) -> None:
        """So many answers were accepted: each wins a share of a repeat."""
        self._spare = min(self._spare + answers * SPARE_TRIES_WON, MOST_SPARE_TRIES)

    async def _given(
        self, request: Request, given: Response | PenstockError, progress: Progress
    ) -> Response:
        """What a burst's try came to, judged as any other."""
        if isinstance(given, PenstockError):
            raise given
        if given.status in request.accept:
            return given
        if given.body:
            progress(-len(given.body))
        raise await self._refused(request, given, None, self._credentials.token, None)

    async def _begin_again(self, request: Request, tally: Tally) -> None:
        """The pause before a flow asks once more, which comes out of the run's repeats.

        Raises `AnswerUnusable` where there are none left.
        """
        if self._spare < 1:
            raise AnswerUnusable(f"{request.shown}: too many answers of this run made no sense")
        self._spare -= 1
        tally.repeats += 1
        self.total.repeats += 1
        await anyio.sleep(self._pause(request.again))

    async def _send_when_open(
        self, coming: Coming, tally: Tally, progress: Progress, beside: Beside | None
    ) -> Response:
        """An accepted answer, from a host that is not closed."""
        where = origin(coming.whole.url)
        if not self._outages.is_closed(where):
            return await self._send(coming, tally, progress, beside)
        probing = await self._outages.passed(where)
        try:
            return await self._send(coming, tally, progress, beside)
        finally:
            if probing:
                self._outages.gave_up(where)

    async def _ask_the_network(self, request: Request, error: PenstockError) -> None:
        """Whether it is the network that is away, where a host met first cannot be reached."""
        where, own = origin(request.url), self._origin
        if not isinstance(error, NotSent) or isinstance(error, Untrusted) or where == own:
            return
        if self._outages.is_known(where) or not self._outages.is_known(own):
            return
        if not await self._transport.reaches(self.platform.endpoint):
            self._outages.vouched(where)

    def _is_outage(self, request: Request, error: PenstockError) -> bool:
        """Whether the request waits for its host to open, none of its tries being spent."""
        where = origin(request.url)
        if isinstance(error, NotSent) and not isinstance(error, Untrusted):
            return self._outages.unreachable(where, "no connection")
        if isinstance(error, Refused) and error.outage:
            self._outages.maintained(where, "maintenance")
            return True
        return False

    async def _send(
        self, coming: Coming, tally: Tally, progress: Progress, beside: Beside | None
    ) -> Response:
        """An accepted answer to one send, admitted and signed; everything else is raised.

        What costs no slot is no business of the limiter's.
        """
        request = coming.rest()
        if not request.carries_body:
            if not request.cost:
                return await self._signed(request, None, tally)
            with await self.limiter.admit(request.rank) as slot:
                return await self._signed(request, slot, tally)
        async with self.permits.body(comes=request.sink is not None) as body:
            passing = _Passing(request, coming, body, progress, beside)
            try:
                if not request.cost:
                    return await self._signed(request, None, tally, passing)
                with await self.limiter.admit(request.rank) as slot:
                    return await self._signed(request, slot, tally, passing)
            finally:
                passing.add_to(tally, self.total)

    async def _signed(
        self,
        request: Request,
        slot: Slot | None,
        tally: Tally,
        passing: _Passing | None = None,
    ) -> Response:
        """An accepted answer to a request that may leave now."""
        token = self._credentials.token
        self._check_host(request)
        kind, held = request.auth.kind, None
        if kind is AuthKind.NONE:
            signed: tuple[tuple[str, str], ...] = ()
        elif kind is AuthKind.SIGV4:
            held = Held()
            signed = await self._keys.sign(request, held, passing.beside if passing else None)
        else:
            signed = self.platform.sign(token.reveal())
        total = self.total

        def leave() -> None:
            if slot is not None:
                slot.sent()
            if request.cost:
                tally.api_requests += 1
                total.api_requests += 1
            else:
                tally.storage_requests += 1
                total.storage_requests += 1

        shown = request.shown
        moments.reached(moments.ASKING, shown)
        try:
            if passing is None:
                response = await self._transport.send(request, signed=signed, on_leave=leave)
            else:
                response = await self._transport.send(
                    request,
                    signed=signed,
                    on_leave=leave,
                    progress=passing.moved,
                    beside=passing.beside,
                    landed=passing.coming.landed,
                    held=held,
                )
        except BaseException as error:
            if isinstance(error, AnswerLost) and slot is not None:
                slot.lost(unanswered=True, body=passing is not None)
            if passing is not None:
                passing.broke(lost=isinstance(error, AnswerLost))
            raise
        moments.reached(moments.ANSWERED, shown, response.status)
        if passing is not None and response.status in TOO_MUCH:
            passing.body.lost()
        if response.status not in request.accept:
            raise await self._refused(request, response, slot, token, passing)
        self._outages.answered(origin(request.url))
        if slot is not None:
            slot.answered(response.status, response.headers, keyed=kind is AuthKind.PLATFORM)
            self._learn_time(response.headers)
        return response

    async def _refused(
        self,
        request: Request,
        response: Response,
        slot: Slot | None,
        token: Token,
        passing: _Passing | None,
    ) -> PenstockError:
        """What an answer means that is not accepted."""
        error = self.platform.refusal(request, response)
        refused = error if isinstance(error, Refused) else None
        if refused is None or not refused.outage:
            self._outages.answered(origin(request.url))
        keyed = request.auth.kind is AuthKind.PLATFORM
        unauthorised = keyed and response.status == _UNAUTHORISED
        other = await self._credentials.other_than(token) if unauthorised else None
        if slot is not None:
            slot.answered(
                response.status,
                response.headers,
                quota_refused=refused is not None and refused.quota,
                queue_full=refused is not None and (refused.queue_full or refused.crowded),
                keyed=keyed,
            )
            self._learn_time(response.headers)
        if passing is not None:
            passing.take_back()
        if other is not None:
            self.limiter.token_replaced(other.fingerprint())
            return Refused(str(error), status=_UNAUTHORISED, retry=True, undone=True)
        if unauthorised:
            return TokenRefused(refused_sentence(self._credentials.profile))
        return error

    def _check_host(self, request: Request) -> None:
        """Nothing, or `AnswerUnusable`: a credential goes to its own host and no other."""
        kind = request.auth.kind
        if kind is AuthKind.NONE:
            return
        if kind is AuthKind.SIGV4:
            self._keys.check(request)
        elif origin(request.url) != self._origin:
            raise AnswerUnusable(
                f"{request.shown} would carry a credential to a host it is not for"
            )

    def _learn_time(self, headers: Headers) -> None:
        """How far the server's clock is ahead of our monotonic one.

        `Date` is cut to whole seconds and old by the time it is read, so the largest difference
        seen is the nearest to the truth.
        """
        said = http_date(headers.get("date", ""))
        if said is None:
            return
        ahead_s = said - self._clock.now_s()
        if self._server_ahead_s is None or ahead_s > self._server_ahead_s:
            self._server_ahead_s = ahead_s

    async def pause(self) -> None:
        """The pause before something is asked for again, as between the tries of a request."""
        await anyio.sleep(self._pause(1))

    def is_due(self, expires_at: float | None, spare_s: float = 30.0) -> bool:
        """Whether a lease is too old to begin anything with, by the server's clock.

        `spare_s` is what must be left of it: less than its whole life, however short that is.
        """
        return expires_at is not None and expires_at - spare_s <= self.server_at()


def refused_sentence(profile: str) -> str:
    """What to tell of a refused token."""
    return (
        f"{profile} refused the token (401); nothing more was asked. Get a new token, put it where "
        f"the profile takes it from, and run the same command again; `penstock profiles check "
        f"{profile}` tries a token anew"
    )


def _asked_for(error: PenstockError) -> float:
    """Seconds a server asked to be left alone, beyond what a try's pause is."""
    return (error.retry_after_s or 0.0) if isinstance(error, Refused) else 0.0


def _say_tries(error: PenstockError, tried: int) -> None:
    if not isinstance(error, LeaseExpired) and error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]} (tried {tried} times)", *error.args[1:])


def _full_jitter(tried: int) -> float:
    """A pause in seconds before try `tried + 1`: full jitter over a doubling range."""
    import tenacity  # noqa: PLC0415 - where all goes well nothing is tried again

    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = tried
    pause = tenacity.wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S)
    return pause(state)
