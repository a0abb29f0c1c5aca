"""Fixtures of every test folder."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from aiohttp import ClientResponse
from aioresponses import aioresponses
from aioresponses import core as mocking

from composing import Answer, Compose, Raw, RawServer, composed
from datameta_server import DataMetaServer, NoWheel
from penstock.simulators import SevenBridges, SevenBridgesSettings
from worlds import World

if TYPE_CHECKING:
    from s3_server import S3Server


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:
        made = 0

        async def make(**settings: Any) -> World:  # noqa: ANN401 - the simulator's settings
            nonlocal made
            made += 1
            settings.setdefault("quota", 10_000)
            sim = await stack.enter_async_context(SevenBridges(SevenBridgesSettings(**settings)))
            home = tmp_path / f"world{made}"
            home.mkdir()
            return World(sim, home)

        yield make


@pytest.fixture
async def world(make_world: Callable[..., Any]) -> World:
    made: World = await make_world()
    return made


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """Starts servers: `await raw(answer, answer, …)`; TLS with `ssl=`."""
    listening: list[tuple[asyncio.Server, RawServer]] = []

    async def start(*answers: Answer, **options: Any) -> RawServer:  # noqa: ANN401 - asyncio's
        server = RawServer(list(answers))
        opened = await asyncio.start_server(server.serve, "127.0.0.1", 0, **options)
        server.port = opened.sockets[0].getsockname()[1]
        listening.append((opened, server))
        return server

    yield start
    for opened, server in listening:
        opened.close()
        for task in tuple(server.tasks):
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)


@pytest.fixture
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """`aioresponses`, taught the argument that `ClientResponse` has had since aiohttp 3.14."""
    if "stream_writer" in inspect.signature(ClientResponse.__init__).parameters:
        taught = functools.partial(ClientResponse, stream_writer=Mock(output_size=0))
        monkeypatch.setattr(mocking, "ClientResponse", taught)
    with aioresponses() as single:
        yield single


@pytest.fixture
def compose() -> Compose:
    """Opens a `World`: `async with compose(tries=2, quota=50) as world`."""
    return composed


@pytest.fixture
def open_descriptors() -> Callable[[Path], list[str]]:
    """Which open descriptors of this process lead below a folder."""

    def below(folder: Path) -> list[str]:
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                target = os.readlink(entry)  # noqa: PTH115 - the link's text is what is wanted
                if target.startswith(str(folder)):
                    found.append(target)
        return found

    return below


@pytest.fixture(scope="session")
def datameta_server() -> Iterator[DataMetaServer]:
    """The real DataMeta server, started once; skipped only where no wheel of it exists."""
    try:
        server = DataMetaServer().start()
    except NoWheel as reason:
        pytest.skip(str(reason))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for the whole session, started when it is first asked for."""
    from s3_server import running

    server = running()
    yield server
    server.close()


@pytest.fixture
def moto_s3(s3_server: S3Server) -> S3Server:
    """A real S3 server with one empty bucket."""
    s3_server.reset()
    return s3_server


@pytest.fixture
async def s3(moto_s3: S3Server, tmp_path: Path) -> AsyncIterator[Any]:
    """A Coscine resource kept in a real S3 server, and nothing wrong in what was asked there."""
    from s3_world import s3_resource

    async with s3_resource(tmp_path, moto_s3) as bench:
        yield bench
        assert not bench.violations()
