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
from tenacity import RetryCallState, Retrying, wait_random_exponential

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
from penstock.core.model import NO_AUTH, AuthKind, Flow, Headers, Request, Response
from penstock.core.retry import Verdict, decide
from penstock.core.times import http_date
from penstock.engine import moments
from penstock.engine.admission import Slot
from penstock.engine.clock import Clock
from penstock.engine.coming import GOT_ON, Coming
from penstock.engine.files import Beside
from penstock.engine.limiter import Limiter
from penstock.engine.outages import Outages
from penstock.engine.permits import Body, Permits
from penstock.engine.signing import Keys, origin
from penstock.engine.transport import Progress, Transport
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
# Answers to a body by which a server may mean that too many are in flight.
_TOO_MUCH = frozenset((429, 500, 502, 503, 504))


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
    ) -> T:
        """What the flow returns. `beside` sees file bytes as they pass, in the thread they do.

        Raises whatever the flow does not catch, and `TokenRefused`, which no flow is asked about.
        Cancelled, the flow is closed and every slot and permit is given back or held as it must.
        """
        tally = tally if tally is not None else Tally()
        try:
            request = next(flow)
            for _ in range(MOST_ANSWERS):
                try:
                    response = await self._request(request, tally, progress, beside)
                except (ExchangeError, RemoteChanged) as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
            raise AnswerUnusable(f"{request.shown}: {MOST_ANSWERS} answers led to no end")
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    async def _request(
        self, request: Request, tally: Tally, progress: Progress, beside: Beside | None
    ) -> Response:
        """An accepted answer, after as many tries as the request may have."""
        self._check_host(request)
        if request.again:
            await self._begin_again(request, tally)
        coming = Coming(request, progress)
        try:
            return await self._try(coming, tally, progress, beside)
        except BaseException:
            coming.drop()
            raise

    async def _try(
        self, coming: Coming, tally: Tally, progress: Progress, beside: Beside | None
    ) -> Response:
        request = coming.whole
        tried = refused_by_quota = 0
        while True:
            try:
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
                self._spare = min(self._spare + SPARE_TRIES_WON, MOST_SPARE_TRIES)
                return coming.ended(response)
            self._spare -= 1
            tally.repeats += 1
            self.total.repeats += 1
            await anyio.sleep(max(self._pause(max(tried, 1)), asked_s))

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
        """An accepted answer to one send, admitted and signed; everything else is raised."""
        request = coming.rest()
        if not request.carries_body:
            return await self._admitted(request, coming, None, tally, progress, beside)
        async with self.permits.body(comes=request.sink is not None) as body:
            return await self._admitted(request, coming, body, tally, progress, beside)

    async def _admitted(
        self,
        request: Request,
        coming: Coming,
        body: Body | None,
        tally: Tally,
        progress: Progress,
        beside: Beside | None,
    ) -> Response:
        """An accepted answer to a request that has its permit; it takes its slot, if it needs one.

        What costs no slot is no business of the limiter's.
        """
        if not request.cost:
            return await self._signed(request, coming, body, None, tally, progress, beside)
        with await self.limiter.admit(request.rank) as slot:
            return await self._signed(request, coming, body, slot, tally, progress, beside)

    async def _signed(
        self,
        request: Request,
        coming: Coming,
        body: Body | None,
        slot: Slot | None,
        tally: Tally,
        progress: Progress,
        beside: Beside | None,
    ) -> Response:
        """An accepted answer to a request that may leave now."""
        token = self._credentials.token
        signed = await self._sign(request, token)

        def leave() -> None:
            if slot is not None:
                slot.sent()
            self._count(request, tally)

        moved = Tally()

        def moving(size: int) -> None:
            if request.fetches:
                moved.bytes_received += size
            else:
                moved.bytes_sent += size
            progress(size)
            if body is not None:
                body.moved(size)

        shown = request.shown
        moments.reached(moments.ASKING, shown)
        try:
            response = await self._transport.send(
                request,
                signed=signed,
                on_leave=leave,
                progress=moving,
                beside=beside,
                landed=coming.landed,
            )
        except AnswerLost:
            if body is not None:
                body.lost()
            if slot is not None:
                slot.lost(unanswered=True, body=request.carries_body)
            _take_back(moved, progress, coming.gained)
            raise
        except BaseException:
            # What moved and is not kept does not count: it will move again, or never.
            _take_back(moved, progress, coming.gained)
            raise
        finally:
            for sums in (tally, self.total):
                sums.bytes_sent += moved.bytes_sent
                sums.bytes_received += moved.bytes_received
        moments.reached(moments.ANSWERED, shown, response.status)
        if body is not None and response.status in _TOO_MUCH:
            body.lost()
        return await self._judge(request, response, slot, token, moved, progress)

    async def _judge(
        self,
        request: Request,
        response: Response,
        slot: Slot | None,
        token: Token,
        moved: Tally,
        progress: Progress,
    ) -> Response:
        """The answer where it is accepted; else what it means, raised."""
        accepted = response.status in request.accept
        error = None if accepted else self.platform.refusal(request, response)
        if not (isinstance(error, Refused) and error.outage):
            self._outages.answered(origin(request.url))
        unauthorised = request.auth.kind is AuthKind.PLATFORM and response.status == _UNAUTHORISED
        other = await self._credentials.other_than(token) if unauthorised and error else None
        if slot is not None:
            refused = error if isinstance(error, Refused) else None
            slot.answered(
                response.status,
                response.headers,
                quota_refused=refused is not None and refused.quota,
                queue_full=refused is not None and (refused.queue_full or refused.crowded),
                keyed=request.auth.kind is AuthKind.PLATFORM,
            )
            self._learn_time(response.headers)
        if error is None:
            return response
        _take_back(moved, progress)
        if other is not None:
            self.limiter.token_replaced(other.fingerprint())
            raise Refused(str(error), status=_UNAUTHORISED, retry=True, undone=True)
        if unauthorised:
            raise TokenRefused(refused_sentence(self._credentials.profile))
        raise error

    async def _sign(self, request: Request, token: Token) -> tuple[tuple[str, str], ...]:
        """The credential's header fields; none where the request names none."""
        self._check_host(request)
        if request.auth.kind is AuthKind.SIGV4:
            return await self._keys.sign(request)
        return () if request.auth == NO_AUTH else self.platform.sign(token.reveal())

    def _check_host(self, request: Request) -> None:
        """Nothing, or `AnswerUnusable`: a credential goes to its own host and no other."""
        if request.auth == NO_AUTH:
            return
        if request.auth.kind is AuthKind.SIGV4:
            self._keys.check(request)
            return
        if request.auth.kind is not AuthKind.PLATFORM or origin(request.url) != self._origin:
            raise AnswerUnusable(
                f"{request.shown} would carry a credential to a host it is not for"
            )

    def _count(self, request: Request, tally: Tally) -> None:
        for sums in (tally, self.total):
            if request.cost:
                sums.api_requests += 1
            else:
                sums.storage_requests += 1

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


def _take_back(moved: Tally, progress: Progress, kept: int = 0) -> None:
    """What moved is told to move again, but for what is kept."""
    size = moved.bytes_received + moved.bytes_sent - kept
    if size:
        progress(-size)


def _say_tries(error: PenstockError, tried: int) -> None:
    if not isinstance(error, LeaseExpired) and error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]} (tried {tried} times)", *error.args[1:])


_JITTER = wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S)


def _full_jitter(tried: int) -> float:
    """A pause in seconds before try `tried + 1`: full jitter over a doubling range."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = tried
    return _JITTER(state)
