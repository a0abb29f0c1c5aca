"""Uploads of large files, MD5 by part, penstock beside rclone and curl: nginx takes them.

    python benchmarks/uploads.py                    # plain and over TLS, 5 rounds: some minutes
    python benchmarks/uploads.py plain --rounds 3   # some of: plain tls
    python benchmarks/uploads.py --smoke            # tiny: some seconds

All send to one nginx by PUT (`dav_methods`), so that what takes the bytes costs no client anything.
penstock knows no WebDAV: a simulated Seven Bridges platform, in the benchmark's own process, hands
out URLs that name that nginx in place of its storage, and takes its word that the parts are there.
So penstock asks three API requests a file beside (the peers ask nothing), digests each part, and
keeps its ledger. nginx states no ETag, so that nothing proves the files (`unverified`); the peers
digest nothing. What arrived is compared with the source in every round. Files lie in memory
(/dev/shm) where there is such a place, unless `--folder` names another.
"""

from __future__ import annotations

import filecmp
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import KIB, MIB, World, make_files, world
from peers import (
    MEMORY,
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

from penstock.simulators import Zeros
from penstock.simulators.presign import Lease
from penstock.simulators.storage import Multipart, Part

PROJECT = "demo/penstock"
# What nginx answers to a PUT: made, and replaced.
_TAKEN = (201, 204)


@dataclass(frozen=True)
class Workload:
    title: str
    count: int
    size: int
    wide: int
    tls: bool = False


FULL = {
    "plain": Workload("32 x 64 MiB up", 32, 64 * MIB, 8),
    "tls": Workload("32 x 64 MiB up over TLS", 32, 64 * MIB, 8, tls=True),
}
SMOKE = {
    "plain": Workload("3 x 1 MiB up", 3, MIB, 2),
    "tls": Workload("3 x 64 KiB up over TLS", 3, 64 * KIB, 2, tls=True),
}


@dataclass
class Stage:
    """Files to send, and who takes them."""

    folder: Path
    port: int
    work: Workload
    place: World

    @property
    def base(self) -> str:
        return f"http{'s' if self.work.tls else ''}://127.0.0.1:{self.port}"

    def stand_in(self) -> None:
        """Parts go to nginx from now on, one for a file, and count as there."""

        def lease(upload: Multipart, number: int) -> Lease:
            upload.parts[number] = Part(Zeros(self.work.size), None)
            where = f"{self.base}/{upload.id}-{number}?X-Amz-Signature=simulated"
            return Lease(where, int(self.place.sim.storage.now()) + 3600)

        self.place.sim.add_project(PROJECT)
        self.place.sim.storage.lease_part = lease

    def clients(self) -> dict[str, Client]:
        source, wide = f"{self.folder}/source", str(self.work.wide)
        ca = f"{self.folder}/cert.pem" if self.work.tls else ""
        own = {k: v for k, v in self.place.environ.items() if k.startswith("PENSTOCK_")}
        trusted = {"SSL_CERT_FILE": ca} if ca else {}
        there = {"penstock": penstock(f"{source}/", f"cavatica:{PROJECT}/", **own, **trusted)}
        if found := program("rclone"):
            there["rclone (unverified)"] = Client(
                *(found, "copy", "--config", "", "--webdav-url", self.base, source, ":webdav:"),
                *("--transfers", wide, "--no-traverse", "--no-check-dest", "--ignore-checksum"),
                *("--ignore-size", "-q", "--retries", "1"),
                *(["--ca-cert", ca] if ca else []),
            )
        if found := program("curl"):
            lines = [f"-sS {f'--cacert {ca}' if ca else ''} --parallel --parallel-max {wide}"]
            lines += [
                f"-T {path} {self.base}/{path.name} -o /dev/null"
                for path in sorted(Path(source).iterdir())
            ]
            there["curl (unverified)"] = Client("sh", "-c", f"exec {found} {' '.join(lines)}")
        return there

    def one(self, name: str, client: Client) -> Took:
        """What one run took. Raises `RuntimeError` where what is there is not what was sent."""
        taken = self.folder / "taken"
        for path in taken.iterdir():
            path.unlink()
        for sent in self.place.sim.files(PROJECT):
            self.place.sim.remove_file(PROJECT, sent)
        took, text = run(client, self.folder, self.folder / "home")
        if name == "penstock" and json.loads(text)["unverified"] != self.work.count:
            raise RuntimeError(f"not all were sent: {text}")
        source = self.folder / "source"
        here = {_number(path): path for path in source.iterdir()}
        there = {_number(path): path for path in taken.iterdir()}
        if here.keys() != there.keys():
            raise RuntimeError(f"{name}: {len(here)} were sent, {len(there)} are there")
        differ = sum(not filecmp.cmp(here[n], there[n], shallow=False) for n in here)
        if differ:
            raise RuntimeError(f"{name}: {differ} differ")
        return took


def _number(path: Path) -> bytes:
    """What tells a file from its neighbours, whatever it is called: its first bytes."""
    with path.open("rb") as file:
        return file.read(16)


def measure(work: Workload, port: int, rounds: int, folder: Path | None) -> None:
    """One workload, every client in every round, as a table."""
    where = folder or MEMORY
    with (
        tempfile.TemporaryDirectory(prefix="penstock-uploads-", dir=where) as own,
        world(etags=False, success_codes=_TAKEN) as place,
    ):
        stage = Stage(Path(own), port, work, place)
        if work.tls and not certify(stage.folder):
            return
        make_files(stage.folder / "source", work.count, work.size)
        (stage.folder / "taken").mkdir()
        stage.stand_in()
        with nginx(stage.folder, port, tls=work.tls, root="taken", dav=work.size):
            table(work.title, in_turns(stage.clients(), rounds, stage.one))


def main() -> None:
    each_workload(
        __doc__, FULL, SMOKE, measure, port=18_919, without_nginx="nothing to send to, all left out"
    )


if __name__ == "__main__":
    main()
