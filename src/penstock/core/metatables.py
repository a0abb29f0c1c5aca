"""Metadata as a table that `read_metadata` reads back: CSV, or JSON lines. Pure text.

A CSV has a column for each name, twice where a file has several values; that is known only when
every file is, so the rows are held. JSON lines hold none.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from penstock.core.metadata import NOTES, PATH, Column, Values

# Terms a template lists in a cell before it only counts the rest.
MOST_TERMS = 40


def csv_of(rows: Iterable[tuple[str, Values]], *, by_path: bool = True) -> Iterator[str]:
    """The lines of a CSV, the header first. Records, which have no path, have no column for it."""
    held = list(rows)
    widths: dict[str, int] = {}
    for _, values in held:
        for column, texts in values.items():
            widths[column] = max(widths.get(column, 0), len(texts))
    header = [column for column, width in widths.items() for _ in range(width)]
    yield _line([PATH, *header] if by_path else header)
    for path, values in held:
        cells: list[str] = []
        for column, width in widths.items():
            texts = values.get(column, ())
            cells += [*texts, *[""] * (width - len(texts))]
        yield _line([path, *cells] if by_path else cells)


def json_of(path: str, values: Values, *, by_path: bool = True) -> str:
    """One file as a JSON object, several values as a list."""
    pairs: dict[str, object] = {PATH: path} if by_path else {}
    for column, texts in values.items():
        pairs[column] = texts[0] if len(texts) == 1 else list(texts)
    return json.dumps(pairs, ensure_ascii=False)


def template_of(columns: Sequence[Column], *, by_path: bool = True) -> Iterator[str]:
    """An empty table: its header, and rows of notes that are no files.

    Records have no path to note in: theirs is a header alone.
    """
    if not by_path:
        yield _line([column.name for column in columns])
        return
    yield _line([PATH, *(column.name for column in columns)])
    kind, needed, terms = NOTES
    yield _line([kind, *(column.kind + (", …" * column.takes_several) for column in columns)])
    yield _line([needed, *("yes" if column.is_mandatory else "" for column in columns)])
    yield _line([terms, *(_terms(column.terms) for column in columns)])


def column_object(column: Column) -> Mapping[str, object]:
    """A column of a template, all of its terms with it."""
    return {
        "column": column.name,
        "type": column.kind,
        "needed": column.is_mandatory,
        "several": column.takes_several,
        "terms": list(column.terms),
    }


def _terms(terms: Sequence[str]) -> str:
    shown = " | ".join(terms[:MOST_TERMS])
    more = len(terms) - MOST_TERMS
    return f"{shown} | … and {more} more (--json lists all)" if more > 0 else shown


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    # A cell is quoted where it holds a character of the line end, so that is the longer one.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"
