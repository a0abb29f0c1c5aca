r"""Tables: manifests (what to move, row by row), and rows without a meaning (`read_records`).

The form is told from the first line: `{` begins JSON lines (a report is one), `HASH  NAME` or
`MD5 (NAME) = HASH` a checksum file, all else is the header of a CSV, whose separator is the one
that makes the most of it. Then rows are read one at a time: a manifest of a million rows is never
held, so nothing that needs two rows at once (duplicates, order) belongs here.

The invariant: **every value is the text that stands there**. Leading zeros, dates and `1E5` are
never converted, JSON's numbers included. Every fault is a `TableError` that names the table, the
row (the header is row 1 of a CSV, as in a spreadsheet) and the column.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace

from penstock.core.errors import TableError
from penstock.core.values import quick_value

# Hex digits in a digest, by the name a column or report has for it.
# Source: RFC 1321, FIPS 180-4, FIPS 202, RFC 7693, the BLAKE3 specification (default length).
DIGEST_LENGTHS: Mapping[str, int] = {
    "md5": 32,
    "sha1": 40,
    "sha224": 56,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "sha3_256": 64,
    "sha3_512": 128,
    "blake2b": 128,
    "blake2s": 64,
    "blake3": 64,
}
_DIGEST_BY_LENGTH = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
_ALIASES = {
    name.replace("sha", "sha-"): name for name in ("sha1", "sha224", "sha256", "sha384", "sha512")
}

# Source columns, the first that is there is meant.
# Source: Seven Bridges knowledge centre, "Manifest file format": the first column is `File name`.
_SOURCES = ("source", "file name", "filename")
# What a report line holds besides what a manifest reads; none of it is metadata.
_REPORT_MARKS = {"run", "source", "destination", "status"}
_STATUSES = ("verified", "unverified", "skipped", "failed")

# A line beyond this is no table (a binary file, a quote that never closes).
LONGEST_LINE = 4 << 20
_LARGEST_SIZE = re.compile(r"[0-9]{1,19}")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_GNU = re.compile(r"(\\?)([0-9A-Fa-f]{32,128})(?: [ *]|[ \t]+)(.+)", re.DOTALL)
_BSD = re.compile(r"(\\?)([A-Za-z0-9/-]{2,12}) ?\((.+)\) ?= ?([0-9A-Fa-f]+)", re.DOTALL)
# They decode to text and are none a table is written in; some warn instead of failing.
_NOT_TEXT = re.compile(r"idna|punycode|(raw.)?unicode.escape|undefined|utf.?7", re.IGNORECASE)


@quick_value(frozen=True, slots=True)
class ManifestRow:
    """One file to move. Everything but `size` is the text of the table.

    `row` counts from 1, a CSV's header included. `digests` maps names to lower-case hex.
    `status` is that of a report line, else None. `extra` holds the other columns that are not
    empty, by name, each with its values in order (several where the column is named twice).
    """

    row: int
    source: str
    destination: str | None = None
    size: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    status: str | None = None
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@quick_value(frozen=True, slots=True)
class _Place:
    """Where a fault is: what its message begins with."""

    table: str
    row: int

    def fault(self, reason: str, column: str | None = None) -> TableError:
        place = f"row {self.row}" if column is None else f"row {self.row}, column {column!r}"
        return TableError(f"{self.table}: {place}: {reason}")


def decode_lines(
    chunks: Iterable[bytes], *, encoding: str | None = None, table: str = "the table"
) -> Iterator[str]:
    """The lines of a table, each with its line end, from its bytes in pieces of any size.

    UTF-8, with or without a byte order mark, unless `encoding` says otherwise. Raises `TableError`
    for bytes that are not in it, for an encoding nobody knows, and for a line beyond 4 MiB.
    """
    decoder = _decoder(encoding, table)
    pending, row, first = "", 1, True
    for chunk, final in itertools.chain(((c, False) for c in chunks), ((b"", True),)):
        if first and encoding is None and chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise TableError(f"{table} is UTF-16, not UTF-8: give --encoding utf-16")
        try:
            text = decoder.decode(chunk, final)
        except UnicodeError as error:
            if encoding is None:
                why = "is not UTF-8: give its encoding, as in --encoding cp1252"
            else:
                why = f"is not {encoding}"
            at = row + _newlines_before(error, chunk)
            raise TableError(f"{table}: near row {at}: {why}") from None
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        lines = (pending + text).split("\n")
        pending = lines.pop()
        for line in lines:
            yield f"{line}\n"
            row += 1
        if len(pending) > LONGEST_LINE:
            raise TableError(f"{table}: row {row}: a line this long is not that of a table")
    if pending:
        yield pending


def read_manifest(lines: Iterable[str], *, table: str = "the manifest") -> Iterator[ManifestRow]:
    """The rows of a manifest, in order, each as soon as it is read.

    `lines` are text lines with or without line ends, `table` what messages call it. A table
    without rows yields none; one without a `source` column, or any other fault, raises
    `TableError` when the iteration comes to it.
    """
    ahead: list[str] = []
    rest = iter(lines)
    for line in rest:
        ahead.append(line)
        # `#` begins a comment in a checksum file. Source: GNU coreutils, digest.c, digest_check.
        if len(ahead) > 100 or (line.strip() and not line.startswith("#")):  # noqa: PLR2004
            break
    told = ahead[-1].removeprefix("\ufeff") if ahead else ""
    whole = itertools.chain(ahead, rest)
    if told.lstrip().startswith("{"):
        yield from _json_rows(whole, table)
    elif _checksum(told.rstrip("\r\n")):
        yield from _checksum_rows(whole, table)
    else:
        yield from _csv_rows(whole, table)


def only(
    rows: Iterable[ManifestRow], status: str, *, table: str = "the manifest"
) -> Iterator[ManifestRow]:
    """The rows of a report that ended with `status`; a row without one raises `TableError`."""
    if status not in _STATUSES:
        raise TableError(f"{status!r} is no status of a report: {', '.join(_STATUSES)}")
    for row in rows:
        if row.status is None:
            raise _Place(table, row.row).fault("it is not a line of a report, and has no status")
        if row.status == status:
            yield row


def _decoder(encoding: str | None, table: str) -> codecs.IncrementalDecoder:
    name = encoding or "utf-8"
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}", name) and not _NOT_TEXT.fullmatch(name):
        try:
            # Codecs that are not of text (hex, rot13) refuse this, whatever the bytes.
            b"\n\n\n\n".decode(name, "replace")
            return codecs.getincrementaldecoder(name)("strict")
        except (LookupError, ValueError):
            pass
    raise TableError(f"{table}: {name!r} is not an encoding penstock knows; cp1252 is one")


def _newlines_before(error: UnicodeError, chunk: bytes) -> int:
    if isinstance(error, UnicodeDecodeError):
        return chunk[: error.start].count(b"\n")
    return 0


@quick_value(frozen=True, slots=True)
class Record:
    """A row as it stands: its number, and the columns that are not empty, in order, with repeats.

    A CSV's header is the first record, each of its columns with the empty text.
    """

    row: int
    cells: tuple[tuple[str, str], ...]
    is_header: bool = False


def read_records(
    lines: Iterable[str], *, table: str, marks: Collection[str] = ()
) -> Iterator[Record]:
    """The rows of a CSV or of JSON lines without any meaning given to their columns.

    `marks` are column names, in lower case, that tell a CSV's separator. Raises `TableError`.
    """
    ahead: list[str] = []
    rest = iter(lines)
    for line in rest:
        ahead.append(line)
        if line.strip():
            break
    whole = itertools.chain(ahead, rest)
    if ahead and ahead[-1].removeprefix("\ufeff").lstrip().startswith("{"):
        yield from _json_records(whole, table)
        return
    rows = _csv_cells(whole, table, frozenset(marks))
    for place, header in rows:
        names = tuple(name.strip() for name in header)
        yield Record(place.row, tuple((name, "") for name in names if name), is_header=True)
        for at, cells in rows:
            _check_width(cells, names, at)
            if any(cell and not name for name, cell in zip(names, cells, strict=False)):
                raise at.fault("a cell stands in a column without a name")
            pairs = tuple((n, cell) for n, cell in zip(names, cells, strict=False) if cell)
            yield Record(at.row, pairs)


def _json_records(lines: Iterable[str], table: str) -> Iterator[Record]:
    for row, line in enumerate(lines, start=1):
        place = _Place(table, row)
        text = line.removeprefix("\ufeff") if row == 1 else line
        if not text.strip():
            continue
        cells: list[tuple[str, str]] = []
        for name, value in _json_pairs(text, place):
            values = value if isinstance(value, list) else [value]
            texts = (_scalar(v, place, name) for v in values)
            cells += [(name, each) for each in texts if each]
        yield Record(row, tuple(cells))


def _check_width(cells: Sequence[str], names: Sequence[str], place: _Place) -> None:
    if any(cells[len(names) :]):
        raise place.fault(
            f"it has {len(cells)} cells, the header {len(names)}; quote a cell that holds"
            " the separator"
        )


def _csv_rows(lines: Iterable[str], table: str) -> Iterator[ManifestRow]:
    rows = _csv_cells(lines, table, frozenset(_SOURCES))
    for place, names in rows:
        header = _Header.read(names, place)
        yield from (header.row(cells, at) for at, cells in rows)


def _csv_cells(
    lines: Iterable[str], table: str, marks: frozenset[str]
) -> Iterator[tuple[_Place, Sequence[str]]]:
    """The header of a CSV, then its rows that are not empty, each with its place."""
    bare = (
        line.removeprefix("\ufeff") if number == 0 else line for number, line in enumerate(lines)
    )
    # A header is on one line: one with a line end in a name would hide the separator.
    skipped = 0
    header_line = ""
    for header_line in bare:
        if header_line.strip():
            break
        skipped += 1
    row = skipped + 1
    if not header_line.strip():
        return
    separator = _separator(header_line, marks)
    names = _header_names(header_line, separator)
    if names is None:
        raise _Place(table, row).fault("it cannot be read as the header of a CSV")
    yield _Place(table, row), names
    reader = csv.reader(bare, delimiter=separator, strict=True)
    while True:
        row += 1
        place = _Place(table, row)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise place.fault(f"it cannot be read as CSV ({error})") from None
        if any(cells):
            yield place, cells


def _separator(header: str, marks: frozenset[str]) -> str:
    """The separator that finds a column of `marks`, or else the most columns."""

    def merit(separator: str) -> tuple[bool, int]:
        names = _header_names(header, separator) or []
        return any(name.strip().lower() in marks for name in names), len(names)

    return max((",", ";", "\t"), key=merit)


def _header_names(header: str, separator: str) -> list[str] | None:
    try:
        return next(csv.reader([header], delimiter=separator), None)
    except csv.Error:
        return None


@quick_value(frozen=True, slots=True)
class _Header:
    """A CSV's columns by what they mean; the rest is metadata."""

    names: tuple[str, ...]
    roles: tuple[str | None, ...]

    @classmethod
    def read(cls, names: Sequence[str], place: _Place) -> _Header:
        """Raises `TableError` where the source is missing, or a column with a meaning is double."""
        roles = _roles(names, place)
        if "source" not in roles:
            raise place.fault(
                f"a manifest needs a column 'source' (or 'File name'); these are"
                f" {', '.join(repr(name) for name in names[:8])}"
            )
        return cls(tuple(name.strip() for name in names), roles)

    def row(self, cells: Sequence[str], place: _Place) -> ManifestRow:
        """Cells beyond the header must be empty; missing ones say nothing, as empty ones."""
        _check_width(cells, self.names, place)
        known: dict[str, tuple[str, str]] = {}
        extra: dict[str, tuple[str, ...]] = {}
        for name, role, cell in zip(self.names, self.roles, cells, strict=False):
            if not cell:
                continue
            if role is not None:
                known[role] = (name, cell)
            elif name:
                extra[name] = (*extra.get(name, ()), cell)
            else:
                raise place.fault("a cell stands in a column without a name")
        return _row(known, extra, place, source_column=self.names[self.roles.index("source")])


def _roles(names: Sequence[str], place: _Place) -> tuple[str | None, ...]:
    """What each column means: source, destination, size, a digest's name, or None (metadata)."""
    folded = [name.strip().lower() for name in names]
    source = next((name for name in _SOURCES if name in folded), None)
    roles: list[str | None] = []
    for name, fold in zip(names, folded, strict=True):
        role: str | None = None
        if fold == source:
            role = "source"
        elif fold in ("destination", "size"):
            role = fold
        elif (digest := _ALIASES.get(fold, fold)) in DIGEST_LENGTHS:
            role = digest
        if role is not None and role in roles:
            raise place.fault("the column stands twice", name.strip())
        roles.append(role)
    return tuple(roles)


def _row(
    known: Mapping[str, tuple[str, str]],
    extra: Mapping[str, tuple[str, ...]],
    place: _Place,
    *,
    source_column: str,
) -> ManifestRow:
    """A row from `known`, which maps each role to its column's name and text."""
    _, source = known.get("source", (source_column, ""))
    if not source:
        raise place.fault("it is empty", source_column)
    for role in ("source", "destination"):
        column, text = known.get(role, (role, ""))
        if "\0" in text:
            raise place.fault("it holds a NUL character", column)
    size = None
    if "size" in known:
        column, text = known["size"]
        if not _LARGEST_SIZE.fullmatch(text.strip()):
            raise place.fault(f"{_shown(text)} is not a whole number of bytes", column)
        size = int(text)
    digests = {
        role: _digest(role, text, place, column)
        for role, (column, text) in known.items()
        if role in DIGEST_LENGTHS
    }
    destination = known["destination"][1] if "destination" in known else None
    return ManifestRow(place.row, source, destination, size, digests, None, extra)


def _digest(name: str, text: str, place: _Place, column: str) -> str:
    digest = text.strip()
    length = DIGEST_LENGTHS.get(name)
    if not _HEX.fullmatch(digest) or (length is not None and len(digest) != length):
        digits = "" if length is None else f"{length} "
        raise place.fault(f"{_shown(text)} is no {name}: it has {digits}hex digits", column)
    return digest.lower()


def _json_rows(lines: Iterable[str], table: str) -> Iterator[ManifestRow]:
    for row, line in enumerate(lines, start=1):
        place = _Place(table, row)
        text = line.removeprefix("\ufeff") if row == 1 else line
        if text.strip():
            yield _json_row(_json_pairs(text, place), place)


def _json_row(pairs: Sequence[tuple[str, object]], place: _Place) -> ManifestRow:
    """A JSON object as a row. A report line's other fields are no metadata."""
    names = [name for name, _ in pairs]
    is_report = set(names) >= _REPORT_MARKS
    known: dict[str, tuple[str, str]] = {}
    extra: dict[str, tuple[str, ...]] = {}
    digests: dict[str, str] = {}
    status: str | None = None
    for (name, value), role in zip(pairs, _roles(names, place), strict=True):
        if role is not None:
            text = _scalar(value, place, name)
            if text:
                known[role] = (name, text)
        elif name == "digests" and isinstance(value, _Object):
            digests |= {
                key: _digest(
                    key, _scalar(digest, place, f"digests.{key}") or "", place, f"digests.{key}"
                )
                for key, digest in value.pairs
            }
        elif is_report:
            if name == "status":
                status = _scalar(value, place, name)
        else:
            values = value if isinstance(value, list) else [value]
            texts = tuple(text for v in values if (text := _scalar(v, place, name)))
            if texts:
                extra[name] = (*extra.get(name, ()), *texts)
    if is_report and status not in _STATUSES:
        raise place.fault(f"{_shown(status or '')} is no status of a report", "status")
    row = _row(known, extra, place, source_column="source")
    return replace(row, status=status, digests={**row.digests, **digests})


@quick_value(frozen=True, slots=True)
class _Object:
    """A JSON object as it stands: with its order, and keys that stand twice."""

    pairs: list[tuple[str, object]]


@quick_value(frozen=True, slots=True)
class _Literal:
    """A number, as its text."""

    text: str


def _json_pairs(text: str, place: _Place) -> Sequence[tuple[str, object]]:
    try:
        value = json.loads(
            text,
            object_pairs_hook=_Object,
            parse_int=_Literal,
            parse_float=_Literal,
            parse_constant=_Literal,
        )
    except json.JSONDecodeError as error:
        raise place.fault(f"it is not JSON ({error.msg} at character {error.pos + 1})") from None
    except RecursionError:
        raise place.fault("it is nested too deeply") from None
    if not isinstance(value, _Object):
        raise place.fault("it is not a JSON object; each line of JSON lines is one")
    return value.pairs


def _scalar(value: object, place: _Place, column: str) -> str | None:
    """A JSON value's text; None for null, which says nothing. Raises for lists and objects."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _Literal():
            return value.text
        case _:
            raise place.fault("one value is needed here, not a list or an object", column)


def _checksum(line: str) -> tuple[str, str, str] | None:
    """(digest name, hex, file name) of a line of md5sum, sha256sum or their BSD form, else None."""
    if bsd := _BSD.fullmatch(line):
        escaped, label, name, digest = bsd.groups()
        algorithm = _bsd_algorithm(label)
    elif gnu := _GNU.fullmatch(line):
        escaped, digest, name = gnu.groups()
        algorithm = _DIGEST_BY_LENGTH.get(len(digest), "")
    else:
        return None
    if DIGEST_LENGTHS.get(algorithm) != len(digest):
        return None
    return algorithm, digest.lower(), _unescaped(name) if escaped else name


def _bsd_algorithm(label: str) -> str:
    folded = label.lower().replace("/", "-")
    folded = re.sub(r"\Asha2-(?=[0-9])|\Asha-(?=[0-9])", "sha", folded)
    return folded.replace("sha3-", "sha3_")


def _unescaped(name: str) -> str:
    # Source: GNU coreutils manual, "md5sum invocation": a line that begins with a backslash has
    # backslash, newline and carriage return in its name escaped.
    meant = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
    return re.sub(r"\\[\\nr]", lambda m: meant[m[0]], name)


def _checksum_rows(lines: Iterable[str], table: str) -> Iterator[ManifestRow]:
    for row, line in enumerate(lines, start=1):
        place = _Place(table, row)
        text = (line.removeprefix("\ufeff") if row == 1 else line).rstrip("\r\n")
        if not text.strip() or text.startswith("#"):
            continue
        found = _checksum(text)
        if found is None:
            raise place.fault("it is no line of a checksum file: 'HASH  NAME'")
        algorithm, digest, name = found
        if "\0" in name:
            raise place.fault("the name holds a NUL character")
        yield ManifestRow(row, name, digests={algorithm: digest})


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")  # noqa: PLR2004 - a sentence's room
