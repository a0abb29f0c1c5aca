"""Files over a long thin line: 80 ms round trip, 20 MB/s a connection. Who fills it?

    python benchmarks/link.py              # 1 GiB and 2,000 x 1 MiB, both ways: 5 min
    python benchmarks/link.py --smoke      # tiny: some seconds

The line (`thin_line.py`) stands before nginx for fetching, and for sending before the simulator of
Seven Bridges, its API and its storage. aria2 and rclone fetch the same files by the same line.
sevenbridges-python sends to the same simulator; curl sends to nginx (WebDAV) by such a line, which
takes one round trip a file where the platform's protocol takes four, and digests nothing.

`of the cap` is what a client moved a second, of what the connections that it used could carry. A
connection carries nothing while its request is on the way, so that with files of 1 MiB, 52 ms each,
none can get above `at best`: the same with a round trip (and for sending to the platform, three
more, whether its connection is the same or another) between one file and the next. Contents are
compared in every round.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal
from downloads import Stage, Workload
from harness import MIB, make_files, print_table
from peers import MEMORY, Client, Took, in_turns, nginx, penstock, program, run
from thin_line import RATE, ROUND_TRIP_S, line

from penstock.simulators import SevenBridges, SevenBridgesSettings

# A workload, the connections a file that aria2 is allowed, and round trips a file.
WORKS = {
    "large": (Workload("1 x 1 GiB", 1, 1024 * MIB, 16), 16),
    "many": (Workload("2,000 x 1 MiB", 2000, MIB, 16), 1),
}
SMOKE = {"many": (Workload("4 x 1 MiB", 4, MIB, 4), 1)}
HEAD = ("workload", "client", "wall s", "CPU s", "MB/s", "connections", "of the cap", "at best")
# What a file costs before its bytes, a connection being there: its own request, and for sending to
# the platform those that begin it, name its URL and complete it.
_TRIPS = {"down": 1, "up": 4, "curl (unverified)": 1}

Rows = list[tuple[str, ...]]


def counted(pipe: Connection) -> int:
    """The most connections that were open at once since this was asked before."""
    pipe.send("most")
    return int(pipe.recv())


def rows_of(
    work: Workload, way: str, took: dict[str, list[Took]], used: dict[str, list[int]]
) -> Rows:
    rows: Rows = []
    size = work.count * work.size
    for name, runs in took.items():
        wall_s = statistics.median(each.wall_s for each in runs)
        most = max(used[name])
        bytes_s = size / RATE
        trips = _TRIPS.get(name, _TRIPS[way]) * work.count * ROUND_TRIP_S
        rows.append(
            (
                f"{work.title} {way}",
                name,
                f"{wall_s:.2f}",
                f"{statistics.median(each.cpu_s for each in runs):.2f}",
                f"{size / wall_s / 1e6:.0f}",
                str(most),
                f"{size / wall_s / (most * RATE):.2f}",
                f"{bytes_s / (bytes_s + trips):.2f}",
            )
        )
    return rows


def fetched(work: Workload, streams: int, rounds: int, port: int) -> Rows:
    """Rows of fetching from nginx."""
    with tempfile.TemporaryDirectory(prefix="penstock-link-", dir=MEMORY) as own:
        stage = Stage(Path(own), port, work)
        stage.prepare()
        used: dict[str, list[int]] = {}
        with nginx(stage.folder, port + 1), line(port, port + 1) as pipe:
            clients = stage.clients(streams)
            there = {n: c for n, c in clients.items() if not n.startswith("curl")}

            def one(name: str, client: Client) -> Took:
                counted(pipe)
                took = stage.one(name, client)
                used.setdefault(name, []).append(counted(pipe))
                return took

            return rows_of(work, "down", in_turns(there, rounds, one), used)


# -- sending -----------------------------------------------------------------------------------


def _simulate(pipe: Connection, storage_port: int) -> None:
    """Seven Bridges behind two lines; answers what it is asked until it is told to end."""
    settings = SevenBridgesSettings(quota=100_000_000, malformed_links=False)
    sim = SevenBridges(settings)
    sim.storage.host.asked_at = f"http://127.0.0.1:{storage_port}"
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sim):
        pipe.send((urlsplit(sim.endpoint).port, sim.storage.host.port, sim.token))
        while (asked := pipe.recv()) != "end":
            project, begin = asked
            if begin:
                portal.call(sim.add_project, project)
                pipe.send(None)
            else:
                found = sim.files(project)
                pipe.send({path: file.content.md5() for path, file in found.items()})
                for path in found:
                    portal.call(sim.remove_file, project, path)


@contextlib.contextmanager
def simulator(port: int) -> Iterator[tuple[Connection, Connection, str, str]]:
    """The simulator's pipe, the storage line's, the endpoint behind a line, and the token."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_simulate, args=(theirs, port + 1), daemon=True)
    process.start()
    api_behind, storage_behind, token = ours.recv()
    try:
        with line(port, api_behind), line(port + 1, storage_behind) as storage:
            yield ours, storage, f"http://127.0.0.1:{port}/v2", token
    finally:
        ours.send("end")
        process.join(10)


def senders(endpoint: str, token: str, source: Path, port: int) -> dict[str, Client]:
    """Who sends: what each is asked, PROJECT standing for one of its own."""
    asked = {
        "PENSTOCK_CAVATICA_ENDPOINT": endpoint,
        "PENSTOCK_CAVATICA_TOKEN": token,
        "PENSTOCK_CAVATICA_QUOTA": "100000000/300s",
    }
    official = str(Path(__file__).parent / "requests_seven_bridges.py")
    there = {
        "penstock": penstock(f"{source}/", "cavatica:PROJECT/", **asked),
        "sevenbridges-python (unverified)": Client(
            *(sys.executable, official, "--official", "up"),
            *(endpoint, token, "PROJECT", str(source)),
        ),
    }
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*.dat"))
    # A single file has a single connection there, whoever sends it.
    if len(names) > 1 and program("nginx") and (found := program("curl")):
        asking = [
            f'upload-file = "{source}/{name}"\nurl = "http://127.0.0.1:{port}/back/{name}"'
            for name in names
        ]
        listed = source.parent / "curl.txt"
        listed.write_text("\n".join(asking) + "\n")
        there["curl (unverified)"] = Client(
            found, "-sSf", "--parallel", "--parallel-max", "16", "-K", str(listed)
        )
    return there


def sent(work: Workload, rounds: int, port: int) -> Rows:
    """Rows of sending to the platform, and to nginx."""
    with tempfile.TemporaryDirectory(prefix="penstock-link-", dir=MEMORY) as own:
        folder, used = Path(own), dict[str, list[int]]()
        source = make_files(folder / "files", work.count, work.size)
        right = {
            str(path.relative_to(source)): hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324
            for path in source.rglob("*.dat")
        }
        (folder / "source" / "back").mkdir(parents=True)
        number = iter(range(1_000_000))
        with contextlib.ExitStack() as stack:
            pipe, storage, endpoint, token = stack.enter_context(simulator(port + 3))
            by_dav = None
            if work.count > 1 and program("nginx"):
                stack.enter_context(nginx(folder, port + 1, takes=True))
                by_dav = stack.enter_context(line(port, port + 1))

            def one(name: str, client: Client) -> Took:
                project = f"demo/p{next(number)}"
                pipe.send((project, True))
                pipe.recv()
                to_dav = name.startswith("curl")
                counter = by_dav if to_dav and by_dav is not None else storage
                counted(counter)
                command = [each.replace("PROJECT", project) for each in client.command]
                took, text = run(Client(*command, **client.environ), folder, folder / "home")
                used.setdefault(name, []).append(counted(counter))
                if name == "penstock" and json.loads(text)["verified"] != work.count:
                    raise RuntimeError(f"not all were verified: {text}")
                _compare(name, right, lambda: _there(pipe, project, folder, to_dav=to_dav))
                return took

            clients = senders(endpoint, token, source, port)
            return rows_of(work, "up", in_turns(clients, rounds, one), used)


def _there(pipe: Connection, project: str, folder: Path, *, to_dav: bool) -> dict[str, str]:
    """What arrived: each file's MD5, by name. It is gone then."""
    pipe.send((project, False))
    found: dict[str, str] = pipe.recv()
    if to_dav:
        back = folder / "source" / "back"
        found = {
            str(path.relative_to(back)): hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324
            for path in back.rglob("*.dat")
        }
        shutil.rmtree(back)
        back.mkdir()
    return found


def _compare(name: str, right: dict[str, str], found: Callable[[], dict[str, str]]) -> None:
    there = found()
    # The official client is asked for files alone, without their folders.
    if there != right and there != {path.rpartition("/")[2]: md5 for path, md5 in right.items()}:
        raise RuntimeError(f"{name}: {len(there)} of {len(right)} arrived, or others")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help=f"some of: {' '.join(WORKS)}")
    parser.add_argument("--ways", nargs="+", choices=["down", "up"], default=["down", "up"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, help="MiB of the large file")
    parser.add_argument("--port", type=int, default=18_927)
    parser.add_argument("--smoke", action="store_true", help="all of it, tiny")
    given = parser.parse_args()
    works = SMOKE if given.smoke else {name: WORKS[name] for name in given.workloads or WORKS}
    rows: Rows = []
    for name, (work, streams) in works.items():
        chosen, rounds = work, 1 if given.smoke else given.rounds
        if name == "large":
            rounds = max(rounds, 2)
        if given.size and name == "large":
            chosen = replace(work, title=f"1 x {given.size} MiB", size=given.size * MIB)
        if "down" in given.ways and program("nginx"):
            rows += fetched(chosen, streams, rounds, given.port)
        if "up" in given.ways:
            rows += sent(chosen, rounds, given.port)
    print(f"\nA line of {ROUND_TRIP_S * 1000:.0f} ms, {RATE / 1e6:.0f} MB/s a connection\n")
    print_table(HEAD, rows)


if __name__ == "__main__":
    main()
