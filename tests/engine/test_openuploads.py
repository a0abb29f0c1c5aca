"""An unfinished upload is taken for ours by intent, never by its name alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.core.model import Direction, Flow, Identity, Request, Upload
from penstock.engine.ledger import Intent, Ledger, Row
from penstock.engine.openuploads import INSISTS, OpenUploads

if TYPE_CHECKING:
    from composing import Compose, World


async def begun(
    world: World, name: str = "f", size: int | None = 10, part_size: int = 5, **where: str
) -> str:
    """An upload begun by somebody, and its id."""
    at = where or {"project": world.sim.project}
    body = json.dumps({"name": name, "size": size, "part_size": part_size, **at}).encode()

    def flow() -> Flow[str]:
        url = f"{world.sim.endpoint}/upload/multipart"
        answer = yield Request("POST", url, body=(body,))
        return str(json.loads(answer.body)["upload_id"])

    return await world.exchange.run(flow())


async def in_folder(world: World, path: str = "d") -> str:
    return world.sim.add_folder(world.sim.project, path)


def intent(world: World, place: str, **named: object) -> Intent:
    made_at = world.clock.wall_at() - 0.5
    usual = Intent(1, None, "create", place=place, name="f", size=10, part_size=5, made_at=made_at)
    return replace(usual, **named)  # type: ignore[arg-type]


async def test_the_upload_an_intent_led_to_is_ours(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        folder = await in_folder(world)
        upload = await begun(world, parent=folder)
        found = await OpenUploads(world.exchange, ledger).ours(intent(world, folder))
        assert found is not None
        assert (found.id, found.part_size, found.size) == (upload, 5, 10)


async def test_an_upload_into_a_project_s_root_is_ours(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        upload = await begun(world)
        found = await OpenUploads(world.exchange, ledger).ours(intent(world, world.sim.project))
        assert found is not None, "an intent names the project, the platform the root's id"
        assert found.id == upload


@pytest.mark.parametrize("other", ["size", "name", "place", "older", "part size", "unknown size"])
async def test_an_upload_that_differs_is_left_alone(
    compose: Compose, tmp_path: Path, other: str
) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        folder = await in_folder(world)
        elsewhere = await in_folder(world, "e")
        wanted = intent(world, folder)
        await {
            "size": lambda: begun(world, size=11, parent=folder),
            "name": lambda: begun(world, name="F", parent=folder),
            "place": lambda: begun(world, parent=elsewhere),
            "older": lambda: begun(world, parent=folder),
            "part size": lambda: begun(world, part_size=6, parent=folder),
            "unknown size": lambda: begun(world, size=None, parent=folder),
        }[other]()
        if other == "older":
            wanted = replace(wanted, made_at=wanted.made_at + 3.0)
        uploads = OpenUploads(world.exchange, ledger)
        assert await uploads.ours(wanted) is None
        assert len(world.sim.open_uploads()) == 1


async def test_part_sizes_say_nothing_where_the_platform_chooses_them(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        folder = await in_folder(world)
        upload = await begun(world, part_size=6, parent=folder)
        await ledger.remember_fact(world.platform.endpoint, INSISTS, "yes")
        found = await OpenUploads(world.exchange, ledger).ours(intent(world, folder))
        assert found is not None
        assert (found.id, found.part_size) == (upload, 6)


async def test_an_upload_that_a_row_owns_is_left_alone(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        folder = await in_folder(world)
        upload = await begun(world, parent=folder)
        row = await ledger.claim(Identity(Direction.UP, "e", "c", "g", "/g"), "run")
        assert isinstance(row, Row)
        number = await ledger.intend(row.id, "create", place="p", name="f", size=1, made_at=1.0)
        await ledger.began(row.id, number, Upload(upload, 5))
        assert await OpenUploads(world.exchange, ledger).ours(intent(world, folder)) is None


async def test_one_upload_is_given_to_one_intent(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        folder = await in_folder(world)
        ids = {await begun(world, parent=folder) for _ in range(2)}
        uploads = OpenUploads(world.exchange, ledger)
        came = await asyncio.gather(
            *(uploads.ours(intent(world, folder, id=number)) for number in range(3))
        )
        assert {each.id for each in came if each is not None} == ids
        assert came.count(None) == 1


async def test_uploads_are_listed_once_a_run(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        folder = await in_folder(world)
        for number in range(120):
            await begun(world, name=f"other{number}", parent=folder)
        uploads = OpenUploads(world.exchange, ledger)
        before = len(world.sim.calls())
        for name in ("f", "g", "h"):
            assert await uploads.ours(intent(world, folder, name=name)) is None
        assert len(world.sim.calls()) == before + 2, "two pages, once"
        await begun(world, parent=folder)
        assert await uploads.ours(intent(world, folder)) is None, "begun since it was listed"
        assert await uploads.ours(intent(world, folder), again=True) is not None


async def test_an_upload_that_is_gone_when_it_is_asked_about_is_not_ours(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        folder = await in_folder(world)
        await begun(world, parent=folder)
        uploads = OpenUploads(world.exchange, ledger)
        assert await uploads.ours(intent(world, folder, name="g")) is None
        await world.exchange.run(world.platform.abort_upload(world.sim.open_uploads()[0].id))
        assert await uploads.ours(intent(world, folder)) is None
