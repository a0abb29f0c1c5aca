"""Small answers on one connection: asked one after the other, and what is no plain answer left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from penstock.engine.lean import Ask, Lines, host_of, wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


@dataclass
class Scripted:
    """A server that answers the n-th request with the n-th bytes, whatever was asked."""

    answers: Sequence[bytes | None]
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked.set()
                answer = self.answers[len(self.heads) - 1]
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError, IndexError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*answers: bytes | None) -> AsyncIterator[Scripted]:
    script = Scripted(answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()


async def asked(
    script: Scripted,
    count: int,
    *,
    lines: Lines | None = None,
    most: int = 100,
    stall_timeout_s: float | None = 30.0,
    until: int = 1 << 30,
) -> list[Ask]:
    """So many asks, run on one connection as far as it goes."""
    own = lines or Lines(True, 5.0)
    asks = []
    for number in range(count):
        sent = wire(f"{script.url}/{number}?a=b", (("X-Own", "1"),))
        assert sent is not None
        asks.append(Ask(sent, most))
    await own.run(
        script.url,
        asks,
        leaving=lambda _: None,
        going=lambda came: came < until,
        stall_timeout_s=stall_timeout_s,
    )
    if lines is None:
        own.close()
    return asks


def came(asks: Sequence[Ask]) -> list[tuple[int, bytes]]:
    return [(ask.status, ask.body) for ask in asks]


async def test_many_are_asked_on_one_connection_each_after_the_answer_to_the_last() -> None:
    async with scripted(OK, OK, OK) as script:
        asks = await asked(script, 3)
    assert came(asks) == [(200, b"abc")] * 3
    assert script.connections == 1
    assert script.heads[1] == (
        f"GET /1?a=b HTTP/1.1\r\nHost: {script.url[7:]}\r\nX-Own: 1\r\n\r\n".encode()
    )


async def test_a_connection_is_used_again_by_the_next_and_not_once_it_is_gone() -> None:
    lines = Lines(True, 5.0)
    async with scripted(OK, OK, None, OK) as script:
        assert came(await asked(script, 1, lines=lines)) == [(200, b"abc")]
        assert came(await asked(script, 1, lines=lines)) == [(200, b"abc")]
        assert script.connections == 1
        assert came(await asked(script, 1, lines=lines)) == [(200, b"abc")]
        assert script.connections == 2
    lines.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + bytes(101),
        b"HTTP/1.1 200 OK\r\n\r\nabc",
    ],
    ids=["chunked", "encoded", "too long", "until it hangs up"],
)
async def test_a_body_that_is_not_plain_is_not_read_and_nothing_more_asked(answer: bytes) -> None:
    async with scripted(OK, answer, OK) as script:
        asks = await asked(script, 3)
    assert came(asks) == [(200, b"abc"), (200, b""), (0, b"")]
    assert asks[1].headers is not None
    assert not asks[2].left


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=["hangs up", "nonsense", "two lengths", "endless head", "upgrade"],
)
async def test_what_cannot_be_read_is_no_answer(answer: bytes | None) -> None:
    async with scripted(answer, OK) as script:
        asks = await asked(script, 2)
    assert came(asks) == [(0, b""), (0, b"")]
    assert [ask.left for ask in asks] == [True, False]


async def test_a_body_that_breaks_off_is_no_answer() -> None:
    async with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", None) as script:
        ask, *_ = await asked(script, 1, stall_timeout_s=0.2)
    assert came([ask]) == [(0, b"")]
    assert ask.timed_out


async def test_interim_answers_are_passed_over() -> None:
    async with scripted(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, OK) as script:
        asks = await asked(script, 2)
    assert came(asks) == [(200, b"abc")] * 2
    assert asks[0].headers is not None
    assert "link" not in asks[0].headers


async def test_what_nobody_asked_for_closes_the_connection() -> None:
    lines = Lines(True, 5.0)
    async with scripted(OK + OK, OK) as script:
        await asked(script, 1, lines=lines)
        await asyncio.sleep(0.05)
        assert came(await asked(script, 1, lines=lines)) == [(200, b"abc")]
    assert script.connections == 2
    lines.close()


async def test_what_was_asked_of_a_closed_connection_is_asked_of_a_new_one() -> None:
    async with scripted(OK, None, OK, None, OK) as script:
        asks = await asked(script, 3)
    assert came(asks) == [(200, b"abc")] * 3
    assert script.connections == 3
    asked_for = [head.split()[1][:2] for head in script.heads]
    assert asked_for == [b"/0", b"/1", b"/1", b"/2", b"/2"]


async def test_a_new_connection_that_brings_nothing_is_no_answer() -> None:
    async with scripted(OK, None, None, OK) as script:
        asks = await asked(script, 3)
    assert came(asks) == [(200, b"abc"), (0, b""), (0, b"")]
    assert [ask.left for ask in asks] == [True, True, False]


@pytest.mark.parametrize(
    "more",
    [b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", b"junk", OK],
    ids=["404", "junk", "200"],
)
async def test_what_comes_behind_an_answer_is_none_of_it(more: bytes) -> None:
    async with scripted(OK + more, OK) as script:
        asks = await asked(script, 2)
    assert came(asks)[0] == (200, b"abc")
    assert asks[0].headers is not None
    assert asks[0].headers["content-length"] == "3"
    assert not asks[1].left


async def test_an_answer_that_closes_ends_the_connection() -> None:
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
    async with scripted(last, OK) as script:
        asks = await asked(script, 2)
    assert came(asks) == [(200, b"abc"), (0, b"")]
    assert not asks[1].left


async def test_nothing_more_is_asked_once_enough_came() -> None:
    async with scripted(OK, OK, OK) as script:
        asks = await asked(script, 3, until=6)
    assert came(asks) == [(200, b"abc"), (200, b"abc"), (0, b"")]
    assert len(script.heads) == 2


async def test_cancelled_the_connection_is_closed() -> None:
    lines = Lines(True, 5.0)
    async with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", OK) as script:
        running = asyncio.ensure_future(asked(script, 1, lines=lines))
        await script.asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert came(await asked(script, 1, lines=lines)) == [(200, b"abc")]
    assert script.connections == 2
    lines.close()


async def test_no_connection_is_an_os_error() -> None:
    async with scripted() as script:
        pass
    with pytest.raises(OSError, match="onnect"):
        await asked(script, 1)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:word@host/x",
        "http://host:80/x",
        "https://host:443/x",
        "http://host/a b",
        "http://host/a\r\nX: y",
        "http://host/ä",
        "http://host/x#part",
        "http://host",
        "http://host?x",
        "ftp://host/x",
        "http://ho st/x",
    ],
)
def test_a_url_that_is_not_plain_is_not_sent(url: str) -> None:
    assert wire(url, ()) is None


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "\x00", "ä"])
def test_a_field_that_is_not_plain_is_not_sent(value: str) -> None:
    assert wire("http://host/x", (("A", value),)) is None
    assert wire("http://host/x", ((value, "A"),)) is None


def test_what_is_sent_is_not_shown() -> None:
    sent = wire("https://host/x?X-Amz-Signature=secret", (("X-Key", "secret"),))
    assert sent is not None
    assert "secret" not in repr(Ask(sent, 1))


def test_hosts_are_told_by_scheme_and_authority() -> None:
    assert host_of("https://host:1/a/b?c=https://other/") == "https://host:1"
