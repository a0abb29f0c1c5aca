"""Small files move in groups; one that goes otherwise than well costs its neighbours nothing."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web as server

import penstock
from penstock.core.errors import Interrupted
from penstock.core.model import MIB
from penstock.core.report import Line
from penstock.engine import moments
from penstock.engine.stopping import Stop

COUNT = 120


def body(number: int) -> bytes:
    return f"{number:08}".encode() * 512


@dataclass
class Files:
    """Numbered files by URL; `faults` answer a request in their place, each as often as it says."""

    home: Path
    url: str = ""
    asked: Counter[int] = field(default_factory=Counter)
    connections: set[int] = field(default_factory=set)
    faults: dict[int, list[Callable[[server.Request], server.Response | None]]] = field(
        default_factory=dict
    )
    bodies: dict[int, bytes] = field(default_factory=dict)
    takes_s: float = 0.0

    async def get(self, request: server.Request) -> server.StreamResponse:
        number = int(request.match_info["number"])
        self.asked[number] += 1
        self.connections.add(id(request.transport))
        await asyncio.sleep(self.takes_s)
        waiting = self.faults.get(number)
        if waiting:
            answer = waiting.pop(0)(request)
            if answer is None:
                assert request.transport is not None
                request.transport.abort()
                return server.Response()
            return answer
        content = self.bodies.get(number, body(number))
        return server.Response(body=content, headers={"ETag": f'"v-{number}"'})

    def manifest(self, count: int = COUNT, **wrong: str) -> Path:
        rows = ["source,destination,sha256"]
        for number in range(count):
            content = self.bodies.get(number, body(number))
            digest = wrong.get(f"n{number}") or hashlib.sha256(content).hexdigest()
            rows.append(f"{self.url}/{number},{number},{digest}")
        path = self.home / "wanted.csv"
        path.write_text("\n".join(rows) + "\n")
        return path

    async def copy(self, manifest: Path, **options: object) -> dict[int, Line]:
        environ = {"HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state")}
        report = await penstock.copy(
            f"{self.home}/to/",
            manifest=manifest,
            environ=environ,
            **options,  # type: ignore[arg-type]
        )
        return {int(line.source.rpartition("/")[2]): line for line in report.lines()}

    def here(self, number: int) -> Path:
        return self.home / "to" / str(number)

    def left(self) -> list[str]:
        """Hidden files that a run left behind."""
        return [path.name for path in (self.home / "to").glob(".penstock-*")]


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    made = Files(tmp_path)
    app = server.Application()
    app.router.add_get("/{number}", made.get)
    runner = server.AppRunner(app)
    await runner.setup()
    site = server.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """What happens to files and ledger, in order, while the context lasts."""
    seen: list[tuple[str, str]] = []
    on = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if on[0] and event.startswith("penstock."):
            seen.append((event, str(arguments[0])))

    sys.addaudithook(hook)
    try:
        yield seen
    finally:
        on[0] = False


async def test_each_is_asked_once_on_few_connections_and_all_are_proved(files: Files) -> None:
    lines = await files.copy(files.manifest())
    assert {line.status for line in lines.values()} == {"verified"}
    assert [files.here(number).read_bytes() for number in range(COUNT)] == list(
        map(body, range(COUNT))
    )
    assert files.asked == Counter(range(COUNT))
    assert len(files.connections) <= 16
    assert files.left() == []
    one = lines[7]
    assert (one.attempts, one.parts, one.bytes_received) == (1, 1, len(body(7)))
    assert (one.verified_by, one.size) == ("manifest", len(body(7)))


async def test_each_is_written_flushed_committed_named_and_only_then_verified(files: Files) -> None:
    with watched() as seen:
        await files.copy(files.manifest(40))
    arrived = [at for at, (what, which) in enumerate(seen) if what == moments.COMMITTED]
    renamed = 0
    for at, (what, partial) in enumerate(seen):
        if what != moments.RENAMING:
            continue
        renamed += 1
        flushed = seen.index((moments.FLUSHED, partial))
        assert seen.index((moments.WROTE, partial)) < flushed
        assert any(
            flushed < commit < at and "arrived" in seen[commit][1].split() for commit in arrived
        ), "it is named before the ledger knows that it arrived"
        named = seen.index((moments.RENAMED, partial))
        folder = next(
            later
            for later in range(named, len(seen))
            if seen[later] == (moments.FLUSHED, str(files.home / "to"))
        )
        assert any(commit > folder and "end" in seen[commit][1].split() for commit in arrived), (
            "it is verified before its name is on the disk"
        )
    assert renamed == 40


async def test_what_stands_there_already_is_not_fetched_and_stops_nobody(files: Files) -> None:
    (files.home / "to").mkdir()
    files.here(3).write_bytes(body(3))
    files.here(50).write_bytes(b"another")
    lines = await files.copy(files.manifest())
    assert (lines[3].status, lines[3].verified_by) == ("skipped", "manifest")
    assert (lines[50].status, lines[50].reason) == ("failed", "conflict")
    assert files.here(50).read_bytes() == b"another"
    assert files.asked[3] == 0
    assert sum(line.status == "verified" for line in lines.values()) == COUNT - 2


async def test_bytes_that_are_not_those_promised_are_fetched_once_more_and_not_published(
    files: Files,
) -> None:
    lines = await files.copy(files.manifest(n30="0" * 64))
    assert lines[30].error is not None
    assert lines[30].error["type"] == "DigestMismatch"
    assert files.asked[30] == 2
    assert not files.here(30).exists()
    assert files.left() == []
    assert sum(line.status == "verified" for line in lines.values()) == COUNT - 1


async def test_bytes_that_were_spoilt_once_are_fetched_again_and_proved(files: Files) -> None:
    files.faults[30] = [lambda _: server.Response(body=body(31))]
    lines = await files.copy(files.manifest())
    assert (lines[30].status, lines[30].attempts, files.asked[30]) == ("verified", 2, 2)
    assert files.here(30).read_bytes() == body(30)


async def test_a_refusal_is_answered_as_it_asks_and_the_first_try_counts(files: Files) -> None:
    files.faults[20] = [lambda _: server.Response(status=503, headers={"Retry-After": "1"})]
    files.faults[21] = [lambda _: server.Response(status=404)]
    files.faults[22] = [lambda _: server.Response(status=302, headers={"Location": "/23"})]
    loop = asyncio.get_running_loop()
    asked_at: list[float] = []

    def noted(_: server.Request) -> server.Response:
        asked_at.append(loop.time())
        return server.Response(body=body(20))

    files.faults[20] += [noted]
    files.bodies[22] = body(23)
    began = loop.time()
    lines = await files.copy(files.manifest(40))
    assert lines[20].status == "verified"
    assert files.asked[20] == 2
    assert asked_at[0] - began >= 1.0
    assert lines[21].status == "failed"
    assert files.asked[21] == 1
    assert lines[22].status == "verified"
    assert files.here(22).read_bytes() == body(23)
    assert sum(line.status == "verified" for line in lines.values()) == 39


async def test_a_connection_that_breaks_costs_what_was_under_way(files: Files) -> None:
    files.faults = {number: [lambda _: None] for number in (10, 40, 41, 90)}
    lines = await files.copy(files.manifest())
    assert {line.status for line in lines.values()} == {"verified"}
    again = {number for number, times in files.asked.items() if times > 1}
    assert again == {10, 40, 41, 90}
    assert max(files.asked.values()) == 2


async def test_where_each_takes_long_they_share_out_over_the_connections(files: Files) -> None:
    files.takes_s = 0.15
    lines = await files.copy(files.manifest(48))
    assert {line.status for line in lines.values()} == {"verified"}
    assert len(files.connections) >= 12


async def test_one_that_turns_out_large_goes_its_own_way(files: Files) -> None:
    files.bodies[5] = bytes(3 * 1024 * 1024)
    lines = await files.copy(files.manifest(20))
    assert {line.status for line in lines.values()} == {"verified"}
    assert files.here(5).read_bytes() == files.bodies[5]


async def test_stopped_in_the_middle_nothing_hidden_is_left_and_nothing_done_is_fetched_again(
    files: Files,
) -> None:
    stop = Stop()

    def ask(_: server.Request) -> server.Response:
        stop.ask("enough")
        return server.Response(body=body(60))

    files.faults[60] = [ask]
    with pytest.raises(Interrupted):
        await files.copy(files.manifest(), stop=stop)
    assert files.left() == []
    done = {int(path.name) for path in (files.home / "to").iterdir()}
    assert 0 < len(done) < COUNT
    lines = await files.copy(files.manifest())
    assert {lines[number].status for number in done} == {"skipped"}
    assert {line.status for line in lines.values()} == {"skipped", "verified"}
    assert all(files.asked[number] == 1 for number in done)


async def test_what_had_arrived_when_it_was_killed_only_takes_its_name(files: Files) -> None:
    manifest = files.manifest(20)
    await files.copy(manifest)
    ledger = sqlite3.connect(files.home / "state" / "penstock" / "ledger.sqlite3")
    hidden = files.home / "to" / ".penstock-killed.part"
    files.here(7).rename(hidden)
    ledger.execute(
        "UPDATE transfers SET state = 'arrived', partial = ?, ended_at = NULL WHERE local_path = ?",
        (str(hidden), str(files.here(7))),
    )
    ledger.commit()
    ledger.close()
    lines = await files.copy(manifest)
    assert (lines[7].status, lines[7].verified_by) == ("verified", "manifest")
    assert files.asked[7] == 1
    assert files.here(7).read_bytes() == body(7)
    assert files.left() == []


async def test_files_that_are_said_to_be_large_are_fetched_once(files: Files) -> None:
    files.bodies = {number: bytes([number]) * 3 * MIB for number in range(4)}
    manifest = files.manifest(4)
    rows = manifest.read_text().splitlines()
    sized = [f"{row},{3 * MIB}" for row in rows[1:]]
    manifest.write_text("\n".join([f"{rows[0]},size", *sized]) + "\n")
    lines = await files.copy(manifest)
    assert {line.status for line in lines.values()} == {"verified"}
    assert all(line.bytes_received <= 3 * MIB + 1 for line in lines.values())


async def test_groups_that_wait_for_the_disk_make_others_wait(files: Files) -> None:
    named = threading.Semaphore(0)
    seen: list[tuple[int, int]] = []

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event == moments.FLUSHING and not done:
            named.acquire(timeout=0.005)
            seen.append((sum(files.asked.values()), len(list((files.home / "to").glob("[0-9]*")))))

    done = False
    sys.addaudithook(hook)
    try:
        lines = await files.copy(files.manifest(1000))
    finally:
        done = True
    assert {line.status for line in lines.values()} == {"verified"}
    assert max(asked - here for asked, here in seen) <= 18 * 32


async def test_strict_publishes_only_what_is_proved(files: Files) -> None:
    manifest = files.manifest(12)
    manifest.write_text(manifest.read_text().replace(hashlib.sha256(body(4)).hexdigest(), ""))
    lines = await files.copy(manifest, strict=True)
    assert lines[4].error is not None
    assert lines[4].error["type"] == "Unproved"
    assert not files.here(4).exists()
    assert sum(line.status == "verified" for line in lines.values()) == 11


@pytest.mark.parametrize(
    ("choice", "mine", "status", "reason"),
    [
        ("fail", b"mine", "failed", "conflict"),
        ("skip", b"mine", "skipped", "conflict"),
        ("rename", b"mine", "verified", None),
        ("overwrite", b"mine", "verified", None),
        ("fail", body(9), "skipped", "already there, the same"),
    ],
)
async def test_a_file_that_appears_meanwhile_is_met_as_one_that_stood_there(
    files: Files, choice: str, mine: bytes, status: str, reason: str | None
) -> None:
    def appear(_: server.Request) -> server.Response:
        files.here(9).parent.mkdir(exist_ok=True)
        files.here(9).write_bytes(mine)
        return server.Response(body=body(9))

    files.faults[9] = [appear]
    lines = await files.copy(files.manifest(20), on_conflict=choice)
    assert (lines[9].status, lines[9].reason) == (status, reason)
    assert files.here(9).read_bytes() == (body(9) if choice == "overwrite" else mine)
    if choice == "rename":
        assert files.here(9).with_name("9 (2)").read_bytes() == body(9)
    assert files.left() == []
    assert sum(line.status == "verified" for line in lines.values()) >= 19
