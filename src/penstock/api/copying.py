"""`copy`: everything of the sources at the destination, proved; what became of each in a report."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from penstock.api.opening import Deliveries, folders_of, planner_of, prepared, settings_of
from penstock.api.submitting import read_asked, submission_of, submits
from penstock.config import Profile, Settings
from penstock.core import locations
from penstock.core.errors import (
    Interrupted,
    PenstockError,
    RunStopped,
    UsageError,
)
from penstock.core.events import Event, Note, RunEnded, RunStarted
from penstock.core.globs import Rule, select
from penstock.core.locations import Local
from penstock.core.plan import check_part_size
from penstock.core.report import Line, Summary
from penstock.core.transfers import Choices
from penstock.core.units import parse_duration, parse_rate
from penstock.core.values import quick_value
from penstock.engine import descriptors
from penstock.engine.clock import Clock
from penstock.engine.context import Context
from penstock.engine.files import hop
from penstock.engine.folders import Folders as RemoteFolders
from penstock.engine.groups import task_group
from penstock.engine.ledger import Ledger
from penstock.engine.openuploads import OpenUploads
from penstock.engine.planner import Deliver, Selecting
from penstock.engine.reports import ReportWriter, growing
from penstock.engine.scheduler import Scheduler
from penstock.engine.stopping import FILES_AT_ONCE, Limits, Stop, TooManyFailures
from penstock.engine.submitting import Asked
from penstock.engine.survey import Surveyor
from penstock.jobs import (
    Job,
    check_partial_dir,
    read_choices,
    read_job,
    rules_of,
)
from penstock.quotas import read_quotas, terms_of
from penstock.session import Folders, Session, platform_of

if TYPE_CHECKING:
    from penstock.api.saving import Saving

RATE = "bytes a second"
MEASURABLE_BYTES = 64 << 20


@quick_value(frozen=True, slots=True)
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


async def copy(
    *locations: str | os.PathLike[str],
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
    save_metadata: str | os.PathLike[str] | None = None,
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
    bwlimit: int | str | None = None,
    retries: int | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    max_failures: int | None = None,
    deadline: float | str | None = None,
    times: bool = False,
    partial_dir: str | os.PathLike[str] | None = None,
    submit: str | None = None,
    submit_complete: bool = False,
    rebuild_ledger: bool = False,
    leave_out: Sequence[str | os.PathLike[str]] = (),
    on_event: Callable[[Event], None] | None = None,
    stop: Stop | None = None,
    environ: Mapping[str, str] | None = None,
) -> Report:
    """Moves files between a platform and local paths; the report of what became of each.

    `locations` are the sources, then the destination. Safe to run again: what is verified is not
    moved again, and what was under way carries on. `rules` is `include` and `exclude` in one
    order, the last match winning. `leave_out` are local files that are not meant though they lie in
    a source, such as a log that is being written. `rebuild_ledger`: a ledger that is damaged, or
    too new, is set aside, and begun anew from what is really there. `on_event` is called with each
    event (`penstock.core.events`) as it happens, in the event loop: it must be quick.

    Raises `UsageError` where the arguments make no sense (nothing moved), and `RunStopped` where
    the run ended early for a cause all transfers share, `Interrupted` among them; its `report` is
    then what became of each transfer until there. A single file's failure raises nothing:
    `Report.ok` tells. Cancelled, it leaves no task and no open socket; the same call carries on.
    """
    environ = os.environ if environ is None else environ
    settings = settings_of(config, environ)
    choices = read_choices(compare, on_conflict, strict, checksum, part_size, partial_dir, times)
    selecting = Selecting(
        select(rules_of(rules, include, exclude)),
        follow,
        keep_names,
        parse_duration(min_age),
        own_files(folders_of(state, environ), report, leave_out),
    )
    for option, value, least in (
        ("concurrency", concurrency, 1),
        ("retries", retries, 0),
        ("max_failures", max_failures, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{option} is at least {least}, not {value}")
    quotas = read_quotas(quota_share, quota_store, quota_fallback)
    job = await read_job(locations, settings, manifest, encoding, only, metadata)
    if isinstance(job.destination, Local):
        await hop(check_partial_dir, choices.partial_dir, job.destination)
    profile = quotas.of(settings.profile(job.profile))
    asked = read_asked(submit, job, platform_of(profile), is_partial=submit_complete)
    if choices.part_size is not None and job.uploads:
        check_part_size(choices.part_size, platform_of(profile).traits)
    emit = on_event or (lambda _: None)
    clock = Clock.running()
    saving = None
    if save_metadata is not None:
        if not isinstance(job.destination, Local):
            raise UsageError("metadata is saved of files that are fetched; these are sent")
        from penstock.api.saving import Saving  # noqa: PLC0415 - few runs save any

        saving = Saving(Path(save_metadata), job.destination.path)
    run = _Run(
        job=job,
        asked=asked,
        id=_run_id(clock),
        choices=choices,
        selecting=selecting,
        stop=stop if stop is not None else Stop(),
        limits=Limits(max_failures, _files_at_once(concurrency, profile)),
        deadline_s=parse_duration(deadline) if deadline is not None else None,
        report=Path(report) if report is not None else None,
        folders=folders_of(state, environ),
        emit=emit,
        clock=clock,
        saving=saving,
    )
    async with prepared(
        job,
        settings,
        run.folders,
        emit=emit,
        clock=clock,
        concurrency=concurrency,
        bwlimit=parse_rate(bwlimit) if bwlimit is not None else None,
        retries=retries,
        quotas=quotas,
        rebuild_ledger=rebuild_ledger,
    ) as (session, ledger, surveyor):
        return await run.through(session, ledger, surveyor, settings)


def own_files(
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
    traits = platform_of(profile).traits
    quota = terms_of(profile, traits).top
    wide = FILES_AT_ONCE if concurrency is None else 2 * concurrency
    borne = traits.files_at_once or FILES_AT_ONCE
    return min(max(4, min(FILES_AT_ONCE, borne, wide, quota // 4)), descriptors.each_kind())


@quick_value(frozen=True, slots=True)
class _Run:
    """One copy, from the first look at its destination to its report."""

    job: Job
    asked: Asked
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
    saving: Saving | None = None

    async def through(
        self, session: Session, ledger: Ledger, surveyor: Surveyor, settings: Settings
    ) -> Report:
        """The run's report; what stopped it is raised, with the report in its `report`."""
        began_s, summary = self.clock.now_s(), Summary(self.id)
        shown = tuple(map(locations.shown, self.job.sources))
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
        deliveries, began_at = Deliveries(), self.clock.wall_at()
        if self.saving is not None:
            self.saving.check(session)
        plan_all, remote_folders = await self._unless_stopped(
            planner_of(
                self.job,
                settings,
                session,
                surveyor,
                self.selecting,
                self.choices,
                deliveries,
                folders=self.folders,
                emit=self.emit,
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
            OpenUploads(session.exchange, ledger, lambda text: self.emit(Note(text))),
            began_at,
            remote_folders,
        )

        async def planning(deliver: Deliver) -> None:
            deliveries.use(self.saving.watching(deliver) if self.saving else deliver)
            await plan_all()

        submission = None
        if submits(session, self.job):
            submission = await submission_of(
                self.job,
                session,
                plan_all,
                deliveries.use,
                self.asked,
                self.emit,
                strict=self.choices.strict,
            )

        def write(line: Line) -> None:
            writer.write(line)
            if submission is not None:
                submission.heard(line)

        scheduler = Scheduler(context, summary, write, self.stop, self.limits)
        await scheduler.run(planning)
        if self.saving is not None and not self.stop.asked:
            await self.saving.save(session, self.folders.kept, self.emit)
        if not self.stop.asked and remote_folders is not None:
            await _abort_orphans(context)
        if submission is not None and not self.stop.asked:
            now = datetime.fromtimestamp(self.clock.wall_at(), UTC).astimezone()
            summary.submission = await submission.run(now)

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


async def _abort_orphans(context: Context) -> None:
    """Uploads of earlier runs of this job whose source is gone are aborted; none is left open."""
    endpoint = context.exchange.platform.endpoint
    assert context.folders is not None
    for row in await context.ledger.left_open(endpoint, context.folders.container):
        if not await hop(os.path.lexists, row.identity.local_path):
            from penstock.engine.standing import abandon  # noqa: PLC0415 - seldom needed

            await abandon(context, row)


def _account(summary: Summary, session: Session, seconds: float) -> None:
    name, total = session.profile.name, session.exchange.total
    summary.api_requests = {name: total.api_requests}
    summary.rejected_by_quota = {name: total.refused_by_quota}
    summary.waited_for_quota_s = round(session.limiter.waited_s, 3)
    summary.seconds = round(seconds, 3)


async def _remember_rate(ledger: Ledger, session: Session, summary: Summary) -> None:
    busy_s = summary.seconds - summary.waited_for_quota_s
    if summary.bytes >= MEASURABLE_BYTES and busy_s > 0:
        endpoint = session.exchange.platform.endpoint
        await ledger.remember_fact(endpoint, RATE, str(int(summary.bytes / busy_s)))


def _exit_code(summary: Summary, stopped: PenstockError | None) -> int:
    if isinstance(stopped, Interrupted):
        return 130
    if isinstance(stopped, TooManyFailures):
        return 1
    if stopped is not None:
        return 3
    return 1 if summary.failed or summary.is_left else 0


def _run_id(clock: Clock) -> str:
    at = datetime.fromtimestamp(clock.wall_at(), UTC)
    return f"{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
