"""Runs the benchmarks and writes what they print to RESULTS.md beside this file.

    python benchmarks/run_all.py                    # all, at sizes that take some 12 minutes
    python benchmarks/run_all.py --only link        # one, the others' results left as they are
    python benchmarks/run_all.py --list

A machine that does something else meanwhile spoils wall clocks, and CPU seconds a little: the load
is noted before and after each. One that fails is told of in its place, and the rest goes on.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"


@dataclass(frozen=True)
class Benchmark:
    """A script, how it is asked, and what it answers."""

    question: str
    script: str
    arguments: tuple[str, ...] = ()


ALL = {
    "downloads": Benchmark(
        "Downloads by plain URL, large and small, verified", "downloads.py", ("--rounds", "3")
    ),
    "uploads": Benchmark(
        "Large files up, MD5 by part, nginx taking them", "uploads.py", ("--rounds", "3")
    ),
    "link": Benchmark("Over a long thin line, down and up", "link.py", ("--rounds", "1")),
    "s3": Benchmark("To and from an S3 server", "s3.py", ("--rounds", "1")),
    "sevenbridges": Benchmark(
        "Seven Bridges, quota wide open: requests, time and memory beside the official client",
        "requests_seven_bridges.py",
        ("--rounds", "2"),
    ),
    "quotas": Benchmark(
        "Requests and hours of the platforms' own quotas beside the official clients",
        "quota_hours.py",
    ),
    "datameta": Benchmark("DataMeta beside the official client", "datameta.py"),
    "start": Benchmark("How long the command takes to begin", "start.py"),
    "growth": Benchmark(
        "How time and memory grow with files and sizes",
        "growth.py",
        ("--up-to", "10000", "--up-to-size", "256MiB"),
    ),
}


def run(name: str, benchmark: Benchmark, *, smoke: bool, limit_s: float) -> str:
    """The section of one benchmark."""
    asked = ("--smoke",) if smoke else benchmark.arguments
    began, load = time.perf_counter(), os.getloadavg()[0]
    print(f"{name}: {benchmark.script} {' '.join(asked)}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / benchmark.script), *asked],
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        text, fault = done.stdout.strip(), done.stderr.strip().splitlines()
        failed = f"failed with {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        text, fault, failed = "", [], f"was stopped after {limit_s:.0f} s"
    absent = sorted({line for line in fault if "left out" in line})
    lines = [f"## {name}", "", f"{benchmark.question}: `{benchmark.script} {' '.join(asked)}`", ""]
    lines += [text, ""] if text else []
    lines += [f"- {line}" for line in absent]
    if failed:
        lines.append(f"- It {failed}{': ' + fault[-1] if fault else ''}.")
    at = datetime.now(UTC)
    lines.append(
        f"- {at:%Y-%m-%d %H:%M} UTC, {time.perf_counter() - began:.0f} s; load {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after."
    )
    return "\n".join(lines) + "\n"


def sections(path: Path) -> dict[str, str]:
    """The sections that a file of results has, by name."""
    if not path.exists():
        return {}
    _, *found = re.split(r"^(?=## )", path.read_text(), flags=re.MULTILINE)
    return {text.split("\n", 1)[0].removeprefix("## "): text for text in found}


def write(path: Path, found: dict[str, str]) -> None:
    """The results, in the order of `ALL`."""
    head = (
        "# Results\n\nWritten by `run_all.py`; what is measured, and how, is told in README.md "
        f"beside this file.\n\nMachine: {os.cpu_count()} CPUs, {platform.system()}, "
        f"Python {platform.python_version()}. Below 1, penstock needs less."
        "\n\n"
    )
    names = [name for name in ALL if name in found]
    path.write_text(head + "\n".join(found[name].rstrip() + "\n" for name in names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(ALL), help="repeatable")
    parser.add_argument("--list", action="store_true", help="names and questions")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: only that they work")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each")
    given = parser.parse_args()
    if given.list:
        for name, benchmark in ALL.items():
            print(f"{name:14} {benchmark.question}")
        return
    found = sections(given.results)
    for name in given.only or ALL:
        found[name] = run(name, ALL[name], smoke=given.smoke, limit_s=given.limit)
        write(given.results, found)
    print(given.results.read_text())


if __name__ == "__main__":
    main()
