import asyncio
import io
import json

import aiohttp
import pytest
from yarl import URL

from coscine_client import BASIC, encoded, simulated
from driving import Clock
from penstock.simulators import Fault, Zeros


async def test_a_page_has_ten_items_and_at_most_fifty() -> None:
    async with simulated() as (sim, client):
        for number in range(120):
            sim.add_file(f"f{number:03}", b"x" * number)
        first = (await client.list()).json
        assert first["pagination"] == {
            "currentPage": 1,
            "totalPages": 12,
            "pageSize": 10,
            "totalCount": 120,
            "hasPrevious": False,
            "hasNext": True,
        }
        last = (await client.list(PageNumber="3", PageSize="200")).json
        assert [item["size"] for item in last["data"]] == list(range(100, 120))
        assert not last["pagination"]["hasNext"]
        sim.change(too_high_page_size="refuse")
        assert (await client.list(PageSize="51")).status == 400
        assert (await client.list(PageNumber="0")).status == 400


async def test_a_listing_is_one_level_deep() -> None:
    async with simulated() as (sim, client):
        for path in ("a/b/c.txt", "a/d.txt", "e.txt", "a/b/f.txt"):
            sim.add_file(path, b"1")
        top = (await client.list()).data
        assert [(item["path"], item["type"]) for item in top] == [("a/", "Tree"), ("e.txt", "Leaf")]
        inner = (await client.list("a/")).data
        assert [item["path"] for item in inner] == ["a/b/", "a/d.txt"]
        deep = (await client.list("a/b/")).data
        assert [(i["directory"], i["name"], i["extension"]) for i in deep] == [
            ("a/b/", "c.txt", "txt"),
            ("a/b/", "f.txt", "txt"),
        ]
        assert top[0]["actions"] is None
        sim.remove_file("a/b/c.txt")
        sim.remove_file("a/b/f.txt")
        assert [item["path"] for item in (await client.list("a/")).data] == ["a/d.txt"]


async def test_the_urls_of_a_listing_work_for_a_day_and_without_the_token() -> None:
    clock = Clock()
    async with simulated(clock=clock) as (sim, client):
        sim.add_file("dir/ä b+c&d.txt", b"0123456789")
        (item,) = (await client.list("dir/")).data
        url = item["actions"]["download"]["url"]
        assert "X-Amz-Expires=86400" in url
        got = await client.request("GET", url, headers={"Range": "bytes=2-4"})
        assert (got.status, got.body) == (206, b"234")
        assert got.headers["ETag"] == '"781e5e245d69b566979b86e28d23f2c7"'
        clock.now += 86_399
        assert (await client.request("GET", url)).status == 200
        clock.now += 1
        late = await client.request("GET", url)
        assert late.status == 403
        assert b"Request has expired" in late.body
        assert not sim.violations
        await client.request("GET", url, headers={"Authorization": f"Bearer {sim.token}"})
        assert [violation.what for violation in sim.violations] == ["Authorization sent"]
        assert len(sim.calls()) == 1


async def test_metadata_comes_first_unless_it_is_switched_off() -> None:
    async with simulated() as (sim, client):
        assert (await client.send("a.txt", b"1")).status == 400
        assert (await client.upload("a.txt", b"1")).status == 201
        assert sim.files()["a.txt"].metadata == BASIC
        sim.change(metadata_first=False)
        assert (await client.send("b.txt", b"1")).status == 201


async def test_post_makes_and_put_replaces() -> None:
    async with simulated() as (sim, client):
        await client.describe("a.txt")
        assert (await client.send("a.txt", b"1", "PUT")).status == 400
        assert (await client.send("a.txt", b"1")).status == 201
        assert (await client.send("a.txt", b"2")).status == 400
        assert (await client.send("a.txt", b"3", "PUT")).status == 201
        assert sim.files()["a.txt"].read() == b"3"
        sim.change(post_existing="replace", put_missing="create", metadata_first=False)
        assert (await client.send("a.txt", b"4")).status == 201
        assert (await client.send("new.txt", b"5", "PUT")).status == 201


async def test_what_is_written_once_stays() -> None:
    async with simulated(metadata_first=False) as (sim, client):
        sim.resource = sim.add_resource("once", general_type="rdss3worm")
        assert (await client.send("a.txt", b"1")).status == 201
        assert (await client.send("a.txt", b"2", "PUT")).status == 403
        assert (await client.call("DELETE", f"{client.here}/storage/a.txt")).status == 403
        assert sim.files()["a.txt"].read() == b"1"


async def test_content_is_given_by_the_api_or_from_storage() -> None:
    async with simulated() as (sim, client):
        sim.add_file("a b.txt", b"bytes")
        place = f"{client.here}/storage/{encoded('a b.txt')}"
        got = await client.call("GET", f"{place}/content", headers={"Range": "bytes=1-2"})
        assert (got.status, got.body) == (200, b"bytes")
        sim.change(content="redirect")
        sent = await client.call("GET", f"{place}/content")
        assert sent.status == 302
        assert (await client.request("GET", sent.headers["Location"])).body == b"bytes"
        assert (await client.call("HEAD", place)).status == 200
        assert (await client.call("DELETE", place)).status == 204
        assert [(await client.call(m, place)).status for m in ("HEAD", "DELETE")] == [404, 404]


@pytest.mark.parametrize(
    ("sent", "path", "how"),
    [
        ("dir%2Fa%20b%2525.txt", "dir/a b%.txt", "twice"),
        ("dir%2Fa%2520b.txt", "dir/a b.txt", "twice"),
        ("dir%2Fa%20b.txt", "dir/a b.txt", "once"),
        ("%C3%A4.txt", "ä.txt", "once"),
        ("100%25.txt", "100%.txt", "once"),
    ],
)
async def test_paths_may_be_encoded_once_or_twice(sent: str, path: str, how: str) -> None:
    async with simulated(metadata_first=False) as (sim, client):
        where = f"{client.here}/storage/{sent}/content"
        assert (await client.send("", b"1", where=where)).status == 201
        assert list(sim.files()) == [path]
        assert sim.encodings == {path: how}


async def test_a_server_that_decodes_once_keeps_percent_signs() -> None:
    async with simulated(metadata_first=False, path_encoding="once") as (sim, client):
        for path in ("a%20b", "50%"):
            assert (await client.send(path, b"1")).status == 201
        assert list(sim.files()) == ["a%20b", "50%"]


@pytest.mark.parametrize("path", ["a|b", "a//b", "../a", "a/", "x" * 1025, "a\nb"])
async def test_names_that_cannot_be_are_refused(path: str) -> None:
    async with simulated(metadata_first=False) as (_, client):
        assert (await client.send(path, b"1")).status == 400


async def test_a_folder_and_a_file_do_not_share_a_name() -> None:
    async with simulated(metadata_first=False) as (_, client):
        assert (await client.send("a/b", b"1")).status == 201
        assert (await client.send("a", b"1")).status == 400
        assert (await client.send("a/b/c", b"1")).status == 400


async def test_too_large_a_file_and_a_full_resource_are_413() -> None:
    async with simulated(metadata_first=False, largest_file=1000) as (sim, client):
        assert (await client.send("big", bytes(1001))).status == 413
        assert (await client.send("fits", bytes(1000))).status == 201
        sim.at().reserved = 1500
        assert (await client.send("more", bytes(501))).status == 413
        assert (await client.send("more", bytes(500))).status == 201
        assert (await client.send("fits", bytes(900), "PUT")).status == 201
        quota = (await client.call("GET", f"{client.here}/quota")).data
        assert quota["used"] == {"value": 1400, "unit": "https://qudt.org/vocab/unit/BYTE"}
        assert quota["reserved"]["value"] * 1024**3 == 1500
        assert (await client.send("huge", bytes(70_000))).status == 413
        assert sim.log[-1].bytes_in == 0
        sim.at().old_versions = 100
        assert (await client.send("one", b"1")).status == 413


async def test_who_may_not_write_is_refused() -> None:
    async with simulated() as (sim, client):
        sim.add_file("a", b"1")
        for change in ("archived", "maintenance"):
            setattr(sim.at(), change, True)
            assert (await client.describe("b")).status == 403
            assert (await client.send("b", b"1")).status == 403
            assert (await client.list()).status == 200
            setattr(sim.at(), change, False)
        sim.project_at().role = "guest"
        place = f"{client.here}/storage/a"
        assert (await client.call("DELETE", place)).status == 403
        mine = (await client.call("GET", f"/projects/{sim.project}/members/me")).data
        assert mine["role"]["displayName"] == "Guest"


async def test_what_is_no_form_is_415_and_no_file_in_it_400() -> None:
    async with simulated(metadata_first=False) as (_, client):
        place = f"{client.here}/storage/a/content"
        raw = await client.call("POST", place, data=b"bytes")
        assert raw.status == 415
        form = aiohttp.FormData()
        form.add_field("other", io.BytesIO(b"x"), filename="file")
        other = await client.call("POST", place, data=form)
        assert other.status == 400


async def test_the_legacy_endpoints_do_the_same() -> None:
    async with simulated() as (sim, client):
        tree = {"path": "d/a", "definition": {"content": BASIC, "type": "text/turtle"}}
        place = f"{client.here}/trees/metadata"
        blob = f"{client.here}/blobs/{encoded('d/a')}"
        assert (await client.call("PUT", place, json=tree)).status == 404
        assert (await client.send("", b"1", where=blob)).status == 400
        assert (await client.call("POST", place, json=tree)).status == 201
        assert (await client.call("POST", place, json=tree)).status == 400
        assert (await client.send("", b"bytes", where=blob)).status == 201
        assert (await client.call("GET", blob)).body == b"bytes"
        params = {"Path": "d/"}
        listed = (await client.call("GET", f"{client.here}/trees/files", params=params)).data
        assert [item["path"] for item in listed] == ["d/a"]
        assert (await client.call("PUT", place, json=tree)).status == 204
        (told,) = (await client.call("GET", place, params=params)).data
        assert (told["path"], len(told["availableVersions"])) == ("d/a", 2)
        assert told["version"] == max(told["availableVersions"])
        assert (await client.call("DELETE", blob)).status == 204
        assert sim.files() == {}


async def test_errors_are_problems_or_envelopes_or_nothing() -> None:
    async with simulated() as (sim, client):
        missing = f"/projects/{sim.project}/resources/{sim.project}"
        problem = await client.call("GET", missing)
        assert (problem.status, problem.json["status"]) == (404, 404)
        assert problem.headers["Content-Type"] == "application/problem+json"
        sim.change(failures="envelope")
        assert (await client.call("GET", missing)).json["isSuccess"] is False
        sim.change(failures="empty")
        assert (await client.call("GET", missing)).body == b""
        assert (await client.call("GET", "/nothing")).status == 404
        assert (await client.call("PATCH", "/projects")).status == 405
        assert (await client.call("GET", f"/projects/{sim.project}/resources/x")).status == 400


async def test_projects_are_known_by_id_and_slug_and_listed_with_and_without_those_below() -> None:
    async with simulated() as (sim, client):
        below = sim.add_project("Sub Project", parent=sim.project)
        every = (await client.call("GET", "/projects")).data
        top = (await client.call("GET", "/projects", params={"TopLevel": "true"})).data
        assert [item["id"] for item in every] == [sim.project, below]
        assert [item["id"] for item in top] == [sim.project]
        one = (await client.call("GET", "/projects/sub-project")).data
        assert (one["id"], one["parent"]["id"]) == (below, sim.project)
        under = (await client.call("GET", "/projects/demo/subprojects")).data
        assert [item["slug"] for item in under] == ["sub-project"]


async def test_what_is_announced_is_told() -> None:
    async with simulated() as (sim, client):
        assert (await client.call("GET", "/system/status/noc/active")).data == []
        sim.announce("Storage is serviced")
        (notice,) = (await client.call("GET", "/system/status/noc/active")).data
        assert (notice["type"], notice["title"]) == ("Maintenance", "Storage is serviced")
        sim.change(maintenance=True)
        assert (await client.call("GET", "/self")).status == 503


async def test_faults_hit_uploads_and_a_large_body_is_not_kept_in_memory() -> None:
    async with simulated(metadata_first=False, stored_part_size=400_000) as (sim, client):
        sim.faults.add(Fault(kind="corrupt upload", host="api", path="/content$"))
        assert (await client.send("bad", b"bytes")).status == 201
        assert sim.files()["bad"].read() != b"bytes"
        assert (await client.send("large", bytes(1_500_000))).status == 201
        file = sim.files()["large"]
        assert (file.size, file.etag and file.etag.endswith("-4")) == (1_500_000, True)
        sim.add_file("huge", Zeros(5_000_000))
        assert sim.files()["huge"].md5 == Zeros(5_000_000).md5()


async def test_one_who_asks_without_a_token_is_told_401_and_not_counted() -> None:
    async with simulated() as (sim, client):
        answer = await client.request("GET", f"{sim.endpoint}/self")
        assert answer.status == 401
        assert json.loads(answer.body)["title"] == "Unauthorized"
        assert sim.calls() == []


async def test_a_form_that_breaks_off_stores_nothing() -> None:
    async with simulated(metadata_first=False) as (sim, client):
        path = f"/coscine/api/v2{client.here}/storage/a/content"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {sim.token}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nbytes and'
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(sim.endpoint).port)
        writer.write(head.encode())
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert (sim.log[0].status, sim.files()) == (0, {})


async def test_a_huge_body_that_is_not_kept_has_the_etag_of_its_bytes() -> None:
    async with simulated(metadata_first=False, keep_bodies="discard", stored_part_size=400_000) as (
        sim,
        client,
    ):
        assert (await client.send("large", bytes(1_500_000))).status == 201
        assert sim.files()["large"].etag == Zeros(1_500_000).md5()
