"""Answers kept between runs: what hardly changes is asked once and read from disk for a while.

A flow says of a request how long its answer may be kept (`Request.keep_s`). Only bodies of
accepted answers are kept, by the request's URL; never what was asked without saying so. A file
that cannot be read or written is as one that is not there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from penstock.core.errors import ExchangeError, RemoteChanged
from penstock.core.model import Flow, Request, Response, T
from penstock.engine.clock import Clock
from penstock.engine.exchange import Exchange
from penstock.engine.files import hop

_OK = 200


class KeptAnswers:
    """A folder of answers."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    async def run(self, exchange: Exchange, flow: Flow[T]) -> T:
        """What the flow returns; its requests go out unless an answer to them is kept."""
        try:
            request = next(flow)
            while True:
                try:
                    response = await self._answer(exchange, request)
                except (ExchangeError, RemoteChanged) as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    async def _answer(self, exchange: Exchange, request: Request) -> Response:
        path = self._path(request)
        if request.keep_s:
            body = await hop(_read, path, self._clock.wall_at() - request.keep_s)
            if body is not None:
                return Response(_OK, body=body)
        response = await exchange.run(_once(request))
        if request.keep_s and response.status == _OK:
            exchange.once += request.cost
            await hop(_write, path, response.body)
        return response

    def _path(self, request: Request) -> Path:
        accept = [value for name, value in request.headers if name.lower() == "accept"]
        key = "\n".join((request.method, request.url, *accept))
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.answer"


def _once(request: Request) -> Flow[Response]:
    return (yield request)


def _read(path: Path, not_before_at: float) -> bytes | None:
    try:
        if path.stat().st_mtime < not_before_at:
            return None
        return path.read_bytes()
    except OSError:
        return None


def _write(path: Path, body: bytes) -> None:
    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside.touch(mode=0o600)
        beside.write_bytes(body)
        os.replace(beside, path)  # noqa: PTH105 - as the other renames
    except OSError:
        beside.unlink(missing_ok=True)
