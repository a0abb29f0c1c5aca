"""What `copy` and `plan` share about submissions: the rows read, checked, and waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from penstock.core.errors import UsageError
from penstock.core.events import Event, Note
from penstock.core.metadata import FaultyTable
from penstock.core.traits import Attaches
from penstock.core.transfers import UpTransfer
from penstock.engine.files import hop
from penstock.engine.planner import Deliver, Planned, Unmoved
from penstock.engine.submitting import Asked, Submission, check_files, read_rows
from penstock.jobs import Job
from penstock.platforms.base import Platform
from penstock.platforms.submitting import TakesSubmissions
from penstock.session import Session

# Rows that match no file are counted; so many are named.
_NAMED = 5


def read_asked(submit: str | None, job: Job, platform: Platform, *, is_partial: bool) -> Asked:
    """What the options say. Raises `UsageError` where they make no sense together."""
    if submit is None and not is_partial:
        return Asked(None)
    if submit is None:
        raise UsageError("submit_complete says how to submit: give a label with submit as well")
    if not job.uploads or not isinstance(platform, TakesSubmissions):
        raise UsageError("only what is sent to DataMeta can be submitted")
    if job.table is None:
        raise UsageError("a submission needs its metadata: give a table with metadata as well")
    if not submit.strip():
        raise UsageError("a submission's label is not empty")
    return Asked(submit, is_partial)


def submits(session: Session, job: Job) -> bool:
    """Whether the job's table is records, to be made when its transfers have ended."""
    traits = session.exchange.platform.traits
    return job.uploads and job.table is not None and traits.attaches is Attaches.SUBMITTED


async def submission_of(
    job: Job,
    session: Session,
    plan_all: Callable[[], Awaitable[None]],
    use: Callable[[Deliver], None],
    asked: Asked,
    emit: Callable[[Event], None],
    *,
    strict: bool,
) -> Submission:
    """The job's records, checked against the platform's schema and the files that are planned.

    `use` says where `plan_all` delivers to. Raises `FaultyTable` with all that is wrong; nothing
    was moved. Rows that match no file are counted and named, and are wrong where it is `strict`.
    """
    platform = session.exchange.platform
    assert isinstance(platform, TakesSubmissions)
    assert job.table is not None
    table = str(job.table.path)
    schema = await session.exchange.run(platform.record_schema())
    rows, faults = read_rows(await hop(job.table.rows, by_path=False), schema)
    files: list[tuple[str, str]] = []

    async def note(batch: Sequence[Planned]) -> None:
        for planned in batch:
            if isinstance(planned, UpTransfer):
                files.append((planned.local_path, planned.name))
            elif isinstance(planned, Unmoved) and planned.reason not in {"excluded", "too new"}:
                files.append((planned.source, planned.source.rpartition("/")[2]))

    use(note)
    await plan_all()
    found, unmatched = check_files(rows, files, submitting=asked.label is not None)
    faults += found
    if faults or (strict and unmatched):
        faults += unmatched
        # What is wrong with no row in particular stands last.
        raise FaultyTable(table, sorted(faults, key=lambda fault: (fault.row == 0, fault.row)))
    if unmatched:
        number = len({fault.row for fault in unmatched})
        told = "; ".join(map(str, unmatched[:_NAMED]))
        more = f" and {len(unmatched) - _NAMED} more" if len(unmatched) > _NAMED else ""
        lacking = "1 row matches" if number == 1 else f"{number} rows match"
        emit(Note(f"{table}: {lacking} no file: {told}{more}"))
    return Submission(session.exchange, schema, rows, files, asked, emit)
