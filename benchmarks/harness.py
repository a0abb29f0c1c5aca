"""What the benchmarks share: a simulator in this process, clients as children that are measured.

A client runs in a process of its own, so that its time and memory are not mixed with the
simulator's; requests are counted where they arrive.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal

from penstock.simulators import Coscine, CoscineSettings, SevenBridges, SevenBridgesSettings

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
WIDE_OPEN = 100_000_000
_LOOK_S = 0.005


@dataclass(frozen=True)
class Ran:
    """How a client process ended: seconds of wall clock and of CPU, most resident bytes."""

    code: int
    killed: bool
    wall_s: float
    cpu_s: float
    peak: int
    output: str

    @property
    def summary(self) -> dict[str, Any]:
        return dict(json.loads(self.output))


class World:
    """A simulator, and a home of its own for its clients."""

    def __init__(self, sim: SevenBridges | Coscine, home: Path, quota: str) -> None:
        self.sim: Any = sim
        self.home = home
        profile = "COSCINE" if isinstance(sim, Coscine) else "CAVATICA"
        self.environ = self.kept(home) | {
            f"PENSTOCK_{profile}_ENDPOINT": sim.endpoint,
            f"PENSTOCK_{profile}_TOKEN": sim.token,
            f"PENSTOCK_{profile}_QUOTA": quota,
        }

    @staticmethod
    def kept(home: Path) -> dict[str, str]:
        """The environment of clients, without anything of the user's own.

        Bytecode is kept, as of any program that is installed: else each start compiles all sources.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PENSTOCK_", "SB_", "XDG_"))
            and name != "PYTHONDONTWRITEBYTECODE"
        }
        return kept | {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    @property
    def requests(self) -> int:
        """API requests accepted so far."""
        return int(self.sim.quota.accepted)

    def body_bytes(self) -> tuple[int, int]:
        """File bytes the storage has received, and sent, so far."""
        stored = [each for each in list(self.sim.log) if each.host == "storage"]
        received = sum(each.bytes_in for each in stored if each.method == "PUT")
        return received, sum(each.bytes_out for each in stored if each.method == "GET")

    def penstock(self, *arguments: str | Path, kill_after_s: float | None = None) -> Ran:
        """`penstock copy` with these arguments, killed after a while if so wished."""
        command = ["-m", "penstock", "copy", "--json", "--progress", "none"]
        return self.python([*command, *map(str, arguments)], kill_after_s=kill_after_s)

    def python(self, arguments: list[str], *, kill_after_s: float | None = None) -> Ran:
        """Python with these arguments. Raises `RuntimeError` where it fails unkilled."""
        output = self.home / "output"
        began = time.perf_counter()
        killed, peak = False, 0
        with output.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *arguments], env=self.environ, stdin=subprocess.DEVNULL, stdout=out
            )
            while True:
                peak = max(peak, resident(process.pid))
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if kill_after_s is not None and time.perf_counter() - began > kill_after_s:
                    process.kill()
                    killed = True
                    kill_after_s = None
                time.sleep(_LOOK_S)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - began
        killed = killed and process.returncode < 0
        text = output.read_text()
        if process.returncode != 0 and not killed:
            raise RuntimeError(f"{arguments} ended with {process.returncode}: {text}")
        cpu_s = usage.ru_utime + usage.ru_stime
        return Ran(process.returncode, killed, wall_s, cpu_s, peak, text)


def resident(pid: int) -> int:
    """The most a process had resident so far (VmHWM); 0 where the system does not tell.

    Not `ru_maxrss`: that begins with the memory of the process it was forked from.
    """
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KIB
    except OSError:
        pass
    return 0


@contextlib.contextmanager
def world(quota: tuple[int, float] = (WIDE_OPEN, 300.0), **settings: Any) -> Iterator[World]:  # noqa: ANN401
    """A simulator with this quota and these settings; everything goes at the end."""
    limit, window_s = quota
    chosen = SevenBridgesSettings(quota=limit, window_s=window_s, malformed_links=False, **settings)
    with (
        tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as home,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(SevenBridges(chosen)) as sim,
    ):
        yield World(sim, Path(home), f"{limit}/{window_s:g}s")


@contextlib.contextmanager
def coscine_world(quota: tuple[int, float] = (WIDE_OPEN, 60.0), **settings: Any) -> Iterator[World]:  # noqa: ANN401
    """A simulated Coscine with this quota and these settings; everything goes at the end."""
    limit, window_s = quota
    chosen = CoscineSettings(quota=limit, window_s=window_s, **settings)
    with (
        tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as home,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Coscine(chosen)) as sim,
    ):
        yield World(sim, Path(home), f"{limit}/{window_s:g}s")


def make_files(folder: Path, count: int, size: int) -> Path:
    """So many files of that size below a folder, 1,000 at most in one."""
    for number in range(count):
        path = folder / (f"{number // 1000:03}" if count > 1000 else "") / f"file-{number:06}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = f"{number:016}".encode()[:size]
        path.write_bytes(head + os.urandom(size - len(head)))
    return folder


def print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A Markdown table, its columns aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    for row in (head, tuple("-" * width for width in widths), *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"| {' | '.join(cells)} |", flush=True)
