"""Hours of quota in seconds: nothing is refused, and nothing is left unspent.

The clock jumps (`virtual`), the engine is the real one: once with the simulator behind real
sockets, once with a server that only counts, for many more requests.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right

import anyio
import pytest

from penstock.config import Token
from penstock.core.model import Flow, Request, Response
from penstock.engine.exchange import Credentials, Exchange
from penstock.engine.limiter import Limiter
from penstock.engine.permits import Permits
from penstock.engine.slots import MemorySlotStore
from penstock.engine.transport import Transport
from penstock.platforms.sevenbridges import SevenBridges as Platform
from penstock.simulators import SevenBridges, SevenBridgesSettings
from virtual import EPOCH, run, virtual_clock

AT_ONCE = 64


def least_s(requests: int, quota: int, window_s: float) -> float:
    """No sooner can so many requests end."""
    return (requests - 1) // quota * window_s


@pytest.mark.slow
def test_a_hundred_thousand_requests_over_hours_are_never_refused() -> None:
    quota, window_s, requests = 1000, 300.0, 100_000
    arrivals: list[float] = []
    refused = 0

    async def main() -> float:
        loop, chance = asyncio.get_running_loop(), random.Random(1)
        began, turns = loop.time(), iter(range(requests))

        async def work(one: Limiter) -> None:
            nonlocal refused
            for _ in turns:
                with await one.admit() as slot:
                    slot.sent()
                    await asyncio.sleep(chance.uniform(0.02, 0.4))
                    at = loop.time()
                    spent = len(arrivals) - bisect_right(arrivals, at - window_s)
                    refused += spent >= quota
                    arrivals.append(at)
                    await asyncio.sleep(chance.uniform(0.02, 0.4))
                    slot.answered(429 if spent >= quota else 200, {})

        async with (
            Limiter(
                key="k",
                quota=quota,
                window_s=window_s,
                store=MemorySlotStore(),
                clock=virtual_clock(),
            ) as one,
            anyio.create_task_group() as group,
        ):
            for _ in range(AT_ONCE):
                group.start_soon(work, one)
        return loop.time() - began

    took = run(main())
    assert refused == 0
    assert took > 8 * 3600
    assert least_s(requests, quota, window_s) / took > 0.995 * window_s / (window_s + 0.42)


@pytest.mark.slow
def test_ten_thousand_requests_through_sockets_are_never_refused() -> None:
    quota, window_s, requests = 500, 60.0, 10_000

    async def nobody() -> Token | None:
        return None

    def ask(platform: Platform) -> Flow[Response]:
        return (yield Request("GET", f"{platform.endpoint}/user"))

    async def main() -> tuple[float, int, int]:
        loop = asyncio.get_running_loop()
        settings = SevenBridgesSettings(quota=quota, window_s=window_s, api_latency_s=0.1)
        turns = iter(range(requests))
        async with SevenBridges(settings, clock=lambda: EPOCH + loop.time()) as sim:
            platform, clock, token = Platform(sim.endpoint), virtual_clock(), Token(sim.token)
            began = loop.time()
            async with (
                Transport(stall_timeout_s=60.0) as transport,
                Limiter(
                    key="k",
                    quota=quota,
                    window_s=window_s,
                    store=MemorySlotStore(),
                    clock=clock,
                    token=token.fingerprint(),
                ) as limiter,
            ):
                exchange = Exchange(
                    platform,
                    credentials=Credentials("sim", token, nobody),
                    limiter=limiter,
                    transport=transport,
                    permits=Permits.fixed(AT_ONCE),
                    clock=clock,
                )

                async def work() -> None:
                    for _ in turns:
                        await exchange.run(ask(platform))

                async with anyio.create_task_group() as group:
                    for _ in range(AT_ONCE):
                        group.start_soon(work)
            return loop.time() - began, sim.quota.accepted, sim.quota.refused

    took, accepted, refused = run(main())
    assert (accepted, refused) == (requests, 0)
    # Headers cost each window its Reset's rounding and one probe.
    assert least_s(requests, quota, window_s) / took > 0.95
