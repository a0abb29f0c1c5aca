"""Resources on a real S3 server, through Coscine's API and by the keys it shows."""

import asyncio
import io

import coscine
import rdflib

from coscine_client import BASIC, encoded, simulated
from s3_server import READ, WRITE, S3Server


async def test_a_resource_shows_its_bucket_and_keys_to_those_who_may_write(
    moto_s3: S3Server,
) -> None:
    async with simulated(s3=moto_s3.place) as (sim, client):
        sim.resource = sim.add_resource("big", general_type="rdss3")
        options = (await client.call("GET", client.here)).data["type"]["options"]["rdsS3"]
        assert (options["bucketName"], options["endpoint"]) == (moto_s3.bucket, moto_s3.url)
        assert (options["accessKeyRead"], options["secretKeyRead"]) == READ
        assert (options["accessKeyWrite"], options["secretKeyWrite"]) == WRITE
        sim.project_at().role = "guest"
        options = (await client.call("GET", client.here)).data["type"]["options"]["rdsS3"]
        assert (options["accessKeyRead"], options["accessKeyWrite"]) == (READ[0], "")


async def test_options_of_datastorage_nrw_have_two_names(moto_s3: S3Server) -> None:
    async with simulated(s3=moto_s3.place) as (sim, client):
        sim.resource = sim.add_resource("big", general_type="dsnrws3")
        assert list((await client.call("GET", client.here)).data["type"]["options"]) == [
            "dataStorageNrwS3"
        ]
        sim.change(option_names="dsNrwS3")
        assert list((await client.call("GET", client.here)).data["type"]["options"]) == ["dsNrwS3"]


async def test_what_lies_in_the_bucket_is_listed_with_urls_that_work(moto_s3: S3Server) -> None:
    async with simulated(s3=moto_s3.place) as (sim, client):
        sim.resource = sim.add_resource("big", general_type="rdss3")
        for path in ("d/ä b+.txt", "top.txt", "d/e/deep"):
            moto_s3.put(path, b"bytes")
        assert sorted(item["path"] for item in (await client.list()).data) == ["d/", "top.txt"]
        inner = (await client.list("d/")).data
        assert sorted(item["path"] for item in inner) == ["d/e/", "d/ä b+.txt"]
        (file,) = (item for item in inner if item["type"] == "Leaf")
        got = await client.request("GET", file["actions"]["download"]["url"])
        assert (got.status, got.body) == (200, b"bytes")
        quota = (await client.call("GET", f"{client.here}/quota")).data
        assert quota["used"]["value"] == 15


async def test_the_api_writes_and_deletes_in_the_bucket_and_asks_for_no_metadata(
    moto_s3: S3Server,
) -> None:
    async with simulated(s3=moto_s3.place) as (sim, client):
        sim.resource = sim.add_resource("big", general_type="rdss3")
        for path, content in (("d/ä b.txt", b"bytes"), ("empty", b"")):
            assert (await client.send(path, content)).status == 201
            assert moto_s3.read(path) == content
        place = f"{client.here}/storage/{encoded('d/ä b.txt')}"
        assert (await client.call("GET", f"{place}/content")).body == b"bytes"
        assert (await client.call("DELETE", place)).status == 204
        assert moto_s3.paths() == ["empty"]


async def test_the_official_client_goes_up_and_down_natively(moto_s3: S3Server) -> None:
    content = bytes(range(256)) * 40_000
    graph = rdflib.Graph().parse(data=BASIC, format="turtle")
    async with simulated(s3=moto_s3.place) as (sim, _):
        sim.add_resource("big", general_type="rdss3")

        def drive() -> bytes:
            client = coscine.ApiClient(
                sim.token,
                base_url=sim.endpoint.removesuffix("/api/v2"),
                enable_caching=False,
                verbose=False,
            )
            resource = client.project("demo").resource("big")
            resource.upload("d.bin", content, graph)
            into = io.BytesIO()
            next(iter(resource.files())).stream(into)
            return into.getvalue()

        assert await asyncio.to_thread(drive) == content
        assert not sim.calls("POST")
    assert len([r for r in moto_s3.requests if r.method == "PUT"]) == 2
