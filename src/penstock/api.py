"""The library: `copy`, `plan`, `list_`, `check`, `quota`. Composes the engine, decides nothing.

Everything is a coroutine; there is no global state. Several runs may go on in one event loop, and
share a quota where endpoint and token are the same. Options are keyword-only and mean what the
command's options of the same names mean.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from penstock.config import Profile, Settings, load, state_dir
from penstock.core.errors import (
    Interrupted,
    PenstockError,
    ProfileError,
    Refused,
    RunStopped,
    UsageError,
)
from penstock.core.events import Event, RunEnded, RunStarted
from penstock.core.globs import Rule, select
from penstock.core.locations import Local, Remote
from penstock.core.model import Page, Place
from penstock.core.plan import check_part_size, estimate
from penstock.core.report import Line, Summary
from penstock.core.transfers import Choices
from penstock.core.units import parse_duration
from penstock.core.window import NS_PER_S
from penstock.costing import Costing, missing_folders
from penstock.engine.clock import Clock
from penstock.engine.context import Context
from penstock.engine.files import hop
from penstock.engine.folders import Folders as RemoteFolders
from penstock.engine.groups import task_group
from penstock.engine.ledger import Ledger
from penstock.engine.openuploads import OpenUploads
from penstock.engine.planner import (
    Deliver,
    DownloadPlanner,
    Planned,
    Selecting,
    UploadPlanner,
)
from penstock.engine.reports import ReportWriter, growing
from penstock.engine.scheduler import (
    FILES_AT_ONCE,
    Limits,
    Scheduler,
    Stop,
    TooManyFailures,
)
from penstock.engine.survey import Surveyor, no_such_place
from penstock.engine.upload import abandon
from penstock.jobs import (
    Job,
    check_partial_dir,
    path_of,
    read_choices,
    read_job,
    read_location,
    rules_of,
)
from penstock.quotas import Quotas, QuotaUse, open_store, quota_use, read_quotas, terms_of
from penstock.session import Folders, Session, ledger_in, open_session, platform_of, read_token

# Bytes a second a plan reckons with where no earlier run has measured any. A guess.
ASSUMED_RATE = 50_000_000
_RATE = "bytes a second"
_MEASURABLE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. `exit_code` is the command's; `path` holds a line for each transfer."""

    summary: Summary
    exit_code: int
    path: Path

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return self.exit_code == 0

    def lines(self) -> Iterator[Line]:
        """Every transfer's line, in the order they ended. Read from disk as it is asked for."""
        with self.path.open(encoding="utf-8", errors="surrogateescape") as file:
            for text in file:
                yield Line(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a copy would do. Sizes in bytes, times in seconds.

    `api_requests` are those the copy would send from now on, `spent` those this plan has. `binds`
    says whether quota or bandwidth decides the time.
    """

    profile: str
    files: int
    bytes: int
    skipped: int
    failed: int
    folders: int
    api_requests: int
    proving: int
    windows: int
    quota: int
    window_s: float
    seconds: float
    quota_s: float
    bandwidth_s: float
    rate: int
    rate_is_measured: bool
    binds: str
    spent: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing. `location` can be used as a location again."""

    kind: str
    location: str
    name: str
    id: str | None = None
    size: int | None = None
    modified: str | None = None


def _folders(state: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Folders:
    own = state_dir(environ)
    return Folders(Path(state) if state is not None else own, own)


def _settings(config: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Settings:
    return load(environ, config_file=Path(config) if config is not None else None)


@asynccontextmanager
async def _prepared(
    job: Job,
    settings: Settings,
    folders: Folders,
    *,
    emit: Callable[[Event], None],
    clock: Clock,
    concurrency: int | None,
    retries: int | None,
    quotas: Quotas,
) -> AsyncIterator[tuple[Session, Ledger, Surveyor]]:
    async with (
        ledger_in(folders, clock) as ledger,
        open_session(
            settings.profile(job.profile),
            settings,
            folders=folders,
            emit=emit,
            clock=clock,
            concurrency=concurrency,
            retries=retries,
            quotas=quotas,
        ) as session,
    ):
        yield session, ledger, Surveyor(session.exchange, ledger, emit)


async def _planner(
    job: Job,
    settings: Settings,
    session: Session,
    surveyor: Surveyor,
    selecting: Selecting,
    choices: Choices,
    deliver: Deliver,
) -> tuple[Callable[[], Awaitable[None]], RemoteFolders | None]:
    """What plans the job when called, and the remote folders it sends to."""
    common = (job.profile, session.exchange, surveyor, selecting, session.clock, deliver)
    if isinstance(job.destination, Remote):
        sources = [source for source in job.sources if isinstance(source, Local)]
        for source in sources:
            if not await hop(os.path.lexists, source.path):
                raise UsageError(f"{source.path} does not exist")
        up = UploadPlanner(*common, on_conflict=choices.on_conflict)
        rows = job.rows
        folders = await up.resolve(job.destination, sources, rows=rows is not None)

        async def plan_all() -> None:
            if rows is not None:
                await up.plan_rows(rows, job.rows_root)
            else:
                await up.plan_sources(sources)

        await up.check_room(plan_all)
        return plan_all, folders
    down = DownloadPlanner(*common, profiles=settings.profiles)
    remote = [source for source in job.sources if isinstance(source, Remote)]
    local = job.destination
    needs_folder = local.folder_like or len(remote) > 1 or job.rows is not None
    if needs_folder and await hop(Path(local.path).is_file):
        raise UsageError(f"{local} is a file; a folder is needed there")
    if job.rows is not None:
        rows, root = job.rows, remote[0] if remote else None
        return (lambda: down.plan_rows(rows, root, local)), None
    return (lambda: down.plan_sources(remote, local)), None


async def copy(
    *locations: str | os.PathLike[str],
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    encoding: str | None = None,
    only: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    rules: Sequence[Rule] | None = None,
    follow: bool = False,
    keep_names: bool = False,
    min_age: float | str = 0,
    checksum: Sequence[str] = (),
    compare: str = "digest",
    on_conflict: str = "fail",
    strict: bool = False,
    concurrency: int | None = None,
    part_size: int | str | None = None,
    retries: int | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    max_failures: int | None = None,
    deadline: float | str | None = None,
    times: bool = False,
    partial_dir: str | os.PathLike[str] | None = None,
    leave_out: Sequence[str | os.PathLike[str]] = (),
    on_event: Callable[[Event], None] | None = None,
    stop: Stop | None = None,
    environ: Mapping[str, str] | None = None,
) -> Report:
    """Moves files between a platform and local paths; the report of what became of each.

    `locations` are the sources, then the destination. Safe to run again: what is verified is not
    moved again, and what was under way carries on. `rules` is `include` and `exclude` in one
    order, the last match winning. `leave_out` are local files that are not meant though they lie in
    a source, such as a log that is being written. `on_event` is called with each event
    (`penstock.core.events`) as it happens, in the event loop: it must be quick.

    Raises `UsageError` where the arguments make no sense (nothing moved), and `RunStopped` where
    the run ended early for a cause all transfers share, `Interrupted` among them; its `report` is
    then what became of each transfer until there. A single file's failure raises nothing:
    `Report.ok` tells. Cancelled, it leaves no task and no open socket; the same call carries on.
    """
    environ = os.environ if environ is None else environ
    settings = _settings(config, environ)
    choices = read_choices(compare, on_conflict, strict, checksum, part_size, partial_dir, times)
    selecting = Selecting(
        select(rules_of(rules, include, exclude)),
        follow,
        keep_names,
        parse_duration(min_age),
        _own_files(_folders(state, environ), report, leave_out),
    )
    for option, value, least in (
        ("concurrency", concurrency, 1),
        ("retries", retries, 0),
        ("max_failures", max_failures, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{option} is at least {least}, not {value}")
    quotas = read_quotas(quota_share, quota_store, quota_fallback)
    job = await read_job(locations, settings, manifest, encoding, only)
    if isinstance(job.destination, Local):
        await hop(check_partial_dir, choices.partial_dir, job.destination)
    profile = quotas.of(settings.profile(job.profile))
    if choices.part_size is not None and job.uploads:
        check_part_size(choices.part_size, platform_of(profile).traits)
    emit = on_event or (lambda _: None)
    clock = Clock.running()
    run = _Run(
        job=job,
        id=_run_id(clock),
        choices=choices,
        selecting=selecting,
        stop=stop if stop is not None else Stop(),
        limits=Limits(max_failures, _files_at_once(concurrency, profile)),
        deadline_s=parse_duration(deadline) if deadline is not None else None,
        report=Path(report) if report is not None else None,
        folders=_folders(state, environ),
        emit=emit,
        clock=clock,
    )
    async with _prepared(
        job,
        settings,
        run.folders,
        emit=emit,
        clock=clock,
        concurrency=concurrency,
        retries=retries,
        quotas=quotas,
    ) as (session, ledger, surveyor):
        return await run.through(session, ledger, surveyor, settings)


def _own_files(
    folders: Folders,
    report: str | os.PathLike[str] | None,
    leave_out: Iterable[str | os.PathLike[str]],
) -> frozenset[str]:
    """Real paths of what runs write: no source, though a source may hold them."""
    own = [folders.state, folders.quota, *leave_out]
    if report is not None:
        own += [report, growing(Path(report))]
    return frozenset(os.path.realpath(path) for path in own)


def _files_at_once(concurrency: int | None, profile: Profile) -> int:
    """Files under way at once: more than bodies, for small ones mostly wait for answers.

    A quarter of the quota at most: what was begun should be ended by the window it began in.
    """
    quota = terms_of(profile, platform_of(profile).traits).top
    wide = FILES_AT_ONCE if concurrency is None else 2 * concurrency
    return max(4, min(FILES_AT_ONCE, wide, quota // 4))


@dataclass(frozen=True, slots=True)
class _Run:
    """One copy, from the first look at its destination to its report."""

    job: Job
    id: str
    choices: Choices
    selecting: Selecting
    stop: Stop
    limits: Limits
    deadline_s: float | None
    report: Path | None
    folders: Folders
    emit: Callable[[Event], None]
    clock: Clock

    async def through(
        self, session: Session, ledger: Ledger, surveyor: Surveyor, settings: Settings
    ) -> Report:
        """The run's report; what stopped it is raised, with the report in its `report`."""
        began_s, summary = self.clock.now_s(), Summary(self.id)
        shown = tuple(str(source) for source in self.job.sources)
        stopped: RunStopped | None = None
        with ReportWriter(self.folders.state / "reports", self.id, self.report) as writer:
            moving = self._move(session, ledger, surveyor, settings, summary, writer)
            try:
                self.emit(RunStarted(self.id, shown, str(self.job.destination)))
                await ledger.begin_run(self.id, shown, str(self.job.destination))
                await _until(self.deadline_s, self.stop, moving)
            except UsageError:
                writer.give_up()
                raise
            except RunStopped as error:
                stopped = error
            finally:
                moving.close()
                _account(summary, session, self.clock.now_s() - began_s)
                with anyio.CancelScope(shield=True):
                    await _remember_rate(ledger, session, summary)
                    await ledger.end_run(self.id, summary.json())
                self.emit(RunEnded(summary.json()))
        if stopped is None and self.stop.asked:
            stopped = Interrupted(
                f"stopped ({self.stop.reason}): what is proved is kept; run the same command to "
                "carry on"
            )
        report = Report(summary, _exit_code(summary, stopped), writer.path)
        if stopped is not None and not isinstance(stopped, TooManyFailures):
            stopped.report = report
            raise stopped
        return report

    async def _move(
        self,
        session: Session,
        ledger: Ledger,
        surveyor: Surveyor,
        settings: Settings,
        summary: Summary,
        writer: ReportWriter,
    ) -> None:
        """The destination looked at, and everything moved."""
        deliveries = _Deliveries()
        plan_all, remote_folders = await self._unless_stopped(
            _planner(
                self.job, settings, session, surveyor, self.selecting, self.choices, deliveries
            )
        )
        if plan_all is None:
            return
        context = Context(
            self.id,
            session.exchange,
            ledger,
            self.clock,
            self.choices,
            self.emit,
            OpenUploads(session.exchange, ledger),
            remote_folders,
        )

        async def planning(deliver: Deliver) -> None:
            deliveries.use(deliver)
            await plan_all()

        scheduler = Scheduler(context, summary, writer.write, self.stop, self.limits)
        await scheduler.run(planning)
        if not self.stop.asked and remote_folders is not None:
            await _abort_orphans(context, self.job)

    async def _unless_stopped(
        self, work: Coroutine[Any, Any, tuple[Callable[[], Awaitable[None]], RemoteFolders | None]]
    ) -> tuple[Callable[[], Awaitable[None]] | None, RemoteFolders | None]:
        """What the work returns; nothing where a stop was asked for meanwhile."""

        async def watch() -> None:
            await self.stop.wait()
            group.cancel_scope.cancel()

        result: tuple[Callable[[], Awaitable[None]] | None, RemoteFolders | None] = None, None
        async with task_group() as group:
            group.start_soon(watch)
            result = await work
            group.cancel_scope.cancel()
        return result


class _Deliveries:
    """Hands a planner's batches on to whoever came to take them."""

    def __init__(self) -> None:
        self._deliver: Deliver | None = None

    def use(self, deliver: Deliver) -> None:
        """Batches go to `deliver` from now on."""
        self._deliver = deliver

    async def __call__(self, batch: Sequence[Planned]) -> None:
        assert self._deliver is not None
        await self._deliver(batch)


async def _until(deadline_s: float | None, stop: Stop, work: Coroutine[Any, Any, None]) -> None:
    """The work done, or asked to stop when the deadline passed."""
    if deadline_s is None:
        await work
        return

    async def watch() -> None:
        await anyio.sleep(deadline_s)
        stop.ask("the deadline passed")

    async with task_group() as group:
        group.start_soon(watch)
        await work
        group.cancel_scope.cancel()


async def _abort_orphans(context: Context, job: Job) -> None:
    """Uploads of earlier runs of this job whose source is gone are aborted; none is left open."""
    place = context.exchange.platform.place(path_of(job.destination))
    for row in await context.ledger.left_open(context.exchange.platform.endpoint, place.container):
        if not await hop(os.path.lexists, row.identity.local_path):
            await abandon(context, row)


def _account(summary: Summary, session: Session, seconds: float) -> None:
    name, total = session.profile.name, session.exchange.total
    summary.api_requests = {name: total.api_requests}
    summary.rejected_by_quota = {name: total.refused_by_quota}
    summary.waited_for_quota_s = round(session.limiter.waited_s, 3)
    summary.seconds = round(seconds, 3)


async def _remember_rate(ledger: Ledger, session: Session, summary: Summary) -> None:
    busy_s = summary.seconds - summary.waited_for_quota_s
    if summary.bytes >= _MEASURABLE_BYTES and busy_s > 0:
        endpoint = session.exchange.platform.endpoint
        await ledger.remember_fact(endpoint, _RATE, str(int(summary.bytes / busy_s)))


def _exit_code(summary: Summary, stopped: PenstockError | None) -> int:
    if isinstance(stopped, Interrupted):
        return 130
    if isinstance(stopped, TooManyFailures):
        return 1
    if stopped is not None:
        return 3
    return 1 if summary.failed else 0


def _run_id(clock: Clock) -> str:
    at = datetime.fromtimestamp(clock.wall_at(), UTC)
    return f"{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


async def plan(
    *locations: str | os.PathLike[str],
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    encoding: str | None = None,
    only: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    rules: Sequence[Rule] | None = None,
    follow: bool = False,
    keep_names: bool = False,
    min_age: float | str = 0,
    checksum: Sequence[str] = (),
    compare: str = "digest",
    on_conflict: str = "fail",
    strict: bool = False,
    concurrency: int | None = None,
    part_size: int | str | None = None,
    retries: int | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    times: bool = False,
    partial_dir: str | os.PathLike[str] | None = None,
    leave_out: Sequence[str | os.PathLike[str]] = (),
    on_event: Callable[[Event], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Plan:
    """What `copy` with the same arguments would do: it lists, and moves nothing.

    Files of the same size that the ledger does not know are reckoned to be the same; `proving`
    counts the requests that finding out takes. Raises as `copy` does.
    """
    environ = os.environ if environ is None else environ
    settings = _settings(config, environ)
    choices = read_choices(compare, on_conflict, strict, checksum, part_size, partial_dir, times)
    selecting = Selecting(
        select(rules_of(rules, include, exclude)),
        follow,
        keep_names,
        parse_duration(min_age),
        _own_files(_folders(state, environ), None, leave_out),
    )
    quotas = read_quotas(quota_share, quota_store, quota_fallback)
    job = await read_job(locations, settings, manifest, encoding, only)
    folders = _folders(state, environ)
    clock = Clock.running()
    emit = on_event or (lambda _: None)
    async with _prepared(
        job,
        settings,
        folders,
        emit=emit,
        clock=clock,
        concurrency=concurrency,
        retries=retries,
        quotas=quotas,
    ) as (session, ledger, surveyor):
        traits = session.exchange.platform.traits
        if choices.part_size is not None and job.uploads:
            check_part_size(choices.part_size, traits)
        costing = Costing(session, ledger, choices)
        plan_all, remote_folders = await _planner(
            job, settings, session, surveyor, selecting, choices, costing.deliver
        )
        await plan_all()
        known = await ledger.fact(session.exchange.platform.endpoint, _RATE)
        spent = session.exchange.total.api_requests
    cost = costing.cost
    new = missing_folders(costing.new_folders, remote_folders)
    requests = cost.api_requests + len(new) + spent
    terms = terms_of(session.profile, traits)
    quota, window_s = terms.top, terms.window_ns / NS_PER_S
    rate = int(known) if known is not None else ASSUMED_RATE
    time = estimate(requests, cost.bytes, quota=quota, window_s=window_s, rate=rate)
    return Plan(
        profile=job.profile,
        files=cost.files,
        bytes=cost.bytes,
        skipped=cost.skipped,
        failed=cost.failed,
        folders=len(new),
        api_requests=requests,
        proving=costing.proving,
        windows=time.windows,
        quota=quota,
        window_s=window_s,
        seconds=time.seconds,
        quota_s=time.quota_s,
        bandwidth_s=time.bandwidth_s,
        rate=rate,
        rate_is_measured=known is not None,
        binds=time.binds,
        spent=spent,
    )


async def list_(
    location: str,
    *,
    recursive: bool = False,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    on_entry: Callable[[Entry], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[Entry]:
    """What stands at a location on a platform: projects, or the folders and files of one.

    Pages only. With `on_entry` entries are handed over as they come, and the list is empty.
    Raises `LocationError` where nothing is there, `UsageError` for a local path.
    """
    environ = os.environ if environ is None else environ
    settings = _settings(config, environ)
    where = read_location(location, settings)
    if not isinstance(where, Remote):
        raise UsageError(f"{location} is a local path; list takes PROFILE:PATH")
    quotas = read_quotas(quota_share, quota_store, quota_fallback)
    entries: list[Entry] = []
    take = on_entry or entries.append
    folders, clock, emit = _folders(state, environ), Clock.running(), on_event or (lambda _: None)
    job = Job((where,), Local("."), where.profile)
    async with _prepared(
        job,
        settings,
        folders,
        emit=emit,
        clock=clock,
        concurrency=None,
        retries=None,
        quotas=quotas,
    ) as (session, _, surveyor):
        above = [name for name in where.path.split("/") if name]
        if where.id is None and len(above) < session.exchange.platform.traits.container_levels:
            await _list_containers(session, where.profile, "/".join(above), take)
            return entries
        place = session.exchange.platform.place(path_of(where))
        found = await surveyor.find(place)
        base = str(where).rstrip("/")
        if found.missing:
            raise no_such_place(place, Refused(f"{found.missing[0]!r} is missing", status=404))
        if found.file is not None:
            file = found.file
            take(Entry("file", base, file.name, file.id, file.size, file.modified))
            return entries
        await _list_folder(surveyor, found.place, base, take, recursive=recursive)
    return entries


async def _list_containers(
    session: Session, profile: str, above: str, take: Callable[[Entry], None]
) -> None:
    cursor = None
    while True:
        flow = session.exchange.platform.list_containers(cursor, above)
        page: Page = await session.exchange.run(flow)
        for folder in page.folders:
            inside = f"{above}/" if above and folder.kind != "project" else ""
            where = f"{profile}:{inside}{folder.name}"
            take(Entry(folder.kind, where, folder.name, folder.id))
        cursor = page.next
        if cursor is None:
            return


async def _list_folder(
    surveyor: Surveyor, place: Place, base: str, take: Callable[[Entry], None], *, recursive: bool
) -> None:
    """Folders by id under `id=`, where no path leads below; else by path."""
    by_id = place.container.startswith("id=")
    profile = base.partition(":")[0]
    try:
        async for files, folders in surveyor.pages_of(place):
            for folder in folders:
                where = f"{profile}:id={folder.id}" if by_id else f"{base}/{folder.name}"
                take(Entry("folder", f"{where}/", folder.name, folder.id))
                if recursive:
                    path = f"{place.path}/{folder.name}" if place.path else folder.name
                    below = Place(place.container, path, folder.id)
                    await _list_folder(surveyor, below, where, take, recursive=True)
            for file in files:
                where = f"{profile}:id={file.id}" if by_id else f"{base}/{file.name}"
                take(Entry("file", where, file.name, file.id, file.size, file.modified))
    except Refused as refused:
        await surveyor.forget(place)
        raise no_such_place(place, refused) from refused


async def check(
    profile: str,
    *,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quota_store: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Tries a profile's token by one request, also one that was remembered as refused.

    Raises `TokenRefused` where the platform refuses it, and whatever else stands in the way.
    """
    environ = os.environ if environ is None else environ
    settings = _settings(config, environ)
    found = settings.profile(profile)
    folders = _folders(state, environ)
    token = await hop(found.token.read)
    store = await open_store(read_quotas(store=quota_store), folders.quota, lambda _: None)
    try:
        await store.forget_refusal(token.fingerprint())
        async with open_session(
            found,
            settings,
            folders=folders,
            emit=lambda _: None,
            clock=Clock.running(),
            store=store,
        ) as session:
            await session.exchange.run(session.exchange.platform.list_containers(None))
    finally:
        await store.aclose()


async def quota(
    profile: str | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[QuotaUse]:
    """What is spent and left of the quotas of one profile, or of all that have a token.

    Asks no platform and changes nothing. Raises `ProfileError` for a named profile without a
    token or on a platform without a quota, `QuotaStoreError` where the store cannot be read.
    """
    environ = os.environ if environ is None else environ
    settings = _settings(config, environ)
    quotas = read_quotas(quota_share, quota_store)
    folder = _folders(None, environ).quota
    found = []
    for name in [profile] if profile is not None else settings.profiles:
        try:
            asked = quotas.of(settings.profile(name))
            platform = platform_of(asked)
            token = await read_token(asked)
        except ProfileError:
            if profile is not None:
                raise
            continue
        found.append(
            await quota_use(
                quotas,
                folder,
                asked,
                platform.endpoint,
                platform.traits,
                token.fingerprint(),
                Clock.running(),
            )
        )
    return found
