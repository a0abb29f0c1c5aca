"""Records and submissions on the real DataMeta server, made by `copy`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import penstock
from datameta_server import DataMetaServer
from penstock.core.metadata import FaultyTable
from penstock.core.report import Line

_METADATA = (
    ("#ID", "^[A-Z]{2}[0-9]+$", None, True, False, True),
    ("Date", None, "%d.%m.%Y", False, False, False),
    ("R1", None, None, True, True, False),
)


def demand(server: DataMetaServer, names: set[str]) -> set[str]:
    """Only these columns are mandatory from now on; the ones that were."""
    were = set()
    for each in list(server.ask("GET", "/metadata")[1]):
        if each["isMandatory"]:
            were.add(each["name"])
        if each["isMandatory"] != (each["name"] in names):
            body: dict[str, Any] = {
                key: value if value is not None else "" for key, value in each.items()
            }
            body |= {"isMandatory": each["name"] in names}
            number = body.pop("id")["uuid"]
            status, said = server.ask("PUT", f"/metadata/{number}", body)
            assert status in {200, 204}, said
    return were


@pytest.fixture
def metadata(datameta_server: DataMetaServer) -> Iterator[None]:
    """The server's columns; other tests' are there too, and must not be asked for here."""
    there = {each["name"] for each in datameta_server.ask("GET", "/metadata")[1]}
    for order, (name, pattern, date, mandatory, is_file, unique) in enumerate(_METADATA):
        if name in there:
            continue
        body = {
            "name": name,
            "regexDescription": "two letters and a number",
            "longDescription": name,
            "example": "x",
            "regExp": pattern or "",
            "dateTimeFmt": date or "",
            "isMandatory": mandatory,
            "order": order,
            "isFile": is_file,
            "isSubmissionUnique": unique,
            "isSiteUnique": unique,
            "serviceId": "",
        }
        status, said = datameta_server.ask("POST", "/metadata", body)
        assert status == 200, said
    were = demand(datameta_server, {name for name, _, _, mandatory, _, _ in _METADATA if mandatory})
    yield
    demand(datameta_server, were - {name for name, *_ in _METADATA})


@pytest.fixture
def bench(datameta_server: DataMetaServer, metadata: None, tmp_path: Path) -> Iterator[Nightly]:
    datameta_server.delete_pending()
    yield Nightly(datameta_server, tmp_path)
    datameta_server.delete_pending()


class Nightly:
    """A folder of files, a table about them, and the command that sends both."""

    def __init__(self, server: DataMetaServer, home: Path) -> None:
        self.server = server
        self.home = home
        self.mark = uuid.uuid4().hex[:8]
        self.number = int(self.mark, 16) * 100
        self.root = home / "files"
        self.root.mkdir()
        self.rows: list[str] = []

    @property
    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "PENSTOCK_DATAMETA_ENDPOINT": self.server.root,
            "PENSTOCK_DATAMETA_TOKEN": self.server.token,
        }

    def add(self, name: str, *, date: str = "01.02.2026", identity: str | None = None) -> None:
        own = f"{self.mark}-{name}"
        (self.root / own).write_bytes(f"the bytes of {own}".encode())
        self.number += 1
        self.rows.append(f"{identity or f'AB{self.number}'};{date};{own}")

    async def copy(self, **options: Any) -> penstock.Report:  # noqa: ANN401
        table = self.home / "table.csv"
        table.write_text("\ufeff#ID;Date;R1\n" + "".join(f"{row}\n" for row in self.rows))
        options.setdefault("environ", self.environ)
        return await penstock.copy(f"{self.root}/", "datameta:", metadata=table, **options)

    def submissions(self) -> list[dict[str, Any]]:
        group = self.server.ask("GET", "/rpc/whoami")[1]["group"]["id"]["uuid"]
        found: list[dict[str, Any]] = self.server.ask("GET", f"/groups/{group}/submissions")[1]
        return [each for each in found if (each["label"] or "").startswith(self.mark)]


def failed(report: penstock.Report) -> list[Line]:
    return [line for line in report.lines() if line.status == "failed"]


async def test_files_and_rows_are_submitted_once_whatever_the_label(bench: Nightly) -> None:
    bench.add("a")
    bench.add("b")
    report = await bench.copy(submit=f"{bench.mark} {{date}}")
    assert (report.exit_code, report.summary.verified) == (0, 2)
    (submission,) = bench.submissions()
    assert "{date}" not in submission["label"]
    assert report.summary.submission == {
        "id": submission["id"]["uuid"], "rows": 2, "left": 0,
    }  # fmt: skip
    assert len(submission["fileIds"]) == len(submission["metadatasetIds"]) == 2
    again = await bench.copy(submit=f"{bench.mark} another label")
    assert (again.exit_code, again.summary.skipped) == (0, 2)
    assert again.summary.submission == {
        "id": submission["id"]["uuid"], "rows": 0, "left": 0,
    }  # fmt: skip
    assert len(bench.submissions()) == 1


async def test_a_nightly_line_submits_what_is_new_and_a_lost_ledger_nothing_twice(
    bench: Nightly,
) -> None:
    bench.add("a", date="1.2.2026")
    await bench.copy(submit=f"{bench.mark} one")
    bench.add("b")
    environ = {**bench.environ, "XDG_STATE_HOME": str(bench.home / "fresh")}
    report = await bench.copy(submit=f"{bench.mark} two", environ=environ)
    assert report.exit_code == 0, list(report.lines())
    assert sum(line.bytes_sent > 0 for line in report.lines()) == 1
    assert report.summary.submission is not None
    assert report.summary.submission["rows"] == 1
    assert sorted(len(each["fileIds"]) for each in bench.submissions()) == [1, 1]


async def test_a_row_whose_file_is_gone_is_done_if_submitted_and_else_is_left(
    bench: Nightly,
) -> None:
    bench.add("a")
    await bench.copy(submit=f"{bench.mark} one")
    (bench.root / f"{bench.mark}-a").unlink()
    bench.add("b")
    report = await bench.copy(submit=f"{bench.mark} two")
    assert report.exit_code == 0
    assert (report.summary.submission or {})["rows"] == 1
    bench.rows.append(f"AB{bench.number + 60};;nothing-there")
    with pytest.raises(FaultyTable, match="2 faults"):
        await bench.copy(submit=f"{bench.mark} three", strict=True)
    left = await bench.copy(submit=f"{bench.mark} three")
    assert (left.exit_code, (left.summary.submission or {})["rows"]) == (1, 0)
    assert len(bench.submissions()) == 2


async def test_two_runs_at_once_submit_once_and_both_are_content(bench: Nightly) -> None:
    bench.add("a")
    bench.add("b")
    both = await asyncio.gather(
        bench.copy(submit=f"{bench.mark} one"), bench.copy(submit=f"{bench.mark} two")
    )
    assert [report.exit_code for report in both] == [0, 0]
    (submission,) = bench.submissions()
    told = [report.summary.submission or {} for report in both]
    assert [each["id"] for each in told] == [submission["id"]["uuid"]] * 2
    left = bench.server.ask("GET", "/ui/pending", above="/api")[1]["metadatasets"]
    assert not [each for each in left if bench.mark in str(each["record"])]


async def test_everything_wrong_is_told_before_anything_moves(bench: Nightly) -> None:
    bench.add("a", identity="lower1")
    bench.add("b", date="2026-02-01")
    bench.rows.append("AB1;01.02.2026;nothing-there")
    bench.rows.append(";01.02.2026;")
    (bench.root / "unnamed").write_bytes(b"x")
    # What other tests left and the server cannot delete.
    before = bench.server.pending()
    with pytest.raises(FaultyTable) as raised:
        await bench.copy(submit=f"{bench.mark} x")
    told = [(fault.row, fault.column) for fault in raised.value.faults]
    assert (2, "#ID") in told
    assert (3, "Date") in told
    assert (5, "#ID") in told
    assert (5, "R1") in told
    assert (4, "R1") in told, "a file that is not there is told with the rest"
    assert any("named by no row" in fault.reason for fault in raised.value.faults)
    assert bench.server.pending() == before
    bench.rows = bench.rows[:1]
    bench.rows[0] = bench.rows[0].replace("lower1", "AB1")
    with pytest.raises(FaultyTable, match="nothing was moved") as raised:
        await bench.copy(submit=f"{bench.mark} x")
    assert any("named by no row" in fault.reason for fault in raised.value.faults)
    assert bench.server.pending() == before


async def test_what_the_server_has_against_a_row_leaves_the_others_to_submit_complete(
    bench: Nightly,
) -> None:
    bench.add("a")
    await bench.copy(submit=f"{bench.mark} first")
    taken = bench.rows[0].partition(";")[0]
    bench.add("b", identity=taken)
    bench.add("c")
    notes: list[str] = []

    def hear(event: object) -> None:
        notes.append(str(getattr(event, "message", "")))

    refused = await bench.copy(submit=f"{bench.mark} second", on_event=hear)
    assert refused.exit_code == 1
    assert not failed(refused)
    assert len(bench.submissions()) == 1
    assert any("row 3" in note and "unique" in note for note in notes), notes
    partly = await bench.copy(submit=f"{bench.mark} third", submit_complete=True)
    assert partly.exit_code == 1
    assert partly.summary.submission is not None
    assert (partly.summary.submission["rows"], partly.summary.submission["left"]) == (1, 1)
    assert len(bench.submissions()) == 2
    assert sum(line.bytes_sent for line in partly.lines()) == 0
    mended = bench.rows[1].replace(taken, f"AB{bench.number + 50}")
    bench.rows[1] = mended
    last = await bench.copy(submit=f"{bench.mark} fourth")
    assert (last.exit_code, last.summary.submission or {}) == (
        0, {**(last.summary.submission or {}), "rows": 1, "left": 0},
    )  # fmt: skip


async def test_what_was_submitted_is_listed_fetched_proved_and_its_records_saved(
    bench: Nightly,
) -> None:
    bench.add("a")
    bench.add("b")
    table = bench.home / "table.csv"
    table.write_text("#ID;Date;R1\n" + "".join(f"{row}\n" for row in bench.rows))
    up = (f"{bench.root}/", "datameta:")
    options: dict[str, Any] = {"metadata": table, "submit": bench.mark, "environ": bench.environ}
    planned = await penstock.plan(*up, **options)
    sent = await penstock.copy(*up, **options)
    assert sent.summary.api_requests["datameta"] == planned.api_requests
    again = await penstock.plan(*up, **options)
    repeated = await penstock.copy(*up, **options)
    assert repeated.summary.api_requests["datameta"] == again.api_requests
    own = str((sent.summary.submission or {})["id"])
    listed = await penstock.list_("datameta:submissions", environ=bench.environ)
    (place,) = [entry.location for entry in listed if entry.id == own]
    back, saved = bench.home / "back", bench.home / "saved.csv"
    # Whoever plans first finds the place, and the copy need not.
    plan = await penstock.plan(
        place, f"{back}/", environ={**bench.environ, "XDG_STATE_HOME": str(bench.home / "other")}
    )
    down = await penstock.copy(place, f"{back}/", environ=bench.environ, report=bench.home / "r")
    assert {line.verified_by for line in down.lines()} == {"platform-digest"}
    # The URL comes with the MD5, and the size with the bytes.
    assert {line.api_requests for line in down.lines()} == {2}
    assert down.summary.api_requests["datameta"] == plan.api_requests
    lost = {**bench.environ, "XDG_STATE_HOME": str(bench.home / "fresh")}
    same = await penstock.copy(place, f"{back}/", environ=lost, save_metadata=saved)
    assert [line.reason for line in same.lines()] == ["already there, the same"] * 2
    assert sorted(saved.read_text().splitlines()[1:]) == sorted(
        row.replace(";", ",") for row in bench.rows
    )
    for held, against in ((place, back), (bench.root, place)):
        found = await penstock.verify(held, against, environ=bench.environ, strict=True)
        assert (found.ok, found.same) == (True, 2), (held, against, found)
    # Other tests' files may be pending there, which the server cannot delete.
    found = await penstock.verify(bench.root, "datameta:", environ=bench.environ)
    assert (found.same, found.extra, found.different, found.unproved) == (2, [], [], [])
    assert (await penstock.verify("datameta:", report=sent.path, environ=bench.environ)).same == 2
    (back / f"{bench.mark}-a").write_bytes(
        b"x" * len((bench.root / f"{bench.mark}-a").read_bytes())
    )
    found = await penstock.verify(place, back, environ=bench.environ)
    assert [each.path for each in found.different] == [f"{bench.mark}-a"]
    (bench.home / "empty").mkdir()
    found = await penstock.verify(
        "datameta:submissions", bench.home / "empty", environ=bench.environ
    )
    assert len(found.extra) >= 2, "where nothing is held against it, nothing is left out"
    kept = await penstock.metadata(place, environ=bench.environ)
    assert {one.values["R1"] for one in kept} == {(f"{bench.mark}-a",), (f"{bench.mark}-b",)}


async def test_without_submit_records_are_made_and_wait(bench: Nightly) -> None:
    bench.add("a")
    for _ in range(2):
        report = await bench.copy()
        assert (report.exit_code, report.summary.submission) == (0, None)
    pending = bench.server.ask("GET", "/ui/pending", above="/api")[1]["metadatasets"]
    assert sum(each["record"]["R1"] == f"{bench.mark}-a" for each in pending) == 1
    last = await bench.copy(submit=bench.mark)
    assert last.exit_code == 0
    assert bench.submissions()[0]["metadatasetIds"]


async def test_a_submission_that_makes_no_sense_is_refused(bench: Nightly) -> None:
    bench.add("a")
    with pytest.raises(penstock.UsageError, match="label"):
        await bench.copy(submit_complete=True)
    with pytest.raises(penstock.UsageError, match="needs its metadata"):
        await penstock.copy(f"{bench.root}/", "datameta:", submit="x", environ=bench.environ)
