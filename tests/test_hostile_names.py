"""Names from a platform that mean harm, or no good: down, whole, inside, and told by both names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import penstock
from benches import BENCHES, Bench, md5
from penstock.core import names
from penstock.core.locations import unescape
from penstock.simulators.content import content_of
from s3_world import S3Bench

COMPONENTS = [
    "..",
    ".",
    "../../x",
    "/etc/cron.d/x",
    "C:\\x",
    "C:",
    "..\\..\\x",
    "a\0b",
    "a\x1b[31mb",
    "a\nb",
    "a\rb",
    "a\x85b",
    "trailing.",
    "trailing ",
    " leading",
    "CON",
    "nul.txt",
    "COM1",
    "x" * 255,
    "x" * 256,
    "é" * 200,
    "名" * 100 + ".fastq.gz",
    "Twin",
    "tWIN",
    "caf\u00e9",
    "cafe\u0301",
    "",
    ".penstock-0123456789abcdef.part",
    ".PENSTOCK-x.PART",
    ".penstock-ledger.db",
    "%2F",
    "%empty",
    "%2E%2E",
    "a%2Fb",
    "a/b",
    "-rf",
    "~",
    "$HOME",
    "`id`",
    "a b",
    "\u202egnp.exe",
    "\ud800",
]
# A file and a folder of one name, where the platform has both.
BOTH = ("both", "both/inner")
OPEN = ["sevenbridges", "coscine", "datameta_simulated", "coscine_s3"]


def put(bench: Bench, name: str, content: bytes) -> None:
    """One file of exactly that name, in whatever way the simulated platform could have it."""
    sim: Any = getattr(bench, "_sim", None)
    if bench.profile == "cavatica":
        tree = sim._world.tree
        stored = sim.storage.put(sim._world.new_key(), content_of(content))
        tree.add("FILE", tree.make_folders(sim.project, ""), name, stored)
    else:
        bench.seed(name, content)


@pytest.fixture(params=OPEN)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with BENCHES[request.param](tmp_path / "home") as opened:
        yield opened


def possible(bench: Bench, name: str) -> bool:
    """Whether the platform, as far as it is known, could tell of a file of that name."""
    if bench.profile == "cavatica":
        return True
    if name in {"\ud800", ".."}:
        return False  # no URL can hold the one; the other is a folder, where names are paths
    if bench.profile == "datameta":
        # The server answers 500 to whoever fetches one (*observed*, 1.1.1).
        return bench.takes(name) and all(character >= " " for character in name)
    return bool(name) and (not name.startswith("/") or bench.folders is False)


def written(bench: Bench) -> dict[str, bytes]:
    """What the platform could be brought to hold, by name."""
    held: dict[str, bytes] = {}
    for number, name in enumerate(COMPONENTS):
        content = b"%d of them" % number
        if not possible(bench, name):
            continue
        try:
            put(bench, name, content)
        except Exception:  # noqa: BLE001, S112 - a platform that cannot have the name
            continue
        held[name] = content
    return held


def outside(home: Path, place: Path) -> list[Path]:
    ours = {"state", "config", "src", ".cache"}
    return [
        path
        for path in home.parent.rglob("*")
        if path.is_file()
        and place not in path.parents
        and not ours & set(path.relative_to(home.parent).parts)
    ]


async def test_every_name_is_written_inside_whole_and_told_by_both_names(bench: Bench) -> None:
    held = written(bench)
    assert len(held) > 20
    place = bench.home / "deep" / "to"
    report = await bench.copy(f"{bench.remote}/", place)
    lines = list(report.lines())
    failed = [(line.source, line.error) for line in lines if line.status != "verified"]
    assert failed == []
    assert len(lines) == len(held)
    assert outside(bench.home, place) == []
    got = sorted(path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert got == sorted(held.values())
    for line in lines:
        local = Path(line.destination)
        assert md5(local.read_bytes()) == line.digests["md5"]
        parts = local.relative_to(place).parts
        assert all(len(os.fsencode(part)) <= 255 for part in parts)
        if not any(names.is_shortened(part) for part in parts):
            # Reversible: the remote name can be had from the local one alone.
            remote = "/".join(names.decode(part) for part in parts)
            assert held.get(remote) == local.read_bytes(), parts
    sources = {line.source.rpartition("/")[2] for line in lines}
    told = sources | {unescape(source) for source in sources}
    if bench.profile != "datameta":  # where a file is told by its id
        assert {name for name in held if "/" not in name} <= told


async def test_a_second_run_knows_every_one_of_them_and_they_go_up_again(bench: Bench) -> None:
    held = written(bench)
    place = bench.home / "deep" / "to"
    await bench.copy(f"{bench.remote}/", place)
    again = await bench.copy(f"{bench.remote}/", place)
    assert again.summary.skipped == len(held), [
        (line.source, line.status, line.error) for line in again.lines() if line.status != "skipped"
    ]
    if not bench.folders or isinstance(bench, S3Bench):
        return  # moto's own listing, which the room there is counted by, fails of such names
    back = await bench.copy(f"{place}/", f"{bench.remote}/back/")
    told = {Path(line.source).name: line for line in back.lines()}
    for name, line in told.items():
        assert line.status in {"verified", "unverified"} or line.error is not None, name
        if line.error is not None:
            assert len(line.error["message"]) > 20
    assert back.summary.verified > 20


async def test_a_file_and_a_folder_of_one_name_are_a_conflict_that_is_told(bench: Bench) -> None:
    if not bench.folders:
        pytest.skip("there are no folders there")
    try:
        for path in BOTH:
            bench.seed(path, path.encode())
    except Exception:  # noqa: BLE001
        pytest.skip("it cannot hold both")
    report = await bench.copy(f"{bench.remote}/", bench.home / "to")
    by_status = sorted(line.status for line in report.lines())
    assert len(by_status) == 2
    assert by_status in (["failed", "verified"], ["verified", "verified"])
    if "failed" in by_status:
        (line,) = [line for line in report.lines() if line.status == "failed"]
        assert line.error is not None
        assert "both" in line.error["message"]
        assert report.exit_code == 1


async def test_nothing_is_written_through_a_link_that_a_name_leads_to(bench: Bench) -> None:
    """A folder of the destination that is a link leads where its owner let it lead; a file that is
    a link is in the way."""
    bench.seed("a", b"from there")
    place, elsewhere = bench.home / "to", bench.home / "src" / "elsewhere"
    place.mkdir(parents=True)
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    elsewhere.write_bytes(b"not to be touched")
    (place / "a").symlink_to(elsewhere)
    report = await bench.copy(f"{bench.remote}/", place)
    assert elsewhere.read_bytes() == b"not to be touched"
    assert report.summary.failed == 1
    report = await bench.copy(f"{bench.remote}/", place, on_conflict="overwrite")
    assert elsewhere.read_bytes() == b"not to be touched"
    assert (place / "a").read_bytes() == b"from there"
    assert penstock.__version__
