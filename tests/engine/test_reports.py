"""Lines on disk: under the final name when the run ends, and only then."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from penstock.core.errors import UsageError
from penstock.core.report import Line
from penstock.engine.reports import KEPT, ReportWriter


def line(source: str = "a") -> Line:
    return Line("r", source, "b", None, 1, "verified")


def test_a_report_takes_its_name_when_the_run_ends(tmp_path: Path) -> None:
    wanted = tmp_path / "deep" / "wanted.jsonl"
    with ReportWriter(tmp_path / "reports", "r", wanted) as writer:
        writer.write(line())
        writer.write(line("ä"))
        assert not wanted.exists()
        assert not writer.path.exists()
    lines = wanted.read_text(encoding="utf-8").splitlines()
    assert [json.loads(text)["source"] for text in lines] == ["a", "ä"]
    assert writer.path.read_bytes() == wanted.read_bytes()
    assert [path.name for path in wanted.parent.iterdir()] == ["wanted.jsonl"]


def test_a_report_is_there_also_where_the_run_ends_in_an_error(tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    failing = ReportWriter(tmp_path / "r", "r", wanted)
    with pytest.raises(ZeroDivisionError), failing as writer:  # noqa: PT012 - a run is a block
        writer.write(line())
        raise ZeroDivisionError
    assert len(wanted.read_text().splitlines()) == 1


def test_an_earlier_report_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    wanted.write_text("old")
    with ReportWriter(tmp_path / "r", "r", wanted) as writer:
        writer.write(line())
        assert wanted.read_text() == "old"
    assert wanted.read_text() != "old"


def test_a_report_of_no_lines_is_an_empty_file(tmp_path: Path) -> None:
    with ReportWriter(tmp_path / "r", "r", tmp_path / "wanted"):
        pass
    assert (tmp_path / "wanted").read_bytes() == b""


def test_the_run_s_own_copy_is_its_owner_s_alone(tmp_path: Path) -> None:
    with ReportWriter(tmp_path / "reports", "r", None) as writer:
        pass
    assert stat.S_IMODE(writer.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(writer.path.parent.stat().st_mode) == 0o700


def test_a_name_that_is_no_text_is_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff")
    with ReportWriter(tmp_path / "r", "r", None) as writer:
        writer.write(line(name))
    text = writer.path.read_text(encoding="utf-8", errors="surrogateescape")
    assert json.loads(text)["source"] == name


@pytest.mark.parametrize("where", ["folder", "file/below"])
def test_a_report_that_cannot_be_is_refused_before_anything_moves(
    tmp_path: Path, where: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        ReportWriter(tmp_path / "r", "r", tmp_path / where).__enter__()
    assert sorted(path.name for path in (tmp_path / "r").glob(".*")) == []


def test_a_report_that_cannot_be_leaves_no_report_of_a_run_that_never_was(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError):
        ReportWriter(tmp_path / "r", "r", tmp_path / "folder").__enter__()
    assert list((tmp_path / "r").iterdir()) == []


def test_the_oldest_reports_are_dropped(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        with ReportWriter(tmp_path, f"r{number:03}", None) as writer:
            pass
        os.utime(writer.path, (number, number))
    with ReportWriter(tmp_path, "last", None):
        pass
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == KEPT
    assert "last.jsonl" in kept
    assert "r000.jsonl" not in kept


def test_a_report_on_a_full_disk_ends_in_an_error_of_ours_or_none(tmp_path: Path) -> None:
    """A report that cannot be written must not look like one that was."""
    wanted = tmp_path / "wanted"
    (tmp_path / ".wanted.part").symlink_to("/dev/full")
    with ReportWriter(tmp_path / "r", "r", wanted) as writer:
        writer.write(line())
    assert not wanted.exists()
    assert writer.path.exists(), "one report's trouble is not the other's"
