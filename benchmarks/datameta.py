"""Requests a file, and wall time beside the official client, on a real DataMeta server.

    python benchmarks/datameta.py                        # 2 min
    python benchmarks/datameta.py --official PYTHON      # datameta-client is installed for PYTHON
    python benchmarks/datameta.py --smoke

The server is the one the tests start. datameta-client pins old versions of what others use, so it
wants an environment of its own: else the first Python in the folders that PENSTOCK_PEERS names
which has it. It is called as its documentation shows: a file after the other.
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
from peers import python_with

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from datameta_server import DataMetaServer

# Release 1.0.1 takes no notice of the URL and the token that its functions are given: it reads
# DATAMETA_URL and DATAMETA_TOKEN. `download_url` only says where a file is.
_OFFICIAL_UP = """
import json, sys
from pathlib import Path
from datameta_client import files
ids = [
    files.stage(str(path), quiet=True)["id"]["uuid"]
    for path in sorted(Path(sys.argv[1]).rglob("*.dat"))
]
Path(sys.argv[2]).write_text(json.dumps(ids))
"""
_OFFICIAL_DOWN = """
import json, sys
from pathlib import Path
import requests
from datameta_client import files
Path(sys.argv[1]).mkdir()
for id in json.loads(Path(sys.argv[2]).read_text()):
    answer = requests.get(files.download_url(id, quiet=True)["file_url"])
    answer.raise_for_status()
    Path(sys.argv[1], id).write_bytes(answer.content)
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


def each_way(
    server: DataMetaServer, home: Path, count: int, official: str | None
) -> list[tuple[str, ...]]:
    """Rows: so many files up, up again, and down, by a user of each client's own."""
    token, theirs = server.fresh_token(), {"DATAMETA_URL": server.root}
    theirs["DATAMETA_TOKEN"] = server.fresh_token()
    source, ids = make_files(home / "source", count, 64 * KIB), home / "ids.json"
    rows: list[tuple[str, ...]] = []
    for way, locations, script, where in (
        ("up", (f"{source}/", "datameta:"), _OFFICIAL_UP, source),
        ("up again", (f"{source}/", "datameta:"), None, source),
        ("down", ("datameta:", f"{home / 'back'}/"), _OFFICIAL_DOWN, home / "official"),
    ):
        verified, requests, seconds = penstock(server, token, home, *locations)
        official_s = ratio = "-"
        if official is not None and script is not None:
            began = time.perf_counter()
            command = [official, "-c", script, str(where), str(ids)]
            subprocess.run(
                command, env={**os.environ, **theirs}, check=True, stdout=subprocess.DEVNULL
            )
            their_s = time.perf_counter() - began
            official_s, ratio = f"{their_s:.1f}", f"{seconds / their_s:.2f}"
        rows.append(
            (
                f"{count} x 64 KiB {way}",
                str(verified),
                str(requests),
                f"{requests / count:.3f}",
                f"{seconds:.1f} / {official_s}",
                ratio,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--official", metavar="PYTHON", help="one that has datameta-client")
    parser.add_argument("--files", type=int, default=500)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as home:
        server = DataMetaServer().start()
        try:
            official = wanted.official or python_with("datameta_client")
            rows = each_way(server, Path(home), 5 if wanted.smoke else wanted.files, official)
        finally:
            server.stop()
    print_table(("penstock / official", "verified", "requests", "a file", "wall s", "ratio"), rows)


if __name__ == "__main__":
    main()
