"""What a test of crashes needs of a platform, beside what the conformance suite does.

`CRASHES` binds each platform in a line or two: how it is started with no quota to wait for, how
many bytes of files moved until now, what is left open there, and how a stranger begins an upload of
the same name.
"""

from __future__ import annotations

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

from aiohttp import ClientSession, web

from benches import Bench, CoscineBench, SevenBridgesBench, SimulatedDataMetaBench, md5
from penstock.simulators import (
    Coscine,
    CoscineSettings,
    DataMeta,
    SevenBridges,
    SevenBridgesSettings,
)

# So many requests that no run waits, whatever it asks again.
QUOTA = 20_000


class Crash(ABC):
    """A platform in which runs are killed; `bench` is the conformance suite's."""

    bench: Bench
    ups = True
    leaves_what_it_cannot_know = False
    """Whether an upload whose beginning was never answered cannot be found again."""

    @abstractmethod
    def moved(self) -> int:
        """Bytes of files that moved until now, either way."""

    @abstractmethod
    def there(self, prefix: str) -> dict[str, str]:
        """The MD5s of what is there, by path, of paths that begin so."""

    def left_open(self) -> list[object]:
        """Uploads that were begun, by anybody, and neither ended nor aborted."""
        return []

    async def begin_as_a_stranger(self, path: str, size: int) -> None:  # noqa: B027 - or none can
        """Somebody else has begun an upload to that path, where more than one can be."""

    def violations(self) -> list[object]:
        """What a client must never do, and did."""
        return self.bench.violations()

    @property
    def remote(self) -> str:
        return self.bench.remote

    @property
    def environ(self) -> dict[str, str]:
        environ = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **self.bench.environ}
        if self.bench.settings:
            environ[f"PENSTOCK_{self.bench.profile.upper()}_QUOTA"] = f"{QUOTA}/60s"
        return environ


class SevenBridgesCrash(Crash):
    def __init__(self, bench: SevenBridgesBench, sim: SevenBridges) -> None:
        self.bench, self._sim = bench, sim

    def there(self, prefix: str) -> dict[str, str]:
        found = self._sim.files().items()
        return {path: file.md5 for path, file in found if path.startswith(prefix)}

    def moved(self) -> int:
        return sum(e.bytes_in + e.bytes_out for e in self._sim.log if e.host == "storage")

    def left_open(self) -> list[object]:
        return [upload.id for upload in self._sim.open_uploads()]

    def violations(self) -> list[object]:
        return list(self._sim.violations)

    async def begin_as_a_stranger(self, path: str, size: int) -> None:
        body = {
            "project": self._sim.project,
            "name": path.rpartition("/")[2],
            "size": size,
            "part_size": 5 << 20,
        }
        token = {"X-SBG-Auth-Token": self._sim.token}
        async with (
            ClientSession(headers=token) as session,
            session.post(f"{self._sim.endpoint}/upload/multipart", json=body) as answer,
        ):
            assert answer.status == HTTPStatus.OK
        # Before the run, as told to the second.
        self._sim.open_uploads()[-1].began_at -= 5


class CoscineCrash(Crash):
    def __init__(self, bench: CoscineBench, sim: Coscine) -> None:
        self.bench, self._sim = bench, sim

    def there(self, prefix: str) -> dict[str, str]:
        found = self._sim.files().items()
        return {path: file.md5 for path, file in found if path.startswith(prefix)}

    def moved(self) -> int:
        return sum(
            e.bytes_in + e.bytes_out
            for e in self._sim.log
            if e.host == "storage" or ("/storage/" in e.path and e.path.endswith("/content"))
        )


class DataMetaCrash(Crash):
    leaves_what_it_cannot_know = True

    def __init__(self, bench: SimulatedDataMetaBench, sim: DataMeta) -> None:
        self.bench, self._sim = bench, sim

    def there(self, prefix: str) -> dict[str, str]:
        found = (file for file in self._sim.files().values() if file.confirmed)
        return {file.name: file.md5 for file in found if file.name.startswith(prefix)}

    def moved(self) -> int:
        ways = ("/upload/", "/download/")
        return sum(
            e.bytes_in + e.bytes_out for e in self._sim.log if any(way in e.path for way in ways)
        )

    def left_open(self) -> list[object]:
        return [id_ for id_, file in self._sim.files().items() if not file.confirmed]


class S3Crash(Crash):
    # An unfinished upload in S3 has a name and a time, and nothing that says whose it is.
    leaves_what_it_cannot_know = True

    def __init__(self, bench: Bench) -> None:
        from s3_server import S3Request
        from s3_world import S3Bench, names

        assert isinstance(bench, S3Bench)
        self.bench, self._s3 = bench, bench
        self._down = 0
        self._began: dict[bytes, float] = {}

        def spoil(request: S3Request, body: bytes) -> bytes:
            if names(request) == "GET":
                self._down += len(body)
            elif names(request) == "POST uploads":
                self._began.setdefault(_tagged(b"UploadId", body), time.time())
            elif names(request) == "GET uploads":
                return re.sub(rb"<Upload>.*?</Upload>", self._with_time, body, flags=re.DOTALL)
            return body

        bench.server.spoil = spoil

    def there(self, prefix: str) -> dict[str, str]:
        paths = [path for path in self._s3.server.paths() if path.startswith(prefix)]
        return {path: md5(self._s3.server.read(path)) for path in paths}

    def _with_time(self, found: re.Match[bytes]) -> bytes:
        """An upload as it is listed, with the time it began: moto's are all of the year 2010."""
        at = datetime.fromtimestamp(self._began[_tagged(b"UploadId", found[0])], UTC)
        told = f"<Initiated>{at:%Y-%m-%dT%H:%M:%S.000Z}</Initiated>".encode()
        return re.sub(rb"<Initiated>.*?</Initiated>", told, found[0])

    def moved(self) -> int:
        from s3_world import names

        sent = sum(
            int(each.headers.get("content-length", 0))
            for each in self._s3.stored()
            if names(each) in {"PUT", "PUT part"}
        )
        return sent + self._down

    def left_open(self) -> list[object]:
        return list(self._s3.server.open_uploads())

    async def begin_as_a_stranger(self, path: str, size: int) -> None:  # noqa: ARG002
        begun = await asyncio.to_thread(self._s3.begin, path)
        self._began[begun.encode()] = time.time() - 5


def _tagged(name: bytes, xml: bytes) -> bytes:
    found = re.search(rb"<%b>(.*?)</%b>" % (name, name), xml)
    assert found is not None
    return found[1]


class WebBench(Bench):
    """A folder on the web, known by URLs alone."""

    profile = "web"
    folders = False

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(home)
        self.root = root
        self.url = ""
        self.bytes_out = 0

    @property
    def settings(self) -> dict[str, str]:
        return {}

    def seed(self, path: str, content: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def there(self) -> dict[str, str]:
        return {
            path.relative_to(self.root).as_posix(): md5(path.read_bytes())
            for path in self.root.rglob("*")
            if path.is_file()
        }

    def requests(self) -> int:
        return 0

    def violations(self) -> list[object]:
        return []

    def flip_a_bit(self) -> None:
        raise NotImplementedError

    def refused(self) -> int:
        return 0


class WebCrash(Crash):
    ups = False

    def __init__(self, bench: WebBench) -> None:
        self.bench, self._web = bench, bench

    def there(self, prefix: str) -> dict[str, str]:
        return {path: digest for path, digest in self._web.there().items() if path >= prefix}

    def moved(self) -> int:
        return self._web.bytes_out


@asynccontextmanager
async def seven_bridges(home: Path) -> AsyncIterator[Crash]:
    async with SevenBridges(SevenBridgesSettings(quota=QUOTA)) as sim:
        yield SevenBridgesCrash(SevenBridgesBench(home, sim), sim)


@asynccontextmanager
async def coscine(home: Path) -> AsyncIterator[Crash]:
    async with Coscine(CoscineSettings(metadata_first=False, quota=QUOTA)) as sim:
        yield CoscineCrash(CoscineBench(home, sim), sim)


@asynccontextmanager
async def coscine_s3(home: Path) -> AsyncIterator[Crash]:
    from s3_server import running
    from s3_world import s3_resource

    server = running()
    server.reset()
    async with s3_resource(home, server, quota=QUOTA) as bench:
        yield S3Crash(bench)


@asynccontextmanager
async def datameta(home: Path) -> AsyncIterator[Crash]:
    async with DataMeta() as sim:
        yield DataMetaCrash(SimulatedDataMetaBench(home, sim), sim)


@asynccontextmanager
async def plain_web(home: Path) -> AsyncIterator[Crash]:
    root = home / "served"
    root.mkdir(parents=True, exist_ok=True)
    bench = WebBench(home, root)

    async def told(request: web.Request, _answer: web.StreamResponse) -> None:
        asked = request.http_range
        if request.method != "GET":
            return
        size = (root / request.path[1:]).stat().st_size
        bench.bytes_out += min(asked.stop or size, size) - (asked.start or 0)

    app = web.Application()
    app.on_response_prepare.append(told)
    app.router.add_static("/", root)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    bench.url = bench.remote = f"http://127.0.0.1:{port}"
    try:
        yield WebCrash(bench)
    finally:
        await runner.cleanup()


Open: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Crash]]

CRASHES: dict[str, Open] = {
    "sevenbridges": seven_bridges,
    "coscine": coscine,
    "coscine_s3": coscine_s3,
    "datameta": datameta,
    "web": plain_web,
}
