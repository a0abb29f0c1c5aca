"""Downloads by plain URL from nginx on loopback: penstock beside aria2, curl, rclone and parfive.

    python benchmarks/downloads.py                  # all workloads, 5 rounds: some minutes
    python benchmarks/downloads.py large --rounds 3 # some of: large many tls files small
    python benchmarks/downloads.py --smoke          # tiny: some seconds

What each client wrote is compared with the source in every round. penstock and aria2 hold the bytes
against SHA-256; "curl, then sha256sum" does so afterwards; what is marked "unverified" does not. A
peer that is not installed is left out, and said. The files lie in memory (/dev/shm) where there is
such a place, unless `--folder` names another: penstock flushes each file to the disk before it says
that it is there, which no peer does, and on a disk that is what would be measured.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import KIB, MIB
from peers import (
    Client,
    Took,
    certify,
    each_workload,
    in_turns,
    nginx,
    penstock,
    program,
    run,
    table,
)

_MEMORY = Path("/dev/shm")  # noqa: S108 - a place in memory, in which a folder of our own is made


@dataclass(frozen=True)
class Workload:
    title: str
    count: int
    size: int
    wide: int
    tls: bool = False
    parfive: bool = False


FULL = {
    "large": Workload("1 x 1 GiB", 1, 1024 * MIB, 1),
    "many": Workload("16 x 64 MiB", 16, 64 * MIB, 8, parfive=True),
    "tls": Workload("1 x 1 GiB over TLS", 1, 1024 * MIB, 1, tls=True),
    "files": Workload("2,000 x 256 KiB", 2000, 256 * KIB, 16),
    "small": Workload("10,000 x 4 KiB", 10_000, 4 * KIB, 16),
}
SMOKE = {
    "many": Workload("3 x 2 MiB", 3, 2 * MIB, 2, parfive=True),
    "tls": Workload("1 x 3 MiB over TLS", 1, 3 * MIB, 1, tls=True),
}


@dataclass
class Stage:
    """Files to serve, their lists in each client's form, and a place for what they fetch."""

    folder: Path
    port: int
    work: Workload

    @property
    def base(self) -> str:
        return f"http{'s' if self.work.tls else ''}://127.0.0.1:{self.port}"

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

    def clients(self, streams: int = 1) -> dict[str, Client]:
        """Who is there; aria2 may have so many connections a file."""
        wide, at = str(self.work.wide), self.folder
        ca = f"{at}/cert.pem" if self.work.tls else ""
        trusted = {"SSL_CERT_FILE": ca} if ca else {}
        there = {"penstock": penstock("--manifest", f"{at}/manifest.csv", "./", **trusted)}
        if found := program("aria2c"):
            there["aria2 --checksum"] = Client(
                *(found, "-q", "-i", f"{at}/aria2.txt", "-j", wide, f"-x{streams}", f"-s{streams}"),
                *("--check-integrity=true", "--no-conf", "--file-allocation=falloc"),
                *(["--min-split-size=1M"] if streams > 1 else []),
                *([f"--ca-certificate={ca}"] if ca else []),
            )
        if found := program("curl"):
            trust = f"--cacert {ca}" if ca else ""
            curl = f"{found} -sS {trust} --parallel --parallel-max {wide} -K {at}/curl.txt"
            check = f"sha256sum -c --quiet {at}/SHA256SUMS"
            there["curl, then sha256sum"] = Client("sh", "-c", f"{curl} && {check}")
            there["curl (unverified)"] = Client("sh", "-c", f"exec {curl}")
        if found := program("rclone"):
            there["rclone (unverified)"] = Client(
                *(found, "copy", "--config", "", "--http-url", self.base, ":http:", "."),
                *("--files-from-raw", f"{at}/files.txt", "--no-traverse", "--http-no-head"),
                *("--transfers", wide, "-q"),
                *(["--ca-cert", ca] if ca else []),
            )
        if self.work.parfive and (found := program("parfive")):
            urls = [f"{self.base}/{name}" for name in (at / "files.txt").read_text().split()]
            there["parfive (unverified)"] = Client(
                found, "--max-conn", wide, "--no-progress", "--directory", ".", *urls
            )
        return there

    def one(self, name: str, client: Client) -> Took:
        """What one run took. Raises `RuntimeError` where what it fetched is not what was served."""
        back = self.folder / "back"
        shutil.rmtree(back, ignore_errors=True)
        back.mkdir()
        took, text = run(client, back, self.folder / "home")
        names = (self.folder / "files.txt").read_text().split()
        _, wrong, missing = filecmp.cmpfiles(self.folder / "source", back, names, shallow=False)
        if wrong or missing:
            raise RuntimeError(f"{name}: {len(wrong)} differ, {len(missing)} are missing")
        if name == "penstock" and json.loads(text)["verified"] != self.work.count:
            raise RuntimeError(f"not all were verified: {text}")
        return took


def measure(work: Workload, port: int, rounds: int, folder: Path | None) -> None:
    """One workload, every client in every round, as a table."""
    where = folder or (_MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None)
    with tempfile.TemporaryDirectory(prefix="penstock-downloads-", dir=where) as own:
        stage = Stage(Path(own), port, work)
        if work.tls and not certify(stage.folder):
            return
        stage.prepare()
        with nginx(stage.folder, port, tls=work.tls):
            table(work.title, in_turns(stage.clients(), rounds, stage.one))


def main() -> None:
    each_workload(
        __doc__,
        FULL,
        SMOKE,
        measure,
        port=18_917,
        without_nginx="nothing to fetch from, all left out",
    )


if __name__ == "__main__":
    main()
