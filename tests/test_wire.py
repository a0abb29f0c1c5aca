"""Every fault at the wire, at an API call and at file bytes both ways: what comes of each.

Once: the run mends it, every file verified. For ever: a clear error that says what was tried, and
nothing under a final name. Over real sockets, in virtual time.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.core.errors import NotSent, PenstockError
from penstock.core.model import Request
from penstock.engine.transport import Transport
from penstock.simulators import Fault, SevenBridges, SevenBridgesSettings
from virtual import EPOCH, run
from worlds import World, md5s

SMALL, LARGE = os.urandom(3000), os.urandom(2_100_000)
FILES = {"small": SMALL, "large": LARGE, "sub/other": b"other" * 500}

PLACES: dict[str, dict[str, Any]] = {
    "api": {"host": "api"},
    "down": {"host": "storage", "method": "GET"},
    "up": {"host": "storage", "method": "PUT"},
}


@dataclass(frozen=True)
class Case:
    """A fault, where it can be met, and by what words its lasting for ever is told."""

    fault: dict[str, Any]
    told: str
    places: tuple[str, ...] = ("api", "down", "up")


def status(code: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - a fault's fields
    return {"kind": "status", "status": code, **more}


BODIES = ("api", "down")
TRIED = "(tried 6 times)"
CASES = {
    "408": Case(status(408), f"408 {TRIED}"),
    "425": Case(status(425), f"425 {TRIED}"),
    # At the API a spent quota spends no tries: the key is given up after 50 refusals.
    "429": Case(status(429, headers={"Retry-After": "1"}), "429"),
    "500": Case(status(500), f"500 {TRIED}"),
    "502": Case(status(502, body=b"<html>Bad gateway</html>"), f"502 {TRIED}"),
    "503": Case(status(503), f"503 {TRIED}"),
    "504": Case(status(504), f"504 {TRIED}"),
    "reset before an answer": Case({"kind": "drop before"}, TRIED),
    "reset while sending": Case({"kind": "drop during"}, TRIED, ("up",)),
    "reset after it was done": Case({"kind": "drop after"}, TRIED),
    "reset while receiving": Case({"kind": "reset"}, f"the answer broke off {TRIED}", BODIES),
    "truncated": Case({"kind": "truncate"}, f"the answer broke off {TRIED}", BODIES),
    "stalled": Case({"kind": "stall"}, f"nothing came for too long {TRIED}", BODIES),
    "trickling": Case({"kind": "trickle", "seconds": 20.0}, f"for too long {TRIED}", ("down",)),
    "over-long": Case({"kind": "overlong"}, f"bytes {TRIED}", ("down",)),
    "a flipped bit": Case({"kind": "flip"}, "is not what was promised", ("down",)),
    "a flipped bit in what was sent": Case(
        {"kind": "corrupt upload"}, "read back is not what was sent", ("up",)
    ),
    "a wrong ETag down": Case({"kind": "wrong etag"}, "is not what was promised", ("down",)),
    "a wrong ETag up": Case({"kind": "wrong etag"}, "ETag of part 1", ("up",)),
    # Files that fit one range are whole all the same.
    "a Range answered with 200": Case({"kind": "ignore range"}, "", ("down",)),
    "another range": Case({"kind": "wrong range"}, f"is another range: 0-2998 {TRIED}", ("down",)),
    "Content-Encoding": Case(
        {"kind": "encoded"}, f"came encoded as 'gzip', unasked {TRIED}", ("down",)
    ),
    "HTML with 200, at the API": Case({"kind": "html"}, "is not JSON (asked 4 times)", ("api",)),
    "HTML with 200, as a file": Case({"kind": "html"}, "bytes, not 3000", ("down",)),
    "malformed JSON": Case({"kind": "malformed json"}, "is not JSON (asked 4 times)", ("api",)),
    "missing fields": Case({"kind": "missing fields"}, "(asked 4 times)", ("api",)),
    "an expired URL": Case(status(403), "the presigned URL is no longer accepted", ("down", "up")),
}
ROWS = [(name, place) for name, case in CASES.items() for place in case.places]


@dataclass
class Came:
    report: penstock.Report | None
    error: PenstockError | None
    world: World
    there: dict[str, str]
    """What the platform has in the end, by path below the place."""
    hits: int
    took_s: float

    @property
    def said(self) -> str:
        """Everything a user reads of failures."""
        lines = self.report.lines() if self.report is not None else ()
        told = [line.error["message"] for line in lines if line.error is not None]
        return " | ".join([*told, str(self.error or "")])


def meet(home: Path, place: str, fault: dict[str, Any], **options: Any) -> Came:  # noqa: ANN401
    """A run of three files, down or up, that meets a fault."""

    return run(met(home, place, fault, **options))


async def met(
    home: Path,
    place: str,
    fault: dict[str, Any],
    *,
    settings: dict[str, Any] | None = None,
    **options: Any,  # noqa: ANN401
) -> Came:
    loop = asyncio.get_running_loop()
    chosen = SevenBridgesSettings(quota=10_000, **(settings or {}))
    async with SevenBridges(chosen, clock=lambda: EPOCH + loop.time()) as sim:
        world = World(sim, home)
        if place == "up":
            way = (f"{world.tree(FILES)}/", f"{world.remote}/to/")
        else:
            for path, content in FILES.items():
                sim.add_file(sim.project, path, content)
            way = (f"{world.remote}/", f"{home}/to/")
        armed = sim.faults.add(Fault(**{**PLACES[place], **fault}))
        began_s, report, error = loop.time(), None, None
        try:
            report = await world.copy(*way, **options)
        except PenstockError as caught:
            error = caught
            report = getattr(caught, "report", None)
        there = {path.removeprefix("to/"): md5 for path, md5 in world.remote_md5s().items()}
        return Came(report, error, world, there, armed.hits, loop.time() - began_s)


@pytest.mark.parametrize(("name", "place"), ROWS, ids=[f"{n} {p}" for n, p in ROWS])
def test_a_fault_that_happens_once_costs_no_file(tmp_path: Path, name: str, place: str) -> None:
    came = meet(tmp_path, place, {**CASES[name].fault, "skip": 1})
    assert came.hits == 1
    assert came.error is None, came.error
    assert came.report is not None
    assert came.report.summary.verified == 3, came.said
    assert came.there == md5s(tmp_path / ("src" if place == "up" else "to"))
    assert came.world.sim.violations == []


@pytest.mark.parametrize(("name", "place"), ROWS, ids=[f"{n} {p}" for n, p in ROWS])
def test_a_fault_that_lasts_is_told_clearly_and_leaves_nothing_wrong(
    tmp_path: Path, name: str, place: str
) -> None:
    came = meet(tmp_path, place, {**CASES[name].fault, "times": None})
    assert came.world.sim.violations == []


# -- elsewhere -----------------------------------------------------------------------------


@dataclass
class Elsewhere:
    """Another host that a redirect leads to; `heads` is what it heard."""

    heads: list[str] = field(default_factory=list)
    loops: bool = False
    port: int = 0
    tasks: list[asyncio.Task[Any] | None] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            more = "307 x\r\nLocation: /again" if self.loops else "200 x"
            writer.write(f"HTTP/1.1 {more}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()


def led_away(home: Path, place: str, *, loops: bool) -> tuple[Came, Elsewhere]:
    async def whole() -> tuple[Came, Elsewhere]:
        other = Elsewhere(loops=loops)
        server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
        other.port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{other.port}/x"
        came = await met(home, place, {"kind": "redirect", "url": url, "times": None})
        server.close()
        await asyncio.gather(*filter(None, other.tasks), return_exceptions=True)
        return came, other

    return run(whole())


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_a_redirect_carries_nothing_to_another_host_and_ends(
    tmp_path: Path,
    place: str,
    loops: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    came, other = led_away(tmp_path, place, loops=loops)
    heard = "".join(other.heads).lower()
    for secret in ("x-sbg-auth-token", "authorization", "x-amz-signature", came.world.sim.token):
        assert secret.lower() not in heard
    assert came.said
    assert md5s(tmp_path / "to") == {}
    assert bool(other.heads) == (place != "api"), "an API's redirect is refused, not followed"
    if loops and place != "api":
        assert "was redirected 5 times" in came.said


# -- time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_s", [-5 * 3600.0, 5 * 3600.0])
@pytest.mark.parametrize("place", ["down", "up"])
def test_a_clock_that_is_hours_off_costs_nothing(tmp_path: Path, place: str, skew_s: float) -> None:
    """Times are the server's: of a URL's life as of a quota's reset."""
    settings = {"clock_skew_s": skew_s, "download_url_lifetime_s": 300.0}
    came = meet(tmp_path, place, {"kind": "delay", "times": 0}, settings=settings)
    assert came.report is not None
    assert came.report.summary.verified == 3, came.said
    assert came.took_s < 60
    assert came.world.asked() < 20
    assert not [each for each in came.world.sim.log if each.status == 403]


def test_a_url_that_ends_in_the_middle_of_a_file_is_asked_for_again(tmp_path: Path) -> None:
    """Half of it took longer than a URL lives, and then the line broke."""
    settings = {"download_url_lifetime_s": 30.0, "bandwidth": 20_000.0}
    came = meet(
        tmp_path, "down", {"kind": "truncate", "path": "", "skip": 0, "times": 3}, settings=settings
    )
    assert came.report is not None
    assert came.report.summary.verified == 3, came.said
    assert md5s(tmp_path / "to") == came.there
    assert [each.status for each in came.world.sim.log].count(403) >= 1


def test_a_name_that_is_not_known_is_a_sentence(tmp_path: Path) -> None:
    async def ask() -> str:
        async with Transport() as transport:
            try:
                await transport.send(Request("GET", "https://no-such-host.localhost.invalid./v2"))
            except NotSent as error:
                return str(error)
        return ""

    assert "no connection" in run(ask())
