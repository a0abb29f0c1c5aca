"""What `copy`, `plan` and `metadata` share about metadata tables: schema and sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from penstock.core.errors import UsageError
from penstock.core.events import Event, Note
from penstock.core.metadata import Fault, FaultyTable, Sheet
from penstock.core.model import Place
from penstock.core.traits import Attaches
from penstock.engine.files import hop
from penstock.engine.kept import KeptAnswers
from penstock.jobs import Job
from penstock.platforms.describing import KeepsMetadata, SchemaFound
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
    if not isinstance(platform, KeepsMetadata) or platform.traits.attaches is Attaches.NEVER:
        raise UsageError(f"{session.profile.name} keeps no metadata with files")
    answers = KeptAnswers(kept, session.clock)
    found = await answers.run(session.exchange, platform.schema(place))
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
    if job.table is None and attaches is not Attaches.BEFORE:
        return None
    if attaches is Attaches.SUBMITTED:
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
    return Sheet(await hop(job.table.rows), schema)


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
