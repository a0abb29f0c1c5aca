"""How time and memory grow with the number of files, and with the size of one. A table and a plot.

    python benchmarks/growth.py                          # 10^2 to 10^5 files, 1 KiB to 1 GiB: 5 min
    python benchmarks/growth.py --up-to 1000000 --up-to-size 100GiB --plot growth.png
    python benchmarks/growth.py --smoke                  # tiny: some seconds

Files: a platform that is all in this process's memory (`catalogue.py`), so that what is measured
is the client alone: `plan` lists and plans; `plan, ledger, report` does all of a run but the bytes,
each transfer claimed, arrived and verified in the ledger as a small download is; `again` is the
same command when all is done; `moved` writes the bytes too, verified, to a local disk. The same
upwards, from a local tree to a platform that has none of it; `up again` lists it there. Sizes: one
file up and down through the simulator of Seven Bridges, on loopback. Each figure is of a process of
its own: CPU and `VmHWM` are the kernel's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from catalogue import ENDPOINT, IN_A_FOLDER, Answers, Catalogue, id_of
from harness import GIB, KIB, MIB, print_table, resident, world

from penstock.config import Token
from penstock.core.lifecycle import State
from penstock.core.locations import Local, Remote
from penstock.core.model import Flow, Receipt, Request, Response, Upload
from penstock.core.report import Summary
from penstock.core.transfers import (
    Choices,
    DownTransfer,
    Ended,
    OnConflict,
    Transfer,
    UpTransfer,
)
from penstock.core.units import format_size, parse_size
from penstock.engine.clock import Clock
from penstock.engine.context import Context
from penstock.engine.exchange import Credentials, Exchange, Tally
from penstock.engine.express import MOST, Ends, Express, Small
from penstock.engine.ledger import Arrived, End, Ledger, Row
from penstock.engine.limiter import Limiter
from penstock.engine.openuploads import OpenUploads
from penstock.engine.permits import Permits
from penstock.engine.planner import Deliver, Planned, Selecting
from penstock.engine.planner_down import DownloadPlanner
from penstock.engine.planner_up import UploadPlanner
from penstock.engine.reports import ReportWriter
from penstock.engine.scheduler import Scheduler
from penstock.engine.slots import MemorySlotStore
from penstock.engine.stopping import FILES_AT_ONCE, Limits, Stop
from penstock.engine.survey import Surveyor
from penstock.simulators import Zeros

WIDE_OPEN = 100_000_000
SIZES = (KIB, MIB, 64 * MIB, GIB, 10 * GIB, 100 * GIB)
DOWN = ("plan", "plan, ledger, report", "again")
UP = ("up: plan", "up: plan, ledger, report", "up: again")


@dataclass(frozen=True)
class Measured:
    """One process: seconds of wall clock and of CPU, bytes resident at most."""

    what: str
    amount: int
    wall_s: float
    cpu_s: float
    peak: int


@asynccontextmanager
async def opened(platform: Catalogue, state: Path) -> AsyncIterator[Context]:
    """What a run shares, over a platform in memory."""
    clock = Clock.running()

    async def no_other() -> Token | None:
        return None

    async with (
        Ledger(state, wall=clock.wall_at) as ledger,
        Limiter(
            key="catalogue",
            quota=WIDE_OPEN,
            window_s=300.0,
            store=MemorySlotStore(),
            clock=clock,
        ) as limiter,
    ):
        exchange = Exchange(
            platform,
            credentials=Credentials("catalogue", Token("made-up"), no_other),
            limiter=limiter,
            transport=Answers(platform.size),  # type: ignore[arg-type]
            permits=Permits.fixed(16),
            clock=clock,
        )
        yield Context(
            "growth",
            exchange,
            ledger,
            clock,
            Choices(),
            lambda _: None,
            OpenUploads(exchange, ledger, lambda _: None),
        )


async def run(kind: str, count: int, size: int, state: Path, to: Path) -> None:
    """One run of a kind. Raises `RuntimeError` where it did not do what it is measured for."""
    is_up, kind = kind.startswith("up: "), kind.removeprefix("up: ")
    # Nothing of what is sent stands there, before it was.
    platform = Catalogue(0 if is_up and kind != "again" else count, size)
    async with opened(platform, state / ("up" if is_up else "down")) as context:
        surveyor = Surveyor(context.exchange, context.ledger, context.emit)

        async def planning(deliver: Deliver) -> None:
            common = ("catalogue", context.exchange, surveyor, Selecting(), context.clock, deliver)
            if is_up:
                up = UploadPlanner(*common, on_conflict=OnConflict.FAIL)
                await up.resolve(Remote("catalogue", "all"), [Local(str(to))], rows=False)
                await up.plan_sources([Local(str(to))])
            else:
                down = DownloadPlanner(*common, profiles=["catalogue"])
                await down.plan_sources([Remote("catalogue", "all")], Local(f"{to}/"))

        async def sent(transfer: Transfer, row: Row, _: Tally) -> Ended:
            return await _sent(context, transfer, row, size)

        summary = Summary("growth")
        if kind == "plan":
            planned = 0

            async def take(batch: Sequence[Planned]) -> None:
                nonlocal planned
                planned += len(batch)

            await planning(take)
            done = planned
        else:
            is_bare = kind == "plan, ledger, report"
            kind_of = Remembering if is_bare and not is_up else Scheduler
            with ReportWriter(context.ledger.path.parent / "reports", "run", None) as writer:
                scheduler = kind_of(
                    context,
                    summary,
                    writer.write,
                    Stop(),
                    Limits(None, FILES_AT_ONCE),
                    worker=sent if is_bare and is_up else None,
                )
                await scheduler.run(planning)
            done = summary.skipped if kind == "again" else summary.verified
        if done != count:
            raise RuntimeError(f"{kind}: {done} of {count} files")


class InPlace(Express):
    """Small downloads whose files are there already: what is left is what the ledger is told."""

    def __init__(self, context: Context, ends: Ends, stop: Stop) -> None:
        super().__init__(context, ends, stop)
        self._ledger, self._run, self._told = context.ledger, context.run, ends

    def small(self, transfer: DownTransfer) -> Small:
        """Any is."""
        return Small(transfer, _asks_nothing(), Request("GET", ENDPOINT))

    def most(self, first: Small) -> int:  # noqa: ARG002 - as many as there may be
        """As where each takes no time."""
        return MOST

    async def move(self, group: Sequence[Small]) -> None:
        """Claimed, arrived and verified in the ledger, each in one commit for all."""
        identities = [small.transfer.identity for small in group]
        for small, row in zip(
            group, await self._ledger.claim_all(identities, self._run), strict=True
        ):
            assert isinstance(row, Row)
            small.row = row
        digests = {"md5": "900150983cd24fb0d6963f7d28e17f72"}
        arrived, ends = [], []
        for small in group:
            transfer, size = small.transfer, small.transfer.size or 0
            source, path = transfer.fingerprint(size), transfer.local_path
            arrived.append(
                Arrived(small.id, source, digests, "etag", size, 1, None, f"{path}.part", True)
            )
            found = os.stat(path)  # noqa: PTH116 - what publishing does as well
            ends.append(
                End(
                    small.id,
                    State.VERIFIED,
                    digests,
                    verified_by="etag",
                    remote_id=transfer.file.id,
                    size=size,
                    mtime_ns=found.st_mtime_ns,
                    parts=1,
                    is_new=True,
                )
            )
        await self._ledger.arrived_all(arrived)
        await self._ledger.end_all(ends)
        for small in group:
            file = small.transfer.file
            ended = Ended(
                State.VERIFIED, None, file.id, file.size, digests, "etag", parts=1, attempts=1
            )
            self._told.through(small, ended)


def _asks_nothing() -> Flow[Response]:
    yield from ()
    return Response(200)


class Remembering(Scheduler):
    """A scheduler of downloads that are in place."""

    @cached_property
    def _express(self) -> Express:
        return InPlace(self._context, self, self._stop)


async def _sent(context: Context, transfer: Transfer, row: Row, size: int) -> Ended:
    """What a small upload asks of the ledger, where a platform begins and completes one."""
    assert isinstance(transfer, UpTransfer)
    ledger, remote_id, md5 = (
        context.ledger,
        id_of(transfer.name),
        "900150983cd24fb0d6963f7d28e17f72",
    )
    made_at = context.clock.wall_at()
    intent = await ledger.start_upload(
        row.id,
        transfer.found,
        place=transfer.folder.container,
        name=transfer.name,
        size=size,
        part_size=size,
        made_at=made_at,
    )
    await ledger.began(row.id, intent.id, Upload(f"u{remote_id}", size))
    await ledger.sent_whole(
        row.id,
        Receipt(1, 0, size, md5, etag=md5),
        place=transfer.folder.container,
        name=transfer.name,
        size=size,
        made_at=made_at,
    )
    ended = Ended(State.VERIFIED, None, remote_id, size, {"md5": md5}, "etag", parts=1, attempts=1)
    await ledger.end(
        row.id,
        ended.state,
        source=transfer.found,
        digests=ended.digests,
        verified_by=ended.verified_by,
        remote_id=remote_id,
        size=size,
        parts=ended.parts,
    )
    return ended


def make_sparse(to: Path, count: int, size: int) -> None:
    """The catalogue's files, their bytes never written."""
    for number in range(count):
        folder = to / f"{number // IN_A_FOLDER:04}" if count > IN_A_FOLDER else to
        if number % IN_A_FOLDER == 0:
            folder.mkdir(parents=True, exist_ok=True)
        with open(f"{folder}/file-{number:08}.dat", "wb") as file:  # noqa: PTH123 - a million
            file.truncate(size)


def child(kind: str, count: int, size: int, folder: Path) -> None:
    """Measures one run in this process, and prints it."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    asyncio.run(run(kind, count, size, folder / "state", folder / "to"))
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(json.dumps(asdict(Measured(kind, count, wall_s, cpu_s, resident(os.getpid())))))


def measured(kind: str, count: int, size: int, folder: Path) -> Measured:
    """One run, in a child process."""
    command = [sys.executable, __file__, "--child", kind, str(count), str(size), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Measured(**json.loads(done.stdout))


def files(up_to: int, size: int, moved_up_to: int, where: Path | None) -> Iterator[Measured]:
    """By the number of files, from a hundred on."""
    count = 100
    while count <= up_to:
        with tempfile.TemporaryDirectory(prefix="penstock-growth-", dir=where) as folder:
            make_sparse(Path(folder, "to"), count, size)
            for kind in DOWN + UP:
                yield measured(kind, count, size, Path(folder))
        if count <= moved_up_to:
            with tempfile.TemporaryDirectory(prefix="penstock-growth-", dir=where) as folder:
                yield measured("moved", count, size, Path(folder))
        count *= 10


def sizes(up_to: int) -> Iterator[Measured]:
    """By the size of one file: sparse on the way up, zeros on the way down."""
    for size in SIZES:
        if size > up_to:
            return
        with world(keep_bodies="discard") as place:
            source = place.home / "large.bin"
            with source.open("wb") as file:
                file.truncate(size)
            ran = place.penstock(source, f"cavatica:{place.sim.project}/")
            yield Measured("up", size, ran.wall_s, ran.cpu_s, ran.peak)
            source.unlink()
            if size > shutil.disk_usage(place.home).free // 2:
                print(f"{format_size(size)} down is left out: the disk has no room for it")
                continue
            place.sim.add_file(place.sim.project, "zeros.bin", Zeros(size), part_size=64 * MIB)
            ran = place.penstock(f"cavatica:{place.sim.project}/zeros.bin", f"{place.home}/back/")
            if ran.summary["verified"] != 1:
                raise RuntimeError(f"{format_size(size)} down: {ran.output}")
            yield Measured("down", size, ran.wall_s, ran.cpu_s, ran.peak)


def row(one: Measured, *, of_files: bool) -> tuple[str, ...]:
    each = one.cpu_s / one.amount * 1e6 if of_files else one.cpu_s / one.amount * GIB
    # Of a small file the start of the process is all there is.
    of_size = f"{each:.2f} s a GiB" if one.amount >= 64 * MIB else ""
    return (
        f"{one.amount:,} files" if of_files else format_size(one.amount),
        one.what,
        f"{one.wall_s:.2f}",
        f"{one.cpu_s:.2f}",
        f"{each:.0f} µs a file" if of_files else of_size,
        f"{one.peak / MIB:.0f}",
    )


def plot(by_count: Sequence[Measured], by_size: Sequence[Measured], path: Path) -> bool:
    """Whether the plot is drawn: time and memory, against number and size."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'penstock[bench]')")
        return False
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of its backend

    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for column, (measures, name) in enumerate(
        ((by_count, "files"), (by_size, "bytes in one file"))
    ):
        time_axis, memory_axis = axes[0][column], axes[1][column]
        for what in dict.fromkeys(one.what for one in measures):
            ones = [one for one in measures if one.what == what]
            amounts = [one.amount for one in ones]
            time_axis.plot(amounts, [one.cpu_s for one in ones], "o-", label=f"{what}: CPU")
            memory_axis.plot(amounts, [one.peak / MIB for one in ones], "o-", label=what)
        time_axis.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds of CPU")
        most = max((one.peak / MIB for one in measures), default=1.0)
        memory_axis.set(xscale="log", xlabel=name, ylabel="MiB resident at most")
        memory_axis.set_ylim(0, 1.15 * most)
        for axis in (time_axis, memory_axis):
            axis.grid(visible=True, alpha=0.3)
            if measures:
                axis.legend()
    figure.savefig(path, dpi=110)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory by number and size of files.")
    parser.add_argument("--up-to", type=int, default=100_000, help="most files")
    parser.add_argument("--moved-up-to", type=int, default=10_000, help="most files with bytes")
    parser.add_argument("--up-to-size", type=parse_size, default=GIB, help="largest file")
    parser.add_argument("--file-size", type=parse_size, default=KIB, help="of each of many files")
    parser.add_argument("--folder", type=Path, help="where the files of many lie")
    parser.add_argument("--plot", type=Path, help="default: growth.png beside this; smoke: none")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        kind, count, size, folder = given.child
        child(kind, int(count), int(size), Path(folder))
        return
    if given.smoke:
        given.up_to, given.moved_up_to, given.up_to_size = 100, 100, KIB
    by_count = list(files(given.up_to, given.file_size, given.moved_up_to, given.folder))
    by_size = list(sizes(given.up_to_size))
    head = ("how much", "what", "wall s", "CPU s", "CPU", "MiB at most")
    rows = [row(one, of_files=True) for one in by_count]
    print_table(head, rows + [row(one, of_files=False) for one in by_size])
    path = given.plot or (None if given.smoke else Path(__file__).parent / "growth.png")
    if path is not None and plot(by_count, by_size, path):
        print(f"drawn: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
