"""Small jobs on files are done together, each with its own outcome."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import anyio
import pytest

from penstock.core.errors import TransferError
from penstock.engine.gathering import Gathered


async def test_jobs_that_come_together_share_a_thread_hop() -> None:
    gathered, threads = Gathered(), list[tuple[int, int]]()

    def work(number: int) -> int:
        threads.append((number, threading.get_ident()))
        return number

    results = await asyncio.gather(*(gathered.do(lambda n=n: work(n)) for n in range(10)))  # type: ignore[misc]
    assert results == list(range(10))
    assert [number for number, _ in threads] == list(range(10))
    assert len({thread for _, thread in threads}) == 1


async def test_one_that_fails_fails_alone() -> None:
    gathered = Gathered()

    def fails() -> int:
        raise TransferError("no")

    good = asyncio.ensure_future(gathered.do(lambda: 1))
    bad = asyncio.ensure_future(gathered.do(fails))
    with pytest.raises(TransferError, match="no"):
        await bad
    assert await good == 1


async def test_a_cancelled_job_is_done_before_its_task_goes_on(tmp_path: Path) -> None:
    gathered, begun, end = Gathered(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert end.wait(10)
        (tmp_path / "done").touch()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(gathered.do, work)
            while not begun.is_set():
                await anyio.lowlevel.checkpoint()
            scope.cancel()
            asyncio.get_running_loop().call_soon(end.set)
    assert (tmp_path / "done").exists()


async def test_a_job_cancelled_while_it_waits_is_done_before_its_task_goes_on() -> None:
    gathered, end, did = Gathered(), threading.Event(), list[str]()
    # The lanes are busy, so that what comes behind waits for its turn.
    busy = []
    for _ in range(2):
        busy.append(asyncio.ensure_future(gathered.do(lambda: end.wait(10))))
        await asyncio.sleep(0)  # It asks,
        await asyncio.sleep(0)  # and its batch begins without those that come later.

    def fails() -> None:
        did.append("failed")
        raise TransferError("nobody is left to tell")

    late = [
        asyncio.ensure_future(gathered.do(each)) for each in (lambda: did.append("done"), fails)
    ]
    await asyncio.sleep(0)
    for task in (*late, *late):
        task.cancel()
        await asyncio.sleep(0)
    assert not any(task.done() for task in late)
    end.set()
    outcomes = await asyncio.gather(*late, return_exceptions=True)
    assert did == ["done", "failed"]
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert await asyncio.gather(*busy) == [True, True]


async def test_a_folder_named_by_several_is_flushed_behind_them(tmp_path: Path) -> None:
    gathered = Gathered()
    names = [tmp_path / str(number) for number in range(5)]
    await asyncio.gather(*(gathered.do(name.touch, str(tmp_path)) for name in names))
    assert all(name.exists() for name in names)
