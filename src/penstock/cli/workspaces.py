"""`penstock workspaces`: list workspaces, or do one thing to many of them."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import failing, options, running, terminal, words
from penstock.cli.eventlog import EventLog
from penstock.cli.progress import choose
from penstock.cli.telling import Watch
from penstock.cli.watching import Tally
from penstock.core.errors import Interrupted, PenstockError, RunStopped, UsageError
from penstock.core.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.api.acting import ActionReport
    from penstock.engine.stopping import Stop
    from penstock.platforms.control import Thing

_ACTIONS = ("list", "pause", "resume", "reboot", "delete")
_NAMED = 10

_choosing = options.together(
    click.option("--all", is_flag=True, help="All of them; filters still apply."),
    click.option("--anyone", is_flag=True, help="Also those of other owners."),
    click.option("--name", metavar="GLOB", multiple=True, help="Whose name matches."),
    click.option("--status", metavar="STATUS", multiple=True, help="In this state: running, …"),
    click.option("--co", metavar="ID", help="Of this collaboration, whoever owns them."),
    click.option("--wallet", metavar="ID", help="Paid from this wallet."),
    click.option("--application", metavar="GLOB", multiple=True, help="Made from this item."),
    click.option("--exclude", metavar="GLOB", multiple=True, help="But whose name matches."),
    click.option(
        "--from", "from_", metavar="REPORT", help="Exactly those that settled in an earlier run."
    ),
    click.option("--only", metavar="STATUS", help="With --from: those that ended so: failed."),
)
_doing = options.together(
    click.option("--dry-run", is_flag=True, help="List what would be acted on; do nothing."),
    click.option("--wait/--no-wait", default=True, help="Until settled. Default: --wait."),
    click.option(
        "--timeout",
        metavar="DURATION",
        callback=options.read_by(parse_duration),
        default="15m",
        show_default=True,
        help="How long each is waited for.",
    ),
    click.option("--yes", is_flag=True, help="Delete without asking."),
)


@click.command()
@click.argument("action", type=click.Choice(_ACTIONS), metavar="ACTION")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_choosing
@_doing
@click.option("--profile", metavar="NAME", default="surf", show_default=True)
@click.option("--report", metavar="FILE", help="Write one JSON object a line, one a workspace.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@options.telling
@options.sharing
@options.state
@options.config
@click.pass_context
def workspaces(
    ctx: click.Context,
    /,
    action: str,
    ids: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - click's
    dry_run: bool,  # noqa: FBT001
    yes: bool,  # noqa: FBT001
    **given: Any,  # noqa: ANN401 - the other options, by name
) -> int:
    """list, pause, resume, reboot or delete workspaces of SURF Research Cloud, in bulk.

    Needs ids, a filter, --from REPORT or --all (but to list); your own Compute workspaces are
    meant, unless --co or --anyone. Each action is asked for once. Safe to run again: what was
    asked for is remembered, and not asked for twice.

    \b
      penstock workspaces list
      penstock workspaces pause --name 'course-*' --report friday.jsonl
      penstock workspaces resume --from friday.jsonl
    """  # noqa: D301 - click reads the character
    del ctx
    shown = ("progress", "verbose", "quiet", "log", "debug")
    told = {name: given.pop(name) for name in shown}
    telling = _Telling(as_json=as_json, **{k: v for k, v in told.items() if k != "debug"})
    if action == "list" or dry_run:
        return _show(action, ids, telling, {**given, "dry_run": dry_run})
    if action == "delete" and not yes:
        ids = _confirmed(ids, telling, given)
        if not ids:
            return 0
        given = {**given, "anyone": True, "from_": None, "only": None}
        given |= {"name": (), "status": (), "application": (), "exclude": (), "all": False}
    return _act(action, ids, telling, given)


class _Telling:
    """How a run is told of."""

    def __init__(
        self,
        *,
        as_json: bool,
        progress: str,
        verbose: int,
        quiet: bool,
        log: str | None,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._progress = progress
        self._verbose = verbose
        self._log = log

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """A watch for the command, its log open, its display running."""
        log = EventLog(self._log) if self._log is not None else None
        tally = Tally(time.monotonic, thing="workspace")
        display = choose(self._progress, tally, quiet=self.quiet)
        watch = Watch(tally, display, verbose=self._verbose, quiet=self.quiet, log=log)
        try:
            display.start()
            yield watch
        finally:
            watch.close()
            if log is not None:
                log.close()
                if log.fault is not None:
                    terminal.complain(log.fault)


# -- list and --dry-run ----------------------------------------------------------------------


def _listed(
    action: str, ids: tuple[str, ...], telling: _Telling, given: dict[str, Any]
) -> ActionReport:
    from penstock.api.workspaces import workspaces as ask  # noqa: PLC0415 - slow to import

    with telling.watched() as watch:
        try:
            return running.run(
                lambda: ask(action, *ids, **given, on_event=watch), running.Signals(None)
            )
        except BaseException:
            watch.close()
            watch.release()
            raise


def _show(action: str, ids: tuple[str, ...], telling: _Telling, given: dict[str, Any]) -> int:
    report = _listed(action, ids, telling, {**given, "report": None})
    lines = list(report.lines())
    if telling.as_json and action == "list":
        for thing in report.things:
            terminal.put_json(_object(thing))
    elif telling.as_json:
        terminal.put_json(
            {**asdict(report.summary), "workspaces": [asdict(line) for line in lines]}
        )
    elif action == "list":
        terminal.put_all(_rows(report.things))
    else:
        terminal.put_all(_dry(line.name or line.id, line.before, line.reason) for line in lines)
    for line in lines:
        if line.status == "failed":
            terminal.complain(f"{line.id}: {line.reason}")
    return report.exit_code


def _dry(name: str, before: str | None, reason: str | None) -> str:
    what = "would act" if reason == "dry run" else f"skipped: {reason}"
    return f"{terminal.safe_line(name)}  {terminal.safe_line(before or '-')}  {what}"


def _object(thing: Thing) -> dict[str, object]:
    return {
        "id": thing.id,
        "name": thing.name,
        "status": thing.status,
        "application": thing.application,
        "owner": thing.owner,
        "co": thing.group,
        "wallet": thing.wallet,
        "actions": sorted(thing.allowed) if thing.allowed is not None else None,
    }


def _rows(things: tuple[Thing, ...]) -> Iterator[str]:
    rows = [
        tuple(map(terminal.safe_line, (t.id, t.status or "-", t.application or "-", t.name)))
        for t in things
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    for row in rows:
        yield "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()


def _confirmed(ids: tuple[str, ...], telling: _Telling, given: dict[str, Any]) -> tuple[str, ...]:
    """The ids that a person agreed to delete; none where they did not.

    Raises `UsageError` where there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError("delete asks before it deletes, and nobody can be asked here: say --yes")
    report = _listed("delete", ids, telling, {**given, "dry_run": True, "report": None})
    lines = [line for line in report.lines() if line.reason == "dry run"]
    if not lines:
        terminal.say("there is nothing to delete")
        return ()
    for line in lines[:_NAMED]:
        terminal.say(f"  {terminal.safe_line(line.name or line.id)} ({line.id}, {line.before})")
    if len(lines) > _NAMED:
        terminal.say(f"  … and {words.counted(len(lines) - _NAMED, 'more workspace')}")
    question = f"Delete {words.counted(len(lines), 'workspace')} for good?"
    if not click.confirm(question, default=False, err=True):
        terminal.say("nothing was deleted")
        return ()
    return tuple(line.id for line in lines)


# -- actions ---------------------------------------------------------------------------------


def _act(action: str, ids: tuple[str, ...], telling: _Telling, given: dict[str, Any]) -> int:
    with telling.watched() as watch:
        report, stopped = _acted(action, ids, watch, given)
        watch.close()
        code = report.exit_code if report is not None else 0
        if stopped is not None:
            code = failing.exit_code(stopped)
        if code or not telling.quiet:
            watch.release()
        if report is not None and (telling.as_json or code or not telling.quiet):
            code = _result(telling, report, code)
        if code:
            _explain(watch, report, stopped, given["report"])
        return code


def _acted(
    action: str, ids: tuple[str, ...], watch: Watch, given: dict[str, Any]
) -> tuple[ActionReport | None, PenstockError | None]:
    from penstock.api.workspaces import workspaces as start  # noqa: PLC0415 - slow to import
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
            lambda: start(action, *ids, **given, on_event=watch, stop=stop),
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
        return (error.report if isinstance(error, RunStopped) else None), error
    return report, None


def _result(telling: _Telling, report: ActionReport, code: int) -> int:
    """The exit code; the summary is on standard output, where its reader is still there."""
    lines = words.of_actions(report.summary)
    if telling.as_json:
        lines = iter((terminal.to_json(asdict(report.summary)),))
    try:
        terminal.put_all(lines)
    except OSError as error:
        return code or failing.disk_full(error)
    return code


def _explain(
    watch: Watch, report: ActionReport | None, stopped: PenstockError | None, wanted: str | None
) -> None:
    """What to look into, and how to go on, on standard error."""
    tally = watch.tally
    if stopped is None:
        for line in tally.bad_actions:
            name, reason = line.name or line.id, line.reason or line.status
            terminal.complain(f"{terminal.safe_line(name)}: {terminal.safe_line(reason)}")
        more = tally.summary.failed - len(tally.bad_actions)
        if more > 0:
            where = wanted or (str(report.path) if report is not None else "")
            terminal.complain(f"… and {words.counted(more, 'more workspace')}; all are in {where}")
        number = words.counted(tally.summary.failed, "workspace")
        watch.tell(f"{number} did not come to the state that was asked for; {words.CARRY_ON}")
        return
    sentence = failing.scrubbed(str(stopped))
    if "same command" not in sentence:
        onward = "Run" if isinstance(stopped, Interrupted) else "Once that is put right, run"
        sentence = f"{sentence}. {onward} the same command to carry on"
    watch.tell(sentence)
