"""A folder on the platform is made once, by whoever needs it first."""

# ruff: noqa: ASYNC110 - what is waited for happens in code that tells nobody

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from penstock.core.errors import NameRefused
from penstock.core.model import Place
from penstock.engine.folders import Folders
from penstock.simulators import Fault

if TYPE_CHECKING:
    from composing import Compose, World


def below(world: World, path: str) -> Place:
    return Place(world.sim.project, path)


async def test_fifty_that_need_a_folder_make_it_once(compose: Compose) -> None:
    async with compose() as world:
        folders = Folders(world.exchange, below(world, ""))
        came = await asyncio.gather(*(folders.ensure(below(world, "a/b/c")) for _ in range(50)))
        made = world.sim.folders()
        assert sorted(made) == ["a", "a/b", "a/b/c"]
        assert {place.id for place in came} == {made["a/b/c"]}
        assert len(world.sim.calls()) == folders.made == 3


async def test_siblings_share_their_parent(compose: Compose) -> None:
    async with compose() as world:
        folders = Folders(world.exchange, below(world, ""))
        await asyncio.gather(*(folders.ensure(below(world, f"a/{n % 10}")) for n in range(50)))
        assert len(world.sim.folders()) == len(world.sim.calls("POST")) == 11


async def test_what_is_known_is_not_asked_for(compose: Compose) -> None:
    async with compose() as world:
        folder = world.sim.add_folder(world.sim.project, "a")
        folders = Folders(world.exchange, below(world, ""))
        assert folders.known("a") is None
        folders.learn(Place(world.sim.project, "a", folder))
        assert (await folders.ensure(below(world, "a"))).id == folder
        assert (await folders.ensure(below(world, ""))).path == ""
        assert world.sim.log == []


async def test_a_folder_somebody_else_made_meanwhile_is_used(compose: Compose) -> None:
    async with compose() as world:
        folder = world.sim.add_folder(world.sim.project, "a")
        folders = Folders(world.exchange, below(world, ""))
        assert (await folders.ensure(below(world, "a"))).id == folder


async def test_a_lost_answer_makes_no_second_folder(compose: Compose) -> None:
    async with compose() as world:
        world.sim.faults.add(Fault(kind="drop after", method="POST"))
        folders = Folders(world.exchange, below(world, ""))
        made = await folders.ensure(below(world, "a"))
        assert world.sim.folders() == {"a": made.id}
        assert len(world.sim.calls("POST")) == 1


async def test_who_waits_goes_on_where_the_maker_was_cancelled(compose: Compose) -> None:
    async with compose(api_latency_s=0.01) as world:
        folders = Folders(world.exchange, below(world, ""))
        first = asyncio.ensure_future(folders.ensure(below(world, "a")))
        second = asyncio.ensure_future(folders.ensure(below(world, "a")))
        while not world.exchange.total.api_requests:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await second).id == world.sim.folders()["a"]


async def test_a_failure_is_each_caller_s_and_the_next_tries_again(compose: Compose) -> None:
    async with compose() as world:
        folders = Folders(world.exchange, below(world, ""))
        with pytest.raises(NameRefused):
            await folders.ensure(below(world, "x" * 300))
        assert (await folders.ensure(below(world, "a"))).id is not None
