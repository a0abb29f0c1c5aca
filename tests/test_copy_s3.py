"""Coscine resources in an S3 storage, through whole runs against a real S3 server (moto's)."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import penstock
from benches import md5
from penstock.core.errors import RunStopped
from penstock.core.events import Event, Note
from penstock.core.model import MIB
from s3_server import READ, WRITE, S3Request, S3Server
from s3_world import S3Bench, names, s3_resource

PARTS = "5MiB"


def local(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): md5(path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


def md5s(files: dict[str, bytes]) -> dict[str, str]:
    return {path: md5(content) for path, content in files.items()}


def line(report: penstock.Report) -> penstock.Line:
    (one,) = report.lines()
    return one


# -- requests ------------------------------------------------------------------------------


async def test_no_file_costs_an_api_request(s3: S3Bench) -> None:
    """One to read the resource, one for the room in it."""
    files = {f"d{n % 7}/f{n}": b"%d" % n for n in range(60)}
    root = s3.tree(files)
    report = await s3.copy(f"{root}/", f"{s3.remote}/")
    assert (report.summary.verified, report.summary.api_requests) == (60, {"coscine": 2})
    assert s3.asked().count("PUT") == 60
    report = await s3.copy(f"{s3.remote}/", s3.home / "to")
    assert (report.summary.verified, report.summary.api_requests) == (60, {"coscine": 1})
    assert local(s3.home / "to") == md5s(files)
    planned = await penstock.plan(f"{root}/", f"{s3.remote}/new/", environ=s3.environ)
    assert (planned.files, planned.api_requests) == (60, planned.spent)


async def test_a_page_holds_a_thousand_objects_and_more_pages_follow(s3: S3Bench) -> None:
    s3.seed_many(*(f"many/{number:04}" for number in range(1001)))
    entries = await penstock.list_(f"{s3.remote}/many/", environ=s3.environ)
    assert len(entries) == 1001
    assert s3.asked().count("GET list") == 3  # the first key below `many`, and two pages


async def test_what_stands_for_a_folder_is_no_file_and_odd_keys_come_down(s3: S3Bench) -> None:
    for key in ("a/", "a/b", "a//c", "/d", "e\x01f", "g+h %41"):
        s3.seed(key, key.encode())
    report = await s3.copy(f"{s3.remote}/", s3.home / "to")
    assert report.exit_code == 0
    got = sorted((s3.home / "to").rglob("*"))
    assert sorted(p.read_bytes() for p in got if p.is_file()) == sorted(
        key.encode() for key in ("a/b", "a//c", "/d", "e\x01f", "g+h %41")
    )


async def test_one_run_fetches_from_a_bucket_and_from_the_api(s3: S3Bench) -> None:
    """By name, by prefix, and beside a resource that Coscine carries itself."""
    s3.seed("x/y/a", b"in the bucket")
    s3.seed("x/b", b"too")
    s3.sim.add_file("web.txt", b"on the web")
    web = f"coscine:{s3.sim.project}/{s3.sim.resource}/"
    report = await s3.copy("coscine:demo/in-s3/x/", web, f"{s3.home}/to/")
    assert (report.exit_code, report.summary.verified) == (0, 3)
    found = local(s3.home / "to")
    assert found == md5s(
        {
            "x/y/a": b"in the bucket",
            "x/b": b"too",
            f"{s3.sim.resource}/web.txt": b"on the web",
        }
    )


async def test_a_resource_of_datastorage_nrw_goes_straight_to_its_bucket_too(s3: S3Bench) -> None:
    nrw = s3.sim.add_resource("nrw", general_type="dsnrws3", reserved=1 << 40)
    s3.sim.at(nrw).bucket = s3.server.bucket
    report = await s3.copy(f"{s3.tree({'a': b'abc'})}/", f"coscine:{s3.sim.project}/{nrw}/")
    assert (report.summary.verified, s3.asked().count("PUT")) == (1, 1)


# -- proof ---------------------------------------------------------------------------------


async def test_parts_others_sent_are_proved_by_their_etag(s3: S3Bench) -> None:
    parts = (os.urandom(8 * MIB), os.urandom(8 * MIB), os.urandom(3 * MIB))
    s3.seed_parts("large", *parts)
    report = await s3.copy(f"{s3.remote}/large", f"{s3.home}/to/")
    assert (line(report).status, line(report).verified_by) == ("verified", "etag")
    root = s3.tree({"large": b"".join(parts)})
    again = await s3.copy(root / "large", f"{s3.remote}/")
    assert (line(again).status, line(again).bytes_sent) == ("skipped", 0)


async def test_a_whole_file_goes_with_its_md5_ahead(s3: S3Bench) -> None:
    root = s3.tree({"a": b"abc"})
    await s3.copy(f"{root}/", f"{s3.remote}/")
    (sent,) = [each for each in s3.stored() if names(each) == "PUT"]
    assert sent.headers["content-md5"] == "kAFQmDzST7DWlj99KOF/cg=="


async def test_an_encrypted_storage_proves_nothing_but_what_is_read_back(s3: S3Bench) -> None:
    """Its ETags look like digests and are none."""
    s3.server.more = [("x-amz-server-side-encryption", "aws:kms")]
    root = s3.tree({"a": b"abc", "large": os.urandom(11 * MIB)})
    report = await s3.copy(f"{root}/", f"{s3.remote}/", part_size=PARTS)
    assert (report.summary.unverified, report.exit_code) == (2, 0)
    strict = await s3.copy(f"{root}/", f"{s3.remote}/x/", part_size=PARTS, strict=True)
    assert {each.verified_by for each in strict.lines()} == {"read-back"}
    assert {each.status for each in strict.lines()} == {"verified"}


async def test_a_same_sized_file_somebody_put_in_its_place_is_a_conflict(s3: S3Bench) -> None:
    """The ledger proved another state of it."""
    root = s3.tree({"a": b"ours"})
    await s3.copy(f"{root}/", f"{s3.remote}/")
    s3.seed("a", b"them")
    report = await s3.copy(f"{root}/", f"{s3.remote}/")
    assert (line(report).status, line(report).reason) == ("failed", "conflict")
    report = await s3.copy(f"{root}/", f"{s3.remote}/", on_conflict="overwrite")
    assert line(report).status == "verified"
    assert s3.there() == md5s({"a": b"ours"})


async def test_a_file_that_changes_while_it_is_fetched_is_never_a_mix(s3: S3Bench) -> None:
    # Moto takes an ETag in pieces of 16 MiB, and another request that reads meanwhile spoils it.
    before, after = os.urandom(12 * MIB), os.urandom(12 * MIB)
    s3.seed("a", before)

    left = [1]

    def change(request: S3Request, body: bytes) -> bytes:
        if names(request) == "GET" and len(body) > MIB and left:
            left.clear()
            s3.seed("a", after)
        return body

    s3.server.spoil = change
    await s3.copy(f"{s3.remote}/a", f"{s3.home}/to/", part_size="5MiB")
    whole = s3.home / "to/a"
    assert not whole.exists() or whole.read_bytes() in {before, after}
    again = await s3.copy(f"{s3.remote}/a", f"{s3.home}/to/", on_conflict="overwrite")
    assert again.exit_code == 0
    assert whole.read_bytes() == after


# -- trouble -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["PUT", "PUT part", "POST uploads", "POST upload", "GET list"])
async def test_a_lost_answer_costs_a_repetition_and_nothing_else(s3: S3Bench, what: str) -> None:
    left = [1]

    def lose(request: S3Request, body: bytes) -> bytes | None:
        if names(request) != what or not left:
            # moto begins all uploads in 2010; an answer's length was told before.
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000Z".encode()
            return re.sub(rb"(?<=<Initiated>)[^<]*", now, body)
        left.clear()
        return None

    s3.server.spoil = lose
    files = {"small": b"abc", "large": os.urandom(11 * MIB)}
    root = s3.tree(files)
    told: list[Event] = []
    report = await s3.copy(f"{root}/", f"{s3.remote}/", part_size=PARTS, on_event=told.append)
    assert not left
    assert (report.summary.verified, report.exit_code) == (2, 0)
    assert s3.there() == md5s(files)
    # What was begun unseen holds no bytes, and is nobody's to end: it is named.
    assert len(s3.server.open_uploads()) == (what == "POST uploads")
    named = [event for event in told if isinstance(event, Note) and "'large' is open" in str(event)]
    assert len(named) == (what == "POST uploads")


async def test_a_storage_that_asks_for_less_is_asked_again(s3: S3Bench) -> None:
    left = [503, 500, 503]
    s3.server.refuse = lambda _: left.pop() if left else None
    report = await s3.copy(f"{s3.tree({'a': b'abc'})}/", f"{s3.remote}/")
    assert (report.exit_code, report.summary.rejected_by_quota) == (0, {"coscine": 0})


async def test_who_has_no_keys_to_write_moves_nothing(moto_s3: S3Server, tmp_path: Path) -> None:
    async with s3_resource(tmp_path, moto_s3) as s3:
        s3.sim.project_at().role = "guest"
        s3.seed("there", b"x")
        root = s3.tree({"a": b"abc"})
        with pytest.raises(RunStopped, match="may read only"):
            await s3.copy(f"{root}/", f"{s3.remote}/")
        assert s3.asked() == []
        report = await s3.copy(f"{s3.remote}/", s3.home / "to")
        assert report.exit_code == 0
        assert {each.key for each in s3.stored()} == {READ[0]}


async def test_what_is_archived_or_full_is_told_before_anything_moves(s3: S3Bench) -> None:
    root = s3.tree({"a": b"abc"})
    s3.sim.at(s3.resource).reserved = 2
    with pytest.raises(RunStopped, match="room for 2 bytes"):
        await s3.copy(f"{root}/", f"{s3.remote}/")
    s3.sim.at(s3.resource).archived = True
    with pytest.raises(RunStopped, match="archived"):
        await s3.copy(f"{root}/", f"{s3.remote}/")
    assert s3.there() == {}


async def test_metadata_goes_through_the_api_and_the_bytes_do_not(s3: S3Bench) -> None:
    s3.sim.at(s3.resource).profile = "https://example.org/ap/microscopy/"
    files = {"a.tif": b"abc", "d/b.tif": b"def"}
    table = s3.home / "table.csv"
    head = "path;Titel;Ersteller;Erstelldatum;Fachgebiet"
    table.write_text(f"{head}\n*.tif;Alle;Ada;2026-01-02;Informatik\n", encoding="utf-8")
    root = s3.tree(files)
    report = await s3.copy(f"{root}/", f"{s3.remote}/", metadata=table)
    assert [(each.status, each.metadata) for each in report.lines()] == [("verified", "stored")] * 2
    assert s3.there() == md5s(files)
    assert len(s3.sim.calls("PUT", "/metadata/content")) == 2
    assert s3.sim.calls("POST") == []
    table.write_text(f"{head}\n*.tif;Neu;Ada;2026-01-02;Informatik\n", encoding="utf-8")
    again = await s3.copy(f"{root}/", f"{s3.remote}/", metadata=table)
    assert {each.metadata for each in again.lines()} == {"stored"}
    assert sum(each.bytes_sent for each in again.lines()) == 0
    assert '"Neu"' in s3.sim.metadata(s3.resource)["d/b.tif"]
    assert s3.asked().count("PUT") == 2


# -- resuming ------------------------------------------------------------------------------


async def killed(s3: S3Bench, *arguments: str, when: Callable[[], bool]) -> None:
    """The command, killed as soon as something holds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "copy", "-q", "--progress", "none", *arguments),
        env={**os.environ, **s3.environ},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while not when():
                assert process.returncode is None, "it ended before it was killed"
                await asyncio.sleep(0.005)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_upload_carries_on_and_a_strangers_stays(s3: S3Bench) -> None:
    content = os.urandom(32 * MIB)
    root = s3.tree({"large": content})
    theirs = s3.begin("large")
    command = (f"{root}/", f"{s3.remote}/", "--part-size", PARTS, "--concurrency", "1")
    await killed(s3, *command, when=lambda: s3.asked().count("PUT part") >= 3)
    assert s3.there() == {}
    assert len(s3.server.open_uploads()) == 2
    sent = s3.asked().count("PUT part")
    report = await s3.copy(*command[:2], part_size=PARTS)
    assert line(report).status == "verified"
    assert s3.asked().count("PUT part") - sent <= 7 - 3 + 1
    assert s3.there() == md5s({"large": content})
    assert s3.server.open_uploads() == [theirs]


async def test_an_upload_whose_creation_was_answered_to_nobody_is_named_and_left(
    s3: S3Bench,
) -> None:
    """It holds no bytes, and nothing tells it from what somebody else is just beginning."""
    content = os.urandom(11 * MIB)
    root = s3.tree({"large": content})
    command = (f"{root}/", f"{s3.remote}/", "--part-size", PARTS)
    waiting = threading.Event()

    def hold(request: S3Request, body: bytes) -> bytes:
        if names(request) == "POST uploads":
            waiting.wait(10)
        # moto says of every upload that it began in 2010.
        now = datetime.now(UTC).strftime("<Initiated>%Y-%m-%dT%H:%M:%S.999Z<").encode()
        return re.sub(rb"<Initiated>[^<]*<", now, body)

    s3.server.spoil = hold
    await killed(s3, *command, when=lambda: "POST uploads" in s3.asked())
    waiting.set()
    (stray,) = s3.server.open_uploads()
    said: list[Event] = []
    report = await s3.copy(*command[:2], part_size=PARTS, on_event=said.append)
    assert line(report).status == "verified", line(report).error
    assert s3.server.open_uploads() == [stray]
    assert len([note for note in said if isinstance(note, Note) and "'large'" in note.message]) == 1


async def test_a_killed_uploads_parts_go_when_its_source_is_gone(s3: S3Bench) -> None:
    root = s3.tree({"large": os.urandom(32 * MIB), "other": b"x"})
    command = (f"{root}/", f"{s3.remote}/", "--part-size", PARTS, "--concurrency", "1")
    await killed(s3, *command, when=lambda: s3.asked().count("PUT part") >= 2)
    (root / "large").unlink()
    await s3.copy(*command[:2])
    assert s3.server.open_uploads() == []


async def test_an_upload_that_is_gone_is_begun_anew(s3: S3Bench) -> None:
    content = os.urandom(32 * MIB)
    root = s3.tree({"large": content})
    command = (f"{root}/", f"{s3.remote}/", "--part-size", PARTS, "--concurrency", "1")
    await killed(s3, *command, when=lambda: s3.asked().count("PUT part") >= 2)
    (open_upload,) = s3.server.open_uploads()
    s3.server.client.abort_multipart_upload(
        Bucket=s3.server.bucket, Key="large", UploadId=open_upload
    )
    # moto breaks over a part for an upload that is gone, where S3 says so.
    s3.server.refuse = lambda each: 404 if each.query.get("uploadId") == open_upload else None
    report = await s3.copy(*command[:2], part_size=PARTS)
    assert line(report).status == "verified"
    assert s3.there() == md5s({"large": content})


async def test_a_killed_download_carries_on(s3: S3Bench) -> None:
    content = os.urandom(48 * MIB)
    s3.seed("large", content)
    command = (f"{s3.remote}/large", f"{s3.home}/to/", "--concurrency", "1")
    parts = ("--part-size", "8MiB")
    await killed(s3, *command, *parts, when=lambda: s3.asked().count("GET") >= 5)
    report = await s3.copy(*command[:2])
    assert line(report).status == "verified"
    assert line(report).bytes_received < len(content)
    assert (s3.home / "to/large").read_bytes() == content


# -- keys ----------------------------------------------------------------------------------


@pytest.fixture
async def broken(moto_s3: S3Server, tmp_path: Path) -> AsyncIterator[S3Bench]:
    """A storage that refuses whatever is sent to it, telling much."""
    async with s3_resource(tmp_path, moto_s3) as s3:
        moto_s3.refuse = lambda request: 403 if names(request) == "PUT" else None
        yield s3


async def test_keys_appear_nowhere(broken: S3Bench) -> None:
    """Not in ledger, report, log, event or message, whether a run fails or not."""
    root = broken.tree({"a": b"abc"})
    said: list[str] = []
    report = await broken.copy(
        f"{root}/", f"{broken.remote}/", on_event=lambda event: said.append(repr(event))
    )
    assert report.summary.failed == 1
    said += [repr(each) for each in report.lines()]
    broken.server.refuse = lambda _: None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "copy", "--debug", "-v", "--log", "log"),
        *("--report", "report", f"{root}/", f"{broken.remote}/"),
        cwd=broken.home,
        env={**os.environ, **broken.environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said += [text.decode() for text in await process.communicate()]
    assert process.returncode == 0, said
    written = [path.read_bytes() for path in broken.home.rglob("*") if path.is_file()]
    everything = b"\0".join([*written, *(text.encode() for text in said)])
    assert b"a" in everything
    for secret in (*READ, *WRITE, broken.sim.token):
        assert secret.encode() not in everything


async def test_verify_and_list_ask_the_storage_alone(s3: S3Bench) -> None:
    files = {"a": b"abc", "d/b": b"def"}
    root = s3.tree(files)
    await s3.copy(f"{root}/", f"{s3.remote}/")
    s3.seed("a", b"abx")
    asked = s3.requests()
    found = await penstock.verify(s3.remote, root, environ=s3.environ)
    assert ([each.path for each in found.different], found.same) == (["a"], 1)
    assert s3.requests() - asked == 1
