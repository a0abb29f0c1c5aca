"""Two hours without network, on every platform and both ways: no transfer pays for them."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import penstock
from penstock.core.events import Event, Note
from storm import KINDS, md5
from virtual import EPOCH, run

AWAY_S = 7200.0
FILES = {f"f{number:02}": b"%d of them" % number * 50 for number in range(30)}


def hosts(sim: Any) -> list[Any]:  # noqa: ANN401 - a simulator
    storage = getattr(sim, "storage", None)
    return [sim._host, *([storage.host] if storage is not None else [])]


async def cut_off(sim: Any) -> None:  # noqa: ANN401 - a simulator
    """All its hosts are gone for two hours, and then there again, under the same ports."""
    ports = [host.port for host in hosts(sim)]
    for host in hosts(sim):
        await host.stop()
    await asyncio.sleep(AWAY_S)
    for host, port in zip(hosts(sim), ports, strict=True):
        host._stopping = asyncio.Event()
        await host.start(port)


# A server that stops leaves open what it was just about to accept.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("platform", KINDS)
def test_two_hours_without_network_cost_no_transfer(
    tmp_path: Path, platform: str, way: str
) -> None:
    kind, notes = KINDS[platform], []

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.message)

    async def whole() -> tuple[penstock.Report, dict[str, str], float, int]:
        loop = asyncio.get_running_loop()
        async with kind.open(lambda: EPOCH + loop.time()) as sim:
            remote = f"{kind.remote(sim)}{'' if kind.flat else '/'}"
            source = tmp_path / "src"
            source.mkdir()
            for path, content in FILES.items():
                (source / path).write_bytes(content)
                if way == "down":
                    kind.seed(sim, path, content)
            begun, asked = asyncio.Event(), itertools.count()

            def count(_: web.Request) -> None:
                if next(asked) == (20 if way == "up" else 2):
                    begun.set()

            sim.on_request = count

            async def trouble() -> None:
                await begun.wait()
                await cut_off(sim)

            began_s, troubled = loop.time(), asyncio.create_task(trouble())
            environ = {
                "HOME": str(tmp_path),
                "XDG_STATE_HOME": str(tmp_path / "state"),
                **kind.environ(sim),
            }
            places = (f"{source}/", remote) if way == "up" else (remote, f"{tmp_path}/to/")
            report = await penstock.copy(
                *places, environ=environ, on_event=hear, retries=1, concurrency=2
            )
            await troubled
            return report, kind.there(sim), loop.time() - began_s, len(sim.log)

    report, there, took_s, requests = run(whole())
    failed = [(line.source, line.error) for line in report.lines() if line.status != "verified"]
    assert failed == []
    assert report.exit_code == 0
    assert AWAY_S < took_s < AWAY_S + 900
    wanted = {path: md5(content) for path, content in FILES.items()}
    assert there == wanted
    if way == "down":
        assert {p.name: md5(p.read_bytes()) for p in (tmp_path / "to").iterdir()} == wanted
    assert any("is closed" in note for note in notes)
    assert any("answers again" in note for note in notes)
    assert requests < 12 * len(FILES)
