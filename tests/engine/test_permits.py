"""Permits follow the width, and files under way follow the permits."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from penstock.core.model import MIB
from penstock.core.width import Width
from penstock.engine.pacing import Pacer
from penstock.engine.permits import Permits, Room
from virtual import run


async def _link(permits: Permits, bodies: int, rate: float, whole: float) -> None:
    """Bodies of 8 MiB over a line: so many bytes a second each, and over all."""
    left = bodies

    async def work() -> None:
        nonlocal left
        while left:
            left -= 1
            async with permits.body(comes=True) as body:
                await anyio.sleep(0.08)
                for _ in range(32):
                    share = min(rate, whole / max(permits.borrowed_tokens, 1))
                    await anyio.sleep(MIB / 4 / share)
                    body.moved(MIB // 4)

    async with anyio.create_task_group() as group:
        for _ in range(96):
            group.start_soon(work)


def test_permits_grow_on_a_long_line() -> None:
    async def main() -> int:
        permits = Permits(
            Width(least=4, most=64, begin=16, now_s=anyio.current_time()), anyio.current_time
        )
        await _link(permits, 1500, 20e6, 2e9)
        assert permits.borrowed_tokens == 0
        return permits.width.width

    assert run(main()) >= 40


@pytest.mark.parametrize(
    ("waits_s", "rate", "width"),
    [(0.08, 20e6, 16), (0.0005, 20e6, 4), (0.05, 400e6, 4), (5.0, 20e6, 16)],
    ids=["long line", "beside us", "as much as one core takes", "nothing came yet"],
)
def test_a_few_at_first_and_soon_many_where_neither_machine_nor_neighbour_binds(
    waits_s: float, rate: float, width: int
) -> None:
    async def main() -> list[int]:
        seen = []
        permits = Permits(
            Width(least=4, most=64, begin=4, now_s=anyio.current_time()),
            anyio.current_time,
            wide=16,
        )

        async def work() -> None:
            async with permits.body(comes=True) as body:
                await anyio.sleep(waits_s)
                for _ in range(100):
                    body.moved(int(rate / 100))
                    await anyio.sleep(0.01)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(work)
            await anyio.sleep(0.05)
            seen.append(permits.width.width)
            await anyio.sleep(0.1)
            seen.append(permits.width.width)
        return seen

    assert run(main()) == [4, width]


def test_fixed_permits_stay() -> None:
    async def main() -> int:
        permits = Permits.fixed(3, anyio.current_time)
        await _link(permits, 60, 20e6, 2e9)
        return permits.width.width

    assert run(main()) == 3


def test_memory_that_grows_halves_them() -> None:
    async def main() -> int:
        seen = iter([0] + [500 * MIB] * 1000)
        permits = Permits(
            Width(least=4, most=64, begin=16, now_s=anyio.current_time()),
            anyio.current_time,
            memory=lambda: next(seen),
        )
        await _link(permits, 200, 20e6, 2e9)
        return permits.width.width

    assert run(main()) == 4


def test_memory_that_stays_as_it_was_halves_them_once() -> None:
    async def main() -> int:
        seen = iter([0] + [200 * MIB] * 1000)
        permits = Permits(
            Width(least=4, most=64, begin=16, now_s=anyio.current_time()),
            anyio.current_time,
            memory=lambda: next(seen),
        )
        await _link(permits, 200, 20e6, 2e9)
        return permits.width.width

    assert run(main()) == 8


async def test_small_files_never_wait_for_room_and_large_ones_fill_the_permits_twice() -> None:
    permits = Permits.fixed(8)
    room, inside, most = Room(permits), 0, 0

    async def large() -> None:
        nonlocal inside, most
        async with room.of(4):
            inside += 1
            most = max(most, inside)
            async with room.of(1):
                await anyio.lowlevel.checkpoint()
            inside -= 1

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(large)
    assert most == 4


async def test_a_file_larger_than_all_the_room_is_alone() -> None:
    room = Room(Permits.fixed(1))
    with anyio.fail_after(5):
        async with room.of(8), room.of(1):
            pass


@pytest.mark.parametrize("rate", [100 * 1024, 1 << 30])
@pytest.mark.parametrize("bodies", [1, 16])
def test_a_limited_rate_is_smooth(rate: int, bodies: int) -> None:
    """Bytes of every 100 ms, over all bodies: within a step of what the rate says."""

    async def main() -> list[int]:
        pacer = Pacer(rate, anyio.current_time)
        began_s, moved = anyio.current_time(), [0] * 50

        async def body() -> None:
            while anyio.current_time() < began_s + 5:
                tenth = int((anyio.current_time() - began_s) * 10)
                if tenth < 50:
                    moved[tenth] += pacer.step
                await anyio.sleep(pacer.spend(pacer.step))

        async with anyio.create_task_group() as group:
            for _ in range(bodies):
                group.start_soon(body)
        return moved

    moved = run(main())
    step = Pacer(rate, lambda: 0.0).step
    assert sum(moved[1:]) == pytest.approx(rate * 4.9, rel=0.02)
    for tenth in moved[2:-1]:
        assert abs(tenth - rate / 10) <= 2 * step + rate * 0.01
