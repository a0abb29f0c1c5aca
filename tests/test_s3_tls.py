"""A resource's S3 storage behind TLS: believed by the profile's own certificate, or not at all."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from benches import md5
from certificates import certified
from penstock.core.errors import PenstockError
from penstock.core.model import MIB
from s3_world import S3Bench


async def _pump(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            to.write(data)
            await to.drain()
        to.write_eof() if to.can_write_eof() else to.close()


async def test_a_storage_behind_tls_is_written_and_read_and_no_stranger_is_believed(
    s3: S3Bench,
) -> None:
    ca, context = certified(s3.home, "127.0.0.1")
    port = urlsplit(s3.server.url).port

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
        for each in (outer, writer):
            each.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        there = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        # What the resource shows; the simulator itself goes on without TLS.
        s3.sim.change(s3=replace(s3.server.place, endpoint=there))
        files = {"small": b"abc", "d/large": os.urandom(6 * MIB)}
        root = s3.tree(files)
        with pytest.raises(PenstockError, match="ca = "):
            await s3.copy(f"{root}/", f"{s3.remote}/")
        assert s3.there() == {}
        config = s3.home / "config.toml"
        config.write_text(f"[profiles.coscine]\nca = '{ca}'\n")
        report = await s3.copy(f"{root}/", f"{s3.remote}/", config=config, part_size="5MiB")
        assert report.summary.verified == 2
        report = await s3.copy(f"{s3.remote}/", s3.home / "to", config=config)
        assert report.summary.verified == 2
        assert {p: md5((s3.home / "to" / p).read_bytes()) for p in files} == s3.there()
        server.close()
        # A connection that is kept alive is still served; nothing of it outlives the test.
        tasks = [task for task in serving if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
