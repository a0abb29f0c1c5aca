"""How much of a quota do policies spend, and how often are they refused?

Policies x judges x scenarios, as a client with 64 requests in flight spends 500 requests a minute
for 10 windows. Utilisation is what was accepted, of what the quota left to this client; refused
requests are sent again through the same policy. Time is virtual (see `quota_world`). Every cell is
the mean of its seeds (utilisation) and the worst of them (refusals); a run that is refused more
than MOST_REFUSED times is ended and shown as ">". More than 1 is possible: 10 minutes touch 11
aligned windows, and a burst may take what the other client would have had.

    python benchmarks/quota_policies.py [--smoke] [--seeds N] [--only POLICY]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import random
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from aiolimiter import AsyncLimiter
from quota_world import START_S, Company, Judge, now, our_epoch_at, run

from penstock.engine.clock import Clock
from penstock.engine.limiter import Limiter
from penstock.engine.slots import MemorySlotStore

QUOTA, WINDOW_S, WINDOWS, AT_ONCE = 500, 60.0, 10, 64
MOST_REFUSED = 5000


class Ticket(Protocol):
    def answered(self, status: int, headers: Mapping[str, str]) -> None: ...


class Policy(Protocol):
    async def admit(self) -> Ticket: ...


Opening = Callable[["Terms"], AbstractAsyncContextManager[Policy]]


@dataclass(frozen=True)
class Terms:
    """What a policy is told. `memory` outlives it, as a file would."""

    quota: int
    window_s: float
    headers: bool
    memory: MemorySlotStore


class Simple:
    """A policy that learns nothing, and the ticket of those that do not count answers."""

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        pass


class TokenBucket(Simple):
    """aiolimiter, as its documentation shows it."""

    def __init__(self, terms: Terms) -> None:
        self._bucket = AsyncLimiter(terms.quota, terms.window_s)

    async def admit(self) -> Ticket:
        await self._bucket.acquire()
        return self


class SendLog(Simple):
    """At most N sent in any T, by our own clock."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._sent: deque[float] = deque()
        self._turn = asyncio.Lock()

    async def admit(self) -> Ticket:
        async with self._turn:
            if len(self._sent) == self._terms.quota:
                await asyncio.sleep(self._sent.popleft() + self._terms.window_s - now())
            self._sent.append(now())
        return self


class HeaderOnly:
    """Spend Remaining, wait for Reset; where nothing is said, a second after a refusal."""

    def __init__(self, _: Terms) -> None:
        self._remaining: int | None = None
        self._reset_at = 0.0
        self._turn = asyncio.Lock()

    async def admit(self) -> Ticket:
        async with self._turn:
            while self._remaining is not None and self._remaining <= 0:
                wait_s = self._reset_at - now()
                if wait_s <= 0:
                    self._remaining = None
                else:
                    await asyncio.sleep(wait_s)
            if self._remaining is not None:
                self._remaining -= 1
        return self

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        if "x-ratelimit-reset" in headers:
            self._remaining = int(headers["x-ratelimit-remaining"])
            reset_in_s = float(headers["x-ratelimit-reset"]) - our_epoch_at()
            self._reset_at = now() + max(0.0, reset_in_s)
        elif status == 429:
            self._remaining, self._reset_at = 0, now() + 1.0


class Cubic:
    """A client-side rate that falls on a refusal and grows back along a cubic.

    Source: botocore 1.42, retries/adaptive.py, throttling.py and bucket.py (the "adaptive" mode).
    """

    _SCALE, _BETA, _SMOOTH, _LEAST = 0.4, 0.7, 0.8, 0.5

    def __init__(self, _: Terms) -> None:
        self._rate: float | None = None
        self._level = self._capacity = 0.0
        self._at = now()
        self._measured = 0.0
        self._bucket, self._in_bucket = now() // 0.5, 0
        self._w_max, self._k, self._fell_at = 0.0, 0.0, now()
        self._turn = asyncio.Lock()

    async def admit(self) -> Ticket:
        async with self._turn:
            while self._rate is not None:
                self._fill()
                if self._level >= 1:
                    self._level -= 1
                    break
                await asyncio.sleep((1 - self._level) / self._rate)
        return self

    def _fill(self) -> None:
        assert self._rate is not None
        self._level = min(self._capacity, self._level + (now() - self._at) * self._rate)
        self._at = now()

    def _measure(self) -> None:
        self._in_bucket += 1
        bucket = now() // 0.5
        if bucket > self._bucket:
            rate = self._in_bucket / (bucket - self._bucket) / 0.5
            self._measured = rate * self._SMOOTH + self._measured * (1 - self._SMOOTH)
            self._bucket, self._in_bucket = bucket, 0

    def answered(self, status: int, headers: Mapping[str, str]) -> None:  # noqa: ARG002
        self._measure()
        if status == 429:
            old = self._measured if self._rate is None else min(self._measured, self._rate)
            self._w_max, self._fell_at = old, now()
            self._k = (old * (1 - self._BETA) / self._SCALE) ** (1 / 3)
            rate = old * self._BETA
        elif self._rate is None:
            return
        else:
            since = now() - self._fell_at
            rate = self._SCALE * (since - self._k) ** 3 + self._w_max
        if self._rate is not None:
            self._fill()
        self._rate = max(self._LEAST, min(rate, 2 * self._measured))
        self._capacity = max(1.0, self._rate)


class Penstock:
    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    async def admit(self) -> Ticket:
        slot = await self._limiter.admit()
        slot.sent()
        return slot


def simple(policy: Callable[[Terms], Policy]) -> Opening:
    @asynccontextmanager
    async def opened(terms: Terms) -> AsyncIterator[Policy]:
        yield policy(terms)

    return opened


@asynccontextmanager
async def penstock(terms: Terms) -> AsyncIterator[Policy]:
    async with Limiter(
        key="k",
        quota=terms.quota,
        window_s=terms.window_s,
        store=terms.memory,
        clock=Clock(asyncio.get_running_loop().time, our_epoch_at),
        headers=terms.headers,
    ) as limiter:
        yield Penstock(limiter)


def pyrate() -> Opening | None:
    """The real pyrate-limiter on this loop's clock; None where it is not installed."""
    try:
        from pyrate_limiter import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
            AbstractBucket,
            BucketFactory,
            InMemoryBucket,
            Rate,
            RateItem,
        )
        from pyrate_limiter import Limiter as PyrateLimiter  # noqa: PLC0415
    except ImportError:
        return None

    class Virtual(BucketFactory):  # type: ignore[misc,unused-ignore]
        def __init__(self, bucket: AbstractBucket) -> None:
            self._bucket = bucket

        def wrap_item(self, name: str, weight: int = 1) -> RateItem:
            return RateItem(name, int(now() * 1000), weight=weight)

        def get(self, _: RateItem) -> AbstractBucket:
            return self._bucket

    class Pyrate(Simple):
        def __init__(self, terms: Terms) -> None:
            rate = Rate(terms.quota, int(terms.window_s * 1000))
            self._limiter = PyrateLimiter(Virtual(InMemoryBucket([rate])))

        async def admit(self) -> Ticket:
            await self._limiter.try_acquire_async("k")
            return self

    return simple(Pyrate)


POLICIES: dict[str, Opening] = {
    "aiolimiter AsyncLimiter(N, T)": simple(TokenBucket),
    "log of send times": simple(SendLog),
    "Remaining, then Reset": simple(HeaderOnly),
    "CUBIC after refusals": simple(Cubic),
    "penstock": penstock,
}
if (found := pyrate()) is not None:
    POLICIES["pyrate-limiter"] = found


@dataclass(frozen=True)
class Scenario:
    """judge: its kind. one_way_s: how long a request travels, and its answer.

    others: the share of N that another client spends. former: the share of N that the same
    policy spent in a process just before. known: that process, and its memory, had met the other
    client for so many windows. since: the window from which on is counted, where that matters.
    """

    judge: str = "log"
    capacity: float = 1.0
    one_way_s: tuple[float, float] = (0.02, 0.4)
    says: bool = False
    skew_s: float = 0.0
    others: float = 0.0
    former: float = 0.0
    known: bool = False
    since: int = 0
    at_once: int = AT_ONCE


JUDGES = {
    "fixed": Scenario("fixed", says=True),
    "log": Scenario("log", says=True),
    "log counting refusals": Scenario("counting", says=True),
    "bucket N": Scenario("bucket", says=True),
    "bucket N/10": Scenario("bucket", capacity=0.1),
}
SCENARIOS = {
    "no headers, fixed": Scenario("fixed"),
    "no headers, counting": Scenario("counting"),
    "answers in up to 10 s, counting": Scenario("counting", one_way_s=(0.02, 5.0)),
    "clock 2 h ahead, fixed": Scenario("fixed", says=True, skew_s=7200),
    "clock 2 h behind, counting": Scenario("counting", says=True, skew_s=-7200),
    "other at 30 %, seen, fixed": Scenario("fixed", says=True, others=0.3),
    "other at 30 %, seen, counting": Scenario("counting", says=True, others=0.3),
    "other at 30 %, unseen, fixed": Scenario("fixed", others=0.3),
    "other at 30 %, unseen, log": Scenario("log", others=0.3),
    "other at 30 %, unseen, counting": Scenario("counting", others=0.3),
    "the same, from window 2 on": Scenario("counting", others=0.3, since=2),
    "the same, met before": Scenario("counting", others=0.3, known=True),
    "the same, 8 in flight": Scenario("counting", others=0.3, at_once=8),
    "former process spent N/2": Scenario("counting", former=0.5),
    "small burst, from window 2 on": Scenario("bucket", capacity=0.1, since=2),
}


class Result(NamedTuple):
    utilisation: float
    refused: int


@dataclass
class Client:
    """Spends through a policy, and remembers when it was accepted and refused."""

    judge: Judge
    scenario: Scenario
    chance: random.Random
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    async def spend(self, policy: Policy, *, most: int | None, until: float) -> None:
        turns: Iterable[int] = itertools.count() if most is None else iter(range(most))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until), asyncio.TaskGroup() as group:
                for _ in range(self.scenario.at_once):
                    group.create_task(self._work(policy, turns))

    async def _work(self, policy: Policy, turns: Iterable[int]) -> None:
        for _ in turns:
            accepted = False
            while not accepted:
                if len(self.refused) >= MOST_REFUSED:
                    return
                accepted = await self._once(policy)

    async def _once(self, policy: Policy) -> bool:
        ticket = await policy.admit()
        await asyncio.sleep(self.chance.uniform(*self.scenario.one_way_s))
        at = now()
        accepted = self.judge.arrive(at)
        headers = self.judge.headers(at)
        (self.accepted if accepted else self.refused).append(at)
        await asyncio.sleep(self.chance.uniform(*self.scenario.one_way_s))
        ticket.answered(200 if accepted else 429, headers)
        return accepted


async def played(scenario: Scenario, opening: Opening, seed: int, windows: int) -> Result:
    chance = random.Random(seed)  # noqa: S311 - a simulation
    judge = Judge(
        QUOTA,
        WINDOW_S,
        scenario.judge,
        scenario.says,
        skew_s=scenario.skew_s,
        phase_s=chance.uniform(0, WINDOW_S),
        capacity=int(QUOTA * scenario.capacity),
    )
    terms = Terms(QUOTA, WINDOW_S, scenario.says, MemorySlotStore())
    company = Company(judge, scenario.others, chance)
    others: asyncio.Task[None] | None = None
    if scenario.others:
        company.was_here()
        others = asyncio.get_running_loop().create_task(company.spend())
    if scenario.former or scenario.known:
        former = Client(judge, scenario, chance)
        most = int(QUOTA * scenario.former) or None
        async with opening(terms) as policy:
            await former.spend(policy, most=most, until=START_S + 3 * WINDOW_S)
    client = Client(judge, scenario, chance)
    began = now()
    async with opening(terms) as policy:
        await client.spend(policy, most=None, until=began + windows * WINDOW_S)
    if others is not None:
        others.cancel()
        await asyncio.wait([others])
    since = began + scenario.since * WINDOW_S
    accepted = sum(at >= since for at in client.accepted)
    left = (1 - scenario.others) * QUOTA * (windows - scenario.since)
    if scenario.former:
        left -= scenario.former * QUOTA
    return Result(accepted / left, sum(at >= since for at in client.refused))


Cell = tuple[str, str, int, int]


def measured(cell: Cell) -> Result:
    policy, scenario, seed, windows = cell
    return run(played((JUDGES | SCENARIOS)[scenario], POLICIES[policy], seed, windows))


def shown(results: list[Result]) -> str:
    used = statistics.fmean(result.utilisation for result in results)
    refused = max(result.refused for result in results)
    # A run that was ended early has spent too short a time for its share to mean anything.
    return f"- / >{MOST_REFUSED}" if refused >= MOST_REFUSED else f"{used:.3f} / {refused}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--smoke", action="store_true", help="two windows, one seed, one judge")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=tuple(POLICIES))
    given = parser.parse_args()
    began = time.perf_counter()
    tables = [("judge", list(JUDGES)), ("scenario", list(SCENARIOS))]
    seeds, windows = given.seeds, WINDOWS
    if given.smoke:
        tables = [("judge", ["fixed"]), ("scenario", ["no headers, counting"])]
        seeds, windows = 1, 3
    policies = [name for name in POLICIES if not given.only or name in given.only]
    cells = [
        (policy, scenario, seed, windows)
        for policy in policies
        for _, scenarios in tables
        for scenario in scenarios
        for seed in range(seeds)
    ]
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        results = dict(zip(cells, pool.map(measured, cells, chunksize=1), strict=True))
    for first, scenarios in tables:
        print(f"| {first} | {' | '.join(policies)} |")
        print(f"|---|{'---|' * len(policies)}")
        for scenario in scenarios:
            row = [
                shown([results[policy, scenario, seed, windows] for seed in range(seeds)])
                for policy in policies
            ]
            print(f"| {scenario} | {' | '.join(row)} |")
        print()
    if "pyrate-limiter" not in POLICIES:
        print("pyrate-limiter is not installed: skipped")
    print(
        f"{QUOTA}/{WINDOW_S:g} s, {AT_ONCE} in flight, {windows} windows, {seeds} seeds: ", end=""
    )
    print(f"utilisation (mean) / refusals (worst); took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
