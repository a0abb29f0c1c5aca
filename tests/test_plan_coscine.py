"""What `plan` says a copy costs on Coscine is what the copy then spends, each way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import penstock
from coscine_place import Place, settings
from penstock.simulators import Coscine

HEAD = "path,Title,Creator,Production Date,Subject Area\n"


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def made(**changed: Any) -> Place:  # noqa: ANN401
            sim = await stack.enter_async_context(Coscine(settings(**changed)))
            return Place(sim, tmp_path)

        yield made


async def both(place: Place, *locations: str | Path, **options: Any) -> tuple[int, int]:  # noqa: ANN401
    """API requests as planned, and as then spent."""
    where = tuple(map(str, locations))
    planned = await penstock.plan(*where, environ=place.environ, **options)
    before = place.asked()
    report = await place.copy(*where, **options)
    assert report.ok
    spent = report.summary.api_requests["coscine"]
    assert spent == place.asked() - before
    return planned.api_requests, spent


@pytest.mark.parametrize("by", ["name", "id"])
async def test_an_upload_spends_what_was_planned(make: Callable[..., Any], by: str) -> None:
    place = await make()
    files = {f"0/{n:03}": b"x" * n for n in range(55 if by == "name" else 5)}
    files |= {"a": b"", "0/b/c": b"b", "1/d": b""}
    root = place.tree(files)
    remote = place.remote if by == "name" else f"coscine:{place.sim.project}/{place.sim.resource}"
    planned, spent = await both(place, f"{root}/", f"{remote}/new/deep/")
    assert planned == spent
    planned, spent = await both(place, f"{root}/", f"{remote}/new/deep/")
    assert planned == spent < 20
    place.tree({f"0/more{n}": b"more" for n in range(9)})
    planned, spent = await both(place, f"{root}/", f"{remote}/new/deep/")
    assert planned == spent


async def test_an_upload_with_metadata_spends_what_was_planned(make: Callable[..., Any]) -> None:
    place = await make(metadata_first=True)
    root = place.tree({f"{n:02}": b"x" * n for n in range(12)})
    table = place.home / "table.csv"
    table.write_text(f"{HEAD}*,A,Ada,2026-01-01,Informatik\n")
    for subject in ("Informatik", "Informatik", "Medicine"):
        table.write_text(f"{HEAD}*,A,Ada,2026-01-01,{subject}\n")
        planned, spent = await both(place, f"{root}/", f"{place.remote}/", metadata=table)
        assert planned == spent


async def test_a_download_spends_what_was_planned(make: Callable[..., Any]) -> None:
    place = await make()
    for number in range(120):
        place.sim.add_file(f"{'deep/er/' if number % 2 else ''}{number:03}", b"x" * number)
    for source in (f"{place.remote}/", f"{place.remote}/deep/", f"{place.remote}/deep/er/007"):
        to = place.home / source.rpartition("/")[0].replace("/", "_")
        for _ in range(2):
            planned, spent = await both(place, source, f"{to}/")
            assert planned == spent


@pytest.mark.parametrize("content", ["body", "redirect"])
async def test_files_without_a_url_are_planned_with_what_their_endpoint_takes(
    make: Callable[..., Any], content: str
) -> None:
    place = await make(url_less=("rds",), content=content)
    place.sim.add_file("small", b"small")
    place.sim.add_file("large", bytes(17 << 20))
    planned, spent = await both(place, f"{place.remote}/", place.home / "to")
    # Where the endpoint sends away to, no request more is needed; it may not.
    assert spent <= planned <= spent + 1


async def test_a_few_files_in_a_huge_folder_are_proved_by_the_pages_that_can_hold_them(
    make: Callable[..., Any],
) -> None:
    place = await make()
    for number in range(1000):
        place.sim.add_file(f"d/f{number:04}", b"x")
    root = place.tree({"d/f0500b": b"1", "d/f0900b": b"2", "d/z": b"3"})
    planned, spent = await both(place, f"{root}/", f"{place.remote}/")
    # The root and the folder (21 pages) are listed before, three beginnings after.
    listed = [c for c in place.sim.calls("GET", "/storage") if "Prefix=d%2F" in c.path]
    assert planned == spent
    assert len(listed) <= 2 * 20 + 3


async def test_where_beginnings_show_nothing_the_whole_folder_proves(
    make: Callable[..., Any],
) -> None:
    place = await make(prefix="exact")
    for number in range(400):
        place.sim.add_file(f"d/f{number:04}", b"x")
    root = place.tree({"d/f0100b": b"1", "d/f0100c": b"2"})
    report = await place.copy(f"{root}/", f"{place.remote}/")
    assert (report.summary.verified, report.exit_code) == (2, 0)


async def test_whatever_is_sent_and_however_spends_what_was_planned(
    make: Callable[..., Any],
) -> None:
    place = await make()
    root = place.tree({"a": b"1", "d/b": b"2"})
    await place.copy(f"{root}/", f"{place.remote}/n/")
    for content, on_conflict in (b"11", "overwrite"), (b"111", "rename"), (b"1111", "skip"):
        (root / "a").write_bytes(content)
        planned, spent = await both(
            place, f"{root}/", f"{place.remote}/n/", on_conflict=on_conflict
        )
        assert planned == spent
    rows = place.home / "rows.csv"
    rows.write_text(f"source,destination\n{root}/a,x/y/a\n{root}/d/b,x/b\n")
    planned, spent = await both(place, f"{place.remote}/", manifest=rows)
    assert planned == spent
