"""Metadata of files whose bytes go straight to a real S3 server: stored, refused, read out."""

from __future__ import annotations

from pathlib import Path

import pytest

import penstock
from penstock.core.metadata import FaultyTable
from penstock.simulators import Fault
from s3_world import S3Bench

HEAD = "path;Titel;Ersteller;Erstelldatum;Fachgebiet\n"


def table(s3: S3Bench, *rows: str) -> Path:
    path = s3.home / "table.csv"
    path.write_text(HEAD + "".join(f"{row}\n" for row in rows), encoding="utf-8-sig")
    return path


async def test_refused_metadata_is_sent_again_alone_and_the_content_is_there(s3: S3Bench) -> None:
    root = s3.tree({"a": b"1", "d/b": b"2"})
    rows = table(s3, "*;A;Ada;2026-01-01;Informatik")
    s3.sim.faults.add(Fault(kind="status", path="/d%2Fb/metadata/content", status=400))
    lines = {
        line.id: line
        for line in (await s3.copy(f"{root}/", f"{s3.remote}/", metadata=rows)).lines()
    }
    assert sorted(line.status for line in lines.values()) == ["failed", "verified"]
    assert set(s3.there()) == {"a", "d/b"}
    sent = s3.asked().count("PUT")
    report = await s3.copy(f"{root}/", f"{s3.remote}/", metadata=rows)
    assert report.ok
    assert sorted(line.metadata or "" for line in report.lines()) == ["stored", "unchanged"]
    assert s3.asked().count("PUT") == sent == 2
    assert set(s3.sim.metadata(s3.resource)) == {"a", "d/b"}


async def test_a_file_changed_at_the_source_sends_both_and_a_corrected_row_itself(
    s3: S3Bench,
) -> None:
    root = s3.tree({"a": b"1", "b": b"2"})
    await s3.copy(f"{root}/", f"{s3.remote}/", metadata=table(s3, "*;A;Ada;2026-01-01;Informatik"))
    (root / "a").write_bytes(b"other")
    rows = table(s3, "a;A;Ada;2026-01-01;Informatik", "b;Neu;Ada;2026-01-01;Informatik")
    report = await s3.copy(f"{root}/", f"{s3.remote}/", metadata=rows, on_conflict="overwrite")
    assert report.ok
    assert s3.asked().count("PUT") == 3
    assert '"Neu"' in s3.sim.metadata(s3.resource)["b"]


async def test_what_a_table_costs_is_planned(s3: S3Bench) -> None:
    root = s3.tree({f"{n}": b"x" for n in range(5)})
    rows = table(s3, "*;A;Ada;2026-01-01;Informatik")
    for _ in range(2):
        planned = await penstock.plan(
            f"{root}/", f"{s3.remote}/", metadata=rows, environ=s3.environ
        )
        report = await s3.copy(f"{root}/", f"{s3.remote}/", metadata=rows)
        assert report.summary.api_requests == {"coscine": planned.api_requests}


async def test_all_faults_are_told_and_nothing_goes_to_the_bucket(s3: S3Bench) -> None:
    s3.sim.at(s3.resource).profile = "https://example.org/ap/microscopy/"
    root = s3.tree({"a": b"1"})
    rows = table(s3, "a;A;;2026;Alchemie")
    with pytest.raises(FaultyTable) as raised:
        await s3.copy(f"{root}/", f"{s3.remote}/", metadata=rows)
    assert {fault.column for fault in raised.value.faults} == {
        "Erstelldatum",
        "Fachgebiet",
        "Creator",
    }
    assert not s3.there()


async def test_metadata_comes_out_of_a_bucket_s_resource_and_goes_in_again(s3: S3Bench) -> None:
    root = s3.tree({"a": b"1", "d/b": b"2", "c": b"3"})
    rows = table(s3, "a;A;Ada;2026-01-01;Informatik", "d/b;B;Ada;2026-01-01;Medizin")
    await s3.copy(f"{root}/", f"{s3.remote}/", metadata=rows)
    asked = s3.requests()
    found = await penstock.metadata(f"{s3.remote}/", environ=s3.environ)
    assert {file.path: file.values["Title"] for file in found} == {"a": ("A",), "d/b": ("B",)}
    # The resource, and its whole graph.
    assert s3.requests() - asked == 2
    below = await penstock.metadata(f"{s3.remote}/d/", environ=s3.environ)
    assert [file.path for file in below] == ["b"]
    (one,) = await penstock.metadata(f"{s3.remote}/d/b", environ=s3.environ)
    assert one.values["Title"] == ("B",)
    columns = await penstock.metadata_columns(f"{s3.remote}/", environ=s3.environ)
    assert "Title" in {column.name for column in columns}
    saved = s3.home / "saved.csv"
    await s3.copy(f"{s3.remote}/", s3.home / "to", save_metadata=saved)
    again = await s3.copy(f"{root}/", f"{s3.remote}/", metadata=saved)
    assert sorted(str(line.metadata) for line in again.lines()) == [
        "None",
        "unchanged",
        "unchanged",
    ]
