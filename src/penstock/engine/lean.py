"""Small answers, one after the other on one connection, without a task for each.

What `aiohttp` does for a request (turns of a task, timers, its request, answer and stream objects)
takes longer than a file of some kilobytes does. So many small GETs to one host go over a connection
of our own: asked, answered and asked again within the loop's callback, parsed by `httptools`
(llhttp). Nothing is asked before the answer to what was asked is whole.

Only what is plain goes this way: no proxy, no user in the URL, no body to send, an answer that fits
in memory. Whoever asks does the rest by `engine.transport`: what broke, was refused or redirected,
is encoded or too long.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import httptools

from penstock.core.model import Headers
from penstock.core.units import whole_number
from penstock.engine.stalling import longest_s

# Ports that a URL need not name; where it does all the same, clients write `Host` in two ways.
USUAL_PORTS = {"http": 80, "https": 443}
# Fields of a head: more than any storage sends.
_MOST_FIELDS = 200
# Statuses below are of what comes before an answer. Source: RFC 9110, section 15.2.
_FINAL = 200


@dataclass(slots=True, eq=False)
class Ask:
    """One GET as it goes over the wire, and what came of it.

    A body longer than `most`, and an encoded one, is not read: `body` is then empty.
    """

    wire: bytes = field(repr=False)
    """With what a presigned URL must not be shown with."""
    most: int
    status: int = 0
    """0: no whole answer came."""
    headers: Headers | None = None
    body: bytes = b""
    left: bool = False
    """Whether it was sent."""
    waited_s: float = 0.0
    """From then to the first byte of the answer."""
    timed_out: bool = False


class Line(asyncio.Protocol):
    """One connection; one `run` at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._asks: Iterator[Ask] = iter(())
        self._ask: Ask | None = None
        self._leaving: Callable[[Ask], None] = _nothing
        self._going: Callable[[int], bool] = _always
        self._over: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._fields: list[tuple[str, str]] = []
        self._pieces: list[bytes] = []
        self._status = 0
        self._reads = self._whole = self._keeps = self._has_more = False
        self._answers = 0
        self.stale: Ask | None = None
        """What was asked last, where the connection had served before and brought no byte of it:
        the server had closed it, which says nothing of what was asked."""
        self._watch: asyncio.TimerHandle | None = None
        self._left_s = self._moved_s = 0.0
        self._came = 0
        self.is_open = False

    async def run(
        self,
        asks: Iterable[Ask],
        *,
        leaving: Callable[[Ask], None],
        going: Callable[[int], bool],
        stall_timeout_s: float | None,
    ) -> None:
        """What can be asked is asked, in order, until one is not answered well.

        `leaving` is told of each before it is sent; `going`, told how many bytes came, whether
        another shall be. Cancelled, the connection is closed.
        """
        self._asks, self._leaving, self._going = iter(asks), leaving, going
        self._came, self.stale = 0, None
        self._over = self._loop.create_future()
        if stall_timeout_s is not None:
            self._watch = self._loop.call_later(stall_timeout_s, self._look, stall_timeout_s)
        try:
            self._next()
            await self._over
        except BaseException:
            self.close()
            raise
        finally:
            self._over = None
            if self._watch is not None:
                self._watch.cancel()

    def close(self) -> None:
        """The connection is not used any more."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # -- what the event loop calls -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection."""
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer that is awaited; others are a fault of the server's."""
        ask = self._ask
        if ask is None:
            self.close()
            return
        self._moved_s = self._loop.time()
        if not ask.waited_s:
            ask.waited_s = self._moved_s - self._left_s
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._whole:
                self._end()
                return
            self._has_more = True
        if self._whole:
            self._answered(ask)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's
        """Nothing more comes."""
        self.is_open = False
        if self._ask is not None:
            self._end()

    # -- what the parser calls ---------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins; one behind the one that was asked for is nobody's."""
        self._has_more = self._whole

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head."""
        if self._has_more:
            return
        if len(self._fields) >= _MOST_FIELDS:
            raise ValueError("too many header fields")
        self._fields.append((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        """The head is whole: whether its body is read."""
        if self._has_more:
            return
        self._status = self._parser.get_status_code()
        if self._status < _FINAL:
            self._fields.clear()
            return
        assert self._ask is not None
        headers = self._ask.headers = Headers(self._fields)
        length = whole_number(headers.get("content-length"))
        encoded = headers.get("content-encoding", "identity") not in {"identity", ""}
        self._reads = not encoded and length is not None and length <= self._ask.most
        self._whole = not self._reads

    def on_body(self, data: bytes) -> None:
        """Bytes of the body."""
        if self._reads and not self._has_more:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if not self._has_more:
            self._keeps = self._parser.should_keep_alive()
            self._whole = self._whole or self._status >= _FINAL

    # -- one after the other -----------------------------------------------------------------

    def _next(self) -> None:
        """The next is asked, or all is over."""
        ask = next(self._asks, None) if self.is_open and self._going(self._came) else None
        self._ask = ask
        if ask is None:
            self._done()
            return
        self._fields, self._pieces = [], []
        self._whole = self._has_more = False
        self._leaving(ask)
        ask.left = True
        self._left_s = self._moved_s = self._loop.time()
        self._transport.write(ask.wire)

    def _answered(self, ask: Ask) -> None:
        """A whole answer, or as much of it as is wanted."""
        ask.status = self._status
        self._answers += 1
        if self._reads:
            ask.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._came += len(ask.body)
        if not self._reads or not self._keeps or self._has_more:
            self._ask = None
            self.close()
        self._next()

    def _end(self) -> None:
        """No answer, or none that can be read."""
        ask, self._ask = self._ask, None
        if ask is not None and self._answers and not ask.waited_s and not ask.timed_out:
            self.stale = ask
        self.close()
        self._done()

    def _done(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _look(self, stall_timeout_s: float) -> None:
        """Looks whether an answer stalls, now and later."""
        ask = self._ask
        if self._over is None or ask is None:
            return
        now_s, longest = self._loop.time(), longest_s(ask.most, stall_timeout_s)
        assert longest is not None
        due_s = min(self._moved_s + stall_timeout_s, self._left_s + longest) - now_s
        if due_s <= 0:
            ask.timed_out = True
            self._end()
            return
        self._watch = self._loop.call_later(due_s, self._look, stall_timeout_s)


class Lines:
    """Idle connections by host, and new ones. `tls` is what is trusted, as `aiohttp` takes it."""

    def __init__(self, tls: ssl.SSLContext | bool, connect_timeout_s: float) -> None:  # noqa: FBT001 - as above
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._idle: dict[str, list[Line]] = {}

    async def run(
        self,
        host: str,
        asks: Iterable[Ask],
        *,
        leaving: Callable[[Ask], None],
        going: Callable[[int], bool],
        stall_timeout_s: float | None,
    ) -> None:
        """As `Line.run`, on a connection to `host` (scheme and authority), kept for the next.

        What was asked of a connection that its server had closed meanwhile is asked of a new one.
        Raises OSError (of which a time-out is one) where none is had; nothing was sent then.
        """
        waiting: Iterable[Ask] = iter(asks)
        while True:
            line = self._kept(host) or await self._connected(host)
            await line.run(waiting, leaving=leaving, going=going, stall_timeout_s=stall_timeout_s)
            if line.is_open:
                self._idle.setdefault(host, []).append(line)
            if line.stale is None:
                return
            line.stale.left = False
            waiting = chain((line.stale,), waiting)

    def _kept(self, host: str) -> Line | None:
        """An idle connection, if there is one."""
        idle = self._idle.get(host, [])
        while idle:
            line = idle.pop()
            if line.is_open:
                return line
        return None

    async def _connected(self, host: str) -> Line:
        parts = urlsplit(host)
        tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            if not isinstance(self._tls, ssl.SSLContext):
                self._tls = ssl.create_default_context()
            tls = self._tls
        async with asyncio.timeout(self._connect_timeout_s):
            _, line = await asyncio.get_running_loop().create_connection(
                Line,
                parts.hostname or "",
                parts.port or USUAL_PORTS[parts.scheme],
                ssl=tls,
            )
        return line

    def close(self) -> None:
        """No connection is kept."""
        for idle in self._idle.values():
            for line in idle:
                line.close()
        self._idle.clear()


def host_of(url: str) -> str:
    """Scheme and authority of a URL."""
    return "/".join(url.split("/", 3)[:3])


def wire(url: str, fields: tuple[tuple[str, str], ...]) -> bytes | None:
    """A GET as it is sent; None for a URL or a field that is anything but plain."""
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    head = _head(scheme, authority, fields)
    if head is None or not slash or not _is_plain(target):
        return None
    return f"GET /{target}{head}".encode("ascii")


@lru_cache(maxsize=256)
def _head(scheme: str, authority: str, fields: tuple[tuple[str, str], ...]) -> str | None:
    """What follows the target of each request to a host with these fields; None as above."""
    if scheme not in USUAL_PORTS or not _is_plain(authority) or "@" in authority:
        return None
    if "?" in authority or authority.endswith((":80", ":443")):
        return None  # Whether `Host` names a usual port is told in two ways.
    if not all(_is_plain(name) and _is_field(value) for name, value in fields):
        return None
    lines = [f"Host: {authority}", *(f"{name}: {value}" for name, value in fields)]
    return " HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"


def _is_field(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and "#" not in text


def _nothing(_: Ask) -> None:
    pass


def _always(_: int) -> bool:
    return True
