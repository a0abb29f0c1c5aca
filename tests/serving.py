"""A platform on loopback in a thread, and `penstock` as a process of its own with its own home."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from penstock.simulators import SevenBridges, SevenBridgesSettings

SOURCES = Path(__file__).parents[2] / "src"


class Served:
    """A simulator whose event loop runs in a thread until it is closed."""

    def __init__(self, settings: SevenBridgesSettings) -> None:
        self.sim = SevenBridges(settings)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        async with self.sim:
            self._ready.set()
            await self._over.wait()

    def requests(self) -> int:
        return sum(exchange.host == "api" for exchange in self.sim.log)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()


@dataclass
class Shell:
    """Runs `penstock` in a folder of its own, for a profile of the simulator's."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "penstock", *map(str, args)]

    def start(self, *args: str | Path, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*args),
            cwd=self.folder,
            env={**self.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """Nothing that a test started outlives it, however it ended."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                stream.close()

    def run(self, *args: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*args, **more)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line.replace("PENSTOCK", self._penstock())],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _penstock(self) -> str:
        return f"{sys.executable} -m penstock"

    def files(self, number: int, size: int = 100, folder: str = "data") -> Path:
        root = self.folder / folder
        root.mkdir(exist_ok=True)
        for index in range(number):
            (root / f"file-{index:03}").write_bytes(os.urandom(size))
        return root

    def state(self) -> bytes:
        """Everything in the state folder, as one text."""
        kept = (self.folder / "state").rglob("*")
        return b"".join(path.read_bytes() for path in kept if path.is_file())


def at(served: Served, shell: Shell) -> Shell:
    """The shell, its profile `cavatica` being the served platform."""
    quota = served.sim.quota
    environ = {
        **shell.environ,
        "PENSTOCK_CAVATICA_ENDPOINT": served.sim.endpoint,
        "PENSTOCK_CAVATICA_TOKEN": served.sim.token,
        "PENSTOCK_CAVATICA_QUOTA": f"{quota.limit}/{quota.window_s:g}s",
    }
    return Shell(shell.folder, environ, shell.started)
