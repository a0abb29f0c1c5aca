"""Downloads over a long thin line: 80 ms round trip, 20 MB/s a connection. Who fills it?

    python benchmarks/link.py              # 512 MiB and 500 x 1 MiB, 2 rounds: some minutes
    python benchmarks/link.py --smoke      # tiny: some seconds

The line is a proxy of ours before nginx, a process of its own: what it is sent leaves it half a
round trip later, and no connection's answers faster than its rate. It counts the connections that
a client used at once. `of the cap` is what a client moved a second, of what those connections
together could carry, or of what all that it is allowed (`--concurrency`'s default, 16) could; a
connection takes a round trip to be made, as it would be. Contents are compared in every round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from downloads import Stage, Workload
from harness import MIB, print_table
from peers import Client, Took, in_turns, nginx, program

ROUND_TRIP_S = 0.08
RATE = 20_000_000
_PIECE = 64 * 1024

WORKS = {
    "large": (Workload("1 x 512 MiB", 1, 512 * MIB, 16), 16),
    "many": (Workload("500 x 1 MiB", 500, MIB, 16), 1),
}
SMOKE = {"many": (Workload("4 x 1 MiB", 4, MIB, 4), 1)}


class Line:
    """The line: carries each connection to the server behind it, late and at its rate."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._open = 0
        self.most = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            await asyncio.sleep(ROUND_TRIP_S)  # as long as it takes to be made
            inner, outer = await asyncio.open_connection("127.0.0.1", self._behind)
            await asyncio.gather(self._pass(reader, outer, None), self._pass(inner, writer, RATE))
        except (OSError, asyncio.CancelledError):
            pass  # Whoever hung up is asked nothing; at the end of all everybody has.
        finally:
            self._open -= 1
            writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: int | None
    ) -> None:
        """Each piece leaves half a round trip after it came, and after those before it."""
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        now_s = asyncio.get_running_loop().time

        async def leave() -> None:
            free_s = 0.0
            while True:
                due_s, data = await late.get()
                if not data:
                    break
                free_s = max(free_s, due_s)
                if rate is not None:
                    free_s += len(data) / rate
                if free_s - now_s() > 0.002:
                    await asyncio.sleep(free_s - now_s())
                with contextlib.suppress(ConnectionError):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        leaving = asyncio.ensure_future(leave())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_PIECE):
                await late.put((now_s() + ROUND_TRIP_S / 2, data))
        with contextlib.suppress(ConnectionError):
            await late.put((now_s(), b""))
            await leaving


def _serve(pipe: Connection, port: int, behind: int) -> None:
    async def serve() -> None:
        line = Line(behind)
        server = await asyncio.start_server(line.carry, "127.0.0.1", port, limit=4 * _PIECE)
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(pipe.fileno(), asked.set)
        pipe.send("ready")
        while True:
            await asked.wait()
            asked.clear()
            if pipe.poll():
                if pipe.recv() == "end":
                    break
                pipe.send(line.most)
                line.most = 0
        server.close()

    asyncio.run(serve())


@contextlib.contextmanager
def line(port: int, behind: int) -> Iterator[Connection]:
    """The proxy; what is sent to it is answered with the most connections since it was asked."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(theirs, port, behind), daemon=True)
    process.start()
    ours.recv()
    try:
        yield ours
    finally:
        ours.send("end")
        process.join(10)


def measure(work: Workload, streams: int, rounds: int, port: int) -> list[tuple[str, ...]]:
    where = Path("/dev/shm")  # noqa: S108 - in memory, in a folder of our own
    with tempfile.TemporaryDirectory(
        prefix="penstock-link-", dir=where if where.is_dir() else None
    ) as own:
        stage = Stage(Path(own), port, work)
        stage.prepare()
        used: dict[str, list[int]] = {}
        with nginx(stage.folder, port + 1), line(port, port + 1) as pipe:
            clients = stage.clients(streams)
            there = {n: c for n, c in clients.items() if not n.startswith("curl")}

            def one(name: str, client: Client) -> Took:
                pipe.send("most")
                pipe.recv()
                took = stage.one(name, client)
                pipe.send("most")
                used.setdefault(name, []).append(pipe.recv())
                return took

            took = in_turns(there, rounds, one)
        rows: list[tuple[str, ...]] = []
        size = work.count * work.size
        for name, runs in took.items():
            wall_s = statistics.median(each.wall_s for each in runs)
            most = max(used[name])
            rows.append(
                (
                    work.title,
                    name,
                    f"{wall_s:.2f}",
                    f"{statistics.median(each.cpu_s for each in runs):.2f}",
                    f"{size / wall_s / 1e6:.0f}",
                    str(most),
                    f"{size / wall_s / (most * RATE):.2f}",
                )
            )
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help=f"some of: {' '.join(WORKS)}")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, help="MiB of the large file")
    parser.add_argument("--port", type=int, default=18_927)
    parser.add_argument("--smoke", action="store_true", help="all of it, tiny")
    given = parser.parse_args()
    if program("nginx") is None:
        print("nothing to fetch from, all left out")
        return
    works = SMOKE if given.smoke else {name: WORKS[name] for name in given.workloads or WORKS}
    rows = []
    for name, (work, streams) in works.items():
        chosen = work
        if given.size and name == "large":
            chosen = replace(work, title=f"1 x {given.size} MiB", size=given.size * MIB)
        rows += measure(chosen, streams, 1 if given.smoke else given.rounds, given.port)
    print(f"\nA line of {ROUND_TRIP_S * 1000:.0f} ms, {RATE / 1e6:.0f} MB/s a connection\n")
    head = ("workload", "client", "wall s", "CPU s", "MB/s", "connections", "of the cap")
    print_table(head, rows)


if __name__ == "__main__":
    main()
