"""Transfers stream from the plan through a short queue to workers: no run holds all of them."""

from __future__ import annotations

from pathlib import Path

import anyio

from composing import Compose, World
from penstock.core.events import Event, Planned, TransferEnded
from penstock.core.lifecycle import State
from penstock.core.model import Direction, Identity, RemoteFile
from penstock.core.report import Line, Summary
from penstock.core.transfers import Choices, DownTransfer, Ended, Transfer
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.ledger import Ledger, Row
from penstock.engine.openuploads import OpenUploads
from penstock.engine.planner import Deliver
from penstock.engine.scheduler import QUEUE, Scheduler
from penstock.engine.stopping import Limits, Stop

MIB = 1 << 20
AT_ONCE = 8
BATCH = 100


def transfer(number: int, size: int = 10) -> DownTransfer:
    path = f"/nowhere/{number}"
    identity = Identity(Direction.DOWN, "http://e", "c", str(number), path)
    return DownTransfer(identity, f"x:{number}", RemoteFile(str(number), str(number), size), path)


class Watched:
    """A scheduler over a real ledger, and how far it was ahead of its workers."""

    def __init__(self, world: World, ledger: Ledger, *, stop_at: int | None = None) -> None:
        self.planned = self.ended = self.most = self.at_once = self.most_at_once = 0
        self.lines: list[Line] = []
        uploads = OpenUploads(world.exchange, ledger, lambda _: None)
        self.context = Context(
            "run", world.exchange, ledger, world.clock, Choices(), self.heard, uploads
        )
        self.stop_at = stop_at
        self.ledger = ledger
        self.stop = Stop()

    def heard(self, event: Event) -> None:
        if isinstance(event, Planned):
            self.planned += 1
            self.most = max(self.most, self.planned - self.ended)
        elif isinstance(event, TransferEnded):
            self.ended += 1

    async def worker(self, moving: Transfer, row: Row, _: Tally) -> Ended:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.ledger.end(row.id, State.UNVERIFIED, size=moving.size)
        self.at_once -= 1
        if self.stop_at is not None and self.ended >= self.stop_at:
            self.stop.ask("a test")
        return Ended(State.UNVERIFIED, size=moving.size)

    async def run(self, count: int, size: int = 10) -> Summary:
        async def plan(deliver: Deliver) -> None:
            for first in range(0, count, BATCH):
                await deliver([transfer(n, size) for n in range(first, first + BATCH)])

        summary = Summary("run")
        limits = Limits(None, AT_ONCE)
        scheduler = Scheduler(
            self.context, summary, self.lines.append, self.stop, limits, worker=self.worker
        )
        await scheduler.run(plan)
        return summary


async def test_the_plan_is_never_further_ahead_than_the_queue_is_long(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world, Ledger(tmp_path, wall=world.clock.wall_at) as ledger:
        watched = Watched(world, ledger)
        summary = await watched.run(2500)
    assert (summary.unverified, len(watched.lines)) == (2500, 2500)
    assert watched.most <= QUEUE + AT_ONCE + BATCH
    assert watched.most_at_once == AT_ONCE


async def test_of_large_files_only_as_many_are_under_way_as_fill_the_permits(
    compose: Compose, tmp_path: Path
) -> None:
    async with (
        compose(permits=4) as world,
        Ledger(tmp_path, wall=world.clock.wall_at) as ledger,
    ):
        watched = Watched(world, ledger)
        await watched.run(200, size=100 * MIB)
    assert watched.most_at_once == 1, "eight ranges of one file are twice four permits"


async def test_a_stop_ends_a_run_whose_queue_is_full(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world, Ledger(tmp_path, wall=world.clock.wall_at) as ledger:
        watched = Watched(world, ledger, stop_at=500)
        with anyio.fail_after(10):
            summary = await watched.run(3000)
    assert summary.unverified < 1000
    assert summary.failed == watched.planned - summary.unverified, "each known one has a line"
