"""Upload a folder and read the report: what became of each file, what proved it, what it cost.

Usage:
    python examples/upload_folder.py                             # a local stand-in, no account
    python examples/upload_folder.py FOLDER cavatica:OWNER/PROJECT/FOLDER
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import penstock
from penstock.simulators import SevenBridges


async def upload(folder: str, destination: str, environ: Mapping[str, str]) -> int:
    """Copy, print every line of the report and the sum; the exit code."""
    report = await penstock.copy(folder, destination, checksum=["sha256"], environ=environ)
    for line in report.lines():
        why = line.verified_by or line.reason or (line.error or {}).get("message", "")
        print(f"{line.status:10} {line.size or 0:>9} B  {line.destination}  ({why})")
    summary = report.summary
    print(f"{summary.verified} verified, {summary.skipped} skipped, {summary.failed} failed")
    print(f"API requests: {sum(summary.api_requests.values())}")
    return report.exit_code


def make_results(folder: Path) -> None:
    """Five small files, each in a folder of its own."""
    for number in range(1, 6):
        path = folder / f"sample-{number}" / "counts.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(f"gene\tcount\nTP53\t{number}\n")


async def try_it() -> int:
    """The same against a simulator, in a folder of its own."""
    with tempfile.TemporaryDirectory() as home:
        async with SevenBridges() as platform:
            environ = {
                "HOME": home,
                "XDG_STATE_HOME": f"{home}/state",
                "PENSTOCK_CAVATICA_ENDPOINT": platform.endpoint,
                "PENSTOCK_CAVATICA_TOKEN": platform.token,
            }
            make_results(Path(home, "results"))
            remote = f"cavatica:{platform.project}/results"
            return await upload(f"{home}/results", remote, environ)


def main() -> int:
    """Two arguments: a real copy, with the profile of your environment; none: a try."""
    if len(sys.argv) == 1:
        return asyncio.run(try_it())
    folder, destination = sys.argv[1:]
    return asyncio.run(upload(folder, destination, os.environ))


if __name__ == "__main__":
    sys.exit(main())
