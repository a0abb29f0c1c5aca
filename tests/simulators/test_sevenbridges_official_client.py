"""The official client, unchanged, is satisfied with the simulator."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sevenbridges
from sevenbridges.errors import BadRequest, Conflict, NotFound, TooManyRequests, Unauthorized

from penstock.simulators import SevenBridges, SevenBridgesSettings

MIB = 1024 * 1024


@pytest.fixture
async def sim() -> AsyncIterator[SevenBridges]:
    async with SevenBridges(SevenBridgesSettings(malformed_links=False)) as sim:
        yield sim


@pytest.fixture
async def api(sim: SevenBridges) -> AsyncIterator[sevenbridges.Api]:
    api = sevenbridges.Api(url=sim.endpoint, token=sim.token, debug=True)
    yield api
    await asyncio.to_thread(api.download_pool.shutdown)
    await asyncio.to_thread(api.upload_pool.shutdown)
    api.session.close()


async def test_account_and_projects_are_found(sim: SevenBridges, api: sevenbridges.Api) -> None:
    sim.add_project("demo/other")
    me = await asyncio.to_thread(api.users.me)
    projects = await asyncio.to_thread(api.projects.query)
    one = await asyncio.to_thread(api.projects.get, "demo/project")
    links = await asyncio.to_thread(api.endpoints.get)
    assert me.username == "demo"
    assert [project.id for project in projects] == ["demo/project", "demo/other"]
    assert one.name == "project"
    assert links.upload_url.endswith("/v2/upload/multipart")


async def test_pages_of_files_are_followed_to_the_end(
    sim: SevenBridges, api: sevenbridges.Api
) -> None:
    for number in range(230):
        sim.add_file(sim.project, f"f{number:03}", b"x" * number)
    query = await asyncio.to_thread(api.files.query, project=sim.project, limit=100)
    files = await asyncio.to_thread(lambda: list(query.all()))
    assert query.total == 230
    assert [file.size for file in files] == list(range(230))


async def test_scrolling_finds_each_file_once(sim: SevenBridges, api: sevenbridges.Api) -> None:
    for number in range(25):
        sim.add_file(sim.project, f"f{number:03}", b"")
    query = await asyncio.to_thread(
        api.files.query, project=sim.project, limit=10, cont_token="init"
    )
    files = await asyncio.to_thread(lambda: list(query.all()))
    assert [file.name for file in files] == [f"f{number:03}" for number in range(25)]


@pytest.mark.parametrize("size", [0, 1000, 12 * MIB + 5])
async def test_a_file_survives_upload_and_download(
    sim: SevenBridges, api: sevenbridges.Api, tmp_path: Path, size: int
) -> None:
    source, back = tmp_path / "source.bin", tmp_path / "back.bin"
    data = bytes(range(251)) * (size // 251) + bytes(size % 251)
    source.write_bytes(data)
    upload = await asyncio.to_thread(
        lambda: api.files.upload(str(source), project=sim.project, part_size=5 * MIB)
    )
    upload.session.close()
    assert upload.status == "COMPLETED"
    assert upload.result().size == size
    assert sim.files()["source.bin"].read() == data
    if size:  # the client cannot fetch empty files
        file = upload.result()
        await asyncio.to_thread(lambda: file.download(str(back)))
        assert back.read_bytes() == data
    assert not sim.violations


async def test_an_upload_costs_what_the_fact_sheet_says(
    sim: SevenBridges, api: sevenbridges.Api, tmp_path: Path
) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(11 * MIB))
    upload = await asyncio.to_thread(
        lambda: api.files.upload(str(source), project=sim.project, part_size=5 * MIB)
    )
    upload.session.close()
    assert len(sim.calls()) == 1 + 2 * 3 + 1


async def test_folders_are_made_listed_and_written_to(
    sim: SevenBridges, api: sevenbridges.Api, tmp_path: Path
) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"abc")
    folder = await asyncio.to_thread(api.files.create_folder, "inner", project=sim.project)
    with pytest.raises(Conflict) as refused:
        await asyncio.to_thread(api.files.create_folder, "inner", project=sim.project)
    upload = await asyncio.to_thread(lambda: api.files.upload(str(source), parent=folder.id))
    upload.session.close()
    inside = await asyncio.to_thread(folder.list_files)
    assert refused.value.code == 5030
    assert folder.is_folder()
    assert [file.name for file in inside] == ["source.bin"]
    assert list(sim.files()) == ["inner/source.bin"]


async def test_files_are_got_changed_copied_and_deleted(
    sim: SevenBridges, api: sevenbridges.Api
) -> None:
    ids = [sim.add_file(sim.project, name, b"abc") for name in ("a", "b", "c")]
    sim.add_project("demo/other")
    records = await asyncio.to_thread(api.files.bulk_get, [*ids, "nothing"])
    assert [record.valid for record in records] == [True, True, True, False]

    file = await asyncio.to_thread(api.files.get, ids[0])
    file.name, file.metadata, file.tags = "renamed", {"sample": "s1"}, ["raw"]
    await asyncio.to_thread(file.save)
    assert sim.files()["renamed"].metadata == {"sample": "s1"}
    assert sim.files()["renamed"].tags == ("raw",)

    copied = await asyncio.to_thread(file.copy, "demo/other", "copy")
    await asyncio.to_thread(file.delete)
    assert sim.files("demo/other")["copy"].read() == b"abc"
    assert copied.id != ids[0]
    with pytest.raises(NotFound) as missing:
        await asyncio.to_thread(api.files.get, ids[0])
    assert missing.value.code == 5002

    await asyncio.to_thread(api.files.bulk_delete, ids[1:])
    assert sim.files() == {}


async def test_bulk_edits_keep_and_bulk_updates_empty_what_is_not_given(
    sim: SevenBridges, api: sevenbridges.Api
) -> None:
    sim.add_file(sim.project, "a", b"", metadata={"old": "1"})
    files = await asyncio.to_thread(api.files.query, project=sim.project)
    files[0].metadata = {"new": "2"}
    await asyncio.to_thread(api.files.bulk_edit, list(files))
    assert sim.files()["a"].metadata == {"old": "1", "new": "2"}
    await asyncio.to_thread(api.files.bulk_update, list(files))
    assert sim.files()["a"].metadata == {"new": "2"}


async def test_rate_limit_is_read_for_nothing_and_then_enforced(
    sim: SevenBridges, api: sevenbridges.Api
) -> None:
    await asyncio.to_thread(api.users.me)
    rate = (await asyncio.to_thread(api.rate_limit.get)).rate
    assert (rate.limit, rate.remaining) == (1000, 999)
    assert await asyncio.to_thread(lambda: api.remaining) == 999
    sim.quota.spend(999)
    with pytest.raises(TooManyRequests) as refused:
        await asyncio.to_thread(api.users.me)
    assert refused.value.code == 1000


async def test_wrong_tokens_and_downloads_of_folders_are_refused(
    sim: SevenBridges, api: sevenbridges.Api
) -> None:
    folder = await asyncio.to_thread(api.files.get, sim.add_folder(sim.project, "inner"))
    with pytest.raises(BadRequest) as refused:
        await asyncio.to_thread(folder.download_info)
    assert refused.value.code == 5017
    stranger = sevenbridges.Api(url=sim.endpoint, token="0" * 32, debug=True)
    with pytest.raises(Unauthorized):
        await asyncio.to_thread(stranger.users.me)
    stranger.session.close()
