"""Files sent to the real DataMeta server by `copy`: announced, sent, confirmed, never twice."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import penstock
from datameta_proxy import Break, DataMetaProxy, proxy_to
from datameta_server import DataMetaServer
from penstock.core.events import Note
from penstock.core.report import Line

Pending: TypeAlias = Callable[[], dict[str, dict[str, Any]]]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
async def proxy(datameta_server: DataMetaServer) -> AsyncIterator[DataMetaProxy]:
    async with proxy_to(datameta_server.root) as opened:
        yield opened


@pytest.fixture
def token(datameta_server: DataMetaServer) -> str:
    """The key of a user who has sent nothing yet."""
    return datameta_server.fresh_token()


@pytest.fixture
def pending(datameta_server: DataMetaServer, token: str) -> Pending:
    """What the user has sent and not submitted, by id."""
    return functools.partial(datameta_server.pending, token)


@pytest.fixture
def environ(token: str, proxy: DataMetaProxy, tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PENSTOCK_DATAMETA_ENDPOINT": proxy.root,
        "PENSTOCK_DATAMETA_TOKEN": token,
    }


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "src"


def by_name(report: penstock.Report) -> dict[str, Line]:
    return {Path(line.source).name: line for line in report.lines()}


async def test_a_file_takes_three_requests_an_empty_one_two_and_is_proved_by_the_platform(
    datameta_server: DataMetaServer,
    token: str,
    proxy: DataMetaProxy,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    content = os.urandom(300_000)
    root = tree(tmp_path, {"deep/a.bin": content, "empty": b""})
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    lines = by_name(report)
    assert (lines["a.bin"].api_requests, lines["empty"].api_requests) == (3, 2)
    for name, held in (("a.bin", content), ("empty", b"")):
        line = lines[name]
        assert (line.status, line.verified_by) == ("verified", "platform-digest")
        assert line.destination == f"datameta:{line.id}"
        there = datameta_server.ask("GET", f"/files/{line.id}", token=token)[1]
        assert (there["name"], there["checksum"]) == (name, md5(held))
        assert there["contentUploaded"]
    before = len(proxy.log)
    again = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    assert (again.summary.skipped, again.summary.failed) == (2, 0)
    assert {line.destination for line in again.lines()} == {
        line.destination for line in lines.values()
    }
    assert len(proxy.log) - before <= 4


async def test_bytes_that_arrive_wrong_are_sent_once_more(
    pending: Pending,
    proxy: DataMetaProxy,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    root = tree(tmp_path, {"a.bin": os.urandom(50_000)})
    proxy.breaks.append(Break("POST", "/upload/", "flip"))
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    (line,) = report.lines()
    assert (line.status, line.verified_by) == ("verified", "platform-digest")
    assert proxy.count("POST", "/upload/") == 2
    assert list(pending()) == [line.id]


async def test_bytes_that_arrive_wrong_twice_fail_with_both_digests_and_nothing_is_left(
    pending: Pending,
    proxy: DataMetaProxy,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    content = os.urandom(50_000)
    root = tree(tmp_path, {"a.bin": content})
    proxy.breaks.append(Break("POST", "/upload/", "flip", times=2))
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    (line,) = report.lines()
    assert line.error is not None
    assert line.error["type"] == "DigestMismatch"
    assert line.error["message"].count(md5(content)) == 2
    assert proxy.count("POST", "/upload/") == 2
    assert proxy.count("DELETE", "/files/") == 1
    assert not pending()


async def test_a_lost_announce_is_made_anew_and_what_may_be_left_is_said_once(
    pending: Pending,
    proxy: DataMetaProxy,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    root = tree(tmp_path, {"a": b"1", "b": b"2"})
    proxy.breaks.append(Break("POST", "/v1/files$", "lose", times=2))
    said: list[str] = []
    report = await penstock.copy(
        f"{root}/",
        "datameta:",
        environ=environ,
        on_event=lambda event: said.append(event.message) if isinstance(event, Note) else None,
    )
    assert report.summary.verified == 2
    assert len(said) == 1
    assert "may be left" in said[0]
    assert len(pending()) == 2


async def test_a_lost_confirmation_is_asked_about_and_nothing_is_sent_again(
    proxy: DataMetaProxy, environ: dict[str, str], tmp_path: Path
) -> None:
    root = tree(tmp_path, {"a": b"the content"})
    proxy.breaks.append(Break("PUT", "/files/", "lose"))
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    (line,) = report.lines()
    assert (line.status, line.verified_by) == ("verified", "platform-digest")
    assert proxy.count("PUT", "/files/") == proxy.count("POST", "/upload/") == 1
    assert proxy.count("GET", f"/files/{line.id}") == 1


async def test_what_a_dead_run_announced_is_deleted_and_announced_anew(
    pending: Pending,
    proxy: DataMetaProxy,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    root = tree(tmp_path, {"a": b"the content"})
    proxy.breaks.append(Break("POST", "/upload/", "fail"))
    broken = await penstock.copy(f"{root}/", "datameta:", environ=environ, retries=0)
    assert broken.summary.failed == 1
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    (line,) = report.lines()
    assert line.status == "verified"
    assert proxy.count("DELETE", "/files/") == 1
    assert proxy.count("POST", "/v1/files$") == 2
    assert list(pending()) == [line.id]


async def test_what_a_dead_run_sent_is_confirmed_and_not_sent_again(
    pending: Pending,
    proxy: DataMetaProxy,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    root = tree(tmp_path, {"a": b"the content"})
    proxy.breaks.append(Break("PUT", "/files/", "fail"))
    broken = await penstock.copy(f"{root}/", "datameta:", environ=environ, retries=0)
    assert broken.summary.failed == 1
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    (line,) = report.lines()
    assert (line.status, line.bytes_sent) == ("verified", 0)
    assert proxy.count("POST", "/v1/files$") == 1
    assert list(pending()) == [line.id]


async def test_what_a_dead_run_confirmed_is_adopted(
    proxy: DataMetaProxy, environ: dict[str, str], tmp_path: Path
) -> None:
    root = tree(tmp_path, {"a": b"the content"})
    # Confirmed, but neither that answer nor those to the questions ever came.
    proxy.breaks += [Break("PUT", "/files/", "lose"), Break("GET", "/files/", "lose")]
    broken = await penstock.copy(f"{root}/", "datameta:", environ=environ, retries=0)
    assert broken.summary.failed == 1
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    (line,) = report.lines()
    assert (line.status, line.verified_by, line.bytes_sent) == ("verified", "platform-digest", 0)
    assert proxy.count("POST", "/v1/files$") == 1


async def test_a_lost_ledger_sends_nothing_twice_pending_or_submitted(
    datameta_server: DataMetaServer,
    proxy: DataMetaProxy,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    root = tree(tmp_path, {"sent.bin": b"submitted", "other.bin": b"pending"})
    first = await penstock.copy(f"{root}/", "datameta:", environ=environ, state=tmp_path / "one")
    ids = {name: line.id for name, line in by_name(first).items()}
    submit(datameta_server, environ["PENSTOCK_DATAMETA_TOKEN"], "sent.bin", ids["sent.bin"])
    announced = proxy.count("POST", "")
    again = await penstock.copy(f"{root}/", "datameta:", environ=environ, state=tmp_path / "two")
    assert again.summary.skipped == 2
    assert {name: line.id for name, line in by_name(again).items()} == ids
    assert proxy.count("POST", "") == announced
    changed = tree(tmp_path, {"sent.bin": b"another content"})
    report = await penstock.copy(f"{changed}/", "datameta:", environ=environ)
    assert by_name(report)["sent.bin"].status == "verified"
    assert by_name(report)["sent.bin"].id != ids["sent.bin"]


def submit(server: DataMetaServer, token: str, name: str, file_id: str | None) -> None:
    """The file is submitted, as the web form would."""
    column = {
        "name": "TheFile",
        "isMandatory": False,
        "isFile": True,
        "order": 1,
        "isSubmissionUnique": False,
        "isSiteUnique": False,
        "serviceId": "",
        "regexDescription": "",
        "longDescription": "",
        "regExp": "",
        "dateTimeFmt": "",
        "example": "",
    }
    status, told = server.ask("POST", "/metadata", column)
    assert status == 200, told
    status, made = server.ask("POST", "/metadatasets", {"record": {"TheFile": name}}, token)
    assert status == 200, made
    body = {"metadatasetIds": [made["id"]["uuid"]], "fileIds": [file_id], "label": None}
    status, told = server.ask("POST", "/submissions", body, token)
    assert status == 200, told


async def test_files_of_one_name_go_side_by_side_and_the_same_content_once(
    pending: Pending,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    root = tree(tmp_path, {"x/n.txt": b"one", "y/n.txt": b"another", "z/n.txt": b"one"})
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    assert (report.summary.verified, report.summary.skipped) == (2, 1)
    assert sorted(file["name"] for file in pending().values()) == ["n.txt"] * 2
    again = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    assert again.summary.skipped == 3


async def test_a_name_the_server_could_not_serve_is_refused_before_it_is_announced(
    proxy: DataMetaProxy, environ: dict[str, str], tmp_path: Path
) -> None:
    root = tree(tmp_path, {"名.txt": b"1", "ümläut.txt": b"2"})
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    assert (report.summary.verified, report.summary.failed) == (1, 1)
    assert proxy.count("POST", "/v1/files$") == 1


async def test_a_manifest_names_files_and_a_report_keeps_their_names(
    pending: Pending, environ: dict[str, str], tmp_path: Path
) -> None:
    root = tree(tmp_path, {"a": b"1"})
    table = root.parent / "table.csv"
    table.write_text("source,destination\nsrc/a,renamed.txt\n")
    report = await penstock.copy(
        "datameta:", manifest=table, environ=environ, report=tmp_path / "r.jsonl"
    )
    (line,) = report.lines()
    assert pending()[line.id or ""]["name"] == "renamed.txt"
    again = await penstock.copy("datameta:", manifest=tmp_path / "r.jsonl", environ=environ)
    assert again.summary.skipped == 1
    assert next(again.lines()).id == line.id


async def test_many_small_files_go_without_a_failure_however_many_transactions_conflict(
    pending: Pending, datameta_server: DataMetaServer, environ: dict[str, str], tmp_path: Path
) -> None:
    root = tree(tmp_path, {f"{number:03}.txt": b"%d" % number for number in range(200)})
    environ["PENSTOCK_DATAMETA_ENDPOINT"] = datameta_server.endpoint
    report = await penstock.copy(f"{root}/", "datameta:", environ=environ)
    assert (report.summary.verified, report.summary.failed) == (200, 0)
    assert len(pending()) == 200
