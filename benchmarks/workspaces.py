"""What it costs to pause very many workspaces: requests, minutes, refusals. In virtual time.

    python benchmarks/workspaces.py            # 10,000 workspaces under each limiter: 5 minutes
    python benchmarks/workspaces.py --smoke    # 200 under one limiter, and a short queue: seconds

The engine is the real one, its sockets, ledger and limiter too; the clock jumps. The simulator
counts. "A usual client" is what is known of others: an action and at least one poll each.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import print_table

import penstock
from penstock.simulators import Surf, SurfSettings

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from virtual import EPOCH, run, virtual_clock

Limiter = Literal["A", "B", "C", "D"]


@dataclass(frozen=True)
class Paused:
    """One run: what the simulator counted, and how long it took in virtual seconds."""

    settled: int
    requests: int
    minutes: float
    over_quota: int
    full: int
    repeated: int
    longest_queue: int


async def pause_all(
    number: int, limiter: Limiter, home: Path, *, capacity: int, served_per_s: float
) -> Paused:
    """So many workspaces paused; a pause takes 20 to 60 s once the queue comes to it."""
    loop = asyncio.get_running_loop()
    settings = SurfSettings(
        workspaces=0,
        limiter=limiter,
        queue_capacity=capacity,
        served_per_s=served_per_s,
        pause_s=40.0,
        spread=0.5,
        api_latency_s=0.2,
    )
    async with Surf(settings, clock=lambda: EPOCH + loop.time()) as cloud:
        for each in range(number):
            cloud.add_workspace(f"course-{each:05}")
        environ = {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "PENSTOCK_SURF_ENDPOINT": cloud.endpoint,
            "PENSTOCK_SURF_TOKEN": cloud.token,
        }
        began_s = loop.time()
        report = await penstock.workspaces(
            "pause", all=True, environ=environ, clock=virtual_clock()
        )
        return Paused(
            report.summary.settled,
            len(cloud.log),
            (loop.time() - began_s) / 60,
            sum(each.status == 429 for each in cloud.log),
            cloud.refused_full,
            len(cloud.repeated),
            cloud.longest_queue,
        )


def measured(
    number: int, limiter: Limiter, *, capacity: int = 500, served_per_s: float = 25.0
) -> Paused:
    """One run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as home:
        return run(
            pause_all(number, limiter, Path(home), capacity=capacity, served_per_s=served_per_s)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="What pausing very many workspaces costs.")
    parser.add_argument("--smoke", action="store_true", help="a small run, to see that it works")
    is_small = parser.parse_args().smoke
    number = 200 if is_small else 10_000
    rows: list[tuple[str, ...]] = []
    limiters: tuple[Limiter, ...] = ("A",) if is_small else ("A", "B", "C", "D")
    worlds: list[tuple[str, Limiter, int, float]] = [
        (f"limiter {name}", name, 500, 25.0) for name in limiters
    ]
    worlds.append(("A, a queue of 100, 8 a second", "A", 100, 8.0))
    for shown, limiter, capacity, served in worlds:
        got = measured(number, limiter, capacity=capacity, served_per_s=served)
        rows.append(
            (
                f"{number} pauses, {shown}",
                f"{got.requests} ({2 * number}+)",
                f"{got.minutes:.1f}",
                f"{got.over_quota}",
                f"{got.full}",
                f"{got.settled} settled, {got.repeated} repeated, {got.longest_queue} queued",
            )
        )
    print_table(("what", "requests (a usual client)", "minutes", "429", "503", "beside"), rows)


if __name__ == "__main__":
    main()
