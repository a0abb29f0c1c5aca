"""`penstock` run again and again in processes of its own, forked from one that has imported it.

Starting an interpreter and importing takes longer than moving a small tree, and a test of crashes
starts hundreds. `Forge` starts one process that imports penstock and then forks: each run is a
process by itself, with its own command line, environment, limits and fate. It may be killed by
SIGKILL when the n-th of its moments comes (`penstock.engine.moments`), or after so many seconds;
a log of the moments that came survives it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self


@dataclass
class Order:
    """One run: `kill_at` counts the moments in `kill_on` (all, where empty) from 1."""

    arguments: Sequence[str]
    environ: Mapping[str, str]
    log: str
    kill_at: int | None = None
    kill_on: Sequence[str] = ()
    kill_after_s: float | None = None
    open_files: int | None = None
    file_size: int | None = None
    unprivileged: bool = False
    folder: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a run ended; `code` is None where it was killed. A moment is its name and what of."""

    code: int | None
    out: str
    err: str
    # Each ends with the thread it came in.
    moments: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


class Forge:
    """The process that forks; a context manager. Of one test at a time."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._count = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    async def run(
        self,
        *arguments: str | Path,
        environ: Mapping[str, str],
        **how: Any,  # noqa: ANN401 - the fields of `Order`
    ) -> Ended:
        """One run to its end."""
        return (await self.run_all([(arguments, environ)], **how))[0]

    async def run_all(
        self,
        commands: Sequence[tuple[Sequence[str | Path], Mapping[str, str]]],
        **how: Any,  # noqa: ANN401 - as above
    ) -> list[Ended]:
        """Runs side by side, all to their end. The event loop goes on meanwhile."""
        orders = []
        for arguments, environ in commands:
            self._count += 1
            log = self._home / f".moments-{self._count}"
            orders.append(Order([*map(str, arguments)], dict(environ), str(log), **how))
        codes = await asyncio.to_thread(self._ask, [asdict(order) for order in orders])
        return [_ended(order, code) for order, code in zip(orders, codes, strict=True)]

    def err_so_far(self) -> str:
        """What the run begun last has told on standard error, while it goes on."""
        path = self._home / f".moments-{self._count}.err"
        return path.read_text(errors="replace") if path.exists() else ""

    def _ask(self, orders: list[dict[str, Any]]) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        codes: list[int] = json.loads(self._process.stdout.readline())
        return codes


def _ended(order: Order, code: int) -> Ended:
    texts = []
    for end in (".out", ".err"):
        path = Path(order.log + end)
        texts.append(path.read_text(errors="replace") if path.exists() else "")
        path.unlink(missing_ok=True)
    log = Path(order.log)
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    killed = code == -signal.SIGKILL
    moments = [tuple(json.loads(line)) for line in lines]
    return Ended(None if killed else code, texts[0], texts[1], moments)


# -- in the forked process -------------------------------------------------------------------


def _be(order: Order) -> NoReturn:
    """This process is a run of `penstock` from now on."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, end in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(order.log + end, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
    moments = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    seen = 0

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if not event.startswith("penstock."):
            return
        name = event.removeprefix("penstock.")
        os.write(moments, (json.dumps([name, *args, threading.get_ident()]) + "\n").encode())
        if order.kill_at is not None and (not order.kill_on or name in order.kill_on):
            seen += 1
            if seen == order.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    os.environ.clear()
    os.environ.update(order.environ)
    if order.folder is not None:
        os.chdir(order.folder)
    if order.open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (order.open_files, order.open_files))
    if order.file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.file_size, order.file_size))
    if order.unprivileged:
        _obey_permissions()
    from penstock.cli import main

    try:
        main(list(order.arguments))
    except SystemExit as ended:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:  # noqa: BLE001 - nothing of this process may go on as its parent
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(99)
    os._exit(98)


def _obey_permissions() -> None:
    """Permissions hold for root as well: it may not read and write whatever it likes.

    Source: capabilities(7), capset(2): version 3; CAP_DAC_OVERRIDE is 1, CAP_DAC_READ_SEARCH 2.
    """
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(head, sets) == 0
    sets[0] &= ~0b110
    sets[1] &= ~0b110
    assert libc.capset(head, sets) == 0


def _serve() -> None:
    """Forks as ordered on standard input, a line a batch; tells how each ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import botocore.auth  # noqa: F401 - so that no run has to

    import penstock.api.copying
    import penstock.cli.copying
    import penstock.engine.signing  # noqa: F401

    for line in sys.stdin:
        orders = [Order(**each) for each in json.loads(line)]
        began_s = time.monotonic()
        pids = []
        for order in orders:
            pid = os.fork()
            if not pid:
                _be(order)
            pids.append(pid)
        codes: dict[int, int] = {}
        dying = [
            (order.kill_after_s, pid)
            for order, pid in zip(orders, pids, strict=True)
            if order.kill_after_s is not None
        ]
        for after_s, pid in sorted(dying):
            while time.monotonic() < began_s + after_s:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    codes[pid] = os.waitstatus_to_exitcode(status)
                    break
                time.sleep(0.0005)
            else:
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            if pid not in codes:
                codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(json.dumps([codes[pid] for pid in pids]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
