"""How many API requests files in an S3-backed Coscine resource take: none each, up or down.

    python benchmarks/requests_coscine_s3.py                # 10,000 files, some minutes
    python benchmarks/requests_coscine_s3.py --files 1000
    python benchmarks/requests_coscine_s3.py --smoke        # some seconds: only that it works

The storage is a real S3 server (`s3_servers.py`), whose time is most of the wall clock, so the CPU
seconds of penstock's own process are the ones to look at.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

from harness import KIB, MIB, Ran, make_files, print_table
from s3_servers import resource


def rows(count: int, size: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table. Raises `RuntimeError` where something was not verified."""
    with resource() as place:
        source = make_files(place.home / "source", count, size)
        back = place.home / "back"
        turns = (
            ("up", (f"{source}/", f"{place.remote}/"), "verified"),
            ("up again", (f"{source}/", f"{place.remote}/"), "skipped"),
            ("down", (f"{place.remote}/", back), "verified"),
            ("down again", (f"{place.remote}/", back), "skipped"),
        )
        number = itertools.count()
        for name, arguments, outcome in turns:
            before = place.requests
            ran: Ran = place.penstock(*arguments, "--report", place.home / f"r{next(number)}")
            if ran.summary[outcome] != count:
                raise RuntimeError(f"{name}: {ran.summary}")
            yield (
                f"{count:,} x {size / KIB:g} KiB {name}",
                str(place.requests - before),
                f"{ran.wall_s:.1f}",
                f"{ran.cpu_s:.1f}",
                f"{ran.peak / MIB:.0f}",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="API requests of files in an S3-backed resource")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64 * KIB, help="bytes of each")
    wanted = parser.parse_args()
    count, size = (5, KIB) if wanted.smoke else (wanted.files, wanted.size)
    head = ("S3-backed resource", "API requests", "wall s", "CPU s", "MiB")
    print_table(head, list(rows(count, size)))


if __name__ == "__main__":
    main()
