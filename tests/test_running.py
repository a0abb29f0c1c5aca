"""`penstock.running`: workspaces run for a block, and are paused whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import penstock
from clouds import environ_of
from penstock.core.events import ActionAccepted
from penstock.simulators import Surf, SurfSettings


@pytest.fixture
async def sim() -> AsyncIterator[Surf]:
    settings = SurfSettings(workspaces=0, pause_s=0.2, resume_s=0.3)
    async with Surf(settings) as made:
        for name in ("a", "b"):
            made.add_workspace(name, "paused")
        yield made


def statuses(sim: Surf) -> set[str]:
    return {each.status for each in sim.workspaces().values()}


def options(sim: Surf, home: Path) -> dict[str, Any]:
    return {"environ": environ_of(sim, home), "timeout": "10s"}


async def test_they_run_within_the_block_and_are_paused_after_it(sim: Surf, tmp_path: Path) -> None:
    async with penstock.running(list(sim.workspaces()), **options(sim, tmp_path)) as resumed:
        assert statuses(sim) == {"running"}
        assert resumed.summary.settled == 2
    assert statuses(sim) == {"paused"}


async def test_an_error_of_the_block_goes_on_and_they_are_paused(sim: Surf, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with penstock.running(list(sim.workspaces()), **options(sim, tmp_path)):
            _ = 1 / 0
    assert statuses(sim) == {"paused"}


async def test_a_cancellation_does_not_reach_the_pausing(sim: Surf, tmp_path: Path) -> None:
    with anyio.move_on_after(5) as scope:
        async with penstock.running(list(sim.workspaces()), **options(sim, tmp_path)):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert statuses(sim) == {"paused"}


async def test_no_second_cancellation_reaches_the_pausing_either(sim: Surf, tmp_path: Path) -> None:
    inside = anyio.Event()

    async def block() -> None:
        async with penstock.running(list(sim.workspaces()), **options(sim, tmp_path)):
            inside.set()
            await anyio.sleep_forever()

    task = asyncio.create_task(block())
    await inside.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert statuses(sim) == {"paused"}


async def test_cut_off_while_they_are_resumed_those_that_would_yet_run_are_paused(
    sim: Surf, tmp_path: Path
) -> None:
    def accepted(event: object) -> None:
        if isinstance(event, ActionAccepted):
            task.cancel()

    async def block() -> None:
        given = options(sim, tmp_path)
        async with penstock.running(list(sim.workspaces()), on_event=accepted, **given):
            pytest.fail("the block was entered")

    # Until the queue comes to it, a workspace that was told to resume looks paused.
    sim.change(served_per_s=4.0, resume_s=0.3)
    task = asyncio.create_task(block())
    with pytest.raises(asyncio.CancelledError):
        await task
    resumed = [each.path for each in sim.log if "/resume/" in each.path]
    assert resumed
    assert len(set(resumed)) == len(resumed)
    paused = [each.path for each in sim.log if "/pause/" in each.path]
    assert len(paused) == len(resumed)
    assert statuses(sim) == {"paused"}


async def test_where_one_does_not_come_to_run_the_others_are_paused_again(
    sim: Surf, tmp_path: Path
) -> None:
    first, *_ = sim.workspaces()
    sim.fail(first, "resume", "Timeout waiting for VM to resume.", status="paused")
    with pytest.raises(penstock.ActionsFailed, match="Timeout waiting for VM"):
        async with penstock.running(list(sim.workspaces()), **options(sim, tmp_path)):
            pytest.fail("the block was entered")
    assert statuses(sim) == {"paused"}


async def test_one_that_cannot_be_paused_is_told(sim: Surf, tmp_path: Path) -> None:
    first, *_ = sim.workspaces()
    sim.fail(first, "pause", "stuck", status="running")
    with pytest.raises(penstock.ActionsFailed, match="could not be paused: a: stuck"):
        async with penstock.running(list(sim.workspaces()), **options(sim, tmp_path)):
            pass


async def test_the_block_is_bounded_where_pausing_never_settles(sim: Surf, tmp_path: Path) -> None:
    given = options(sim, tmp_path) | {"timeout": "1s"}
    with pytest.raises(penstock.ActionsFailed, match="not settled within"):
        async with penstock.running(list(sim.workspaces()), **given):
            sim.change(pause_s=3600.0)


async def test_none_to_run_is_a_usage_error(sim: Surf, tmp_path: Path) -> None:
    with pytest.raises(penstock.UsageError):
        async with penstock.running([], **options(sim, tmp_path)):
            pass
