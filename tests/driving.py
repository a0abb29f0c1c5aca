"""A plain client for the simulators' own tests: no retries, no reuse of connections."""

import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from penstock.simulators import SevenBridges, SevenBridgesSettings


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON is anything
        return json.loads(self.body)

    @property
    def code(self) -> object:
        return self.json["code"]


class Clock:
    """A clock that stands still until told otherwise."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Client:
    def __init__(self, sim: SevenBridges, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    async def call(self, method: str, path: str, body: object = None, **params: str) -> Answer:
        return await self.request(
            method,
            self.sim.endpoint + path,
            headers={"X-SBG-Auth-Token": self.sim.token},
            json=body,
            params=params,
        )

    async def request(self, method: str, url: str, **options: Any) -> Answer:  # noqa: ANN401 - aiohttp's
        async with self.session.request(method, url, allow_redirects=False, **options) as got:
            return Answer(got.status, got.headers, await got.read())

    async def begin(self, name: str, size: int | None, part_size: int = 4, **params: str) -> str:
        wanted = {"project": self.sim.project, "name": name, "size": size, "part_size": part_size}
        answer = await self.call("POST", "/upload/multipart", wanted, **params)
        assert answer.status == 200, answer.body
        return str(answer.json["upload_id"])

    async def part_url(self, upload: str, number: int) -> str:
        place = await self.call("GET", f"/upload/multipart/{upload}/part/{number}")
        assert place.status == 200, place.body
        return str(place.json["url"])

    async def put(self, upload: str, number: int, data: bytes) -> dict[str, Any]:
        """Send a part; return what there is to report of it."""
        url = await self.part_url(upload, number)
        sent = await self.request("PUT", url, data=io.BytesIO(data))
        assert sent.status == 200, sent.body
        return report(number, sent.headers["ETag"])

    async def upload(self, name: str, data: bytes, part_size: int = 4, **params: str) -> Answer:
        upload = await self.begin(name, len(data), part_size, **params)
        pieces = [data[at : at + part_size] for at in range(0, len(data), part_size)] or [b""]
        parts = [await self.put(upload, n, piece) for n, piece in enumerate(pieces, 1)]
        return await self.complete(upload, parts)

    async def complete(self, upload: str, parts: list[dict[str, Any]] | None = None) -> Answer:
        body = None if parts is None else {"parts": parts}
        return await self.call("POST", f"/upload/multipart/{upload}/complete", body)

    async def download_url(self, path: str) -> str:
        file = self.sim.files()[path]
        return str((await self.call("GET", f"/files/{file.id}/download_info")).json["url"])


def report(number: int, etag: str) -> dict[str, Any]:
    return {"part_number": number, "response": {"headers": {"ETag": etag}}}


@asynccontextmanager
async def simulated(
    *,
    clock: Callable[[], float] | None = None,
    **settings: Any,  # noqa: ANN401 - the settings' fields
) -> AsyncIterator[tuple[SevenBridges, Client]]:
    chosen = SevenBridgesSettings(**{"smallest_part": 1, **settings})
    made = SevenBridges(chosen) if clock is None else SevenBridges(chosen, clock=clock)
    connector = aiohttp.TCPConnector(force_close=True)
    async with made as sim, aiohttp.ClientSession(connector=connector) as session:
        # aiohttp sends what it holds for idempotent a second time where a connection breaks.
        session._retry_connection = False
        yield sim, Client(sim, session)
