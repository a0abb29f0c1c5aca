"""What there is: folders listed whole, places found once, local trees walked in order."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from penstock.core.errors import (
    AnswerUnusable,
    LocationError,
    Refused,
    SourceMissing,
    SourceUnreadable,
)
from penstock.core.events import Event, Note
from penstock.core.model import Flow, Page, Place, RemoteFile, Request, Response
from penstock.engine import survey
from penstock.engine.ledger import Ledger
from penstock.engine.survey import LocalFile, Surveyor, local_file, no_such_place, take, walk_local
from penstock.simulators import Fault

if TYPE_CHECKING:
    from composing import Compose, World


def surveyor(
    world: World, ledger: Ledger | None = None, events: list[Event] | None = None
) -> Surveyor:
    return Surveyor(world.exchange, ledger, (events if events is not None else []).append)


def fill(world: World, count: int, folder: str = "") -> None:
    for number in range(count):
        world.sim.add_file(world.sim.project, f"{folder}f{number:04}", b"x")


def root(world: World) -> Place:
    return world.platform.place(world.sim.project)


@contextmanager
def meddling(world: World, then: Callable[[int], None]) -> Iterator[None]:
    """Calls `then` with the number of each listing request before it is answered."""
    seen = 0

    def meddle(request: web.Request) -> None:
        nonlocal seen
        if request.path == "/v2/files":
            seen += 1
            then(seen)

    world.sim.on_request = meddle
    yield
    world.sim.on_request = None


async def test_a_listing_of_many_pages_has_an_end(compose: Compose) -> None:
    async with compose(quota=2000) as world:
        fill(world, (survey.MOST_BARREN + 3) * 100)
        found = await names_of(surveyor(world), root(world))
        assert len(found) == (survey.MOST_BARREN + 3) * 100


async def test_a_listing_without_an_end_is_given_up(compose: Compose) -> None:
    item = {"id": "5f", "name": "a", "type": "file", "size": 1}
    endless = Fault(
        kind="status",
        status=200,
        body=json.dumps({"items": [item]}).encode(),
        headers={"X-Total-Matching-Query": "9" * 15},
        times=None,
    )
    async with compose() as world:
        world.sim.faults.add(endless)
        with pytest.raises(AnswerUnusable, match="has no end"):
            await names_of(surveyor(world), root(world))
        assert len(world.sim.calls()) == 1 + survey.MOST_BARREN


async def names_of(finder: Surveyor, place: Place) -> list[str]:
    return [file.name async for files, _ in finder.pages_of(place) for file in files]


# -- pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3)])
async def test_a_folder_costs_its_pages_and_every_file_comes_once(
    compose: Compose, count: int, pages: int
) -> None:
    async with compose() as world:
        fill(world, count)
        finder = surveyor(world)
        names = await names_of(finder, root(world))
        assert names == [f"f{number:04}" for number in range(count)]
        assert finder.pages == len(world.sim.calls()) == pages


async def test_files_are_handed_on_before_the_last_page_is_asked_for(compose: Compose) -> None:
    async with compose() as world:
        fill(world, 150)
        pages = surveyor(world).pages_of(root(world))
        files, _ = await anext(pages)
        assert len(files) == 100
        assert len(world.sim.calls()) == 1
        await pages.aclose()  # type: ignore[attr-defined]


async def test_a_file_that_slips_back_over_a_page_s_edge_is_found(compose: Compose) -> None:
    async with compose() as world:
        fill(world, 150)

        def remove(page: int) -> None:
            if page == 2:
                world.sim.remove_file(world.sim.project, "f0000")

        with meddling(world, remove):
            events: list[Event] = []
            names = await names_of(surveyor(world, events=events), root(world))
        assert sorted(names) == sorted({f"f{number:04}" for number in range(150)})
        assert events == []
        assert len(world.sim.calls()) == 4


async def test_a_file_that_came_between_pages_is_found(compose: Compose) -> None:
    async with compose() as world:
        fill(world, 150)

        def add(page: int) -> None:
            if page == 2:
                world.sim.add_file(world.sim.project, "new", b"x")

        with meddling(world, add):
            names = await names_of(surveyor(world), root(world))
        assert len(names) == len(set(names)) == 151


async def test_a_folder_that_never_holds_still_is_listed_three_times_and_said(
    compose: Compose,
) -> None:
    async with compose() as world:
        fill(world, 150)

        def add(page: int) -> None:
            world.sim.add_file(world.sim.project, f"new{page}", b"x")

        events: list[Event] = []
        with meddling(world, add):
            names = await names_of(surveyor(world, events=events), root(world))
        assert len(names) == len(set(names))
        assert len(world.sim.calls()) == 2 * survey.LISTINGS
        (note,) = events
        assert isinstance(note, Note)
        assert "changed while it was listed" in note.message
        assert world.sim.project in note.message


async def test_a_server_that_gives_no_total_is_listed_once(compose: Compose) -> None:
    async with compose(total_header="never") as world:
        fill(world, 120)
        assert len(await names_of(surveyor(world), root(world))) == 120
        assert len(world.sim.calls()) == 2


async def test_a_listing_is_by_name(compose: Compose) -> None:
    async with compose() as world:
        world.sim.add_file(world.sim.project, "a", b"abc")
        world.sim.add_folder(world.sim.project, "d")
        listing = await surveyor(world).listing(root(world))
        assert (sorted(listing.files), sorted(listing.folders)) == (["a"], ["d"])
        assert listing.files["a"].size == 3


# -- trees ---------------------------------------------------------------------------------


async def test_a_tree_is_delivered_whole_with_its_folders_names(compose: Compose) -> None:
    async with compose() as world:
        wanted = {"a", "d/b", "d/e/c", "g/h"} | {f"m/f{n:04}" for n in range(130)}
        for path in wanted:
            world.sim.add_file(world.sim.project, path, b"x")
        world.sim.add_folder(world.sim.project, "empty")
        found: list[str] = []

        async def deliver(names: tuple[str, ...], files: list[RemoteFile]) -> None:
            found.extend("/".join((*names, file.name)) for file in files)

        await surveyor(world).walk(root(world), deliver)
        assert sorted(found) == sorted(wanted)
        assert len(world.sim.calls()) == 7


async def test_folders_are_listed_several_at_once_and_no_more(compose: Compose) -> None:
    async with compose(api_latency_s=0.02) as world:
        for number in range(12):
            world.sim.add_file(world.sim.project, f"d{number}/f", b"x")
        under_way = most = 0
        listing = world.platform.list_page

        def counted(place: Place, cursor: str | None) -> Flow[Page]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return (yield from listing(place, cursor))
            finally:
                under_way -= 1

        world.platform.list_page = counted  # type: ignore[method-assign]  # watched, not replaced

        async def deliver(_: tuple[str, ...], __: list[RemoteFile]) -> None:
            return

        await surveyor(world).walk(root(world), deliver)
        assert most == survey.FOLDERS_AT_ONCE


async def test_what_is_pruned_is_not_listed(compose: Compose) -> None:
    async with compose() as world:
        for path in ("a/x/1", "b/x/2"):
            world.sim.add_file(world.sim.project, path, b"x")
        found: list[str] = []

        async def deliver(names: tuple[str, ...], files: list[RemoteFile]) -> None:
            found.extend("/".join((*names, file.name)) for file in files)

        await surveyor(world).walk(root(world), deliver, lambda path: path == "a/x")
        assert found == ["b/x/2"]
        assert len(world.sim.calls()) == 4


async def test_an_error_in_one_folder_ends_the_walk(compose: Compose) -> None:
    async with compose(tries=1) as world:
        for number in range(6):
            world.sim.add_file(world.sim.project, f"d{number}/f", b"x")

        async def deliver(_: tuple[str, ...], __: list[RemoteFile]) -> None:
            raise SourceMissing("s")

        with pytest.raises(SourceMissing):
            await surveyor(world).walk(root(world), deliver)


# -- places --------------------------------------------------------------------------------


async def test_a_folder_is_looked_for_once_in_the_life_of_a_ledger(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        folder = world.sim.add_folder(world.sim.project, "d/e")
        place = world.platform.place(f"{world.sim.project}/d/e")
        for _ in range(3):
            found = await surveyor(world, ledger).find(place)
            assert (found.place.id, found.missing, found.file) == (folder, (), None)
        assert len(world.sim.calls()) == 2


async def test_a_file_is_looked_for_once_and_then_described(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        file = world.sim.add_file(world.sim.project, "d/f", b"abc")
        place = world.platform.place(f"{world.sim.project}/d/f")
        for _ in range(2):
            found = await surveyor(world, ledger).find(place)
            assert found.file is not None
            assert (found.file.id, found.file.size) == (file, 3)
        assert len(world.sim.calls()) == 3


async def test_what_is_missing_is_named_and_not_remembered(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        world.sim.add_folder(world.sim.project, "d")
        place = world.platform.place(f"{world.sim.project}/d/e/f")
        found = await surveyor(world, ledger).find(place)
        assert (found.place.path, found.missing) == ("d", ("e", "f"))
        made = world.sim.add_folder(world.sim.project, "d/e/f")
        assert (await surveyor(world, ledger).find(place)).place.id == made


async def test_a_project_s_root_is_asked_for_by_nobody(compose: Compose) -> None:
    async with compose() as world:
        assert (await surveyor(world).find(root(world))).place == root(world)
        assert world.sim.log == []


async def test_a_file_that_was_replaced_is_found_anew(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        world.sim.add_file(world.sim.project, "f", b"old")
        place = world.platform.place(f"{world.sim.project}/f")
        await surveyor(world, ledger).find(place)
        world.sim.remove_file(world.sim.project, "f")
        new = world.sim.add_file(world.sim.project, "f", b"newer")
        found = await surveyor(world, ledger).find(place)
        assert found.file is not None
        assert found.file.id == new


async def _ask(world: World, method: str, path: str, body: dict[str, str]) -> None:
    def flow() -> Flow[Response]:
        return (yield Request(method, world.sim.endpoint + path, body=(json.dumps(body).encode(),)))

    await world.exchange.run(flow())


async def test_a_file_that_was_renamed_is_no_longer_there(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        file = world.sim.add_file(world.sim.project, "f", b"abc")
        place = world.platform.place(f"{world.sim.project}/f")
        await surveyor(world, ledger).find(place)
        await _ask(world, "PATCH", f"/files/{file}", {"name": "g"})
        assert (await surveyor(world, ledger).find(place)).missing == ("f",)
        before = len(world.sim.calls())
        await surveyor(world, ledger).find(place)
        assert len(world.sim.calls()) == before + 1, "what did not hold is forgotten"


async def test_a_file_that_was_moved_away_is_no_longer_there(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world, Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        file = world.sim.add_file(world.sim.project, "a/f", b"abc")
        elsewhere = world.sim.add_folder(world.sim.project, "b")
        place = world.platform.place(f"{world.sim.project}/a/f")
        await surveyor(world, ledger).find(place)
        await _ask(world, "POST", f"/files/{file}/actions/move", {"parent": elsewhere})
        new = world.sim.add_file(world.sim.project, "a/f", b"another")
        found = await surveyor(world, ledger).find(place)
        assert found.file is not None
        assert found.file.id == new, "the file that is at the path, not the one that was"


async def test_a_file_that_is_found_by_its_id(compose: Compose) -> None:
    async with compose() as world:
        file = world.sim.add_file(world.sim.project, "d/f", b"abc")
        folder = world.sim.add_folder(world.sim.project, "d")
        found = await surveyor(world).find(world.platform.place(f"id={file}"))
        assert found.file is not None
        assert found.file.name == "f"
        assert (await surveyor(world).find(world.platform.place(f"id={folder}"))).place.id == folder
        with pytest.raises(LocationError):
            await surveyor(world).find(world.platform.place("id=no"))


def test_a_listing_that_is_refused_means_a_place_that_is_not_there() -> None:
    place = Place("o/p", "d")
    assert isinstance(no_such_place(place, Refused("r", status=404)), LocationError)
    refused = Refused("r", status=403)
    assert no_such_place(place, refused) is refused


# -- local trees ---------------------------------------------------------------------------


def tree(path: Path, *files: str) -> None:
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())


def walked(path: Path, *, follow: bool = False) -> list[LocalFile]:
    return [file for files in walk_local(str(path), follow=follow) for file in files]


def test_a_local_tree_is_walked_by_name_a_list_a_folder(tmp_path: Path) -> None:
    tree(tmp_path, "z", "a", "d/b", "d/e/c", "m/y")
    lists = [[file.relative for file in files] for files in walk_local(str(tmp_path), follow=False)]
    assert lists == [["a", "z"], ["d/b"], ["d/e/c"], ["m/y"]]
    found = walked(tmp_path)[0].found
    assert found is not None
    assert (found.size, found.inode) == (1, (tmp_path / "a").stat().st_ino)


def test_links_to_files_are_followed_and_links_to_folders_only_if_asked(tmp_path: Path) -> None:
    tree(tmp_path, "data/f")
    (tmp_path / "file").symlink_to("data/f")
    (tmp_path / "folder").symlink_to("data")
    assert [file.relative for file in walked(tmp_path)] == ["file", "data/f"]
    followed = [file.relative for file in walked(tmp_path, follow=True)]
    assert followed == ["file", "data/f", "folder/f"]


def test_a_link_round_in_a_circle_is_walked_once(tmp_path: Path) -> None:
    tree(tmp_path, "d/f")
    (tmp_path / "d" / "up").symlink_to("..")
    (tmp_path / "d" / "self").symlink_to(".")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").symlink_to("../c")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a").symlink_to("../a")
    assert [file.relative for file in walked(tmp_path, follow=True)] == ["d/f"]


def test_a_link_to_nothing_is_a_file_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    gone, loop = walked(tmp_path)
    assert isinstance(gone.error, SourceMissing)
    assert isinstance(loop.error, SourceUnreadable)


def test_what_is_neither_file_nor_folder_is_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "f")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
    assert [file.relative for file in walked(tmp_path)] == ["f"]


def test_a_folder_that_cannot_be_read_is_in_the_list_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Made unreadable by its name, which no path may be as long as: root may read all else."""
    tree(tmp_path, "a/f", "z/f")
    folders = walk_local(str(tmp_path), follow=False)
    assert next(folders) == []
    os.rename(tmp_path / "a", tmp_path / "b")  # noqa: PTH104
    (lost,), (kept,) = folders
    assert isinstance(lost.error, SourceMissing)
    assert lost.relative == "a"
    assert kept.relative == "z/f"


def test_a_root_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    (file,) = walked(tmp_path / "no")
    assert isinstance(file.error, SourceMissing)
    assert file.relative == "."


def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    (file,) = walked(tmp_path)
    assert os.fsencode(file.relative) == b"\xff"


def test_a_named_file_is_described_and_a_folder_is_none(tmp_path: Path) -> None:
    tree(tmp_path, "f")
    assert local_file(str(tmp_path / "f"), "f").error is None
    assert isinstance(local_file(str(tmp_path), "d").error, SourceMissing)
    assert isinstance(local_file(str(tmp_path / "no"), "no").error, SourceMissing)


async def test_a_walk_is_taken_list_by_list(tmp_path: Path) -> None:
    tree(tmp_path, "a", "d/b")
    lists = [files async for files in take(walk_local(str(tmp_path), follow=False))]
    assert [[file.relative for file in files] for files in lists] == [["a"], ["d/b"]]
