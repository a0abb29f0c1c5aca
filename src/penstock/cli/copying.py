"""`penstock copy` and `penstock plan`: one set of options, one question whether anything moves."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import failing, options, running, terminal, words
from penstock.cli.eventlog import EventLog
from penstock.cli.progress import choose
from penstock.cli.telling import Watch
from penstock.cli.watching import Tally
from penstock.core.errors import Interrupted, PenstockError, UsageError
from penstock.core.report import Summary
from penstock.core.values import quick_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from penstock.api.copying import Report
    from penstock.engine.stopping import Stop


@quick_value(frozen=True, slots=True)
class Wanted:
    """A command line of `copy` or `plan`, read. Names are those of the options."""

    locations: tuple[str, ...]
    rules: tuple[Any, ...]
    state: str | None
    config: str | None
    report: str | None
    as_json: bool
    progress: str
    verbose: int
    quiet: bool
    log: str | None
    manifest: str | None
    metadata: str | None
    submit: str | None
    submit_complete: bool
    save_metadata: str | None
    encoding: str | None
    only: str | None
    min_age: float
    checksum: tuple[str, ...]
    compare: str
    on_conflict: str
    strict: bool
    concurrency: int | None
    part_size: int | None
    bwlimit: int | None
    retries: int | None
    quota_share: float | None
    quota_store: str | None
    quota_fallback: str | None
    max_failures: int | None
    deadline: float | None
    times: bool
    partial_dir: str | None
    rebuild_ledger: bool
    follow: bool
    keep_names: bool
    on_finish: str | None

    def shared(self) -> dict[str, Any]:
        """What `penstock.plan` and `penstock.copy` both take."""
        names = (
            "rules state config manifest metadata submit submit_complete encoding only min_age "
            "checksum compare on_conflict strict concurrency part_size bwlimit retries "
            "quota_share quota_store "
            "quota_fallback times partial_dir follow keep_names"
        )
        return {name: getattr(self, name) for name in names.split()}


def _read(ctx: click.Context) -> Wanted:
    """The options of the command. Raises `UsageError` for some that make no sense together."""
    given = {**ctx.params, "as_json": ctx.params["json"], "rules": options.rules_of(ctx)}
    wanted = Wanted(**{field.name: given[field.name] for field in fields(Wanted)})
    if wanted.only is not None and wanted.manifest is None:
        raise UsageError("--only is about a table: give one with --manifest FILE")
    if wanted.encoding is not None and wanted.manifest is None and wanted.metadata is None:
        raise UsageError("--encoding is about a table: give one with --manifest or --metadata FILE")
    return wanted


_arguments = options.together(
    click.argument("locations", nargs=-1, type=options.LOCATION, metavar="SOURCE... DESTINATION"),
    options.choosing,
    options.proving,
    options.moving,
    click.option(
        "--report", metavar="FILE", help="Write one JSON object a line, one line a transfer."
    ),
    click.option("--json", is_flag=True, help="One JSON object on standard output, nothing else."),
    options.telling,
    click.option(
        "--on-finish", metavar="CMD", help="Run CMD once at the end; the summary is its input."
    ),
)


@click.command(cls=options.RuleCommand)
@_arguments
@click.option("--dry-run", is_flag=True, help="As plan: tell what would be done, move nothing.")
@click.pass_context
def copy(ctx: click.Context, /, dry_run: bool, **_: object) -> int:  # noqa: FBT001 - click's
    """Move files between a platform and local paths.

    Safe to run again: what is verified is not moved again, what was under way carries on. A folder
    as SOURCE copies what is below it; a DESTINATION that ends in / is a folder.

    \b
      penstock copy data/ cavatica:me/project/raw
      penstock copy cavatica:me/project/raw/ here/ --include '*.bam'
    """  # noqa: D301 - click reads the character
    wanted = _read(ctx)
    return _plan(wanted) if dry_run else _copy(wanted)


@click.command(cls=options.RuleCommand)
@_arguments
@click.pass_context
def plan(ctx: click.Context, /, **_: object) -> int:
    """What copy would do: files, bytes, API requests, quota windows, time. Moves nothing.

    Takes the options of copy, so that a command is tried by changing one word; those that concern
    only the moving (--report, --max-failures, --on-finish) have nothing to do here.
    """
    return _plan(_read(ctx))


@contextmanager
def _watched(wanted: Wanted) -> Iterator[Watch]:
    """A watch for the command, its log open, its display running."""
    log = EventLog(wanted.log) if wanted.log is not None else None
    tally = Tally(time.monotonic)
    display = choose(wanted.progress, tally, quiet=wanted.quiet)
    watch = Watch(tally, display, verbose=wanted.verbose, quiet=wanted.quiet, log=log)
    try:
        display.start()
        yield watch
    finally:
        watch.close()
        if log is not None:
            log.close()
            if log.fault is not None:
                terminal.complain(log.fault)


# -- copy ------------------------------------------------------------------------------------


def _copy(wanted: Wanted) -> int:
    with _watched(wanted) as watch:
        report, stopped = _moved(wanted, watch)
        watch.close()
        summary = _summary(report, stopped, watch.tally, wanted)
        code = report.exit_code if report is not None else 0
        if stopped is not None:
            code = failing.exit_code(stopped)
        if code or not wanted.quiet:
            watch.release()
            code = _result(wanted, watch.tally, summary, code)
            _explain(wanted, watch, summary, report, stopped=stopped)
        elif wanted.as_json:
            code = _result(wanted, watch.tally, summary, code)
        if wanted.on_finish is not None:
            _finish(wanted.on_finish, summary, watch)
        return code


def _moved(wanted: Wanted, watch: Watch) -> tuple[Report | None, PenstockError | None]:
    """The run's report, and why it ended early; raises what comes before a run, and defects."""
    from penstock.api.copying import copy as start  # noqa: PLC0415 - slow to import
    from penstock.engine.stopping import Stop  # noqa: PLC0415 - as above

    stop: Stop = Stop()

    def ask(why: str) -> None:
        # Before the run began nothing is in flight that could be ended.
        if watch.tally.summary.run:
            stop.ask(why)
        else:
            signals.cancel(why)

    signals = running.Signals(ask, watch.tell)
    try:
        report = running.run(
            lambda: start(
                *wanted.locations,
                **wanted.shared(),
                report=wanted.report,
                save_metadata=wanted.save_metadata,
                rebuild_ledger=wanted.rebuild_ledger,
                max_failures=wanted.max_failures,
                deadline=wanted.deadline,
                leave_out=(wanted.log,) if wanted.log is not None else (),
                on_event=watch,
                stop=stop,
            ),
            signals,
            tick=watch.display.tick,
            interval_s=watch.display.interval_s,
        )
    except BaseException as raised:
        error = failing.outermost(raised)
        if not isinstance(error, PenstockError) or isinstance(error, UsageError):
            watch.close()
            watch.release()
            raise
        return getattr(error, "report", None), error
    return report, None


def _summary(
    report: Report | None, stopped: PenstockError | None, tally: Tally, wanted: Wanted
) -> Summary:
    """The run's summary; where it was cut off before it could write one, what was seen of it."""
    if report is not None:
        return report.summary
    if tally.final is not None:
        return Summary(**tally.final)
    summary = tally.summary
    summary.seconds = round(tally.spent_s(), 3)
    if stopped is not None:
        profile = _profile_of(wanted.locations)
        summary.api_requests = {profile: tally.requests} if profile else {}
        summary.rejected_by_quota = {profile: 0} if profile else {}
    return summary


def _profile_of(locations: tuple[str, ...]) -> str | None:
    heads = [head for head, colon, _ in (text.partition(":") for text in locations) if colon]
    remote = [head for head in heads if len(head) > 1 and "/" not in head and "." not in head]
    return remote[0] if remote else None


def _result(wanted: Wanted, tally: Tally, summary: Summary, code: int) -> int:
    """The exit code; the summary is on standard output, where its reader is still there."""
    lines: Iterable[str] = ()
    if wanted.as_json:
        lines = (terminal.to_json(asdict(summary)),)
    elif summary.run:
        lines = words.of_summary(summary, tally.reasons, tally.unfinished)
    try:
        terminal.put_all(lines)
    except OSError as error:
        return code or failing.disk_full(error)
    return code


def _explain(
    wanted: Wanted,
    watch: Watch,
    summary: Summary,
    report: Report | None,
    *,
    stopped: PenstockError | None,
) -> None:
    """What to look into, and how to go on, on standard error."""
    tally = watch.tally
    lines = wanted.report or (str(report.path) if report is not None else None)
    # Files that a stop left failed of nothing; the last sentence is about them.
    for text in words.of_failures(tally.failures, summary.failed - tally.unfinished, lines):
        terminal.complain(text)
    if stopped is not None:
        sentence = failing.scrubbed(str(stopped))
        watch.tell(sentence if "same command" in sentence else f"{sentence}. {_onward(stopped)}")
    elif summary.failed:
        gave_up = wanted.max_failures is not None and summary.failed >= wanted.max_failures
        at = f"stopped at {wanted.max_failures} failures: " if gave_up else ""
        watch.tell(f"{at}{words.counted(summary.failed, 'transfer')} failed; {words.CARRY_ON}")


def _onward(stopped: PenstockError) -> str:
    if isinstance(stopped, Interrupted):
        return "Run the same command to carry on"
    return "Once that is put right, run the same command again to carry on"


def _finish(command: str, summary: Summary, watch: Watch) -> None:
    """Runs what `--on-finish` says, with the summary as input; how it ends is only told.

    What it prints goes to standard error, which is where everything goes that is no result.
    """
    try:
        ended = subprocess.run(  # noqa: S602 - a shell is what the option promises
            command,
            shell=True,
            input=(summary.json() + "\n").encode("utf-8", "backslashreplace"),
            stdout=sys.__stderr__,
            check=False,
        )
    except OSError as error:
        watch.tell(f"--on-finish could not be run: {error.strerror}")
        return
    if ended.returncode:
        watch.tell(f"--on-finish ended with {ended.returncode}: {command}")


# -- plan ------------------------------------------------------------------------------------


def _plan(wanted: Wanted) -> int:
    from penstock.api.planning import plan as ask  # noqa: PLC0415 - slow to import

    with _watched(wanted) as watch:
        try:
            planned = running.run(
                lambda: ask(*wanted.locations, **wanted.shared(), on_event=watch),
                running.Signals(None),
                tick=watch.display.tick,
                interval_s=watch.display.interval_s,
                deadline_s=wanted.deadline,
            )
        except BaseException:
            watch.close()
            watch.release()
            raise
        watch.close()
    figures: Mapping[str, Any] = asdict(planned)
    if wanted.as_json:
        requests = {planned.profile: planned.api_requests}
        terminal.put_json({**figures, "api_requests": requests})
    elif not wanted.quiet:
        for text in words.of_plan(figures, planned.profile):
            terminal.put(text)
    return 0
