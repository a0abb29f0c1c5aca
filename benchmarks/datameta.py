"""Requests a file, and wall time beside the official client, on a real DataMeta server.

    python benchmarks/datameta.py                        # some minutes; penstock alone
    python benchmarks/datameta.py --official PYTHON      # and datameta-client, installed for PYTHON
    python benchmarks/datameta.py --smoke

The server is the one the tests start. datameta-client pins old versions of what others use, so it
wants an environment of its own. It is called as its documentation shows: a file after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import KIB, make_files, print_table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from datameta_server import DataMetaServer

_OFFICIAL = """
import sys
from pathlib import Path
from datameta_client import files
for path in sorted(Path(sys.argv[1]).rglob("*.dat")):
    files.stage(str(path), quiet=True)
"""


def penstock(
    server: DataMetaServer, token: str, home: Path, *locations: str
) -> tuple[int, int, float]:
    """Files verified, API requests, and seconds of one copy in a process of its own."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PENSTOCK_DATAMETA_ENDPOINT": server.endpoint,
        "PENSTOCK_DATAMETA_TOKEN": token,
    }
    command = [sys.executable, "-m", "penstock", "copy", "--json", "--progress", "none"]
    began = time.perf_counter()
    ended = subprocess.run(
        [*command, *locations], env=environ, check=True, stdout=subprocess.PIPE, text=True
    )
    told = json.loads(ended.stdout)
    seconds = time.perf_counter() - began
    return told["verified"], told["api_requests"]["datameta"], seconds


def each_way(server: DataMetaServer, home: Path, count: int) -> list[tuple[str, ...]]:
    """Rows: so many files up, and down again, by one user."""
    token = server.fresh_token()
    source = make_files(home / "source", count, KIB)
    rows: list[tuple[str, ...]] = []
    for way, locations in (
        ("up", (f"{source}/", "datameta:")),
        ("up again", (f"{source}/", "datameta:")),
        ("down", ("datameta:", f"{home / 'back'}/")),
    ):
        verified, requests, seconds = penstock(server, token, home, *locations)
        each = f"{requests / count:.3f}"
        rows.append(
            (f"{count} x 1 KiB {way}", str(verified), str(requests), each, f"{seconds:.1f}")
        )
    return rows


def beside(server: DataMetaServer, home: Path, count: int, official: str | None) -> tuple[str, ...]:
    """A row: the same files up by either client, each as a user of its own."""
    source = make_files(home / "larger", count, 64 * KIB)
    _, requests, ours = penstock(server, server.fresh_token(), home, f"{source}/", "datameta:")
    theirs = "-"
    if official is not None:
        began = time.perf_counter()
        # Release 1.0.1 takes no notice of the URL and the token that `stage` is given.
        told = {"DATAMETA_URL": server.root, "DATAMETA_TOKEN": server.fresh_token()}
        command = [official, "-c", _OFFICIAL, str(source)]
        subprocess.run(command, env={**os.environ, **told}, check=True, stdout=subprocess.DEVNULL)
        theirs = f"{time.perf_counter() - began:.1f}"
    name = f"{count} x 64 KiB up"
    return (name, str(count), str(requests), f"{requests / count:.3f}", f"{ours:.1f} / {theirs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--official", metavar="PYTHON", help="one that has datameta-client")
    wanted = parser.parse_args()
    many, larger = (5, 3) if wanted.smoke else (1000, 500)
    with tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as home:
        server = DataMetaServer().start()
        rows: list[tuple[str, ...]] = []
        try:
            rows.append(beside(server, Path(home), larger, wanted.official))
            rows += each_way(server, Path(home), many)
        finally:
            server.stop()
    print_table(("penstock / official", "verified", "requests", "a file", "wall s"), rows)


if __name__ == "__main__":
    main()
