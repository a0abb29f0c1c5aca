"""With a loop whose clock jumps to its next timer, hours on the simulator take a moment."""

import asyncio
import selectors

import pytest
from aiohttp import ServerDisconnectedError

from coscine_client import simulated as coscine
from driving import simulated
from penstock.simulators import Fault

Events = list[tuple[selectors.SelectorKey, int]]


class JumpingSelector(selectors.DefaultSelector):
    """Where nothing is ready, lets virtual time pass instead of waiting."""

    # Small: added to seconds of the epoch, 100 ns would be lost in rounding.
    now = 0.0

    def select(self, timeout: float | None = None) -> Events:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout + 1e-7
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def epoch() -> float:
    return 1_800_000_000.0 + asyncio.get_running_loop().time()


async def spend_three_windows() -> None:
    loop = asyncio.get_running_loop()
    async with simulated(clock=epoch, quota=10, api_latency_s=1.0) as (sim, client):
        sim.faults.add(Fault(kind="delay", seconds=250))
        began = loop.time()
        assert (await client.call("GET", "/user")).status == 200
        assert 251 <= loop.time() - began < 252
        for _ in range(3):
            while (await client.call("GET", "/user")).status == 200:
                pass
            await asyncio.sleep(sim.quota.reset_at - epoch() + 1e-3)
        assert [window.accepted for window in sim.quota.windows] == [10, 10, 10]
        assert [window.refused for window in sim.quota.windows] == [1, 1, 1]


async def download_slowly() -> None:
    loop = asyncio.get_running_loop()
    async with simulated(clock=epoch, bandwidth=1000) as (sim, client):
        sim.add_file(sim.project, "a", bytes(100_000))
        began = loop.time()
        assert (await client.request("GET", await client.download_url("a"))).status == 200
        assert 100 <= loop.time() - began < 101


async def wait_out_a_silence() -> None:
    loop = asyncio.get_running_loop()
    settings = {"over_quota": "hang", "hang_s": 200.0, "penalty_s": 300.0}
    async with coscine(clock=epoch, quota=5, **settings) as (sim, client):
        for _ in range(5):
            assert (await client.call("GET", "/self")).status == 200
        began = loop.time()
        with pytest.raises(ServerDisconnectedError):
            await client.call("GET", "/self")
        assert 200 <= loop.time() - began < 201
        await asyncio.sleep(100)
        assert (await client.call("GET", "/self")).status == 200
        assert (sim.quota.accepted, sim.quota.refused) == (6, 1)


def test_windows_pass_in_virtual_time() -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(spend_three_windows())


def test_bandwidth_holds_in_virtual_time() -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(download_slowly())


def test_silence_is_waited_out_in_virtual_time() -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(wait_out_a_silence())
