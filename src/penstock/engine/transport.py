"""The one module that talks: a described request goes out, an answer comes back.

It sends what it is told, once; it decides nothing about retries or quota. A request goes by aiohttp
(`engine.client`), which is loaded when the first one is asked: that takes longer than many a run
that needs none. Small GETs to a storage go in bursts (`engine.lean`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from penstock.core.model import Request, Response
from penstock.engine.files import Beside
from penstock.engine.lean import USUAL_PORTS, Ask, Lines, host_of
from penstock.engine.pacing import Pacer
from penstock.engine.passing import Landed, Progress
from penstock.engine.reading import Held

if TYPE_CHECKING:
    from penstock.engine.client import Client

CONNECT_TIMEOUT_S = 30.0
# Nothing came for this long: the stream is taken for dead. Platforms answer within seconds;
# completing an upload of thousands of parts may take a minute.
STALL_TIMEOUT_S = 120.0


def _nothing(_: int) -> None:
    return None


class Transport:
    """Connections, kept alive and shared by all requests of a run."""

    def __init__(
        self,
        *,
        connections: int = 100,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        tls: ssl.SSLContext | bool = True,
        user_agent: str = "penstock",
        pacer: Pacer | None = None,
        proxy: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._connections = connections
        self._stall_timeout_s = stall_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self._pacer = pacer
        self._choose = proxy
        # By scheme and host. Reading the environment takes longer than sending a request.
        self._proxies: dict[str, str | None] = {}
        self.fields = (
            ("User-Agent", user_agent),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
        )
        """Header fields of every request that names no others."""
        self._lines = Lines(tls, connect_timeout_s)
        self._client: Client | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        self._lines.close()
        if self._client is not None:
            await self._client.close()

    @property
    def held_up(self) -> int:
        """How often a body had to wait for us, so far: its line brings more than we can take."""
        return self._client.held_up if self._client is not None else 0

    async def send(
        self,
        request: Request,
        *,
        signed: Iterable[tuple[str, str]] = (),
        on_leave: Callable[[], None] = lambda: None,
        progress: Progress = _nothing,
        beside: Beside | None = None,
        landed: Landed | None = None,
        held: Held | None = None,
    ) -> Response:
        """The answer to one request, its body in memory or in the request's sink.

        `held` are slices of the body that were read already; they are let go of as they are sent.

        `landed` is what earlier sends brought of the sink's range, of which this request asks for
        the rest: it grows by what this one brings, whether it comes to its end or not.

        `on_leave` is called when a connection is had and the request is about to leave, `beside`
        in the thread that has just written or read bytes of the file, with their offset, in order.

        Raises `NotSent` where no connection was had, `AnswerLost` where it may have been done,
        `AnswerUnusable` or
        `RemoteChanged` where the head of the answer, or its length, is not what was asked for,
        and what reading or writing the local file raises. Cancelled, it leaves the connection
        closed and the sink's bytes unclaimed.
        """
        client = self._client or self._begin()
        return await client.send(
            request,
            signed=signed,
            on_leave=on_leave,
            progress=progress,
            beside=beside,
            landed=landed,
            held=held,
        )

    def is_plain(self, url: str) -> bool:
        """Whether a URL is asked straight, and its bytes come as they will."""
        return self._pacer is None and self._proxy(url) is None

    async def burst(
        self,
        host: str,
        asks: Iterable[Ask],
        *,
        leaving: Callable[[Ask], None],
        going: Callable[[int], bool],
    ) -> None:
        """Small GETs to one host, one after the other, as `engine.lean` tells.

        Raises OSError where no connection was had.
        """
        await self._lines.run(
            host, asks, leaving=leaving, going=going, stall_timeout_s=self._stall_timeout_s
        )

    async def reaches(self, url: str) -> bool:
        """Whether the host of a URL, or the proxy it is asked by, takes a connection now.

        Nothing is sent, so no server counts it.
        """
        where = urlsplit(self._proxy(url) or url)
        try:
            port = where.port or USUAL_PORTS.get(where.scheme)
        except ValueError:
            port = None
        if where.hostname is None or port is None:
            return False
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, writer = await asyncio.open_connection(where.hostname, port)
        except OSError:  # a time-out is one
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    def _begin(self) -> Client:
        from penstock.engine.client import Client  # noqa: PLC0415 - as the module says

        assert self._is_open, "the transport is entered before it sends"
        self._client = Client(
            connections=self._connections,
            stall_timeout_s=self._stall_timeout_s,
            connect_timeout_s=self._connect_timeout_s,
            tls=self._tls,
            fields=self.fields,
            pacer=self._pacer,
            proxy=self._proxy,
        )
        return self._client

    def _proxy(self, url: str) -> str | None:
        """The proxy a URL is asked by; None where it goes straight."""
        host = host_of(url)
        if host not in self._proxies:
            try:
                self._proxies[host] = self._choose(url)
            except ValueError:  # no URL at all, which is found out when it is asked
                self._proxies[host] = None
        return self._proxies[host]
