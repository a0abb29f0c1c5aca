"""A copy as a child process that can be watched and killed, and the simulator it talks to.

What is counted is what the simulator saw, not what the process said of itself; only waiting and
the states of transfers are taken from its summary.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.core.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from penstock.simulators import SevenBridges

KIB = 1024
# The kill comes so long after its moment: until then an answer is still on its way.
SETTLED_S = 0.1
# A copy that takes longer hangs: the whole demo is meant to end within 25 s.
PATIENCE_S = 90.0
_LOOK_S = 0.01


@dataclass(slots=True)
class Copied:
    """How one `penstock copy` ended. `requests` is the simulator's count, `peak` bytes or None."""

    code: int
    killed: bool
    seconds: float
    requests: int
    body_bytes: int
    peak: int | None
    summary: Mapping[str, object] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """A number of the summary; 0 where there is none, as after a kill."""
        value = self.summary.get(name, 0)
        return value if isinstance(value, int) else 0

    @property
    def waited_s(self) -> float:
        """Seconds it stood still for the quota."""
        value = self.summary.get("waited_for_quota_s", 0.0)
        return float(value) if isinstance(value, int | float) else 0.0


class Stage:
    """A simulator being served, and an own home for the copies that use it."""

    def __init__(self, sim: SevenBridges, home: Path, quota: str) -> None:
        self._sim = sim
        self._home = home
        self._runs = 0
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PENSTOCK_", "SB_", "XDG_"))
        }
        self._environ = kept | {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            # A proxy cannot reach this machine's loopback.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "PENSTOCK_CAVATICA_ENDPOINT": sim.endpoint,
            "PENSTOCK_CAVATICA_TOKEN": sim.token,
            "PENSTOCK_CAVATICA_QUOTA": quota,
        }

    def copy(
        self, source: str, destination: str, *, kill: Callable[[], bool] | None = None
    ) -> Copied:
        """Run `penstock copy`; it is killed as soon as `kill` says so.

        Raises `PenstockError` where it does not end.
        """
        self._runs += 1
        requests, body_bytes = self._sim.quota.accepted, self._body_bytes()
        command = [sys.executable, "-P", "-m", "penstock", "copy", "--json", source, destination]
        began = time.monotonic()
        summary = self._home / f"summary-{self._runs}.json"
        with summary.open("wb") as out, _process(command, self._environ, out.fileno()) as process:
            killed, peak = _watch(process, kill, began + PATIENCE_S)
        if killed and sys.stderr.isatty():
            # Bars hide the cursor, and a killed process cannot show it again.
            sys.stderr.write("\x1b[?25h\n")
            sys.stderr.flush()
        text = summary.read_text(encoding="utf-8").strip()
        return Copied(
            code=process.returncode,
            killed=killed,
            seconds=time.monotonic() - began,
            requests=self._sim.quota.accepted - requests,
            body_bytes=self._body_bytes() - body_bytes,
            peak=peak,
            summary=json.loads(text) if text and not killed else {},
        )

    def mid_upload(self) -> bool:
        """Whether a large file is being sent, and all of its parts but one at most have arrived."""
        return any(
            upload.parts is not None and 1 < upload.parts <= len(upload.multipart.parts) + 1
            for upload in self._sim.open_uploads()
        )

    def _body_bytes(self) -> int:
        return sum(
            each.bytes_in + each.bytes_out for each in list(self._sim.log) if each.host == "storage"
        )


@contextlib.contextmanager
def _process(
    command: list[str], environ: Mapping[str, str], out: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that does not outlive the block."""
    process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=out)  # noqa: S603
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _watch(
    process: subprocess.Popen[bytes], kill: Callable[[], bool] | None, until: float
) -> tuple[bool, int | None]:
    """(killed, peak memory in bytes) once the process has ended."""
    peak, kill_at = None, math.inf
    while process.poll() is None:
        peak = _peak_memory(process.pid) or peak
        if kill is not None and kill_at == math.inf and kill():
            kill_at = time.monotonic() + SETTLED_S
        if time.monotonic() > kill_at:
            process.kill()
            process.wait()
            return True, peak
        if time.monotonic() > until:
            raise PenstockError(f"a copy did not end within {PATIENCE_S:.0f} s")
        time.sleep(_LOOK_S)
    return False, peak


def _peak_memory(pid: int) -> int | None:
    """The most a process had resident so far; None where the system does not tell (not Linux).

    Source: proc_pid_status(5), VmHWM. `getrusage` of children would count this process's memory,
    which a child has until it becomes another program.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * KIB
    except OSError:
        pass
    return None
