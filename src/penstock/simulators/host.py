"""One HTTP server on loopback: carries out faults, paces, keeps the log. Knows no platform.

A platform's handler is given a `Call` and returns a `Reply`, which is data; only this module writes
to sockets. So every fault that spoils an answer works on every answer, streamed or not. Waiting
goes through the event loop alone, so that a loop with a virtual clock works.
"""

import asyncio
import gzip
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from aiohttp import BodyPartReader, ClientPayloadError, web

from penstock.simulators.content import STEP, Bytes, Content, content_of
from penstock.simulators.faults import Fault, FaultKind, Faults, HostName

# With many parts reported at once a body is long: 10,000 parts of 100 bytes and more.
_LONGEST_JSON = 64 * 1024 * 1024
_LINGER_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request as a host saw it.

    at: when it arrived, epoch seconds of the simulator's clock.
    path: without the query. query: without the signature of a presigned URL.
    status: 0 where no answer was sent.
    counted: whether it took a request of the quota.
    has_token: whether it carried the platform's token, in any form.
    range: the Range header. fault: the kind of fault that happened to it.
    """

    at: float
    host: HostName
    method: str
    path: str
    query: Mapping[str, str]
    status: int
    counted: bool
    bytes_in: int
    bytes_out: int
    has_token: bool
    range: str | None
    fault: str | None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer to be sent: `length` bytes of `body` from `offset`, all of it if not given.

    silence_s: nothing is sent instead; the connection is closed after so long.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Content = field(default_factory=lambda: Bytes(b""))
    offset: int = 0
    length: int | None = None
    silence_s: float | None = None

    @property
    def size(self) -> int:
        """How many bytes of body there are to send."""
        rest = self.body.size - self.offset
        return rest if self.length is None else min(rest, self.length)


def json_reply(value: object, status: int = 200) -> Reply:
    """Return a reply with a JSON body."""
    return Reply(
        status=status,
        headers={"Content-Type": "application/json"},
        body=Bytes(json.dumps(value).encode()),
    )


class Disconnected(Exception):
    """The client went away, or the server is stopping."""


class Call:
    """One request being handled: its parsed face, its fault, and what it took so far."""

    def __init__(self, request: web.Request, host: "Host", fault: Fault | None, at: float) -> None:
        self.request = request
        self.fault = fault
        self.at = at
        self.counted = False
        self.bytes_in = 0
        self._host = host

    @property
    def method(self) -> str:
        """The method."""
        return self.request.method

    @property
    def path(self) -> str:
        """The path, decoded, without the query."""
        return self.request.path

    @property
    def raw_path(self) -> str:
        """The path as it was sent, percent-encoded, without the query."""
        return self.request.rel_url.raw_path

    @property
    def has_token(self) -> bool:
        """Whether the request carries the platform's token, in any form."""
        headers = self.request.headers
        return "X-SBG-Auth-Token" in headers or "Authorization" in headers

    def fails(self, kind: str) -> bool:
        """Return whether this kind of fault happens to the call."""
        return self.fault is not None and self.fault.kind == kind

    async def pieces(self) -> AsyncIterator[bytes]:
        """Return the body as it arrives, at the host's bandwidth.

        Raises:
            Disconnected: the client went away before the end.
        """
        try:
            async for piece in self.request.content.iter_chunked(self._host.step):
                self.bytes_in += len(piece)
                self._break_off()
                yield piece
                await self._host.pace(len(piece))
        except (ConnectionError, ClientPayloadError) as gone:
            raise Disconnected from gone

    def _break_off(self) -> None:
        if self.fault is None or self.fault.kind != "drop during":
            return
        after = self.fault.after
        whole = self.request.content_length or 0
        if self.bytes_in >= (whole // 2 if after is None else after):
            raise Disconnected

    async def body(self) -> bytes:
        """Return the whole body; for control calls only."""
        return b"".join([piece async for piece in self.pieces()])

    async def field(self, name: str, *, with_filename: bool = False) -> AsyncIterator[bytes]:
        """Return a field of a multipart/form-data body as it arrives, at the host's bandwidth.

        with_filename: a field without one is another.

        Raises:
            ValueError: the body is no such form, or has no such field.
            Disconnected: the client went away before the end.
        """
        if self.request.content_type != "multipart/form-data":
            raise ValueError("the body is not multipart/form-data")
        try:
            async for part in await self.request.multipart():
                if not isinstance(part, BodyPartReader):
                    break
                mine = part.name == name and not (with_filename and part.filename is None)
                while piece := await part.read_chunk(self._host.step):
                    self.bytes_in += len(piece)
                    if mine:
                        yield piece
                    await self._host.pace(len(piece))
                if mine:
                    return
        except (ConnectionError, ClientPayloadError) as gone:
            raise Disconnected from gone
        raise ValueError(f"the form has no field {name!r}")


Handler = Callable[[Call], Awaitable[Reply]]
Gate = Callable[[Call], Reply | None]


class Host:
    """A server on 127.0.0.1 that hands each request to a platform's handler.

    gate: runs first; what it returns is the answer. A request that it lets pass and a fault then
    answers has therefore been counted, as on a real service.
    decorate: headers added to every answer.
    clock_skew_s: by how much the `Date` header is ahead of the clock.
    """

    def __init__(
        self,
        name: HostName,
        *,
        handler: Handler,
        clock: Callable[[], float],
        faults: Faults,
        log: list[Exchange],
        gate: Gate = lambda _call: None,
        decorate: Callable[[Call, Reply], Mapping[str, str]] = lambda _call, _reply: {},
        clock_skew_s: float = 0.0,
        latency_s: float = 0.0,
        bandwidth: float | None = None,
    ) -> None:
        self.name: HostName = name
        self.clock_skew_s = clock_skew_s
        self.latency_s = latency_s
        self.bandwidth = bandwidth
        self.port = 0
        # Where clients are told to ask, if something stands between them and this host.
        self.asked_at: str | None = None
        self._handler = handler
        self._clock = clock
        self._faults = faults
        self._log = log
        self._gate = gate
        self._decorate = decorate
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Scheme, address and port that clients are told."""
        return self.asked_at or f"http://127.0.0.1:{self.port}"

    @property
    def step(self) -> int:
        """Bytes moved between two waits of a paced connection."""
        return STEP if self.bandwidth is None else max(1, min(STEP, int(self.bandwidth / 20)))

    async def start(self, port: int = 0) -> None:
        """Serve; `port` 0 is any free one."""
        app = web.Application(client_max_size=_LONGEST_JSON)
        app.router.add_route("*", "/{path:(?s:.*)}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_LINGER_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the socket and every connection; stalled answers end now."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def pace(self, size: int) -> None:
        """Wait as long as `size` bytes take at the bandwidth of a connection."""
        if self.bandwidth is not None:
            await self.pause(size / self.bandwidth)

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the server lives.

        Raises:
            Disconnected: the server is stopping.
        """
        if seconds <= 0:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        if self._stopping.is_set():
            raise Disconnected

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.take(self.name, request.method, request.path, request.path_qs)
        call = Call(request, self, fault, self._clock())
        sent = _Sent()
        try:
            return await self._exchange(call, sent)
        except Disconnected:
            return self._drop(request)
        finally:
            self._log.append(_recorded(self.name, call, sent))

    async def _exchange(self, call: Call, sent: "_Sent") -> web.StreamResponse:
        if call.fails("drop before"):
            raise Disconnected
        await self.pause(self.latency_s)
        if call.fault is not None and call.fault.kind == "delay":
            await self.pause(call.fault.seconds)
        reply = self._gate(call)
        if reply is None:
            reply = _answer_of(call.fault) or await self._handler(call)
        if reply.silence_s is not None:
            await self.pause(reply.silence_s)
            raise Disconnected
        if call.fails("drop after"):
            raise Disconnected
        headers = {
            "Date": formatdate(self._clock() + self.clock_skew_s, usegmt=True),
            **self._decorate(call, reply),
            **reply.headers,
        }
        if call.fails("wrong etag"):
            headers["ETag"] = f'"{secrets.token_hex(16)}"'
        if call.fails("encoded"):
            reply, headers["Content-Encoding"] = _encoded(reply), "gzip"
        return await self._send(call, reply, headers, sent)

    async def _send(
        self, call: Call, reply: Reply, headers: Mapping[str, str], sent: "_Sent"
    ) -> web.StreamResponse:
        sent.status = reply.status
        response = web.StreamResponse(status=reply.status, headers=headers)
        if call.fails("overlong"):
            response.enable_chunked_encoding()
        elif reply.status not in (204, 304):
            response.content_length = reply.size
        fault = call.fault
        end, kind = _cut(fault, reply.size)
        position = 0
        try:
            await response.prepare(call.request)
            while position < end and call.method != "HEAD":
                step = 1 if kind == "trickle" else self.step
                piece = reply.body.read(reply.offset + position, min(step, end - position))
                if fault is not None and kind == "flip":
                    piece = _flipped(piece, position, fault.after, reply.size)
                await self.pace(len(piece))
                if fault is not None and kind == "trickle":
                    await self.pause(fault.seconds)
                await response.write(piece)
                position += len(piece)
                sent.size = position
            if kind == "stall":
                await self._stopping.wait()
            if kind in ("stall", "truncate", "reset"):
                return self._drop(call.request, response, flush=kind != "reset")
            if kind == "overlong":
                await response.write(b"and more")
            await response.write_eof()
        except ConnectionError as gone:
            raise Disconnected from gone
        return response

    def _drop(
        self,
        request: web.Request,
        response: web.StreamResponse | None = None,
        *,
        flush: bool = False,
    ) -> web.StreamResponse:
        """Close the connection; the response returned is for aiohttp, and goes nowhere."""
        if request.transport is not None:
            if flush:
                request.transport.close()
            else:
                request.transport.abort()
        return response if response is not None else web.Response()


@dataclass
class _Sent:
    status: int = 0
    size: int = 0


def _recorded(name: HostName, call: Call, sent: _Sent) -> Exchange:
    return Exchange(
        at=call.at,
        host=name,
        method=call.method,
        path=call.path,
        query=_without_signature(call.request.query),
        status=sent.status,
        counted=call.counted,
        bytes_in=call.bytes_in,
        bytes_out=sent.size,
        has_token=call.has_token,
        range=call.request.headers.get("Range"),
        fault=call.fault.kind if call.fault is not None else None,
    )


def _without_signature(query: Mapping[str, str]) -> dict[str, str]:
    signed = ("X-Amz-", "X-Goog-", "AWSAccessKeyId", "Signature", "Expires")
    return {name: value for name, value in query.items() if not name.startswith(signed)}


def _answer_of(fault: Fault | None) -> Reply | None:
    answer = fault.answer() if fault is not None else None
    if answer is None:
        return None
    status, headers, body = answer
    return Reply(status=status, headers=headers, body=content_of(body))


def _cut(fault: Fault | None, size: int) -> tuple[int, FaultKind | None]:
    """Return how many bytes of a body go out, and the fault that spoils it."""
    if fault is None:
        return size, None
    if fault.kind in ("stall", "truncate", "reset"):
        return size // 2 if fault.after is None else min(fault.after, size), fault.kind
    return size, fault.kind


def _encoded(reply: Reply) -> Reply:
    """Return the reply with its body in gzip, as a proxy between might send it."""
    plain = reply.body.read(reply.offset, reply.size)
    return Reply(status=reply.status, headers=reply.headers, body=Bytes(gzip.compress(plain)))


def _flipped(piece: bytes, position: int, at: int | None, size: int) -> bytes:
    """Return a piece with one bit flipped, if the byte to spoil is in it."""
    index = (size // 2 if at is None else min(at, size - 1)) - position
    if not 0 <= index < len(piece):
        return piece
    return piece[:index] + bytes([piece[index] ^ 1]) + piece[index + 1 :]


def expect_object(text: bytes) -> dict[str, Any]:
    """Return a JSON body as a dictionary; empty for no body, `null` and what is no object.

    Raises:
        ValueError: the body is not JSON.
    """
    value = json.loads(text) if text.strip() else None
    return value if isinstance(value, dict) else {}
