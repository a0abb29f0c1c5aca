"""What makes callers wait for a quota: one dispatcher, first come first served within a rank.

The window (in the store) decides how many requests may be sent, the pacer (aiolimiter) only how
fast, and it binds nothing until a platform showed that it wants a smaller burst. The dispatcher is
the only task that talks to the store and the only one that ever waits for the pacer. A slot's
verdict is noted synchronously, so that no cancellation can lose it, and reaches the store with the
next turn; until then the store counts the slot as in flight, which is never too little.

No arithmetic of quotas belongs here (`core.window`, `core.quota`), no retry, and no sleep but the
dispatcher's.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from penstock.core.errors import QuotaStoreError, TokenRefused
from penstock.core.model import Headers, Rank
from penstock.core.quota import Heard
from penstock.core.ratelimit import NOTHING, read_headers
from penstock.core.window import NS_PER_S, Terms, ns
from penstock.engine.admission import QuotaView, Slot, view_of
from penstock.engine.clock import Clock
from penstock.engine.slots import Outcome, SlotStore, Turn
from penstock.engine.waiters import Waiters

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

# Slots asked for in one turn: enough that the store costs little, few enough that processes
# which share a key take turns. Source: own measurement of turns of 1 to 256 slots, 2026-11-21.
_MOST_A_TURN = 64
# Slots asked for ahead of callers, where much is free.
_SPARE = 16
_SPARE_KEPT_S = 1.0
# How long a verdict that frees nothing now may stay out of the store.
_FLUSH_S = 0.05
# How often a store is asked while another process, which cannot ring here, may free something.
_POLL_S = 0.25
_POLL_PROBE_S = 0.1
# A single time-out is an accident. A guess: "several in a row".
_TIMEOUTS_THAT_MEAN_REFUSAL = 3
_UNAUTHORISED = 401
_NEVER = 1 << 62


class Limiter:
    """Admits requests to one key's quota: `quota` of them in any `window_s`, shared by a store.

    Entered in the task that leaves it. `token` is the fingerprint of the token in use, under which
    its refusal is remembered; `profile` is whose window this is, which a replaced token inherits.
    Limiters that share a key and find too little share it by their `weight`s.
    `on_wait(seconds)` is called when callers begin to wait for a moment that is known.
    """

    def __init__(
        self,
        *,
        key: str,
        quota: int,
        window_s: float,
        store: SlotStore,
        clock: Clock,
        headers: bool = True,
        silent: bool = False,
        longest_delay_s: float = 60.0,
        share: float = 1.0,
        weight: float = 1.0,
        token: str = "",
        profile: str = "",
        on_wait: Callable[[float], None] | None = None,
    ) -> None:
        self.accepted = 0
        self.refused = 0
        self.queue_full = 0
        self._key = key
        self._terms = Terms(quota, ns(window_s), ns(longest_delay_s), share, headers)
        self._window_s = window_s
        self._store = store
        self._clock = clock
        self._silent = silent
        self._token = token
        self._profile = profile
        self._on_wait = on_wait or (lambda _: None)
        self._holder = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._weight = weight
        self._offset_ns = 0
        self._outcome = Outcome()
        self._group = anyio.create_task_group()
        self._bell: asyncio.Future[None] | None = None
        self._failure: QuotaStoreError | None = None
        self._token_refused = False
        self._closed = False

        self._waiters = Waiters(clock.now_s)
        self._spare: deque[int] = deque()
        self._spare_until_ns = _NEVER
        self._out: dict[int, Slot] = {}
        self._most_out: int | None = None
        self._full_ns = -1
        self._first = True
        self._timeouts = 0

        self._back: list[int] = []
        self._held: list[tuple[int, int]] = []
        self._held_until: list[int] = []
        self._heard: list[Heard] = []
        self._proved = False
        self._refusal: str | None = None
        self._doubt = False
        self._flush_ns = _NEVER
        self._ask_ns = 0
        self._told_until_ns = 0
        self._pacer: AsyncLimiter | None = None

    async def __aenter__(self) -> Self:
        opened = await self._store.open(self._key, self._terms, self._clock, profile=self._profile)
        self._key, self._offset_ns = opened.key, opened.offset_ns
        await self._take_turn(want=0)
        await self._group.__aenter__()
        self._group.start_soon(self._dispatch, name=f"limiter {self._key[:8]}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            for slot in tuple(self._out.values()):
                slot.unsent()
            self._waiters.fail(lambda: RuntimeError("the limiter was closed under its callers"))
            self._back += self._spare
            self._spare.clear()
            if self._failure is None:
                # What the store does not hear now it counts as a dead holder's: never too little.
                with anyio.CancelScope(shield=True), suppress(QuotaStoreError):
                    await self._take_turn(want=0)

    async def admit(self, rank: Rank = Rank.CONTINUE) -> Slot:
        """A slot, once it is this caller's turn: lower ranks first, then first come first served.

        Raises `QuotaStoreError` where the store cannot count, `TokenRefused` where the platform
        has refused the token. Cancelled, it costs nothing.
        """
        self._raise_failure()
        if self._spare and not self._waiters.count and self._may_hand_out():
            if self._pacer is None:
                return self._hand(self._spare.popleft())
            if self._pacer.has_capacity():
                await self._pacer.acquire()
                return self._hand(self._spare.popleft())
        waiter = self._waiters.add(rank)
        self._ring()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiters.left()
            elif waiter.exception() is None:
                waiter.result().unsent()
            raise

    def token_replaced(self, token: str) -> None:
        """Another token is in use from now on; its first request goes alone again."""
        self._token = token
        self._token_refused = False
        self._refusal = None
        self._first = True
        self._ask_ns = 0
        self._ring()

    @property
    def waited_s(self) -> float:
        """Seconds in which somebody waited for a slot."""
        return self._waiters.waited_s

    def seen(self) -> QuotaView:
        """The quota as the last turn found it."""
        return view_of(
            self._outcome,
            self._terms,
            self.now_ns(),
            holder=self._holder,
            window_s=self._window_s,
            waiting=self._waiters.count,
        )

    def __repr__(self) -> str:
        return (
            f"<Limiter {self._key[:8]} {self.seen().told()}, {self.accepted} accepted,"
            f" {self.refused} refused, {self.waited_s:.1f} s waited>"
        )

    # What slots tell.

    def now_ns(self) -> int:
        """Now, on the store's axis."""
        return int(self._clock.now_s() * NS_PER_S) + self._offset_ns

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
        now_ns = self.now_ns()
        word = NOTHING
        if refused or self._terms.headers:
            word = read_headers(
                headers if isinstance(headers, Headers) else Headers(headers),
                quota=self._terms.quota,
                window_s=self._window_s,
                wall_at=self._clock.wall_at(),
                refused=refused,
            )
        self._timeouts = 0
        if refused:
            self.refused += 1
            self._doubt = True
        else:
            self.accepted += 1
        if full:
            self._fewer_in_flight(sent_ns, now_ns)
        elif self._most_out is not None and not refused:
            self._most_out = self._most_out + 1 if self._most_out < self._terms.quota else None
        if status == _UNAUTHORISED and self._token and keyed:
            self._refusal = self._token
            self._doubt = True
        elif not refused and keyed:
            self._proved, self._first = True, False
        heard = Heard(sent_ns, now_ns, word, refused=refused)
        self._settle(number, heard, now_ns + self._terms.window_ns)

    def note_loss(self, number: int, sent_ns: int, *, silent: bool) -> None:
        """For `Slot.lost`."""
        now_ns = self.now_ns()
        silent = silent and self._silent
        if silent:
            self._timeouts += 1
            enough = 1 if self._outcome.standing.strikes else _TIMEOUTS_THAT_MEAN_REFUSAL
            silent = self._timeouts >= enough
            self._doubt = self._doubt or silent
        heard = Heard(sent_ns, now_ns, silent=silent, lost=True)
        until_ns = now_ns + self._terms.longest_delay_ns + self._terms.window_ns
        self._settle(number, heard, until_ns)

    def note_unsent(self, number: int) -> None:
        """For `Slot.unsent`."""
        self._out.pop(number, None)
        self._back.append(number)
        self._due(self.now_ns(), urgent=self._waiters.count > 0)

    def _fewer_in_flight(self, sent_ns: int, now_ns: int) -> None:
        """Once for all that were in flight together: half as many. Each answer allows one more."""
        self.queue_full += 1
        if sent_ns > self._full_ns:
            self._full_ns = now_ns
            self._most_out = max(1, len(self._out) // 2)

    def _settle(self, number: int, heard: Heard, until_ns: int) -> None:
        self._out.pop(number, None)
        self._held.append((number, until_ns))
        heapq.heappush(self._held_until, until_ns)
        self._heard.append(heard)
        blocked = self._waiters.count > 0 and self._outcome.why in {"gate", "probe", "unproved"}
        self._due(heard.ended_ns, urgent=self._doubt or blocked)

    def _due(self, now_ns: int, *, urgent: bool) -> None:
        if urgent:
            self._ask_ns = self._flush_ns = 0
        else:
            lag_ns = min(ns(_FLUSH_S), self._terms.window_ns // 50)
            self._flush_ns = min(self._flush_ns, now_ns + lag_ns)
        self._ring()

    # The dispatcher.

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def _dispatch(self) -> None:
        try:
            while True:
                await self._hand_out()
                now_ns = self.now_ns()
                due_ns = self._next_turn_ns(now_ns)
                if due_ns <= now_ns:
                    await self._take_turn(want=self._wanted())
                else:
                    await self._sleep(None if due_ns == _NEVER else (due_ns - now_ns) / NS_PER_S)
        except QuotaStoreError as error:
            self._failure = error
            self._waiters.fail(self._failure_again)

    async def _sleep(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._bell = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._ring)
        try:
            await self._bell
        finally:
            self._bell = None
            if timer is not None:
                timer.cancel()

    def _wanted(self) -> int:
        """How many slots callers could use now."""
        if self._first:
            return 0 if self._out or self._spare else min(1, self._waiters.count)
        want = min(self._waiters.count - len(self._spare), _MOST_A_TURN)
        if self._most_out is not None:
            want = min(want, self._most_out - len(self._out) - len(self._spare))
        if self._pacer is not None:
            want = min(want, 2)
        return max(0, want)

    def _next_turn_ns(self, now_ns: int) -> int:
        due_ns = min(self._flush_ns, self._spare_until_ns if not self._waiters.count else _NEVER)
        if self._spare and not self._is_open(now_ns):
            due_ns = 0
        if self._wanted():
            due_ns = min(due_ns, self._ask_ns)
        return due_ns

    async def _take_turn(self, *, want: int) -> None:
        """Tell the store all that is noted, ask it for slots, and take what it gives."""
        now_ns = self.now_ns()
        if self._doubt or self._spare_until_ns <= now_ns or not self._is_open(now_ns):
            self._back += self._spare
            self._spare.clear()
            want = self._wanted() if want else 0
        plenty = not (self._first or self._closed or self._pacer or self._most_out)
        turn = Turn(
            now_ns,
            self._terms,
            want,
            spare=_SPARE if want and plenty else 0,
            first=self._first,
            back=tuple(self._back),
            held=tuple(self._held),
            heard=tuple(self._heard),
            token=self._token if self._refusal is None else self._refusal,
            proved=self._proved,
            refused=self._refusal is not None,
            holder=self._holder,
            weight=self._weight,
            own=self._own(now_ns),
            busy=bool(self._out or self._waiters.count),
            leaving=self._closed,
        )
        self._back.clear()
        self._held.clear()
        self._heard.clear()
        self._proved, self._refusal, self._doubt = False, None, False
        self._flush_ns = self._spare_until_ns = _NEVER
        with anyio.CancelScope(shield=True):
            outcome = await self._store.turn(self._key, turn)
        self._outcome = outcome
        self._spare.extend(outcome.slots)
        self._spare_until_ns = now_ns + ns(_SPARE_KEPT_S) if self._spare else _NEVER
        self._set_pace()
        if outcome.token_refused and turn.token == self._token:
            self._token_refused = True
            self._waiters.fail(self._failure_again)
        elif want:
            self._plan_next(now_ns, blocked=len(outcome.slots) < want)

    def _own(self, now_ns: int) -> int:
        """The slots this run has: in flight, got ahead, and held."""
        while self._held_until and self._held_until[0] <= now_ns:
            heapq.heappop(self._held_until)
        return len(self._out) + len(self._spare) + len(self._held_until)

    def _plan_next(self, now_ns: int, *, blocked: bool) -> None:
        """When to ask again, after what the last turn gave."""
        self._ask_ns = 0
        if not blocked or self._doubt:
            return
        outcome = self._outcome
        next_ns = _NEVER if outcome.next_ns is None else outcome.next_ns
        if outcome.count.in_flight > len(self._out) + len(self._spare):
            poll_s = _POLL_PROBE_S if outcome.why == "probe" else _POLL_S
            next_ns = min(next_ns, now_ns + ns(poll_s))
        self._ask_ns = next_ns
        if outcome.next_ns is not None and outcome.next_ns > self._told_until_ns:
            self._told_until_ns = outcome.next_ns
            self._on_wait(max(0, outcome.next_ns - now_ns) / NS_PER_S)

    def _set_pace(self) -> None:
        burst, top = self._outcome.standing.burst, self._terms.top
        if not 0 < burst < top:
            self._pacer = None
        elif self._pacer is None or self._pacer.max_rate != burst:
            from aiolimiter import AsyncLimiter  # noqa: PLC0415 - seldom needed, and slow to import

            self._pacer = AsyncLimiter(burst, burst * self._window_s / top)

    def _is_open(self, now_ns: int) -> bool:
        """Whether slots got earlier may still be used."""
        standing = self._outcome.standing
        gate_over = standing.remaining is not None and now_ns >= standing.gate_ends_ns
        return now_ns >= standing.closed_until_ns and not gate_over

    def _may_hand_out(self) -> bool:
        if self._doubt or self._token_refused or not self._is_open(self.now_ns()):
            return False
        return self._most_out is None or len(self._out) < self._most_out

    async def _hand_out(self) -> None:
        """Give callers in their order what there is, no faster than the pacer lets."""
        while self._spare and self._waiters and self._may_hand_out():
            if self._pacer is not None:
                await self._pacer.acquire()
                if not (self._spare and self._waiters and self._may_hand_out()):
                    return
            waiter = self._waiters.next()
            if waiter is not None:
                waiter.set_result(self._hand(self._spare.popleft()))

    def _hand(self, number: int) -> Slot:
        slot = Slot(self, number, self.now_ns())
        self._out[number] = slot
        self._spare_until_ns = self.now_ns() + ns(_SPARE_KEPT_S) if self._spare else _NEVER
        return slot

    # Failures.

    def _failure_again(self) -> Exception:
        if self._failure is not None:
            return QuotaStoreError(str(self._failure))
        whose = f"{self._profile}: the" if self._profile else "the"
        return TokenRefused(
            f"{whose} platform refused this token (401) within the last hour, so it is not asked "
            "again; get a new token and put it where the profile takes it from, or let "
            "`penstock profiles check` try it anew"
        )

    def _raise_failure(self) -> None:
        if self._closed:
            raise RuntimeError("the limiter is closed")
        if self._failure is not None or self._token_refused:
            raise self._failure_again()
