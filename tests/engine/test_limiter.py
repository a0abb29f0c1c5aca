"""The limiter against servers that judge, on a clock that jumps."""

from __future__ import annotations

import asyncio
import math
import random
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import QuotaStoreError, TokenRefused
from penstock.core.model import Rank
from penstock.engine.clock import Clock
from penstock.engine.limiter import Limiter
from penstock.engine.slots import MemorySlotStore, Outcome, SlotStore, Turn
from virtual import EPOCH, run, virtual_clock

LONGEST_S = 10.0


def limiter(store: SlotStore | None = None, **named: object) -> Limiter:
    settings: dict[str, object] = {
        "key": "key",
        "quota": 100,
        "window_s": 60.0,
        "store": store or MemorySlotStore(),
        "clock": virtual_clock(),
        "headers": False,
        "longest_delay_s": LONGEST_S,
    }
    return Limiter(**{**settings, **named})  # type: ignore[arg-type]


async def answer(one: Limiter, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    with await one.admit() as slot:
        slot.sent()
        await asyncio.sleep(0.1)
        slot.answered(status, headers or {})


@asynccontextmanager
async def opened(store: SlotStore | None = None, **named: object) -> AsyncIterator[Limiter]:
    """A limiter whose first request has been answered."""
    async with limiter(store, **named) as one:
        await answer(one)
        yield one


@dataclass
class Judge:
    """A server that counts arrivals: exactly, or also those it refuses, or in aligned windows."""

    quota: int
    window_s: float
    kind: str = "log"
    bucket: float = 0.0
    others: Callable[[float], int] = lambda _: 0
    says: bool = False
    arrivals: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    level: float = 0.0
    level_at: float = 0.0

    def arrive(self) -> tuple[int, dict[str, str]]:
        now = asyncio.get_running_loop().time()
        since = now - self.window_s
        if self.kind == "fixed":
            since = math.floor(now / self.window_s) * self.window_s
        oldest = bisect_right(self.arrivals, since)
        spent = len(self.arrivals) - oldest + self.others(now)
        if self.kind == "counting":
            spent += len(self.refused) - bisect_right(self.refused, since)
        if self.kind == "bucket":
            leaked = (now - self.level_at) * self.quota / self.window_s
            self.level, self.level_at = max(0.0, self.level - leaked), now
            spent = self.quota if self.level + 1 > self.bucket else 0
        status = 429 if spent >= self.quota else 200
        (self.refused if status == 429 else self.arrivals).append(now)
        self.level += status == 200
        if not self.says:
            return status, {}
        began = since if self.kind == "fixed" else (self.arrivals[oldest:] or [now])[0]
        reset = began + self.window_s
        return status, {
            "X-RateLimit-Limit": str(self.quota),
            "X-RateLimit-Remaining": str(max(0, self.quota - spent - 1)),
            "X-RateLimit-Reset": str(int(EPOCH + reset)),
        }


async def spend(
    one: Limiter, judge: Judge, requests: int, *, at_once: int = 64, until_s: float = math.inf
) -> float:
    """How long so many requests take; refused ones are sent again."""
    loop, chance = asyncio.get_running_loop(), random.Random(7)
    began = loop.time()
    waiting = iter(range(requests))

    async def work() -> None:
        for _ in waiting:
            status = 429
            while status == 429 and loop.time() - began < until_s:
                with await one.admit() as slot:
                    slot.sent()
                    await asyncio.sleep(chance.uniform(0.02, 0.4))
                    status, headers = judge.arrive()
                    await asyncio.sleep(chance.uniform(0.02, 0.4))
                    slot.answered(status, headers)

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)
    return loop.time() - began


@pytest.mark.parametrize("part", [0.4, 1, 1.2, 10])
@pytest.mark.parametrize(("quota", "window_s"), [(500, 60), (1000, 300), (1000, 60)])
def test_a_job_ends_as_soon_as_its_quota_lets_it(quota: int, window_s: float, part: float) -> None:
    requests = int(part * quota)

    async def finish(allowed: int) -> float:
        async with limiter(quota=allowed, window_s=window_s) as one:
            return await spend(one, Judge(allowed, window_s), requests)

    def latency() -> float:
        """What the same requests take where no quota binds, for each window's share of them."""
        windows = (requests - 1) // quota
        return run(finish(10 * requests)) / (requests / (requests - windows * quota))

    least = (requests - 1) // quota * window_s + latency()
    assert run(finish(quota)) <= 1.02 * least


@pytest.mark.parametrize("kind", ["fixed", "log", "counting"])
@pytest.mark.parametrize("says", [False, True])
def test_alone_nothing_is_ever_refused(kind: str, *, says: bool) -> None:
    judge = Judge(100, 60, kind, says=says)

    async def main() -> float:
        async with limiter(headers=says) as one:
            return await spend(one, judge, 1000)

    took = run(main())
    assert judge.refused == []
    # A probe for each window judged by headers costs it one time to answer more.
    assert took <= (9 * 62.0 if says else 9 * 61.0) + 2


def test_a_small_burst_is_found_out_at_once_and_then_paced_without_refusals() -> None:
    judge = Judge(100, 60, "bucket", bucket=10)

    async def main() -> tuple[float, str]:
        async with limiter() as one:
            took = await spend(one, judge, 500)
            return took, repr(one)

    took, said = run(main())
    assert max(judge.refused) - judge.arrivals[0] < 120, said
    assert took < 5 * 60 + 60, said


def test_another_client_unseen_is_made_room_for() -> None:
    judge = Judge(100, 60, "log", others=lambda _: 30)

    async def main() -> None:
        async with limiter() as one:
            await spend(one, judge, 400)

    run(main())
    # The first refusal finds the rest of its flight on the way; after it they come one by one.
    first = [at for at in judge.refused if at < judge.arrivals[0] + 60]
    assert len(first) < 64
    assert len(judge.refused) - len(first) <= 3


def test_another_client_seen_in_the_headers_is_made_room_for_at_once() -> None:
    judge = Judge(500, 60, "fixed", others=lambda now: int(now % 60 * 2.5), says=True)

    async def main() -> None:
        async with limiter(headers=True, quota=500) as one:
            await spend(one, judge, 4000)

    run(main())
    assert len(judge.refused) <= 3


@dataclass(frozen=True)
class Fate:
    """One request's life, in seconds; `ends` says how."""

    pause: float
    there: float
    back: float
    ends: str


FATES = st.lists(
    st.builds(
        Fate,
        pause=st.floats(0, 1),
        there=st.floats(0.001, 2),
        back=st.floats(0.001, 2),
        ends=st.sampled_from(
            ["answered", "lost", "abandoned", "cancelled waiting", "cancelled sent"]
        ),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(
    quota=st.integers(1, 8),
    fates=FATES,
    steps=st.lists(st.floats(-500, 500), max_size=3),
)
def test_more_than_the_quota_is_never_admitted(
    quota: int, fates: list[Fate], steps: list[float]
) -> None:
    """For any latencies, order, cancellations, give-ups and steps of the epoch clock."""
    window_s, longest_s = 5.0, 1.5
    arrivals: list[float] = []

    async def live(one: Limiter, fate: Fate) -> None:
        loop = asyncio.get_running_loop()
        with anyio.move_on_after(fate.back if fate.ends == "cancelled waiting" else math.inf):
            with await one.admit() as slot:
                if fate.ends == "abandoned":
                    return
                slot.sent()
                if fate.ends in {"lost", "cancelled sent"}:
                    # It arrives after it was given up.
                    late = fate.there + min(fate.back, longest_s)
                    loop.call_later(late, lambda: arrivals.append(loop.time()))
                    with anyio.move_on_after(fate.there):
                        await asyncio.sleep(99)
                    if fate.ends == "lost":
                        slot.lost(unanswered=True)
                    return
                await asyncio.sleep(fate.there)
                arrivals.append(loop.time())
                await asyncio.sleep(fate.back)
                slot.answered(200, {})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wall = [EPOCH]
        clock = Clock(loop.time, lambda: wall[0] + loop.time())
        store = MemorySlotStore()
        for step in [0.0, *steps]:
            # A step, and another run on the same store.
            wall[0] += step
            async with (
                limiter(
                    store, clock=clock, quota=quota, window_s=window_s, longest_delay_s=longest_s
                ) as one,
                anyio.create_task_group() as group,
            ):
                for fate in fates:
                    group.start_soon(live, one, fate)
                    await asyncio.sleep(fate.pause)

    run(main())
    arrivals.sort()
    for i, at in enumerate(arrivals):
        assert sum(at <= other < at + window_s for other in arrivals[i:]) <= quota


def test_first_come_is_first_served_within_a_rank_and_finishing_goes_first() -> None:
    async def main() -> list[str]:
        served: list[str] = []

        async def one_of(rank: Rank, name: str) -> None:
            with await one.admit(rank):
                served.append(name)

        async with opened(quota=1) as one, anyio.create_task_group() as group:
            for name in "abc":
                for rank in (Rank.START, Rank.CONTINUE, Rank.FINISH):
                    group.start_soon(one_of, rank, f"{rank.name}-{name}")
            await asyncio.sleep(0)
        return served

    served = run(main())
    assert served == [
        f"{rank}-{name}" for rank in ("FINISH", "CONTINUE", "START") for name in "abc"
    ]


def test_a_cancelled_waiter_costs_nothing() -> None:
    async def main() -> tuple[int, int, float]:
        loop = asyncio.get_running_loop()
        async with opened(quota=2) as one:
            held = await one.admit()
            held.sent()
            waiters = [asyncio.ensure_future(one.admit()) for _ in range(500)]
            await asyncio.sleep(5)
            for waiter in waiters:
                waiter.cancel()
            await asyncio.sleep(1)
            waiting, heap = one.seen().waiting, len(one._waiters)
            held.answered(200, {})
            began = loop.time()
            await one.admit()
            return waiting, heap, loop.time() - began

    waiting, heap, took = run(main())
    assert waiting == 0
    assert heap < 70
    assert took < 60


def test_a_waiter_cancelled_in_the_moment_it_is_served_gives_its_slot_back() -> None:
    async def main() -> int:
        async with opened() as one:
            waiter = asyncio.ensure_future(one.admit())
            await asyncio.sleep(0)
            while not (one._spare or one._out):  # noqa: ASYNC110 - the very moment
                await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait([waiter])
            await asyncio.sleep(2)
            return one.seen().in_flight

    assert run(main()) == 0


def test_the_first_request_of_a_run_goes_alone() -> None:
    async def main() -> list[int]:
        out: list[int] = []

        async def go() -> None:
            with await one.admit() as slot:
                slot.sent()
                out.append(len(one._out))
                await asyncio.sleep(1)
                slot.answered(200, {})

        async with limiter() as one, anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(go)
        return out

    first, second, *_ = run(main())
    assert (first, second) == (1, 9)


def test_a_429_stops_every_caller_until_its_retry_after() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        served: list[float] = []

        async def go() -> None:
            with await one.admit() as slot:
                served.append(loop.time() - began)
                slot.sent()
                await asyncio.sleep(0.5)
                slot.answered(200, {})

        async with opened() as one, anyio.create_task_group() as group:
            refused = await one.admit()
            refused.sent()
            began = loop.time()
            refused.answered(429, {"Retry-After": "90"})
            for _ in range(5):
                group.start_soon(go)
        assert one.refused == 1
        return served

    served = run(main())
    assert served[0] >= 90
    assert served[0] < 90.1
    assert served[1] > served[0] + 0.4, "the first after a stop goes alone"


def test_spare_slots_are_not_handed_out_after_a_refusal() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with opened(quota=1000) as one:
            slot = await one.admit()
            await asyncio.sleep(0)
            assert one._spare
            slot.sent()
            slot.answered(429, {})
            began = loop.time()
            (await one.admit()).unsent()
            return loop.time() - began

    assert run(main()) == pytest.approx(15, abs=0.1)


def test_several_time_outs_in_a_row_close_a_platform_that_ignores() -> None:
    async def main(*, silent: bool, body: bool) -> tuple[float | None, int]:
        async with opened(silent=silent, quota=4) as one:
            slots = [await one.admit() for _ in range(3)]
            for slot in slots:
                slot.sent()
            await asyncio.sleep(5)
            for slot in slots:
                slot.lost(unanswered=True, body=body)
            await asyncio.sleep(0.1)
            return one.seen().closed_until, one.seen().limit

    assert run(main(silent=True, body=False))[0] is not None
    assert run(main(silent=True, body=False))[1] == 2
    assert run(main(silent=True, body=True)) == (None, 4)
    assert run(main(silent=False, body=False)) == (None, 4)


def test_an_answer_between_time_outs_breaks_the_row() -> None:
    async def main() -> float | None:
        async with opened(silent=True) as one:
            for _ in range(3):
                for _ in range(2):
                    slot = await one.admit()
                    slot.sent()
                    slot.lost(unanswered=True)
                await answer(one)
            return one.seen().closed_until

    assert run(main()) is None


def test_a_full_queue_halves_what_is_in_flight_and_leaves_the_window_alone() -> None:
    async def main() -> None:
        async with opened() as one:
            slots = [await one.admit() for _ in range(20)]
            for slot in slots:
                slot.sent()
            await asyncio.sleep(1)
            for slot in slots[:3]:
                slot.answered(503, {}, queue_full=True)
            seen = one.seen()
            assert (seen.limit, seen.closed_until, one.refused, one.queue_full) == (100, None, 0, 3)
            assert one._most_out == 10
            for slot in slots[3:]:
                slot.answered(200, {})
            assert one._most_out == 27

    run(main())


def test_what_a_former_run_spent_is_not_spent_again() -> None:
    store = MemorySlotStore()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with limiter(store) as one:
            await spend(one, Judge(100, 60), 100)
        began = loop.time()
        async with limiter(store) as one:
            assert one.seen().left == 0
            await answer(one)
        return loop.time() - began

    assert run(main()) > 50


def test_leaving_gives_back_what_was_not_sent_and_holds_what_was() -> None:
    store = MemorySlotStore()

    async def main() -> None:
        async with opened(store) as one:
            kept = [await one.admit() for _ in range(5)]
            kept[0].sent()
        async with limiter(store) as one:
            assert one.seen().held == 2
        kept[1].answered(200, {})

    run(main())


def test_leaving_cancelled_still_settles() -> None:
    store = MemorySlotStore()

    async def main() -> None:
        with anyio.move_on_after(5):
            async with opened(store) as one:
                with await one.admit() as slot:
                    slot.sent()
                    await asyncio.sleep(99)
        async with limiter(store) as one:
            assert one.seen().held == 2
            await asyncio.sleep(LONGEST_S + 61)
            assert repr(one)
        async with limiter(store) as one:
            assert one.seen().held == 0

    run(main())


def test_a_slot_left_without_a_verdict_is_lost_if_sent_else_unsent() -> None:
    async def main() -> None:
        async with opened() as one:
            with await one.admit():
                pass
            with await one.admit() as slot:
                slot.sent()
            await asyncio.sleep(2)
            assert (one.seen().spent, one.seen().in_flight) == (1, 1)

    run(main())


def test_the_platforms_word_is_the_gate() -> None:
    async def main() -> None:
        async with limiter(headers=True) as one:
            wall = int(virtual_clock().wall_at())
            headers = {
                "X-RateLimit-Limit": "100",
                "X-RateLimit-Remaining": "7",
                "X-RateLimit-Reset": str(wall + 30),
            }
            await answer(one, headers=headers)
            await asyncio.sleep(0.1)
            assert (one.seen().gate, one.seen().left, one.seen().others) == (7, 7, 92)

    run(main())


def test_a_refused_token_stops_all_who_wait_and_all_who_come() -> None:
    store = MemorySlotStore()

    async def main() -> None:
        refused = 0

        async def go() -> None:
            nonlocal refused
            try:
                with await one.admit() as slot:
                    slot.sent()
                    await asyncio.sleep(0.1)
                    slot.answered(401, {})
            except TokenRefused:
                refused += 1

        async with limiter(store, token="t") as one, anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(go)
        assert refused == 4
        async with limiter(store, token="t") as one:
            with pytest.raises(TokenRefused, match="profiles check"):
                await one.admit()
            one.token_replaced("u")
            await answer(one)
        await store.forget_refusal("t")
        async with limiter(store, token="t") as one:
            await answer(one)

    run(main())


def test_an_answer_to_a_request_without_the_token_says_nothing_of_the_token() -> None:
    store = MemorySlotStore()

    async def main() -> None:
        async with limiter(store, token="t") as one, limiter(store, token="t") as other:
            for status in (401, 200):
                with await one.admit() as slot:
                    slot.sent()
                    slot.answered(status, {}, keyed=False)
            with await one.admit() as slot:
                slot.sent()
                waiting = asyncio.create_task(other.admit())
                await asyncio.sleep(3)
                assert not waiting.done()
                slot.answered(401, {})
            with pytest.raises(TokenRefused):
                await waiting

    run(main())


def test_a_refusal_of_a_token_is_forgotten_after_an_hour() -> None:
    store = MemorySlotStore()

    async def main() -> None:
        async with limiter(store, token="t") as one:
            await answer(one, status=401)
        await asyncio.sleep(3601)
        async with limiter(store, token="t") as one:
            await answer(one)

    run(main())


class BrokenStore(MemorySlotStore):
    turns = 0

    async def turn(self, key: str, turn: Turn) -> Outcome:
        self.turns += 1
        if self.turns > 1:
            raise QuotaStoreError("the disk is gone")
        return await super().turn(key, turn)


def test_a_store_that_fails_fails_every_caller() -> None:
    async def main() -> None:
        async with limiter(BrokenStore()) as one:
            for _ in range(2):
                with pytest.raises(QuotaStoreError, match="disk is gone"):
                    await one.admit()

    run(main())


def test_two_limiters_on_one_key_spend_one_quota_and_neither_starves() -> None:
    judge = Judge(100, 60)
    store = MemorySlotStore()

    async def main() -> tuple[float, float]:
        async with limiter(store) as one, limiter(store) as other:
            return await asyncio.gather(spend(one, judge, 200), spend(other, judge, 200))

    took = run(main())
    assert judge.refused == []
    assert max(took) < 3 * 62 + 5


def test_how_long_callers_wait_is_told_and_counted() -> None:
    told: list[float] = []

    async def main() -> float:
        async with opened(quota=1, on_wait=told.append) as one:
            await answer(one)
            return one.waited_s

    waited = run(main())
    assert told == [pytest.approx(60, abs=0.2)]
    assert waited == pytest.approx(60, abs=0.3)


def test_fifty_thousand_requests_over_four_hours_take_a_moment() -> None:
    async def main() -> float:
        async with limiter(quota=1000, window_s=300) as one:
            return await spend(one, Judge(1000, 300), 50_000)

    assert run(main()) > 49 * 300
