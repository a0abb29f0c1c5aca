"""What every function of the library opens first: settings, folders, a session, a planner."""

from __future__ import annotations

import os
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from pathlib import Path

from penstock.api.tables import sheet_of, tell_unmatched
from penstock.config import Settings, load, state_dir
from penstock.core.errors import (
    UsageError,
)
from penstock.core.events import Event, Note
from penstock.core.locations import Local, Remote, Url
from penstock.core.transfers import Choices
from penstock.engine.clock import Clock
from penstock.engine.files import hop
from penstock.engine.folders import Folders as RemoteFolders
from penstock.engine.ledger import Ledger
from penstock.engine.planner import Deliver, Planned, Selecting
from penstock.engine.survey import Surveyor
from penstock.jobs import (
    Job,
)
from penstock.quotas import Quotas
from penstock.session import Folders, Session, ledger_in, open_session


def folders_of(state: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Folders:
    """Where the run remembers: `--state`, or the user's state folder; the quota always there."""
    own = state_dir(environ)
    return Folders(Path(state) if state is not None else own, own)


def settings_of(config: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Settings:
    """Everything configured. Raises `ProfileError`."""
    return load(environ, config_file=Path(config) if config is not None else None)


@asynccontextmanager
async def prepared(
    job: Job,
    settings: Settings,
    folders: Folders,
    *,
    emit: Callable[[Event], None],
    clock: Clock,
    concurrency: int | None,
    bwlimit: int | None = None,
    retries: int | None,
    quotas: Quotas,
    rebuild_ledger: bool = False,
) -> AsyncIterator[tuple[Session, Ledger, Surveyor]]:
    """A session for the job's profile, its ledger, and a surveyor; all closed at the end."""
    async with (
        ledger_in(folders, clock, rebuild=rebuild_ledger) as ledger,
        open_session(
            settings.profile(job.profile),
            settings,
            folders=folders,
            emit=emit,
            clock=clock,
            concurrency=concurrency,
            bwlimit=bwlimit,
            retries=retries,
            quotas=quotas,
        ) as session,
    ):
        if ledger.mended is not None:
            emit(Note(ledger.mended))
        yield session, ledger, Surveyor(session.exchange, ledger, emit)


async def planner_of(
    job: Job,
    settings: Settings,
    session: Session,
    surveyor: Surveyor,
    selecting: Selecting,
    choices: Choices,
    deliver: Deliver,
    *,
    folders: Folders,
    emit: Callable[[Event], None],
) -> tuple[Callable[[], Awaitable[None]], RemoteFolders | None]:
    """What plans the job when called, and the remote folders it sends to."""
    common = (job.profile, session.exchange, surveyor, selecting, session.clock, deliver)
    if isinstance(job.destination, Remote):
        sources = [source for source in job.sources if isinstance(source, Local)]
        for source in sources:
            if not await hop(os.path.lexists, source.path):
                raise UsageError(f"{source.path} does not exist")
        from penstock.engine.planner_up import UploadPlanner  # noqa: PLC0415 - one way

        up = UploadPlanner(*common, on_conflict=choices.on_conflict)
        rows = job.rows
        remote_folders = await up.resolve(job.destination, sources, rows=rows is not None)

        async def plan_all() -> None:
            if rows is not None:
                await up.plan_rows(rows, job.rows_root)
            else:
                await up.plan_sources(sources)

        up.sheet = await sheet_of(job, session, up.container, folders.kept, emit)
        table = str(job.table.path) if job.table is not None else "the metadata"
        await up.check(plan_all, table)
        if up.sheet is not None and job.table is not None:
            tell_unmatched(up.sheet, table, emit, strict=choices.strict)
        return plan_all, remote_folders
    from penstock.engine.planner_down import DownloadPlanner  # noqa: PLC0415 - the other way

    down = DownloadPlanner(*common, profiles=settings.profiles)
    remote = [source for source in job.sources if not isinstance(source, Local)]
    local = job.destination
    needs_folder = local.folder_like or len(remote) > 1 or job.rows is not None
    if needs_folder and await hop(Path(local.path).is_file):
        raise UsageError(f"{local} is a file; a folder is needed there")
    if job.rows is not None:
        rows, root = job.rows, remote[0] if remote else None
        if isinstance(root, Url):
            raise UsageError("with a manifest of URLs, give no URL as a SOURCE: its rows are whole")
        return (lambda: down.plan_rows(rows, root, local)), None
    return (lambda: down.plan_sources(remote, local)), None


class Deliveries:
    """Hands a planner's batches on to whoever came to take them."""

    def __init__(self) -> None:
        self._deliver: Deliver | None = None

    def use(self, deliver: Deliver) -> None:
        """Batches go to `deliver` from now on."""
        self._deliver = deliver

    async def __call__(self, batch: Sequence[Planned]) -> None:
        """A batch is handed on."""
        assert self._deliver is not None
        await self._deliver(batch)
