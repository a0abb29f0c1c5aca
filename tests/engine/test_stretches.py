"""Neighbouring ranges come in one answer, and each of them stands by itself."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.model import MIB, Part
from penstock.core.plan import cut
from penstock.engine.front import Front
from penstock.engine.reserving import RESERVED_AT_ONCE, Reserving, open_partial
from penstock.engine.stretches import LARGEST_STRETCH, MOMENT_S, Pace, Settling, Stretch, Stretches

BODY = os.urandom(4500)


@given(
    size=st.integers(1, 5000),
    part_size=st.integers(1, 900),
    had=st.sets(st.integers(1, 60)),
    most=st.lists(st.integers(0, 3000), min_size=1),
)
def test_stretches_hold_what_is_missing_in_order_neighbours_together(
    size: int, part_size: int, had: set[int], most: list[int]
) -> None:
    missing = [part for part in cut(size, part_size) if part.number not in had]
    asked = itertools.cycle(most)
    allowed: list[int] = []

    def more() -> float:
        allowed.append(next(asked))
        return allowed[-1]

    dealt = list(Stretches(missing, more))
    assert [part for stretch in dealt for part in stretch] == missing
    for stretch, room in zip(dealt, allowed, strict=True):
        for part, following in itertools.pairwise(stretch):
            assert part.offset + part.length == following.offset
        assert len(stretch) == 1 or sum(part.length for part in stretch) <= room


def test_a_stream_asks_for_what_it_brings_in_a_moment_and_for_one_range_at_first() -> None:
    pace = Pace()
    assert pace.most() == 0
    pace.brought(10 * MIB, 1.0)
    assert pace.most() == 10 * MIB * MOMENT_S
    pace.brought(100 * MIB, 0.0)
    assert pace.most() == LARGEST_STRETCH


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(1, 4499), max_size=12), breaks=st.integers(0, 11))
def test_each_range_of_a_stretch_is_proved_and_settled_once_and_one_that_broke_off_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], breaks: int
) -> None:
    path = tmp_path_factory.mktemp("stretch") / "file"
    path.write_bytes(BODY)
    parts = cut(len(BODY), 1000)
    front = Front(str(path), len(BODY), 1000, {"sha256"}, None)
    proofs: dict[int, tuple[str | None, str | None]] = {}

    async def settle(part: Part) -> None:
        proofs[part.number] = await front.proof(part)
        front.arrived(part.number)

    async def come() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(front.follow)
            settling = Settling(group, settle)
            stretch = Stretch(parts, front, settling)
            edges = sorted({0, len(BODY), *cuts})
            for index, (first, last) in enumerate(itertools.pairwise(edges)):
                if index == breaks:
                    # What of this range came before came to nothing, and comes again.
                    stretch(first, BODY[first : first + 1])
                    stood = stretch.stood
                    assert (stretch.rest.offset, stretch.rest.length) == (stood, len(BODY) - stood)
                    assert first - stood < 1000
                    stretch(stood, BODY[stood:first])
                stretch(first, BODY[first:last])
                with settling.stream():
                    await stretch.stands(last)
            assert stretch.stood == len(BODY)

    asyncio.run(come())
    assert sorted(proofs) == [1, 2, 3, 4, 5]
    for part in parts:
        digest = hashlib.sha256(BODY[: part.offset + part.length]).hexdigest()
        assert proofs[part.number] == (None, f"sha256:{digest}")
    assert front.digests()["sha256"] == hashlib.sha256(BODY).hexdigest()


async def test_few_ranges_of_a_stretch_wait_for_their_receipts(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    parts = cut(len(BODY), 1000)
    front = Front(str(path), len(BODY), 1000, {"sha256"}, None)
    may, begun = anyio.Event(), list[int]()

    async def settle(part: Part) -> None:
        begun.append(part.number)
        await may.wait()

    async with anyio.create_task_group() as group:
        settling = Settling(group, settle)
        stretch = Stretch(parts, front, settling)

        async def come() -> None:
            with settling.stream():
                for part in parts:
                    end = part.offset + part.length
                    stretch(part.offset, BODY[part.offset : end])
                    await stretch.stands(end)

        group.start_soon(come)
        await anyio.wait_all_tasks_blocked()
        assert begun == [1, 2]
        may.set()
    assert begun == [1, 2, 3, 4, 5]


async def test_nothing_is_written_where_blocks_are_not_reserved_yet(tmp_path: Path) -> None:
    path, size = tmp_path / "file", RESERVED_AT_ONCE + 5
    open_partial(str(path), size, reserved=False)
    reserving, reached = Reserving(str(path), size), list[int]()
    async with anyio.create_task_group() as group:

        async def reach(end: int) -> None:
            await reserving.reach(end)
            reached.append(path.stat().st_blocks * 512)

        group.start_soon(reach, size + 100)
        group.start_soon(reach, 10)
        await anyio.wait_all_tasks_blocked()
        assert not reached
        await reserving.run()
    assert reached[-1] >= size
