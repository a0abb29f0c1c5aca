import asyncio
import json

import aiohttp
import pytest

from driving import simulated
from penstock.simulators import Fault

GONE = (aiohttp.ClientError, ConnectionError)


async def test_a_status_is_answered_instead_and_still_counted() -> None:
    async with simulated() as (sim, client):
        fault = Fault(kind="status", path="/user$", status=503, code=8008, headers={"A": "b"})
        armed = sim.faults.add(fault)
        answer = await client.call("GET", "/user")
        assert (answer.status, answer.code, answer.headers["A"]) == (503, 8008, "b")
        assert answer.headers["X-RateLimit-Remaining"] == "999"
        assert (await client.call("GET", "/user")).status == 200
        assert armed.hits == 1
        assert [exchange.fault for exchange in sim.log] == ["status", None]


async def test_a_fault_hits_only_what_it_is_about() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", b"abc")
        armed = sim.faults.add(
            Fault(kind="status", host="storage", method="GET", skip=1, times=2, status=500)
        )
        url = await client.download_url("a")
        statuses = [(await client.request("GET", url)).status for _ in range(5)]
        assert statuses == [200, 500, 500, 200, 200]
        assert (armed.matched, armed.hits) == (5, 2)
        sim.faults.add(Fault(kind="status", times=None))
        assert [(await client.call("GET", "/user")).status for _ in range(3)] == [500] * 3
        sim.faults.clear()
        assert (await client.call("GET", "/user")).status == 200


async def test_a_part_is_singled_out_by_its_query() -> None:
    async with simulated() as (sim, client):
        sim.faults.add(Fault(kind="status", path=r"partNumber=2\b", times=None))
        upload = await client.begin("a", 8)
        await client.put(upload, 1, b"aaaa")
        sent = await client.request("PUT", await client.part_url(upload, 2), data=b"bbbb")
        assert sent.status == 500


@pytest.mark.parametrize(("kind", "performed"), [("drop before", False), ("drop after", True)])
async def test_a_dropped_request_was_performed_or_not(kind: str, *, performed: bool) -> None:
    async with simulated() as (sim, client):
        sim.faults.add(Fault(kind=kind, method="POST"))  # type: ignore[arg-type] # parametrised
        wanted = {"name": "f", "project": sim.project, "type": "FOLDER"}
        with pytest.raises(GONE):
            await client.call("POST", "/files", wanted)
        assert ("f" in sim.folders()) is performed
        assert sim.log[-1].status == 0
        assert sim.log[-1].counted is performed


async def test_a_lost_answer_to_a_part_leaves_the_part_there() -> None:
    async with simulated() as (sim, client):
        sim.faults.add(Fault(kind="drop after", host="storage"))
        url = await client.part_url(await client.begin("a", 4), 1)
        with pytest.raises(GONE):
            await client.request("PUT", url, data=b"abcd")
        assert sim.open_uploads()[0].multipart.parts[1].content.read(0, 9) == b"abcd"


async def test_a_truncated_body_ends_early() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", bytes(1_000_000))
        sim.faults.add(Fault(kind="truncate", host="storage", after=600_000))
        url = await client.download_url("a")
        async with client.session.get(url) as answer:
            assert answer.content_length == 1_000_000
            assert await answer.content.readexactly(600_000) == bytes(600_000)
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.readany()


async def test_one_bit_of_a_body_flips() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", b"0123456789")
        url = await client.download_url("a")
        sim.faults.add(Fault(kind="flip", host="storage"))
        assert (await client.request("GET", url)).body == b"0123446789"
        sim.faults.add(Fault(kind="flip", host="storage", after=0))
        assert (await client.request("GET", url)).body == b"1123456789"


async def test_a_range_is_ignored_or_mistaken() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", b"0123456789")
        url = await client.download_url("a")
        sim.faults.add(Fault(kind="ignore range", host="storage"))
        sim.faults.add(Fault(kind="wrong range", host="storage"))
        whole = await client.request("GET", url, headers={"Range": "bytes=2-4"})
        wrong = await client.request("GET", url, headers={"Range": "bytes=2-4"})
        assert (whole.status, whole.body) == (200, b"0123456789")
        assert (wrong.status, wrong.body) == (206, b"345")
        assert wrong.headers["Content-Range"] == "bytes 3-5/10"


async def test_a_corrupted_upload_shows_in_its_etag() -> None:
    async with simulated() as (sim, client):
        sim.faults.add(Fault(kind="corrupt upload", method="PUT"))
        upload = await client.begin("a", 3)
        bad = await client.put(upload, 1, b"abc")
        good = await client.put(upload, 1, b"abc")
        assert bad != good
        assert (await client.complete(upload, [bad])).status == 400
        assert (await client.complete(upload, [good])).status == 201


async def test_an_answer_is_html_or_broken_json() -> None:
    async with simulated() as (sim, client):
        sim.faults.add(Fault(kind="html"))
        sim.faults.add(Fault(kind="malformed json"))
        page = await client.call("GET", "/user")
        broken = await client.call("GET", "/user")
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert broken.headers["Content-Type"] == "application/json"
        with pytest.raises(json.JSONDecodeError):
            _ = broken.json


async def test_an_answer_is_delayed() -> None:
    async with simulated() as (sim, client):
        sim.faults.add(Fault(kind="delay", seconds=0.05))
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert (await client.call("GET", "/user")).status == 200
        assert loop.time() - start >= 0.05


async def test_a_stalled_body_stops_half_way_and_ends_with_the_simulator() -> None:
    async with simulated() as (sim, client):
        sim.add_file(sim.project, "a", bytes(1000))
        url = await client.download_url("a")
        sim.faults.add(Fault(kind="stall", host="storage"))
        async with client.session.get(url) as answer:
            assert await answer.content.readexactly(500) == bytes(500)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(answer.content.readany(), 0.05)


async def test_a_request_is_sent_elsewhere() -> None:
    async with simulated() as (sim, client):
        sim.faults.add(Fault(kind="redirect", url="http://127.0.0.1:9/elsewhere"))
        answer = await client.call("GET", "/user")
        assert (answer.status, answer.headers["Location"]) == (307, "http://127.0.0.1:9/elsewhere")


async def test_a_client_that_leaves_in_the_middle_leaves_no_part() -> None:
    async with simulated() as (sim, client):
        url = await client.part_url(await client.begin("a", 4), 1)
        host, _, rest = url.removeprefix("http://").partition("/")
        name, _, port = host.partition(":")
        _, writer = await asyncio.open_connection(name, int(port))
        writer.write(
            f"PUT /{rest} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nab".encode()
        )
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()
        await writer.wait_closed()
        while len(sim.log) < 3:  # noqa: ASYNC110 - the log cannot be waited for
            await asyncio.sleep(0.001)
        assert (sim.log[-1].status, sim.log[-1].bytes_in) == (0, 2)
        assert sim.open_uploads()[0].multipart.parts == {}
