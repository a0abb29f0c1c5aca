"""One run of one action on many workspaces, from the listing to its report. Composition only."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import anyio

from penstock.api.selecting import Selection
from penstock.core.actionreport import ActionLine, ActionSummary
from penstock.core.errors import Interrupted, RunStopped, UsageError
from penstock.core.events import ActionEnded, ActionsListed, ActionsStarted, Event, Note, RunEnded
from penstock.core.values import quick_value
from penstock.engine.actions import Actor
from penstock.engine.clock import Clock
from penstock.engine.deeds import Deed, Deeds, Outcome
from penstock.engine.groups import task_group
from penstock.engine.ledger import Ledger
from penstock.engine.reports import ReportWriter
from penstock.engine.roll import Roll, call_roll
from penstock.engine.stopping import Stop
from penstock.engine.todos import Course
from penstock.platforms.control import Control, Sign, Thing
from penstock.session import Session

LIST = "list"


@quick_value(frozen=True, slots=True)
class ActionReport:
    """What a run of actions did. `exit_code` is the command's; `things` what was listed.

    `path` holds a line for each workspace, None where nothing was to be done (a list, a dry run).
    """

    summary: ActionSummary
    exit_code: int
    path: Path | None = None
    things: tuple[Thing, ...] = ()
    listed: tuple[ActionLine, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every action settled, or need not be done."""
        return self.exit_code == 0

    def lines(self) -> Iterator[ActionLine]:
        """Every workspace's line, in the order they ended."""
        if self.path is None:
            yield from self.listed
            return
        with self.path.open(encoding="utf-8") as file:
            for text in file:
                yield ActionLine(**json.loads(text))


@dataclass(slots=True)
class Run:
    """One run of one action, from the listing to its report."""

    course: Course
    id: str
    control: Control
    selection: Selection
    session: Session
    ledger: Ledger
    clock: Clock
    emit: Callable[[Event], None]
    stop: Stop
    summary: ActionSummary = field(init=False)
    overdue: int = 0

    def __post_init__(self) -> None:
        self.summary = ActionSummary(self.id, self.course.action)

    async def show(self) -> ActionReport:
        """What there is, or what would be done; nothing is."""
        began_s = self.clock.now_s()
        roll = await self._roll()
        chosen = self.selection.of(roll.things.values())
        lines = []
        for thing in chosen:
            reason = "listed"
            if self.course.action != LIST:
                reason = self.control.forbids(self.course.action, thing) or "dry run"
            lines.append(self._line(thing, "skipped", reason))
        lines += self._absent(roll, {})
        for line in lines:
            self.summary.add(line)
        self._account(began_s)
        code = 1 if self.summary.failed else 0
        return ActionReport(self.summary, code, None, tuple(chosen), tuple(lines))

    async def through(self, writer: ReportWriter) -> ActionReport:
        """The run's report; what stopped it is raised, with the report in its `report`."""
        began_s, action, name = self.clock.now_s(), self.course.action, self.session.profile.name
        stopped: RunStopped | None = None
        try:
            self.emit(ActionsStarted(self.id, action, name))
            await self.ledger.begin_run(self.id, (f"workspaces {action}",), f"{name}:")
            await self._unless_stopped(writer)
        except UsageError:
            writer.give_up()
            raise
        except RunStopped as error:
            stopped = error
        finally:
            self._account(began_s)
            with anyio.CancelScope(shield=True):
                await self.ledger.end_run(self.id, self.summary.json())
            self.emit(RunEnded(self.summary.json()))
        if stopped is None and self.stop.asked:
            stopped = Interrupted(
                f"stopped ({self.stop.reason}): what was asked for is remembered; run the same "
                "command to carry on"
            )
        bad = self.summary.failed + self.summary.unknown + self.overdue
        code = 130 if isinstance(stopped, Interrupted) else 3 if stopped else 1 if bad else 0
        report = ActionReport(self.summary, code, writer.path)
        if stopped is not None:
            stopped.report = report
            raise stopped
        return report

    async def _unless_stopped(self, writer: ReportWriter) -> None:
        """Everything listed and acted on; cut off where a stop is asked for while it is listed."""
        async with task_group() as group:

            async def watch() -> None:
                await self.stop.wait()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            roll = await self._roll()
            group.cancel_scope.cancel()
        if not self.stop.asked:
            await self._act(roll, writer)

    async def _act(self, roll: Roll, writer: ReportWriter) -> None:
        def end(line: ActionLine) -> None:
            self.summary.add(line)
            self.overdue += line.status == "accepted" and line.reason is not None
            writer.write(line)
            self.emit(ActionEnded(line))

        endpoint, action = self.session.exchange.platform.endpoint, self.course.action
        chosen = self.selection.of(roll.things.values())
        deeds = Deeds(self.ledger, endpoint, action, self.id)
        wanted = [*(thing.id for thing in chosen), *self.selection.missing(roll.things)]
        left = await deeds.left(wanted, self.clock.wall_at())
        absent = self._absent(roll, left)
        self.emit(ActionsListed(len(chosen) + len(absent)))
        for line in absent:
            end(line)
        todo: list[Thing] = []
        unended: dict[str, Deed] = {}
        known: list[tuple[Deed, ActionLine]] = []
        for thing in chosen:
            deed = left.get(thing.id)
            known_line = self._known(thing, deed)
            if known_line is not None and deed is not None and not deed.held:
                known.append((deed, known_line))
            elif known_line is not None:
                end(known_line)
            else:
                todo.append(thing)
                if deed is not None and self._is_still_on(thing, deed):
                    unended[thing.id] = deed
        await deeds.adopt(deed.id for deed, _ in known)
        await deeds.note(
            [Outcome(d.id, line.status, line.after, line.reason) for d, line in known if d.unended],
            self.clock.wall_at(),
        )
        for _, line in known:
            end(line)
        actor = Actor(
            self.course,
            self.control,
            self.session.exchange,
            deeds,
            self.clock,
            self.stop,
            end=end,
            emit=self.emit,
        )
        try:
            await actor.run(roll, todo, unended)
        finally:
            self.summary.queue_full = actor.queue_full
        if not self.stop.asked:
            await deeds.close()

    def _known(self, thing: Thing, deed: Deed | None) -> ActionLine | None:
        """The line of a thing that need not be acted on; None where it has to be, or waited for."""
        action = self.course.action
        if deed is not None and deed.held:
            return self._line(thing, "skipped", "another process is at it")
        if deed is not None:
            found = self.control.evidence(action, deed.mark, thing, begun=False)
            if found.stands and (deed.unended or deed.state == "settled"):
                at = deed.ended_at if deed.ended_at is not None else self.clock.wall_at()
                return ActionLine(
                    thing.id,
                    thing.name,
                    action,
                    deed.mark.status,
                    thing.status,
                    "settled",
                    None,
                    at,
                )
            if deed.unended and found.sign is Sign.FAILED:
                return ActionLine(
                    thing.id,
                    thing.name,
                    action,
                    deed.mark.status,
                    thing.status,
                    "failed",
                    found.reason,
                    self.clock.wall_at(),
                )
            if self._is_still_on(thing, deed):
                return None
        reason = self.control.forbids(action, thing)
        return None if reason is None else self._line(thing, "skipped", reason)

    def _is_still_on(self, thing: Thing, deed: Deed) -> bool:
        """Whether an earlier run's action may still be under way, or never have been sent."""
        if not deed.unended:
            return False
        found = self.control.evidence(self.course.action, deed.mark, thing, begun=False)
        return found.sign not in {Sign.SETTLED, Sign.FAILED}

    def _absent(self, roll: Roll, left: Mapping[str, Deed]) -> list[ActionLine]:
        """Lines of the ids that were named and are not there."""
        lines, wall_at, action = [], self.clock.wall_at(), self.course.action
        for thing in self.selection.missing(roll.things):
            deed, whose = left.get(thing), " of yours" if self.course.scope.own else ""
            absent = f"there is no such Compute workspace{whose}"
            status, reason = ("failed", absent) if action != "delete" else ("skipped", absent)
            before = after = None
            if action == "delete" and deed is not None and roll.whole:
                status, reason, before, after = "settled", "", deed.mark.status, "deleted"
            lines.append(
                ActionLine(thing, None, action, before, after, status, reason or None, wall_at)
            )
        return lines

    async def _roll(self) -> Roll:
        roll = await call_roll(self.session.exchange, self.control, self.course.scope)
        if not roll.whole:
            self.emit(
                Note("the listing changed while it was read, three times: it may not be complete")
            )
        owners = {thing.owner for thing in roll.things.values() if thing.owner is not None}
        if self.course.scope.own and len(owners) > 1:
            raise UsageError(
                "the platform was asked for your own workspaces and listed those of several "
                "owners, so which are yours is not known; if all are meant, say --anyone"
            )
        return roll

    def _line(self, thing: Thing, status: str, reason: str | None) -> ActionLine:
        return ActionLine(
            thing.id,
            thing.name,
            self.course.action,
            thing.status,
            None,
            status,
            reason,
            self.clock.wall_at(),
        )

    def _account(self, began_s: float) -> None:
        name, total, summary = (
            self.session.profile.name,
            self.session.exchange.total,
            self.summary,
        )
        summary.api_requests = {name: total.api_requests}
        summary.rejected_by_quota = {name: total.refused_by_quota}
        summary.waited_for_quota_s = round(self.session.limiter.waited_s, 3)
        summary.seconds = round(self.clock.now_s() - began_s, 3)


def run_id(clock: Clock) -> str:
    """A name for a run that begins now."""
    at = datetime.fromtimestamp(clock.wall_at(), UTC)
    return f"{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
