"""What every store promises, then what the file on disk adds: processes, their deaths, steps."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.errors import QuotaStoreError, TokenRefused, UsageError
from penstock.core.quota import Heard
from penstock.core.ratelimit import Word
from penstock.core.window import NS_PER_S, Terms, ns
from penstock.engine.clock import Clock
from penstock.engine.limiter import Limiter
from penstock.engine.slots import (
    MemorySlotStore,
    Outcome,
    SlotStore,
    SqliteSlotStore,
    Turn,
    key_of,
    on_network,
)
from virtual import EPOCH, run, virtual_clock

S = NS_PER_S
TERMS = Terms(10, 60 * S, 10 * S)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SlotStore:
    if request.param == "memory":
        return MemorySlotStore()
    return SqliteSlotStore(tmp_path / "state" / "quota.sqlite3")


class Asked:
    """One key of a store, asked at moments in seconds."""

    def __init__(self, store: SlotStore, terms: Terms = TERMS, key: str = "k") -> None:
        self.store, self.terms, self.key, self.offset_ns = store, terms, key, 0

    async def open(self, *, profile: str = "", wall_at: float = EPOCH) -> Asked:
        clock = Clock(lambda: 0.0, lambda: wall_at)
        opened = await self.store.open(self.key, self.terms, clock, profile=profile)
        self.key, self.offset_ns = opened.key, opened.offset_ns
        return self

    def at(self, at_s: float) -> int:
        return self.offset_ns + ns(at_s)

    async def turn(
        self,
        at_s: float,
        **told: Any,  # noqa: ANN401 - as Turn
    ) -> Outcome:
        return await self.store.turn(self.key, Turn(self.at(at_s), self.terms, **told))


def kept(store: SlotStore, job: Callable[[Asked], Awaitable[None]]) -> None:
    async def main() -> None:
        await job(await Asked(store).open())
        await store.aclose()

    run(main())


def test_no_more_slots_than_the_quota_are_granted(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        assert len((await key.turn(0, want=7)).slots) == 7
        outcome = await key.turn(0, want=7)
        assert len(outcome.slots) == 3
        assert outcome.count.used == outcome.count.in_flight == 10
        last = await key.turn(0, want=1)
        assert (last.slots, last.why, last.next_ns) == ((), "window", None)

    kept(store, job)


def test_a_held_slot_is_granted_again_at_its_moment(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        slots = (await key.turn(0, want=10)).slots
        until = key.at(61)
        full = await key.turn(1, want=1, held=((slots[0], until),))
        assert (full.slots, full.next_ns) == ((), until)
        exact = Turn(until - 1, key.terms, want=1)
        assert (await key.store.turn(key.key, exact)).slots == ()
        assert len((await key.turn(61, want=5)).slots) == 1

    kept(store, job)


def test_a_slot_given_back_is_granted_again_at_once(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        slots = (await key.turn(0, want=10)).slots
        assert len((await key.turn(0, want=5, back=slots[:3])).slots) == 3

    kept(store, job)


def test_a_slot_is_settled_once_and_for_all(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        slots = (await key.turn(0, want=10)).slots
        await key.turn(0, held=((slots[0], key.at(60)),))
        outcome = await key.turn(0, want=1, back=slots[:1], held=((slots[0], key.at(900)),))
        assert (outcome.slots, outcome.next_ns) == ((), key.at(60))

    kept(store, job)


def test_what_was_heard_binds_whoever_asks_next(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        (slot,) = (await key.turn(0, want=1)).slots
        word = Word(10, 4, 50 * S, key.at(51))
        heard = Heard(key.at(0), key.at(1), word)
        outcome = await key.turn(1, want=10, held=((slot, key.at(61)),), heard=(heard,))
        assert len(outcome.slots) == 4
        assert (await key.turn(1, want=10)).why == "gate"

    kept(store, job)


def test_a_closed_key_is_closed_for_whoever_asks_next(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        (slot,) = (await key.turn(0, want=1)).slots
        heard = Heard(key.at(0), key.at(1), Word(retry_after_ns=30 * S), refused=True)
        await key.turn(1, held=((slot, key.at(61)),), heard=(heard,))
        closed = await key.turn(30, want=1)
        assert (closed.why, closed.next_ns) == ("closed", key.at(31))
        assert len((await key.turn(31, want=5)).slots) == 1

    kept(store, job)


def test_spare_slots_come_only_where_much_is_free(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        assert len((await key.turn(0, want=1, spare=16)).slots) == 2
        assert len((await key.turn(0, want=2, spare=16)).slots) == 2

    kept(store, job)


def test_one_first_request_is_out_at_a_time(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        (slot,) = (await key.turn(0, want=5, first=True, token="t")).slots
        waiting = await key.turn(0, want=5, first=True, token="t")
        assert (waiting.slots, waiting.why) == ((), "probe")
        heard = Heard(key.at(0), key.at(1))
        told = await key.turn(
            1, want=5, held=((slot, key.at(61)),), heard=(heard,), token="t", proved=True
        )
        assert len(told.slots) == 5
        assert len((await key.turn(1, want=2, first=True, token="t")).slots) == 2

    kept(store, job)


def test_a_refused_token_is_remembered_until_it_is_forgotten(store: SlotStore) -> None:
    async def job(key: Asked) -> None:
        await key.turn(5, token="bad", refused=True)
        refused = await key.turn(6, want=1, token="bad")
        assert (refused.slots, refused.token_refused) == ((), True)
        assert await store.token_refused_at("bad") == pytest.approx(EPOCH + 5)
        assert await store.token_refused_at("bad", EPOCH + 3605) is None
        assert (await key.turn(6, want=1, token="good")).slots
        await store.forget_refusal("bad")
        assert await store.token_refused_at("bad") is None
        assert (await key.turn(6, want=1, token="bad")).slots
        await key.turn(7, token="bad", refused=True)
        assert (await key.turn(7 + 3600, want=1, token="bad")).slots

    kept(store, job)


def test_a_replaced_token_inherits_the_window(store: SlotStore) -> None:
    async def main() -> None:
        old = await Asked(store, key="old").open(profile="me")
        slots = (await old.turn(0, want=10)).slots
        await old.turn(0, held=tuple((slot, old.at(60)) for slot in slots))
        new = await Asked(store, key="new").open(profile="me")
        assert (await new.turn(1, want=1)).slots == ()
        stranger = await Asked(store, key="new2").open(profile="you")
        assert (await stranger.turn(1, want=1)).slots != ()
        await store.aclose()

    run(main())


def test_an_inherited_window_stays_one_window(store: SlotStore) -> None:
    async def main() -> None:
        old = await Asked(store, key="old").open(profile="me")
        slots = (await old.turn(0, want=10)).slots
        await old.turn(0, held=tuple((slot, old.at(60)) for slot in slots))
        first = await Asked(store, key="new").open(profile="me")
        # The window is free again, and the first run still has it open.
        await first.turn(200)
        second = await Asked(store, key="new").open(profile="me")
        assert len((await first.turn(200, want=10)).slots) == 10
        assert (await second.turn(200, want=1)).slots == ()
        await store.aclose()

    run(main())


def test_a_key_names_no_token() -> None:
    key = key_of("https://host/v2/", "my-secret")
    assert key == key_of("https://host/v2", "my-secret")
    assert key != key_of("https://host/v3", "my-secret")
    assert "secret" not in key


# The file on disk.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "quota.sqlite3"


def test_the_file_is_for_its_user_only(path: Path) -> None:
    async def main() -> tuple[int, int]:
        store = SqliteSlotStore(path)
        await Asked(store).open()
        modes = (os.lstat(path).st_mode, os.lstat(path.parent).st_mode)
        await store.aclose()
        return modes

    assert [stat.S_IMODE(mode) for mode in run(main())] == [0o600, 0o700]


def test_a_second_opening_finds_what_the_first_spent(path: Path) -> None:
    async def main() -> None:
        store = SqliteSlotStore(path)
        key = await Asked(store).open()
        slots = (await key.turn(0, want=10)).slots
        await key.turn(0, held=tuple((slot, key.at(60)) for slot in slots))
        await store.aclose()
        again = SqliteSlotStore(path)
        key = await Asked(again).open(wall_at=EPOCH + 30)
        assert (await key.turn(0, want=5)).slots == ()
        assert len((await key.turn(30, want=50)).slots) == 10
        await again.aclose()

    run(main())


def test_stamps_from_the_future_hold_for_a_window_at_most(path: Path) -> None:
    async def main() -> None:
        store = SqliteSlotStore(path)
        key = await Asked(store).open(wall_at=EPOCH + 1e6)
        slots = (await key.turn(0, want=10)).slots
        heard = Heard(key.at(0), key.at(0), Word(retry_after_ns=9000 * S), refused=True)
        held = tuple((slot, key.at(60)) for slot in slots)
        await key.turn(0, held=held, heard=(heard,))
        await store.aclose()
        again = SqliteSlotStore(path)
        key = await Asked(again).open()
        assert (await key.turn(59, want=1)).slots == ()
        assert (await key.turn(70, want=1)).slots != ()
        await again.aclose()

    run(main())


def test_a_step_of_the_epoch_clock_moves_nothing_within_one_boot(path: Path) -> None:
    async def main() -> list[int]:
        offsets = []
        for step in (0.0, 5000.0, -5000.0):
            store = SqliteSlotStore(path)
            clock = Clock(lambda: 7.0, lambda step=step: EPOCH + step, boot="b")  # type: ignore[misc]
            offsets.append((await store.open("k", TERMS, clock)).offset_ns)
            await store.aclose()
        return offsets

    first, *others = run(main())
    assert others == [first, first]


def test_a_file_that_is_no_store_is_an_error_that_says_so(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is not a database, and long enough to be looked at" * 50)

    async def main() -> None:
        with pytest.raises(QuotaStoreError, match=r"quota\.sqlite3.*--quota-store"):
            await Asked(SqliteSlotStore(path)).open()

    run(main())


def test_the_loop_runs_on_while_another_process_holds_the_file(path: Path) -> None:
    async def main() -> float:
        store = SqliteSlotStore(path)
        key = await Asked(store).open()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        turn = asyncio.ensure_future(key.turn(0, want=1))
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        blocked_s = time.perf_counter() - began
        assert not turn.done()
        other.execute("ROLLBACK")
        other.close()
        assert (await turn).slots
        await store.aclose()
        return blocked_s

    assert asyncio.run(main()) < 0.2


def test_a_cancelled_turn_has_happened(path: Path) -> None:
    async def main() -> None:
        store = SqliteSlotStore(path)
        key = await Asked(store).open()
        turn = asyncio.ensure_future(key.turn(0, want=4))
        await asyncio.sleep(0)
        turn.cancel()
        await asyncio.wait([turn])
        assert turn.cancelled()
        assert (await key.turn(0)).count.used == 4
        await store.aclose()

    run(main())


def test_a_network_file_system_gets_a_rollback_journal(path: Path) -> None:
    async def main() -> None:
        store = SqliteSlotStore(path, network=True)
        await Asked(store).open()
        mode = sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone()[0]
        assert mode == "delete"
        await store.aclose()

    run(main())


def test_two_machines_never_share_a_file_on_a_network_file_system(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store = SqliteSlotStore(path, network=True)
        key = await Asked(store).open()
        await key.turn(0, want=1)
        await store.aclose()
        monkeypatch.setattr("platform.node", lambda: "another")
        other = SqliteSlotStore(path, network=True)
        with pytest.raises(UsageError, match="--quota-share 1/N"):
            await Asked(other).open(wall_at=EPOCH + 60)
        await Asked(other).open(wall_at=EPOCH + 80)
        await other.aclose()

    run(main())


def test_a_run_that_was_silent_stops_where_another_machine_has_begun(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store, other = (SqliteSlotStore(path, network=True) for _ in range(2))
        key = await Asked(store).open()
        await key.turn(0, want=1)
        with monkeypatch.context() as there:
            there.setattr("platform.node", lambda: "another")
            await Asked(other).open(wall_at=EPOCH + 80)
        with pytest.raises(QuotaStoreError, match=r"another has begun.*--quota-share 1/N"):
            await key.turn(90, want=1)
        await store.aclose()
        await other.aclose()

    run(main())


def test_a_local_folder_is_not_taken_for_a_network(tmp_path: Path) -> None:
    assert not on_network(tmp_path)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    pauses=st.lists(st.floats(0, 2), min_size=1, max_size=25),
    steps=st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=3),
    quota=st.integers(1, 5),
)
def test_runs_on_one_file_never_admit_more_than_the_quota_together(
    tmp_path_factory: pytest.TempPathFactory, pauses: list[float], steps: list[float], quota: int
) -> None:
    """Whatever steps the epoch clock takes between them, and while they run side by side."""
    path = tmp_path_factory.mktemp("store") / "quota.sqlite3"
    arrivals: list[float] = []

    async def one_run(step: float) -> None:
        loop = asyncio.get_running_loop()
        store = SqliteSlotStore(path)
        clock = Clock(loop.time, lambda: EPOCH + step + loop.time(), boot="b")
        async with Limiter(
            key="k", quota=quota, window_s=5.0, store=store, clock=clock, longest_delay_s=1
        ) as one:
            for pause in pauses:
                with await one.admit() as slot:
                    slot.sent()
                    await asyncio.sleep(pause / 2)
                    arrivals.append(loop.time())
                    await asyncio.sleep(pause / 2)
                    slot.answered(200, {})
        await store.aclose()

    async def main() -> None:
        await asyncio.gather(*(one_run(step) for step in steps))

    run(main())
    arrivals.sort()
    for i, at in enumerate(arrivals):
        assert sum(at <= other < at + 5.0 for other in arrivals[i:]) <= quota


# Processes.

_WORKER = """
import asyncio, json, random, sys, time
from pathlib import Path
from penstock.core.errors import TokenRefused
from penstock.engine.clock import Clock
from penstock.engine.limiter import Limiter
from penstock.engine.slots import SqliteSlotStore

async def main(path, job):
    store = SqliteSlotStore(Path(path))
    arrivals, refused = [], 0
    async with Limiter(
        key="k", quota=job["quota"], window_s=job["window_s"], store=store, clock=Clock.running(),
        headers=False, longest_delay_s=job["longest_s"], token="t",
    ) as one:
        async def work(requests):
            nonlocal refused
            for _ in range(requests):
                with await one.admit() as slot:
                    slot.sent()
                    if job.get("hang"):
                        print(json.dumps({"sent": time.monotonic()}), flush=True)
                        await asyncio.sleep(99)
                    await asyncio.sleep(random.uniform(0.001, 0.01))
                    arrivals.append(time.monotonic())
                    refused += job["status"] == 401
                    slot.answered(job["status"], {})
        try:
            await asyncio.gather(*(work(job["requests"] // 8) for _ in range(8)))
        except TokenRefused:
            pass
    await store.aclose()
    print(json.dumps({"arrivals": arrivals, "refused": refused}), flush=True)

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


@contextmanager
def processes(
    path: Path,
    count: int,
    **job: Any,  # noqa: ANN401 - JSON
) -> Iterator[list[subprocess.Popen[str]]]:
    job = {"window_s": 1.0, "longest_s": 0.3, "status": 200, **job}
    command = [sys.executable, "-c", _WORKER, str(path), json.dumps(job)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ended(started: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    said = [json.loads(process.communicate(timeout=60)[0]) for process in started]
    assert all(process.returncode == 0 for process in started)
    return said


def test_three_processes_spend_one_quota_and_all_progress(path: Path) -> None:
    with processes(path, 3, quota=120, requests=120) as started:
        said = ended(started)
    arrivals = sorted(at for one in said for at in one["arrivals"])
    assert len(arrivals) == 360
    for i, at in enumerate(arrivals[:-120]):
        assert arrivals[i + 120] - at >= 1.0
    # Three windows of work: two must pass, and little more.
    assert arrivals[-1] - arrivals[0] < 2 * 1.02 + 0.5


def test_twenty_processes_with_one_expired_token_ask_twice_at_most(path: Path) -> None:
    with processes(path, 20, quota=500, window_s=60, requests=8, status=401) as started:
        said = ended(started)
    assert 1 <= sum(one["refused"] for one in said) <= 2


def test_what_a_killed_process_held_counts_until_nothing_of_it_can_arrive(path: Path) -> None:
    with processes(path, 1, quota=1, requests=8, hang=True) as started:
        assert started[0].stdout is not None
        started[0].stdout.readline()
        started[0].send_signal(signal.SIGKILL)
        started[0].wait()
        killed = time.monotonic()

    async def main() -> float:
        store = SqliteSlotStore(path)
        terms = {"quota": 1, "window_s": 1.0, "longest_delay_s": 0.3}
        async with Limiter(key="k", store=store, clock=Clock.running(), **terms) as one:  # type: ignore[arg-type]
            (await one.admit()).unsent()
            freed = time.monotonic()
        await store.aclose()
        return freed

    assert 1.3 <= asyncio.run(main()) - killed < 2.0


async def test_a_folder_that_was_removed_meanwhile_is_no_trouble_at_the_end(tmp_path: Path) -> None:
    store = SqliteSlotStore(tmp_path / "state" / "quota.sqlite3")
    limiter = Limiter(key="k", quota=9, window_s=60, store=store, clock=Clock.running())
    async with limiter:
        with await limiter.admit() as slot:
            slot.sent()
            slot.answered(200, {})
    shutil.rmtree(tmp_path / "state")
    await store.aclose()
    assert not (tmp_path / "state").exists()


async def test_a_refused_token_is_refused_to_the_next_process_without_a_request(path: Path) -> None:
    store = SqliteSlotStore(path)
    one = Limiter(key="k", quota=9, window_s=60, store=store, clock=Clock.running(), token="t")
    async with one:
        with await one.admit() as slot:
            slot.sent()
            slot.answered(401, {})
    again = Limiter(key="k", quota=9, window_s=60, store=store, clock=Clock.running(), token="t")
    async with again:
        with pytest.raises(TokenRefused):
            await again.admit()
    await store.aclose()


def test_a_virtual_clock_goes_through_threads(path: Path) -> None:
    async def main() -> float:
        store = SqliteSlotStore(path)
        async with Limiter(
            key="k", quota=1, window_s=3600, store=store, clock=virtual_clock()
        ) as one:
            began = asyncio.get_running_loop().time()
            for _ in range(3):
                with await one.admit() as slot:
                    slot.sent()
                    slot.answered(200, {})
            took = asyncio.get_running_loop().time() - began
        await store.aclose()
        return took

    assert run(main()) == pytest.approx(7200, abs=1)
