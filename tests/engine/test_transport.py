"""One request over real sockets: what leaves, what may reach the disk, and what an error means."""


# ruff: noqa: ASYNC110 - what is waited for happens in a thread, or in code that tells nobody

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import ClientSession
from aioresponses import aioresponses

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    NotSent,
    PenstockError,
    RemoteChanged,
    SourceChanged,
    SourceMissing,
)
from penstock.core.heads import check_head
from penstock.core.model import MIB, FileSlice, Head, Headers, Request, Response
from penstock.engine import client as module
from penstock.engine.files import Beside
from penstock.engine.transport import Transport
from penstock.simulators import Fault

if TYPE_CHECKING:
    from composing import Compose, Raw

TOKEN = ("X-SBG-Auth-Token", "secret-token")
SIGNATURE = "X-Amz-Signature=f00dfeed"
CONTENT = bytes(range(256)) * 4
BEFORE = b"\xee" * len(CONTENT)


def answer(
    status: int = 200,
    headers: Iterable[tuple[str, object]] = (),
    body: bytes = b"",
    *,
    length: int | None = None,
) -> bytes:
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in headers)]
    if length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def part_answer(
    first: int, last: int, total: int, body: bytes | None = None, **extra: str
) -> bytes:
    content = CONTENT[first : last + 1] if body is None else body
    named = [(name.replace("_", "-"), value) for name, value in extra.items()]
    return answer(206, [("Content-Range", f"bytes {first}-{last}/{total}"), *named], content)


@pytest.fixture
def sink(tmp_path: Path) -> Path:
    path = tmp_path / "sink"
    path.write_bytes(BEFORE)
    return path


def ranged(
    url: str, sink: Path, offset: int = 100, length: int = 50, etag: str | None = None
) -> Request:
    return Request(
        "GET",
        url,
        headers=(("Range", f"bytes={offset}-{offset + length - 1}"),),
        sink=FileSlice(str(sink), offset, length),
        head=Head(offset, length, len(CONTENT), etag),
        accept=frozenset((200, 206)),
        cost=0,
        digests=frozenset(("md5", "sha256")),
    )


async def lost(transport: Transport, request: Request) -> PenstockError:
    with pytest.raises(PenstockError) as caught:
        await transport.send(request)
    return caught.value


# -- what leaves ---------------------------------------------------------------------------


async def test_a_redirect_is_an_answer_and_the_token_stays_with_its_host(raw: Raw) -> None:
    elsewhere = await raw(answer(200))
    first = await raw(answer(302, [("Location", f"{elsewhere.url}/x")]))
    async with Transport() as transport:
        request = Request("GET", f"{first.url}/a", accept=frozenset((302,)))
        came = await transport.send(request, signed=[TOKEN])
    assert (came.status, came.headers["location"]) == (302, f"{elsewhere.url}/x")
    assert first.asked[0].header(TOKEN[0]) == TOKEN[1]
    assert elsewhere.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_itself_is_asked_once(raw: Raw, status: int) -> None:
    server = await raw(answer(status, [("Location", "/a")]))
    async with Transport() as transport:
        assert (await transport.send(Request("GET", f"{server.url}/a"))).status == status
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [(), "an empty slice"])
async def test_an_empty_put_says_that_it_is_empty(
    raw: Raw, tmp_path: Path, body: tuple[()] | str
) -> None:
    (tmp_path / "empty").touch()
    server = await raw(answer(200))
    rope = (FileSlice(str(tmp_path / "empty"), 0, 0),) if body else ()
    async with Transport() as transport:
        await transport.send(Request("PUT", server.url, body=rope, digests=frozenset(("md5",))))
    assert server.asked[0].header("Content-Length") == "0"
    assert server.asked[0].header("Transfer-Encoding") is None


async def test_a_slice_is_sent_from_its_offset_with_its_length_and_digests(
    raw: Raw, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 * MIB))
    server = await raw(answer(200, [("ETag", '"x"')]))
    moved: list[int] = []
    piece = FileSlice(str(source), MIB + 7, MIB + 11)
    wanted = source.read_bytes()[piece.offset : piece.offset + piece.length]
    async with Transport() as transport:
        request = Request("PUT", server.url, body=(piece,), digests=frozenset(("md5", "sha256")))
        came = await transport.send(request, progress=moved.append)
    assert server.asked[0].body == wanted
    assert server.asked[0].header("Content-Length") == str(len(wanted))
    assert came.digests == {
        "md5": hashlib.md5(wanted, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(wanted).hexdigest(),
    }
    assert sum(moved) == came.sent == len(wanted)


async def test_a_rope_is_sent_in_order_and_only_its_file_bytes_are_digested(
    raw: Raw, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"0123456789")
    server = await raw(answer(200))
    rope = (b"<", FileSlice(str(source), 2, 3), b">")
    async with Transport() as transport:
        request = Request("POST", server.url, body=rope, digests=frozenset(("md5",)))
        came = await transport.send(request)
    assert server.asked[0].body == b"<234>"
    assert came.digests["md5"] == hashlib.md5(b"234", usedforsecurity=False).hexdigest()


async def test_nothing_is_added_that_a_signature_would_have_to_cover(
    raw: Raw, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    server = await raw(answer(200))
    async with Transport() as transport:
        await transport.send(
            Request("PUT", f"{server.url}/%2Fa?b=%20", body=(FileSlice(str(tmp_path / "f"), 0, 3),))
        )
    (asked,) = server.asked
    assert asked.line == "PUT /%2Fa?b=%20 HTTP/1.1"
    assert asked.header("Content-Type") is None
    assert asked.header("Accept-Encoding") == "identity"


async def test_a_netrc_file_adds_no_password_to_a_presigned_url(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = await raw(answer(200))
    async with Transport() as transport:
        await transport.send(Request("GET", f"{server.url}/?{SIGNATURE}"))
    assert server.asked[0].header("Authorization") is None


async def test_cookies_are_neither_kept_nor_sent(raw: Raw) -> None:
    server = await raw(answer(200, [("Set-Cookie", "a=b")]))
    async with Transport() as transport:
        for _ in range(2):
            await transport.send(Request("GET", server.url))
    assert server.asked[1].header("Cookie") is None
    assert server.connections == 1


# -- what may reach the sink ---------------------------------------------------------------


async def test_a_range_lands_in_its_slice_and_nowhere_else(raw: Raw, sink: Path) -> None:
    server = await raw(part_answer(100, 149, len(CONTENT), ETag='"e"'))
    moved: list[int] = []
    async with Transport() as transport:
        came = await transport.send(ranged(server.url, sink, etag='"e"'), progress=moved.append)
    assert sink.read_bytes() == BEFORE[:100] + CONTENT[100:150] + BEFORE[150:]
    assert came.digests["sha256"] == hashlib.sha256(CONTENT[100:150]).hexdigest()
    assert sum(moved) == came.received == 50
    assert came.body == b""


BAD_HEADS = {
    "the whole file": (answer(200, [("ETag", '"e"')], CONTENT), AnswerUnusable),
    "the whole file without an ETag": (answer(200, [], CONTENT), RemoteChanged),
    "the whole of a changed file": (answer(200, [("ETag", '"new"')], CONTENT), RemoteChanged),
    "another range": (part_answer(101, 150, len(CONTENT), ETag='"e"'), AnswerUnusable),
    "a shorter range": (part_answer(100, 140, len(CONTENT), ETag='"e"'), AnswerUnusable),
    "another ETag": (part_answer(100, 149, len(CONTENT), ETag='"new"'), RemoteChanged),
    "another total": (part_answer(100, 149, len(CONTENT) + 1, ETag='"e"'), RemoteChanged),
    "an unknown total": (
        answer(206, [("Content-Range", "bytes 100-149/*")], CONTENT[100:150]),
        AnswerUnusable,
    ),
    "no Content-Range": (answer(206, [("ETag", '"e"')], CONTENT[100:150]), AnswerUnusable),
    "many ranges": (
        answer(206, [("Content-Type", "multipart/byteranges; boundary=x")], CONTENT[100:150]),
        AnswerUnusable,
    ),
    "two Content-Ranges": (
        answer(
            206,
            [("Content-Range", f"bytes {n}-149/1024") for n in (100, 0)],
            CONTENT[100:150],
        ),
        AnswerUnusable,
    ),
    "an encoding nobody asked for": (
        part_answer(100, 149, len(CONTENT), ETag='"e"', Content_Encoding="gzip"),
        AnswerUnusable,
    ),
    "a longer Content-Length": (
        part_answer(100, 149, len(CONTENT), CONTENT[100:151], ETag='"e"'),
        AnswerUnusable,
    ),
    "a shorter Content-Length": (
        part_answer(100, 149, len(CONTENT), CONTENT[100:148], ETag='"e"'),
        AnswerUnusable,
    ),
}


@pytest.mark.parametrize("what", BAD_HEADS)
async def test_an_answer_of_the_wrong_kind_leaves_the_sink_untouched(
    raw: Raw, sink: Path, what: str
) -> None:
    bad, wanted = BAD_HEADS[what]
    server = await raw(bad)
    async with Transport() as transport:
        error = await lost(transport, ranged(server.url, sink, etag='"e"'))
    assert type(error) is wanted, error
    assert sink.read_bytes() == BEFORE


async def test_a_body_longer_than_its_slice_never_writes_past_it(raw: Raw, sink: Path) -> None:
    head = f"HTTP/1.1 206 x\r\nContent-Range: bytes 100-149/{len(CONTENT)}\r\n"
    chunk = b"%x\r\n" % 60 + CONTENT[100:160] + b"\r\n0\r\n\r\n"
    server = await raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)
    async with Transport() as transport:
        assert isinstance(await lost(transport, ranged(server.url, sink)), AnswerUnusable)
    assert sink.read_bytes() == BEFORE


async def test_a_long_overlong_body_stays_within_its_slice(raw: Raw, tmp_path: Path) -> None:
    sink, size = tmp_path / "sink", 3 * MIB
    sink.write_bytes(b"\xee" * (2 * size))

    async def much(__: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(8):
            writer.write(b"%x\r\n" % MIB + bytes(MIB) + b"\r\n")
            await writer.drain()

    server = await raw(much)
    request = Request(
        "GET", server.url, sink=FileSlice(str(sink), 0, size), head=Head(0, size, size)
    )
    async with Transport() as transport:
        assert isinstance(await lost(transport, request), AnswerUnusable)
    assert sink.read_bytes()[size:] == b"\xee" * size


async def test_a_body_that_breaks_off_is_lost_and_stays_within_its_slice(
    raw: Raw, sink: Path
) -> None:
    whole = part_answer(100, 149, len(CONTENT))

    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole[:-20])
        await writer.drain()

    server = await raw(half)
    async with Transport() as transport:
        error = await lost(transport, ranged(server.url, sink))
    assert isinstance(error, AnswerLost)
    assert not error.timed_out
    assert sink.read_bytes() == BEFORE


async def test_a_chunked_body_that_ends_early_is_unusable(raw: Raw, sink: Path) -> None:
    head = f"HTTP/1.1 206 x\r\nContent-Range: bytes 100-149/{len(CONTENT)}\r\n"
    chunk = b"a\r\n" + CONTENT[100:110] + b"\r\n0\r\n\r\n"
    server = await raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)
    async with Transport() as transport:
        error = await lost(transport, ranged(server.url, sink))
    assert isinstance(error, AnswerUnusable)
    assert "10 bytes in place of 50" in str(error)


async def test_the_body_of_a_refusal_never_reaches_the_sink(raw: Raw, sink: Path) -> None:
    server = await raw(answer(403, [], b"<Error/>"))
    async with Transport() as transport:
        came = await transport.send(ranged(server.url, sink))
    assert (came.status, came.body) == (403, b"<Error/>")
    assert sink.read_bytes() == BEFORE


@pytest.mark.parametrize("size", [0, 10])
async def test_a_whole_file_may_come_as_a_200(raw: Raw, tmp_path: Path, size: int) -> None:
    sink = tmp_path / "sink"
    sink.touch()
    server = await raw(answer(200, [], CONTENT[:size]))
    request = Request(
        "GET", server.url, sink=FileSlice(str(sink), 0, size), head=Head(0, size, size)
    )
    async with Transport() as transport:
        assert (await transport.send(request)).received == size
    assert sink.read_bytes() == CONTENT[:size]


async def test_a_whole_file_of_another_size_has_changed(raw: Raw, sink: Path) -> None:
    server = await raw(answer(200, [], CONTENT[:11]))
    request = Request("GET", server.url, sink=FileSlice(str(sink), 0, 10), head=Head(0, 10, 10))
    async with Transport() as transport:
        assert isinstance(await lost(transport, request), RemoteChanged)
    assert sink.read_bytes() == BEFORE


def test_a_head_that_is_as_asked_passes() -> None:
    request = ranged("http://h/", Path("sink"), etag='"e"')
    fields = {"Content-Range": "bytes 100-149/1024", "ETag": '"e"', "Content-Length": "50"}
    check_head(request, 206, Headers(fields))


# -- who is asked, and when ----------------------------------------------------------------


async def test_a_refused_port_was_not_asked(unused_tcp_port: int) -> None:
    left: list[int] = []
    async with Transport() as transport:
        with pytest.raises(NotSent, match="no connection"):
            await transport.send(
                Request("GET", f"http://127.0.0.1:{unused_tcp_port}/"),
                on_leave=lambda: left.append(1),
            )
    assert left == []


async def test_each_send_leaves_once_on_new_and_on_kept_connections(raw: Raw) -> None:
    server = await raw(answer(200))
    left: list[int] = []
    async with Transport() as transport:
        for number in range(3):
            await transport.send(
                Request("GET", server.url),
                on_leave=lambda n=number: left.append(n),  # type: ignore[misc]
            )
    assert left == [0, 1, 2]
    assert server.connections == 1


@pytest.mark.parametrize("size", [10, 64 * 1024, 3 * MIB])
async def test_one_connection_carries_one_upload_after_another(
    raw: Raw, tmp_path: Path, size: int
) -> None:
    """aiohttp closes one whose body's writer still waits for anything when the answer is there."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    server = await raw(answer(200))
    async with Transport() as transport:
        for _ in range(5):
            request = Request("PUT", server.url, body=(FileSlice(str(source), 0, size),))
            assert (await transport.send(request)).sent == size
    assert [asked.body for asked in server.asked] == [source.read_bytes()] * 5
    assert server.connections == 1


async def test_a_certificate_nobody_signed_means_that_nothing_was_sent(
    raw: Raw, certificate: ssl.SSLContext
) -> None:
    server = await raw(answer(200), ssl=certificate)
    left: list[int] = []
    async with Transport() as transport:
        with pytest.raises(NotSent, match=r"the certificate of 127\.0\.0\.1 was refused"):
            await transport.send(
                Request("GET", f"https://127.0.0.1:{server.port}/?{SIGNATURE}"),
                signed=[TOKEN],
                on_leave=lambda: left.append(1),
            )
    assert left == []
    assert server.asked == []


async def test_a_server_that_speaks_no_tls_was_not_asked() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 no TLS here\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with Transport() as transport:
        error = await lost(transport, Request("GET", f"https://127.0.0.1:{port}/"))
    listening.close()
    assert isinstance(error, NotSent), error


async def test_a_stalled_answer_is_lost_by_time_out(compose: Compose, tmp_path: Path) -> None:
    async with compose(stall_timeout_s=0.05) as world:
        world.sim.add_file(world.sim.project, "a", CONTENT)
        url = world.sim.storage.lease_get(next(iter(world.sim.storage.objects))).url
        world.sim.faults.add(Fault(kind="stall", host="storage", after=10))
        (tmp_path / "sink").write_bytes(BEFORE)
        error = await lost(world.transport, ranged(url, tmp_path / "sink"))
        assert isinstance(error, AnswerLost)
        assert error.timed_out


async def test_an_answer_that_never_begins_is_lost_by_time_out(raw: Raw) -> None:
    async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await raw(silence)
    async with Transport(stall_timeout_s=0.05) as transport:
        error = await lost(transport, Request("GET", server.url))
    assert isinstance(error, AnswerLost)
    assert error.timed_out
    assert len(server.asked) == 1


async def test_a_server_that_stops_reading_is_lost_by_time_out(raw: Raw, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(64 * MIB)
    enough = asyncio.Event()

    async def deaf(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await enough.wait()

    server = await raw(deaf)
    async with Transport(stall_timeout_s=0.1) as transport:
        request = Request("PUT", server.url, body=(FileSlice(str(source), 0, 64 * MIB),))
        came: object = None
        with anyio.move_on_after(3.0):
            came = await lost(transport, request)
    enough.set()
    assert isinstance(came, AnswerLost), (
        "the upload hung, though no byte had moved for 30 time-outs"
    )
    assert came.timed_out


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_a_server_that_hangs_up_is_asked_once(raw: Raw, method: str) -> None:
    async def hang_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        return

    server = await raw(answer(200), hang_up)
    left: list[int] = []
    async with Transport() as transport:
        await transport.send(Request("GET", server.url))
        with pytest.raises(AnswerLost) as caught:
            await transport.send(Request(method, server.url), on_leave=lambda: left.append(1))
    assert not caught.value.timed_out
    assert len(server.asked) == 2, "aiohttp sent it again, admitted by nobody"
    assert left == [1]


async def test_a_refusal_during_a_long_body_is_heard(raw: Raw, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(64 * MIB)
    enough = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(MIB)
        writer.write(answer(403, [], b"expired"))
        await writer.drain()
        await enough.wait()

    server = await raw(refuse)
    came: Response | None = None
    async with Transport(stall_timeout_s=0.5) as transport:
        with anyio.move_on_after(3.0):
            came = await transport.send(
                Request("PUT", server.url, body=(FileSlice(str(source), 0, 64 * MIB),))
            )
    enough.set()
    assert came is not None, "the refusal came, and the transport waited for its own body to leave"
    assert (came.status, came.body) == (403, b"expired")


# -- what errors mean ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "nothing",
        "ftp://h/x",
        "http://[::1",
        "http://h:99999/",
        "http://h:x/",
        "http:///x",
    ],
)
async def test_a_url_that_cannot_be_asked_is_an_error_of_ours(url: str) -> None:
    async with Transport() as transport:
        error = await lost(transport, Request("GET", f"{url}?{SIGNATURE}"))
    assert not isinstance(error, AnswerLost), "nothing was sent, so nothing was lost"


@pytest.mark.parametrize(
    ("method", "headers"),
    [("P UT", ()), ("PUT", (("x", "a\r\nb: c"),))],
    ids=["method", "value"],
)
async def test_a_foreign_field_that_cannot_be_sent_is_an_error_of_ours(
    raw: Raw, method: str, headers: tuple[tuple[str, str], ...]
) -> None:
    server = await raw(answer(200))
    async with Transport() as transport:
        await lost(transport, Request(method, server.url, headers=headers))
    assert server.asked == []


@pytest.mark.parametrize(
    "head", [b"banana\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200 x\r\nA\x00: b\r\n\r\n"]
)
async def test_an_answer_that_is_no_http_is_lost_and_its_causes_keep_secrets(
    raw: Raw, head: bytes
) -> None:
    server = await raw(head)
    async with Transport() as transport:
        with pytest.raises(AnswerLost) as caught:
            await transport.send(Request("GET", f"{server.url}/p?{SIGNATURE}"), signed=[TOKEN])
    assert_silent(caught.value)


async def test_a_body_cut_by_the_server_keeps_the_secret_of_its_url(
    raw: Raw, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(64 * MIB)

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(MIB)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()

    server = await raw(cut)
    async with Transport() as transport:
        with pytest.raises(AnswerLost) as caught:
            await transport.send(
                Request(
                    "PUT",
                    f"{server.url}/p?{SIGNATURE}",
                    body=(FileSlice(str(source), 0, 64 * MIB),),
                )
            )
    assert_silent(caught.value)


@pytest.mark.parametrize("url", ["nothing/?", "ftp://h/?", "http://?"])
async def test_a_url_that_cannot_be_asked_is_not_shown_by_any_cause(url: str) -> None:
    async with Transport() as transport:
        assert_silent(await lost(transport, Request("GET", url + SIGNATURE)))


def assert_silent(error: BaseException) -> None:
    """Neither token nor signature is in what a person or a log may be shown of an error."""
    shown = "".join(traceback.format_exception(error))
    link: BaseException | None = error
    while link is not None:
        shown += f"{link} {link!r}"
        link = link.__cause__ or link.__context__
    for secret in (TOKEN[1], SIGNATURE.partition("=")[2]):
        assert secret not in shown


async def test_a_source_that_shrinks_is_said_to_have_changed(raw: Raw, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    server = await raw(answer(200))
    async with Transport() as transport:
        request = Request("PUT", server.url, body=(FileSlice(str(source), 0, 10),))
        assert isinstance(await lost(transport, request), SourceChanged)


async def test_a_source_that_is_gone_is_missing(raw: Raw, tmp_path: Path) -> None:
    server = await raw(answer(200))
    async with Transport() as transport:
        request = Request("PUT", server.url, body=(FileSlice(str(tmp_path / "no"), 0, 10),))
        assert isinstance(await lost(transport, request), SourceMissing)


async def test_an_answer_in_memory_is_bounded(raw: Raw) -> None:
    written = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
        while written < 3 * module.LARGEST_ANSWER:
            writer.write(b"%x\r\n" % MIB + bytes(MIB) + b"\r\n")
            await writer.drain()
            written += MIB

    server = await raw(endless)
    async with Transport() as transport:
        error = await lost(transport, Request("GET", server.url))
    assert isinstance(error, AnswerUnusable)
    assert written < 2 * module.LARGEST_ANSWER


# -- single exchanges ----------------------------------------------------------------------


async def test_an_answer_is_handed_on_as_it_came(mocked: aioresponses) -> None:
    mocked.get("http://h/a", status=404, body=b"{}", headers={"X-A": "b"})
    async with Transport() as transport:
        came = await transport.send(Request("GET", "http://h/a"))
    assert (came.status, came.body, came.headers["x-a"]) == (404, b"{}", "b")


async def test_a_foreign_time_out_is_a_lost_answer(mocked: aioresponses) -> None:
    mocked.get("http://h/a", exception=TimeoutError())
    async with Transport() as transport:
        error = await lost(transport, Request("GET", "http://h/a"))
    assert isinstance(error, AnswerLost)
    assert error.timed_out


# -- what is left behind -------------------------------------------------------------------


async def test_no_connection_is_left_open(raw: Raw, sink: Path) -> None:
    server = await raw(answer(200, [], CONTENT))
    async with Transport() as transport:
        for _ in range(5):
            await lost(transport, ranged(server.url, sink))
        assert transport._client is not None
        session = transport._client._session
        assert isinstance(session, ClientSession)
    assert session.closed
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.tasks == set()


Cancelled = Callable[[Callable[[], object]], object]


async def _cancelled_natively(work: Callable[[], object], under_way: asyncio.Event) -> None:
    task = asyncio.ensure_future(work())  # type: ignore[call-overload]
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _cancelled_by_scope(work: Callable[[], object], under_way: asyncio.Event) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work)  # type: ignore[arg-type]
        await under_way.wait()
        group.cancel_scope.cancel()


WAYS = [_cancelled_natively, _cancelled_by_scope]


@pytest.mark.parametrize("cancelled", WAYS)
async def test_a_cancelled_download_leaves_no_thread_and_no_descriptor(
    raw: Raw,
    tmp_path: Path,
    cancelled: Callable[[Callable[[], object], asyncio.Event], object],
    open_descriptors: Callable[[Path], list[str]],
) -> None:
    size, under_way = 64 * MIB, asyncio.Event()
    sink = tmp_path / "sink"
    sink.touch()

    async def flood(__: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 x\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(64):
            writer.write(b"\xab" * MIB)
            await writer.drain()

    server = await raw(flood)
    async with Transport() as transport:
        request = Request(
            "GET", server.url, sink=FileSlice(str(sink), 0, size), head=Head(0, size, size)
        )

        async def send() -> None:
            await transport.send(request, progress=lambda _: under_way.set())

        await cancelled(send, under_way)  # type: ignore[misc]
        assert open_descriptors(tmp_path) == []
        written = sink.stat().st_size
        assert 0 < written < size
        await asyncio.sleep(0.02)
        assert sink.stat().st_size == written


@pytest.mark.parametrize("cancelled", WAYS)
async def test_a_cancelled_upload_leaves_no_thread_no_task_and_no_descriptor(
    raw: Raw,
    tmp_path: Path,
    cancelled: Callable[[Callable[[], object], asyncio.Event], object],
    open_descriptors: Callable[[Path], list[str]],
) -> None:
    """The body is written by a task of aiohttp's own: that one must have ended as well."""
    size, under_way = 64 * MIB, asyncio.Event()
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(size)

    async def swallow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(MIB):
            pass

    server = await raw(swallow)
    async with Transport() as transport:
        before = asyncio.all_tasks()

        async def send() -> None:
            await transport.send(
                Request("PUT", server.url, body=(FileSlice(str(source), 0, size),)),
                progress=lambda _: under_way.set(),
            )

        await cancelled(send, under_way)  # type: ignore[misc]
        left = asyncio.all_tasks() - before - server.tasks
        descriptors = open_descriptors(tmp_path)
    assert descriptors == []
    assert left == set()


async def test_a_source_that_blocks_is_awaited_when_its_upload_is_cancelled(
    raw: Raw, tmp_path: Path
) -> None:
    """A wait in the thread that reads stands for a slow disk."""
    source = tmp_path / "source"
    source.write_bytes(b"0123456789")
    reading, may_go_on = threading.Event(), threading.Event()

    class Slow(Beside):
        def __call__(self, offset: int, data: bytes | memoryview) -> None:  # noqa: ARG002 - as it is called
            reading.set()
            may_go_on.wait(10)

    server = await raw(answer(200))
    before = threading.active_count()
    async with Transport() as transport:
        request = Request("PUT", server.url, body=(FileSlice(str(source), 0, 10),))
        task = asyncio.ensure_future(transport.send(request, beside=Slow()))
        while not reading.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.02)
        was_done = task.done()
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert threading.active_count() >= before
    assert not was_done, "the call returned while its thread was still at work"
