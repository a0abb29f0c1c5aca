"""The official client as it was on the legacy endpoints: coscine 0.11.13, beside the newer one.

Two versions of a package cannot be in one environment. This one needs nothing that 0.12.2 does not
need too, so its wheel alone is fetched, once, into the user's cache folder, and put in front.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import platformdirs

VERSION = "0.11.13"


def folder() -> Path | None:
    """Where it is, fetched if need be; nothing where it cannot be fetched."""
    place = Path(platformdirs.user_cache_dir("penstock-tests")) / f"coscine-{VERSION}"
    if (place / "coscine").is_dir():
        return place
    made = place.with_name(f"{place.name}.{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--target", str(made), f"coscine=={VERSION}"]
    try:
        subprocess.run(command, capture_output=True, timeout=60, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    try:
        made.rename(place)
    except OSError:  # another process was faster
        return place if (place / "coscine").is_dir() else made
    return place


async def driven(place: Path, program: str, *args: str) -> str:
    """What a program that drives it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *args,
        env={**os.environ, "PYTHONPATH": str(place)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
