"""Metadata tables: which values go with which file, and every fault found before anything moves.

A table is read row by row (`read_metadata`), its rows are laid over each other by path (`Sheet`),
and a platform's `Schema` turns the values of one file into the text that is sent. A platform takes
part by giving a `Schema`; it never reads a table itself. A table without paths (`by_path=False`,
as DataMeta's) is read by the same function: its rows have no path and go through
`Schema.check_row` and `Schema.compile` one by one, without a `Sheet`.

The invariant: every value is the text that stands there; what it means is the schema's business.
A schema is held in memory and asks nobody, so checking costs no request. Nothing here knows RDF,
JSON or a platform's limits.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from penstock.core.errors import TableError, UsageError
from penstock.core.globs import compile_pattern
from penstock.core.tables import Record, read_manifest, read_records
from penstock.core.values import quick_value

Values = Mapping[str, tuple[str, ...]]

PATH = "path"
# Rows of a template that are about no file: what stands in their path column.
NOTES = ("#type", "#needed", "#terms")
_SPECIAL = re.compile(r"[*?\[\\]")
_SOURCES = frozenset(("source", "file name", "filename"))


@quick_value(frozen=True, slots=True)
class MetadataRow:
    """One row: the path it is about (None in a table without paths), and its values by column.

    `row` counts from 1, a CSV's header included. `is_literal`: the path is no glob. Columns whose
    cells are empty are not there.
    """

    row: int
    path: str | None
    values: Values
    is_literal: bool = False


@quick_value(frozen=True, slots=True)
class Fault:
    """What is wrong with a table. `column` is None where it is the row as a whole.

    `row` is 0 where a file has no row.
    """

    row: int
    column: str | None
    reason: str

    def __str__(self) -> str:
        where = f"row {self.row}" if self.row else "no row"
        column = "" if self.column is None else f", column {self.column!r}"
        return f"{where}{column}: {self.reason}"


class FaultyTable(TableError):
    """A table whose rows have faults: all of them, in the order of its rows. Nothing was moved."""

    def __init__(self, table: str, faults: Sequence[Fault]) -> None:
        number = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}"
        super().__init__(f"{table} has {number}; nothing was moved")
        self.faults = tuple(faults)


@quick_value(frozen=True, slots=True)
class Trouble:
    """What a schema has against values: the column, or None where it is all of them together."""

    column: str | None
    reason: str


@quick_value(frozen=True, slots=True)
class Column:
    """A column as a template shows it. `terms` are the allowed values, none where any is."""

    name: str
    kind: str = "text"
    is_mandatory: bool = False
    takes_several: bool = False
    terms: tuple[str, ...] = ()


class Schema(Protocol):
    """What a platform, or one of its resources, takes as metadata. Pure: it asks nobody."""

    @property
    def demands_rows(self) -> bool:
        """Whether a file without any values is a fault."""
        ...

    @property
    def inlined(self) -> frozenset[str]:
        """Columns whose cells name a file, relative to the table, whose text is the value."""
        ...

    def columns(self) -> Sequence[Column]:
        """The columns there are, in the order a person expects them."""
        ...

    def unknown(self, column: str) -> str | None:
        """Why there is no such column; None where there is."""
        ...

    def check_row(self, values: Values) -> Sequence[Trouble]:
        """What is wrong with cells by themselves; a missing one is none of it."""
        ...

    def compile(self, values: Values) -> tuple[str, Sequence[Trouble]]:
        """What is sent for a file, always the same text for the same values; or what is wrong.

        The text counts only where there is no trouble. Cells alone were checked before.
        """
        ...


@runtime_checkable
class MeetsRows(Protocol):
    """A schema that checks faster when it has met all rows before it is asked about one."""

    def meet(self, rows: Iterable[Values]) -> None:
        """All rows that will be checked."""
        ...


@runtime_checkable
class KnowsFields(Protocol):
    """A schema whose columns have several names each."""

    def field_of(self, column: str) -> Hashable:
        """What columns that mean the same have in common, and no others."""
        ...


def read_metadata(
    lines: Iterable[str],
    *,
    table: str = "the metadata",
    by_path: bool = True,
    is_manifest: bool = False,
) -> Iterator[MetadataRow]:
    """The rows of a metadata table, in order, each as soon as it is read.

    The path is in the column `path`. A table without one that has a manifest's `source`, or one
    that `is_manifest` of the same command, is read as a manifest: the path is the destination, or
    the source's last name, and what a manifest reads is no metadata. A template's notes are left
    out. With `by_path=False` all
    columns are values. Raises `TableError`, also for a row without a path.
    """
    if is_manifest:
        yield from _manifest_rows(lines, table)
        return
    records = iter(read_records(lines, table=table, marks=(PATH,) if by_path else ()))
    first = next(records, None)
    if first is None:
        return
    names = {name.lower() for name, _ in first.cells}
    if by_path and first.is_header and PATH not in names:
        raise TableError(
            f"{table}: row {first.row}: a metadata table needs a column 'path'; a manifest is "
            "given to --manifest and --metadata both"
            if names & _SOURCES
            else f"{table}: row {first.row}: a metadata table needs a column 'path'"
        )
    if not first.is_header:
        yield _row(first, table, by_path=by_path)
    for record in records:
        row = _row(record, table, by_path=by_path)
        if row.path not in NOTES:
            yield row


def header_of(lines: Iterable[str], *, table: str = "the metadata") -> tuple[int, tuple[str, ...]]:
    """A CSV's header: its row, and its columns but `path`; (0, ()) where there is none."""
    first = next(iter(read_records(lines, table=table, marks=(PATH,))), None)
    if first is None or not first.is_header:
        return 0, ()
    return first.row, tuple(name for name, _ in first.cells if name.lower() != PATH)


def _row(record: Record, table: str, *, by_path: bool) -> MetadataRow:
    path: str | None = None
    values: dict[str, tuple[str, ...]] = {}
    for name, text in record.cells:
        if by_path and name.lower() == PATH:
            if path is not None:
                raise TableError(f"{table}: row {record.row}, column {name!r}: it stands twice")
            path = text
        else:
            values[name] = (*values.get(name, ()), text)
    if by_path and path is None:
        raise TableError(f"{table}: row {record.row}, column 'path': it is empty")
    return MetadataRow(record.row, path, values)


def _manifest_rows(lines: Iterable[str], table: str) -> Iterator[MetadataRow]:
    for row in read_manifest(lines, table=table):
        last = row.source.rstrip("/").rpartition("/")[2]
        path = row.destination or last
        if path.endswith("/"):
            path += last
        yield MetadataRow(row.row, path, row.extra, is_literal=True)


class Sheet:
    """A table's rows by path, laid over each other, held against a schema.

    Rows are found by the literal beginning of their globs, so that a table of very many names
    with brackets in them is no slower than one without.
    """

    def __init__(self, rows: Iterable[MetadataRow], schema: Schema) -> None:
        self.schema = schema
        self._rows: list[MetadataRow] = []
        self._literal: dict[str, list[int]] = {}
        self._globs: dict[str, list[tuple[re.Pattern[str], int]]] = {}
        self._deep: dict[str, list[tuple[re.Pattern[str], int]]] = {}
        self._matched: set[int] = set()
        self._fields: dict[str, Hashable] = {}
        for index, row in enumerate(rows):
            self._rows.append(row)
            self._add(index, row)
        if isinstance(schema, MeetsRows):
            schema.meet(row.values for row in self._rows)

    def _add(self, index: int, row: MetadataRow) -> None:
        path = (row.path or "").removeprefix("./")
        self._literal.setdefault(path, []).append(index)
        special = _SPECIAL.search(path)
        if row.is_literal or special is None:
            return
        try:
            pattern = compile_pattern(path)
        except UsageError as error:
            raise TableError(f"row {row.row}, column 'path': {error}") from error
        # Without a slash a pattern is about the last name at any depth, as in `--include`.
        found = self._globs if "/" in path else self._deep
        beginning = path[: special.start()].removeprefix("/")
        found.setdefault(beginning, []).append((pattern, index))

    def rows_of(self, path: str) -> list[MetadataRow]:
        """The rows that are about a path, in order. They count as matched from now on."""
        found = set(self._literal.get(path, ()))
        for globs, text in ((self._globs, path), (self._deep, path.rpartition("/")[2])):
            if globs:
                for end in range(len(text) + 1):
                    for pattern, index in globs.get(text[:end], ()):
                        if pattern.fullmatch(path):
                            found.add(index)
        self._matched |= found
        return [self._rows[index] for index in sorted(found)]

    def of(self, path: str) -> tuple[str | None, list[Fault]]:
        """What is sent for the file at `path` (None: the table says nothing), or what is wrong.

        A later row wins cell by cell; a fault is that of the row its cell is from.
        """
        rows = self.rows_of(path)
        if not any(row.values for row in rows):
            if not self.schema.demands_rows:
                return None, []
            # What is fixed or has a default may be all that is asked for.
            text, troubles = self.schema.compile({})
            if not troubles:
                return text, []
            where = rows[-1].row if rows else 0
            return None, [Fault(where, PATH, f"{path!r} has no metadata, and needs some")]
        values: dict[str, tuple[str, ...]] = {}
        origin: dict[str, int] = {}
        said: dict[Hashable, list[str]] = {}
        for row in rows:
            for column, texts in row.values.items():
                others = said.setdefault(self._field_of(column), [])
                for other in [each for each in others if origin[each] != row.row]:
                    # The same field by another of its names, in an earlier row.
                    others.remove(other)
                    del values[other]
                if column not in others:
                    others.append(column)
                values[column], origin[column] = texts, row.row
        text, troubles = self.schema.compile(values)
        return text, [
            Fault(origin.get(trouble.column or "", rows[-1].row), trouble.column, trouble.reason)
            for trouble in troubles
        ]

    def _field_of(self, column: str) -> Hashable:
        if not isinstance(self.schema, KnowsFields):
            return column
        if column not in self._fields:
            self._fields[column] = self.schema.field_of(column)
        return self._fields[column]

    def check_rows(self) -> list[Fault]:
        """What is wrong with rows by themselves; an unknown column is told once."""
        faults: list[Fault] = []
        known: dict[str, bool] = {}
        for row in self._rows:
            values: dict[str, tuple[str, ...]] = {}
            for column, texts in row.values.items():
                if column not in known:
                    why = self.schema.unknown(column)
                    known[column] = why is None
                    if why is not None:
                        faults.append(Fault(row.row, column, why))
                if known[column]:
                    values[column] = texts
            faults += [Fault(row.row, t.column, t.reason) for t in self.schema.check_row(values)]
        return faults

    def unmatched(self) -> list[MetadataRow]:
        """The rows that matched no file that was asked about."""
        return [row for index, row in enumerate(self._rows) if index not in self._matched]
