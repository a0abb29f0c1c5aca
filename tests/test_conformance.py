"""What every platform must show, from an empty file to a changed remote (see `benches`)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import penstock
from benches import BENCHES, NEEDS, Bench, md5
from penstock.core.model import MIB
from penstock.core.report import Line

NAMES = ("plain.txt", "with space.txt", "ümläut-名.txt", "100%.txt", "a+b&c=d;e.txt", "empty")


@pytest.fixture(params=sorted(BENCHES))
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    needs = NEEDS.get(request.param)
    shared = {"server": request.getfixturevalue(needs)} if needs is not None else {}
    async with BENCHES[request.param](tmp_path, **shared) as opened:
        yield opened
        assert not opened.violations()


def contents(bench: Bench) -> dict[str, bytes]:
    files = {name: name.encode() * 7 for name in NAMES if bench.takes(name)}
    files["empty"] = b""
    if bench.folders:
        files["folder/deep/inner.bin"] = os.urandom(5000)
        files["folder/plain.txt"] = b"another of that name"
    return files


def md5s(files: dict[str, bytes]) -> dict[str, str]:
    return {path: md5(content) for path, content in files.items()}


def local(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): md5(path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


def by_name(report: penstock.Report) -> dict[str, Line]:
    return {Path(line.source).name: line for line in report.lines()}


async def test_a_tree_goes_up_whole_and_is_proved(bench: Bench) -> None:
    bench.must_send()
    files = contents(bench)
    report = await bench.copy(f"{bench.tree(files)}/", f"{bench.remote}/")
    assert (report.exit_code, report.summary.verified) == (0, len(files))
    assert bench.there() == md5s(files)
    assert all(line.verified_by for line in report.lines())


async def test_what_went_up_is_not_sent_again_and_costs_pages_alone(bench: Bench) -> None:
    bench.must_send()
    files = contents(bench)
    root = bench.tree(files)
    await bench.copy(f"{root}/", f"{bench.remote}/")
    before, asked = bench.there(), bench.requests()
    again = await bench.copy(f"{root}/", f"{bench.remote}/")
    assert again.summary.skipped == len(files)
    assert bench.requests() - asked <= 6
    assert bench.there() == before


async def test_two_runs_at_once_send_each_file_once_and_neither_waits_for_ever(
    bench: Bench,
) -> None:
    bench.must_send()
    files = {f"f{number:02}": b"%d" % number for number in range(24)}
    root = bench.tree(files)
    reports: list[penstock.Report] = []

    async def one(names: list[str]) -> None:
        sources = (str(root / name) for name in names)
        reports.append(await bench.copy(*sources, f"{bench.remote}/"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            # Each begins with what the other ends with, so that both have some of the files.
            group.start_soon(one, sorted(files))
            group.start_soon(one, sorted(files, reverse=True))
    assert [report.exit_code for report in reports] == [0, 0]
    assert sum(report.summary.verified for report in reports) == len(files)
    assert bench.there() == md5s(files)


async def test_a_tree_comes_down_whole_and_is_proved(bench: Bench) -> None:
    files = contents(bench)
    for path, content in files.items():
        bench.seed(path, content)
    report = await bench.fetch(bench.home / "to")
    assert (report.exit_code, report.summary.verified) == (0, len(files))
    assert local(bench.home / "to") == md5s(files)


async def test_what_came_down_is_not_fetched_again(bench: Bench) -> None:
    files = contents(bench)
    for path, content in files.items():
        bench.seed(path, content)
    await bench.fetch(bench.home / "to")
    asked = bench.requests()
    again = await bench.fetch(bench.home / "to")
    assert again.summary.skipped == len(files)
    assert sum(line.bytes_received for line in again.lines()) == 0
    assert bench.requests() - asked <= 6


async def test_a_file_that_vanished_here_is_fetched_again(bench: Bench) -> None:
    bench.seed("a", b"first")
    bench.seed("b", b"second")
    await bench.fetch(bench.home / "to")
    (bench.home / "to/a").unlink()
    again = await bench.fetch(bench.home / "to")
    assert {line.destination[-1]: line.status for line in again.lines()} == {
        "a": "verified",
        "b": "skipped",
    }
    assert (bench.home / "to/a").read_bytes() == b"first"


async def test_a_remote_file_that_changed_is_a_conflict_and_can_be_overwritten(
    bench: Bench,
) -> None:
    if not bench.overwrites:
        pytest.skip("a file there never changes: another one of its name is another file")
    bench.seed("a", b"before")
    await bench.fetch(bench.home / "to")
    bench.seed("a", b"after!")
    report = await bench.fetch(bench.home / "to")
    assert report.summary.failed == 1
    assert (bench.home / "to/a").read_bytes() == b"before"
    report = await bench.fetch(bench.home / "to", on_conflict="overwrite")
    assert report.exit_code == 0
    assert (bench.home / "to/a").read_bytes() == b"after!"


async def test_another_file_of_the_name_is_a_conflict_upwards(bench: Bench) -> None:
    bench.must_send()
    if not bench.overwrites:
        pytest.skip("names are not unique there: nothing is in the way")
    bench.seed("a", b"theirs")
    root = bench.tree({"a": b"ours, and longer"})
    report = await bench.copy(f"{root}/", f"{bench.remote}/")
    assert report.exit_code == 1
    assert next(report.lines()).reason == "conflict"
    assert bench.there() == md5s({"a": b"theirs"})
    skipped = await bench.copy(f"{root}/", f"{bench.remote}/", on_conflict="skip")
    assert (skipped.exit_code, skipped.summary.skipped) == (0, 1)
    over = await bench.copy(f"{root}/", f"{bench.remote}/", on_conflict="overwrite")
    assert (over.exit_code, over.summary.verified) == (0, 1)
    assert bench.there() == md5s({"a": b"ours, and longer"})


async def test_the_same_file_sent_by_somebody_else_is_found_to_be_the_same(bench: Bench) -> None:
    bench.must_send()
    bench.seed("a", b"the very same")
    report = await bench.copy(f"{bench.tree({'a': b'the very same'})}/", f"{bench.remote}/")
    (line,) = report.lines()
    assert (report.exit_code, line.status, line.bytes_sent) == (0, "skipped", 0)
    assert bench.there() == md5s({"a": b"the very same"})


async def test_a_large_file_goes_up_and_comes_down(bench: Bench) -> None:
    bench.must_send()
    content = os.urandom(24 * MIB)
    report = await bench.copy(bench.tree({"large.bin": content}) / "large.bin", f"{bench.remote}/")
    assert report.summary.verified == 1
    assert bench.there() == md5s({"large.bin": content})
    report = await bench.copy(f"{bench.remote}/", bench.home / "to")
    assert report.summary.verified == 1
    assert local(bench.home / "to") == md5s({"large.bin": content})


async def test_a_flipped_bit_is_noticed_and_fetched_again(bench: Bench) -> None:
    content = os.urandom(100_000)
    bench.seed("a", content)
    bench.flip_a_bit()
    report = await bench.fetch(bench.home / "to")
    assert (report.summary.verified, report.exit_code) == (1, 0)
    assert local(bench.home / "to") == md5s({"a": content})


async def test_names_from_the_platform_never_leave_the_destination(bench: Bench) -> None:
    name = "..\\..\\%2e%2e.txt" if bench.takes("..\\..\\%2e%2e.txt") else "...txt"
    bench.seed(name, b"x")
    await bench.fetch(bench.home / "deep/to")
    left_out = {"state", "served", "urls.jsonl"}
    below = [p for p in bench.home.rglob("*") if p.is_file() and not left_out & set(p.parts)]
    assert below
    assert all((bench.home / "deep/to") in path.parents for path in below)


async def test_a_refused_token_stops_the_run_and_is_asked_about_once(bench: Bench) -> None:
    bench.must_send()
    token = f"PENSTOCK_{bench.profile.upper()}_TOKEN"
    environ = {**bench.environ, token: "0" * 32}
    root = bench.tree({"a": b"1", "b": b"2"})
    for _ in range(2):
        with pytest.raises(penstock.TokenRefused):
            await bench.copy(f"{root}/", f"{bench.remote}/", environ=environ)
    assert bench.refused() <= 1
    assert bench.there() == {}


async def test_every_listed_location_can_be_pasted(bench: Bench) -> None:
    bench.must_send()
    files = contents(bench)
    for path, content in files.items():
        bench.seed(path, content)
    entries = await penstock.list_(f"{bench.listed}/", recursive=True, environ=bench.environ)
    listed = [entry for entry in entries if entry.kind == "file"]
    assert len(listed) == len(files)
    for number, entry in enumerate(listed):
        to = bench.home / f"pasted{number}/"
        report = await bench.copy(entry.location, f"{to}/")
        assert report.exit_code == 0, entry.location
    got = sorted(md5(path.read_bytes()) for path in bench.home.glob("pasted*/*"))
    assert got == sorted(md5s(files).values())


async def test_a_plan_moves_nothing_and_its_requests_are_what_the_copy_takes(bench: Bench) -> None:
    bench.must_send()
    root = bench.tree({"a": b"1", "b": b"2", "c": b"3"})
    planned = await penstock.plan(f"{root}/", f"{bench.remote}/", environ=bench.environ)
    assert bench.there() == {}
    assert planned.files == 3
    asked = bench.requests()
    report = await bench.copy(f"{root}/", f"{bench.remote}/")
    assert report.summary.verified == 3
    assert bench.requests() - asked <= planned.api_requests + 2
