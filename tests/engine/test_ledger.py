"""What was proved, in a file that outlives processes: commits, claims, the life of a row."""

# ruff: noqa: ASYNC110 - what is waited for happens in a thread, or in code that tells nobody

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from penstock.core.errors import LedgerError, UsageError
from penstock.core.lifecycle import State
from penstock.core.model import Direction, Fingerprint, Identity, Receipt, Upload
from penstock.engine.ledger import Held, Ledger, Row
from penstock.engine.schema import APPLICATION_ID, STEPS

SOURCE = Fingerprint(10, 123, 7)
REMOTE = Fingerprint(10, remote_id="id", modified="2026-01-01", etag='"e"')


def ledger_in(folder: Path, at: float = 1000.0) -> Ledger:
    return Ledger(folder, wall=lambda: at)


def identity(
    name: str = "f", *, down: bool = False, container: str = "o/p", local: str | None = None
) -> Identity:
    direction = Direction.DOWN if down else Direction.UP
    return Identity(direction, "http://h/v2", container, name, local or f"/l/{name}")


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = ledger_in(tmp_path / "state")
    await opened.__aenter__()
    yield opened
    await opened.__aexit__()


async def claimed(ledger: Ledger, who: Identity | None = None) -> Row:
    row = await ledger.claim(who or identity(), "run")
    assert isinstance(row, Row)
    return row


async def known(ledger: Ledger, who: Identity | None = None) -> Row:
    (row,) = await ledger.lookup([who or identity()])
    assert row is not None
    return row


def raw(ledger: Ledger, sql: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


# -- the file ------------------------------------------------------------------------------


async def test_a_ledger_says_what_it_is_and_of_which_version(ledger: Ledger) -> None:
    assert raw(ledger, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert raw(ledger, "PRAGMA user_version") == [(len(STEPS),)]
    assert raw(ledger, "PRAGMA journal_mode") == [("wal",)]


async def test_a_ledger_is_its_owner_s_alone(ledger: Ledger) -> None:
    await claimed(ledger)
    assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in ledger.path.parent.glob("l*")}
    assert set(found.values()) == {0o600}, found
    assert "ledger.sqlite3-wal" in found


@pytest.mark.parametrize(
    ("setup", "sentence"),
    [
        (f"PRAGMA user_version = {len(STEPS) + 1}", "newer penstock"),
        ("PRAGMA application_id = 7", "no ledger"),
        ("PRAGMA application_id = 7; PRAGMA user_version = 1", "no ledger"),
    ],
)
async def test_a_file_that_is_not_this_ledger_is_left_as_it_is(
    tmp_path: Path, setup: str, sentence: str
) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"CREATE TABLE theirs (a); {setup};")
    with pytest.raises(LedgerError, match=sentence):
        async with ledger_in(tmp_path):
            pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_somebody_s_database_without_a_mark_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE transfers (theirs)")
    with pytest.raises(LedgerError):
        async with ledger_in(tmp_path):
            pass


async def test_a_corrupt_ledger_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError, match=r"run `penstock copy` again with --rebuild-ledger"):
        async with ledger_in(tmp_path):
            pass
    assert (tmp_path / "ledger.sqlite3").read_bytes().startswith(b"not a database")


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE transfers SET digests = '{nonsense'",
        "UPDATE transfers SET digests = '[1]'",
        "UPDATE transfers SET digests = x'ff00'",
        """UPDATE transfers SET source = '{"size":'""",
        """UPDATE transfers SET source = '{"sise": 3}'""",
        """UPDATE transfers SET source = '{"size": "3"}'""",
        "UPDATE transfers SET state = 'gone'",
        "UPDATE transfers SET size = 'many'",
        "UPDATE transfers SET placed = x'ff'",
        "UPDATE receipts SET report = '{'",
        "UPDATE runs SET sources = '{'",
        "UPDATE runs SET summary = '[1]'",
        """UPDATE runs SET summary = '{"verified": "a"}'""",
        "UPDATE runs SET began_at = 'x'",
        "DROP TABLE transfers",
    ],
)
async def test_a_value_that_no_run_wrote_is_told_and_the_ledger_can_be_begun_anew(
    tmp_path: Path, edit: str
) -> None:
    async with ledger_in(tmp_path) as ledger:
        row = await claimed(ledger)
        await ledger.start(row.id, SOURCE, part_size=10)
        await ledger.add_receipt(row.id, Receipt(1, 0, 10, "m"))
        await ledger.begin_run("r", ["here"], "there")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(edit)
        connection.commit()
    async with ledger_in(tmp_path) as ledger:
        with pytest.raises(LedgerError, match=r"is damaged \(.*\); run `penstock copy` again with"):
            await asyncio.gather(
                ledger.lookup([identity()]), ledger.receipts(row.id), ledger.runs()
            )
    async with Ledger(tmp_path, wall=lambda: 1.0, rebuild=True) as ledger:
        assert "the old one is kept as" in (ledger.mended or "")
        found = await ledger.lookup([identity()])
        assert found[0] is None or not found[0].digests
        assert await ledger.runs() == []


async def test_a_ledger_that_turns_corrupt_says_so_in_our_words(tmp_path: Path) -> None:
    async with ledger_in(tmp_path) as first:
        for number in range(200):
            await claimed(first, identity(f"f{number}"))
    path = tmp_path / "ledger.sqlite3"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    with pytest.raises(LedgerError):
        async with ledger_in(tmp_path) as again:
            await claimed(again)


async def test_a_state_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot keep a ledger"):
        async with ledger_in(tmp_path / "file" / "state"):
            pass


async def test_a_ledger_that_did_not_open_leaves_no_lock_and_no_descriptor(
    tmp_path: Path, open_descriptors: Callable[[Path], list[str]]
) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"x" * 5000)
    with pytest.raises(LedgerError):
        async with ledger_in(tmp_path):
            pass
    assert open_descriptors(tmp_path) == []
    assert list((tmp_path / "holders").iterdir()) == []


async def test_a_closed_ledger_leaves_no_lock_and_no_descriptor(
    tmp_path: Path, open_descriptors: Callable[[Path], list[str]]
) -> None:
    async with ledger_in(tmp_path) as ledger:
        await claimed(ledger)
    assert open_descriptors(tmp_path) == []
    assert list((tmp_path / "holders").iterdir()) == []
    assert raw(ledger, "SELECT count(*) FROM claims") == [(0,)]
    with pytest.raises(LedgerError, match="closed"):
        await ledger.lookup([identity()])


async def test_a_full_disk_is_said_with_what_to_do(ledger: Ledger) -> None:
    await ledger._do(lambda c: c.execute("PRAGMA max_page_count = 1").fetchall())
    with pytest.raises(LedgerError, match="run the same command again"):  # noqa: PT012 - which write fails is the disk's
        for number in range(500):
            await ledger.remember_fact("e", str(number), "x" * 4000)
    await ledger._do(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchall())
    await ledger.remember_fact("e", "after", "mended")
    assert await ledger.fact("e", "after") == "mended"


# -- commits -------------------------------------------------------------------------------


async def test_what_waits_together_is_committed_together(ledger: Ledger) -> None:
    said: list[str] = []
    gate = threading.Event()
    await ledger._do(lambda c: c.set_trace_callback(said.append))
    slow = asyncio.ensure_future(ledger._do(lambda _: gate.wait(10)))
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(ledger.remember_fact("e", str(n), "v")) for n in range(50)]
    await asyncio.sleep(0)
    said.clear()
    gate.set()
    await asyncio.gather(slow, *others)
    assert said.count("COMMIT") == 2, "one for the slow one, one for the fifty that waited"
    assert raw(ledger, "SELECT count(*) FROM facts") == [(50,)]


async def test_a_row_that_is_refused_harms_no_other_of_its_batch(ledger: Ledger) -> None:
    receipt = Receipt(1, 0, 5, "m")
    good, bad = identity("good"), 4711
    row = await claimed(ledger, good)
    outcomes = await asyncio.gather(
        ledger.add_receipt(row.id, receipt),
        ledger.add_receipt(bad, receipt),
        ledger.remember_fact("e", "n", "v"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], Exception)
    assert (outcomes[0], outcomes[2]) == (None, None)
    assert await ledger.receipts(row.id) == [receipt]
    assert await ledger.fact("e", "n") == "v"


async def test_a_defect_in_one_operation_leaves_no_other_waiting_and_no_open_commit(
    ledger: Ledger,
) -> None:
    """What is no SQLite error: an impossible event, a name that cannot be written as UTF-8."""

    def defect(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    with anyio.move_on_after(2.0) as scope:
        outcomes = await asyncio.gather(
            *(
                asyncio.wait_for(work, 1.0)
                for work in (
                    ledger._do(defect),
                    ledger.remember_fact("e", "n", "v"),
                )
            ),
            return_exceptions=True,
        )
    assert not scope.cancelled_caught, "the other operation of the batch was never answered"
    assert isinstance(outcomes[0], ZeroDivisionError)
    assert outcomes[1] is None
    assert await ledger.fact("e", "n") == "v"


async def test_a_path_that_is_no_text_can_be_claimed(ledger: Ledger) -> None:
    """Local paths are bytes: `os.fsdecode` makes surrogates of what is no UTF-8."""
    who = identity("f", local=os.fsdecode(b"/l/\xff"))
    row = await claimed(ledger, who)
    assert row.identity == who
    assert (await known(ledger, who)).id == row.id


@pytest.mark.parametrize("native", [True, False])
async def test_a_cancelled_operation_is_committed_all_the_same(
    ledger: Ledger, *, native: bool
) -> None:
    gate = threading.Event()
    slow = asyncio.ensure_future(ledger._do(lambda _: gate.wait(10)))
    await asyncio.sleep(0.005)
    if native:
        task = asyncio.ensure_future(ledger.remember_fact("e", "n", "v"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(ledger.remember_fact, "e", "n", "v")
            await asyncio.sleep(0)
            group.cancel_scope.cancel()
            gate.set()
    await slow
    assert await ledger.fact("e", "n") == "v"


async def test_a_commit_whose_caller_is_cancelled_is_made_once(ledger: Ledger) -> None:
    ran: list[int] = []
    began, gate = threading.Event(), threading.Event()

    def work(_: sqlite3.Connection) -> None:
        ran.append(1)
        began.set()
        gate.wait(10)

    task = asyncio.ensure_future(ledger._do(work))
    while not began.is_set():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ran == [1]


async def test_an_arrival_whose_caller_is_cancelled_leaves_a_ledger_that_works(
    ledger: Ledger,
) -> None:
    row = await claimed(ledger)
    await ledger.start(row.id, SOURCE)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.ensure_future(
            ledger.arrived(
                row.id, source=SOURCE, digests={}, verified_by=None, size=10, parts=1, placed=None
            )
        )
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        other.execute("ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await task
    with anyio.fail_after(2.0):
        assert (await known(ledger)).state is State.ARRIVED


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_caller_waits_for_its_own_commit_and_not_for_those_behind(
    ledger: Ledger,
    cancelled: bool,  # noqa: FBT001 - a case
) -> None:
    gates = [threading.Event(), threading.Event()]
    began = threading.Event()

    def second(_: sqlite3.Connection) -> str:
        began.set()
        gates[1].wait(10)
        return "second"

    first = asyncio.ensure_future(ledger._do(lambda _: gates[0].wait(10)))
    await asyncio.sleep(0.005)
    behind = asyncio.ensure_future(ledger._do(second))
    await asyncio.sleep(0)
    if cancelled:
        first.cancel()
        await asyncio.sleep(0)
    gates[0].set()
    done, _ = await asyncio.wait([first], timeout=5.0)
    assert done, "the first caller waits for the second's commit"
    assert first.cancelled() == cancelled
    while not began.is_set():
        await asyncio.sleep(0)
    gates[1].set()
    assert await asyncio.wait_for(behind, 5.0) == "second"


# -- claims --------------------------------------------------------------------------------

_CLAIM = """
import asyncio, sys
from pathlib import Path
from penstock.core.model import Direction, Identity, Receipt
from penstock.engine.ledger import Held, Ledger

async def main():
    async with Ledger(Path(sys.argv[1]), wall=lambda: 1.0) as ledger:
        row = await ledger.claim(Identity(Direction.UP, "http://h/v2", "o/p", "f", "/l/f"), "other")
        if not isinstance(row, Held):
            await ledger.add_receipt(row.id, Receipt(1, 0, 5, "m", "e"))
        print("held" if isinstance(row, Held) else "mine", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


def other_process(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CLAIM, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


async def test_a_live_process_keeps_its_claim_and_a_killed_one_does_not(tmp_path: Path) -> None:
    process, said = other_process(tmp_path)
    assert said == "mine"
    async with ledger_in(tmp_path) as ledger:
        held = await ledger.claim(identity(), "run")
        assert isinstance(held, Held)
        assert held.holder.startswith(f"{process.pid}-")
        process.send_signal(signal.SIGKILL)
        process.wait()
        row = await claimed(ledger)
        assert row.state is State.MOVING, "as it was left"
        assert (await ledger.receipts(row.id))[0].etag == "e", "what was proved stays"
    process.communicate()


async def test_our_claim_holds_against_another_process(tmp_path: Path) -> None:
    async with ledger_in(tmp_path) as ledger:
        row = await claimed(ledger)
        process, said = other_process(tmp_path)
        process.communicate()
        assert said == "held"
        await ledger.release(row.id)
        process, said = other_process(tmp_path)
        assert said == "mine"
        process.communicate()


async def test_a_transfer_is_claimed_once_of_many_that_try(tmp_path: Path) -> None:
    async with ledger_in(tmp_path) as one, ledger_in(tmp_path) as two:
        came = await asyncio.gather(
            *(ledger.claim(identity(), "r") for ledger in (one, two) for _ in range(1))
        )
        assert sorted(type(each).__name__ for each in came) == ["Held", "Row"]


def test_two_loops_share_one_file(tmp_path: Path) -> None:
    counts: list[int] = []

    async def work() -> None:
        mine = 0
        async with ledger_in(tmp_path) as ledger:
            for number in range(60):
                came = await ledger.claim(identity(str(number)), "r")
                mine += isinstance(came, Row)
            both.wait()
        counts.append(mine)

    both = threading.Barrier(2)
    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 60


# -- the life of a row ---------------------------------------------------------------------


async def test_a_new_transfer_is_moving_once_it_is_claimed(ledger: Ledger) -> None:
    assert await ledger.lookup([identity()]) == [None]
    await claimed(ledger)
    row = await known(ledger)
    assert (row.state, row.source, row.upload_id) == (State.MOVING, None, None)
    assert row.identity == identity()


async def test_many_are_looked_up_in_the_order_asked(ledger: Ledger) -> None:
    names = [str(number) for number in range(250)]
    for name in names[::2]:
        await claimed(ledger, identity(name))
    rows = await ledger.lookup([identity(name) for name in names])
    found = [row.identity.remote_path if row else None for row in rows]
    assert found == [name if number % 2 == 0 else None for number, name in enumerate(names)]
    assert await ledger.lookup([]) == []


async def test_rows_of_several_containers_are_each_their_own(ledger: Ledger) -> None:
    """Those of one container are asked for together: names alike, or no text, are still told."""
    asked = [
        identity(name, down=down, container=container, local=local)
        for name in ("a", "b\udcff", "a%", "")
        for down in (True, False)
        for container in ("p/1", "p/1", "p/2")
        for local in ("/l/1", "/l/\udc80")
    ]
    kept = {who: await claimed(ledger, who) for who in dict.fromkeys(asked[::3])}
    rows = await ledger.lookup(asked * 20)
    assert [row and row.id for row in rows] == [
        kept[who].id if who in kept else None for who in asked * 20
    ]
    assert all(
        row is None or row.identity == who for who, row in zip(asked * 20, rows, strict=True)
    )


@pytest.mark.parametrize("source", [SOURCE, REMOTE, Fingerprint(0), Fingerprint(5 << 40, 2**62)])
async def test_a_fingerprint_comes_back_as_it_was(ledger: Ledger, source: Fingerprint) -> None:
    row = await claimed(ledger)
    await ledger.start(row.id, source, part_size=3, partial="/l/.f", validator='"v"')
    back = await known(ledger)
    assert back.source == source
    assert (back.part_size, back.partial, back.validator) == (3, "/l/.f", '"v"')


async def test_receipts_come_back_in_order_and_the_last_of_a_number_counts(
    ledger: Ledger,
) -> None:
    row = await claimed(ledger)
    two = Receipt(2, 5, 5, "m2", "e2", proves=False, report=(("ETag", "e2"), ("x", "y")))
    one, again = Receipt(1, 0, 5, "m1"), Receipt(1, 0, 5, "m1b", "e")
    for receipt in (two, one, again):
        await ledger.add_receipt(row.id, receipt)
    assert await ledger.receipts(row.id) == [again, two]
    await ledger.drop_receipts(row.id, [1, 9])
    assert await ledger.receipts(row.id) == [two]
    await ledger.drop_receipts(row.id)
    assert await ledger.receipts(row.id) == []


async def test_beginning_anew_forgets_what_an_earlier_try_had(ledger: Ledger) -> None:
    row = await claimed(ledger)
    await ledger.start(row.id, SOURCE, part_size=5)
    number = await ledger.intend(row.id, "create", place="p", name="f", size=10, made_at=1.0)
    await ledger.began(row.id, number, Upload("u", 6, parallel=False))
    under_way = await known(ledger)
    assert (under_way.upload_id, under_way.part_size, under_way.parallel) == ("u", 6, False)
    assert await ledger.intents(row.id) == []
    await ledger.add_receipt(row.id, Receipt(1, 0, 5, "m"))
    await ledger.start(row.id, SOURCE)
    fresh = await known(ledger)
    assert (fresh.upload_id, fresh.part_size, fresh.state) == (None, None, State.MOVING)
    assert await ledger.receipts(row.id) == []


async def test_a_verified_transfer_keeps_its_proof_and_nothing_of_the_way(ledger: Ledger) -> None:
    row = await claimed(ledger)
    await ledger.start(row.id, SOURCE, part_size=5, partial="/l/.f")
    await ledger.add_receipt(row.id, Receipt(1, 0, 5, "m"))
    await ledger.end(
        row.id,
        State.VERIFIED,
        digests={"md5": "m"},
        verified_by="etag",
        remote_id="r",
        size=10,
        mtime_ns=5,
        parts=1,
    )
    done = await known(ledger)
    assert (done.state, done.verified_by, done.digests) == (State.VERIFIED, "etag", {"md5": "m"})
    assert (done.remote_id, done.size, done.mtime_ns, done.source) == ("r", 10, 5, SOURCE)
    assert (done.partial, done.upload_id) == (None, None)
    assert raw(ledger, "SELECT count(*) FROM receipts") == [(0,)]
    assert raw(ledger, "SELECT count(*) FROM claims") == [(0,)]


async def test_what_is_verified_stays_verified(ledger: Ledger) -> None:
    row = await claimed(ledger)
    await ledger.end(row.id, State.VERIFIED, verified_by="etag", size=10)
    again = await claimed(ledger)
    assert again.state is State.VERIFIED
    await ledger.failed(again.id)
    after = await known(ledger)
    assert (after.state, after.verified_by) == (State.VERIFIED, "etag")
    await claimed(ledger)
    await ledger.release(row.id)
    assert (await known(ledger)).state is State.VERIFIED


async def test_a_failed_transfer_keeps_its_receipts_and_is_planned_again(ledger: Ledger) -> None:
    row = await claimed(ledger)
    await ledger.start(row.id, SOURCE, part_size=5)
    await ledger.add_receipt(row.id, Receipt(1, 0, 5, "m"))
    await ledger.failed(row.id)
    assert (await known(ledger)).state is State.FAILED
    assert raw(ledger, "SELECT count(*) FROM claims") == [(0,)]
    again = await claimed(ledger)
    assert len(await ledger.receipts(again.id)) == 1
    assert (await known(ledger)).state is State.MOVING


@pytest.mark.parametrize("end", [State.VERIFIED, State.UNVERIFIED, State.SKIPPED, State.FAILED])
async def test_every_end_can_be_reached_and_repeated_and_left(ledger: Ledger, end: State) -> None:
    row = await claimed(ledger)
    await ledger.end(row.id, end)
    await ledger.end(row.id, end)
    assert (await known(ledger)).state is end
    await claimed(ledger)
    kept = {State.VERIFIED, State.UNVERIFIED}
    assert (await known(ledger)).state is (end if end in kept else State.MOVING)


async def test_a_transfer_that_arrived_is_verified_by_who_finds_it(ledger: Ledger) -> None:
    row = await claimed(ledger)
    await ledger.start(row.id, REMOTE)
    await ledger.arrived(
        row.id,
        source=REMOTE,
        digests={"md5": "m"},
        verified_by="etag",
        size=10,
        parts=2,
        placed="/l/f (1)",
    )
    left = await known(ledger)
    assert (left.state, left.placed, left.verified_by) == (State.ARRIVED, "/l/f (1)", "etag")
    await ledger.release(row.id)
    again = await claimed(ledger)
    assert again.state is State.ARRIVED, "the row as it was left"
    await ledger.end(again.id, State.VERIFIED, verified_by="etag")
    assert (await known(ledger)).state is State.VERIFIED


# -- intents -------------------------------------------------------------------------------


async def test_an_intent_is_there_before_the_request_and_gone_once_settled(
    ledger: Ledger,
) -> None:
    row = await claimed(ledger)
    number = await ledger.intend(row.id, "create", place="p", name="n", size=3, made_at=2.5)
    assert raw(ledger, "SELECT kind, place, name, size, made_at FROM intents") == [
        ("create", "p", "n", 3, 2.5)
    ]
    (intent,) = await ledger.intents(row.id)
    assert (intent.id, intent.transfer, intent.made_at) == (number, row.id, 2.5)
    await ledger.settle(number)
    assert await ledger.intents(row.id) == []


async def test_a_transfer_has_one_intent_of_a_kind(ledger: Ledger) -> None:
    row = await claimed(ledger)
    for made_at in (1.0, 2.0):
        await ledger.intend(row.id, "create", place="p", name="n", size=3, made_at=made_at)
    await ledger.intend(row.id, "complete", place="p", name="n", size=3, made_at=3.0)
    found = [(intent.kind, intent.made_at) for intent in await ledger.intents(row.id)]
    assert found == [("create", 2.0), ("complete", 3.0)]


async def test_uploads_left_open_are_those_nobody_moves(tmp_path: Path) -> None:
    async with ledger_in(tmp_path) as one, ledger_in(tmp_path) as two:
        with_upload = await claimed(one, identity("upload"))
        number = await one.intend(
            with_upload.id, "create", place="p", name="n", size=1, made_at=1.0
        )
        await one.began(with_upload.id, number, Upload("u", 5))
        intended = await claimed(one, identity("intent"))
        await one.intend(intended.id, "create", place="p", name="n", size=1, made_at=1.0)
        plain = await claimed(one, identity("plain"))
        foreign = await claimed(one, identity("foreign", container="o/q"))
        await one.intend(foreign.id, "create", place="p", name="n", size=1, made_at=1.0)
        assert await two.left_open("http://h/v2", "o/p") == [], "they are being moved"
        for row in (with_upload, intended, plain, foreign):
            await one.failed(row.id)
        left = await two.left_open("http://h/v2", "o/p")
        assert {row.identity.remote_path for row in left} == {"upload", "intent"}
        assert await two.owned_uploads(["u", "v"]) == {"u"}
        await two.forget_upload(with_upload.id)
        assert await two.owned_uploads(["u", "v"]) == set()


# -- adoption of a partial -----------------------------------------------------------------


async def _left_partial(ledger: Ledger, *, failed: bool) -> Row:
    row = await claimed(ledger, identity("old", down=True))
    await ledger.start(row.id, REMOTE, part_size=5, partial="/p/.f", validator='"v"')
    await ledger.add_receipt(row.id, Receipt(1, 0, 5, "m"))
    await (ledger.failed(row.id) if failed else ledger.release(row.id))
    return row


@pytest.mark.parametrize("failed", [True, False])
async def test_a_partial_is_adopted_with_its_receipts(ledger: Ledger, *, failed: bool) -> None:
    old = await _left_partial(ledger, failed=failed)
    new = await claimed(ledger, identity("new", down=True))
    adopted = await ledger.adopt(new.id, "/p/.f")
    assert adopted is not None
    assert (adopted.id, adopted.source, adopted.part_size) == (new.id, REMOTE, 5)
    assert (adopted.partial, adopted.validator) == ("/p/.f", '"v"')
    assert [receipt.md5 for receipt in await ledger.receipts(new.id)] == ["m"]
    assert await ledger.receipts(old.id) == []
    assert (await known(ledger, identity("old", down=True))).partial is None


@pytest.mark.parametrize("failed", [True, False])
async def test_an_adopted_transfer_can_arrive_and_be_verified(
    ledger: Ledger, *, failed: bool
) -> None:
    await _left_partial(ledger, failed=failed)
    new = await claimed(ledger, identity("new", down=True))
    await ledger.adopt(new.id, "/p/.f")
    with anyio.fail_after(2.0):
        await ledger.arrived(
            new.id, source=REMOTE, digests={}, verified_by="etag", size=10, parts=2, placed=None
        )
        await ledger.end(new.id, State.VERIFIED)


async def test_a_partial_that_another_moves_is_not_adopted(tmp_path: Path) -> None:
    async with ledger_in(tmp_path) as one, ledger_in(tmp_path) as two:
        old = await claimed(one, identity("old", down=True))
        await one.start(old.id, REMOTE, partial="/p/.f")
        new = await claimed(two, identity("new", down=True))
        assert await two.adopt(new.id, "/p/.f") is None
        assert await two.adopt(new.id, "/p/.other") is None


async def test_a_transfer_whose_partial_was_adopted_can_begin_anew(ledger: Ledger) -> None:
    old = await _left_partial(ledger, failed=True)
    new = await claimed(ledger, identity("new", down=True))
    await ledger.adopt(new.id, "/p/.f")
    again = await claimed(ledger, identity("old", down=True))
    assert again.id == old.id
    await ledger.start(again.id, REMOTE, partial="/p/.g")
    await ledger.end(again.id, State.VERIFIED)


# -- places, facts, runs -------------------------------------------------------------------


async def test_places_and_facts_are_of_one_endpoint(ledger: Ledger) -> None:
    await ledger.remember_place("a", "o/p/f", "1")
    await ledger.remember_place("a", "o/p/f", "2")
    await ledger.remember_place("b", "o/p/f", "3")
    assert await ledger.place_id("a", "o/p/f") == "2"
    await ledger.remember_place("a", "o/p/f", None)
    assert await ledger.place_id("a", "o/p/f") is None
    assert await ledger.place_id("b", "o/p/f") == "3"
    await ledger.remember_fact("a", "n", "v")
    await ledger.remember_fact("a", "n", "w")
    assert (await ledger.fact("a", "n"), await ledger.fact("b", "n")) == ("w", None)


async def test_a_run_is_remembered_from_its_beginning(tmp_path: Path) -> None:
    async with ledger_in(tmp_path, at=5.0) as ledger:
        await ledger.begin_run("r", ["a", "b"], "c:d")
        began = raw(ledger, "SELECT began_at, ended_at, sources, destination, summary FROM runs")
        assert began == [(5.0, None, '["a", "b"]', "c:d", None)]
        await ledger.end_run("r", "{}")
        assert raw(ledger, "SELECT ended_at, summary FROM runs") == [(5.0, "{}")]
