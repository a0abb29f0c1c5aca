"""Files by plain URL, fetched from real web servers on loopback."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web as server
from aiohttp.typedefs import Handler

import penstock
from penstock.core.errors import LocationError, UsageError
from penstock.core.model import MIB
from penstock.core.report import Line

SMALL = os.urandom(4_000)
LARGE = os.urandom(40 * MIB)


@dataclass
class Web:
    """A folder served by aiohttp, with ranges, and by Python's own server, which has none."""

    root: Path
    home: Path
    url: str = ""
    plain: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    replies: dict[str, dict[str, str]] = field(default_factory=dict)
    cut: int = 0
    breaks: int = 0

    @property
    def environ(self) -> dict[str, str]:
        return {"HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state")}

    async def copy(self, *what: str | Path, **options: object) -> penstock.Report:
        return await penstock.copy(*map(str, what), environ=self.environ, **options)  # type: ignore[arg-type]

    @server.middleware
    async def note(self, request: server.Request, handler: Handler) -> server.StreamResponse:
        self.asked.append((request.method, request.path_qs, request.headers.get("Range")))
        assert "Authorization" not in request.headers
        if self.cut and request.method == "GET" and request.headers.get("Range") != "bytes=0-0":
            self.cut -= 1
            assert request.transport is not None
            request.transport.abort()
        return await handler(request)

    async def untold(self, request: server.Request) -> server.StreamResponse:
        """A file whose size is told nowhere: chunked, or ended by hanging up."""
        how, told = request.match_info["how"], self.replies.get(request.path, {})
        answer = server.StreamResponse(headers=told)
        assert request.transport is not None
        if how == "hung-up":
            lines = ["HTTP/1.1 200 OK", "Connection: close", *(": ".join(p) for p in told.items())]
            head = "\r\n".join((*lines, "", "")).encode()
            request.transport.write(head + (SMALL if request.method == "GET" else b""))
            request.transport.close()
            return answer
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        if request.method == "GET":
            await answer.write(SMALL)
            if how == "chunked-cut" and "Range" not in request.headers and self.breaks:
                self.breaks -= 1
                await answer.write(LARGE[: 2 * MIB])
                request.transport.close()
            await answer.write_eof()
        return answer

    async def say(self, request: server.Request, answer: server.StreamResponse) -> None:
        answer.headers.update(self.replies.get(request.path, {}))


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    root = tmp_path / "served"
    root.mkdir()
    (root / "small file.bin").write_bytes(SMALL)
    (root / "large.bin").write_bytes(LARGE)
    (root / "empty").write_bytes(b"")
    made = Web(root, tmp_path)
    app = server.Application(middlewares=[made.note])

    async def round_and_round(_: server.Request) -> server.Response:
        raise server.HTTPFound("/round")

    async def moved(request: server.Request) -> server.Response:
        where = request.query["to"]
        raise server.HTTPFound(where)

    app.on_response_prepare.append(made.say)
    app.router.add_get("/moved", moved)

    async def refused(_: server.Request) -> server.Response:
        raise server.HTTPForbidden

    app.router.add_get("/refused", refused)
    app.router.add_get("/untold/{how}", made.untold)
    app.router.add_get("/round", round_and_round)
    app.router.add_static("/", root)
    runner = server.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await server.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def rangeless(web: Web) -> Iterator[Web]:
    """The folder from a server that knows neither Range nor ETag."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(web.root))
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    web.plain = f"http://127.0.0.1:{httpd.server_port}"
    yield web
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def only_line(report: penstock.Report) -> Line:
    (line,) = report.lines()
    return line


async def test_a_url_is_fetched_and_what_proves_nothing_is_said(web: Web) -> None:
    report = await web.copy(f"{web.url}/small%20file.bin", f"{web.home}/to/")
    line = only_line(report)
    assert (web.home / "to/small file.bin").read_bytes() == SMALL
    assert (line.status, line.api_requests, report.exit_code) == ("unverified", 0, 0)
    gets = [asked for asked in web.asked if asked[0] == "GET"]
    assert len(gets) == 1
    assert report.summary.api_requests == {"https": 0}


async def test_a_large_file_comes_in_ranges_and_resumes(web: Web) -> None:
    web.cut = 100
    cut_off = await web.copy(f"{web.url}/large.bin", web.home / "here.bin", retries=0)
    assert cut_off.exit_code == 1
    web.cut = 0
    report = await web.copy(f"{web.url}/large.bin", web.home / "here.bin")
    assert (web.home / "here.bin").read_bytes() == LARGE
    assert only_line(report).parts > 1


async def test_a_file_that_changed_is_fetched_again_and_one_that_did_not_is_skipped(
    web: Web,
) -> None:
    url, here = f"{web.url}/large.bin", web.home / "here.bin"
    await web.copy(url, here)
    web.asked.clear()
    again = await web.copy(url, here)
    assert only_line(again).status == "skipped"
    assert [method for method, _, _ in web.asked] == ["HEAD"]
    changed = bytes(reversed(LARGE))
    (web.root / "large.bin").write_bytes(changed)
    os.utime(web.root / "large.bin", (1_000_000_000, 1_000_000_000))
    report = await web.copy(url, here, on_conflict="overwrite")
    assert only_line(report).status == "unverified"
    assert here.read_bytes() == changed


async def test_a_server_without_ranges_is_fetched_from_in_one_go(rangeless: Web) -> None:
    report = await rangeless.copy(f"{rangeless.plain}/large.bin", rangeless.home / "here.bin")
    line = only_line(report)
    assert (line.status, line.parts) == ("unverified", 1)
    assert (rangeless.home / "here.bin").read_bytes() == LARGE


async def test_a_repr_digest_proves_the_file(web: Web) -> None:
    digest = base64.b64encode(hashlib.sha256(LARGE).digest()).decode()
    web.replies["/large.bin"] = {"Repr-Digest": f"sha-256=:{digest}:"}
    line = only_line(await web.copy(f"{web.url}/large.bin", web.home / "here.bin"))
    assert (line.status, line.verified_by) == ("verified", "platform-digest")


async def test_a_wrong_repr_digest_publishes_nothing(web: Web) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"another").digest()).decode()
    web.replies["/large.bin"] = {"Repr-Digest": f"sha-256=:{wrong}:"}
    report = await web.copy(f"{web.url}/large.bin", web.home / "here.bin")
    assert only_line(report).error is not None
    assert not (web.home / "here.bin").exists()
    assert not list(web.home.glob(".penstock-*"))


async def test_an_etag_that_is_the_md5_proves_and_another_of_its_form_proves_nothing(
    web: Web,
) -> None:
    path = "/small file.bin"
    md5 = hashlib.md5(SMALL, usedforsecurity=False).hexdigest()
    web.replies[path] = {"ETag": f'"{md5}"'}
    url = f"{web.url}/small%20file.bin"
    assert only_line(await web.copy(url, web.home / "a")).verified_by == "etag"
    web.replies[path] = {"ETag": f'"{md5[::-1]}"'}
    line = only_line(await web.copy(url, web.home / "b"))
    assert (line.status, line.attempts) == ("unverified", 1)
    assert (web.home / "b").read_bytes() == SMALL


async def test_a_manifest_of_urls_is_proved_by_its_digests_and_asks_nothing_else(web: Web) -> None:
    sha = hashlib.sha256(SMALL).hexdigest()
    manifest = web.home / "wanted.csv"
    manifest.write_text(
        "source,destination,sha256\n"
        f"{web.url}/small%20file.bin,sub/a.bin,{sha}\n"
        f"{web.url}/large.bin,sub/b.bin,{sha}\n"
        f"{web.url}/nothing,,\n"
        f"{web.url}/small%20file.bin,../out.bin,{sha}\n"
        "http://192.0.2.1/x,c.bin,\n"
    )
    report = await web.copy(f"{web.home}/to/", manifest=manifest)
    lines = {line.destination.rpartition("/")[2]: line for line in report.lines()}
    assert report.exit_code == 1
    assert (lines["a.bin"].status, lines["a.bin"].verified_by) == ("verified", "manifest")
    assert lines["b.bin"].error is not None
    assert not (web.home / "to/sub/b.bin").exists()
    failed = {line.error["type"] for line in report.lines() if line.error}
    assert failed == {"DigestMismatch", "SourceMissing", "NameRefused", "UsageError"}
    assert not (web.home / "out.bin").exists()
    assert ("HEAD", "/small%20file.bin", None) not in web.asked
    web.asked.clear()
    again = await web.copy(f"{web.home}/to/", manifest=manifest)
    assert {"a.bin"} <= {Path(x.destination).name for x in again.lines() if x.status == "skipped"}
    assert not [asked for asked in web.asked if asked[1] == "/small%20file.bin"]


async def test_a_file_whose_size_nobody_tells_is_fetched_once_to_its_clean_end(web: Web) -> None:
    url = f"{web.url}/untold/chunked"
    report = await web.copy(url, f"{web.home}/to/")
    line = only_line(report)
    assert (report.exit_code, line.status, line.size) == (0, "unverified", len(SMALL))
    assert (web.home / "to/chunked").read_bytes() == SMALL
    whole = [each for each in web.asked if each[0] == "GET" and each[2] is None]
    assert len(whole) == 1
    assert len(web.asked) == 3, "a head, a byte, and the file"
    again = only_line(await web.copy(url, f"{web.home}/to/"))
    assert (again.status, again.bytes_received) == ("skipped", 0)
    strict = await web.copy(url, f"{web.home}/strict/", strict=True)
    assert only_line(strict).status == "failed"
    assert not list((web.home / "strict").glob("*"))


async def test_a_file_of_untold_size_that_breaks_off_is_fetched_again_and_holds_nothing_else(
    web: Web,
) -> None:
    web.breaks = 1
    report = await web.copy(f"{web.url}/untold/chunked-cut", f"{web.home}/to/")
    assert only_line(report).status == "unverified"
    assert (web.home / "to/chunked-cut").read_bytes() == SMALL


@pytest.mark.parametrize("how", ["chunked", "hung-up"])
async def test_a_digest_proves_a_file_of_untold_size(web: Web, how: str) -> None:
    told = base64.b64encode(hashlib.sha256(SMALL).digest()).decode()
    web.replies[f"/untold/{how}"] = {"Repr-Digest": f"sha-256=:{told}:"}
    line = only_line(await web.copy(f"{web.url}/untold/{how}", f"{web.home}/to/"))
    assert (line.status, line.verified_by) == ("verified", "platform-digest")


async def test_a_server_that_hangs_up_at_an_untold_end_must_be_proved(web: Web) -> None:
    url = f"{web.url}/untold/hung-up"
    line = only_line(await web.copy(url, f"{web.home}/to/"))
    assert line.status == "failed"
    assert "manifest" in (line.error or {})["message"]
    assert not list((web.home / "to").glob("*"))
    table = web.home / "urls.csv"
    digest = hashlib.md5(SMALL, usedforsecurity=False).hexdigest()
    table.write_text(f"source,md5\n{url},{digest}\n")
    line = only_line(await web.copy(f"{web.home}/to/", manifest=table))
    assert (line.status, line.verified_by) == ("verified", "manifest")
    table.write_text(f"source,size\n{url},17\n")
    line = only_line(await web.copy(f"{web.home}/sized/", manifest=table))
    assert (line.error or {})["type"] == "DigestMismatch"


async def test_twenty_urls_refused_alike_stop_the_run_with_the_cause_named_once(web: Web) -> None:
    table = web.home / "urls.csv"
    table.write_text("source\n" + "".join(f"{web.url}/refused?{n}\n" for n in range(300)))
    with pytest.raises(penstock.RunStopped, match=r"first 20 .* 403") as stopped:
        await web.copy(f"{web.home}/to/", manifest=table)
    assert stopped.value.report.summary.failed >= 20
    assert len({query for _, query, _ in web.asked}) < 300


async def test_a_url_is_listed_as_the_one_file_it_names(web: Web) -> None:
    url = f"{web.url}/small%20file.bin"
    (entry,) = await penstock.list_(f"{url}?key=secret", environ=web.environ)
    assert (entry.kind, entry.name, entry.size) == ("file", "small file.bin", len(SMALL))
    assert entry.location.startswith(url)
    assert "secret" not in entry.location
    with pytest.raises(LocationError, match="not there"):
        await penstock.list_(f"{web.url}/nothing", environ=web.environ)


async def test_redirects_are_followed_and_one_to_nowhere_is_an_error(web: Web) -> None:
    report = await web.copy(f"{web.url}/moved?to=/large.bin", web.home / "here.bin")
    assert report.exit_code == 0
    assert (web.home / "here.bin").read_bytes() == LARGE
    with pytest.raises(penstock.PenstockError, match="redirected 5 times"):
        await web.copy(f"{web.url}/round", web.home / "x", retries=0)


async def test_the_query_of_a_url_is_kept_nowhere(web: Web) -> None:
    events: list[object] = []
    url = f"{web.url}/small%20file.bin?X-Amz-Signature=s3cr3t"
    report = await web.copy(url, web.home / "here.bin", on_event=events.append)
    assert report.exit_code == 0
    kept = b"".join(p.read_bytes() for p in (web.home / "state").rglob("*") if p.is_file())
    assert b"s3cr3t" not in kept
    assert "s3cr3t" not in repr(events)
    assert "s3cr3t" not in report.path.read_text()


async def test_an_empty_file_by_url_is_a_file(web: Web) -> None:
    report = await web.copy(f"{web.url}/empty", web.home / "here")
    assert report.exit_code == 0
    assert (web.home / "here").read_bytes() == b""


async def test_commands_that_make_no_sense_with_urls_say_why(web: Web) -> None:
    with pytest.raises(UsageError, match="not sent"):
        await web.copy(web.root, f"{web.url}/x")
    with pytest.raises(UsageError, match="plain http"):
        await web.copy("http://192.0.2.1/x", web.home / "x")
    with pytest.raises(LocationError, match="not there"):
        await web.copy(f"{web.url}/nothing", web.home / "x")
    environ = {**web.environ, "PENSTOCK_CAVATICA_TOKEN": "a" * 32}
    with pytest.raises(UsageError, match="one profile"):
        await penstock.copy(f"{web.url}/x", "cavatica:a/b", str(web.home), environ=environ)
