import asyncio

import aiohttp
import pytest

from coscine_client import Client, simulated
from driving import Clock
from penstock.simulators import SlidingWindow


async def ask(client: Client, times: int) -> list[int]:
    return [(await client.call("GET", "/self")).status for _ in range(times)]


def test_a_sliding_window_takes_n_in_any_t() -> None:
    clock = Clock()
    window = SlidingWindow(limit=2, window_s=60, clock=clock)
    assert [window.admit(), window.remaining] == [True, 1]
    clock.now += 30
    assert [window.admit(), window.admit()] == [True, False]
    clock.now += 30
    assert [window.admit(), window.admit()] == [True, False]
    assert (window.accepted, window.refused) == (3, 2)


async def test_over_the_quota_connections_are_dropped_until_the_penalty_is_over() -> None:
    clock = Clock()
    async with simulated(clock=clock, quota=3, penalty_s=100.0) as (sim, client):
        assert await ask(client, 3) == [200, 200, 200]
        for _ in range(2):
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await ask(client, 1)
        clock.now += 99
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await ask(client, 1)
        clock.now += 1
        assert await ask(client, 3) == [200, 200, 200]
        assert (sim.quota.accepted, sim.quota.refused, sim.quota.penalised) == (6, 3, 2)
        assert [exchange.status for exchange in sim.log[3:6]] == [0, 0, 0]
        assert not any(exchange.counted for exchange in sim.log[3:6])


@pytest.mark.parametrize("status", ["429", "503"])
async def test_a_refusal_in_words_has_no_header_that_tells_when(status: str) -> None:
    async with simulated(quota=1, over_quota=status) as (_, client):
        await ask(client, 1)
        answer = await client.call("GET", "/self")
        assert answer.status == int(status)
        assert answer.body == b""
        told = {name.lower() for name in answer.headers}
        assert not {"retry-after", "x-ratelimit-reset", "ratelimit"} & told


async def test_it_may_be_silent_before_it_hangs_up() -> None:
    async with simulated(quota=1, over_quota="hang", hang_s=0.2) as (sim, client):
        await ask(client, 1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await ask(client, 1)
        assert loop.time() - began >= 0.2
        assert sim.log[-1].status == 0


async def test_a_fixed_window_begins_with_its_first_call() -> None:
    clock = Clock()
    settings = {"quota": 2, "window": "fixed", "penalty_s": 0.0, "over_quota": "429"}
    async with simulated(clock=clock, **settings) as (_, client):
        await ask(client, 1)
        clock.now += 59
        assert await ask(client, 2) == [200, 429]
        clock.now += 1
        assert await ask(client, 3) == [200, 200, 429]


async def test_by_address_wrong_tokens_count_as_well() -> None:
    async with simulated(quota=2, quota_key="ip", over_quota="429") as (sim, client):
        stranger = {"Authorization": "Bearer wrong"}
        url = f"{sim.endpoint}/self"
        assert [(await client.request("GET", url, headers=stranger)).status for _ in range(3)] == [
            401,
            401,
            429,
        ]
        assert await ask(client, 1) == [429]


async def test_what_others_spend_and_provoke_is_felt() -> None:
    clock = Clock()
    async with simulated(clock=clock, quota=10, over_quota="429") as (sim, client):
        sim.quota.spend(8)
        assert await ask(client, 2) == [200, 200]
        clock.now += 60
        sim.quota.punish(30)
        assert await ask(client, 1) == [429]
        clock.now += 30
        assert await ask(client, 1) == [200]


async def test_storage_is_not_counted_and_answers_carry_no_quota() -> None:
    async with simulated(quota=1) as (sim, client):
        sim.add_file("a", b"1")
        (item,) = (await client.list()).data
        url = item["actions"]["download"]["url"]
        statuses = [(await client.request("GET", url)).status for _ in range(3)]
        assert (statuses, len(sim.calls())) == ([200] * 3, 1)
