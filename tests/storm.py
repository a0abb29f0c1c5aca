"""A run in a storm: a share of all requests meets a fault drawn at random, and a watcher looks on.

In virtual time over real sockets. The watcher is a thread that hashes whatever stands under a final
name, all the while: at no moment may it be another file's bytes, or half of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import penstock
from penstock.core.errors import PenstockError
from penstock.simulators import DataMeta, Fault, SevenBridges, SevenBridgesSettings
from penstock.simulators.coscine import Coscine, CoscineSettings
from virtual import EPOCH, run

ANYWHERE: list[dict[str, Any]] = [
    *({"kind": "status", "status": status} for status in (408, 425, 500, 502, 503, 504)),
    {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
    {"kind": "drop before"},
    {"kind": "drop after"},
]
ANSWERS: list[dict[str, Any]] = [{"kind": "truncate"}, {"kind": "reset"}, {"kind": "stall"}]
TALK: list[dict[str, Any]] = [
    {"kind": "html"},
    {"kind": "malformed json"},
    {"kind": "missing fields"},
]
BYTES_DOWN: list[dict[str, Any]] = [
    {"kind": "flip"},
    {"kind": "overlong"},
    {"kind": "wrong etag"},
    {"kind": "wrong range"},
    {"kind": "ignore range"},
    {"kind": "encoded"},
    {"kind": "html"},
    {"kind": "trickle", "seconds": 30.0},
    {"kind": "status", "status": 403},
]
BYTES_UP: list[dict[str, Any]] = [{"kind": "drop during"}, {"kind": "corrupt upload"}]
# What a body of a platform's own host can meet, where there is no storage host.
_FILE_PATHS = ("/download/", "/upload/", "/blobs/")


@dataclass
class Weather:
    """Draws the faults; `hits` counts them by kind, and by what they met."""

    share: float
    seed: int
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def __call__(self, host: str, method: str, path: str) -> Fault | None:
        if self._chance.random() >= self.share:
            return None
        bytes_move = host == "storage" or any(part in path for part in _FILE_PATHS)
        kinds = [*ANYWHERE]
        if method == "GET":
            kinds += [*ANSWERS, *(BYTES_DOWN if bytes_move else TALK)]
        elif bytes_move:
            kinds += BYTES_UP
        chosen = self._chance.choice(kinds)
        if host == "api" and chosen["kind"] == "status" and chosen["status"] == 403:
            chosen = {"kind": "drop before"}
        name = str(chosen["kind"])
        told = str(chosen["status"]) if name == "status" else name
        self.hits[told, "api" if not bytes_move else "up" if method != "GET" else "down"] += 1
        return Fault(**chosen)


@dataclass
class Watcher:
    """Hashes what stands at a place until it is told to stop; `wrong` is what should not be."""

    place: Path
    wanted: dict[str, str]
    wrong: list[str] = field(default_factory=list)
    hashed: int = 0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._seen: set[tuple[str, int, int]] = set()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.look()

    def look(self) -> None:
        for folder, _, names in os.walk(self.place):
            for name in names:
                if name.startswith(".penstock-"):
                    continue
                path = os.path.join(folder, name)  # noqa: PTH118 - a watcher is in a hurry
                found = os.stat(path)  # noqa: PTH116
                known = (path, found.st_ino, found.st_mtime_ns)
                if known in self._seen:
                    continue
                self._seen.add(known)
                content = Path(path).read_bytes()
                self.hashed += 1
                relative = os.path.relpath(path, self.place)
                if md5(content) != self.wanted.get(relative):
                    self.wrong.append(f"{relative}: {len(content)} bytes")


@dataclass
class Passage:
    """One way of a run: what it came to and what it cost."""

    report: penstock.Report | None
    error: PenstockError | None
    requests: int
    hits: Counter[tuple[str, str]]
    right: int
    """Files whose bytes are where they should be, as they should be."""
    wrong: list[str]
    took_s: float

    @property
    def unclear(self) -> list[str]:
        """Lines that neither ended proved nor say in a sentence why not."""
        assert self.report is not None
        good = {"verified", "skipped"}
        return [
            f"{line.source}: {line.status} {line.reason} {line.error}"
            for line in self.report.lines()
            if line.status not in good
            and not (line.status == "unverified" and line.reason)
            and not (line.error and len(line.error["message"]) > 20)
        ]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def contents(number: int, seed: int = 7) -> dict[str, bytes]:
    chance = random.Random(seed)
    return {
        f"d{index % 11}/f{index:05}": chance.randbytes(
            chance.choice((0, 100, 3000, 20_000)) + index
        )
        for index in range(number)
    }


@dataclass(frozen=True)
class Kind:
    """How a platform is opened, and its files are named."""

    open: Callable[[Callable[[], float]], Any]
    environ: Callable[[Any], dict[str, str]]
    remote: Callable[[Any], str]
    seed: Callable[[Any, str, bytes], object]
    there: Callable[[Any], dict[str, str]]
    flat: bool = False


def _set(name: str) -> Callable[[Any], dict[str, str]]:
    return lambda sim: {
        f"PENSTOCK_{name}_ENDPOINT": sim.endpoint,
        f"PENSTOCK_{name}_TOKEN": sim.token,
    }


KINDS = {
    "sevenbridges": Kind(
        lambda clock: SevenBridges(SevenBridgesSettings(quota=100_000), clock=clock),
        _set("CAVATICA"),
        lambda sim: f"cavatica:{sim.project}/all",
        lambda sim, path, content: sim.add_file(sim.project, f"all/{path}", content),
        lambda sim: {path.removeprefix("all/"): file.md5 for path, file in sim.files().items()},
    ),
    "coscine": Kind(
        lambda clock: Coscine(CoscineSettings(quota=100_000, metadata_first=False), clock=clock),
        _set("COSCINE"),
        lambda sim: f"coscine:{sim.project_name}/{sim.resource_name}",
        lambda sim, path, content: sim.add_file(path, content),
        lambda sim: {path: file.md5 for path, file in sim.files().items()},
    ),
    "datameta": Kind(
        lambda clock: DataMeta(clock=clock),
        lambda sim: {
            "PENSTOCK_DATAMETA_ENDPOINT": sim.root,
            "PENSTOCK_DATAMETA_TOKEN": sim.token,
        },
        lambda _: "datameta:",
        lambda sim, path, content: sim.add_file(path, content),
        lambda sim: {file.name: file.md5 for file in sim.files().values() if file.confirmed},
        flat=True,
    ),
}


def passage(home: Path, platform: str, way: str, number: int, weather: Weather | None) -> Passage:
    """Files moved one way, in the weather, or in none."""
    kind, files = KINDS[platform], contents(number)
    if kind.flat:
        files = {path.replace("/", "-"): content for path, content in files.items()}
    wanted = {path: md5(content) for path, content in files.items()}
    home.mkdir(parents=True)
    environ = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}

    async def whole() -> Passage:
        loop = asyncio.get_running_loop()
        async with kind.open(lambda: EPOCH + loop.time()) as sim:
            source, remote = home / "src", f"{kind.remote(sim)}{'' if kind.flat else '/'}"
            if way == "up":
                for path, content in files.items():
                    (source / path).parent.mkdir(parents=True, exist_ok=True)
                    (source / path).write_bytes(content)
                places = (f"{source}/", remote)
            else:
                for path, content in files.items():
                    kind.seed(sim, path, content)
                places = (remote, f"{home}/to/")
            sim.faults.chance = weather
            report, error, began_s = None, None, loop.time()
            with Watcher(home / "to", wanted) as watcher:
                try:
                    report = await penstock.copy(*places, environ={**environ, **kind.environ(sim)})
                except PenstockError as caught:
                    error, report = caught, getattr(caught, "report", None)
            there = kind.there(sim)
            if way == "down":
                there = {
                    path.relative_to(home / "to").as_posix(): md5(path.read_bytes())
                    for path in (home / "to").rglob("*")
                    if path.is_file()
                }
            right = sum(there.get(path) == digest for path, digest in wanted.items())
            hits = weather.hits if weather is not None else Counter()
            return Passage(
                report, error, len(sim.log), hits, right, watcher.wrong, loop.time() - began_s
            )

    return run(whole())
