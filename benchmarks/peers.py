"""What benchmarks against other clients share: turns, what each took, and ratios round by round.

Every client is a process of its own, started anew each round, the order turned each round; its
wall clock, CPU (user and system) and peak memory are the kernel's (where a shell runs two, the
memory is the shell's). Ratios are penstock's over the peer's of the same round, their median told.

Programs are found on PATH; those from PyPI beside the interpreter, and in the folders that
PENSTOCK_PEERS names, as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness import MIB, print_table, resident

# Where files lie that no disk should slow down, in folders of our own; None where there is no such.
MEMORY = next((p for p in (Path("/dev/shm"),) if os.access(p, os.W_OK)), None)  # noqa: S108
W = TypeVar("W")

_LOOK_S = 0.005
HEAD = ("client", "wall s", "CPU s", "peak MiB", "penstock's wall ÷", "penstock's CPU ÷")


@dataclass(frozen=True)
class Took:
    wall_s: float
    cpu_s: float
    peak: int


@dataclass(frozen=True)
class Client:
    """How one client is asked: its command, and what it needs of the environment."""

    command: list[str]
    environ: Mapping[str, str]

    def __init__(self, *command: str, **environ: str) -> None:
        object.__setattr__(self, "command", list(command))
        object.__setattr__(self, "environ", environ)


def program(name: str) -> str | None:
    """Where a program is; None, and said, where it is not installed."""
    beside = os.pathsep.join(
        [os.environ.get("PENSTOCK_PEERS", ""), str(Path(sys.executable).parent)]
    )
    found = (
        shutil.which(name) or shutil.which(name, path=beside) or shutil.which(f"/usr/sbin/{name}")
    )
    if found is None:
        print(f"{name} is not installed, left out", file=sys.stderr)
    return found


def python_with(module: str) -> str | None:
    """A Python that has a module, in the folders that PENSTOCK_PEERS names; None, said, if none."""
    for folder in os.environ.get("PENSTOCK_PEERS", "").split(os.pathsep):
        found = shutil.which("python", path=folder) if folder else None
        if found and not subprocess.run([found, "-c", f"import {module}"], check=False).returncode:
            return found
    print(f"{module} is not installed, left out", file=sys.stderr)
    return None


def penstock(*arguments: str, **environ: str) -> Client:
    """`penstock copy` with these arguments."""
    command = ("-m", "penstock", "copy", "--json", "--progress", "none")
    return Client(sys.executable, *command, *arguments, **environ)


def environment(home: Path) -> dict[str, str]:
    """The environment of clients, without anything of the user's own.

    Python keeps what it compiled of its modules, as of any program that is installed.
    """
    other = ("PENSTOCK_", "XDG_", "PYTHON", "AWS_", "RCLONE_", "SSL_CERT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(other)}
    if path := os.environ.get("PYTHONPATH"):
        kept["PYTHONPATH"] = path
    return kept | {
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def run(client: Client, folder: Path, home: Path) -> tuple[Took, str]:
    """What a client took, and what it printed. Raises `RuntimeError` where it fails."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    output = home.parent / "output"
    environ = environment(home) | dict(client.environ)
    began = time.perf_counter()
    with output.open("wb") as out:
        process = subprocess.Popen(client.command, cwd=folder, env=environ, stdout=out, stderr=out)
        peak = 0
        while True:
            peak = max(peak, resident(process.pid))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(_LOOK_S)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    text = output.read_text(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{client.command} ended with {process.returncode}: {text[-2000:]}")
    return Took(took, usage.ru_utime + usage.ru_stime, peak), text


def in_turns(
    clients: Mapping[str, Client], rounds: int, one: Callable[[str, Client], Took]
) -> dict[str, list[Took]]:
    """What each took in each round, after a first run that compiles Python's modules.

    A single round only shows that all works, and has none before it.
    """
    took: dict[str, list[Took]] = {name: [] for name in clients}
    for name, client in clients.items():
        if rounds > 1 and client.command[0] == sys.executable:
            one(name, client)
    order = list(clients)
    for _ in range(rounds):
        for name in order:
            took[name].append(one(name, clients[name]))
        order = order[1:] + order[:1]
    return took


def table(title: str, took: Mapping[str, list[Took]]) -> None:
    """The table of a workload; the first client is penstock."""
    ours, *_ = took.values()
    rows: list[tuple[str, ...]] = []
    for name, runs in took.items():
        wall, cpu = [each.wall_s for each in runs], [each.cpu_s for each in runs]
        ratios = ("", "")
        if runs is not ours:
            ratios = (
                _ratio([each.wall_s for each in ours], wall),
                _ratio([each.cpu_s for each in ours], cpu),
            )
        rows.append(
            (
                name,
                f"{statistics.median(wall):.2f} [{min(wall):.2f}-{max(wall):.2f}]",
                f"{statistics.median(cpu):.2f}",
                f"{max(each.peak for each in runs) / MIB:.0f}",
                *ratios,
            )
        )
    print(f"\n{title}, rounds: {len(ours)}\n")
    print_table(HEAD, rows)


def _ratio(ours: list[float], theirs: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}"


_TAKING = (
    " client_max_body_size 0; location / { dav_methods PUT MKCOL; create_full_put_path on;"
    " default_type application/xml; if ($request_method = PROPFIND) { return 207"
    ' \'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:"><D:response><D:href>$uri</D:href>'
    "<D:propstat><D:prop><D:getcontentlength>SIZE</D:getcontentlength><D:resourcetype/></D:prop>"
    "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>'; } }"
)


@contextlib.contextmanager
def nginx(
    folder: Path,
    port: int,
    *,
    tls: bool = False,
    takes: bool = False,
    root: str = "source",
    dav: int | None = None,
) -> Iterator[None]:
    """nginx serving `folder`/`root`, one worker, nothing logged; with TLS by `folder`/cert.pem.

    `takes`: files may be PUT there, too. `dav`: and each, asked by PROPFIND, is said to have so
    many bytes, which rclone asks after each file and nginx has no answer of its own to.
    """
    # As root, nginx would serve as somebody who may not look into a temporary folder.
    user = "user root; " if os.getuid() == 0 else ""
    certified = (
        f" ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;" if tls else ""
    )
    taking = " dav_methods PUT; create_full_put_path on; client_max_body_size 0;" if takes else ""
    taking = _TAKING.replace("SIZE", str(dav)) if dav is not None else taking
    secure = " ssl" if tls else ""
    (folder / "nginx.conf").write_text(
        f"{user}pid {folder}/nginx.pid; daemon off; worker_processes 1; error_log stderr crit;"
        "events { worker_connections 1024; }"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;"
        f" client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;"
        f" fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;"
        f" scgi_temp_path {folder}/t5;{certified}"
        f" server {{ listen 127.0.0.1:{port}{secure}; root {folder}/{root};{taking} }} }}"
    )
    found = program("nginx")
    assert found is not None
    process = subprocess.Popen([found, "-p", str(folder), "-c", f"{folder}/nginx.conf"])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def certify(folder: Path) -> bool:
    """Whether `folder` has a certificate for 127.0.0.1 now."""
    openssl = program("openssl")
    if openssl is None:
        return False
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = (openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names)
    files = ("-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem")
    subprocess.run([*command, *files], check=True, capture_output=True)
    return True


def each_workload(
    doc: str | None,
    full: Mapping[str, W],
    smoke: Mapping[str, W],
    measure: Callable[[W, int, int, Path | None], None],
    *,
    port: int,
    without_nginx: str,
) -> None:
    """What the command line asks for, measured: workload, port, rounds, and where to work."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("workloads", nargs="*", help=f"some of: {' '.join(full)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; default: in memory")
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument("--smoke", action="store_true", help="all of it, tiny")
    given = parser.parse_args()
    if program("nginx") is None:
        print(without_nginx)
        return
    works = smoke if given.smoke else {name: full[name] for name in given.workloads or full}
    for work in works.values():
        measure(work, given.port, 1 if given.smoke else given.rounds, given.folder)
