"""Of several errors at once, the one that matters."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from penstock.core.errors import Conflict, PenstockError, SourceMissing, TokenRefused
from penstock.engine.groups import each, task_group


async def _fail(error: BaseException, after: anyio.Event | None = None) -> None:
    if after is not None:
        with anyio.CancelScope(shield=True):
            await after.wait()
    raise error


async def _together(*errors: BaseException) -> BaseException:
    ready = anyio.Event()
    with pytest.raises(BaseException) as caught:  # noqa: PT011, PT012 - any; a group is a block
        async with task_group() as group:
            for error in errors:
                group.start_soon(_fail, error, ready)
            await anyio.lowlevel.checkpoint()
            ready.set()
    return caught.value


async def test_one_error_is_raised_as_itself() -> None:
    error = Conflict("c")
    assert await _together(error) is error


async def test_what_stops_the_run_is_raised_before_what_fails_a_file() -> None:
    stops: PenstockError = TokenRefused("t")
    assert await _together(Conflict("c"), stops, SourceMissing("s")) is stops


async def test_a_defect_is_raised_before_all() -> None:
    defect = ZeroDivisionError()
    assert await _together(TokenRefused("t"), defect) is defect


async def test_of_equals_the_first_is_raised() -> None:
    first = Conflict("1")
    assert await _together(first, Conflict("2")) is first


async def test_groups_within_groups_are_opened() -> None:
    inner = ExceptionGroup("inner", [Conflict("c"), TokenRefused("t")])
    with pytest.raises(TokenRefused):
        async with task_group() as group:
            group.start_soon(_fail, inner)


async def test_an_error_cancels_the_other_tasks() -> None:
    ended: list[bool] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    with pytest.raises(Conflict):  # noqa: PT012 - a group is a block
        async with task_group() as group:
            group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            raise Conflict("c")
    assert ended == [True]


async def test_a_cancelled_group_is_cancelled_and_no_error() -> None:
    async def work() -> None:
        async with task_group() as group:
            group.start_soon(anyio.sleep_forever)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_widened_begins_with_one_and_doubles_while_it_is_told_to() -> None:
    at_work, most, asked, go = 0, 0, list[int](), anyio.Event()

    async def do(_: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        if at_work == 6:
            go.set()
        await go.wait()
        at_work -= 1

    async def widening(count: int) -> bool:
        await anyio.lowlevel.checkpoint()
        asked.append(count)
        return True

    with anyio.fail_after(5):
        await each(range(20), do, at_once=6, widening=widening)
    assert asked == [1, 2, 4]
    assert most == 6


@pytest.mark.parametrize("turns", range(6))
async def test_what_is_done_by_the_time_it_may_widen_is_not_widened(turns: int) -> None:
    done: list[int] = []
    asked, ended = anyio.Event(), anyio.Event()

    async def do(thing: int) -> None:
        await asked.wait()
        done.append(thing)
        ended.set()

    async def widening(_: int) -> bool:
        asked.set()
        await ended.wait()
        for _ in range(turns):  # of the loop, in one of which the last worker has just ended
            turn = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turn.set_result, None)
            await turn
        return True

    await each([1], do, at_once=4, widening=widening)
    assert done == [1]
