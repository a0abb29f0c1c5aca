"""How many API requests a tree of files costs on Coscine: penstock, and the official client's way.

    python benchmarks/requests_coscine.py            # some minutes, 20 GB of disk for one file
    python benchmarks/requests_coscine.py --smoke    # some seconds: only that it works

Both move files through the simulator, each as a process of its own, with the quota wide open, so
that what is seen is what each asks for; minutes are then what 500 requests a minute make of it.
The official client goes one file after the other and is given fewer files: what it asks for is
counted, and set in proportion to penstock's number. Files are small, for requests do not grow with
them; one sparse file of 10 GiB each way tells penstock's memory.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import GIB, KIB, MIB, World, coscine_world, make_files, print_table

QUOTA_A_MINUTE = 500


@dataclass(frozen=True)
class Sizes:
    files: int
    official: int
    large: int


FULL = Sizes(10_000, 500, 10 * GIB)
SMOKE = Sizes(60, 12, 20 * MIB)

METADATA = """
    @prefix dcterms: <http://purl.org/dc/terms/> .
    [] a <https://purl.org/coscine/ap/base/> ; dcterms:title "A title" .
"""


def official(arguments: list[str]) -> None:
    """The other client, in a process of its own: up|down BASE TOKEN PROJECT RESOURCE FOLDER."""
    import coscine  # noqa: PLC0415 - by this process alone
    import rdflib  # noqa: PLC0415

    way, base, token, project, name, folder = arguments
    client = coscine.ApiClient(token, base_url=base, enable_caching=False, verbose=False)
    resource = client.project(project).resource(name)
    if way == "up":
        graph = rdflib.Graph().parse(data=METADATA, format="turtle")
        for path in sorted(Path(folder).iterdir()):
            resource.upload(path.name, path.read_bytes(), graph)
    else:
        Path(folder).mkdir()
        for file in resource.files():
            file.download(f"{folder}/")


def run_official(place: World, way: str, resource: str, folder: Path) -> int:
    """API requests the official client makes."""
    before, sim = place.requests, place.sim
    base = sim.endpoint.removesuffix("/api/v2")
    place.python(
        [__file__, "--official", way, base, sim.token, sim.project_name, resource, str(folder)]
    )
    return place.requests - before


def minutes(requests: float) -> str:
    """What a number of requests takes at the quota: whole windows before the last one."""
    return f"{max(requests - 1, 0) // QUOTA_A_MINUTE:.0f}"


def counted(sizes: Sizes) -> list[tuple[str, ...]]:
    """A row for each way. Raises `RuntimeError` where something is not there in the end."""
    rows: list[tuple[str, ...]] = []
    with coscine_world(metadata_check="nothing", metadata_first=False) as place:
        sim = place.sim
        source = make_files(place.home / "source", sizes.files, KIB)
        few = make_files(place.home / "few", sizes.official, KIB)
        sim.add_resource("theirs", reserved=1 << 40)
        theirs = {
            "up": run_official(place, "up", "theirs", few),
            "down": run_official(place, "down", "theirs", place.home / "theirs"),
        }
        remote = f"coscine:{sim.project_name}/{sim.resource_name}"
        for way in ("up", "down"):
            before = place.requests
            ends = (source, f"{remote}/") if way == "up" else (f"{remote}/", place.home / "back")
            ran = place.penstock(*ends)
            if ran.summary["verified"] != sizes.files:
                raise RuntimeError(f"{way}: {ran.summary}")
            ours = place.requests - before
            proportion = theirs[way] / sizes.official * sizes.files
            rows.append(
                (
                    f"{sizes.files} files {way}",
                    str(ours),
                    minutes(ours),
                    f"{proportion:.0f}",
                    minutes(proportion),
                    f"{ran.peak / MIB:.0f}",
                    f"{ran.wall_s:.0f}",
                )
            )
            print(rows[-1], file=sys.stderr)
    return rows


def large(size: int) -> list[tuple[str, ...]]:
    """A row for each way of one sparse file."""
    rows: list[tuple[str, ...]] = []
    with coscine_world(metadata_first=False) as place:
        sim = place.sim
        sim.at().reserved = 1 << 40
        remote = f"coscine:{sim.project_name}/{sim.resource_name}"
        path = place.home / "large.bin"
        with path.open("wb") as file:
            os.truncate(file.fileno(), size)
        for way in ("up", "down"):
            before = place.requests
            back = place.home / "back.bin"
            ends = (path, f"{remote}/") if way == "up" else (f"{remote}/large.bin", back)
            ran = place.penstock(*ends)
            summary = ran.summary
            if summary["verified"] + summary["unverified"] != 1:
                raise RuntimeError(f"{way}: {summary}")
            rows.append(
                (
                    f"one file of {size / GIB:.2g} GiB {way}",
                    str(place.requests - before),
                    "0",
                    "-",
                    "-",
                    f"{ran.peak / MIB:.0f}",
                    f"{ran.wall_s:.0f}",
                )
            )
            print(rows[-1], file=sys.stderr)
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--official"]:
        official(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="API requests and minutes of quota on Coscine")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    sizes = SMOKE if parser.parse_args().smoke else FULL
    head = ("penstock, and 0.12.2", "requests", "min", "0.12.2", "min", "MiB", "wall s")
    print_table(head, counted(sizes) + large(sizes.large))


if __name__ == "__main__":
    main()
