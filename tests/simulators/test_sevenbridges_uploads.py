from typing import Any

import pytest

from driving import Clock, report, simulated
from penstock.simulators import Zeros


async def test_parts_may_be_reported_one_by_one_all_at_once_or_on_completion() -> None:
    async with simulated() as (sim, client):
        upload = await client.begin("a", 12)
        one = await client.put(upload, 1, b"aaaa")
        two = await client.put(upload, 2, b"bbbb")
        three = await client.put(upload, 3, b"cccc")
        path = f"/upload/multipart/{upload}"
        assert (await client.call("POST", f"{path}/part/", one)).status == 200
        assert (await client.call("POST", path, {"parts": [two]})).body == b""
        shown = await client.call("GET", path, list_parts="true")
        assert shown.json["uploaded_parts_count"] == 2
        assert shown.json["parts"] == [one, two]
        done = await client.complete(upload, [three])
        assert (done.status, done.json["name"], done.json["size"]) == (201, "a", 12)
        assert sim.files()["a"].read() == b"aaaabbbbcccc"
        assert sim.open_uploads() == []


async def test_completing_with_parts_can_be_switched_off() -> None:
    async with simulated(complete_takes_parts=False) as (_, client):
        upload = await client.begin("a", 3)
        part = await client.put(upload, 1, b"abc")
        assert (await client.complete(upload, [part])).status == 400
        await client.call("POST", f"/upload/multipart/{upload}/part", part)
        assert (await client.complete(upload)).status == 201


@pytest.mark.parametrize("damage", ["missing", "etag", "short", "never sent"])
async def test_an_upload_that_is_not_whole_is_not_completed(damage: str) -> None:
    async with simulated() as (sim, client):
        upload = await client.begin("a", 8)
        parts = [await client.put(upload, 1, b"aaaa")]
        if damage == "etag":
            await client.put(upload, 2, b"bbbb")
            parts.append(report(2, '"00000000000000000000000000000000"'))
        elif damage == "short":
            parts.append(await client.put(upload, 2, b"bbb"))
        elif damage == "never sent":
            parts.append(report(2, '"00000000000000000000000000000000"'))
        answer = await client.complete(upload, parts)
        assert (answer.status, answer.code) == (400, 8007)
        assert sim.files() == {}
        assert len(sim.open_uploads()) == 1


async def test_the_last_copy_of_a_part_counts() -> None:
    async with simulated() as (sim, client):
        upload = await client.begin("a", 4)
        await client.put(upload, 1, b"aaaa")
        part = await client.put(upload, 1, b"bbbb")
        assert (await client.complete(upload, [part])).status == 201
        assert sim.files()["a"].read() == b"bbbb"


async def test_an_empty_file_is_one_empty_part() -> None:
    async with simulated() as (sim, client):
        assert (await client.upload("empty", b"")).status == 201
        assert sim.files()["empty"].size == 0


async def test_the_size_need_not_be_known() -> None:
    async with simulated() as (sim, client):
        upload = await client.begin("a", None)
        parts = [await client.put(upload, 1, b"aaaa"), await client.put(upload, 2, b"b")]
        assert (await client.complete(upload, parts)).status == 201
        assert sim.files()["a"].read() == b"aaaab"


async def test_the_server_may_insist_on_its_own_part_size() -> None:
    async with simulated(insist_part_size=3) as (_, client):
        wanted = {"project": "demo/project", "name": "a", "size": 4, "part_size": 4}
        begun = await client.call("POST", "/upload/multipart", wanted)
        assert begun.json["part_size"] == 3
        upload = begun.json["upload_id"]
        parts = [await client.put(upload, 1, b"aaaa")]
        refused = await client.complete(upload, parts)
        assert (refused.status, refused.code) == (400, 8007)


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"name": "a/b"}, 400, 90000),
        ({"name": "a" * 256}, 400, 90000),
        ({"name": ""}, 400, 90000),
        ({"name": "a", "size": 5 * 1024**4 + 1}, 400, 8013),
        ({"name": "a", "size": -1}, 400, 8013),
        ({"name": "a", "part_size": 5 * 1024**2 - 1}, 400, 8013),
        ({"name": "a", "part_size": 5 * 1024**3 + 1}, 400, 8013),
        ({"name": "a", "size": 100_000_000_000, "part_size": 5 * 1024**2}, 400, 8013),
        ({"name": "a", "parent": "nothing", "project": None}, 404, 5002),
        ({"name": "a", "project": "demo/nothing"}, 404, 3002),
        ({"name": "there"}, 409, 8004),
    ],
)
async def test_an_upload_that_cannot_be_is_refused_at_once(
    wanted: dict[str, Any], status: int, code: int
) -> None:
    async with simulated(smallest_part=5 * 1024**2) as (sim, client):
        sim.add_file(sim.project, "there", b"")
        answer = await client.call("POST", "/upload/multipart", {"project": sim.project, **wanted})
        assert (answer.status, answer.code) == (status, code)


async def test_a_part_size_not_asked_for_keeps_within_ten_thousand_parts() -> None:
    async with simulated() as (sim, client):
        for size, part_size in ((1, 32 * 1024**2), (5 * 1024**4, 549755814)):
            wanted = {"project": sim.project, "name": "a", "size": size}
            begun = await client.call("POST", "/upload/multipart", wanted)
            assert begun.json["part_size"] == part_size


async def test_a_part_number_beyond_the_last_has_no_url() -> None:
    async with simulated() as (_, client):
        upload = await client.begin("a", 8)
        for number in ("0", "3", "x"):
            answer = await client.call("GET", f"/upload/multipart/{upload}/part/{number}")
            assert (answer.status, answer.code) == (400, 8012)
        malformed = await client.call("POST", f"/upload/multipart/{upload}/part", {"part": 1})
        assert (malformed.status, malformed.code) == (400, 8014)


async def test_a_parts_url_comes_with_all_that_is_needed_to_send_it() -> None:
    async with simulated(
        clock=Clock(), upload_url_lifetime_s=60, part_headers={"x-amz-meta-a": "b"}
    ) as (sim, client):
        upload = await client.begin("a", 3)
        path = f"/upload/multipart/{upload}/part/1"
        place = (await client.call("GET", path)).json
        url = place.pop("url")
        assert place == {
            "method": "PUT",
            "expires": "2027-01-15T08:01:00Z",
            "headers": {"x-amz-meta-a": "b"},
            "success_codes": [200],
            "report": {"headers": ["ETag"], "body": {}},
        }
        assert (await client.request("PUT", url, data=b"abc")).status == 403
        assert (
            await client.request("PUT", url, data=b"abc", headers=place["headers"])
        ).status == 200
        sim.change(success_codes_in="report")
        place = (await client.call("GET", path)).json
        assert "success_codes" not in place
        assert place["report"]["success_codes"] == [200]


async def test_overwriting_replaces_the_file_and_gives_it_another_id() -> None:
    for moment in ("init", "complete"):
        async with simulated(overwrite_deletes_at=moment) as (sim, client):
            old = sim.add_file(sim.project, "a", b"old")
            upload = await client.begin("a", 3, overwrite="true")
            assert ("a" in sim.files()) is (moment == "complete")
            done = await client.complete(upload, [await client.put(upload, 1, b"new")])
            assert done.status == 201
            assert sim.files()["a"].read() == b"new"
            assert sim.files()["a"].id != old


async def test_of_two_uploads_to_one_name_the_first_completed_wins() -> None:
    async with simulated() as (sim, client):
        first, second = await client.begin("a", 1), await client.begin("a", 1)
        late = await client.put(first, 1, b"1")
        early = await client.put(second, 1, b"2")
        assert (await client.complete(second, [early])).status == 201
        refused = await client.complete(first, [late])
        assert (refused.status, refused.code) == (409, 8004)
        assert sim.files()["a"].read() == b"2"
    async with simulated(same_name_uploads=False) as (sim, client):
        await client.begin("a", 1)
        wanted = {"project": sim.project, "name": "a"}
        refused = await client.call("POST", "/upload/multipart", wanted)
        assert (refused.status, refused.code) == (409, 8006)


async def test_own_unfinished_uploads_are_listed_and_aborted() -> None:
    async with simulated() as (sim, client):
        ids = [await client.begin(f"f{number}", 1) for number in range(3)]
        page = await client.call("GET", "/upload/multipart", limit="2", offset="1")
        assert [item["upload_id"] for item in page.json["items"]] == ids[1:]
        assert page.headers["X-Total-Matching-Query"] == "3"
        url = await client.part_url(ids[0], 1)
        assert (await client.call("DELETE", f"/upload/multipart/{ids[0]}")).status == 204
        again = await client.call("DELETE", f"/upload/multipart/{ids[0]}")
        assert (again.status, again.code) == (404, 8003)
        assert (await client.request("PUT", url, data=b"a")).status == 404
        assert [upload.id for upload in sim.open_uploads()] == ids[1:]


async def test_completing_twice_is_refused_or_repeated() -> None:
    for again, status in (("refuse", 404), ("repeat", 201)):
        async with simulated(complete_again=again) as (_, client):
            upload = await client.begin("a", 1)
            parts = [await client.put(upload, 1, b"1")]
            first = await client.complete(upload, parts)
            second = await client.complete(upload, parts)
            assert (first.status, second.status) == (201, status)


async def test_without_parallel_uploads_parts_come_in_order() -> None:
    async with simulated(parallel_uploads=False) as (sim, client):
        upload = await client.begin("a", 8)
        assert sim.open_uploads()[0].parallel is False
        late = await client.part_url(upload, 2)
        assert (await client.request("PUT", late, data=b"bbbb")).status == 400
        parts = [await client.put(upload, 1, b"aaaa")]
        sent = await client.request("PUT", late, data=b"bbbb")
        parts.append(report(2, sent.headers["ETag"]))
        assert (await client.complete(upload, parts)).status == 201


@pytest.mark.parametrize("keep", ["auto", "memory", "disk", "discard"])
async def test_bodies_are_kept_where_told(keep: str) -> None:
    data = bytes(3_000_000) + b"end"
    async with simulated(keep_bodies=keep) as (sim, client):
        assert (await client.upload("a", data, 2_000_000)).status == 201
        folder = sim.storage.bodies.new_path().parent
        kept = sum(path.stat().st_size for path in folder.iterdir())
        assert kept == {"auto": 2_000_000, "disk": 3_000_003}.get(keep, 0)
        got = await client.request("GET", await client.download_url("a"))
        if keep == "discard":
            assert got.status == 501
            assert sim.files()["a"].size == 3_000_003
        else:
            assert got.body == data
        sim.remove_file(sim.project, "a")
        assert list(folder.iterdir()) == []
    assert not folder.exists()


async def test_a_file_of_terabytes_takes_no_room() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "huge", Zeros(2 * 1024**4), part_size=256 * 1024**2)
        url = await client.download_url("huge")
        got = await client.request(
            "GET", url, headers={"Range": "bytes=1999999999990-1999999999999"}
        )
        assert got.body == bytes(10)
        assert got.headers["Content-Range"] == f"bytes 1999999999990-1999999999999/{2 * 1024**4}"
