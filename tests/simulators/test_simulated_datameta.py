"""The DataMeta simulator, by a plain client; and one story held against the real server."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from datameta_server import DataMetaServer
from penstock.simulators import DataMeta, DataMetaSettings, Fault

Announced = dict[str, Any]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - foreign JSON
        return json.loads(self.body)

    @property
    def shape(self) -> object:
        """Status, kind of body, and of JSON the names and types, with the server's sentences."""
        kind = self.headers.get("Content-Type", "").partition(";")[0] if self.body else None
        told = _shape(self.json) if kind == "application/json" else None
        return self.status, kind, told


def _shape(value: object, name: str = "") -> object:
    if isinstance(value, dict):
        return {key: _shape(each, key) for key, each in sorted(value.items())}
    if isinstance(value, list):
        return sorted((_shape(each) for each in value), key=repr)
    if name == "message" and "'" in str(value):
        return "a sentence of the schema's"
    return value if name in {"exception", "message", "field"} else type(value).__name__


@dataclass
class Client:
    """Asks, and keeps what was answered."""

    session: aiohttp.ClientSession
    root: str
    token: str
    told: list[tuple[str, object]] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: object = None, **options: Any) -> Answer:  # noqa: ANN401
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        if options.pop("bare", False):
            del headers["Authorization"]
        url = path if path.startswith("http") else self.root + path
        if body is not None:
            options["json"] = body
        async with self.session.request(
            method, url, headers=headers, allow_redirects=False, **options
        ) as response:
            answer = Answer(response.status, dict(response.headers), await response.read())
        where = re.sub(r"[0-9a-zA-Z-]{24,}|DM.-[0-9]+|https?://[^/]*", "*", path)
        self.told.append((f"{method} {where}", answer.shape))
        return answer

    async def announce(self, name: str, checksum: str) -> Announced:
        said = await self.ask("POST", "/api/v1/files", {"name": name, "checksum": checksum})
        assert said.status == 200
        announced: Announced = said.json
        return announced

    async def send(
        self, announced: Announced, content: bytes, name: str = "file", filename: str | None = "x"
    ) -> Answer:
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field(name, content, filename=filename)
        headers = announced["requestHeaders"]
        return await self.ask(
            "POST", announced["urlToUpload"], data=form, headers=headers, bare=True
        )

    async def confirm(self, announced: Announced) -> Answer:
        path = f"/api/v1/files/{announced['id']['uuid']}"
        return await self.ask("PUT", path, {"contentUploaded": True})

    async def put(self, name: str, content: bytes) -> Announced:
        announced = await self.announce(name, md5(content))
        await self.send(announced, content)
        assert (await self.confirm(announced)).status == 200
        return announced


def metadatum(name: str, changes: dict[str, object]) -> dict[str, object]:
    texts = ("regexDescription", "longDescription", "example", "regExp", "dateTimeFmt", "serviceId")
    marks = ("isMandatory", "isFile", "isSubmissionUnique", "isSiteUnique")
    plain: dict[str, object] = dict.fromkeys(texts, "") | dict.fromkeys(marks, False)
    return plain | {"name": name, "order": 1} | changes


async def story(server: Client, admin: str) -> list[tuple[str, object]]:  # noqa: PLR0915 - one story
    """Everything a client does in a run, and what it should not do."""
    ask, api = server.ask, "/api/v1"
    columns: dict[str, dict[str, object]] = {
        "Sim id": {"isMandatory": True, "regExp": "^P[0-9]+$", "regexDescription": "P and digits"},
        "Sim date": {"dateTimeFmt": "%Y-%m-%d"},
        "Sim file": {"isFile": True},
    }
    for name, changes in columns.items():
        body = metadatum(name, changes)
        await ask("POST", f"{api}/metadata", body)
        await ask("POST", f"{api}/metadata", body, headers={"Authorization": f"Bearer {admin}"})
    await ask("POST", f"{api}/metadata", {"name": "x"})
    await ask("GET", "/api")
    await ask("GET", f"{api}/server")
    await ask("GET", f"{api}/server", bare=True)
    await ask("GET", f"{api}/rpc/whoami", bare=True)
    await ask("GET", f"{api}/rpc/whoami", headers={"Authorization": "Bearer wrong"})
    await ask("GET", f"{api}/rpc/whoami", headers={"Authorization": "bearer wrong"})
    await ask("GET", "/api/ui/pending", bare=True)
    who = (await ask("GET", f"{api}/rpc/whoami")).json
    for path in (f"{api}/files", f"{api}/nowhere", "/nowhere"):
        await ask("GET", path)

    await ask("POST", f"{api}/files", {"name": "", "checksum": md5(b"")})
    await ask("POST", f"{api}/files", {"name": "a/b", "checksum": "a/b"})
    for missing in ("files", "metadatasets"):
        for method in ("GET", "DELETE"):
            await ask(method, f"{api}/{missing}/missing")
    await ask("PUT", f"{api}/files/missing", {"contentUploaded": True})
    await ask("GET", f"{api}/rpc/get-file-url/missing")

    content = bytes(range(256)) * 8
    announced = await server.announce("reads.bin", md5(content))
    one = f"{api}/files/{announced['id']['uuid']}"
    await ask("GET", one)
    await server.confirm(announced)
    await server.send(announced, b"wrong")
    await server.confirm(announced)
    await server.send(announced | {"requestHeaders": {"Access-Token": "wrong"}}, content)
    await server.send(announced | {"requestHeaders": {}}, content)
    await server.send(announced, content, name="other")
    await ask("POST", announced["urlToUpload"], data=b"x", headers=announced["requestHeaders"])
    await ask("PUT", announced["urlToUpload"], data=b"x", headers=announced["requestHeaders"])
    await server.send(announced, content)
    await ask("GET", one)
    await server.confirm(announced)
    await server.confirm(announced)
    await server.send(announced, content)
    await ask("GET", f"{api}/files/{announced['id']['site']}")
    empty = await server.announce("empty.bin", md5(b""))
    await server.confirm(empty)
    for file in (empty, empty):
        await ask("DELETE", f"{api}/files/{file['id']['uuid']}")
    for ids in ([], ["missing"]):
        await ask("POST", f"{api}/rpc/delete-files", {"fileIds": ids})

    lease = f"{api}/rpc/get-file-url/{announced['id']['uuid']}"
    await ask("GET", f"{lease}?expires=abc")
    await ask("GET", f"{lease}?redirect=true")
    dead = (await ask("GET", f"{lease}?expires=0")).json["fileUrl"]
    url = (await ask("GET", f"{lease}?expires=5&redirect=false")).json["fileUrl"]
    whole = await ask("GET", url, bare=True)
    date = whole.headers["Last-Modified"]
    told: list[tuple[str, object]] = []
    for headers in (
        {},
        {"Range": "bytes=0-9"},
        {"Range": "bytes=100-"},
        {"Range": "bytes=-5"},
        {"Range": "bytes=9999-"},
        {"Range": "bytes=0-9", "If-Range": date},
        {"Range": "bytes=0-9", "If-Range": '"etag"'},
        {"If-Modified-Since": date},
    ):
        got = await ask("GET", url, headers=headers, bare=True)
        names = ("Content-Range", "Content-Disposition", "ETag", "Accept-Ranges")
        content = got.body if got.status < 300 else b""
        told.append((str(headers.keys()), [content, *(got.headers.get(name) for name in names)]))
    await ask("HEAD", url, bare=True)
    await ask("GET", dead, bare=True)
    await ask("GET", f"{api}/download/wrong", bare=True)
    await ask("DELETE", one)

    await ask("GET", f"{api}/metadatasets")
    made = []
    for record in (
        {"Sim id": "P1", "Sim date": "2026-01-02", "Sim file": "reads.bin"},
        {"Sim id": "P2", "Sim file": "absent.bin"},
        {"Sim id": "nonsense", "Sim date": "01.02.2026", "Unknown": "x"},
        {"Sim date": None},
        {"Sim id": None},
    ):
        said = await ask("POST", f"{api}/metadatasets", {"record": record})
        if said.status == 200:
            made.append(said.json["id"]["uuid"])
            assert said.json["record"].get("Sim date") in (None, "2026-01-02T00:00:00")
    shown = (await ask("GET", f"{api}/metadatasets/{made[0]}")).json
    assert shown["record"]["Sim date"] == "2026-01-02"
    await ask("GET", "/api/ui/pending")
    bare = await server.announce("unsent.bin", md5(b"unsent"))
    for records, files in (
        ([], []),
        (["missing"], ["missing"]),
        ([made[1]], [announced["id"]["uuid"]]),
        ([made[0]], [announced["id"]["uuid"], bare["id"]["uuid"]]),
        ([made[0]], [announced["id"]["site"]]),
    ):
        body = {"metadatasetIds": records, "fileIds": files, "label": None}
        await ask("POST", f"{api}/presubvalidation", body)
    body = {"metadatasetIds": [made[0]], "fileIds": [announced["id"]["uuid"]], "label": "Monday"}
    await ask("POST", f"{api}/submissions", {"label": "Monday"})
    await ask("POST", f"{api}/submissions", body)
    await ask("POST", f"{api}/submissions", body)
    await ask("GET", f"{api}/metadatasets/{made[0]}")
    await ask("GET", f"{api}/metadatasets")
    for group in who["group"]["id"].values():
        await ask("GET", f"{api}/groups/{group}/submissions")
    await ask("GET", f"{api}/groups/missing/submissions")
    await ask("DELETE", one)
    await ask("DELETE", f"{api}/metadatasets/{made[0]}")
    await ask("DELETE", f"{api}/metadatasets/{made[1]}")
    await ask("DELETE", f"{api}/files/{bare['id']['uuid']}")
    await ask("GET", "/api/ui/pending")
    return [*server.told, *told]


Open = Callable[..., Any]


@pytest.fixture
async def plain() -> AsyncIterator[Open]:
    async with aiohttp.ClientSession() as session:
        yield lambda server, token=None: Client(session, server.root, token or server.token)


async def test_every_nth_change_is_rolled_back_and_may_be_made_again(plain: Open) -> None:
    async with DataMeta(DataMetaSettings(every_nth_fails=2)) as sim:
        server = plain(sim)
        announced = await server.announce("a", md5(b"a"))
        assert (await server.send(announced, b"a")).status == 204
        refused = await server.confirm(announced)
        assert (refused.status, refused.headers["Content-Type"]) == (500, "text/plain")
        assert not sim.files()[announced["id"]["uuid"]].confirmed
        assert (await server.confirm(announced)).status == 200


async def test_five_uses_of_an_expired_key_lock_the_account(plain: Open) -> None:
    now = [1000.0]
    async with DataMeta(clock=lambda: now[0]) as sim:
        sim.add_key("old", expires_at=999.0)
        good, old = plain(sim), plain(sim, "old")
        who = "/api/v1/rpc/whoami"
        for _ in range(4):
            assert (await old.ask("GET", who)).status == 401
        assert (await good.ask("GET", who)).status == 200  # which clears the count
        for _ in range(4):
            await old.ask("GET", who)
        now[0] += 3601
        await old.ask("GET", who)
        assert sim.enabled()
        for _ in range(4):
            await old.ask("GET", who)
        assert not sim.enabled()
        assert (await good.ask("GET", who)).status == 401


async def test_a_body_too_large_is_413_before_it_is_read(plain: Open) -> None:
    async with DataMeta(DataMetaSettings(largest_body=1000)) as sim:
        server = plain(sim)
        announced = await server.announce("a", md5(bytes(2000)))
        refused = await server.send(announced, bytes(2000))
        assert (refused.status, sim.log[-1].bytes_in) == (413, 0)


async def test_urls_expire_uploads_after_a_day_and_downloads_after_minutes(plain: Open) -> None:
    now = [1_000_000.0]
    async with DataMeta(DataMetaSettings(utc_offset_s=3600), clock=lambda: now[0]) as sim:
        server = plain(sim)
        announced = await server.announce("a", md5(b"a"))
        assert announced["expires"] == "1970-01-13T14:46:40.000000"
        lease = f"/api/v1/rpc/get-file-url/{sim.add_file('b', b'b')}"
        said = (await server.ask("GET", f"{lease}?expires=2")).json
        assert said["expires"] == "1970-01-12T13:48:40.000000+00:00"
        now[0] += 119
        assert (await server.ask("GET", said["fileUrl"], bare=True)).body == b"b"
        now[0] += 1
        assert (await server.ask("GET", said["fileUrl"], bare=True)).status == 404
        sim.change(download_lifetime_s=0.0)
        short = (await server.ask("GET", f"{lease}?expires=100")).json["fileUrl"]
        assert (await server.ask("GET", short, bare=True)).status == 404
        now[0] += 86_400
        assert (await server.send(announced, b"a")).status == 404


async def test_a_lost_answer_has_done_what_it_would_have_said(plain: Open) -> None:
    async with DataMeta() as sim:
        server = plain(sim)
        sim.faults.add(Fault(kind="drop after", method="POST"))
        with pytest.raises(aiohttp.ClientError):  # a PUT aiohttp would send once more by itself
            await server.announce("a", md5(b"a"))
        assert [file.name for file in sim.files().values()] == ["a"]
        assert (await server.announce("a", md5(b"a")))["id"]["uuid"] in sim.files()
        assert len(sim.files()) == 2


async def test_names_the_server_cannot_serve_are_taken_and_never_served(plain: Open) -> None:
    async with DataMeta() as sim:
        server = plain(sim)
        for name, status in (("ümlaut", 200), ("λ", 500), ("a\nb", 500)):
            file = await server.put(name, b"x")
            lease = await server.ask("GET", f"/api/v1/rpc/get-file-url/{file['id']['uuid']}")
            assert (await server.ask("GET", lease.json["fileUrl"], bare=True)).status == status


async def test_a_key_sent_where_the_url_carries_its_own_right_is_noted(plain: Open) -> None:
    async with DataMeta() as sim:
        server = plain(sim)
        lease = await server.ask("GET", f"/api/v1/rpc/get-file-url/{sim.add_file('a', b'a')}")
        await server.ask("GET", lease.json["fileUrl"], bare=True)
        assert sim.violations == []
        await server.ask("GET", lease.json["fileUrl"])
        assert [each.what for each in sim.violations] == ["Authorization sent"]


async def test_what_is_of_another_is_refused_in_four_ways(plain: Open) -> None:
    async with DataMeta() as sim:
        other = plain(sim, sim.other_token)
        file_id = sim.add_file("a", b"a")
        path = f"/api/v1/files/{file_id}"
        seen = await other.ask("GET", path)
        gone = await other.ask("DELETE", path)
        changed = await other.ask("PUT", path, {"contentUploaded": True})
        assert (seen.status, seen.json) == (403, [])
        assert (gone.status, gone.json) == (403, None)
        assert changed.status == 500
        body = {"metadatasetIds": [], "fileIds": [file_id]}
        (entry,) = (await other.ask("POST", "/api/v1/presubvalidation", body)).json
        assert entry["message"] == "Access denied"
        assert entry["entity"] == {"uuid": file_id, "site": file_id}


@pytest.fixture
def other_columns(datameta_server: DataMetaServer) -> Iterator[dict[str, bool]]:
    """The columns other tests left on the real server, none mandatory; and ours is none after."""
    yield {each["name"]: each["isFile"] for each in _voluntary(datameta_server)}
    _voluntary(datameta_server)


def _voluntary(server: DataMetaServer) -> list[dict[str, Any]]:
    columns: list[dict[str, Any]] = server.ask("GET", "/metadata")[1]
    for column in columns:
        if column["isMandatory"]:
            empty = {name: "" for name, value in column.items() if value is None}
            body = column | empty | {"isMandatory": False}
            path = f"/metadata/{body.pop('id')['uuid']}"
            assert server.ask("PUT", path, body)[0] == 200
    return columns


async def test_the_simulator_answers_a_whole_story_as_the_real_server_does(
    plain: Open, datameta_server: DataMetaServer, other_columns: dict[str, bool]
) -> None:
    async with DataMeta() as sim:
        for name, is_file in other_columns.items():
            sim.add_metadatum(name, is_file=is_file)
        simulated = await story(plain(sim, sim.other_token), sim.token)
    told = await story(plain(datameta_server, datameta_server.fresh_token()), datameta_server.token)
    different = [(a, b) for a, b in zip(simulated, told, strict=True) if a != b]
    assert not different, "\n".join(f"{a}\n   {b}" for a, b in different)
