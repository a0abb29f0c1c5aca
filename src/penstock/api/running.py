"""`running`: workspaces that run for as long as a block of a pipeline lasts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio

from penstock.api.acting import ActionReport
from penstock.api.workspaces import TIMEOUT
from penstock.api.workspaces import workspaces as act
from penstock.core.actionreport import ActionLine
from penstock.core.errors import ActionsFailed, PenstockError, UsageError
from penstock.core.events import Event
from penstock.core.units import parse_duration


@asynccontextmanager
async def running(
    workspaces: str | Sequence[str],
    *,
    profile: str = "surf",
    anyone: bool = False,
    co: str | None = None,
    timeout: float | str = TIMEOUT,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[ActionReport]:
    """Workspaces (by id) that run within the block, and are paused after it.

    They are resumed and waited for; those that ran already count as running. All of them are
    paused afterwards, also those that ran before, and also after an error or a cancellation: that
    is shielded, and takes two `timeout` at most. Gives the report of the resuming.

    Raises `ActionsFailed` where some do not run (the block is not entered, the others are paused
    again) and where some could not be paused though the block ended well; an error of the block
    goes first, with a note of what could not be paused.
    """
    ids = (workspaces,) if isinstance(workspaces, str) else tuple(workspaces)
    if not ids:
        raise UsageError("name at least one workspace to run")
    timeout_s = parse_duration(timeout)

    async def do(action: str) -> ActionReport:
        return await act(
            action,
            *ids,
            profile=profile,
            anyone=anyone,
            co=co,
            timeout=timeout,
            state=state,
            config=config,
            quota_share=quota_share,
            quota_store=quota_store,
            quota_fallback=quota_fallback,
            on_event=on_event,
            environ=environ,
        )

    entered = False
    try:
        resumed = await do("resume")
        idle = [
            line
            for line in resumed.lines()
            if line.status != "settled"
            and not (line.status == "skipped" and line.before == "running")
        ]
        _check("did not come to run", idle, resumed)
        entered = True
        yield resumed
    except BaseException as error:
        # A `UsageError` before anything was asked for leaves nothing to be paused.
        if entered or not isinstance(error, UsageError):
            trouble = await _shielded(do, timeout_s)
            if trouble is not None:
                error.add_note(str(trouble))
        raise
    else:
        trouble = await _shielded(do, timeout_s)
        if trouble is not None:
            raise trouble


async def _shielded(
    do: Callable[[str], Awaitable[ActionReport]], timeout_s: float
) -> PenstockError | None:
    """What went wrong with the pausing, which no cancellation reaches; None where all is well."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(2 * timeout_s):
        try:
            paused = await do("pause")
        except PenstockError as error:
            return error
        left = [line for line in paused.lines() if line.status not in {"settled", "skipped"}]
        left += [
            line
            for line in paused.lines()
            if line.status == "skipped" and line.before not in {"paused", "pausing"}
        ]
        return _failed("could not be paused", left, paused) if left else None
    return ActionsFailed("pausing the workspaces took too long; look whether they still run")


def _failed(what: str, lines: Sequence[ActionLine], report: ActionReport) -> ActionsFailed:
    shown = "; ".join(f"{line.name or line.id}: {line.reason or line.status}" for line in lines[:5])
    more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""  # noqa: PLR2004
    failed = ActionsFailed(f"{len(lines)} workspaces {what}: {shown}{more}")
    failed.report = report
    return failed


def _check(what: str, lines: Sequence[ActionLine], report: ActionReport) -> None:
    if lines:
        raise _failed(what, lines, report)
