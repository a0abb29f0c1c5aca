"""One quota shared by runs: over a Redis, over its loss, and over machines that share a file."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.api.opening import settings_of
from penstock.core.errors import QuotaStoreError, UsageError
from penstock.core.events import Event, Note
from penstock.core.window import NS_PER_S, Terms
from penstock.engine.clock import Clock
from penstock.engine.limiter import Limiter
from penstock.engine.slots import MemorySlotStore, Opened, Outcome, SqliteSlotStore, Turn
from penstock.engine.slots_fallback import FallbackSlotStore
from penstock.session import Folders, open_session
from redis_server import RedisServer
from virtual import run, virtual_clock
from worlds import World

S = NS_PER_S


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.close()


def notes(told: list[Event]) -> list[str]:
    return [event.message for event in told if isinstance(event, Note)]


async def test_runs_of_several_machines_spend_one_quota_through_redis(
    make_world: Callable[..., Any], redis: RedisServer
) -> None:
    world: World = await make_world(quota=30, window_s=2)
    homes = []
    for machine in range(3):
        home = world.home / f"machine{machine}"
        (home / "src").mkdir(parents=True)
        for number in range(8):
            (home / "src" / f"m{machine}-{number}").write_bytes(b"x" * 10)
        homes.append(home)

    async def one(home: Path) -> penstock.Report:
        environ = {
            **world.environ,
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
        }
        return await world.copy(
            home / "src", f"{world.remote}/", environ=environ, quota_store=redis.url
        )

    reports = await asyncio.gather(*map(one, homes))
    assert [report.exit_code for report in reports] == [0, 0, 0]
    refused = [report.summary.rejected_by_quota["cavatica"] for report in reports]
    assert refused == [0, 0, 0]
    assert len(world.sim.files()) == 24
    (use,) = await penstock.quota("cavatica", quota_store=redis.url, environ=world.environ)
    assert 0 < use.held <= 30


async def test_a_profile_s_share_holds_where_the_command_says_nothing(world: World) -> None:
    config = world.home / "shares.toml"
    config.write_text('[profiles.cavatica]\nshare = "1/100"\n')
    (use,) = await penstock.quota("cavatica", config=config, environ=world.environ)
    assert (use.limit, use.share) == (100, 0.01)
    (use,) = await penstock.quota(
        "cavatica", config=config, quota_share="1/10", environ=world.environ
    )
    assert use.limit == 1000


async def test_another_machine_on_the_same_network_file_is_exit_2_with_the_ways_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net" / "quota.sqlite3"
    settings = settings_of(None, world.environ)

    async def session() -> None:
        store = SqliteSlotStore(path, network=True)
        try:
            async with open_session(
                settings.profile("cavatica"),
                settings,
                folders=Folders(tmp_path, tmp_path),
                emit=lambda _: None,
                clock=Clock.running(),
                store=store,
            ) as opened:
                await opened.exchange.run(opened.exchange.platform.list_containers(None))
        finally:
            await store.aclose()

    await session()
    asked = world.asked()
    monkeypatch.setattr("platform.node", lambda: "another")
    with pytest.raises(UsageError, match=r"redis://.*--quota-share 1/N"):
        await session()
    assert world.asked() == asked


async def test_a_network_file_system_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    monkeypatch.setattr("penstock.quotas.on_network", lambda _: True)
    await penstock.list_("cavatica:", environ=world.environ, on_event=told.append)
    (note,) = notes(told)
    assert "network file system" in note
    assert "redis://" in note


# The fallback.


class Losable(MemorySlotStore):
    """A shared store that can be lost."""

    lost = False

    def _check(self) -> None:
        if self.lost:
            raise QuotaStoreError("the quota store redis://host is lost; nothing may be spent")

    async def open(self, key: str, terms: Terms, clock: Clock, *, profile: str = "") -> Opened:
        self._check()
        opened = await super().open(key, terms, clock, profile=profile)
        return Opened(opened.key, opened.offset_ns + 12345 * S)

    async def turn(self, key: str, turn: Turn) -> Outcome:
        self._check()
        return await super().turn(key, turn)

    async def token_refused_at(self, token: str, now_at: float | None = None) -> float | None:
        self._check()
        return await super().token_refused_at(token, now_at)


async def spend(one: Limiter, requests: int) -> list[float]:
    arrivals = []
    for _ in range(requests):
        with await one.admit() as slot:
            slot.sent()
            arrivals.append(asyncio.get_running_loop().time())
            slot.answered(200, {})
    return arrivals


def test_machines_that_lose_their_store_stay_within_the_quota_together() -> None:
    told: list[str] = []

    async def main() -> list[float]:
        shared = Losable()
        stores = [FallbackSlotStore(shared, MemorySlotStore(), 0.5, told.append) for _ in range(2)]
        limiters = [
            Limiter(
                key="k", quota=20, window_s=60, store=store, clock=virtual_clock(), headers=False
            )
            for store in stores
        ]
        arrivals = []
        async with limiters[0], limiters[1]:
            for lost in (False, True):
                shared.lost = lost
                both = await asyncio.gather(*(spend(one, 10 + 40 * lost) for one in limiters))
                arrivals += [at for one in both for at in one]
        for store in stores:
            await store.aclose()
        return arrivals

    arrivals = sorted(run(main()))
    assert len(arrivals) == 120
    assert all(b - a >= 60 for a, b in zip(arrivals, arrivals[20:], strict=False))
    assert arrivals[-1] - arrivals[0] < 60 * 9
    assert len(told) == 2
    assert all("0.5 of the quota" in sentence for sentence in told)


def test_a_store_that_never_answered_is_replaced_at_once() -> None:
    async def main() -> tuple[float, int]:
        shared = Losable()
        shared.lost = True
        store = FallbackSlotStore(shared, MemorySlotStore(), 0.25, lambda _: None)
        assert await store.token_refused_at("t") is None
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with Limiter(
            key="k", quota=20, window_s=60, store=store, clock=virtual_clock(), headers=False
        ) as one:
            await spend(one, 5)
            at_once = loop.time() - began
            await spend(one, 1)
            later = loop.time() - began
        await store.aclose()
        return at_once, int(later)

    at_once, later = run(main())
    assert at_once < 1
    assert later == 60


async def test_a_redis_killed_in_the_middle_of_a_copy_ends_it_with_exit_code_3_soon(
    make_world: Callable[..., Any], redis: RedisServer
) -> None:
    world: World = await make_world(quota=20, window_s=30)
    source = world.tree({f"file{number}": b"x" for number in range(40)})
    copying = asyncio.ensure_future(world.copy(source, f"{world.remote}/", quota_store=redis.url))
    while world.asked() < 10:  # noqa: ASYNC110 - a server's progress
        await asyncio.sleep(0.02)
    redis.kill()
    began = time.monotonic()
    with pytest.raises(QuotaStoreError, match="is lost") as stopped:
        await asyncio.wait_for(copying, 40)
    assert time.monotonic() - began < 35
    assert stopped.value.report is not None
    assert stopped.value.report.exit_code == 3
    assert world.asked() <= 20
