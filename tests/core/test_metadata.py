from collections.abc import Sequence
from typing import Any

import pytest

from penstock.core.errors import TableError
from penstock.core.metadata import (
    Column,
    Fault,
    FaultyTable,
    MetadataRow,
    Sheet,
    Trouble,
    Values,
    read_metadata,
)
from penstock.core.tables import decode_lines


class Numbers:
    """A schema of one mandatory whole number, and any text under `note`."""

    demands_rows = False
    inlined: frozenset[str] = frozenset()

    def columns(self) -> Sequence[Column]:
        return (Column("n", "number", is_mandatory=True), Column("note"))

    def unknown(self, column: str) -> str | None:
        return None if column in {"n", "note"} else "there is no such column"

    def check_row(self, values: Values) -> Sequence[Trouble]:
        bad = [text for text in values.get("n", ()) if not text.isdigit()]
        return [Trouble("n", f"{text!r} is no number") for text in bad]

    def compile(self, values: Values) -> tuple[str, Sequence[Trouble]]:
        missing = [] if "n" in values else [Trouble("n", "it is mandatory")]
        return repr(sorted(values.items())), missing


def rows(text: str, **options: Any) -> list[MetadataRow]:  # noqa: ANN401 - the reader's
    return list(read_metadata(text.splitlines(keepends=True), **options))


def sheet(text: str) -> Sheet:
    return Sheet(rows(text), Numbers())


def test_values_are_the_text_that_stands_there_and_empty_cells_say_nothing() -> None:
    (row,) = rows("path,date,code,none\na,2026-01-02,007,\n")
    assert row == MetadataRow(2, "a", {"date": ("2026-01-02",), "code": ("007",)})


def test_a_column_named_twice_and_a_list_in_json_give_several_values() -> None:
    (twice,) = rows("path;tag;tag\na;x;y\n")
    (listed,) = rows('{"path": "a", "tag": ["x", "y"]}\n')
    assert twice.values == listed.values == {"tag": ("x", "y")}


def test_a_german_excel_export_is_read() -> None:
    export = '\ufeffpath;Titel;Größe\r\nd/ä.csv;"a;b";1,5\r\n'.encode()
    (row,) = read_metadata(decode_lines([export]))
    assert row == MetadataRow(2, "d/ä.csv", {"Titel": ("a;b",), "Größe": ("1,5",)})


def test_a_table_without_paths_is_all_values() -> None:
    assert rows("a,b\n1,2\n", by_path=False) == [MetadataRow(2, None, {"a": ("1",), "b": ("2",)})]


def test_a_manifest_is_metadata_by_its_destination_or_last_name() -> None:
    read = rows("source,destination,md5,x\nd/a,,,1\nd/b,e/[c],,2\n", is_manifest=True)
    assert [(row.path, row.values) for row in read] == [
        ("a", {"x": ("1",)}),
        ("e/[c]", {"x": ("2",)}),
    ]
    assert [one.row for one in Sheet(read, Numbers()).rows_of("e/c")] == []


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "source,b\n1,2\n", "path,b\n,2\n", '{"b": "2"}\n'])
def test_a_row_that_is_about_no_path_is_refused(text: str) -> None:
    with pytest.raises(TableError, match="path"):
        rows(text)


def test_a_later_row_wins_cell_by_cell() -> None:
    laid = sheet("path,n,note\n*.txt,1,all\nd/a.txt,2,\n")
    assert laid.of("d/a.txt")[0] == "[('n', ('2',)), ('note', ('all',))]"
    assert laid.of("b.txt")[0] == "[('n', ('1',)), ('note', ('all',))]"
    assert laid.of("b.bin") == (None, [])
    assert laid.unmatched() == []


def test_a_name_with_brackets_is_itself_and_a_glob() -> None:
    laid = sheet("path,n\nd/run[1].txt,1\n")
    assert laid.of("d/run[1].txt")[0] is not None
    assert laid.of("d/run1.txt")[0] is not None
    assert laid.of("run1.txt")[0] is None


def test_faults_name_the_row_their_cell_is_from() -> None:
    laid = sheet("path,n,note,other\n*,,x,\na,x,,1\n")
    assert laid.check_rows() == [
        Fault(3, "other", "there is no such column"),
        Fault(3, "n", "'x' is no number"),
    ]
    assert laid.of("b")[1] == [Fault(2, "n", "it is mandatory")]
    assert str(Fault(3, "n", "bad")) == "row 3, column 'n': bad"
    assert (
        str(FaultyTable("t.csv", [Fault(1, None, "x")])) == "t.csv has 1 fault; nothing was moved"
    )


def test_rows_that_match_no_file_are_known() -> None:
    laid = sheet("path,n\na,1\nb,2\n")
    laid.of("a")
    assert [row.path for row in laid.unmatched()] == ["b"]
