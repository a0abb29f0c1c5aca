from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import PenstockError, TableError
from penstock.core.tables import ManifestRow, decode_lines, only, read_manifest

MD5 = hashlib.md5(b"x").hexdigest()  # noqa: S324 - what md5sum files hold
SHA256 = hashlib.sha256(b"x").hexdigest()


def rows(text: str) -> list[ManifestRow]:
    return list(read_manifest(text.splitlines(keepends=True), table="m"))


def fault(text: str) -> str:
    with pytest.raises(TableError) as caught:
        rows(text)
    return str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_told_from_the_header(separator: str) -> None:
    text = "source,destination,size,md5\na.txt,b/a.txt,12," + MD5.upper() + "\n"
    assert rows(text.replace(",", separator)) == [
        ManifestRow(2, "a.txt", "b/a.txt", 12, {"md5": MD5})
    ]


@pytest.mark.parametrize("column", ["source", "File name", "filename", "FILE NAME", " Source "])
def test_the_source_column_has_three_names(column: str) -> None:
    assert rows(f"{column},sample\na.txt,s1\n")[0].source == "a.txt"


def test_a_second_column_that_could_be_the_source_is_metadata() -> None:
    (row,) = rows("source,filename\na.txt,b.txt\n")
    assert (row.source, row.extra) == ("a.txt", {"filename": ("b.txt",)})


def test_every_value_is_the_text_that_stands_there() -> None:
    (row,) = rows("source,case,day,count,note\n007,0012,2026-01-02,1E5, x \n")
    assert row.source == "007"
    assert row.extra == {
        "case": ("0012",),
        "day": ("2026-01-02",),
        "count": ("1E5",),
        "note": (" x ",),
    }


def test_numbers_in_json_are_the_text_that_stands_there() -> None:
    (row,) = rows('{"source": "a", "size": 12, "n": 1.50, "e": 1E5, "big": 1' + "0" * 5000 + "}\n")
    assert row.size == 12
    assert row.extra["n"] == ("1.50",)
    assert row.extra["e"] == ("1E5",)
    assert len(row.extra["big"][0]) == 5001


def test_a_metadata_column_named_twice_gives_several_values_and_an_empty_cell_none() -> None:
    (row,) = rows("source,tag,tag,tag,empty\na,x,,y,\n")
    assert row.extra == {"tag": ("x", "y")}
    (row,) = rows('{"source": "a", "tag": ["x", null, "", "y"], "empty": null, "yes": true}\n')
    assert row.extra == {"tag": ("x", "y"), "yes": ("true",)}


@pytest.mark.parametrize(
    "header", ["source,source", "source,size,Size", "source,md5,MD5", "File name,file name"]
)
def test_a_column_with_a_meaning_stands_once(header: str) -> None:
    assert "row 1" in fault(f"{header}\na,b,c\n")
    assert "twice" in fault(f"{header}\na,b,c\n")


def test_digest_columns_are_known_with_a_dash_too() -> None:
    (row,) = rows(f"source,SHA-256\na,{SHA256.upper()}\n")
    assert row.digests == {"sha256": SHA256}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source,size\na,1\nb,1E5\n", "row 3, column 'size': '1E5' is not a whole number"),
        ("source,Size\na,-1\n", "row 2, column 'Size'"),
        ("source,md5\na,abc\n", "row 2, column 'md5': 'abc' is no md5: it has 32 hex digits"),
        ("source,md5\na," + "z" * 32 + "\n", "row 2, column 'md5'"),
        ("File name,x\n,1\n", "row 2, column 'File name': it is empty"),
        ("source,x\na,b,c\n", "row 2: it has 3 cells, the header 2"),
        ("source,\na,b\n", "without a name"),
        ("name,x\na,b\n", "needs a column 'source'"),
        ('source,x\n"a,b\n', "row 2: it cannot be read as CSV"),
        ("source,x\na\0b,c\n", "NUL"),
        ('{"source": "a"}\nnonsense\n', "row 2: it is not JSON"),
        ('{"source": "a"}\n[1]\n', "row 2: it is not a JSON object"),
        ('{"source": ["a"]}\n', "row 1, column 'source': one value"),
        ('{"source": "a", "x": {"y": 1}}\n', "row 1, column 'x': one value"),
        ('{"size": 1}\n', "row 1, column 'source': it is empty"),
        ('{"source": "a", "digests": {"md5": "12"}}\n', "column 'digests.md5'"),
        ('{"source": "a", "x": ' + "[" * 100_000 + "\n", "row 1"),
        (f"{MD5}  a\nnonsense\n", "row 2: it is no line of a checksum file"),
    ],
)
def test_every_fault_names_its_row_and_column(text: str, said: str) -> None:
    message = fault(text)
    assert message.startswith("m: ")
    assert said in message


def test_rows_count_as_in_a_spreadsheet_line_ends_in_cells_and_empty_rows_included() -> None:
    text = 'source,note\na,"two\nlines"\n\n,\nb,x\n'
    assert [(row.row, row.source) for row in rows(text)] == [(2, "a"), (5, "b")]


def test_a_short_row_says_nothing_in_the_missing_cells() -> None:
    assert rows("source,destination,size\na\n") == [ManifestRow(2, "a")]


def test_an_empty_table_has_no_rows() -> None:
    assert rows("") == rows("\n\n") == rows("source\n") == []


def test_an_md5sum_file_is_a_manifest() -> None:
    text = f"# made today\n{MD5}  a b.txt\n{MD5.upper()} *b.bin\n\\{MD5}  new\\nline\\\\x\n\n"
    assert [(r.row, r.source, r.digests) for r in rows(text)] == [
        (2, "a b.txt", {"md5": MD5}),
        (3, "b.bin", {"md5": MD5}),
        (4, "new\nline\\x", {"md5": MD5}),
    ]


def test_a_checksum_file_says_its_digest_by_length_or_by_name() -> None:
    text = f"{SHA256}  a\nSHA256 (b (1).txt) = {SHA256}\nSHA2-256(c)= {SHA256}\nMD5 (d) = {MD5}\r\n"
    assert [(r.source, r.digests) for r in rows(text)] == [
        ("a", {"sha256": SHA256}),
        ("b (1).txt", {"sha256": SHA256}),
        ("c", {"sha256": SHA256}),
        ("d", {"md5": MD5}),
    ]


def report_line(**changed: object) -> str:
    line: dict[str, object] = {
        "run": "r1",
        "source": "a.txt",
        "destination": "cavatica:me/p/a.txt",
        "id": None,
        "size": 1,
        "status": "verified",
        "reason": None,
        "digests": {"md5": MD5, "blake3": SHA256},
        "parts": 1,
        "seconds": 1.5,
        "error": None,
    }
    return json.dumps(line | changed) + "\n"


def test_a_report_is_a_manifest_without_metadata() -> None:
    failed = report_line(
        status="failed", size=None, digests={}, error={"type": "X", "message": "y"}
    )
    assert rows(report_line() + failed) == [
        ManifestRow(
            1,
            "a.txt",
            "cavatica:me/p/a.txt",
            1,
            {"md5": MD5, "blake3": SHA256},
            "verified",
        ),
        ManifestRow(2, "a.txt", "cavatica:me/p/a.txt", None, {}, "failed"),
    ]


def test_only_the_failed_lines_of_a_report_are_kept() -> None:
    text = report_line() + report_line(status="failed") + report_line(status="skipped")
    assert [row.row for row in only(rows(text), "failed")] == [2]


def test_only_needs_a_report_and_a_status() -> None:
    with pytest.raises(TableError, match=r"row 2.*report"):
        list(only(rows("source\na\n"), "failed"))
    with pytest.raises(TableError, match="no status"):
        list(only([], "broken"))
    assert "column 'status'" in fault(report_line(status="broken"))


def test_a_column_named_status_in_a_csv_is_metadata() -> None:
    assert rows("source,status\na,failed\n")[0].extra == {"status": ("failed",)}


def test_a_million_rows_are_never_held() -> None:
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        yield "source,size\n"
        for taken in itertools.count(1):
            yield f"f{taken},1\n"

    found = read_manifest(lines())
    for _ in range(1000):
        next(found)
    assert taken <= 1001


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_bytes_become_lines_whatever_the_pieces(step: int) -> None:
    data = "\ufeffsource\r\né,中\n\nlast".encode()
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    assert list(decode_lines(pieces)) == ["source\r\n", "é,中\n", "\n", "last"]


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "cp1252", "utf-8", "utf-8-sig", "latin-1"]
)
def test_another_encoding_is_read_when_it_is_named(encoding: str) -> None:
    data = "source\né\n".encode(encoding)
    assert list(decode_lines([data[:3], data[3:]], encoding=encoding)) == ["source\n", "é\n"]


def test_bytes_in_another_encoding_are_a_sentence_with_the_way_out() -> None:
    with pytest.raises(TableError, match=r"near row 2: is not UTF-8.*--encoding"):
        list(decode_lines(["source\né\n".encode("cp1252")]))
    with pytest.raises(TableError, match=r"--encoding utf-16"):
        list(decode_lines(["source\n".encode("utf-16")]))
    with pytest.raises(TableError, match="is not ascii"):
        list(decode_lines(["é".encode()], encoding="ascii"))


@pytest.mark.parametrize(
    "encoding", ["hex", "rot13", "nonsense", "idna", "unicode_escape", "\0", "a" * 99]
)
def test_an_encoding_nobody_knows_is_a_sentence(encoding: str) -> None:
    with pytest.raises(TableError, match="not an encoding"):
        list(decode_lines([b"x"], encoding=encoding))


def test_a_line_without_end_is_no_table() -> None:
    with pytest.raises(TableError, match="a line this long"):
        list(decode_lines(itertools.repeat(b"x" * 65536, 10_000)))


FOREIGN = (
    st.text(st.characters(exclude_categories=()))
    | st.text("source,;\t\"'\\\r\n{}[]:0123456789abcdef\0 ")
    | st.builds(
        "{}{}".format,
        st.sampled_from(
            ["source,size,md5,x,x\n", "source;\n", '{"source":"a",', f"{MD5}  ", "MD5 ("]
        ),
        st.text('source,;"\\\r\n{}[]:01af()= *\0'),
    )
)


@given(FOREIGN)
def test_any_text_gives_rows_or_a_sentence(text: str) -> None:
    try:
        found = list(read_manifest(text.splitlines(keepends=True)))
    except PenstockError:
        return
    for row in found:
        assert row.source
        assert row.row >= 1


@given(
    st.lists(st.binary(max_size=40), max_size=5),
    st.sampled_from([None, "utf-16", "cp1252", "utf-8"]),
)
def test_any_bytes_give_lines_or_a_sentence(chunks: list[bytes], encoding: str | None) -> None:
    try:
        lines = list(decode_lines(chunks, encoding=encoding))
    except PenstockError:
        return
    assert all("\n" not in line[:-1] for line in lines)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)
FIELDS = st.sampled_from(
    ["source", "size", "md5", "digests", "status", "run", "destination", "x", "error"]
)


@given(st.dictionaries(FIELDS, VALUES))
def test_any_json_object_gives_a_row_or_a_sentence(line: dict[str, object]) -> None:
    try:
        (row,) = read_manifest([json.dumps(line)])
    except PenstockError:
        return
    assert isinstance(row.source, str)
