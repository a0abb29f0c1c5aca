"""Downloads by plain URL from nginx on loopback: penstock beside aria2, curl and rclone.

    python benchmarks/downloads.py                  # all workloads, 5 rounds: some minutes
    python benchmarks/downloads.py large --rounds 3 # one of: large many files small
    python benchmarks/downloads.py --smoke          # tiny: some seconds

Every client is a process of its own, started anew each round, the order turned each round; its
wall clock, CPU (user and system) and peak memory are the kernel's (where a shell runs two, the
memory is the shell's). What it wrote is compared with the source in every round. penstock and aria2
hold the bytes against SHA-256; "curl, then sha256sum" does so afterwards; what is marked
"unverified" does not. Ratios are penstock's over the peer's, taken round by round, their median
told. A peer that is not installed is left out, and said.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import KIB, MIB, print_table, resident

_LOOK_S = 0.005


@dataclass(frozen=True)
class Workload:
    title: str
    count: int
    size: int
    wide: int


FULL = {
    "large": Workload("1 x 1 GiB", 1, 1024 * MIB, 1),
    "many": Workload("16 x 64 MiB", 16, 64 * MIB, 8),
    "files": Workload("2,000 x 256 KiB", 2000, 256 * KIB, 16),
    "small": Workload("10,000 x 4 KiB", 10_000, 4 * KIB, 16),
}
SMOKE = {"many": Workload("3 x 2 MiB", 3, 2 * MIB, 2)}


@dataclass(frozen=True)
class Took:
    wall_s: float
    cpu_s: float
    peak: int


Client = Callable[[Path], list[str]]


@dataclass
class Stage:
    """Files to serve, their lists in each client's form, and a place for what they fetch."""

    folder: Path
    port: int
    work: Workload

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        source = self.folder / "source"
        source.mkdir(parents=True)
        block = os.urandom(MIB)
        manifest, aria, curl, names = ["source,sha256"], [], [], []
        for number in range(self.work.count):
            name = f"file-{number:06}.bin"
            body = f"{number:016}".encode() + block
            digest = hashlib.sha256()
            with (source / name).open("wb") as file:
                for first in range(0, self.work.size, MIB):
                    some = body[: min(MIB, self.work.size - first)]
                    file.write(some)
                    digest.update(some)
            url = f"{self.base}/{name}"
            manifest.append(f"{url},{digest.hexdigest()}")
            aria += [url, f"  out={name}", f"  checksum=sha-256={digest.hexdigest()}"]
            curl += [f'url = "{url}"', f'output = "{name}"']
            names.append(f"{digest.hexdigest()}  {name}")
        for name, lines in (
            ("manifest.csv", manifest),
            ("aria2.txt", aria),
            ("curl.txt", curl),
            ("SHA256SUMS", names),
            ("files.txt", [line.split("  ")[1] for line in names]),
        ):
            (self.folder / name).write_text("\n".join(lines) + "\n")

    def clients(self) -> dict[str, list[str]]:
        wide, at = self.work.wide, self.folder
        curl = f"curl -sS --parallel --parallel-max {wide} -K {at}/curl.txt"
        wanted = {
            "penstock": [
                *(sys.executable, "-m", "penstock", "copy", "--json", "--progress", "none"),
                *("--manifest", f"{at}/manifest.csv", "./"),
            ],
            "aria2 --checksum": [
                *("aria2c", "-q", "-i", f"{at}/aria2.txt", "-j", str(wide), "-x1", "-s1"),
                *("--check-integrity=true", "--no-conf", "--file-allocation=falloc"),
            ],
            "curl, then sha256sum": ["sh", "-c", f"{curl} && sha256sum -c --quiet {at}/SHA256SUMS"],
            "curl (unverified)": ["sh", "-c", f"exec {curl}"],
            "rclone (unverified)": [
                *("rclone", "copy", "--config", "", "--http-url", self.base, ":http:", "."),
                *("--files-from-raw", f"{at}/files.txt", "--no-traverse", "--http-no-head"),
                *("--transfers", str(wide), "-q"),
            ],
        }
        there = {}
        for name, command in wanted.items():
            program = name.split()[0].rstrip(",").replace("aria2", "aria2c")
            if program == "penstock" or shutil.which(program):
                there[name] = command
            else:
                print(f"{name}: {program} is not installed, left out", file=sys.stderr)
        return there

    def run(self, command: list[str]) -> Took:
        back = self.folder / "back"
        shutil.rmtree(back, ignore_errors=True)
        back.mkdir()
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "XDG_"))}
        environ = kept | {"HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        began = time.perf_counter()
        with (self.folder / "output").open("wb") as out:
            process = subprocess.Popen(command, cwd=back, env=environ, stdout=out, stderr=out)
            peak = 0
            while True:
                peak = max(peak, resident(process.pid))
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                time.sleep(_LOOK_S)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        text = (self.folder / "output").read_text(errors="replace")
        if process.returncode:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}: {text[-2000:]}")
        names = (self.folder / "files.txt").read_text().split()
        _, wrong, missing = filecmp.cmpfiles(self.folder / "source", back, names, shallow=False)
        if wrong or missing:
            raise RuntimeError(f"{command[0]}: {len(wrong)} differ, {len(missing)} are missing")
        if "penstock" in command and json.loads(text)["verified"] != self.work.count:
            raise RuntimeError(f"not all were verified: {text}")
        return Took(took, usage.ru_utime + usage.ru_stime, peak)


@contextlib.contextmanager
def nginx(folder: Path, port: int) -> Iterator[None]:
    """nginx serving `folder`/source, one worker, nothing logged."""
    # As root, nginx would serve as somebody who may not look into a temporary folder.
    user = "user root; " if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}pid {folder}/nginx.pid; daemon off; worker_processes 1; error_log stderr crit;"
        "events { worker_connections 1024; }"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;"
        f" client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;"
        f" fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;"
        f" scgi_temp_path {folder}/t5;"
        f" server {{ listen 127.0.0.1:{port}; root {folder}/source; }} }}"
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([program, "-p", str(folder), "-c", f"{folder}/nginx.conf"])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def measure(work: Workload, port: int, rounds: int, folder: Path | None) -> None:
    """One workload, every client in every round, as a table."""
    with tempfile.TemporaryDirectory(prefix="penstock-downloads-", dir=folder) as own:
        stage = Stage(Path(own), port, work)
        stage.prepare()
        clients = stage.clients()
        took: dict[str, list[Took]] = {name: [] for name in clients}
        with nginx(stage.folder, port):
            order = list(clients)
            for _ in range(rounds):
                for name in order:
                    took[name].append(stage.run(clients[name]))
                order = order[1:] + order[:1]
    rows: list[tuple[str, ...]] = []
    for name, runs in took.items():
        wall, cpu = ([getattr(run, field) for run in runs] for field in ("wall_s", "cpu_s"))
        ratios = ("", "")
        if name != "penstock":
            ratios = (
                _ratio([run.wall_s for run in took["penstock"]], wall),
                _ratio([run.cpu_s for run in took["penstock"]], cpu),
            )
        rows.append(
            (
                name,
                f"{statistics.median(wall):.2f} [{min(wall):.2f}-{max(wall):.2f}]",
                f"{statistics.median(cpu):.2f}",
                f"{max(run.peak for run in runs) / MIB:.0f}",
                *ratios,
            )
        )
    head = ("client", "wall s", "CPU s", "peak MiB", "penstock's wall ÷", "penstock's CPU ÷")
    print(f"\n{work.title}, {rounds} rounds\n")
    print_table(head, rows)


def _ratio(ours: list[float], theirs: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help=f"some of: {' '.join(FULL)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; default: the temporary folder")
    parser.add_argument("--port", type=int, default=18_917)
    parser.add_argument("--smoke", action="store_true", help="all of it, tiny")
    given = parser.parse_args()
    if shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
        print("nginx is not installed: nothing to fetch from, all left out")
        return
    works = SMOKE if given.smoke else {name: FULL[name] for name in given.workloads or FULL}
    for work in works.values():
        measure(work, given.port, 1 if given.smoke else given.rounds, given.folder)


if __name__ == "__main__":
    main()
