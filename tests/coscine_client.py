"""A plain client for the tests of the Coscine simulator: no retries, no reuse of connections."""

import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from penstock.simulators import Coscine, CoscineSettings

BASIC = "[] a <https://purl.org/coscine/ap/base/> ."


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON is anything
        return json.loads(self.body)

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON is anything
        return self.json["data"]


class Client:
    def __init__(self, sim: Coscine, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    @property
    def here(self) -> str:
        return f"/projects/{self.sim.project}/resources/{self.sim.resource}"

    async def call(self, method: str, path: str, **options: Any) -> Answer:  # noqa: ANN401 - aiohttp's
        query = options.pop("params", {})
        url = URL(f"{self.sim.endpoint}{path}", encoded=True).update_query(query)
        headers = {"Authorization": f"Bearer {self.sim.token}", **options.pop("headers", {})}
        return await self.request(method, url, headers=headers, **options)

    async def request(self, method: str, url: str | URL, **options: Any) -> Answer:  # noqa: ANN401
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, url, **options) as got:
            return Answer(got.status, got.headers, await got.read())

    async def list(self, prefix: str = "", **params: str) -> Answer:
        return await self.call("GET", f"{self.here}/storage", params={"Prefix": prefix, **params})

    async def describe(
        self, path: str, turtle: str = BASIC, content_type: str = "text/turtle"
    ) -> Answer:
        return await self.call(
            "PUT",
            f"{self.here}/graphs/{encoded(path)}/metadata/content",
            data=turtle.encode(),
            headers={"Content-Type": content_type},
        )

    async def send(
        self, path: str, content: bytes, method: str = "POST", where: str = ""
    ) -> Answer:
        form = aiohttp.FormData()
        form.add_field(
            "file", io.BytesIO(content), filename="file", content_type="application/octet-stream"
        )
        place = where or f"{self.here}/storage/{encoded(path)}/content"
        return await self.call(method, place, data=form)

    async def upload(self, path: str, content: bytes) -> Answer:
        assert (await self.describe(path)).status == 201
        return await self.send(path, content)


def encoded(path: str) -> str:
    return quote(path, safe="")


@asynccontextmanager
async def simulated(
    *,
    clock: Callable[[], float] | None = None,
    **settings: Any,  # noqa: ANN401 - the settings' fields
) -> AsyncIterator[tuple[Coscine, Client]]:
    chosen = CoscineSettings(**{"metadata_check": "syntax", **settings})
    made = Coscine(chosen) if clock is None else Coscine(chosen, clock=clock)
    connector = aiohttp.TCPConnector(force_close=True)
    async with made as sim, aiohttp.ClientSession(connector=connector) as session:
        # aiohttp sends what it holds for idempotent a second time where a connection breaks.
        session._retry_connection = False
        yield sim, Client(sim, session)
