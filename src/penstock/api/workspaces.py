"""`workspaces`: one action on many workspaces; what became of each in a report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from penstock.api.acting import LIST, ActionReport, Run, run_id
from penstock.api.opening import folders_of, settings_of
from penstock.api.selecting import read_selection
from penstock.core.errors import UsageError
from penstock.core.events import Event
from penstock.core.units import parse_duration
from penstock.engine.clock import Clock
from penstock.engine.reports import ReportWriter
from penstock.engine.stopping import Stop
from penstock.engine.todos import Course
from penstock.platforms.control import Control, Scope
from penstock.quotas import read_quotas, terms_of
from penstock.session import ledger_in, open_session, platform_of

TIMEOUT = "15m"


async def workspaces(
    action: str,
    *ids: str,
    profile: str = "surf",
    all: bool = False,  # noqa: A002 - the option's name
    anyone: bool = False,
    name: str | Sequence[str] = (),
    status: str | Sequence[str] = (),
    co: str | None = None,
    wallet: str | None = None,
    application: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    from_: str | os.PathLike[str] | None = None,
    only: str | None = None,
    dry_run: bool = False,
    wait: bool = True,
    timeout: float | str = TIMEOUT,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    retries: int | None = None,
    on_event: Callable[[Event], None] | None = None,
    stop: Stop | None = None,
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> ActionReport:
    """One action on many workspaces, each asked for once; the report of what became of each.

    `action` is `pause`, `resume`, `reboot`, `delete`, or `list`. What is acted on is named by ids,
    filters (`name`, `application` and `exclude` are globs), an earlier report (`from_`) or `all`;
    only Compute workspaces of the token's owner, unless `co` or `anyone`. `delete` asks nobody.
    With `wait` an action ends when it has settled, after `timeout` at most. Safe to run again: what
    a run that was cut off asked for is found out about, and never asked for twice. `clock` is for
    loops whose time is not the machine's.

    Raises `UsageError` where the arguments make no sense (nothing was asked for), and `RunStopped`
    where the run ended early, `Interrupted` among them; its `report` is then what became of each.
    A single workspace's failure raises nothing: `ActionReport.ok` tells.
    """
    environ = os.environ if environ is None else environ
    settings = settings_of(config, environ)
    selection = await read_selection(
        action,
        ids,
        profile=profile,
        all_=all,
        anyone=anyone,
        name=name,
        status=status,
        co=co,
        wallet=wallet,
        application=application,
        exclude=exclude,
        from_=from_,
        only=only,
    )
    timeout_s = parse_duration(timeout)
    if timeout_s <= 0:
        raise UsageError("a timeout is longer than nothing")
    quotas = read_quotas(quota_share, quota_store, quota_fallback)
    found = quotas.of(settings.profile(profile))
    control = platform_of(found)
    if not isinstance(control, Control):
        raise UsageError(f"the profile {profile} is of {found.platform}, which has no workspaces")
    if action != LIST and action not in control.actions:
        raise UsageError(f"the action is one of {LIST}, {', '.join(control.actions)}: {action!r}")
    terms = terms_of(found, control.traits)
    clock, emit = clock or Clock.running(), on_event or (lambda _: None)
    course = Course(
        action,
        Scope(selection.own, co, wallet),
        wait,
        timeout_s,
        control.traits.window_s / max(terms.top, 1),
    )
    folders = folders_of(state, environ)
    async with (
        ledger_in(folders, clock) as ledger,
        open_session(
            found, settings, folders=folders, emit=emit, clock=clock, retries=retries, quotas=quotas
        ) as session,
    ):
        run = Run(
            course=course,
            id=run_id(clock),
            control=control,
            selection=selection,
            session=session,
            ledger=ledger,
            clock=clock,
            emit=emit,
            stop=stop or Stop(),
        )
        if action == LIST or dry_run:
            return await run.show()
        path = Path(report) if report is not None else None
        with ReportWriter(folders.state / "reports", run.id, path) as writer:
            return await run.through(writer)
