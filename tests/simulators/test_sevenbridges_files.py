import asyncio

import pytest
from aiohttp import web

from driving import Client, simulated
from penstock.simulators import SevenBridges, SevenBridgesSettings, serve


async def names(client: Client, **params: str) -> list[str]:
    answer = await client.call("GET", "/files", **params)
    assert answer.status == 200, answer.body
    return [item["name"] for item in answer.json["items"]]


async def test_a_listing_has_fifty_items_if_not_told_and_never_more_than_a_hundred() -> None:
    async with simulated() as (sim, client):
        for number in range(120):
            sim.add_file(sim.project, f"f{number:03}", b"")
        assert len(await names(client, project=sim.project)) == 50
        assert len(await names(client, project=sim.project, limit="1000")) == 100
        page = await client.call("GET", "/files", project=sim.project, limit="100", offset="100")
        assert len(page.json["items"]) == 20
        assert page.headers["X-Total-Matching-Query"] == "120"
        assert set(page.json["items"][0]) == {"href", "id", "name", "project", "parent", "type"}
        sim.change(too_high_limit="refuse")
        refused = await client.call("GET", "/files", project=sim.project, limit="101")
        assert refused.status == 400


async def test_the_documented_next_links_lead_nowhere() -> None:
    async with simulated() as (sim, client):
        for number in range(5):
            sim.add_file(sim.project, f"f{number}", b"")
        page = await client.call("GET", "/files", project=sim.project, limit="2")
        (link,) = page.json["links"]
        assert link["href"].endswith("/v2/files?offset=2?limit=2")
        headers = {"X-SBG-Auth-Token": sim.token}
        assert (await client.request("GET", link["href"], headers=headers)).status == 400
        sim.change(malformed_links=False)
        page = await client.call("GET", "/files", project=sim.project, limit="2", offset="2")
        following, before = (link["href"] for link in page.json["links"])
        after = (await client.request("GET", following, headers=headers)).json["items"]
        first = (await client.request("GET", before, headers=headers)).json["items"]
        assert [item["name"] for item in after] == ["f4"]
        assert [item["name"] for item in first] == ["f0", "f1"]


async def test_a_listing_is_of_one_place_only() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "top", b"")
        sim.add_file(sim.project, "folder/inner", b"")
        folder = sim.folders()["folder"]
        both = await client.call("GET", "/files", project=sim.project, parent=folder)
        neither = await client.call("GET", "/files")
        assert await names(client, project=sim.project) == ["top", "folder"]
        assert await names(client, parent=folder) == ["inner"]
        assert (both.status, both.code) == (400, 5031)
        assert neither.status == 400
        redirect = await client.call("GET", f"/projects/{sim.project}/files", limit="1")
        assert redirect.status == 302
        assert redirect.headers["Location"].endswith("/files?project=demo%2Fproject&limit=1")


async def test_listings_are_filtered_by_name_metadata_and_tag() -> None:
    async with simulated() as (sim, client):
        for name in ("a", "b", "c"):
            sim.add_file(sim.project, name, b"", metadata={"sample": name.upper()})
        await client.call("PATCH", f"/files/{sim.files()['c'].id}", {"tags": ["raw"]})
        url = f"{sim.endpoint}/files?project={sim.project}&name=c&name=a&name=none"
        both = await client.request("GET", url, headers={"X-SBG-Auth-Token": sim.token})
        assert [item["name"] for item in both.json["items"]] == ["c", "a"]
        assert await names(client, project=sim.project, **{"metadata.sample": "B"}) == ["b"]
        assert await names(client, project=sim.project, tag="raw") == ["c"]


@pytest.mark.parametrize(
    ("has_size", "of_all", "of_named"),
    [(True, True, True), (False, False, True), ("never", False, False)],
)
async def test_sizes_in_listings_can_be_withheld(
    *, has_size: bool | str, of_all: bool, of_named: bool
) -> None:
    async with simulated(listing_has_size=has_size) as (sim, client):
        file = sim.add_file(sim.project, "a", b"abc")
        for fields, expected in (("_all", of_all), ("id,size", of_named)):
            page = await client.call("GET", "/files", project=sim.project, fields=fields)
            assert ("size" in page.json["items"][0]) is expected
        assert (await client.call("GET", f"/files/{file}")).json["size"] == 3
        some = await client.call("GET", f"/files/{file}", fields="_all,!metadata")
        assert "metadata" not in some.json
        assert some.json["size"] == 3


async def test_a_test_can_change_what_is_there_between_two_pages() -> None:
    async with simulated() as (sim, client):
        for number in range(4):
            sim.add_file(sim.project, f"f{number}", b"")

        def shift(request: web.Request) -> None:
            if request.query.get("offset") == "2":
                sim.remove_file(sim.project, "f0")

        sim.on_request = shift
        first = await names(client, project=sim.project, limit="2")
        second = await names(client, project=sim.project, limit="2", offset="2")
        assert (first, second) == (["f0", "f1"], ["f3"])


async def test_a_folder_is_made_once() -> None:
    async with simulated() as (sim, client):
        wanted = {"name": "results", "project": sim.project, "type": "FOLDER"}
        made = await client.call("POST", "/files", wanted)
        again = await client.call("POST", "/files", wanted)
        inner = {"name": "inner", "parent": made.json["id"], "type": "folder"}
        nested = await client.call("POST", "/files", inner)
        assert (made.status, made.json["type"]) == (201, "FOLDER")
        assert (again.status, again.code) == (409, 5030)
        assert nested.json["parent"] == made.json["id"]
        assert list(sim.folders()) == ["results", "results/inner"]
        both = await client.call("POST", "/files", {**inner, "project": sim.project})
        nowhere = await client.call("POST", "/files", {**inner, "parent": "nothing"})
        slash = await client.call("POST", "/files", {**wanted, "name": "a/b"})
        long = await client.call("POST", "/files", {**wanted, "name": "a" * 256})
        assert (both.status, both.code) == (400, 5031)
        assert (nowhere.status, nowhere.code) == (404, 5002)
        assert (slash.status, long.status) == (400, 400)


async def test_a_project_shows_its_permissions_and_they_are_enforced() -> None:
    async with simulated() as (sim, client):
        sim.add_project("demo/readonly", {"write": False})
        shown = await client.call("GET", "/projects/demo/readonly")
        assert shown.json["permissions"] == {
            "write": False,
            "read": True,
            "copy": True,
            "execute": True,
            "admin": True,
        }
        upload = {"name": "a", "project": "demo/readonly"}
        refused = await client.call("POST", "/upload/multipart", upload)
        folder = await client.call("POST", "/files", {**upload, "type": "FOLDER"})
        assert (refused.status, refused.code) == (403, 8001)
        assert (folder.status, folder.code) == (403, 5001)
        missing = await client.call("GET", "/projects/demo/nothing")
        malformed = await client.call("GET", "/files", project="demo")
        assert (missing.status, missing.code) == (404, 3002)
        assert (malformed.status, malformed.code) == (400, 3012)


async def test_bulk_calls_take_a_hundred_files_and_report_each() -> None:
    async with simulated() as (sim, client):
        ids = [sim.add_file(sim.project, f"f{n}", b"") for n in range(100)]
        assert (
            await client.call("POST", "/bulk/files/get", {"file_ids": [*ids, "x"]})
        ).status == 400
        some = await client.call("POST", "/bulk/files/get", {"file_ids": [ids[3], "x"]})
        first, second = some.json["items"]
        assert first["resource"]["name"] == "f3"
        assert second["error"]["code"] == 5002
        gone = await client.call("POST", "/bulk/files/delete", {"file_ids": ids})
        assert gone.json["items"] == [{"resource": {}}] * 100
        assert sim.files() == {}


async def test_metadata_is_replaced_or_merged() -> None:
    async with simulated() as (sim, client):
        path = f"/files/{sim.add_file(sim.project, 'a', b'', metadata={'x': '1'})}/metadata"
        merged = await client.call("PATCH", path, {"y": "2"})
        assert merged.json == {"x": "1", "y": "2"}
        replaced = await client.call("PUT", path, {"z": "3"})
        assert replaced.json == (await client.call("GET", path)).json == {"z": "3"}


async def test_wrong_methods_paths_and_bodies_are_told_apart() -> None:
    async with simulated() as (sim, client):
        nowhere = await client.call("GET", "/nothing")
        method = await client.call("DELETE", "/user")
        body = await client.request(
            "POST",
            f"{sim.endpoint}/files",
            data=b"{",
            headers={"X-SBG-Auth-Token": sim.token},
        )
        codes = [(each.status, each.code) for each in (nowhere, method, body)]
        assert codes == [(404, 90003), (405, 90006), (400, 90009)]


async def test_serving_announces_what_a_person_needs_and_ends_when_cancelled() -> None:
    lines: list[str] = []
    announced = asyncio.Event()

    def announce(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            announced.set()

    settings = SevenBridgesSettings()
    serving = asyncio.create_task(serve("sevenbridges", settings, announce=announce))
    await announced.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert [line.partition(": ")[0] for line in lines] == ["endpoint", "token", "project"]
    assert lines[2] == "project: demo/project"
    with pytest.raises(ValueError, match="no simulator"):
        await serve("floppy", announce=lines.append)


async def test_two_simulators_do_not_share_anything() -> None:
    async with SevenBridges() as one, SevenBridges() as other:
        one.add_file(one.project, "a", b"")
        assert one.endpoint != other.endpoint
        assert other.files() == {}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("id,size", {"id", "size"}),
        ("name,metadata.sample,!name", {"metadata"}),
        ("!metadata,!origin,!storage,!href,!tags,!created_on,!modified_on,!project,!parent", None),
    ],
)
async def test_fields_are_chosen_and_left_out(fields: str, shown: set[str] | None) -> None:
    async with simulated() as (sim, client):
        metadata = {"sample": "s1", "other": "x"}
        file = sim.add_file(sim.project, "a", b"abc", metadata=metadata)
        got = (await client.call("GET", f"/files/{file}", fields=fields)).json
        assert set(got) == (shown or {"id", "name", "size", "type"})
        assert got.get("metadata", {}) in ({}, {"sample": "s1"})
