"""Who goes first, and how much: callers by rank, runs by weight, actions by what settled."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.actions import ActionCap
from penstock.core.model import Rank
from penstock.engine.limiter import Limiter
from penstock.engine.slots import MemorySlotStore, SlotStore, SqliteSlotStore
from virtual import run, virtual_clock


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SlotStore:
    if request.param == "memory":
        return MemorySlotStore()
    return SqliteSlotStore(tmp_path / "quota.sqlite3")


def limiter(
    store: SlotStore, weight: float = 1.0, *, quota: int = 100, share: float = 1.0
) -> Limiter:
    return Limiter(
        key="k",
        quota=quota,
        window_s=60,
        store=store,
        clock=virtual_clock(),
        headers=False,
        weight=weight,
        share=share,
    )


async def spend_for(one: Limiter, seconds: float) -> int:
    """How many requests a run with more callers than slots gets in so many seconds."""
    served = 0

    async def work() -> None:
        nonlocal served
        while True:
            with await one.admit() as slot:
                slot.sent()
                await asyncio.sleep(0.3)
                slot.answered(200, {})
                served += 1

    workers = [asyncio.ensure_future(work()) for _ in range(64)]
    await asyncio.sleep(seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    return served


def shared(store: SlotStore, *weights: float, seconds: float = 630) -> list[int]:
    async def main() -> list[int]:
        async with limiter(store, weights[0]) as one, limiter(store, weights[1]) as other:
            served = await asyncio.gather(spend_for(one, seconds), spend_for(other, seconds))
        await store.aclose()
        return list(served)

    return run(main())


def test_runs_of_one_weight_get_the_same(store: SlotStore) -> None:
    one, other = shared(store, 1, 1)
    assert one + other >= 1000
    assert abs(one - other) <= 0.1 * (one + other)


def test_runs_that_share_a_key_share_it_by_weight(store: SlotStore) -> None:
    heavy, light = shared(store, 3, 1)
    assert heavy + light >= 1000
    # With more callers than a run's part of N, it is kept less exactly.
    assert heavy / (heavy + light) == pytest.approx(0.75, abs=0.1)


def together(store: SlotStore, *kinds: dict[str, float], seconds: float) -> list[int]:
    """What runs of these weights and shares get of 1000 requests in 60 s, each always hungry."""

    async def main() -> list[int]:
        async with AsyncExitStack() as open_runs:
            runs = [limiter(store, quota=1000, **kind) for kind in kinds]
            for one in runs:
                await open_runs.enter_async_context(one)
            served = await asyncio.gather(*(spend_for(one, seconds) for one in runs))
        await store.aclose()
        return list(served)

    return run(main())


@pytest.mark.parametrize(("weights", "part"), [((3, 1), 0.75), ((1, 1), 0.5), ((10, 1), 10 / 11)])
def test_weights_hold_over_many_windows_of_a_large_quota(
    store: SlotStore, weights: tuple[float, float], part: float
) -> None:
    kinds = [{"weight": weight} for weight in weights]
    heavy, light = together(store, *kinds, seconds=6 * 60 + 30)
    assert heavy + light >= 6900
    assert heavy / (heavy + light) == pytest.approx(part, abs=0.05)


def test_three_runs_share_by_weight(store: SlotStore) -> None:
    kinds = [{"weight": weight} for weight in (5.0, 3.0, 2.0)]
    served = together(store, *kinds, seconds=5 * 60 + 30)
    assert sum(served) >= 5900
    parts = [one / sum(served) for one in served]
    assert parts == pytest.approx([0.5, 0.3, 0.2], abs=0.05)


def test_a_run_with_a_share_moves_beside_one_that_takes_all_it_can(store: SlotStore) -> None:
    whole, part = together(store, {}, {"share": 0.25}, seconds=5 * 60 + 30)
    assert whole + part >= 5900
    assert 0.8 * 0.25 * 6000 <= part <= 0.25 * 6000


def test_two_shares_that_make_a_whole_spend_the_whole(store: SlotStore) -> None:
    more, less = together(store, {"share": 0.6}, {"share": 0.4}, seconds=5 * 60 + 30)
    assert more <= 3600
    assert less <= 2400
    assert more + less >= 5900


def test_runs_of_one_share_spend_it_together_across_restarts(store: SlotStore) -> None:
    async def main() -> int:
        served = 0
        for _ in range(3):
            async with limiter(store, quota=1000, share=0.25) as one:
                served += await spend_for(one, 15)
        await store.aclose()
        return served

    assert run(main()) == 250


def test_a_run_that_ends_leaves_its_part_to_the_other(store: SlotStore) -> None:
    async def main() -> int:
        async with limiter(store, 1, quota=1000) as one:
            async with limiter(store, 3, quota=1000) as other:
                await asyncio.gather(spend_for(one, 100), spend_for(other, 100))
            await spend_for(one, 65)
            served = await spend_for(one, 60)
        await store.aclose()
        return served

    assert run(main()) == 1000


def test_a_run_alone_gets_all_whatever_its_weight(store: SlotStore) -> None:
    async def main() -> int:
        async with limiter(store, 0.1) as one, limiter(store, 9):
            served = await spend_for(one, 130)
        await store.aclose()
        return served

    assert run(main()) == 300


def test_a_caller_that_comes_later_with_a_lower_rank_is_served_later() -> None:
    async def main() -> list[str]:
        served: list[str] = []

        async def go(rank: Rank, name: str) -> None:
            with await one.admit(rank) as slot:
                served.append(name)
                slot.sent()
                await asyncio.sleep(0.1)
                slot.answered(200, {})

        async with limiter(MemorySlotStore()) as one:
            await spend_for(one, 10)
            async with asyncio.TaskGroup() as group:
                for number in range(40):
                    group.create_task(go(Rank.START, f"start {number}"))
                await asyncio.sleep(1)
                for number in range(40):
                    group.create_task(go(Rank.FINISH, f"finish {number}"))
        return served

    expected = [f"{what} {number}" for what in ("finish", "start") for number in range(40)]
    assert run(main()) == expected


def test_actions_begin_with_twenty_unsettled() -> None:
    cap = ActionCap()
    assert [cap.begin() for _ in range(21)] == [*range(1, 21), None]


def test_each_settled_action_allows_one_more() -> None:
    cap = ActionCap()
    cap.begin()
    cap.settled()
    assert (cap.cap, cap.unsettled) == (21, 0)


def test_a_full_queue_lowers_the_cap_once_for_all_that_were_out_together() -> None:
    cap = ActionCap()
    begun = [cap.begin() or 0 for _ in range(20)]
    for action in begun[:7]:
        cap.queue_full(action)
    assert (cap.cap, cap.unsettled) == (15, 13)
    assert [cap.begin() is None for _ in range(3)] == [False, False, True]
    for _ in range(15):
        cap.given_up()
    cap.queue_full(cap.begin() or 0)
    assert cap.cap == 1, "with one unsettled it was full: others fill it"


def test_around_what_was_borne_more_is_tried_slowly_and_beyond_as_before() -> None:
    cap = ActionCap(100)
    begun = [cap.begin() or 0 for _ in range(100)]
    cap.queue_full(begun[-1])
    settled = 0
    reached = {}
    while cap.cap < 150:
        before = cap.cap
        cap.begin()
        cap.settled()
        settled += 1
        if cap.cap != before:
            reached[cap.cap] = settled
    assert reached[90] == 15
    assert reached[109] - reached[91] > 300
    assert reached[149] - reached[111] < 50


@given(st.lists(st.sampled_from(["begin", "settled", "full", "given up"]), max_size=200))
def test_the_cap_is_never_below_one_and_never_passed(events: list[str]) -> None:
    cap = ActionCap()
    out: list[int] = []
    for event in events:
        if event == "begin":
            before = cap.unsettled
            action = cap.begin()
            assert (action is None) == (before >= cap.cap)
            out += [action] if action else []
        elif out:
            action = out.pop(0)
            if event == "full":
                cap.queue_full(action)
            elif event == "settled":
                cap.settled()
            else:
                cap.given_up()
        assert cap.cap >= 1
        assert cap.unsettled == len(out)
