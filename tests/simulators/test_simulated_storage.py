import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from driving import Clock, simulated
from penstock.simulators import Bytes, Joined, Zeros


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()  # noqa: S324 - what ETags are made of


@pytest.mark.parametrize(
    ("settings", "status"),
    [({}, 403), ({"signature": "sigv2"}, 403), ({"google": True, "expired_status": 400}, 400)],
)
async def test_a_presigned_url_works_until_it_expires(
    settings: dict[str, Any], status: int
) -> None:
    clock = Clock()
    async with simulated(clock=clock, download_url_lifetime_s=60, **settings) as (sim, client):
        sim.add_file(sim.project, "a", b"abc")
        url = await client.download_url("a")
        clock.now += 59.9
        assert (await client.request("GET", url)).body == b"abc"
        clock.now += 0.1
        late = await client.request("GET", url)
        assert late.status == status
        assert b"<Code>AccessDenied</Code><Message>Request has expired</Message>" in late.body


async def test_the_expiry_stands_in_the_query() -> None:
    for settings, text in (
        ({"signature": "sigv2"}, "Expires=1800003600"),
        ({}, "X-Amz-Date=20270115T080000Z&X-Amz-Expires=3600"),
        ({"google": True}, "X-Goog-Date=20270115T080000Z&X-Goog-Expires=3600"),
    ):
        async with simulated(clock=Clock(), **settings) as (sim, client):
            sim.add_file(sim.project, "a", b"abc")
            assert text in await client.download_url("a")


async def test_a_signature_is_good_for_one_method_and_path_only() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", b"abc")
        sim.add_file(sim.project, "b", b"abc")
        url, other = await client.download_url("a"), await client.download_url("b")
        head = await client.request("HEAD", url)
        moved = await client.request("GET", other.partition("?")[0] + "?" + url.partition("?")[2])
        longer = await client.request("GET", url.replace("Expires=3600", "Expires=9999"))
        bare = await client.request("GET", url.partition("?")[0])
        assert [each.status for each in (head, moved, longer, bare)] == [403] * 4
        assert b"SignatureDoesNotMatch" in moved.body
        assert b"AccessDenied" in bare.body


async def test_a_token_sent_to_the_storage_is_refused_and_remembered() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", b"abc")
        url = await client.download_url("a")
        one = await client.request("GET", url, headers={"X-SBG-Auth-Token": sim.token})
        two = await client.request("GET", url, headers={"Authorization": f"Bearer {sim.token}"})
        assert (one.status, two.status) == (400, 400)
        assert [each.what for each in sim.violations] == [
            "X-SBG-Auth-Token sent",
            "Authorization sent",
        ]
        assert sim.log[-1].has_token


async def test_ranges_are_answered_as_the_standard_says() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", b"0123456789")
        sim.add_file(sim.project, "empty", b"")
        url = await client.download_url("a")
        for wanted, status, body, told in (
            ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
            ("bytes=7-", 206, b"789", "bytes 7-9/10"),
            ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
            ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
            ("bytes=0-1,3-4", 200, b"0123456789", None),
            ("lines=0-1", 200, b"0123456789", None),
        ):
            got = await client.request("GET", url, headers={"Range": wanted})
            assert (got.status, got.body, got.headers.get("Content-Range")) == (status, body, told)
            assert got.headers["Content-Length"] == str(len(body))
        for path, size in (("a", 10), ("empty", 0)):
            beyond = await client.request(
                "GET", await client.download_url(path), headers={"Range": "bytes=10-"}
            )
            assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
        assert sim.log[-1].range == "bytes=10-"


async def test_conditions_hold_a_download_to_one_version() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", b"0123456789")
        url = await client.download_url("a")
        got = await client.request("GET", url)
        etag, modified = got.headers["ETag"], got.headers["Last-Modified"]
        for header, value, status in (
            ("If-Match", etag, 206),
            ("If-Match", '"other"', 412),
            ("If-Range", etag, 206),
            ("If-Range", modified, 206),
            ("If-Range", '"other"', 200),
            ("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT", 200),
            ("If-None-Match", etag, 304),
        ):
            answer = await client.request("GET", url, headers={"Range": "bytes=0-1", header: value})
            assert answer.status == status, header


async def test_etags_are_md5s_and_of_uploads_md5s_of_md5s() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "whole", b"0123456789")
        sim.add_file(sim.project, "seeded", b"0123456789", part_size=4)
        upload = await client.begin("sent", 10)
        parts = [
            await client.put(upload, number, piece)
            for number, piece in enumerate((b"0123", b"4567", b"89"), 1)
        ]
        assert parts[0]["response"]["headers"]["ETag"] == f'"{md5(b"0123")}"'
        await client.complete(upload, parts)
        joined = b"".join(bytes.fromhex(md5(piece)) for piece in (b"0123", b"4567", b"89"))
        expected = {"whole": md5(b"0123456789"), "seeded": f"{md5(joined)}-3"}
        expected["sent"] = expected["seeded"]
        for path, etag in expected.items():
            got = await client.request("GET", await client.download_url(path))
            assert got.headers["ETag"] == f'"{etag}"'
            assert sim.files()[path].etag == etag


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"sse_kms": True}, False),
        ({"wrong_etags": "random"}, False),
        ({"wrong_etags": "fixed"}, True),
    ],
)
async def test_etags_can_prove_nothing(settings: dict[str, Any], *, same: bool) -> None:
    async with simulated(**settings) as (sim, client):
        upload = await client.begin("a", 3)
        first = await client.put(upload, 1, b"abc")
        second = await client.put(upload, 1, b"abc")
        etags = [part["response"]["headers"]["ETag"].strip('"') for part in (first, second)]
        assert all(len(etag) == 32 and etag != md5(b"abc") for etag in etags)
        assert (etags[0] == etags[1]) is same
        assert (await client.complete(upload, [second])).status == 201
        got = await client.request("GET", await client.download_url("a"))
        kms = got.headers.get("x-amz-server-side-encryption")
        assert kms == ("aws:kms" if sim.settings.sse_kms else None)


async def test_a_storage_may_have_no_etags_at_all() -> None:
    async with simulated(etags=False) as (_, client):
        upload = await client.begin("a", 3)
        place = await client.call("GET", f"/upload/multipart/{upload}/part/1")
        assert place.json["report"]["headers"] == []
        sent = await client.request("PUT", place.json["url"], data=b"abc")
        assert "ETag" not in sent.headers
        part = {"part_number": 1, "response": {"headers": {}}}
        assert (await client.complete(upload, [part])).status == 201
        got = await client.request("GET", await client.download_url("a"))
        assert got.body == b"abc"
        assert "ETag" not in got.headers


async def test_google_tells_a_hash_of_its_own() -> None:
    async with simulated(google=True) as (sim, client):
        await client.upload("a", b"0123456789")
        got = await client.request("GET", await client.download_url("a"))
        told = base64.b64encode(bytes.fromhex(md5(b"0123456789"))).decode()
        assert got.headers["x-goog-hash"] == f"md5={told}"
        sim.change(goog_md5=False)
        got = await client.request("GET", await client.download_url("a"))
        # The CRC32C of these ten digits, by another implementation than the simulator's.
        assert got.headers["x-goog-hash"] == "crc32c=KAwGng=="


async def test_a_put_needs_a_length_and_its_md5_is_checked_if_told() -> None:
    async with simulated() as (_, client):
        url = await client.part_url(await client.begin("a", 3), 1)

        async def stream() -> AsyncIterator[bytes]:
            yield b"abc"

        lengthless = await client.request("PUT", url, data=stream())
        wrong = await client.request("PUT", url, data=b"abc", headers={"Content-MD5": "AAAA"})
        right = base64.b64encode(bytes.fromhex(md5(b"abc"))).decode()
        good = await client.request("PUT", url, data=b"abc", headers={"Content-MD5": right})
        assert [each.status for each in (lengthless, wrong, good)] == [411, 400, 200]


async def test_a_deleted_file_is_gone_from_the_storage_but_not_its_copy() -> None:
    async with simulated() as (sim, client):
        file = sim.add_file(sim.project, "a", b"abc")
        url = await client.download_url("a")
        copy = {"project": sim.project, "name": "b"}
        assert (await client.call("POST", f"/files/{file}/actions/copy", copy)).status == 201
        await client.call("DELETE", f"/files/{file}")
        assert (await client.request("GET", url)).status == 200
        await client.call("DELETE", f"/files/{sim.files()['b'].id}")
        assert (await client.request("GET", url)).status == 404


async def test_a_connection_is_no_faster_than_its_bandwidth() -> None:
    async with simulated(bandwidth=200_000) as (sim, client):
        sim.add_file(sim.project, "a", bytes(20_000))
        url = await client.download_url("a")
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert len((await client.request("GET", url)).body) == 20_000
        assert 0.09 < loop.time() - start < 1


def test_contents_read_alike_however_they_are_held() -> None:
    joined = Joined([Bytes(b"abc"), Bytes(b""), Zeros(3), Bytes(b"def")])
    whole = b"abc\0\0\0def"
    for offset in range(11):
        for length in range(11):
            assert joined.read(offset, length) == whole[offset : offset + length]
    assert joined.md5() == md5(whole)
    assert Zeros(3_000_000).md5(1, 2_500_000) == md5(bytes(2_500_000))
