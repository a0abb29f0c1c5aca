"""What every store promises, kept by Redis; then what it adds: machines, deaths, lost memory."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine import test_slots as promises
from penstock.core.errors import QuotaStoreError, TokenRefused, UsageError
from penstock.core.window import NS_PER_S, Terms
from penstock.engine.clock import Clock
from penstock.engine.limiter import Limiter
from penstock.engine.slots import Turn
from penstock.engine.slots_redis import RedisSlotStore
from redis_server import RedisServer

S = NS_PER_S
SECRET = "pa55w0rd-of-redis"
# A key begins on a server no younger than this.
YOUNG_S = 3.0

OF_EVERY_STORE = [
    promise
    for name, promise in vars(promises).items()
    if name.startswith("test_") and "store" in inspect.signature(promise).parameters
]


@pytest.fixture(scope="module")
def long_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    started = RedisServer(tmp_path_factory.mktemp("redis") / "data", password=SECRET).start()
    time.sleep(YOUNG_S)
    yield started
    started.close()


@pytest.fixture
def server(long_running: RedisServer) -> RedisServer:
    long_running.ask("FLUSHALL")
    return long_running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers of the test's own, to be killed."""
    started: list[RedisServer] = []

    def start(**options: Any) -> RedisServer:  # noqa: ANN401 - the server's
        server = RedisServer(tmp_path / f"redis{len(started)}", **options).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


@pytest.mark.parametrize("promise", OF_EVERY_STORE, ids=lambda promise: promise.__name__)
def test_what_every_store_promises_is_kept(
    server: RedisServer,
    promise: Callable[[RedisSlotStore], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(promises, "run", asyncio.run)
    promise(RedisSlotStore(server.url, told_time=True))


# One Redis, several holders.


def limiter(store: RedisSlotStore, **options: Any) -> Limiter:  # noqa: ANN401 - the limiter's
    options = {"quota": 5, "window_s": 1.0, "longest_delay_s": 0.3, "headers": False, **options}
    return Limiter(key="k", store=store, clock=Clock.running(), **options)


async def spend(one: Limiter, requests: int) -> list[float]:
    arrivals = []
    for _ in range(requests):
        with await one.admit() as slot:
            slot.sent()
            arrivals.append(time.monotonic())
            slot.answered(200, {})
    return arrivals


def never_more_than(quota: int, arrivals: list[float], window_s: float) -> bool:
    arrivals = sorted(arrivals)
    return all(
        later - at >= window_s for at, later in zip(arrivals, arrivals[quota:], strict=False)
    )


async def test_a_machine_whose_clock_is_hours_off_shares_the_window(server: RedisServer) -> None:
    right, wrong = RedisSlotStore(server.url), RedisSlotStore(server.url)
    running = Clock.running()
    off = Clock(lambda: running.now_s() + 5e4, lambda: running.wall_at() - 9000, boot="other")
    one = Limiter(key="k", quota=5, window_s=1.0, store=right, clock=running, longest_delay_s=0.1)
    two = Limiter(key="k", quota=5, window_s=1.0, store=wrong, clock=off, longest_delay_s=0.1)
    async with one, two:
        arrivals = await asyncio.gather(spend(one, 8), spend(two, 8))
    await right.aclose()
    await wrong.aclose()
    together = [at for some in arrivals for at in some]
    assert never_more_than(5, together, 1.0)
    assert max(together) - min(together) < 4.5


async def test_a_store_that_is_closed_leaves_its_slots_to_count_as_a_dead_holders(
    server: RedisServer,
) -> None:
    terms = Terms(2, S, S // 2)
    left, stays = RedisSlotStore(server.url), RedisSlotStore(server.url)
    clock = Clock.running()
    await left.open("k", terms, clock)
    await stays.open("k", terms, clock)
    assert len((await left.turn("k", Turn(0, terms, want=2))).slots) == 2
    await left.aclose()
    full = await stays.turn("k", Turn(0, terms, want=1))
    assert (full.slots, full.why) == ((), "window")
    assert full.next_ns == pytest.approx(1.5 * S, abs=0.3 * S)
    await stays.aclose()


async def test_who_missed_its_beats_is_dead_and_its_slots_are_freed_when_that_is_safe(
    server: RedisServer,
) -> None:
    terms = Terms(2, S // 2, S // 2)
    silent = RedisSlotStore(server.url, beat_s=60)
    stays = RedisSlotStore(server.url, dead_after_s=1)
    clock = Clock.running()
    await silent.open("k", terms, clock)
    await stays.open("k", terms, clock)
    await silent.turn("k", Turn(0, terms, want=2))
    took = time.monotonic()
    while not (await stays.turn("k", Turn(0, terms, want=1))).slots:  # noqa: ASYNC110 - a server's
        await asyncio.sleep(0.02)
    assert 2.0 <= time.monotonic() - took < 2.6
    await silent.aclose()
    await stays.aclose()


async def test_a_holder_taken_for_dead_counts_again_with_its_next_turn(server: RedisServer) -> None:
    terms = Terms(2, S // 2, 0)
    frozen = RedisSlotStore(server.url, beat_s=60)
    other = RedisSlotStore(server.url, dead_after_s=0.5)
    clock = Clock.running()
    await frozen.open("k", terms, clock)
    await other.open("k", terms, clock)
    (slot, _) = (await frozen.turn("k", Turn(0, terms, want=2))).slots
    while not (await other.turn("k", Turn(0, terms))).count.next_free_ns:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.05)
    held = await frozen.turn("k", Turn(0, terms, held=((slot, 50 * S),)))
    assert held.count.used >= 2
    await asyncio.sleep(0.6)
    assert (await other.turn("k", Turn(0, terms, want=2))).slots == ()
    await frozen.aclose()
    await other.aclose()


async def test_a_refused_token_is_refused_on_another_machine_without_a_request(
    server: RedisServer,
) -> None:
    here, there = RedisSlotStore(server.url), RedisSlotStore(server.url)
    async with limiter(here, token="t") as one:
        with await one.admit() as slot:
            slot.sent()
            slot.answered(401, {})
    async with limiter(there, token="t") as two:
        with pytest.raises(TokenRefused):
            await two.admit()
    await there.forget_refusal("t")
    assert await here.token_refused_at("t") is None
    await here.aclose()
    await there.aclose()


async def test_looking_changes_nothing_and_names_who_spends(server: RedisServer) -> None:
    terms = Terms(10, 60 * S, S)
    store, looker = RedisSlotStore(server.url), RedisSlotStore(server.url)
    seen = await looker.seen("k", terms, profile="p", token="t")
    assert (seen.count.used, seen.spenders) == (0, ())
    assert server.ask("DBSIZE") == b":0\r\n"
    await store.open("k", terms, Clock.running(), profile="p")
    slots = (await store.turn("k", Turn(0, terms, want=4))).slots
    await store.turn("k", Turn(0, terms, held=((slots[0], 60 * S),)))
    seen = await looker.seen("replaced", terms, profile="p", token="t")
    assert (seen.count.used, seen.count.in_flight) == (4, 3)
    (spender,) = seen.spenders
    assert (spender.pid, spender.in_flight) == (os.getpid(), 3)
    await store.aclose()
    await looker.aclose()


# A Redis that is away, or lost its memory.


async def test_a_redis_that_is_not_there_is_an_error_that_says_so_without_its_password() -> None:
    for url in ("redis://me:pa55w0rd@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password=pa55w0rd"):
        store = RedisSlotStore(url, lost_after_s=0.3)
        with pytest.raises(QuotaStoreError, match=r"redis://127\.0\.0\.1:1.*is lost.*--quota") as e:
            await store.token_refused_at("t")
        assert "pa55w0rd" not in str(e.value)
        await store.aclose()


async def test_a_wrong_password_is_an_error_at_once(server: RedisServer) -> None:
    store = RedisSlotStore(server.url.replace(SECRET, "wr0ng-pass"))
    began = time.monotonic()
    with pytest.raises(QuotaStoreError, match="does not serve") as error:
        await store.open("k", Terms(1, S), Clock.running())
    assert time.monotonic() - began < 1
    assert "wr0ng-pass" not in str(error.value)
    await store.aclose()


def test_what_is_no_url_of_a_redis_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="redis://HOST:PORT/0") as error:
        RedisSlotStore("redis://:s3cret@host:port/0")
    assert "s3cret" not in str(error.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(UsageError, match=r"penstock\[redis\]") as error:
        RedisSlotStore("redis://:s3cret@host/0")
    assert "s3cret" not in str(error.value)


async def test_a_redis_that_hangs_is_lost_after_a_bounded_wait(
    fresh: Callable[..., RedisServer],
) -> None:
    server = fresh()
    store = RedisSlotStore(server.url, lost_after_s=1)
    async with limiter(store) as one:
        await spend(one, 1)
        server.freeze()
        began = time.monotonic()
        with pytest.raises(QuotaStoreError, match="is lost"):
            await spend(one, 50)
        assert time.monotonic() - began < 2.5
    await store.aclose()


async def test_a_short_absence_is_waited_out(fresh: Callable[..., RedisServer]) -> None:
    server = fresh(keeps=True)
    store = RedisSlotStore(server.url)
    async with limiter(store, quota=20) as one:
        arrivals = await spend(one, 10)
        server.kill()
        waiting = asyncio.ensure_future(spend(one, 40))
        await asyncio.sleep(0.5)
        server.start()
        arrivals += await asyncio.wait_for(waiting, 15)
    await store.aclose()
    assert never_more_than(20, arrivals, 1.0)


async def test_a_redis_that_lost_its_memory_lets_nobody_spend_a_window_twice(
    fresh: Callable[..., RedisServer],
) -> None:
    server = fresh()
    stores = [RedisSlotStore(server.url) for _ in range(2)]
    one, two = (limiter(store) for store in stores)
    async with one, two:
        spent = [*await asyncio.gather(spend(one, 2), spend(two, 3))]
        server.kill()
        server.start()
        late = RedisSlotStore(server.url)
        async with limiter(late) as three:
            spent += await asyncio.gather(spend(one, 4), spend(two, 4), spend(three, 4))
    for store in (*stores, late):
        await store.aclose()
    assert never_more_than(5, [at for some in spent for at in some], 1.0)


async def test_a_flushed_redis_lets_nobody_spend_a_window_twice(server: RedisServer) -> None:
    store = RedisSlotStore(server.url)
    async with limiter(store) as one:
        arrivals = await spend(one, 5)
        slot = await one.admit()
        slot.sent()
        arrivals.append(time.monotonic())
        server.ask("FLUSHALL")
        arrivals += await spend(one, 4)
        server.ask("SCRIPT", "FLUSH")
        arrivals += await spend(one, 6)
        slot.answered(200, {})
    await store.aclose()
    assert never_more_than(5, arrivals, 1.0)


async def test_a_cancelled_turn_has_happened_in_redis(server: RedisServer) -> None:
    terms = Terms(10, 60 * S)
    store = RedisSlotStore(server.url)
    await store.open("k", terms, Clock.running())
    turn = asyncio.ensure_future(store.turn("k", Turn(0, terms, want=4)))
    await asyncio.sleep(0)
    turn.cancel()
    await asyncio.wait([turn])
    assert (await store.turn("k", Turn(0, terms))).count.used == 4
    await store.aclose()


# Processes.

_WORKER = """
import asyncio, json, random, sys, time
from penstock.core.errors import QuotaStoreError
from penstock.engine.clock import Clock
from penstock.engine.limiter import Limiter
from penstock.engine.slots_redis import RedisSlotStore

async def main(url, job):
    store = RedisSlotStore(url, lost_after_s=job.get("lost_s", 15), dead_after_s=job["dead_s"])
    arrivals, error = [], ""
    async with Limiter(
        key="k", quota=job["quota"], window_s=job["window_s"], store=store, clock=Clock.running(),
        headers=False, longest_delay_s=job["longest_s"], token="t",
    ) as one:
        async def work(requests):
            nonlocal error
            for _ in range(requests):
                try:
                    slot = await one.admit()
                except QuotaStoreError as lost:
                    error = str(lost)
                    return
                with slot:
                    slot.sent()
                    if job.get("hang") or not arrivals:
                        print(json.dumps({"sent": time.monotonic()}), flush=True)
                    if job.get("hang"):
                        await asyncio.sleep(99)
                    await asyncio.sleep(random.uniform(0.001, 0.01))
                    arrivals.append(time.monotonic())
                    slot.answered(200, {})
        await asyncio.gather(*(work(job["requests"] // 8) for _ in range(8)))
    await store.aclose()
    print(json.dumps({"arrivals": arrivals, "error": error}), flush=True)

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


@contextmanager
def processes(
    url: str,
    count: int,
    **job: Any,  # noqa: ANN401 - JSON
) -> Iterator[list[subprocess.Popen[str]]]:
    job = {"window_s": 1.0, "longest_s": 0.3, "dead_s": 2, **job}
    command = [sys.executable, "-c", _WORKER, url, json.dumps(job)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ended(started: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    said = [process.communicate(timeout=60)[0].splitlines()[-1] for process in started]
    assert all(process.returncode == 0 for process in started)
    return [json.loads(line) for line in said]


def first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


def test_several_processes_spend_one_quota_through_redis_and_all_progress(
    server: RedisServer,
) -> None:
    with processes(server.url, 4, quota=120, requests=120) as started:
        said = ended(started)
    arrivals = [at for one in said for at in one["arrivals"]]
    assert len(arrivals) == 480
    assert never_more_than(120, arrivals, 1.0)
    # Four windows of work: three must pass, and little more.
    assert max(arrivals) - min(arrivals) < 3 * 1.02 + 1.0


def test_a_server_killed_in_the_middle_is_never_a_free_for_all(
    fresh: Callable[..., RedisServer],
) -> None:
    server = fresh()
    with processes(server.url, 3, quota=60, requests=120) as started:
        for process in started:
            first_line(process)
        server.kill()
        time.sleep(0.3)
        server.start()
        said = ended(started)
    arrivals = [at for one in said for at in one["arrivals"]]
    assert [one["error"] for one in said] == ["", "", ""]
    assert len(arrivals) == 360
    assert never_more_than(60, arrivals, 1.0)


def test_a_server_that_stays_away_ends_every_process_with_the_reason(
    fresh: Callable[..., RedisServer],
) -> None:
    server = fresh()
    with processes(server.url, 3, quota=60, requests=240, lost_s=2) as started:
        for process in started:
            first_line(process)
        server.kill()
        said = ended(started)
    assert all("is lost" in one["error"] for one in said)
    assert never_more_than(60, [at for one in said for at in one["arrivals"]], 1.0)


def test_what_a_killed_process_held_in_redis_counts_until_it_cannot_arrive(
    server: RedisServer,
) -> None:
    with processes(server.url, 1, quota=1, requests=8, hang=True) as started:
        first_line(started[0])
        started[0].send_signal(signal.SIGKILL)
        started[0].wait()
        killed = time.monotonic()

    async def main() -> float:
        store = RedisSlotStore(server.url, dead_after_s=2)
        async with limiter(store, quota=1) as one:
            (await one.admit()).unsent()
            freed = time.monotonic()
        await store.aclose()
        return freed

    # Its last beat, dead after 2 s, the longest delay, the window; and a poll.
    assert 2.2 <= asyncio.run(main()) - killed < 4.0
