"""What `copy`, `plan` and `metadata` share about metadata tables: schema and sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from penstock.core.errors import UsageError
from penstock.core.events import Event, Note
from penstock.core.metadata import Fault, FaultyTable, Schema, Sheet
from penstock.core.model import Place
from penstock.core.traits import Attaches
from penstock.engine.files import hop
from penstock.engine.kept import KeptAnswers
from penstock.jobs import Job, Table
from penstock.platforms.describing import SchemaFound, keeper_of
from penstock.session import Session

# Rows that match no file are counted; so many are named.
_NAMED = 5


async def schema_of(
    session: Session, place: Place, kept: Path, emit: Callable[[Event], None]
) -> SchemaFound:
    """What a place takes as metadata; a warning of it is told once.

    Raises `UsageError` where its platform keeps no metadata with files.
    """
    platform = session.exchange.platform
    keeper = keeper_of(platform)
    if keeper is None or platform.traits.attaches is Attaches.NEVER:
        raise UsageError(f"{session.profile.name} keeps no metadata with files")
    answers = KeptAnswers(kept, session.clock)
    found = await answers.run(session.exchange, keeper.schema(place))
    if found.warning is not None:
        emit(Note(found.warning))
    return found


async def sheet_of(
    job: Job, session: Session, place: Place, kept: Path, emit: Callable[[Event], None]
) -> Sheet | None:
    """The job's metadata table held against the schema of the place it goes to.

    None where there is no table and none is demanded. Raises `UsageError` where one is demanded,
    or the platform takes none; `TableError` where it cannot be read.
    """
    attaches = session.exchange.platform.traits.attaches
    if attaches is Attaches.SUBMITTED or (job.table is None and attaches is Attaches.NEVER):
        return None
    keeper = keeper_of(session.exchange.platform)
    if job.table is None:
        asked = keeper is not None and await session.exchange.run(keeper.demands_metadata(place))
        if not asked:
            return None
    schema = (await schema_of(session, place, kept, emit)).schema
    if job.table is None:
        if not schema.demands_rows:
            return None
        if schema.compile({})[1]:
            raise UsageError(
                f"{job.destination} takes no file without metadata: give a table with --metadata "
                f"(penstock metadata {job.destination} --template shows its columns)"
            )
        return Sheet((), schema)
    return await hop(_sheet, job.table, schema)


def _sheet(table: Table, schema: Schema) -> Sheet:
    """The sheet, with the text of files that cells name in their place. Blocks."""
    if not schema.inlined:
        return Sheet(table.rows(), schema)
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    rows = []
    for row in table.rows():
        values = dict(row.values)
        for column in schema.inlined & values.keys():
            for name in values[column]:
                try:
                    if name not in texts:
                        texts[name] = (table.path.parent / name).read_text(encoding="utf-8")
                except (OSError, UnicodeError) as error:
                    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                    faults.append(Fault(row.row, column, f"{name!r} cannot be read: {why}"))
            values[column] = tuple(texts.get(name, "") for name in values[column])
        rows.append(replace(row, values=values))
    if faults:
        raise FaultyTable(str(table.path), faults)
    return Sheet(rows, schema)


def tell_unmatched(
    sheet: Sheet, table: str, emit: Callable[[Event], None], *, strict: bool
) -> None:
    """Rows that match no file are counted and named; with `strict` raises `FaultyTable`."""
    left = sheet.unmatched()
    if not left:
        return
    if strict:
        raise FaultyTable(
            table, [Fault(row.row, "path", f"{row.path!r} matches no file") for row in left]
        )
    named = ", ".join(f"row {row.row} {row.path!r}" for row in left[:_NAMED])
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    rows = "1 row matches" if len(left) == 1 else f"{len(left)} rows match"
    emit(Note(f"{table}: {rows} no file: {named}{more}"))
