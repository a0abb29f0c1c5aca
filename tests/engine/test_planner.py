"""What is to move: matched with listings, never asked for file by file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.core.errors import LocationError, NameRefused, SourceMissing, UsageError
from penstock.core.globs import Rule, select
from penstock.core.lifecycle import State
from penstock.core.locations import Local, Remote
from penstock.core.tables import ManifestRow
from penstock.core.transfers import DownTransfer, OnConflict, UpTransfer
from penstock.engine.ledger import Ledger
from penstock.engine.planner import Planned, Selecting, Unmoved
from penstock.engine.planner_down import DownloadPlanner
from penstock.engine.planner_up import UploadPlanner
from penstock.engine.survey import Surveyor

if TYPE_CHECKING:
    from composing import Compose, World


class Planning:
    """Both planners over one world, and what they delivered."""

    def __init__(
        self, world: World, selecting: Selecting | None = None, ledger: Ledger | None = None
    ) -> None:
        self.world = world
        self.planned: list[Planned] = []
        self.surveyor = Surveyor(world.exchange, ledger, lambda _: None)
        self.selecting = selecting or Selecting()

    async def deliver(self, batch: Sequence[Planned]) -> None:
        self.planned.extend(batch)

    def up(self, on_conflict: OnConflict = OnConflict.FAIL) -> UploadPlanner:
        return UploadPlanner(*self._common(), on_conflict=on_conflict)  # type: ignore[arg-type]

    def down(self) -> DownloadPlanner:
        return DownloadPlanner(*self._common(), profiles=("sim",))  # type: ignore[arg-type]

    def _common(self) -> tuple[object, ...]:
        world = self.world
        return "sim", world.exchange, self.surveyor, self.selecting, world.clock, self.deliver

    async def send(self, path: str, *sources: Path, slash: bool = False) -> list[Planned]:
        locals_ = [Local(str(source)) for source in sources]
        planner = self.up()
        where = Remote("sim", "/".join(filter(None, (self.world.sim.project, path))), None, slash)
        await planner.resolve(where, locals_, rows=False)
        await planner.plan_sources(locals_)
        return self.planned

    async def fetch(self, target: Path, *paths: str) -> list[Planned]:
        sources = [
            Remote("sim", "/".join(filter(None, (self.world.sim.project, path)))) for path in paths
        ]
        await self.down().plan_sources(sources, Local(str(target)))
        return self.planned


def shown(planned: Sequence[Planned]) -> list[str]:
    return sorted(each.destination for each in planned)


def tree(path: Path, *files: str) -> Path:
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())
    return path


# -- up ------------------------------------------------------------------------------------


async def test_each_folder_there_is_is_listed_once_and_what_is_there_is_matched(
    compose: Compose, tmp_path: Path
) -> None:
    source = tree(tmp_path / "s", "a", "d/b", "d/c", "n/e/f")
    async with compose() as world:
        there = world.sim.add_file(world.sim.project, "d/b", b"old")
        planned = await Planning(world).send("", source)
        assert shown(planned) == [f"sim:demo/project/{p}" for p in ("a", "d/b", "d/c", "n/e/f")]
        existing = {
            each.destination: each.existing for each in planned if isinstance(each, UpTransfer)
        }
        found = existing.pop("sim:demo/project/d/b")
        assert found is not None
        assert found.id == there
        assert set(existing.values()) == {None}
        assert len(world.sim.calls()) == 2, "the root and d; n is known not to be there"


async def test_a_destination_that_is_missing_is_not_listed(
    compose: Compose, tmp_path: Path
) -> None:
    source = tree(tmp_path / "s", "a", "d/b")
    async with compose() as world:
        planned = await Planning(world).send("x/y", source)
        assert shown(planned) == ["sim:demo/project/x/y/a", "sim:demo/project/x/y/d/b"]
        assert len(world.sim.calls()) == 1
        assert world.sim.folders() == {}, "a plan makes nothing"


async def test_one_file_takes_the_name_or_the_folder_it_is_given(
    compose: Compose, tmp_path: Path
) -> None:
    source = tree(tmp_path, "a") / "a"
    async with compose() as world:
        world.sim.add_folder(world.sim.project, "d")
        assert shown(await Planning(world).send("new", source)) == ["sim:demo/project/new"]
        assert shown(await Planning(world).send("d", source)) == ["sim:demo/project/d/a"]
        planned = await Planning(world).send("n", source, slash=True)
        assert shown(planned) == ["sim:demo/project/n/a"]


async def test_a_file_where_a_folder_is_needed_is_refused(compose: Compose, tmp_path: Path) -> None:
    source = tree(tmp_path, "a", "d/b")
    async with compose() as world:
        world.sim.add_file(world.sim.project, "f", b"x")
        for sources in ((source / "a", source / "d"), (source / "d",)):
            with pytest.raises(UsageError, match="is a file"):
                await Planning(world).send("f", *sources)
        replaced = await Planning(world).send("f", source / "a")
        assert isinstance(replaced[0], UpTransfer)
        assert replaced[0].existing is not None


async def test_a_project_that_is_not_there_is_said(compose: Compose, tmp_path: Path) -> None:
    source = tree(tmp_path / "s", "a")
    async with compose() as world:
        planner = Planning(world).up()
        with pytest.raises(LocationError, match="is not there"):
            await planner.resolve(Remote("sim", "no/such"), [Local(str(source))], rows=False)


async def test_what_is_not_meant_or_cannot_stand_there_is_reported(
    compose: Compose, tmp_path: Path
) -> None:
    source = tree(tmp_path / "s", "keep", "skip.tmp", "x" * 200)
    (source / "gone").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(source) + b"/bad\xff")).touch()
    selecting = Selecting(select((Rule(False, "*.tmp"),)))
    async with compose() as world:
        planned = await Planning(world, selecting).send("", source)
    by_name = {Path(each.source).name: each for each in planned}
    assert isinstance(by_name["keep"], UpTransfer)
    left = {name: each for name, each in by_name.items() if isinstance(each, Unmoved)}
    assert (left["skip.tmp"].state, left["skip.tmp"].reason) == (State.SKIPPED, "excluded")
    assert isinstance(left["gone"].error, SourceMissing)
    assert isinstance(left[os.fsdecode(b"bad\xff")].error, NameRefused)


async def test_what_is_too_new_waits_for_another_run(compose: Compose, tmp_path: Path) -> None:
    source = tree(tmp_path / "s", "old", "new")
    os.utime(source / "old", (1, 1))
    async with compose() as world:
        planned = await Planning(world, Selecting(min_age_s=60.0)).send("", source)
    states = {Path(each.source).name: type(each).__name__ for each in planned}
    assert states == {"old": "UpTransfer", "new": "Unmoved"}


async def test_a_remembered_folder_that_was_deleted_is_looked_for_anew(
    compose: Compose, tmp_path: Path
) -> None:
    source = tree(tmp_path / "s", "a")
    async with compose() as world, Ledger(tmp_path / "state", wall=lambda: 1.0) as ledger:
        place = world.platform.place(f"{world.sim.project}/d")
        await ledger.remember_place(world.platform.endpoint, f"{place.container}/d", "gone")
        planned = await Planning(world, ledger=ledger).send("d", source)
        assert shown(planned) == ["sim:demo/project/d/a"]
        made = world.sim.add_folder(world.sim.project, "d")
        again = await Planning(world, ledger=ledger).send("d", source)
        assert isinstance(again[0], UpTransfer)
        assert again[0].folder.id == made


async def test_many_sources_keep_their_names(compose: Compose, tmp_path: Path) -> None:
    tree(tmp_path, "p/a", "q/a", "f")
    async with compose() as world:
        planned = await Planning(world).send("", tmp_path / "p", tmp_path / "q", tmp_path / "f")
    assert shown(planned) == [f"sim:demo/project/{path}" for path in ("f", "p/a", "q/a")]


async def test_a_renaming_upload_knows_which_names_are_taken(
    compose: Compose, tmp_path: Path
) -> None:
    source = tree(tmp_path / "s", "a")
    async with compose() as world:
        world.sim.add_file(world.sim.project, "a", b"x")
        world.sim.add_folder(world.sim.project, "d")
        planning = Planning(world)
        planner = planning.up(OnConflict.RENAME)
        await planner.resolve(Remote("sim", world.sim.project), [Local(str(source))], rows=False)
        await planner.plan_sources([Local(str(source))])
        (planned,) = planning.planned
        assert isinstance(planned, UpTransfer)
        assert planned.taken == {"a", "d"}


# -- down ----------------------------------------------------------------------------------


async def test_a_tree_is_fetched_below_its_target(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world:
        for path in ("t/a", "t/d/b"):
            world.sim.add_file(world.sim.project, path, b"x")
        planned = await Planning(world).fetch(tmp_path, "t")
        assert shown(planned) == [f"{tmp_path}/a", f"{tmp_path}/d/b"]
        sources = sorted(each.source for each in planned)
        assert sources == ["sim:demo/project/t/a", "sim:demo/project/t/d/b"]
        assert len(world.sim.calls()) == 3, "t is looked for, then two folders listed"


async def test_one_file_is_fetched_to_a_name_or_into_a_folder(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world:
        world.sim.add_file(world.sim.project, "d/a", b"x")
        assert shown(await Planning(world).fetch(tmp_path, "d/a")) == [f"{tmp_path}/a"]
        named = await Planning(world).fetch(tmp_path / "name", "d/a")
        assert shown(named) == [f"{tmp_path}/name"]


async def test_a_source_that_is_missing_is_said_before_anything_moves(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world:
        with pytest.raises(LocationError, match="'no' is missing"):
            await Planning(world).fetch(tmp_path, "no/where")


async def test_a_folder_is_not_fetched_onto_a_file(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    async with compose() as world:
        world.sim.add_folder(world.sim.project, "d")
        with pytest.raises(UsageError, match="is a file"):
            await Planning(world).fetch(tmp_path / "f", "d")


@pytest.mark.parametrize("name", ["..", ".", "a\0b", "con\\..", "x" * 250])
async def test_no_remote_name_leads_out_of_the_target(
    compose: Compose, tmp_path: Path, name: str
) -> None:
    async with compose() as world:
        world.sim.add_folder(world.sim.project, "t")
        folder = world.sim.add_file(world.sim.project, "t/a", b"x")
        node = world.sim._world.tree.node(folder)
        siblings = world.sim._world.tree.children(world.sim._world.tree.node(str(node.parent)))
        siblings[name] = siblings.pop("a")
        node.name = name
        planned = await Planning(world).fetch(tmp_path / "target", "t")
        for each in planned:
            if isinstance(each, DownTransfer):
                path = Path(os.path.normpath(each.local_path))
                assert path.parent == tmp_path / "target"
                assert "\0" not in each.local_path


async def test_a_manifest_leads_nowhere_but_below_its_target(
    compose: Compose, tmp_path: Path
) -> None:
    async with compose() as world:
        file = world.sim.add_file(world.sim.project, "a", b"x")
        planning = Planning(world)
        rows = [
            ManifestRow(row=number, source=f"sim:id={file}", destination=destination)
            for number, destination in enumerate(("../x", "/etc/x", "ok/x", "d/", "a/../../y"), 2)
        ]
        await planning.down().plan_rows(rows, None, Local(str(tmp_path)))
        moved = [each for each in planning.planned if isinstance(each, DownTransfer)]
        assert shown(moved) == [f"{tmp_path}/d/a", f"{tmp_path}/ok/x"]
        failed = [each for each in planning.planned if isinstance(each, Unmoved)]
        assert {type(each.error) for each in failed} == {NameRefused}
        assert len(world.sim.calls()) == 1, "described in bulk"


async def test_rows_by_path_cost_a_listing_a_folder(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world:
        for number in range(30):
            world.sim.add_file(world.sim.project, f"d/f{number}", b"x")
        planning = Planning(world)
        base = f"sim:{world.sim.project}/d"
        rows = [ManifestRow(row=n + 2, source=f"{base}/f{n}") for n in range(31)]
        await planning.down().plan_rows(rows, None, Local(str(tmp_path)))
        assert len([each for each in planning.planned if isinstance(each, DownTransfer)]) == 30
        (missing,) = [each for each in planning.planned if isinstance(each, Unmoved)]
        assert isinstance(missing.error, SourceMissing)
        assert len(world.sim.calls()) == 2
