"""How many API requests files in an S3-backed Coscine resource take: none each, up or down.

    python benchmarks/requests_coscine_s3.py                # 10,000 files, some minutes
    python benchmarks/requests_coscine_s3.py --files 1000
    python benchmarks/requests_coscine_s3.py --smoke        # some seconds: only that it works

The storage is moto's S3 server in this process, in Python and threaded: its time is what most of
the time is, so the CPU seconds of penstock's own process are the ones to look at.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
from anyio.from_thread import start_blocking_portal
from harness import KIB, MIB, Ran, World, make_files, print_table
from moto.server import ThreadedMotoServer

from penstock.simulators import Coscine, CoscineSettings, S3Place

BUCKET = "benchmark"


class Resource(World):
    """An S3-backed resource, and a home for its clients."""

    def __init__(self, sim: Coscine, home: Path) -> None:
        self.coscine = sim
        self.home = home
        self.environ = self.kept(home) | {
            "PENSTOCK_COSCINE_ENDPOINT": sim.endpoint,
            "PENSTOCK_COSCINE_TOKEN": sim.token,
        }
        resource = sim.add_resource("in-s3", general_type="rdss3", reserved=1 << 50)
        sim.at(resource).bucket = BUCKET
        self.remote = f"coscine:{sim.project}/{resource}"

    @property
    def requests(self) -> int:
        """API requests that counted, so far."""
        return sum(each.counted for each in self.coscine.log)


@contextlib.contextmanager
def resource() -> Iterator[Resource]:
    """The resource; everything goes at the end."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    names = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **names)
    client.create_bucket(Bucket=BUCKET)
    client.close()
    settings = CoscineSettings(s3=S3Place(endpoint=endpoint, bucket=BUCKET))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as home,
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(Coscine(settings)) as sim,
        ):
            yield Resource(sim, Path(home))
    finally:
        server.stop()


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
