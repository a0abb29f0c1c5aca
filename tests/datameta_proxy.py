"""Stands before the real DataMeta server: counts what is asked, and breaks what it is told to.

It forwards the Host header, so that the server's own URLs lead through it again.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
from aiohttp import web

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Break:
    """The next `times` requests of a method and a path are broken.

    `lose`: forwarded, its answer never told. `flip`: a bit of the request's body is flipped.
    `flip_answer`: one of the answer's. `drop`: never forwarded. `fail`: answered as the server
    does where transactions conflict.
    """

    method: str
    path: str
    kind: Literal["lose", "flip", "flip_answer", "drop", "fail"]
    times: int = 1


@dataclass
class DataMetaProxy:
    target: str
    breaks: list[Break] = field(default_factory=list)
    log: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and status of each request; 0: the answer was lost."""
    keys_told: list[str] = field(default_factory=list)
    """Upload and download URLs that the platform's key came with: they have keys of their own."""
    root: str = ""

    def count(self, method: str, path: str) -> int:
        return sum(m == method and re.search(path, p) is not None for m, p, _ in self.log)

    def _broken(self, request: web.Request) -> str | None:
        for each in self.breaks:
            if each.times and each.method == request.method and re.search(each.path, request.path):
                each.times -= 1
                return each.kind
        return None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body, kind = await request.read(), self._broken(request)
        own = re.search("/v1/(upload|download)/", request.path) is not None
        if own and "Authorization" in request.headers:
            self.keys_told.append(request.path)
        if kind == "fail":
            self.log.append((request.method, request.path, 500))
            return web.Response(status=500, text="Internal Server Error")
        if kind == "flip":
            middle = len(body) // 2
            body = body[:middle] + bytes((body[middle] ^ 1,)) + body[middle + 1 :]
        if kind == "drop":
            self._cut(request)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                self.target + request.path_qs,
                headers=headers,
                data=io.BytesIO(body) if body else None,
                allow_redirects=False,
            ) as answer,
        ):
            content = await answer.read()
            status = answer.status
            told = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
        if kind == "lose":
            self._cut(request)
        if kind == "flip_answer" and content:
            content = bytes((content[0] ^ 1,)) + content[1:]
        self.log.append((request.method, request.path, status))
        return web.Response(status=status, headers=told, body=content)

    def _cut(self, request: web.Request) -> None:
        self.log.append((request.method, request.path, 0))
        if request.transport is not None:
            request.transport.close()
        raise web.HTTPInternalServerError


@asynccontextmanager
async def proxy_to(target: str) -> AsyncIterator[DataMetaProxy]:
    proxy = DataMetaProxy(target)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", proxy.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    proxy.root = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await runner.cleanup()
