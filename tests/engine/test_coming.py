"""A range that breaks off goes on from where it stood, and never mixes two states of a file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.core.errors import AnswerLost, PenstockError
from penstock.core.model import KIB, MIB, NO_AUTH, FileSlice, Flow, Head, Request, Response
from penstock.engine.files import Beside
from penstock.engine.stalling import LEAST_BYTES, Stride, Watch

if TYPE_CHECKING:
    from composing import Compose, Raw, RawServer

SIZE = 3 * MIB + 77
CONTENT = os.urandom(SIZE)
OFFSET = 1000


def ask(request: Request) -> Flow[Response]:
    return (yield request)


def wanted(url: str, sink: Path, validator: str | None = None) -> Request:
    length = SIZE - OFFSET
    return Request(
        "GET",
        url,
        headers=(("Range", f"bytes={OFFSET}-{SIZE - 1}"),),
        sink=FileSlice(str(sink), OFFSET, length),
        head=Head(OFFSET, length, SIZE, validator),
        accept=frozenset((200, 206)),
        cost=0,
        auth=NO_AUTH,
        digests=frozenset(("md5",)),
    )


class Breaking:
    """Answers ranges, and breaks off after `steps` bytes, one for each answer; then no more."""

    def __init__(self, steps: list[int], tags: list[str | None] | None = None) -> None:
        self.steps = steps
        self.tags = tags or ['"e"'] * 20
        self.asked: list[tuple[int, str | None]] = []
        self.server: RawServer | None = None

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.server is not None
        head = self.server.asked[-1]
        match = re.search(r"bytes=(\d+)-(\d+)", head.header("Range") or "")
        assert match is not None
        first, last = int(match[1]), int(match[2])
        number = len(self.asked)
        self.asked.append((first, head.header("If-Range")))
        tag = self.tags[number]
        body = CONTENT if tag in {None, '"e"', 'W/"e"'} else bytes(SIZE)
        lines = [
            "HTTP/1.1 206 x",
            f"Content-Range: bytes {first}-{last}/{SIZE}",
            f"Content-Length: {last - first + 1}",
            *([f"ETag: {tag}"] if tag is not None else []),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        send = body[first : last + 1]
        writer.write(send[: self.steps[number]] if number < len(self.steps) else send)
        await writer.drain()


async def fetched(
    compose: Compose,
    raw: Raw,
    sink: Path,
    breaking: Breaking,
    tries: int = 3,
    validator: str | None = None,
) -> tuple[Response | PenstockError, list[int]]:
    sink.write_bytes(b"\xee" * SIZE)
    server = await raw(breaking)
    breaking.server = server
    moved: list[int] = []
    async with compose(tries=tries) as world:
        try:
            came: Response | PenstockError = await world.exchange.run(
                ask(wanted(server.url, sink, validator)), progress=moved.append
            )
        except PenstockError as error:
            came = error
    return came, moved


def whole(came: Response | PenstockError, sink: Path) -> bool:
    assert isinstance(came, Response), came
    assert came.received == SIZE - OFFSET
    md5 = hashlib.md5(CONTENT[OFFSET:], usedforsecurity=False).hexdigest()
    return came.digests["md5"] == md5 and sink.read_bytes()[OFFSET:] == CONTENT[OFFSET:]


@pytest.mark.parametrize("tag", ['"e"', 'W/"e"'])
async def test_what_came_is_not_asked_for_again(
    compose: Compose, raw: Raw, tmp_path: Path, tag: str
) -> None:
    breaking = Breaking([2 * MIB, MIB // 2], [tag] * 9)
    came, moved = await fetched(compose, raw, tmp_path / "sink", breaking)
    assert whole(came, tmp_path / "sink")
    firsts = [first for first, _ in breaking.asked]
    assert (firsts[0], firsts) == (OFFSET, sorted(firsts))
    # What is written goes in whole megabytes where the body is not taken over.
    assert firsts[1] >= OFFSET + MIB
    assert breaking.asked[1][1] == (tag if tag == '"e"' else None)
    assert sum(moved) == SIZE - OFFSET


async def test_a_line_that_breaks_at_every_megabyte_costs_no_tries(
    compose: Compose, raw: Raw, tmp_path: Path
) -> None:
    breaking = Breaking([MIB + 300 * KIB, MIB + 300 * KIB])
    came, _ = await fetched(compose, raw, tmp_path / "sink", breaking, tries=1)
    assert whole(came, tmp_path / "sink")


async def test_tries_end_where_nothing_gets_on(compose: Compose, raw: Raw, tmp_path: Path) -> None:
    breaking = Breaking([2 * MIB, 10, 10, 10, 10, 10])
    came, moved = await fetched(compose, raw, tmp_path / "sink", breaking, tries=3)
    assert isinstance(came, AnswerLost)
    assert "(tried 3 times)" in str(came)
    assert len(breaking.asked) == 4
    assert sum(moved) == 0


async def test_a_file_without_a_validator_is_begun_anew(
    compose: Compose, raw: Raw, tmp_path: Path
) -> None:
    breaking = Breaking([2 * MIB], [None] * 9)
    came, moved = await fetched(compose, raw, tmp_path / "sink", breaking)
    assert whole(came, tmp_path / "sink")
    assert [first for first, _ in breaking.asked] == [OFFSET, OFFSET]
    assert sum(moved) == SIZE - OFFSET


@pytest.mark.parametrize("known", [False, True])
async def test_a_file_that_changed_meanwhile_is_never_mixed(
    compose: Compose,
    raw: Raw,
    tmp_path: Path,
    known: bool,  # noqa: FBT001
) -> None:
    breaking = Breaking([2 * MIB], ['"e"', '"new"', '"new"', '"new"'])
    validator = '"e"' if known else None
    came, moved = await fetched(compose, raw, tmp_path / "sink", breaking, validator=validator)
    if known:
        assert type(came).__name__ == "RemoteChanged"
        assert sum(moved) == 0
        return
    assert isinstance(came, Response)
    assert (tmp_path / "sink").read_bytes()[OFFSET:] == bytes(SIZE - OFFSET)
    assert came.digests["md5"] == hashlib.md5(bytes(SIZE - OFFSET)).hexdigest()  # noqa: S324


async def test_what_an_over_long_answer_brought_is_not_kept(
    compose: Compose, raw: Raw, tmp_path: Path
) -> None:
    asked: list[str] = []

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(server.asked[-1].header("Range") or "")
        head = f"HTTP/1.1 206 x\r\nContent-Range: bytes {OFFSET}-{SIZE - 1}/{SIZE}\r\nETag: x\r\n"
        body = b"\0" * SIZE if len(asked) == 1 else CONTENT[OFFSET:]
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        writer.write(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
        await writer.drain()

    sink = tmp_path / "sink"
    sink.write_bytes(bytes(SIZE))
    server = await raw(talk)
    async with compose(tries=3) as world:
        came = await world.exchange.run(ask(wanted(server.url, sink)))
    assert whole(came, sink)
    assert len(set(asked)) == 1


async def test_a_server_that_will_not_go_on_is_asked_for_the_whole_again(
    compose: Compose, raw: Raw, tmp_path: Path
) -> None:
    breaking = Breaking([2 * MIB])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(breaking.asked) == 1:
            breaking.asked.append((0, None))
            writer.write(f"HTTP/1.1 200 x\r\nContent-Length: {SIZE}\r\n\r\n".encode() + CONTENT)
            return
        await breaking(reader, writer)

    sink = tmp_path / "sink"
    sink.write_bytes(bytes(SIZE))
    breaking.server = server = await raw(talk)
    async with compose(tries=3) as world:
        came = await world.exchange.run(ask(wanted(server.url, sink)))
    assert whole(came, sink)
    assert breaking.asked[-1][0] == OFFSET


async def test_an_upload_is_sent_whole_again(compose: Compose, raw: Raw, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    bodies: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wanted = SIZE if bodies else MIB
        bodies.append(len(await reader.readexactly(wanted)))
        if len(bodies) > 1:
            writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    server = await raw(talk)
    body = (FileSlice(str(source), 0, SIZE),)
    moved: list[int] = []
    async with compose(tries=3) as world:
        request = Request("PUT", server.url, body=body, cost=0, auth=NO_AUTH)
        await world.exchange.run(ask(request), progress=moved.append)
    assert bodies == [MIB, SIZE]
    assert sum(moved) == SIZE


# -- the watch -----------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "each_s"), [(10, 20.0), (3 * MIB, 20.0)])
async def test_a_stream_that_trickles_is_taken_for_dead(
    compose: Compose, raw: Raw, tmp_path: Path, size: int, each_s: float
) -> None:
    """A byte now and then, in time too short for the stall: both ways of receiving notice."""
    over = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 x\r\nContent-Length: {size}\r\n\r\n".encode())
        while not over.is_set():
            writer.write(b"x")
            await writer.drain()
            try:
                await asyncio.wait_for(over.wait(), 0.02)
            except TimeoutError:
                continue

    sink = tmp_path / "sink"
    sink.write_bytes(b"")
    server = await raw(trickle)
    async with compose(tries=1, stall_timeout_s=0.1) as world:
        request = Request(
            "GET",
            server.url,
            sink=FileSlice(str(sink), 0, size),
            head=Head(0, size, size),
            cost=0,
            auth=NO_AUTH,
        )
        with pytest.raises(AnswerLost) as caught:
            await asyncio.wait_for(world.exchange.run(ask(request)), 5)
        over.set()
    assert caught.value.timed_out


def test_a_window_counts_bytes_and_begins_anew_after_a_rest() -> None:
    watch = Watch(100.0, 0.0)
    assert not watch.moved(1, 50.0)
    assert watch.moved(LEAST_BYTES - 2, 100.0)
    assert not watch.moved(LEAST_BYTES, 200.0)
    watch.rest(290.0)
    assert not watch.moved(1, 389.0)
    assert watch.moved(1, 390.0)
    assert not Watch(None, 0.0).moved(0, 1e9)


def test_a_slow_line_is_written_to_in_short_strides() -> None:
    stride = Stride(160.0)
    for _ in range(4):
        stride.took(1.0)
    assert stride.size == 16 * LEAST_BYTES
    for _ in range(9):
        stride.took(11.0)
    assert stride.size == LEAST_BYTES


class Standing(Beside):
    """Settles what was seen in pieces of a megabyte, from `first` on."""

    def __init__(self, first: int) -> None:
        self.first = self.stood = first
        self.seen: list[tuple[int, int]] = []

    def __call__(self, offset: int, data: bytes | memoryview) -> None:
        self.seen.append((offset, len(data)))

    async def stands(self, end: int) -> None:
        self.stood = self.first + (end - self.first) // MIB * MIB


@pytest.mark.parametrize("tags", [[None] * 9, ['"e"', None, None, None]])
async def test_what_stands_is_not_asked_for_again_where_nothing_names_the_files_state(
    compose: Compose, raw: Raw, tmp_path: Path, tags: list[str | None]
) -> None:
    sink = tmp_path / "sink"
    sink.write_bytes(b"\xee" * SIZE)
    breaking = Breaking([2 * MIB + 100, 10], tags)
    server = breaking.server = await raw(breaking)
    standing, moved = Standing(OFFSET), list[int]()
    request = replace(wanted(server.url, sink), digests=frozenset())
    async with compose(tries=4) as world:
        came = await world.exchange.run(ask(request), progress=moved.append, beside=standing)
    assert came.received == SIZE - OFFSET
    assert sink.read_bytes()[OFFSET:] == CONTENT[OFFSET:]
    again = [first for first, _ in breaking.asked[1:]]
    assert len(again) == 2
    assert all(first >= OFFSET + MIB for first in again)
    assert sum(moved) == SIZE - OFFSET
    ends = [offset + length for offset, length in standing.seen]
    assert all(offset in {OFFSET, *ends, *again} for offset, _ in standing.seen)
