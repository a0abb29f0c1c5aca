"""The official client, unchanged, is satisfied with the simulator, in those flows that work."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import date

import coscine
import pytest
import rdflib
from openapi_client.exceptions import UnauthorizedException

from penstock.simulators import Coscine, CoscineSettings
from penstock.simulators.coscine import MICROSCOPY_PROFILE

METADATA = """
    @prefix dcterms: <http://purl.org/dc/terms/> .
    [] a <https://purl.org/coscine/ap/base/> ; dcterms:title "A title" .
"""


def connected(sim: Coscine, token: str | None = None) -> coscine.ApiClient:
    return coscine.ApiClient(
        token or sim.token,
        base_url=sim.endpoint.removesuffix("/api/v2"),
        enable_caching=False,
        verbose=False,
    )


@pytest.fixture
async def sim() -> AsyncIterator[Coscine]:
    async with Coscine(CoscineSettings(metadata_check="syntax")) as sim:
        yield sim


@pytest.fixture
def graph() -> rdflib.Graph:
    return rdflib.Graph().parse(data=METADATA, format="turtle")


async def test_projects_resources_and_their_quota_are_found(sim: Coscine) -> None:
    sim.add_project("Sub", parent=sim.project)

    def find() -> tuple[coscine.Project, coscine.Resource]:
        project = connected(sim).project("demo")
        return project, project.resource("data")

    project, resource = await asyncio.to_thread(find)
    assert (project.id, str(resource.id)) == (sim.project, sim.resource)
    quota = await asyncio.to_thread(lambda: resource.quota)
    assert (quota.used, quota.reserved) == (0, 25 * 1024**3)


async def test_a_file_goes_up_is_replaced_comes_down_and_is_deleted(
    sim: Coscine, graph: rdflib.Graph
) -> None:
    def drive() -> bytes:
        resource = connected(sim).project("demo").resource("data")
        resource.upload("a b.txt", b"first", graph)
        resource.upload("a b.txt", b"second", graph)
        (file,) = resource.files()
        assert (file.path, file.size) == ("a b.txt", 6)
        into = io.BytesIO()
        file.stream(into)
        file.delete()
        return into.getvalue()

    assert await asyncio.to_thread(drive) == b"second"
    assert sim.files() == {}
    assert not sim.violations


async def test_an_upload_costs_three_calls_and_encodes_paths_twice(
    sim: Coscine, graph: rdflib.Graph
) -> None:
    resource = await asyncio.to_thread(lambda: connected(sim).project("demo").resource("data"))
    before = len(sim.calls())
    await asyncio.to_thread(resource.upload, "dir/ä b.txt", b"bytes", graph)
    assert [call.method for call in sim.calls()[before:]] == ["PUT", "HEAD", "POST"]
    assert sim.encodings == {"dir/ä b.txt": "twice"}
    assert list(sim.files()) == ["dir/ä b.txt"]
    assert "A title" in sim.metadata()["dir/ä b.txt"]


async def test_its_listing_asks_for_pages_of_ten_after_the_first(sim: Coscine) -> None:
    for number in range(120):
        sim.add_file(f"f{number:03}", b"x")

    def drive() -> list[str]:
        resource = connected(sim).project("demo").resource("data")
        return [file.path for file in resource.files()]

    paths = await asyncio.to_thread(drive)
    assert (len(paths), len(set(paths))) == (160, 120)
    assert len(sim.calls("GET", "/storage")) == 12


async def test_a_wrong_token_is_no_way_in(sim: Coscine) -> None:
    with pytest.raises(UnauthorizedException):
        await asyncio.to_thread(connected, sim, "wrong")
    assert sim.log[-1].status == 401
    assert sim.calls() == []


async def test_its_form_knows_fields_terms_and_nested_profiles_and_is_accepted() -> None:
    async with Coscine() as sim:
        images = sim.add_resource("images", profile=MICROSCOPY_PROFILE)

        def drive() -> list[str]:
            client = connected(sim)
            resource = client.project("demo").resource("images")
            form = resource.metadata_form()
            form["Title"] = "A cell"
            form["Creator"] = ["A. Nother", "B. Nother"]
            form["Production Date"] = date(2026, 3, 31)
            form["Subject Area"] = "Cell Biology"
            form["Staining"] = "DAPI"
            instrument = form.field("Instrument").metadata_form()
            instrument["Model"] = "X100"
            form["Instrument"] = instrument
            resource.upload("cell.tif", b"image", form)
            return form.keys()

        keys = await asyncio.to_thread(drive)
        assert {"Title", "Rights", "Objective", "Exposure (ms)"} <= set(keys)
        assert sim.files(images)["cell.tif"].read() == b"image"
        assert "subjects/210" in sim.metadata(images)["cell.tif"]
        assert len(sim.calls("GET", "/vocabularies/instances")) == 7
