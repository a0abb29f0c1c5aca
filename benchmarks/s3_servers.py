"""A real S3 server, moto's, in a process of its own, with a simulated Coscine before it.

It is in Python and takes some 3 ms for a request and 15 s for a gibibyte, so that what a client
waits for is mostly the server: it is told beside what the client took, as the share of its wall
clock in which the server computed. s3rver (npm) is no quicker with requests and answers a range of
one byte with the whole object; minio, garage and rclone's own are not to be had from PyPI or
Debian.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from anyio.from_thread import start_blocking_portal
from harness import World

from penstock.simulators import Coscine, CoscineSettings, S3Place

BUCKET = "benchmark"
REGION = "us-east-1"
KEY = "benchmark"
_READY_S = 30.0


@dataclass(frozen=True)
class Server:
    """Where it is asked, and its process."""

    endpoint: str
    pid: int

    def cpu_s(self) -> float:
        """Seconds that it has computed so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Resource(World):
    """An S3-backed resource of a simulated Coscine, and a home for its clients."""

    def __init__(self, sim: Coscine, home: Path, server: Server) -> None:
        self.coscine = sim
        self.server = server
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
def server() -> Iterator[Server]:
    """The server, empty but for its bucket."""
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        _until_ready(process, port)
        there = Server(f"http://127.0.0.1:{port}", process.pid)
        _client(there.endpoint).create_bucket(Bucket=BUCKET)
        yield there
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def resource(*, keep: Path | None = None) -> Iterator[Resource]:
    """The resource, its home below `keep`; everything goes at the end."""
    with server() as there:
        place = S3Place(
            endpoint=there.endpoint,
            bucket=BUCKET,
            access_key_read=KEY,
            secret_key_read=KEY,
            access_key_write=KEY,
            secret_key_write=KEY,
            region=REGION,
        )
        with (
            tempfile.TemporaryDirectory(prefix="penstock-benchmark-", dir=keep) as home,
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(Coscine(CoscineSettings(s3=place))) as sim,
        ):
            yield Resource(sim, Path(home), there)


def _client(endpoint: str) -> Any:  # noqa: ANN401 - boto3's
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=KEY,
        region_name=REGION,
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    until_s = time.monotonic() + _READY_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        if process.poll() is not None or time.monotonic() > until_s:
            raise RuntimeError("the S3 server did not start")
        time.sleep(0.05)
