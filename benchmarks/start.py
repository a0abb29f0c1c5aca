"""How long the command takes to begin: `--help`, and a `copy` that finds nothing to do.

    python benchmarks/start.py            # 20 rounds: half a minute
    python benchmarks/start.py --smoke    # 2 rounds

Beside them what no client of Python goes without: the interpreter, and the interpreter with
aiohttp. Each is a process of its own; shown are the least and the median of wall clock and CPU.
"""

from __future__ import annotations

import argparse
from statistics import median

from harness import Ran, World, make_files, print_table, world

FILES = 20


def rounds(place: World, count: int) -> dict[str, list[Ran]]:
    """Each command so many times, in turns."""
    tree = make_files(place.home / "tree", FILES, 1024)
    destination = f"cavatica:{place.sim.project}/tree"
    place.penstock(tree, destination)
    commands = {
        "python": ["-c", "pass"],
        "python, aiohttp": ["-c", "import aiohttp"],
        "penstock --help": ["-m", "penstock", "--help"],
        f"copy of {FILES} files, unchanged": [
            *("-m", "penstock", "copy", "--json", "--progress", "none"),
            *(str(tree), destination),
        ],
    }
    ran: dict[str, list[Ran]] = {name: [] for name in commands}
    for _ in range(count):
        for name, command in commands.items():
            ran[name].append(place.python(command))
    if any(one.summary["skipped"] != FILES for one in ran[name]):
        raise RuntimeError(f"{name}: {ran[name][-1].output}")
    return ran


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the command takes to begin.")
    parser.add_argument("--smoke", action="store_true", help="two rounds, to see that it works")
    given = parser.parse_args()
    with world() as place:
        ran = rounds(place, 2 if given.smoke else 20)
    rows = []
    for name, ones in ran.items():
        walls, cpus = [one.wall_s * 1e3 for one in ones], [one.cpu_s * 1e3 for one in ones]
        cells = (min(walls), median(walls), min(cpus), median(cpus))
        rows.append((name, *(f"{cell:.0f}" for cell in cells)))
    print_table(("what", "wall ms, least", "median", "CPU ms, least", "median"), rows)


if __name__ == "__main__":
    main()
