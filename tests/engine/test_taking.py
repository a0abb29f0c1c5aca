"""Large bodies taken over from aiohttp: whole, never too much, on a connection that lives on."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import AnswerLost
from penstock.core.model import MIB, FileSlice, Head, Part, Receipt, Request
from penstock.engine import taking
from penstock.engine.front import Front
from penstock.engine.pacing import Pacer
from penstock.engine.transport import Transport

if TYPE_CHECKING:
    from composing import Raw

SIZE = 11 * MIB + 13
BODY = os.urandom(MIB) * 12


def whole_answer(size: int = SIZE) -> bytes:
    return f"HTTP/1.1 200 x\r\nContent-Length: {size}\r\n\r\n".encode() + BODY[:size]


def fetch(url: str, sink: Path, size: int = SIZE) -> Request:
    sink.touch()
    return Request(
        "GET",
        url,
        sink=FileSlice(str(sink), 0, size),
        head=Head(0, size, size),
        digests=frozenset(("sha256",)),
        cost=0,
    )


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long the bodies were that were taken over. Looks on; changes nothing."""
    seen: list[int] = []
    real = taking.Taken.pieces

    def pieces(self: taking.Taken):  # type: ignore[no-untyped-def]  # noqa: ANN202
        seen.append(self._missing)
        return real(self)

    monkeypatch.setattr(taking.Taken, "pieces", pieces)
    return seen


async def test_large_bodies_arrive_whole_one_after_another_on_one_connection(
    raw: Raw, tmp_path: Path, taken: list[int]
) -> None:
    server = await raw(whole_answer())
    moved: list[int] = []
    async with Transport() as transport:
        for number in range(3):
            sink = tmp_path / str(number)
            came = await transport.send(fetch(server.url, sink), progress=moved.append)
            assert sink.read_bytes() == BODY[:SIZE]
            assert came.digests["sha256"] == hashlib.sha256(BODY[:SIZE]).hexdigest()
            assert came.received == SIZE
    assert sum(moved) == 3 * SIZE
    assert server.connections == 1
    assert len(taken) == 3


async def test_large_bodies_over_tls_are_taken_over_too(
    raw: Raw, certificate: ssl.SSLContext, tmp_path: Path, taken: list[int]
) -> None:
    server = await raw(whole_answer(), ssl=certificate)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with Transport(tls=trusting) as transport:
        for number in range(2):
            sink = tmp_path / str(number)
            await transport.send(fetch(server.url.replace("http:", "https:"), sink))
            assert sink.read_bytes() == BODY[:SIZE]
    assert (server.connections, len(taken)) == (1, 2)


async def test_an_aiohttp_without_what_is_leant_on_reads_large_bodies_itself(
    raw: Raw, tmp_path: Path, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(aiohttp.ClientResponse, "connection")
    server = await raw(whole_answer(), whole_answer())
    async with Transport() as transport:
        for name in "ab":
            answer = await transport.send(fetch(server.url, tmp_path / name))
            assert answer.received == SIZE
            assert answer.digests["sha256"] == hashlib.sha256(BODY[:SIZE]).hexdigest()
    assert taken == []
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == BODY[:SIZE]


class _Has:
    """Something with these attributes, each callable and false."""

    def __init__(self, *names: str, **others: object) -> None:
        for name in names:
            setattr(self, name, lambda: None)
        for name, other in others.items():
            setattr(self, name, other)


@pytest.mark.parametrize(
    "missing",
    [None, "read_timeout", "start_timeout", "set_protocol", "resume_reading", "abort", "feed_eof"],
)
def test_a_body_is_taken_over_only_where_all_that_takes_is_there(missing: str | None) -> None:
    def having(part: str) -> _Has:
        return _Has(*(name for name in taking._LEANT_ON[part] if name != missing))

    answer = _Has(
        headers={"Content-Length": str(SIZE)},
        content=having("content"),
        connection=_Has(protocol=having("protocol"), transport=having("transport")),
    )
    assert taking.takeable(answer, SIZE) is (missing is None)  # type: ignore[arg-type]


async def test_a_large_body_that_breaks_off_is_lost(raw: Raw, tmp_path: Path) -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole_answer()[: SIZE // 2])
        await writer.drain()

    server = await raw(half)
    async with Transport() as transport:
        with pytest.raises(AnswerLost) as caught:
            await transport.send(fetch(server.url, tmp_path / "sink"))
    assert not caught.value.timed_out


async def test_a_large_body_that_stalls_is_lost_for_time(raw: Raw, tmp_path: Path) -> None:
    over = asyncio.Event()

    async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole_answer()[: SIZE // 2])
        await writer.drain()
        await over.wait()

    server = await raw(stall)
    async with Transport(stall_timeout_s=0.2) as transport:
        with pytest.raises(AnswerLost) as caught:
            await transport.send(fetch(server.url, tmp_path / "sink"))
    over.set()
    assert caught.value.timed_out


async def test_a_cancelled_large_body_leaves_its_descriptor_closed_and_its_buffers_idle(
    raw: Raw, tmp_path: Path
) -> None:
    over, some = asyncio.Event(), asyncio.Event()

    async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole_answer()[: SIZE // 2])
        await writer.drain()
        await over.wait()

    server = await raw(stall)
    sink = tmp_path / "sink"
    async with Transport() as transport:
        task = asyncio.ensure_future(
            transport.send(fetch(server.url, sink), progress=lambda _: some.set())
        )
        await some.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        opened = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
        assert str(sink) not in opened
        assert transport._client is not None
        assert transport._client._buffers._out == 0
    over.set()


@given(
    rate=st.integers(1_000, 1 << 31),
    sizes=st.lists(st.integers(1, 1 << 22), min_size=1, max_size=50),
)
def test_a_pacer_never_lets_more_through_than_its_rate_and_a_step(
    rate: int, sizes: list[int]
) -> None:
    now = [0.0]
    pacer = Pacer(rate, lambda: now[0])
    moved = 0
    for size in sizes:
        now[0] += pacer.spend(size)
        moved += size
        assert moved <= rate * (now[0] + 0.05) + 1


@pytest.mark.parametrize("rate", [100 * 1024, 8 * MIB])
def test_a_pacer_moves_small_steps_where_the_rate_is_low(rate: int) -> None:
    assert Pacer(rate, lambda: 0.0).step <= rate / 20


@pytest.mark.parametrize("upwards", [False, True])
async def test_bodies_are_paced_over_all_of_them(
    raw: Raw, tmp_path: Path, *, upwards: bool
) -> None:
    size, rate = 2 * MIB, 8 * MIB
    loop = asyncio.get_running_loop()
    server = await raw(
        b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n" if upwards else whole_answer(size)
    )
    source = tmp_path / "source"
    source.write_bytes(BODY[:size])
    async with Transport(pacer=Pacer(rate, loop.time)) as transport:
        began_s = loop.time()
        await asyncio.gather(
            *(
                transport.send(
                    Request("PUT", server.url, body=(FileSlice(str(source), 0, size),), cost=0)
                    if upwards
                    else fetch(server.url, tmp_path / f"sink-{n}", size)
                )
                for n in range(2)
            )
        )
        took_s = loop.time() - began_s
    assert took_s >= 2 * size / rate - 0.1


@settings(deadline=None, max_examples=50)
@given(
    cuts=st.lists(st.integers(1, 4999), max_size=12),
    failing=st.sets(st.integers(1, 5)),
    order=st.permutations(range(5)),
    spoilt=st.integers(0, 4499),
)
def test_ranges_in_any_order_and_fetched_twice_have_the_digests_of_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    failing: set[int],
    order: list[int],
    spoilt: int,
) -> None:
    size, part_size = 4500, 1000
    content = BODY[:size]
    path = tmp_path_factory.mktemp("front") / "file"
    path.write_bytes(content)
    front = Front(str(path), size, part_size, {"sha256"}, 2000)
    receipts: list[Receipt] = []

    async def arrive() -> None:
        following = asyncio.ensure_future(front.follow())
        for index in order:
            part = Part(index + 1, index * part_size, min(part_size, size - index * part_size))
            end = part.offset + part.length
            edges = sorted({part.offset, end, *(c for c in cuts if part.offset < c < end)})
            if part.number in failing:
                front.beside(part)(part.offset, b"\0" * (edges[1] - part.offset))
            look = front.beside(part)
            for first, last in itertools.pairwise(edges):
                look(first, content[first:last])
            blake3, known = await front.proof(part)
            receipts.append(
                Receipt(part.number, part.offset, part.length, "", blake3=blake3, front=known)
            )
            front.arrived(part.number)
            await asyncio.sleep(0)
        await following

    asyncio.run(arrive())
    assert front.digests()["sha256"] == hashlib.sha256(content).hexdigest()
    assert front.block_md5s == [
        hashlib.md5(content[at : at + 2000], usedforsecurity=False).hexdigest()
        for at in range(0, size, 2000)
    ]

    receipts.sort(key=lambda receipt: receipt.number)
    resumed = Front(str(path), size, part_size, {"sha256"}, 2000)
    assert all(resumed.proves(receipt) for receipt in receipts)
    assert resumed.digests() == front.digests(), "what is proved in order is digested so"

    path.write_bytes(content[:spoilt] + bytes((content[spoilt] ^ 1,)) + content[spoilt + 1 :])
    resumed = Front(str(path), size, part_size, {"sha256"}, 2000)
    held = [resumed.proves(receipt) for receipt in receipts]
    bad = spoilt // part_size
    assert all(held[:bad])
    assert not held[bad]
    assert all(
        holds
        for holds, receipt in zip(held, receipts, strict=True)
        if receipt.blake3 and receipt.number != bad + 1
    )
    path.write_bytes(content[:spoilt])
    assert not Front(str(path), size, part_size, {"sha256"}, 2000).proves(receipts[-1])
