"""`penstock.verify` over real files and a simulated platform."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.core.errors import UsageError
from penstock.core.events import Event, Note
from worlds import World

FILES = {"a.txt": b"first", "sub/b.bin": os.urandom(5000), "empty": b""}


def names(differences: list[penstock.Difference]) -> list[str]:
    return [difference.path for difference in differences]


async def check(world: World, *what: Any, **options: Any) -> penstock.Verification:  # noqa: ANN401
    return await penstock.verify(*map(str, what), environ=world.environ, **options)


async def test_what_was_copied_down_is_what_the_ledger_the_report_and_the_platform_say(
    world: World,
) -> None:
    for path, content in FILES.items():
        world.sim.add_file(world.sim.project, path, content)
    report, here = world.home / "r.jsonl", world.home / "here"
    await world.copy(f"{world.remote}/", here, report=report)
    for found in (
        await check(world, here),
        await check(world, here, report=report),
        await check(world, here, world.remote),
        await check(world, world.remote, here),
        await check(world, world.remote),
        await check(world, world.remote, report=report),
        await check(world, world.remote, here, read_back=True),
        await check(world, world.remote, report=report, read_back=True),
    ):
        assert (found.same, found.exit_code) == (3, 0), found


async def test_missing_extra_and_different_files_are_told_apart(world: World) -> None:
    for path, content in FILES.items():
        world.sim.add_file(world.sim.project, path, content)
    report, here = world.home / "r.jsonl", world.home / "here"
    await world.copy(f"{world.remote}/", here, report=report)
    (here / "a.txt").write_bytes(b"FIRST")
    (here / "empty").unlink()
    (here / "new").write_bytes(b"x")
    for found in (
        await check(world, here),
        await check(world, here, report=report),
        await check(world, here, world.remote),
    ):
        assert names(found.missing) == ["empty"]
        assert names(found.extra) == ["new"]
        assert names(found.different) == ["a.txt"]
        assert (found.same, found.exit_code) == (1, 1)
    swapped = await check(world, world.remote, here)
    assert (names(swapped.missing), names(swapped.extra)) == (["new"], ["empty"])


async def test_a_bit_that_rotted_on_the_platform_is_found_and_so_is_one_here(world: World) -> None:
    root = world.tree(FILES)
    await world.copy(f"{root}/", f"{world.remote}/")
    assert (await check(world, world.remote)).same == 3
    world.sim.add_file(world.sim.project, "a.txt", b"fir5t")
    for options in ({}, {"read_back": True}):
        found = await check(world, world.remote, root, **options)
        assert names(found.different) == ["a.txt"]
        found = await check(world, world.remote, **options)
        assert names(found.different) == ["a.txt"]


async def test_what_nothing_proves_is_said_apart_and_wrong_only_when_strict(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(etags=False)
    root = world.tree({"f": b"abc"})
    world.sim.add_file(world.sim.project, "f", b"abc")
    found = await check(world, world.remote, root)
    assert (names(found.unproved), found.exit_code) == (["f"], 0)
    assert (await check(world, world.remote, root, strict=True)).exit_code == 1
    assert (await check(world, world.remote, root, read_back=True)).same == 1


async def test_a_tag_of_parts_is_held_against_the_local_bytes(world: World) -> None:
    content = os.urandom(21 << 20)
    root = world.tree({"big": content})
    world.sim.add_file(world.sim.project, "big", content, part_size=5 << 20)
    assert (await check(world, world.remote, root)).same == 1


async def test_the_requests_it_takes_are_said_beforehand_and_taken(world: World) -> None:
    root = world.tree(FILES)
    await world.copy(f"{root}/", f"{world.remote}/")
    notes: list[Event] = []
    before = world.calls("GET", "download_info")
    await check(world, world.remote, root, on_event=notes.append)
    (note,) = [event for event in notes if isinstance(event, Note)]
    assert "2 API requests" in note.message
    assert world.calls("GET", "download_info") - before == 2


async def test_a_checksum_file_is_what_a_folder_is_held_against(world: World) -> None:
    root = world.tree({"a": b"1", "b": b"2"})
    sums = world.home / "SHA256SUMS"
    sums.write_text(
        f"{hashlib.sha256(b'1').hexdigest()}  a\n{hashlib.sha256(b'x').hexdigest()}  ./b\n"
    )
    found = await check(world, root, manifest=sums)
    assert (found.same, names(found.different)) == (1, ["b"])
    beside = root / "SUMS"
    beside.write_text(f"{hashlib.sha256(b'1').hexdigest()}  a\n")
    assert names((await check(world, root, manifest=beside)).extra) == ["SUMS", "b"]


async def test_what_was_sent_under_a_name_that_cannot_come_back_is_the_same_file(
    world: World,
) -> None:
    root = world.tree({"new\nline": b"1", "a%2Fb": b"2", "plain": b"3"})
    await world.copy(f"{root}/", f"{world.remote}/")
    for pair in ((world.remote, root), (root, world.remote)):
        found = await check(world, *pair)
        assert (found.same, found.exit_code) == (3, 0), found
    world.tree({"new%0Aline": b"1"})  # What it would be called if it came back.
    for pair in ((world.remote, root), (root, world.remote)):
        found = await check(world, *pair)
        assert (found.same, len(found.missing) + len(found.extra)) == (3, 1), found


async def test_local_folders_are_compared_byte_by_byte(world: World) -> None:
    one = world.tree({"a": b"1", "b": b"2"}, "one")
    two = world.tree({"a": b"1", "b": b"3"}, "two")
    found = await check(world, one, two)
    assert (found.same, names(found.different)) == (1, ["b"])


async def test_commands_that_make_no_sense_say_why(world: World, tmp_path: Path) -> None:
    root = world.tree({"a": b"1"})
    with pytest.raises(UsageError, match="against one thing"):
        await check(world, root, root, report="x")
    with pytest.raises(UsageError, match="nothing is known"):
        await check(world, root)
    with pytest.raises(UsageError, match="does not exist"):
        await check(world, tmp_path / "nowhere", root)
    with pytest.raises(UsageError, match="platform to platform"):
        await check(world, world.remote, world.remote)
