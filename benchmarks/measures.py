"""What penstock costs: requests, quota, memory, and what ten kills send again. One table.

    python benchmarks/measures.py                # all: about 10 minutes, 25 GB of free disk
    python benchmarks/measures.py requests kills # some of: requests large quota small kills
    python benchmarks/measures.py --smoke        # all, tiny: some seconds

The client is a process of its own, `penstock copy`; its memory is the kernel's count of that
process alone. Requests, refusals and bytes are counted by the simulator.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import GIB, KIB, MIB, World, make_files, print_table, world

from penstock.simulators import Zeros

Row = tuple[str, ...]


@dataclass(frozen=True)
class Sizes:
    small: int
    many: int
    large: int
    killed: int
    kills: int
    quota: tuple[int, float]
    bound: int


FULL = Sizes(
    small=1000,
    many=10_000,
    large=10 * GIB,
    killed=2 * GIB,
    kills=10,
    quota=(200, 4.0),
    bound=500,
)
SMOKE = Sizes(
    small=12, many=20, large=70 * MIB, killed=70 * MIB, kills=1, quota=(20, 1.0), bound=10
)


def requests(sizes: Sizes) -> Iterator[Row]:
    """Requests a file, up and down, and of runs with nothing to do."""
    count = sizes.small
    with world() as place:
        source, back = make_files(place.home / "source", count, KIB), place.home / "back"
        remote = f"cavatica:{place.sim.project}/data"
        for name, way in (("up", (source, remote)), ("down", (remote, back))):
            before = place.requests
            ran = place.penstock(*way)
            used = place.requests - before
            yield (
                f"{count} files of 1 KiB {name}",
                f"{used} requests, {used / count:.3f} a file",
                f"{ran.wall_s:.1f} s, {ran.peak / MIB:.0f} MiB",
            )
            before = place.requests
            ran = place.penstock(*way)
            yield (
                "- the same command again",
                f"{place.requests - before} requests",
                f"{ran.wall_s:.1f} s",
            )


def small(sizes: Sizes) -> Iterator[Row]:
    """Memory for very many small files."""
    count = sizes.many
    with world() as place:
        source, back = make_files(place.home / "source", count, KIB), place.home / "back"
        remote = f"cavatica:{place.sim.project}/data"
        for name, way in (("up", (source, remote)), ("down", (remote, back))):
            before = place.requests
            ran = place.penstock(*way)
            used = place.requests - before
            yield (
                f"{count} files of 1 KiB {name}",
                f"{ran.peak / MIB:.0f} MiB at most",
                f"{used} requests, {ran.wall_s:.0f} s",
            )


def large(sizes: Sizes) -> Iterator[Row]:
    """Requests and memory for one large file, sparse on the way up, zeros on the way down."""
    size = sizes.large
    shown = f"one file of {size / GIB:.3g} GiB"
    with world(keep_bodies="discard") as place:
        source = place.home / "large.bin"
        with source.open("wb") as file:
            file.truncate(size)
        project = place.sim.project
        ran = place.penstock(source, f"cavatica:{project}/")
        yield (
            f"{shown} up",
            f"{place.requests} requests",
            f"{ran.peak / MIB:.0f} MiB at most, {ran.wall_s:.0f} s, {ran.cpu_s:.0f} s CPU",
        )
        source.unlink()
        place.sim.add_file(project, "zeros.bin", Zeros(size), part_size=64 * MIB)
        before, sent_before = place.requests, place.body_bytes()[1]
        ran = place.penstock(f"cavatica:{project}/zeros.bin", f"{place.home}/back/")
        fetched = place.body_bytes()[1] - sent_before
        status = "verified" if ran.summary["verified"] == 1 else "NOT VERIFIED"
        yield (
            f"{shown} down",
            f"{place.requests - before} requests",
            (
                f"{ran.peak / MIB:.0f} MiB at most, {ran.wall_s:.0f} s, {ran.cpu_s:.0f} s CPU, "
                f"{fetched / size:.2f} times its size fetched, {status}"
            ),
        )


def quota(sizes: Sizes) -> Iterator[Row]:
    """How much of a quota is used where it binds, and how often it is overstepped."""
    limit, window_s = sizes.quota
    with world(sizes.quota) as place:
        source = make_files(place.home / "source", sizes.bound, KIB)
        began = time.time()
        place.penstock(source, f"cavatica:{place.sim.project}/data")
        windows = place.sim.quota.windows
        whole = windows[:-1] or windows
        used = sum(window.accepted for window in whole) / (len(whole) * limit)
        # Windows begin with a first call; what lies between two is lost as well.
        wanted_s = max(place.requests - 1, 0) // limit * window_s
        took_s = windows[-1].start - windows[0].start
        yield (
            f"{sizes.bound} uploads at {limit} in {window_s:g} s",
            f"{used:.1%} of {len(whole)} whole windows used",
            (
                f"{place.sim.quota.refused} refused (429); last window after {took_s:.2f} s, "
                f"at best {wanted_s:.2f} s; {time.time() - began:.1f} s in all"
            ),
        )


def kills(sizes: Sizes) -> Iterator[Row]:
    """Bytes that move again because the process was killed, at random moments."""
    chance = random.Random(2026)  # noqa: S311 - the same moments each time
    with world(bandwidth=40 * MIB) as place:
        source, back = make_files(place.home / "source", 200, 64 * KIB), place.home / "back"
        with (source / "large.bin").open("wb") as file:
            for _ in range(sizes.killed // MIB):
                file.write(os.urandom(MIB))
        total = sum(path.stat().st_size for path in source.iterdir())
        remote = f"cavatica:{place.sim.project}/data"
        for name, way in (("up", (source, remote)), ("down", (remote, back))):
            before = sum(place.body_bytes())
            lost = [_killed(place, way, chance) for _ in range(sizes.kills)]
            ran = place.penstock(*way)
            time.sleep(0.5)
            again = sum(place.body_bytes()) - before - total
            done = sum(ran.summary[word] for word in ("verified", "skipped"))
            yield (
                f"{sum(lost)} kills of {total / MIB:.0f} MiB {name}",
                f"{again / MIB:.1f} MiB moved again, {again / MIB / max(sum(lost), 1):.1f} a kill",
                f"{done} of 201 proved, {len(place.sim.open_uploads())} uploads left open",
            )


def _killed(place: World, way: tuple[str | Path, str | Path], chance: random.Random) -> bool:
    """Whether a copy could be killed before it was done."""
    return place.penstock(*way, kill_after_s=chance.uniform(0.8, 3.0)).killed


MEASURES: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "requests": requests,
    "large": large,
    "quota": quota,
    "small": small,
    "kills": kills,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What penstock costs. Default: everything.")
    parser.add_argument("wanted", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    given = parser.parse_args()
    for name in given.wanted:
        if name not in MEASURES:
            parser.error(f"{name} is none of {', '.join(MEASURES)}")
    sizes = SMOKE if given.smoke else FULL
    rows = [row for name in given.wanted or MEASURES for row in MEASURES[name](sizes)]
    print_table(("what", "measured", "beside"), rows)


if __name__ == "__main__":
    main()
