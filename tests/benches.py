"""What the conformance suite needs of a platform: a stand-in, and a few lines that bind it.

A bench says where the platform's files are (`remote`), puts some there behind penstock's back, and
tells what is there now. To bind a platform, write an async context manager that yields a `Bench`
and add it to `BENCHES`; every test of `test_conformance.py` then runs against it. What a platform
cannot do is said by a flag, with the reason, never by leaving a test out.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest
from aiohttp import web

import penstock
from datameta_proxy import Break, DataMetaProxy, proxy_to
from datameta_server import DataMetaServer
from penstock.simulators import DataMeta, Fault, SevenBridges, SevenBridgesSettings
from penstock.simulators.coscine import Coscine, CoscineSettings


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Bench(ABC):
    """One platform with one empty writable place."""

    profile: str
    remote: str
    """The location of the place, without a slash at its end."""
    folders = True
    """Whether files stand in folders; else all names are in one place."""
    parts_up = True
    """Whether a large file goes up in parts that resume."""
    overwrites = True
    """Whether a file's content can be replaced under its name."""
    sends = True
    """Whether anything can be sent there, listed or refused; else it is fetched from alone."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Endpoint and token as environment variables."""

    @abstractmethod
    def seed(self, path: str, content: bytes) -> None:
        """A file is there, put by somebody else; one of that path is replaced."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """A file is gone, removed by somebody else."""

    @abstractmethod
    def there(self) -> dict[str, str]:
        """The MD5s of what is there, by path."""

    @abstractmethod
    def requests(self) -> int:
        """API requests that counted, until now."""

    @abstractmethod
    def violations(self) -> list[object]:
        """What a client must never do, and did: a token sent to the storage, for one."""

    @abstractmethod
    def flip_a_bit(self) -> None:
        """The next answer with a file's bytes has a flipped bit."""

    @abstractmethod
    def refused(self) -> int:
        """Requests whose token was refused, until now."""

    def takes(self, name: str) -> bool:  # noqa: ARG002 - a platform's own rule
        """Whether a file can have the name there."""
        return True

    @property
    def listed(self) -> str:
        """Where `penstock list` shows what is in the place."""
        return self.remote

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a run."""
        return {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            **self.settings,
        }

    async def copy(self, *locations: str | Path, **options: Any) -> penstock.Report:  # noqa: ANN401
        """`penstock.copy` in the bench's own home."""
        options.setdefault("environ", self.environ)
        return await penstock.copy(*map(str, locations), **options)

    async def fetch(self, to: Path, **options: Any) -> penstock.Report:  # noqa: ANN401
        """Everything in the place, copied here."""
        return await self.copy(f"{self.remote}/", to, **options)

    def must_send(self) -> None:
        """The test is about sending, or about a place that knows who asks."""
        if not self.sends:
            pytest.skip("nothing can be sent there, and nobody is known there")

    def tree(self, files: dict[str, bytes], below: str = "src") -> Path:
        """A local tree."""
        root = self.home / below
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root


Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Bench]]
"""Called with a home, and as `server` what `NEEDS` names."""


class SevenBridgesBench(Bench):
    profile = "cavatica"

    def __init__(self, home: Path, sim: SevenBridges) -> None:
        super().__init__(home)
        self._sim = sim
        self.remote = f"cavatica:{sim.project}"

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PENSTOCK_CAVATICA_ENDPOINT": self._sim.endpoint,
            "PENSTOCK_CAVATICA_TOKEN": self._sim.token,
        }

    def seed(self, path: str, content: bytes) -> None:
        self._sim.add_file(self._sim.project, path, content)

    def remove(self, path: str) -> None:
        self._sim.remove_file(self._sim.project, path)

    def there(self) -> dict[str, str]:
        return {path: file.md5 for path, file in self._sim.files().items()}

    def requests(self) -> int:
        return sum(each.counted for each in self._sim.log)

    def violations(self) -> list[object]:
        return [*self._sim.violations, *self._sim.open_uploads()]

    def refused(self) -> int:
        return sum(each.status == 401 for each in self._sim.log)

    def flip_a_bit(self) -> None:
        self._sim.faults.add(Fault(kind="flip", host="storage", method="GET", times=1))


@asynccontextmanager
async def seven_bridges(home: Path) -> AsyncIterator[Bench]:
    async with SevenBridges(SevenBridgesSettings()) as sim:
        yield SevenBridgesBench(home, sim)


@asynccontextmanager
async def coscine_s3(home: Path) -> AsyncIterator[Bench]:
    from s3_server import running
    from s3_world import s3_resource

    server = running()
    server.reset()
    async with s3_resource(home, server) as bench:
        yield bench


class CoscineBench(Bench):
    profile = "coscine"
    parts_up = False

    def __init__(self, home: Path, sim: Coscine) -> None:
        super().__init__(home)
        self._sim = sim
        self.remote = f"coscine:{sim.project_name}/{sim.resource_name}"

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PENSTOCK_COSCINE_ENDPOINT": self._sim.endpoint,
            "PENSTOCK_COSCINE_TOKEN": self._sim.token,
        }

    def seed(self, path: str, content: bytes) -> None:
        self._sim.add_file(path, content)

    def remove(self, path: str) -> None:
        self._sim.remove_file(path)

    def there(self) -> dict[str, str]:
        return {path: file.md5 for path, file in self._sim.files().items()}

    def requests(self) -> int:
        return sum(each.counted for each in self._sim.log)

    def violations(self) -> list[object]:
        return [*self._sim.violations, *(each for each in self._sim.log if each.status == 400)]

    def refused(self) -> int:
        return sum(each.status == 401 for each in self._sim.log)

    def flip_a_bit(self) -> None:
        self._sim.faults.add(Fault(kind="flip", host="storage", method="GET", times=1))

    def takes(self, name: str) -> bool:
        return not set(name) & set(self._sim.settings.bad_characters)


@asynccontextmanager
async def coscine(home: Path) -> AsyncIterator[Bench]:
    async with Coscine(CoscineSettings(metadata_first=False)) as sim:
        yield CoscineBench(home, sim)


class DataMetaBench(Bench):
    """The real server. Files there are never replaced, nor deleted once they were fetched."""

    profile = "datameta"
    remote = "datameta:"
    folders = False
    parts_up = False
    overwrites = False

    def __init__(self, home: Path, server: DataMetaServer, proxy: DataMetaProxy) -> None:
        super().__init__(home)
        self._server = server
        self._proxy = proxy
        self._token = server.fresh_token()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PENSTOCK_DATAMETA_ENDPOINT": self._proxy.root,
            "PENSTOCK_DATAMETA_TOKEN": self._token,
        }

    def seed(self, path: str, content: bytes) -> None:
        self._server.store(path, content, self._token)

    def remove(self, path: str) -> None:
        for file_id, file in self._server.pending(self._token).items():
            if file["name"] == path:
                self._server.ask("DELETE", f"/files/{file_id}", token=self._token)

    def there(self) -> dict[str, str]:
        pending = self._server.pending(self._token).values()
        return {file["name"]: file["checksum"] for file in pending}

    def requests(self) -> int:
        return len(self._proxy.log)

    def violations(self) -> list[object]:
        return list(self._proxy.keys_told)

    def refused(self) -> int:
        return sum(status == 401 for _, _, status in self._proxy.log)

    def flip_a_bit(self) -> None:
        self._proxy.breaks.append(Break("GET", "/download/", "flip_answer"))

    def takes(self, name: str) -> bool:
        return name.isascii() or len(name.encode("latin-1", "ignore")) == len(name)


@asynccontextmanager
async def datameta(home: Path, server: DataMetaServer) -> AsyncIterator[Bench]:
    async with proxy_to(server.root) as proxy:
        yield DataMetaBench(home, server, proxy)


class SimulatedDataMetaBench(DataMetaBench):
    """The simulator, bound as the real server is."""

    def __init__(self, home: Path, sim: DataMeta) -> None:
        Bench.__init__(self, home)
        self._sim = sim

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PENSTOCK_DATAMETA_ENDPOINT": self._sim.root,
            "PENSTOCK_DATAMETA_TOKEN": self._sim.token,
        }

    def seed(self, path: str, content: bytes) -> None:
        self._sim.add_file(path, content)

    def remove(self, path: str) -> None:
        for file_id, file in self._sim.files().items():
            if file.name == path:
                self._sim.remove_file(file_id)

    def there(self) -> dict[str, str]:
        return {file.name: file.md5 for file in self._sim.files().values() if file.confirmed}

    def requests(self) -> int:
        return len(self._sim.log)

    def violations(self) -> list[object]:
        return list(self._sim.violations)

    def refused(self) -> int:
        return sum(each.status == 401 for each in self._sim.log)

    def flip_a_bit(self) -> None:
        self._sim.faults.add(Fault(kind="flip", method="GET", path="/download/"))


@asynccontextmanager
async def datameta_simulated(home: Path) -> AsyncIterator[Bench]:
    async with DataMeta() as sim:
        yield SimulatedDataMetaBench(home, sim)


class WebBench(Bench):
    """A folder served to anybody; a manifest of URLs and MD5s stands for its listing."""

    profile = "https"
    remote = "https:"
    sends = False

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.url = ""
        self._root = home / "served"
        self._flips = 0
        self._keys_told: list[object] = []

    @property
    def settings(self) -> dict[str, str]:
        return {}

    def seed(self, path: str, content: bytes) -> None:
        self.tree({path: content}, "served")

    def remove(self, path: str) -> None:
        (self._root / path).unlink()

    def there(self) -> dict[str, str]:
        files = (path for path in self._root.rglob("*") if path.is_file())
        return {path.relative_to(self._root).as_posix(): md5(path.read_bytes()) for path in files}

    def requests(self) -> int:
        return 0

    def violations(self) -> list[object]:
        return self._keys_told

    def refused(self) -> int:
        return 0

    def flip_a_bit(self) -> None:
        self._flips += 1

    async def fetch(self, to: Path, **options: Any) -> penstock.Report:  # noqa: ANN401
        rows = []
        for path, digest in self.there().items():
            row = {"source": f"{self.url}/{quote(path)}", "md5": digest}
            rows.append({**row, "destination": path} if "/" in path else row)
        table = self.home / "urls.jsonl"
        table.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return await self.copy(f"{to}/", manifest=table, **options)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            self._keys_told.append(request.path)
        path = self._root / request.match_info["path"]
        if self._flips and request.method == "GET":
            self._flips -= 1
            content = path.read_bytes()
            return web.Response(body=bytes((content[0] ^ 1,)) + content[1:])
        return web.FileResponse(path)


@asynccontextmanager
async def plain_web(home: Path) -> AsyncIterator[Bench]:
    bench, app = WebBench(home), web.Application()
    app.router.add_get("/{path:.*}", bench.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bench.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield bench
    finally:
        await runner.cleanup()


# What a bench needs that lives as long as the tests do: the fixture's name.
NEEDS = {"datameta": "datameta_server"}

BENCHES: dict[str, Open] = {
    "sevenbridges": seven_bridges,
    "coscine": coscine,
    "datameta": datameta,
    "datameta_simulated": datameta_simulated,
    "coscine_s3": coscine_s3,
    "web": plain_web,
}
