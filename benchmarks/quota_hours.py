"""API requests and hours of quota that a job takes: penstock, and the official clients' ways.

    python benchmarks/quota_hours.py            # some minutes
    python benchmarks/quota_hours.py --smoke    # some seconds: only that it works

The quotas are the platforms' own: 1,000 requests in 5 minutes, 500 in one. penstock's copy is the
real one, against the simulator behind real sockets, in a process and an event loop whose clock
jumps to the next timer when nothing is ready: hours pass in a minute, and no quota is waited for in
vain. The official clients (sevenbridges-python, coscine) run as processes of their own over fewer
files, or parts, with the quota wide open, and what they ask for is set in proportion; their time is
the least that so many requests can take, `(requests - 1) // quota` windows, though neither client
waits for a quota by itself. Files are sparse.

Of the file of 100 GB only the plan is made, in the default run: what it says of a smaller one is
held against what that one takes. `--large 100` sends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness import MIB, World, coscine_world, print_table, world
from requests_coscine import run_official
from requests_seven_bridges import run as run_seven_bridges

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import penstock
import virtual
from penstock.simulators import Coscine, CoscineSettings, SevenBridges, SevenBridgesSettings, Zeros

MB = 1_000_000
GB = 1000 * MB
SEVEN_BRIDGES = (1000, 300.0)
COSCINE = (500, 60.0)
# What the official client sends as one part. Source: sevenbridges-python 2.11.2, PartSize.
OFFICIAL_PART = 32 * MIB
LARGEST = 100 * GB


@dataclass(frozen=True)
class Sizes:
    files: int
    official_files: int
    official_down: int
    """Files on Coscine: of more than 100 its pages have ten, and what it asks for is linear."""
    official_parts: int
    large: int


FULL = Sizes(10_000, 50, 300, 8, 10 * GB)
SMOKE = Sizes(20, 5, 5, 2, 70 * MB)


@dataclass(frozen=True)
class Took:
    """One job: API requests, and seconds of quota; of how many files or bytes it was."""

    requests: int
    seconds: float
    refused: int = 0


def sparse(folder: Path, count: int, size: int) -> Path:
    """So many files whose bytes were never written."""
    folder.mkdir(parents=True)
    for number in range(count):
        with (folder / f"file-{number:06}.dat").open("wb") as file:
            file.truncate(size)
    return folder


def least_s(requests: int, quota: tuple[int, float]) -> float:
    """No sooner can so many requests have been sent."""
    return (requests - 1) // quota[0] * quota[1]


# -- penstock, in virtual time ----------------------------------------------------------------


async def _copied(
    sim: AbstractAsyncContextManager[Any],
    locations: Callable[[Any], tuple[str, str]],
    count: int,
    home: Path,
    *,
    plan: bool,
) -> Took:
    loop = asyncio.get_running_loop()
    async with sim as server:
        name = "COSCINE" if isinstance(server, Coscine) else "CAVATICA"
        environ = World.kept(home) | {
            f"PENSTOCK_{name}_ENDPOINT": server.endpoint,
            f"PENSTOCK_{name}_TOKEN": server.token,
        }
        if plan:
            planned = await penstock.plan(*locations(server), environ=environ)
            return Took(planned.api_requests, planned.quota_s)
        began_s = loop.time()
        report = await penstock.copy(*locations(server), environ=environ)
        if report.summary.verified != count:
            raise RuntimeError(f"not all were verified: {report.summary}")
        return Took(server.quota.accepted, loop.time() - began_s, server.quota.refused)


def child(what: str, count: int, size: int, home: Path) -> Took:
    """One job of penstock's, in this process."""

    async def main() -> Took:
        loop = asyncio.get_running_loop()

        def clock() -> float:
            return virtual.EPOCH + loop.time()

        if what.startswith("up"):
            settings = SevenBridgesSettings(
                quota=SEVEN_BRIDGES[0],
                window_s=SEVEN_BRIDGES[1],
                malformed_links=False,
                keep_bodies="discard",
                api_latency_s=0.1,
            )
            source = home / "source"
            return await _copied(
                SevenBridges(settings, clock=clock),
                lambda sim: (f"{source}/", f"cavatica:{sim.project}/"),
                count,
                home,
                plan=what == "up, planned",
            )
        rationed = CoscineSettings(quota=COSCINE[0], window_s=COSCINE[1], metadata_first=False)
        sim = Coscine(rationed, clock=clock)
        for number in range(count):
            sim.add_file(f"file-{number:06}.dat", Zeros(size))
        return await _copied(
            sim,
            lambda sim: (f"coscine:{sim.project_name}/{sim.resource_name}/", f"{home}/back/"),
            count,
            home,
            plan=False,
        )

    return virtual.run(main())


def ours(what: str, count: int, size: int) -> Took:
    """One job of penstock's, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as home:
        if what.startswith("up"):
            sparse(Path(home, "source"), count, size)
        command = [sys.executable, __file__, "--child", what, str(count), str(size), home]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return Took(**json.loads(done.stdout.splitlines()[-1]))


# -- the official clients ---------------------------------------------------------------------


def official_up(count: int, size: int) -> int:
    """API requests of sevenbridges-python for so many files."""
    with world(keep_bodies="discard") as place:
        source = sparse(place.home / "source", count, size)
        place.sim.add_project("demo/official")
        return run_seven_bridges(place, "official", "up", "demo/official", source)[1]


def official_down(count: int, size: int) -> int:
    """API requests of coscine for so many files."""
    with coscine_world() as place:
        theirs = place.sim.add_resource("theirs", reserved=1 << 40)
        for number in range(count):
            place.sim.add_file(f"file-{number:06}.dat", Zeros(size), resource=theirs)
        return run_official(place, "down", "theirs", place.home / "back")


def in_proportion(few: int, some: int, measured: Callable[[int], int], wanted: int) -> int:
    """What `wanted` of a thing take, by what `few` and `some` of it took."""
    at_few, at_some = measured(few), measured(some)
    return round(at_few + (at_some - at_few) / (some - few) * (wanted - few))


def row(title: str, mine: Took, requests: int, quota: tuple[int, float]) -> tuple[str, ...]:
    print(title, mine, requests, file=sys.stderr)
    theirs_s = least_s(requests, quota)
    times = f"{mine.seconds:,.0f} / {theirs_s:,.0f}"
    ratio = f"{mine.seconds / theirs_s:.3f}" if theirs_s else "-"
    both = f"{mine.requests:,} / {requests:,}"
    return (title, both, f"{mine.requests / requests:.3f}", times, ratio, str(mine.refused))


def rows(sizes: Sizes) -> list[tuple[str, ...]]:
    """A row for each job. Raises `RuntimeError` where a job did not do what it is measured for."""
    some, files = sizes.official_files, f"{sizes.files:,} x 1 MB"
    theirs = in_proportion(some // 2, some, lambda n: official_up(n, MB), sizes.files)
    found = [row(f"Seven Bridges, {files} up", ours("up", sizes.files, MB), theirs, SEVEN_BRIDGES)]

    def by_parts(parts: int) -> int:
        return official_up(1, parts * OFFICIAL_PART)

    few, more = sizes.official_parts // 2, sizes.official_parts
    for what, size in (("up", sizes.large), ("up, planned", LARGEST)):
        parts = -(-size // OFFICIAL_PART)
        title = f"Seven Bridges, 1 x {size / GB:g} GB {what}"
        mine, planned = ours(what, 1, size), ours("up, planned", 1, size)
        if mine.requests != planned.requests:
            raise RuntimeError(f"{title}: {mine} is not what was planned, {planned}")
        found.append(row(title, mine, in_proportion(few, more, by_parts, parts), SEVEN_BRIDGES))
    some = sizes.official_down
    theirs = in_proportion(2 * some // 3, some, lambda n: official_down(n, MB), sizes.files)
    found.append(row(f"Coscine, {files} down", ours("down", sizes.files, MB), theirs, COSCINE))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", type=int, help="GB of the large file that is sent")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        what, count, size, home = given.child
        print(json.dumps(asdict(child(what, int(count), int(size), Path(home)))))
        return
    sizes = SMOKE if given.smoke else FULL
    if given.large:
        sizes = replace(sizes, large=given.large * GB)
    head = ("penstock / official", "API requests", "ratio", "quota, s", "ratio", "refused")
    print_table(head, rows(sizes))


if __name__ == "__main__":
    main()
