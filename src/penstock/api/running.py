"""`running`: workspaces that run for as long as a block of a pipeline lasts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

from penstock.api.acting import ActionReport
from penstock.api.workspaces import TIMEOUT
from penstock.api.workspaces import workspaces as act
from penstock.core.actionreport import ActionLine
from penstock.core.errors import ActionsFailed, PenstockError, RunStopped, UsageError
from penstock.core.events import Event
from penstock.core.units import parse_duration
from penstock.engine.groups import to_the_end
from penstock.engine.stopping import Stop

# Asked to run, and not seen to.
_MAY_COME = frozenset(("accepted", "unknown"))


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
    paused afterwards, also those that ran before, and also after an error or any number of
    cancellations: what may still come to run is waited for and paused too, and all that takes two
    `timeout` at most. Gives the report of the resuming.

    Raises `ActionsFailed` where some do not run (the block is not entered, the others are paused
    again) and where some could not be paused though the block ended well; an error of the block
    goes first, with a note of what could not be paused.
    """
    ids = (workspaces,) if isinstance(workspaces, str) else tuple(workspaces)
    if not ids:
        raise UsageError("name at least one workspace to run")
    timeout_s = parse_duration(timeout)

    stop: Stop = Stop()

    async def do(action: str, some: Sequence[str] = ids, stop: Stop | None = None) -> ActionReport:
        return await act(
            action,
            *some,
            stop=stop,
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

    entered, doubtful = False, list[str]()
    try:
        resumed = await _stopped_where_cancelled(do("resume", stop=stop), stop, doubtful)
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
            trouble = await to_the_end(_paused(do, timeout_s, doubtful))
            if trouble is not None:
                error.add_note(str(trouble))
        raise
    else:
        trouble = await to_the_end(_paused(do, timeout_s, doubtful))
        if trouble is not None:
            raise trouble


async def _stopped_where_cancelled(
    work: Coroutine[Any, Any, ActionReport], stop: Stop, doubtful: list[str]
) -> ActionReport:
    """The run's report. `doubtful` then has the ids that may come to run, and do not yet.

    A cancellation lets what is in flight be answered, so that it is known what was asked for.
    """
    running = asyncio.ensure_future(work)
    report: ActionReport | None = None
    try:
        report = await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.ask("cancelled")
        try:
            report = await to_the_end(_ended(running))
        except asyncio.CancelledError:
            report = await _ended(running)
        raise
    except RunStopped as error:
        report = error.report
        raise
    finally:
        if report is not None:
            unsettled = (line for line in report.lines() if line.status in _MAY_COME)
            doubtful += [line.id for line in unsettled]
    return report


async def _ended(running: asyncio.Future[ActionReport]) -> ActionReport | None:
    """The report of a run, however it ended."""
    try:
        return await running
    except RunStopped as error:
        report: ActionReport | None = error.report
        return report
    except PenstockError:
        return None


async def _paused(
    do: Callable[..., Awaitable[ActionReport]], timeout_s: float, doubtful: Sequence[str]
) -> PenstockError | None:
    """What went wrong with the pausing; None where all is well.

    What was asked to run and does not yet is waited for first: while it stands in the platform's
    queue it looks paused.
    """
    with anyio.move_on_after(2 * timeout_s):
        left: list[ActionLine] = []
        if doubtful:
            with suppress(PenstockError):
                again = await do("resume", doubtful)
                left += [line for line in again.lines() if line.status in _MAY_COME]
        try:
            paused = await do("pause")
        except PenstockError as error:
            return error
        for line in paused.lines():
            if line.status not in {"settled", "skipped"} or (
                line.status == "skipped" and line.before not in {"paused", "pausing"}
            ):
                left.append(line)
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
