"""How many API requests, how much time: penstock and the official client, in the same run.

    python benchmarks/requests_seven_bridges.py            # 3 min
    python benchmarks/requests_seven_bridges.py --smoke    # some seconds: only that it works

Both move the same files, as processes of their own, in turns, the quota wide open, so that what is
seen is what each asks for. The official client is used as its documentation shows, with its own
defaults, 16 files at once (its own number of threads).
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from harness import KIB, MIB, Ran, World, make_files, print_table, world

THREADS = 16


@dataclass(frozen=True)
class Case:
    name: str
    count: int
    size: int


FULL = (Case("500 x 64 KiB", 500, 64 * KIB), Case("1 x 1 GiB", 1, 1024 * MIB))
SMOKE = (Case("5 x 1 KiB", 5, KIB), Case("1 x 70 MiB", 1, 70 * MIB))


@dataclass
class Measured:
    """What one client did in one direction, over all rounds."""

    requests: list[int] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)

    def add(self, ran: Ran, requests: int) -> None:
        self.requests.append(requests)
        self.wall_s.append(ran.wall_s)
        self.cpu_s.append(ran.cpu_s)
        self.peak.append(ran.peak)


def official(arguments: list[str]) -> None:
    """The other client, in a process of its own: up|down ENDPOINT TOKEN PROJECT FOLDER."""
    import sevenbridges  # noqa: PLC0415 - by this process alone

    way, endpoint, token, project, folder = arguments
    api = sevenbridges.Api(url=endpoint, token=token, debug=True)

    def up(path: Path) -> None:
        upload = api.files.upload(str(path), project=project)
        if upload.status != "COMPLETED":
            raise SystemExit(f"{path}: {upload.status}")

    def down(file: sevenbridges.File) -> None:
        file.download(str(Path(folder, file.name)))

    with ThreadPoolExecutor(THREADS) as threads:
        if way == "up":
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            list(threads.map(up, files))
        else:
            Path(folder).mkdir()
            list(threads.map(down, api.files.query(project=project, limit=100).all()))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}  # noqa: S324


def run(place: World, client: str, way: str, project: str, folder: Path) -> tuple[Ran, int]:
    before = place.requests
    if client == "penstock":
        remote = f"cavatica:{project}"
        ran = place.penstock(*((folder, remote) if way == "up" else (remote, folder)))
    else:
        sim = place.sim
        here = [__file__, "--official", way, sim.endpoint, sim.token, project, str(folder)]
        ran = place.python(here)
    return ran, place.requests - before


def measure(cases: tuple[Case, ...], rounds: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table. Raises `RuntimeError` where bytes are not what they were."""
    for number, case in enumerate(cases):
        found = {(way, client): Measured() for way in ("up", "down") for client in _CLIENTS}
        for turn in range(rounds):
            with world() as place:
                source = make_files(place.home / "source", case.count, case.size)
                right = digests(source)
                # Who begins alternates.
                for client in _CLIENTS[:: 1 if (turn + number) % 2 else -1]:
                    project = f"demo/{client}"
                    place.sim.add_project(project)
                    back = place.home / f"back-{client}"
                    found["up", client].add(*run(place, client, "up", project, source))
                    found["down", client].add(*run(place, client, "down", project, back))
                    if digests(back) != right:
                        raise RuntimeError(f"{client} did not bring back what was sent")
        for way in ("up", "down"):
            yield _row(f"{case.name} {way}", *(found[way, client] for client in _CLIENTS))


_CLIENTS = ("penstock", "official")


def _row(name: str, ours: Measured, theirs: Measured) -> tuple[str, ...]:
    def pair(values: list[float], others: list[float], form: str) -> tuple[str, str]:
        mine, other = statistics.median(values), statistics.median(others)
        return f"{mine:{form}} / {other:{form}}", f"{mine / other:.2f}" if other else "-"

    requests = pair([*map(float, ours.requests)], [*map(float, theirs.requests)], ".0f")
    wall = pair(ours.wall_s, theirs.wall_s, ".2f")
    cpu = pair(ours.cpu_s, theirs.cpu_s, ".2f")
    peak = f"{max(ours.peak) / MIB:.0f} / {max(theirs.peak) / MIB:.0f}"
    return (name, *requests, *wall, *cpu, peak)


def main() -> None:
    if sys.argv[1:2] == ["--official"]:
        official(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="penstock / official client; ratios below 1: less")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; medians are shown")
    wanted = parser.parse_args()
    cases, rounds = (SMOKE, 1) if wanted.smoke else (FULL, wanted.rounds)
    head = ("penstock / official", "requests", "ratio", "wall s", "ratio", "CPU s", "ratio", "MiB")
    print_table(head, list(measure(cases, rounds)))


if __name__ == "__main__":
    main()
