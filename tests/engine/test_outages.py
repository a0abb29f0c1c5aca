"""Two hours without network, and announced maintenance, in virtual time over real sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

import penstock
from penstock.core.errors import NotSent
from penstock.core.events import Event, Note
from penstock.engine.outages import Outages
from penstock.simulators import SevenBridges, SevenBridgesSettings
from virtual import EPOCH, run

HOST = ("https", "h", 443)


def world(
    home: Path, trouble: Callable[[SevenBridges], Any], lasts_s: float
) -> tuple[penstock.Report, list[str], float]:
    """A copy of 30 files that meets trouble after some requests; what came, was told, and took."""

    async def whole() -> tuple[penstock.Report, list[str], float]:
        loop = asyncio.get_running_loop()
        notes: list[str] = []

        def hear(event: Event) -> None:
            if isinstance(event, Note):
                notes.append(event.message)

        settings = SevenBridgesSettings(quota=10_000)
        async with SevenBridges(settings, clock=lambda: EPOCH + loop.time()) as sim:
            for number in range(30):
                sim.add_file(sim.project, f"f{number}", b"x" * 100)
            environ = {
                "HOME": str(home),
                "XDG_STATE_HOME": str(home / "state"),
                "PENSTOCK_CAVATICA_ENDPOINT": sim.endpoint,
                "PENSTOCK_CAVATICA_TOKEN": sim.token,
            }
            began_s, begun, asked = loop.time(), asyncio.Event(), itertools.count()

            def count(request: web.Request) -> None:
                if "download_info" in request.path and next(asked) == 10:
                    begun.set()

            sim.on_request = count

            async def disturb() -> None:
                await begun.wait()
                mend = await trouble(sim)
                await asyncio.sleep(lasts_s)
                await mend()

            disturbing = asyncio.create_task(disturb())
            report = await penstock.copy(
                f"cavatica:{sim.project}/",
                str(home / "to"),
                environ=environ,
                on_event=hear,
                retries=1,
                concurrency=2,
            )
            await disturbing
            return report, notes, loop.time() - began_s

    return run(whole())


async def _offline(sim: SevenBridges) -> Callable[[], Any]:
    """Both hosts are gone, and come back under the same ports."""
    hosts = (sim._host, sim.storage.host)
    ports = [host.port for host in hosts]
    for host in hosts:
        await host.stop()

    async def back() -> None:
        for host, port in zip(hosts, ports, strict=True):
            host._stopping = asyncio.Event()
            await host.start(port)

    return back


async def _maintenance(sim: SevenBridges) -> Callable[[], Any]:
    sim.change(maintenance=True)

    async def over() -> None:
        sim.change(maintenance=False)

    return over


def test_two_hours_without_network_cost_no_transfer_its_tries(tmp_path: Path) -> None:
    report, notes, took_s = world(tmp_path, _offline, 7200)
    assert (report.exit_code, report.summary.verified) == (0, 30)
    assert 7200 < took_s < 7200 + 700
    assert any("is closed" in note for note in notes)
    assert any("answers again" in note for note in notes)


def test_announced_maintenance_is_waited_out_by_one_request_at_a_time(tmp_path: Path) -> None:
    report, notes, took_s = world(tmp_path, _maintenance, 3600)
    assert (report.exit_code, report.summary.verified) == (0, 30)
    assert 3600 < took_s < 3600 + 700
    assert report.summary.api_requests["cavatica"] < 30 + 48 + 40
    assert sum("maintenance" in note for note in notes) == 1


async def test_a_host_that_never_answered_is_not_waited_for() -> None:
    outages = Outages()
    assert not any(outages.unreachable(HOST, "x") for _ in range(10))


async def test_a_host_met_first_while_the_network_is_away_is_waited_for() -> None:
    outages = Outages()
    assert not outages.is_known(HOST)
    outages.vouched(HOST)
    assert outages.is_known(HOST)
    assert all(outages.unreachable(HOST, "x") for _ in range(3))
    assert outages.is_closed(HOST)


async def test_one_connection_refused_is_no_outage() -> None:
    outages = Outages()
    outages.answered(HOST)
    outages.unreachable(HOST, "x")
    assert not outages.is_closed(HOST)
    outages.answered(HOST)
    closed = []
    for _ in range(3):
        outages.unreachable(HOST, "x")
        closed.append(outages.is_closed(HOST))
    assert closed == [False, False, True]


async def test_a_probe_that_was_cancelled_leaves_the_next_to_another(tmp_path: Path) -> None:
    outages = Outages()
    outages.maintained(HOST, "x")
    host = outages._hosts[HOST]
    host.next_s = 0
    assert await outages.passed(HOST)
    outages.gave_up(HOST)
    host.next_s = 0
    assert await outages.passed(HOST)
    outages.answered(HOST)
    assert not await outages.passed(HOST)


async def test_an_endpoint_that_is_wrong_fails_as_before(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PENSTOCK_CAVATICA_ENDPOINT": "http://127.0.0.1:9/v2",
        "PENSTOCK_CAVATICA_TOKEN": "0" * 32,
    }
    try:
        await penstock.copy("cavatica:me/p/", str(tmp_path / "to"), environ=environ, retries=0)
    except NotSent as error:
        assert "no connection" in str(error)  # noqa: PT017 - the class is asserted as well
    else:
        raise AssertionError
