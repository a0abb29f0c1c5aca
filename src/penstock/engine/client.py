"""aiohttp's part of the transport: one request over its pool, and the answer to it.

It follows no redirect (aiohttp would carry a token to another host), resends nothing, and turns
every foreign exception into one of ours. Bodies stream in pieces of megabytes, read and written in
threads; a large one is received by `taking`, past aiohttp. A response's head is held against
`Request.head` before one byte of it reaches the sink.

Time-outs count from the last byte moved, and bytes are counted over a window: a connection that
stalls or trickles is `AnswerLost`, one that is slow is not.
"""

from __future__ import annotations

import asyncio
import base64
import math
import ssl
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import aiohttp
import anyio
from aiohttp import ClientTimeout, TCPConnector
from yarl import URL

from penstock.core.errors import (
    AnswerUnusable,
)
from penstock.core.heads import check_head
from penstock.core.model import (
    MIB,
    Headers,
    Request,
    Response,
    validator_of,
)
from penstock.core.units import whole_number
from penstock.engine.digests import stated_too
from penstock.engine.files import Beside, SliceWriter
from penstock.engine.foreign import translated
from penstock.engine.gathering import Gathered
from penstock.engine.machine import CORES
from penstock.engine.pacing import Pacer
from penstock.engine.passing import Landed, Progress
from penstock.engine.reading import Held
from penstock.engine.sending import RopeBody
from penstock.engine.stalling import Watch, longest_s
from penstock.engine.taking import Buffers, Taken, is_there, takeable

# How fast a server at least gets on with a body it has taken whole, which it may store elsewhere
# before it answers. Bytes a second; a guess, for the sake of uploads of 100 GB in one request.
DIGESTION_RATE = 50 * MIB
# An answer that is held in memory: the largest listing page is well under this.
LARGEST_ANSWER = 32 * MIB
# Bytes gathered before they are written in one hop.
WRITE_SIZE = MIB

_WITH_BYTES = frozenset((200, 206))

# Told when a request has its connection: until then nothing was asked.
_LEAVING: ContextVar[Callable[[], None]] = ContextVar("leaving")


class _Connector(TCPConnector):
    """Tells a request's `on_leave` that a connection is had.

    `connect` is asked in the task that sends. aiohttp's own tracing would tell as well, and costs
    a request a fifth of its CPU.
    """

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:  # noqa: ANN401 - aiohttp's
        connection = await super().connect(*args, **kwargs)
        _LEAVING.get()()
        return connection


class Client:
    """aiohttp's session: connections, kept alive and shared by all requests of a run.

    `proxy` says by which proxy a URL is asked, `fields` what header every request has.
    """

    def __init__(
        self,
        *,
        connections: int,
        stall_timeout_s: float,
        connect_timeout_s: float,
        tls: ssl.SSLContext | bool,
        fields: Iterable[tuple[str, str]],
        pacer: Pacer | None,
        proxy: Callable[[str], str | None],
    ) -> None:
        self._pacer = pacer
        self._proxy = proxy
        # Reading a proxy's URL takes a while.
        self._proxies: dict[str, tuple[URL, dict[str, str] | None]] = {}
        self._buffers = Buffers()
        self._files = Gathered()
        self._taking = 0
        self._timeout = ClientTimeout(
            total=None, sock_connect=connect_timeout_s, sock_read=stall_timeout_s
        )
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=connections, ssl=tls),
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=dict(fields),
            skip_auto_headers=("Content-Type",),
            read_bufsize=MIB,
        )
        # aiohttp resends idempotent requests by itself on a connection that died: a request
        # nobody admitted. Its own test client switches that off by the same attribute.
        self._session._retry_connection = False  # noqa: SLF001

    async def close(self) -> None:
        """No connection is kept."""
        await self._session.close()

    def _proxy_of(self, url: str) -> tuple[URL | None, dict[str, str] | None]:
        chosen = self._proxy(url)
        if chosen is None:
            return None, None
        if chosen not in self._proxies:
            self._proxies[chosen] = _proxy(chosen)
        return self._proxies[chosen]

    @property
    def held_up(self) -> int:
        """How often a body had to wait for us, so far: its line brings more than we can take."""
        return self._buffers.held_up

    async def send(
        self,
        request: Request,
        *,
        signed: Iterable[tuple[str, str]],
        on_leave: Callable[[], None],
        progress: Progress,
        beside: Beside | None,
        landed: Landed | None,
        held: Held | None,
    ) -> Response:
        """As `Transport.send`."""
        session = self._session
        stall_s = self._timeout.sock_read
        timeout = self._timeout
        if stall_s is not None and request.body_length > DIGESTION_RATE:
            longer_s = stall_s + request.body_length / DIGESTION_RATE
            timeout = ClientTimeout(
                total=None, sock_connect=timeout.sock_connect, sock_read=longer_s
            )
        body = None
        if request.body:
            body = RopeBody(request, progress, stall_s, self._pacer, beside, self._files, held)
        headers = [*request.headers, *signed]
        proxy, password = self._proxy_of(request.url)
        leaving = _LEAVING.set(on_leave)
        try:
            async with session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=headers,
                data=body,
                timeout=timeout,
                allow_redirects=False,
                proxy=proxy,
                proxy_headers=password,
            ) as answer:
                return await self._receive(request, answer, body, progress, beside, landed)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            failure = (body.failure if body is not None else None) or translated(error, request)
            # Raised below, outside this block: what aiohttp raises shows URLs and header fields,
            # and would hang on ours as its cause or context.
        finally:
            _LEAVING.reset(leaving)
            if body is not None and body.ended is not None and not body.ended.is_set():
                with anyio.CancelScope(shield=True):
                    await body.ended.wait()
        raise failure

    async def _receive(
        self,
        request: Request,
        answer: aiohttp.ClientResponse,
        body: RopeBody | None,
        progress: Progress,
        beside: Beside | None,
        landed: Landed | None,
    ) -> Response:
        head = Headers((name, value) for name, value in answer.headers.items())
        sent = body.sent if body is not None else 0
        digests = body.digests.hex() if body is not None else {}
        if request.held is not None and answer.status in request.accept & _WITH_BYTES:
            content = await self._hold(answer, request, head, progress)
            size = len(content)
            return Response(answer.status, head, content, digests, received=size, sent=sent)
        if answer.status == 200 and request.sink is None and _asks_for_a_range(request):  # noqa: PLR2004
            # A server without ranges sends the whole file to whoever asks for a byte of it.
            answer.close()
            return Response(answer.status, head, b"", digests, sent=sent)
        pours = request.sink is not None and 200 <= answer.status < 300  # noqa: PLR2004
        if not pours or answer.status not in request.accept:
            content = await _bounded(answer, request, self._timeout.sock_read)
            return Response(answer.status, head, content, digests, sent=sent)
        assert request.sink is not None
        check_head(request, answer.status, head)
        writer = SliceWriter(request.sink, stated_too(request.digests, head), beside)
        if landed is not None and landed.digests is not None:
            writer.digests = landed.digests
        try:
            if not request.is_unbounded and takeable(answer, request.sink.length):
                await self._take(answer, writer, request.sink.length, progress)
            else:
                await self._pour(answer, writer, request, progress)
        finally:
            await writer.close()
            if landed is not None:
                landed.size += writer.written
                landed.digests, landed.validator = writer.digests, validator_of(head)
        if not request.is_unbounded and writer.written != request.sink.length:
            raise AnswerUnusable(
                f"{request.shown} brought {writer.written} bytes in place of {request.sink.length}"
            )
        return Response(answer.status, head, b"", writer.hex(), received=writer.written, sent=sent)

    async def _hold(
        self,
        answer: aiohttp.ClientResponse,
        request: Request,
        head: Headers,
        progress: Progress,
    ) -> bytes:
        """A file's bytes in memory; none of a body without a sink that is longer, or may be."""
        length = whole_number(head.get("content-length"))
        if request.sink is None:
            most = request.held or 0
            encoded = head.get("content-encoding", "identity") not in {"identity", ""}
            if encoded or length is None or length > most:
                answer.close()
                return b""
        else:
            check_head(request, answer.status, head)
            most = request.sink.length
        if self._pacer is None and length is not None and length <= most and is_there(answer):
            content = await answer.read()
        elif self._pacer is None and length is not None and length <= most:
            async with asyncio.timeout(longest_s(length, self._timeout.sock_read)):
                content = await answer.read()
        else:
            content = await self._read_paced(answer, request, most)
        if request.sink is not None and len(content) != most:
            raise AnswerUnusable(f"{request.shown} brought {len(content)} bytes in place of {most}")
        progress(len(content))
        return content

    async def _read_paced(
        self, answer: aiohttp.ClientResponse, request: Request, most: int
    ) -> bytes:
        """A body in memory, of a length that need not have been announced."""
        gathered = bytearray()
        now_s = asyncio.get_running_loop().time
        watch = Watch(self._timeout.sock_read, now_s())
        async for data in answer.content.iter_any():
            gathered += data
            if watch.moved(len(data), now_s()) and len(gathered) < most:
                answer.close()
                raise TimeoutError
            if len(gathered) > most:
                answer.close()
                raise AnswerUnusable(f"{request.shown} brought more than {most} bytes")
            if self._pacer is not None:
                await asyncio.sleep(self._pacer.spend(len(data)))
                watch.rest(now_s())
        return bytes(gathered)

    async def _take(
        self, answer: aiohttp.ClientResponse, writer: SliceWriter, length: int, progress: Progress
    ) -> None:
        """A large body goes into the sink, written from the buffers it was received into."""
        taken = Taken(
            answer,
            length,
            self._buffers,
            stall_timeout_s=self._timeout.sock_read,
            progress=progress,
            pacer=self._pacer,
        )
        self._taking += 1
        try:
            async with taken.pieces() as pieces:
                async for piece in pieces:
                    last = writer.written + len(piece) == length
                    await writer.write([piece], last=last, apart=2 * self._taking <= CORES)
        finally:
            self._taking -= 1

    async def _pour(
        self,
        answer: aiohttp.ClientResponse,
        writer: SliceWriter,
        request: Request,
        progress: Progress,
    ) -> None:
        """The body goes into the sink, gathered into megabytes; never more than was asked for.

        One of unknown length has ended when aiohttp says so: it raises where a chunked one breaks
        off.
        """
        assert request.sink is not None
        room = math.inf if request.is_unbounded else request.sink.length
        gathered: list[bytes] = []
        held = 0
        now_s = asyncio.get_running_loop().time
        watch = Watch(self._timeout.sock_read, now_s())
        async for data in answer.content.iter_any():
            room -= len(data)
            if watch.moved(len(data), now_s()) and room > 0:
                answer.close()
                raise TimeoutError
            if room < 0:
                answer.close()
                raise AnswerUnusable(
                    f"{request.shown} brought more than {request.sink.length} bytes"
                )
            gathered.append(data)
            held += len(data)
            if self._pacer is not None:
                await asyncio.sleep(self._pacer.spend(len(data)))
                watch.rest(now_s())
            if held >= WRITE_SIZE and room:
                await writer.write(gathered)
                progress(held)
                gathered, held = [], 0
                watch.rest(now_s())
        if gathered:
            await writer.write(gathered, last=True)
            progress(held)


def _asks_for_a_range(request: Request) -> bool:
    return any(name.lower() == "range" for name, _ in request.headers)


def _proxy(chosen: str) -> tuple[URL, dict[str, str] | None]:
    """A proxy, and who we are to it.

    aiohttp's own reading of the environment is not used: it takes passwords from `~/.netrc` as
    well, and a presigned URL must carry none.
    """
    where = URL(chosen)
    if where.user is None:
        return where, None
    known = base64.b64encode(f"{where.user}:{where.password or ''}".encode()).decode()
    return where.with_user(None), {"Proxy-Authorization": f"Basic {known}"}


async def _bounded(
    answer: aiohttp.ClientResponse, request: Request, stall_timeout_s: float | None
) -> bytes:
    """A whole body that fits in memory."""
    length = answer.content_length
    if is_there(answer) and request.enough is None and (length or 0) <= LARGEST_ANSWER:
        return await answer.read()
    gathered = bytearray()
    now_s = asyncio.get_running_loop().time
    watch = Watch(stall_timeout_s, now_s())
    async for data in answer.content.iter_any():
        gathered += data
        # What was asked to be done may be told to be under way, by a blank now and then.
        # Source: Amazon S3 API reference, "CompleteMultipartUpload".
        if watch.moved(len(data), now_s()) and request.method == "GET":
            answer.close()
            raise TimeoutError
        if request.enough is not None and len(gathered) >= request.enough:
            answer.close()
            break
        if len(gathered) > LARGEST_ANSWER:
            answer.close()
            raise AnswerUnusable(
                f"{request.shown} was answered with more than {LARGEST_ANSWER} bytes"
            )
    return bytes(gathered)
