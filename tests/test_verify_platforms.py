"""`penstock.verify` and checksum files on every platform: what holds, and what differs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import penstock
from benches import BENCHES, Bench
from penstock.api.history import as_checksums

OPEN = ["sevenbridges", "coscine", "datameta_simulated", "coscine_s3"]
FILES = {
    "plain": b"one",
    "with space": b"two",
    "ümläut": b"three",
    "100%.txt": b"four",
    "empty": b"",
    "big": os.urandom(300_000),
}


@pytest.fixture(params=OPEN)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with BENCHES[request.param](tmp_path) as opened:
        yield opened
        assert not opened.violations()


async def check(bench: Bench, *places: str | Path, **options: Any) -> penstock.Verification:  # noqa: ANN401
    return await penstock.verify(*map(str, places), environ=bench.environ, **options)


def sums(report: penstock.Report, name: str, path: Path) -> subprocess.CompletedProcess[str]:
    path.write_text("\n".join(as_checksums(report.lines(), name)) + "\n")
    command = [f"{name}sum", "--check", "--strict", "--quiet", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def spoil(path: Path) -> None:
    """Other bytes of the same size and time, as a disk might have it."""
    found = path.stat()
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def told(found: penstock.Verification) -> dict[str, list[str]]:
    return {
        kind: sorted(one.path for one in getattr(found, kind))
        for kind in ("missing", "extra", "different", "unproved")
    }


NOTHING: dict[str, list[str]] = {"missing": [], "extra": [], "different": [], "unproved": []}


async def test_what_came_down_holds_against_everything_and_each_difference_is_told(
    bench: Bench,
) -> None:
    for name, content in FILES.items():
        bench.seed(name, content)
    here, reported = bench.home / "here", bench.home / "r.jsonl"
    report = await bench.copy(f"{bench.remote}/", here, report=reported, checksum=["sha256"])
    assert report.exit_code == 0
    for name in ("md5", "sha256"):
        checked = sums(report, name, bench.home / f"{name}.txt")
        assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr

    ways: list[tuple[tuple[str | Path, ...], dict[str, Any]]] = [
        ((here,), {}),
        ((here,), {"report": reported}),
        ((here,), {"manifest": bench.home / "md5.txt"}),
        ((here,), {"manifest": bench.home / "sha256.txt"}),
        ((here, bench.listed), {"read_back": True}),
        ((bench.listed, here), {"read_back": True}),
        ((bench.listed,), {"report": reported, "read_back": True}),
    ]
    for places, options in ways:
        found = await check(bench, *places, **options)
        assert told(found) == NOTHING, (places, options)
        assert (found.same, found.exit_code) == (len(FILES), 0), (places, options)
    listed = await check(bench, here, bench.listed)
    assert (listed.missing, listed.extra, listed.different) == ([], [], [])

    spoil(here / "big")
    (here / "plain").unlink()
    (here / "more").write_bytes(b"x")
    for places, options in ways[:5]:
        found = await check(bench, *places, **options)
        wanted = {"missing": ["plain"], "extra": ["more"], "different": ["big"], "unproved": []}
        assert told(found) == wanted, (places, options)
        assert found.exit_code == 1
    swapped = await check(bench, bench.listed, here, read_back=True)
    assert told(swapped) == {
        "missing": ["more"], "extra": ["plain"], "different": ["big"], "unproved": []
    }  # fmt: skip
    checked = sums(report, "sha256", bench.home / "again.txt")
    assert checked.returncode == 1
    assert "big: FAILED" in checked.stdout


async def test_what_went_up_holds_and_what_is_lost_there_is_told(bench: Bench) -> None:
    root, reported = bench.tree(FILES), bench.home / "up.jsonl"
    report = await bench.copy(f"{root}/", f"{bench.remote}/", report=reported)
    assert report.exit_code == 0
    place = bench.listed
    for places, options in (
        ((place,), {}),
        ((place,), {"report": reported}),
        ((place, root), {}),
        ((place, root), {"read_back": True}),
    ):
        found = await check(bench, *places, **options)
        assert told(found) == NOTHING, (places, options)
        assert found.same == len(FILES)
    checked = sums(report, "md5", bench.home / "md5.txt")
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr
    bench.remove("plain")
    found = await check(bench, place, report=reported)
    # Where a report names files by their ids, the one that is gone has no other name.
    gone = told(found).pop("missing")
    assert gone == ["plain"] or (bench.profile == "datameta" and len(gone) == 1)
    assert told(found) == {**NOTHING, "missing": gone}
    assert found.exit_code == 1
