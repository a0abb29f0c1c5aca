"""Metadata tables on their way up to Seven Bridges, through whole runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import penstock
from penstock.core.errors import TableError
from penstock.core.events import Event, Note
from penstock.core.metadata import FaultyTable, read_metadata
from penstock.core.metatables import template_of
from penstock.simulators import Fault
from worlds import World, by_name


def table(world: World, text: str, name: str = "meta.csv") -> Path:
    path = world.home / name
    path.write_bytes(text.encode())
    return path


def stored(world: World) -> dict[str, dict[str, object]]:
    return {path: dict(file.metadata) for path, file in world.sim.files().items()}


async def test_fields_and_tags_are_stored_a_hundred_files_a_request(world: World) -> None:
    root = world.tree({f"f{n:03}": b"x" * n for n in range(150)})
    lines = "".join(f"f{n:03};00{n};a;b\n" for n in range(150))
    meta = table(world, f"\ufeffpath;sample_id;tags;tags\r\n{lines}")
    report = await world.copy(root, f"{world.remote}/", metadata=meta)
    assert report.ok
    assert stored(world)["f007"] == {"sample_id": "007"}
    assert world.sim.files()["f149"].tags == ("a", "b")
    assert {line.metadata for line in report.lines()} == {"stored"}
    assert world.calls("POST", "/bulk/files/edit") == 2


async def test_the_same_table_again_asks_for_nothing_but_the_listing(world: World) -> None:
    root = world.tree({"a": b"1", "d/b": b"2"})
    meta = table(world, "path,x\na,1\nd/b,2\n")
    await world.copy(root, f"{world.remote}/", metadata=meta)
    asked = world.asked()
    report = await world.copy(root, f"{world.remote}/", metadata=meta)
    assert {line.metadata for line in report.lines()} == {"unchanged"}
    assert world.asked() - asked == 2


async def test_a_corrected_table_stores_the_changed_rows_and_sends_no_bytes(world: World) -> None:
    root = world.tree({"a": b"1", "b": b"2", "c": b"3"})
    await world.copy(root, f"{world.remote}/", metadata=table(world, "path,x\na,1\nb,2\n"))
    sent = len(world.sim.log)
    corrected = table(world, "path,x\na,1\nb,3\n")
    report = await world.copy(root, f"{world.remote}/", metadata=corrected)
    lines = by_name(report)
    assert [lines[name].metadata for name in "abc"] == ["unchanged", "stored", None]
    assert {line.status for line in lines.values()} == {"skipped"}
    assert stored(world) == {"a": {"x": "1"}, "b": {"x": "3"}, "c": {}}
    asked = [exchange for exchange in world.sim.log[sent:] if exchange.counted]
    assert [exchange.method for exchange in asked] == ["GET", "POST"]


async def test_a_file_whose_metadata_was_refused_fails_and_then_sends_its_metadata_only(
    world: World,
) -> None:
    root = world.tree({"a": b"1", "b": b"2"})
    meta = table(world, "path,x\n*,1\n")
    world.sim.faults.add(Fault(kind="status", path="/bulk/files/edit", status=403))
    report = await world.copy(root, f"{world.remote}/", metadata=meta)
    assert report.exit_code == 1
    for line in report.lines():
        assert (line.status, line.metadata) == ("failed", "failed")
        assert line.error is not None
        assert line.error["type"] == "MetadataRefused"
    puts = sum(exchange.method == "PUT" for exchange in world.sim.log)
    again = await world.copy(root, f"{world.remote}/", metadata=meta)
    assert again.ok
    assert {line.metadata for line in again.lines()} == {"stored"}
    assert sum(exchange.method == "PUT" for exchange in world.sim.log) == puts
    assert stored(world) == {"a": {"x": "1"}, "b": {"x": "1"}}


async def test_every_fault_is_found_before_anything_is_asked_for_a_file(world: World) -> None:
    root = world.tree({"a": b"1"})
    long = "x" * 301
    meta = table(world, f"path,{'k' * 101},ok\na,1,{long}\nb,2,{long}\n")
    for ask in (penstock.copy, penstock.plan):
        with pytest.raises(FaultyTable) as raised:
            await ask(str(root), f"{world.remote}/", metadata=meta, environ=world.environ)
        faults = [(fault.row, fault.column) for fault in raised.value.faults]
        assert faults == [(2, "k" * 101), (2, "ok"), (3, "ok")]
    assert not world.sim.files()
    assert world.calls("POST") == 0


async def test_rows_that_match_no_file_are_named_and_strictly_an_error(world: World) -> None:
    root = world.tree({"a": b"1"})
    meta = table(world, "path,x\na,1\nb,2\n")
    told: list[Event] = []
    await world.copy(root, f"{world.remote}/", metadata=meta, on_event=told.append)
    notes = [event.message for event in told if isinstance(event, Note)]
    assert notes == [f"{meta}: 1 row matches no file: row 3 'b'"]
    with pytest.raises(FaultyTable):
        await world.copy(root, f"{world.remote}/", metadata=meta, strict=True)


async def test_one_file_is_manifest_and_metadata(world: World) -> None:
    world.tree({"a": b"1", "b": b"2"})
    both = table(world, "source,destination,x\nsrc/a,in/z,1\nsrc/b,,2\n")
    report = await world.copy(f"{world.remote}/", manifest=both, metadata=both)
    assert report.ok
    assert stored(world) == {"in/z": {"x": "1"}, "b": {"x": "2"}}


async def test_a_file_that_is_there_already_gets_its_metadata(world: World) -> None:
    world.sim.add_file(world.sim.project, "a", b"1")
    root = world.tree({"a": b"1"})
    report = await world.copy(root, f"{world.remote}/", metadata=table(world, "path,x\na,1\n"))
    (line,) = report.lines()
    assert (line.status, line.metadata) == ("skipped", "stored")
    assert stored(world) == {"a": {"x": "1"}}


async def test_a_plan_counts_the_requests_of_metadata(world: World) -> None:
    root = world.tree({f"f{n:03}": b"" for n in range(101)})
    meta = table(world, "path,x\n*,1\n")
    plan = await penstock.plan(str(root), f"{world.remote}/", metadata=meta, environ=world.environ)
    assert plan.metadata == 2
    assert plan.api_requests == 101 * 3 + 2 + plan.spent
    before = world.asked()
    await world.copy(root, f"{world.remote}/", metadata=meta)
    # The project's root is listed by both.
    assert world.asked() - before == plan.api_requests


async def test_a_table_in_another_encoding_is_read_only_when_it_is_named(world: World) -> None:
    root = world.tree({"a": b"1"})
    meta = world.home / "latin.csv"
    meta.write_bytes("path;Titel\na;Größe\n".encode("cp1252"))
    with pytest.raises(TableError, match="--encoding"):
        await world.copy(root, f"{world.remote}/", metadata=meta)
    await world.copy(root, f"{world.remote}/", metadata=meta, encoding="cp1252")
    assert stored(world) == {"a": {"Titel": "Größe"}}


async def test_one_file_that_is_to_blame_does_not_cost_the_others_their_metadata(
    world: World,
) -> None:
    root = world.tree({"a": b"1", "b": b"2", "c": b"3", "d": b"4"})
    meta = table(world, "path,x\n*,1\n")
    for skip in (0, 0, 1):
        # The whole, its half with the culprit, and the culprit alone.
        world.sim.faults.add(Fault(kind="status", path="/bulk/files/edit", status=400, skip=skip))
    report = await world.copy(root, f"{world.remote}/", metadata=meta)
    assert sorted(line.metadata or "" for line in report.lines()) == ["failed"] + 3 * ["stored"]
    assert report.exit_code == 1


async def test_what_was_sent_and_not_yet_described_is_described_by_the_next_run(
    world: World,
) -> None:
    root = world.tree({"a": b"1"})
    await world.copy(root, f"{world.remote}/")
    report = await world.copy(root, f"{world.remote}/", metadata=table(world, "path,x\na,1\n"))
    (line,) = report.lines()
    assert (line.status, line.metadata, line.bytes_sent) == ("skipped", "stored", 0)


async def test_content_that_is_replaced_has_its_metadata_stored_anew(world: World) -> None:
    root = world.tree({"a": b"1"})
    meta = table(world, "path,x\na,1\n")
    await world.copy(root, f"{world.remote}/", metadata=meta)
    world.tree({"a": b"22"})
    report = await world.copy(root, f"{world.remote}/", metadata=meta, on_conflict="overwrite")
    assert next(report.lines()).metadata == "stored"
    assert stored(world) == {"a": {"x": "1"}}


async def test_what_is_stored_comes_out_as_a_table_that_is_read_again(world: World) -> None:
    root = world.tree({"a": b"1", "d/b": b"2", "d/c": b"3"})
    meta = table(world, 'path,x,tags,tags\na,007,t,u\nd/b,"1,5",,\n')
    await world.copy(root, f"{world.remote}/", metadata=meta)
    found = await penstock.metadata(world.remote, environ=world.environ)
    assert {file.path: dict(file.values) for file in found} == {
        "a": {"x": ("007",), "tags": ("t", "u")},
        "d/b": {"x": ("1,5",)},
    }
    saved = world.home / "saved.csv"
    await world.copy(f"{world.remote}/", world.home / "down", save_metadata=saved)
    assert saved.read_text() == 'path,x,tags,tags\na,007,t,u\nd/b,"1,5",,\n'
    asked = world.asked()
    again = await world.copy(root, f"{world.remote}/", metadata=saved)
    assert {line.metadata for line in again.lines()} == {"unchanged", None}
    assert world.asked() - asked == 2


async def test_saved_metadata_is_that_of_the_files_that_came(world: World) -> None:
    for name in ("a", "b"):
        world.sim.add_file(world.sim.project, name, b"1", metadata={"x": name})
    saved = world.home / "saved.jsonl"
    down = world.home / "down"
    await world.copy(f"{world.remote}/", down, save_metadata=saved, include=["a"])
    assert saved.read_text() == '{"path": "a", "x": "a"}\n'
    assert world.calls("POST", "/bulk/files/get") == 1


async def test_a_template_is_an_empty_table_and_is_read_as_one(world: World) -> None:
    columns = await penstock.metadata_columns(world.remote, environ=world.environ)
    text = "".join(template_of(columns))
    assert [row.path for row in read_metadata(text.splitlines(keepends=True))] == []
    assert text.startswith("path,sample_id,")
