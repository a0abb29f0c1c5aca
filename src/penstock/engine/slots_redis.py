"""Slots of many machines, in a Redis: its clock, one script a turn, and nothing spent without it.

The rules of a turn (`core.quota`, `core.window`) stay in Python, once for every store. So a turn
is compare and set: the script gives the key as it stands and its version, Python decides, the same
script writes the decision if the version is still the same, else it gives the newer state and
Python decides again. Someone always succeeds, whoever lost holds the newer state already, and no
lock is left behind by the dead. (`WATCH` would need the whole window sent across; rules in Lua
would be the same rules twice.)

Every time in Redis is the server's. A turn's times are moved by the difference between its moment
and the script's, which is never before it: a hold becomes longer by the way to the server, never
shorter, and no two machines' clocks are compared.

A holder beats. One that has not for `dead_after_s` is dead, and what it held counts for the
longest delay and one window more. A store that lost its memory (restarted, flushed) is known by
its `born` and `run`: whoever finds out puts back what it has in flight itself and closes the key
until nothing that was forgotten can count any more. Losing the memory while nobody had the key
open is the one thing that cannot be seen: a window may then be spent a second time.

No rule of quotas belongs here, and no URL in a message but without its password.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio

from penstock.core.errors import QuotaStoreError, UsageError, redacted
from penstock.core.quota import Standing
from penstock.core.window import NS_PER_S, Count, Terms, ns
from penstock.engine import slots_lua as lua
from penstock.engine.clock import Clock
from penstock.engine.groups import to_the_end
from penstock.engine.slots import REFUSAL_REMEMBERED_S, Opened, Outcome, Turn, take_turn
from penstock.engine.slots_axes import moved, moved_back
from penstock.engine.slots_seen import Seen, spender_of

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

T = TypeVar("T")

# How long a Redis may be away before the run ends: a restart or a failover takes seconds. A guess.
LOST_AFTER_S = 15.0
# A Redis that never answered is more likely a slip in the URL than a restart.
_FIRST_ANSWER_S = 5.0
_ANSWER_S = 5.0
_CANCELLED_AGAIN_S = 0.5
_BEAT_S = 1.0
# Twice the time after which a holder that cannot reach Redis has ended its run.
_DEAD_AFTER_S = 30.0
# How long at most to keep out of the way of others after a lost turn.
_LONGEST_PAUSE_S = 0.1
# A key is not begun on a Redis younger than this: who has it open comes back first, after a beat
# or two, and closes it.
_YOUNG_S = 3


def _digits(nanoseconds: int) -> str:
    return f"{max(0, nanoseconds):019d}"


@dataclass(slots=True)
class _Key:
    """What this holder knows of a key it has open."""

    terms: Terms
    born: str
    run: str
    now_ns: int
    mine: set[int] = field(default_factory=set)
    lock: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(slots=True)
class _State:
    """A key as the script found it, and what is decided on it. The same contract as `Window`.

    `flying` are those of the slots asked after that are in flight; `mine` what this holder took
    and has not settled, whatever the store remembers of it.
    """

    now_ns: int
    version: str
    standing: str
    last: int
    born: str
    run: str
    told_ns: int
    server_run: str
    up_s: int
    held: int
    late: int
    in_flight: int
    own: int
    next_free_ns: int | None
    refused_ns: int | None
    probe_flies: bool
    window_ns: int
    flying: set[int]
    mine: set[int]
    probe: int | None = None
    backs: list[int] = field(default_factory=list)
    holds: list[tuple[int, int]] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)

    def give_back(self, numbers: Iterable[int]) -> None:
        """See `Window.give_back`."""
        for number in numbers:
            self.mine.discard(number)
            if number in self.flying:
                self._land(number)
                self.backs.append(number)

    def hold(self, number: int, until_ns: int) -> None:
        """See `Window.hold`. One of ours that the store forgot or buried is held all the same."""
        if number not in self.flying and number not in self.mine:
            return
        self.mine.discard(number)
        if number in self.flying:
            self._land(number)
        self.holds.append((number, until_ns))
        if until_ns <= self.now_ns:
            return
        self.held += 1
        self.late += until_ns > self.now_ns + self.window_ns
        self.next_free_ns = min(self.next_free_ns or until_ns, until_ns)

    def hold_all(self, held: Iterable[tuple[int, int]]) -> None:
        """See `Window.hold_all`."""
        for number, until_ns in held:
            self.hold(number, until_ns)

    def _land(self, number: int) -> None:
        self.flying.discard(number)
        self.in_flight -= 1
        self.own -= 1

    def is_in_flight(self, number: int) -> bool:
        """See `Window.is_in_flight`. Asked after the probe only."""
        settled = number in self.backs or any(number == held for held, _ in self.holds)
        return (self.probe_flies and not settled) or number in self.mine

    def count(self, _: int) -> Count:
        """See `Window.count`."""
        return Count(
            used=self.held + self.in_flight,
            in_flight=self.in_flight + self.late,
            next_free_ns=self.next_free_ns,
        )

    def take(self, slots: int, now_ns: int, *, limit: int) -> Sequence[int]:
        """See `Window.take`. Numbers begin at the time, so that a forgetful store repeats none."""
        free = max(0, limit - self.held - self.in_flight)
        first = max(self.last + 1, now_ns // 1000)
        taken = range(first, first + min(slots, free))
        self._fly(taken)
        self.last = taken[-1] if taken else self.last
        return taken

    def regain(self, settled: Iterable[int]) -> None:
        """What is ours is in flight in the store, too, whatever it forgot, if it is not settled."""
        self.in_flight -= self.own
        self.own = len(self.flying)
        self.in_flight += self.own
        self._fly(sorted(self.mine.difference(settled)))

    def _fly(self, numbers: Sequence[int]) -> None:
        self.taken.extend(numbers)
        self.mine.update(numbers)
        self.in_flight += len(numbers)
        self.own += len(numbers)


class RedisSlotStore:
    """Slots of all machines that name the same Redis (`redis://`, `rediss://`, `unix://`).

    `lost_after_s` is how long it may be away before `QuotaStoreError`. A holder is dead
    `dead_after_s` after its last beat; it must be more than `lost_after_s`, by which time a holder
    that is cut off has ended. With `told_time` the times of the turns are believed instead of the
    server's: for tests of the contract.

    Raises `UsageError` for a URL that is none, and where the extra `redis` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        lost_after_s: float = LOST_AFTER_S,
        beat_s: float = _BEAT_S,
        dead_after_s: float = _DEAD_AFTER_S,
        told_time: bool = False,
    ) -> None:
        self.shown = redacted(url)
        self._secrets = _secrets(url)
        self._client = self._connected(url)
        self._lost_after_s = lost_after_s
        self._beat_s = beat_s
        self._dead_after_us = int(dead_after_s * 1_000_000)
        self._told_time = told_time
        # A name in a file system's sense: no space, which separates fields in the store.
        node = "".join(c for c in platform.node() if c.isalnum() or c in "-._") or "host"
        self._holder = f"{node}:{os.getpid()}-{secrets.token_hex(6)}"
        self._turning = self._client.register_script(lua.TURN)
        self._opening = self._client.register_script(lua.OPEN)
        self._beaten = self._client.register_script(lua.BEAT)
        self._closing = self._client.register_script(lua.CLOSE)
        self._seeing = self._client.register_script(lua.SEE)
        self._keys: dict[str, _Key] = {}
        self._answered = False
        self._failure = ""
        self._beating: asyncio.Task[None] | None = None

    def _connected(self, url: str) -> Redis:
        try:
            from redis.asyncio import Redis  # noqa: PLC0415 - an extra
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415
        except ImportError:
            raise UsageError(
                f"the quota store {self.shown} needs the package redis: pip install "
                "'penstock[redis]'"
            ) from None
        try:
            client: Redis = Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=_ANSWER_S,
                socket_connect_timeout=_ANSWER_S,
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{self.shown} is no URL of a Redis: {self._scrubbed(error)}; write "
                "redis://HOST:PORT/0"
            ) from None
        return client

    # The contract.

    async def open(self, key: str, terms: Terms, clock: Clock, *, profile: str = "") -> Opened:
        """See `SlotStore.open`. Waits up to 3 s where the Redis has just started."""
        born = secrets.token_hex(8)
        while True:
            local_ns = ns(clock.now_s())
            told_ns = local_ns + ns(clock.wall_at()) - ns(clock.now_s())
            answer = await self._ask(
                self._opening,
                (),
                _digits(told_ns) if self._told_time else "",
                _digits(terms.longest_delay_ns + terms.window_ns),
                self._holder,
                key,
                profile,
                Standing().dumps(),
                born,
                0 if self._told_time else _YOUNG_S,
            )
            if answer[0] == "open":
                break
            await anyio.sleep(_YOUNG_S - int(answer[1]))
        _, root, now, born, run = answer
        known = self._keys.get(root)
        if known is None:
            self._keys[root] = _Key(terms, born, run, int(now))
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat(), name="quota store's beat")
        return Opened(root, int(now) - local_ns)

    async def turn(self, key: str, turn: Turn) -> Outcome:
        """See `SlotStore.turn`."""
        return await to_the_end(self._turn(key, self._keys[key], turn))

    async def token_refused_at(self, token: str, now_at: float | None = None) -> float | None:
        """See `SlotStore.token_refused_at`. Remembered by the server's clock, then by `now_at`."""
        text = await self._until_answered(lambda: self._client.get(f"{lua.PREFIX}t:{token}"))
        if text is None:
            return None
        refused_at = int(text) / NS_PER_S
        old = now_at is not None and now_at - refused_at >= REFUSAL_REMEMBERED_S
        return None if old else refused_at

    async def note_refusal(self, token: str, now_at: float) -> None:
        """See `SlotStore.note_refusal`."""
        name, kept_ms = f"{lua.PREFIX}t:{token}", int(REFUSAL_REMEMBERED_S * 1000)
        at = int(now_at * NS_PER_S)
        await self._until_answered(lambda: self._client.set(name, at, px=kept_ms))

    async def forget_refusal(self, token: str) -> None:
        """The token may be tried again."""
        await self._until_answered(lambda: self._client.delete(f"{lua.PREFIX}t:{token}"))

    async def aclose(self) -> None:
        """Let go: what is in flight counts as a dead holder's. A Redis that is away is left so."""
        with anyio.CancelScope(shield=True):
            if self._beating is not None:
                while not self._beating.done():
                    # A time-out that ends at the same moment may take a cancellation for its own.
                    self._beating.cancel()
                    await asyncio.wait([self._beating], timeout=_CANCELLED_AGAIN_S)
                self._beating = None
            keys = {} if self._failure else self._keys
            with suppress(*_foreign(), TimeoutError), anyio.fail_after(2):
                for key, known in keys.items():
                    rest_ns = known.terms.longest_delay_ns + known.terms.window_ns
                    await self._closing(
                        keys=self._names(key),
                        args=[
                            _digits(known.now_ns) if self._told_time else "",
                            _digits(rest_ns),
                            self._holder,
                        ],
                    )
            self._keys.clear()
            with suppress(*_foreign(), TimeoutError), anyio.fail_after(2):
                await self._client.aclose()

    async def seen(self, key: str, terms: Terms, *, profile: str, token: str) -> Seen:
        """The key, or the one that `profile` last spent, without beginning or changing it."""
        now, standing, used, late, flying, following, refused, holders = await self._ask(
            self._seeing, (), _digits(terms.window_ns), key, profile, token, self._dead_after_us
        )
        next_ns = int(following.partition(":")[0]) if following else None
        return Seen(
            int(now),
            Count(used=used, in_flight=flying + late, next_free_ns=next_ns),
            Standing.loads(standing) if standing else Standing(),
            tuple(
                spender_of(holder, int(count))
                for holder, count in zip(holders[::2], holders[1::2], strict=True)
            ),
            int(refused) / NS_PER_S if refused else None,
        )

    # One turn.

    async def _turn(self, key: str, known: _Key, turn: Turn) -> Outcome:
        async with known.lock:
            return await self._settled(key, known, turn)

    async def _settled(self, key: str, known: _Key, turn: Turn) -> Outcome:
        asked = (*turn.back, *(number for number, _ in turn.held))
        head = (
            _digits(turn.now_ns) if self._told_time else "",
            _digits(turn.terms.window_ns),
            _digits(turn.terms.longest_delay_ns + turn.terms.window_ns),
            self._holder,
            self._dead_after_us,
        )
        names = self._names(key, turn.token)
        version, decision, done = "", "{}", ""
        began_s, pause_s = anyio.current_time(), 0.0
        while True:
            answer = await self._ask(self._turning, names, *head, version, decision, *asked)
            # A decision whose answer was lost was written all the same: `done` tells.
            if done and (answer[0] or answer[8] == done):
                break
            if done:
                # Somebody was quicker. All who were not would only be in each other's way at once.
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s or anyio.current_time() - began_s)
                await anyio.sleep(random.uniform(0, pause_s))  # noqa: S311 - no secret
                version, decision, done = "", "{}", ""
                continue
            state = _read(answer, asked, known, turn)
            outcome = self._decide(known, state, turn)
            done = secrets.token_hex(8)
            version, decision = state.version, _written(state, turn, done, key)
        known.terms, known.mine, known.now_ns = turn.terms, state.mine, state.now_ns
        known.born, known.run = state.born, state.server_run
        return outcome

    def _decide(self, known: _Key, state: _State, turn: Turn) -> Outcome:
        """The turn as the rules have it, on the server's axis; the outcome on the limiter's."""
        later_ns = 0 if self._told_time else state.now_ns - turn.now_ns
        turn = moved(turn, state.now_ns, later_ns)
        standing = Standing.loads(state.standing) if state.standing else Standing()
        if state.told_ns > state.now_ns + NS_PER_S:
            standing.limit_future(state.now_ns, turn.terms)
        forgotten_ns = _forgotten_ns(known, state)
        if forgotten_ns is not None:
            # Nothing is taken until what was forgotten cannot count any more.
            rest_ns = turn.terms.longest_delay_ns + turn.terms.window_ns
            standing.closed_until_ns = max(standing.closed_until_ns, forgotten_ns + rest_ns)
        state.born = state.born or secrets.token_hex(8)
        refused_ns = state.now_ns if turn.refused else state.refused_ns
        remembered_ns = ns(REFUSAL_REMEMBERED_S)
        refused = refused_ns is not None and state.now_ns - refused_ns < remembered_ns
        outcome = take_turn(state, standing, turn, token_refused=refused)
        state.standing, state.probe = standing.dumps(), standing.probe_slot
        return moved_back(outcome, later_ns)

    # Asking.

    def _names(self, key: str, token: str = "") -> list[str]:
        windows = [f"{lua.PREFIX}{kind}:{key}" for kind in "whfo"]
        return [*windows, f"{lua.PREFIX}beats", f"{lua.PREFIX}t:{token}"]

    async def _ask(self, script: AsyncScript, names: Sequence[str], *said: str | int) -> Any:  # noqa: ANN401 - what a script answers
        return await self._until_answered(lambda: script(keys=names, args=said))

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, asked for again while the Redis is away; every question may be repeated."""
        if self._failure:
            raise QuotaStoreError(self._failure)
        patience_s = self._lost_after_s
        if not self._answered:
            patience_s = min(patience_s, _FIRST_ANSWER_S)
        ends_s, pause_s = anyio.current_time() + patience_s, 0.05
        while True:
            try:
                with anyio.fail_after(max(pause_s, ends_s - anyio.current_time())):
                    answer = await ask()
            except TimeoutError:
                why = "no answer"
            except _foreign() as error:
                why = self._scrubbed(error)
                if not _may_pass(error):
                    raise self._broken(f"does not serve: {why}") from None
            else:
                self._answered = True
                return answer
            if anyio.current_time() + pause_s >= ends_s:
                raise self._broken(f"is lost, {patience_s:g} s without an answer: {why}")
            await anyio.sleep(pause_s)
            pause_s = min(1.0, 2 * pause_s)

    def _broken(self, what: str) -> QuotaStoreError:
        self._failure = (
            f"the quota store {self.shown} {what}; nothing may be spent uncounted. Put it right, "
            "or spend a fixed part: --quota-fallback share=1/N does so when it is lost, "
            "--quota-share 1/N without it"
        )
        return QuotaStoreError(self._failure)

    def _scrubbed(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text.rstrip(". ")

    async def _beat(self) -> None:
        """Tells the others that this holder lives; finds out where it was forgotten."""
        while True:
            await asyncio.sleep(self._beat_s)
            with suppress(*_foreign(), TimeoutError, QuotaStoreError):
                with anyio.fail_after(_ANSWER_S):
                    keys = [f"{lua.PREFIX}beats"]
                    forgotten, run = await self._beaten(keys=keys, args=[self._holder])
                for key, known in self._keys.items():
                    if forgotten or run != known.run:
                        now_ns = known.now_ns if self._told_time else 0
                        await self.turn(key, Turn(now_ns, known.terms))


def _read(answer: Sequence[Any], asked: Sequence[int], known: _Key, turn: Turn) -> _State:
    """What the script answered; what it forgot of ours is put back."""
    first, refused, flies = answer[15], answer[16], answer[18]
    flying = {number for number, flies in zip(asked, flies, strict=True) if flies}
    state = _State(
        now_ns=int(answer[1]),
        version=answer[2],
        standing=answer[3],
        last=int(answer[4]),
        born=answer[5],
        run=answer[6],
        told_ns=int(answer[7]),
        server_run=answer[9],
        up_s=int(answer[10]),
        held=answer[11],
        late=answer[12],
        in_flight=answer[13],
        own=answer[14],
        next_free_ns=int(first.partition(":")[0]) if first else None,
        refused_ns=int(refused) if refused else None,
        probe_flies=bool(answer[17]),
        window_ns=turn.terms.window_ns,
        flying=flying,
        mine=set(known.mine),
    )
    if state.own != len(state.mine):
        state.regain(asked)
    return state


def _forgotten_ns(known: _Key, state: _State) -> int | None:
    """Since when the store remembers all that was spent; None: it forgot nothing."""
    if state.server_run != known.run or state.run not in {"", state.server_run}:
        return state.now_ns - state.up_s * NS_PER_S
    return None if state.born == known.born else state.now_ns


def _written(state: _State, turn: Turn, done: str, key: str) -> str:
    """The decision as the script reads it."""
    return json.dumps(
        {
            "back": [str(number) for number in state.backs],
            "held": [[str(number), _digits(until_ns)] for number, until_ns in state.holds],
            "take": [str(number) for number in state.taken],
            "version": str(int(state.version) + 1),
            "standing": state.standing,
            "probe": "" if state.probe is None else str(state.probe),
            "last": str(state.last),
            "born": state.born,
            "root": key,
            "done": done,
            "refused": turn.refused,
            "remembered": int(REFUSAL_REMEMBERED_S * 1000),
            "kept": lua.KEPT_MS,
        }
    )


def _secrets(url: str) -> tuple[str, ...]:
    """What of the URL no message may hold, longest first."""
    try:
        parts = urlsplit(url)
        password, query = parts.password, parse_qsl(parts.query)
    except ValueError:
        return (url,)
    found = {value for _, value in query} | {password or "", unquote(password or "")}
    return tuple(sorted(found - {""}, key=len, reverse=True))


def _foreign() -> tuple[type[Exception], ...]:
    """What the client raises."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

    return (RedisError, OSError)


def _may_pass(error: Exception) -> bool:
    """Whether asking again may help: the server is away, starting, or changing its role."""
    from redis import exceptions  # noqa: PLC0415 - an extra

    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return False
    passing = (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.TryAgainError,
        exceptions.ClusterDownError,
        OSError,
    )
    return isinstance(error, passing)
