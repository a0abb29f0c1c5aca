"""`penstock demo`: real files, a real copy, a simulator that enforces its quota. No account needed.

The copies are child processes, `python -m penstock copy`, because one of them is killed: what a
kill costs is only seen where a process really dies. The simulator runs in a thread of this process
and counts; nothing printed here is what penstock says of itself where the simulator can say it.
Everything lives in one temporary folder, the state of penstock included, and goes with it.
"""

from __future__ import annotations

import hashlib
import math
import random
import shlex
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from anyio.from_thread import start_blocking_portal
from rich.console import Console
from rich.table import Table

from penstock.cli.demo_stage import Copied, Stage
from penstock.core.errors import PenstockError
from penstock.core.units import format_duration, format_size
from penstock.core.values import quick_value
from penstock.simulators import Fault, SevenBridges, SevenBridgesSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB = 1024
MIB = 1024 * KIB

# What the platform allows. Source: docs.sevenbridges.com, "API rate limit".
REAL_QUOTA, REAL_WINDOW_S = 1000, 300.0
# What the official client does for a file. Source: sevenbridges-python 2.11.2, `transfer/upload.py`
# (1 to begin; a URL and a report for each part; 1 to complete) and `enums.py` (parts of 32 MiB);
# `models/file.py` (1 for a download's URL, beside listing pages of 100).
OFFICIAL_PART = 32 * MIB
PAGE = 100

# A loopback without these would be a network nobody has: 10 ms to each host, 60 MB/s a connection.
LATENCY_S = 0.01
BANDWIDTH = 60_000_000.0
# One part is slow, so that the large file is half there when the copy is killed.
SLOW_PART_S = 0.8
_FAILED = 1


@quick_value(frozen=True, slots=True)
class Scale:
    """How large a demo is. The quota has the platform's form, with a window of seconds."""

    folders: int
    files_each: int
    large: tuple[int, ...]
    quota: int
    window_s: float


USUAL = Scale(folders=8, files_each=25, large=(136 * MIB,), quota=250, window_s=3.0)
SMALL = Scale(folders=3, files_each=10, large=(72 * MIB,), quota=60, window_s=2.0)


def make_tree(root: Path, scale: Scale) -> dict[str, int]:
    """Sizes by relative path of the files made below `root`: empty, tiny, some MB, multi-part."""
    chance = random.Random(2026)  # noqa: S311 - the same files each time
    sizes: dict[str, int] = {}
    for folder in range(1, scale.folders + 1):
        for number in range(1, scale.files_each + 1):
            kind = number % 10
            if kind == 1:
                size = 0
            elif kind in {2, 3, 4, 5, 6}:
                size = chance.randint(1, 4 * KIB)
            elif kind in {7, 8, 9}:
                size = chance.randint(16 * KIB, 512 * KIB)
            else:
                size = chance.randint(MIB, 3 * MIB)
            sizes[f"sample-{folder:02}/reads-{number:03}.dat"] = size
    for index, size in enumerate(scale.large):
        folder = 1 + (index + 1) * scale.folders // (len(scale.large) + 1)
        sizes[f"sample-{folder:02}/aligned.bam"] = size
    for path, size in sizes.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        block = chance.randbytes(min(size, 8 * MIB))
        with target.open("wb") as file:
            # Each block of a large file begins differently, so that a misplaced part is noticed.
            for offset in range(0, size, 8 * MIB):
                piece = offset.to_bytes(8, "big") + block
                file.write(piece[: min(8 * MIB, size - offset)])
    return sizes


def digests(root: Path) -> dict[str, str]:
    """SHA-256 by relative path of every file below `root`."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    with ThreadPoolExecutor(2) as threads:
        found = threads.map(_sha256, paths)
        return {
            path.relative_to(root).as_posix(): digest
            for path, digest in zip(paths, found, strict=True)
        }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def official_requests(sizes: Mapping[str, int]) -> tuple[int, int]:
    """What the official client would have asked (up, down), folders made and listed as here."""
    folders = len({path.rpartition("/")[0] for path in sizes}) + 1
    up = sum(2 + 2 * max(1, math.ceil(size / OFFICIAL_PART)) for size in sizes.values())
    pages = folders + len(sizes) // PAGE
    return up + folders, len(sizes) + pages


def quota_time_s(requests: int) -> float:
    """The least that many requests take at the real quota: what is free is spent at once."""
    return max(requests - 1, 0) // REAL_QUOTA * REAL_WINDOW_S


@dataclass(slots=True)
class Story:
    """What happened, for the table at the end."""

    sizes: dict[str, int]
    begun: Copied
    resumed: Copied
    down: Copied
    again: Copied
    equal: int
    utilisation: float
    refused: int
    left_open: int

    @property
    def proved(self) -> bool:
        """Whether every file was verified both ways; a resumed run skips what was before."""
        files = len(self.sizes)
        up = self.resumed.count("verified") + self.resumed.count("skipped")
        return (
            up == files
            and self.down.count("verified") == files
            and self.again.count("skipped") == files
            and all(run.code == 0 for run in (self.resumed, self.down, self.again))
        )

    @property
    def sent_again(self) -> int:
        """File bytes the storage received more than once, parts cut short by the kill included."""
        total = sum(self.sizes.values())
        return max(0, self.begun.body_bytes + self.resumed.body_bytes - total)

    @property
    def good(self) -> bool:
        """Whether penstock kept its word."""
        return (
            self.proved
            and self.equal == len(self.sizes)
            and self.refused == 0
            and self.left_open == 0
        )


def perform(scale: Scale, say: Console) -> Story:
    """Everything that happened: files made, sent, interrupted, resumed, fetched and compared."""
    settings = SevenBridgesSettings(
        quota=scale.quota,
        window_s=scale.window_s,
        api_latency_s=LATENCY_S,
        latency_s=LATENCY_S,
        bandwidth=BANDWIDTH,
    )
    with (
        tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(SevenBridges(settings)) as sim,
    ):
        slow = Fault(
            kind="delay", host="storage", method="PUT", path="partNumber=2", seconds=SLOW_PART_S
        )
        sim.faults.add(slow)
        home = Path(folder)
        source, back = home / "data", home / "back"
        sizes = make_tree(source, scale)
        total = format_size(sum(sizes.values()))
        say.print(f"{len(sizes)} files, {total}, the largest {format_size(max(sizes.values()))}.")
        say.print(
            f"A local Seven Bridges platform, which takes {scale.quota} requests in any window of"
            f" {scale.window_s:g} s (the real one: {REAL_QUOTA} in {REAL_WINDOW_S:g} s)."
        )
        stage = Stage(sim, home, f"{scale.quota}/{scale.window_s}s")
        remote = f"cavatica:{sim.project}/data"
        _heading(say, "1. Up, killed in the middle", str(source), remote)
        begun = stage.copy(str(source), remote, kill=stage.mid_upload)
        stored = len(sim.files())
        if begun.killed:
            say.print(f"SIGKILL: {stored} of {len(sizes)} files are there, a large one in part.")
        _heading(say, "2. The same command carries on", str(source), remote)
        resumed = stage.copy(str(source), remote)
        _heading(say, "3. Down", remote, str(back))
        down = stage.copy(remote, str(back))
        windows = list(sim.quota.windows)
        _heading(say, "4. Down again: nothing to do", remote, str(back))
        again = stage.copy(remote, str(back))
        before, after = digests(source), digests(back)
        return Story(
            sizes=sizes,
            begun=begun,
            resumed=resumed,
            down=down,
            again=again,
            equal=sum(after.get(path) == digest for path, digest in before.items())
            - len(after.keys() - before.keys()),
            utilisation=sum(w.accepted for w in windows) / (len(windows) * scale.quota),
            refused=sim.quota.refused,
            left_open=len(sim.open_uploads()),
        )


def _heading(say: Console, title: str, *locations: str) -> None:
    say.print(f"\n[bold]{title}[/bold]")
    say.print(f"$ penstock copy {shlex.join(locations)}", soft_wrap=True, highlight=False)


def tell(story: Story, say: Console, seconds: float) -> None:
    """The story is printed as a table."""
    files = len(story.sizes)
    up = story.begun.requests + story.resumed.requests
    official_up, official_down = official_requests(story.sizes)
    waited = story.resumed.waited_s + story.down.waited_s
    peaks = [run.peak for run in (story.begun, story.resumed, story.down) if run.peak]
    rows = [
        ("equal, by SHA-256", f"{story.equal} of {files} files"),
        ("proved by ETags", "all, both ways" if story.proved else "NOT ALL"),
        ("API requests up", _requests(up, files, official_up)),
        ("API requests down", _requests(story.down.requests, files, official_down)),
        ("with nothing to do", f"{story.again.requests}"),
        ("refused (429)", f"{story.refused}"),
        ("quota used", f"{story.utilisation:.0%} of the windows of steps 1 to 3"),
        ("waited for quota", f"{format_duration(waited)} in steps 2 and 3"),
        ("sent again", _sent_again(story)),
        ("uploads left open", f"{story.left_open}"),
    ]
    if peaks:
        rows.append(("memory, at most", format_size(max(peaks))))
    ours, theirs = 100 * (up + story.down.requests), 100 * (official_up + official_down)
    rows.append(
        (
            "100 times as much",
            (
                f"{format_duration(quota_time_s(ours))} of quota on the real platform"
                f" ({format_duration(quota_time_s(theirs))})"
            ),
        )
    )
    rows.append(("the whole demo", format_duration(seconds)))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    say.print("\nWhat it cost (in brackets: with the official client's requests)")
    say.print(table)


def _requests(count: int, files: int, official: int) -> str:
    return f"{count}, {count / files:.2f} a file ({official}, {official / files:.2f} a file)"


def _sent_again(story: Story) -> str:
    if not story.begun.killed:
        return "the first copy ended before it could be killed"
    total = sum(story.sizes.values())
    return f"{format_size(story.sent_again)} of {format_size(total)}"


@click.command(short_help="Copy a few hundred files through a simulator; no account needed.")
@click.option("--small", is_flag=True, hidden=True, help="Fewer files: for tests.")
def demo(*, small: bool) -> None:
    """Copy a few hundred files up and down through a local simulator; no account needed.

    Makes real files in a temporary folder, sends them, is killed once on the way and carries on,
    fetches them back, compares every byte, prints what it cost, and leaves nothing behind.
    """
    say = Console(highlight=False, emoji=False)
    began = time.monotonic()
    try:
        story = perform(SMALL if small else USUAL, say)
    except OSError as error:
        raise PenstockError(f"the demo cannot go on: {error}") from error
    tell(story, say, time.monotonic() - began)
    if not story.good:
        say.print("\nNot as promised: please report this as a defect of penstock.")
        sys.exit(_FAILED)
