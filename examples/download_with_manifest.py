"""Download what a manifest names, and nothing whose digest is not the one that stands there.

    python examples/download_with_manifest.py                    # a local stand-in, no account
    python examples/download_with_manifest.py MANIFEST cavatica:OWNER/PROJECT/FOLDER TARGET

The manifest is a CSV with the columns `source` (a path below the folder) and `sha256` or `md5`.
"""

import asyncio
import csv
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import penstock
from penstock.simulators import SevenBridges


async def download(manifest: str, source: str, target: str, environ: Mapping[str, str]) -> int:
    """Copy, print each file with what proved it or what was wrong; the exit code."""
    report = await penstock.copy(source, target, manifest=manifest, environ=environ)
    for line in report.lines():
        why = line.error["message"] if line.error else f"proved by {line.verified_by}"
        print(f"{line.status:10} {line.source}: {why}")
    return report.exit_code


def fill(platform: SevenBridges, manifest: str) -> None:
    """Three files on the platform, and their digests in a manifest: one is wrong."""
    rows = [("source", "sha256")]
    for name in ("a.vcf", "b.vcf", "c.vcf"):
        content = f"##fileformat=VCFv4.3\n#{name}\n".encode()
        rows.append((name, hashlib.sha256(content).hexdigest()))
        if name == "b.vcf":
            content += b"a line that nobody signed\n"
        platform.add_file(platform.project, f"calls/{name}", content)
    with Path(manifest).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def names_in(folder: str) -> list[str]:
    """What is in a folder, sorted."""
    return sorted(path.name for path in Path(folder).iterdir())


async def try_it() -> int:
    """The same against a simulator, where one file is not what the manifest says."""
    with tempfile.TemporaryDirectory() as home:
        async with SevenBridges() as platform:
            environ = {
                "HOME": home,
                "XDG_STATE_HOME": f"{home}/state",
                "PENSTOCK_CAVATICA_ENDPOINT": platform.endpoint,
                "PENSTOCK_CAVATICA_TOKEN": platform.token,
            }
            fill(platform, f"{home}/wanted.csv")
            source, target = f"cavatica:{platform.project}/calls", f"{home}/here"
            code = await download(f"{home}/wanted.csv", source, target, environ)
            print(f"in the folder: {', '.join(names_in(target))}")
            return code


def main() -> int:
    """Three arguments: a real copy, with the profile of your environment; none: a try."""
    if len(sys.argv) == 1:
        # One file is wrong on purpose: exit code 1 is what is to be shown.
        return 0 if asyncio.run(try_it()) == 1 else 1
    manifest, source, target = sys.argv[1:]
    return asyncio.run(download(manifest, source, target, os.environ))


if __name__ == "__main__":
    sys.exit(main())
