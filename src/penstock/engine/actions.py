"""Many actions, one a thing: each sent once, at a steady rate, and seen to its end by the page.

An action is intended in the ledger, then sent; from then on it is never sent again, whatever
becomes of its answer. Only a refusal by a full queue, and a request that certainly never left, are
as if nothing had been asked. What the answer left unclear, the listing tells: the platform's own
memory of actions, else a state that differs from the one before, else it is reported `unknown`.
How many may be unsettled at once is `core.actions.ActionCap`'s, when to look `engine.looking`'s,
what a look means the platform's. The waits here are for that steady rate and for looks; the
quota's are the limiter's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import anyio
from anyio.abc import TaskGroup

from penstock.core.actionreport import ActionLine
from penstock.core.actions import ActionCap
from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    Effect,
    ExchangeError,
    NotSent,
    Refused,
    RunStopped,
    TokenRefused,
)
from penstock.core.events import ActionAccepted, Event, Note
from penstock.core.units import format_duration
from penstock.engine.clock import Clock
from penstock.engine.deeds import ACCEPTED, UNCLEAR, Deed, Deeds, Outcome
from penstock.engine.exchange import Exchange
from penstock.engine.groups import task_group
from penstock.engine.holding import Bell, Hold
from penstock.engine.ledger import Held
from penstock.engine.looking import EVERYWHERE, Looking
from penstock.engine.roll import Roll, call_roll
from penstock.engine.stopping import Alike, Stop
from penstock.engine.todos import Course, Todo, line_of, may_be_asked, unfinished, verdict
from penstock.platforms.control import Control, Evidence, Mark, Sign, Thing

# Requests of actions in flight: what a kill may leave unclear. At the quotas there are, answers
# within half a second keep up with the steady rate.
SENDING_AT_ONCE = 10
# After a stop: how long what is in flight may take to be answered.
GRACE_S = 5.0


class Actor:
    """One run's actions. `end` is given each line once."""

    def __init__(
        self,
        course: Course,
        control: Control,
        exchange: Exchange,
        deeds: Deeds,
        clock: Clock,
        stop: Stop,
        *,
        end: Callable[[ActionLine], None],
        emit: Callable[[Event], None],
    ) -> None:
        self.queue_full = 0
        self._course = course
        self._control = control
        self._exchange = exchange
        self._deeds = deeds
        self._clock = clock
        self._stop = stop
        self._end_line = end
        self._emit = emit
        self._cap = ActionCap()
        self._looking = Looking(course.timeout_s)
        self._waiting: deque[Todo] = deque()
        self._sending: dict[str, Todo] = {}
        self._out: dict[str, Todo] = {}
        self._page_size = 1
        self._bell = Bell()
        self._next_s = -math.inf
        self._hold = Hold()
        self._wanted: set[int] = set()
        self._starved = False
        self._alike = Alike("actions failed alike and none was accepted")

    async def run(self, roll: Roll, things: Sequence[Thing], left: Mapping[str, Deed]) -> None:
        """Every action has ended, or the run was stopped.

        `left` are deeds of a run that was cut off, and of which it is not known how they ended.
        Raises what stops the run; lines of what did not end are written all the same.
        """
        self._page_size = roll.page_size
        await self._deeds.adopt(deed.id for deed in left.values())
        for thing in things:
            self._take(thing, roll.positions.get(thing.id), left.get(thing.id))
        cause: BaseException | None = None
        try:
            async with task_group() as group:
                scope = anyio.CancelScope()
                group.start_soon(self._watch, scope)
                with scope:
                    async with task_group() as workers:
                        workers.start_soon(self._send_all, workers)
                        workers.start_soon(self._look_all)
                group.cancel_scope.cancel()
        except BaseException as error:
            cause = error
            raise
        finally:
            self._close_unended(cause)

    def _page_of(self, position: int | None) -> int:
        # What is deleted leaves the listing and moves the rest: nothing keeps its position.
        if position is None or self._course.action == "delete":
            return EVERYWHERE
        return position // self._page_size

    def _take(self, thing: Thing, position: int | None, deed: Deed | None) -> None:
        todo = Todo(thing, Mark.of(thing), self._page_of(position))
        if deed is None:
            self._waiting.append(todo)
            return
        todo.mark, todo.deed, todo.made_at = deed.mark, deed.id, deed.made_at
        todo.clear = deed.state == ACCEPTED
        self._wait_for(todo)

    async def _watch(self, scope: anyio.CancelScope) -> None:
        await self._stop.wait()
        self._bell.ring()
        scope.deadline = min(scope.deadline, anyio.current_time() + GRACE_S)

    # -- asking ------------------------------------------------------------------------------

    async def _send_all(self, workers: TaskGroup) -> None:
        while (self._waiting or self._sending) and not self._stop.asked:
            pause_s = max(self._next_s, self._hold.until_s) - self._clock.now_s()
            if not self._waiting or len(self._sending) >= SENDING_AT_ONCE:
                await self._bell.sleep()
                continue
            if pause_s > 0:
                await self._bell.sleep(pause_s)
                continue
            if self._waiting[0].look_first:
                if self._full_too_long(self._waiting[0]):
                    self._give_up(self._waiting.popleft())
                    continue
                self._wanted.add(self._waiting[0].page)
                self._bell.ring()
                await self._bell.sleep()
                continue
            number = self._cap.begin()
            if self._starved != (number is None):
                self._starved = number is None
                self._bell.ring()
            if number is None:
                await self._bell.sleep()
                continue
            todo = self._waiting.popleft()
            todo.number = number
            self._sending[todo.thing.id] = todo
            self._next_s = self._clock.now_s() + self._course.pace_s
            workers.start_soon(self._act, todo, number)
        self._bell.ring()

    async def _act(self, todo: Todo, number: int) -> None:
        """One action asked for. Cancelled, its deed stays, and the next run finds out."""
        if todo.first_tried_s is None:
            todo.first_tried_s = self._clock.now_s()
        thing = todo.thing
        deed = await self._deeds.intend(thing.id, todo.mark, self._clock.wall_at())
        if isinstance(deed, Held):
            self._cap.given_up()
            self._leave(todo, "skipped", "another process is at it")
            return
        todo.deed = deed
        try:
            await self._exchange.run(self._control.act(self._course.action, thing.id))
        except Refused as refused:
            await self._refused(todo, number, refused)
        except (AnswerLost, AnswerUnusable):
            await self._deeds.note([Outcome(deed, UNCLEAR)], self._clock.wall_at())
            self._wait_for(todo)
        except NotSent as error:
            await self._deeds.undo(deed)
            self._cap.given_up()
            self._leave(todo, "failed", str(error))
            self._alike.add(error)
        except TokenRefused:
            await self._deeds.undo(deed)
            raise
        else:
            await self._accepted(todo)
        self._sending.pop(thing.id, None)
        self._bell.ring()

    async def _accepted(self, todo: Todo) -> None:
        assert todo.deed is not None
        self._alike.succeeded = todo.clear = True
        self._hold.taken()
        await self._deeds.note([Outcome(todo.deed, ACCEPTED)], self._clock.wall_at())
        self._emit(ActionAccepted(todo.thing.id, todo.thing.name))
        if self._course.wait:
            self._wait_for(todo)
        else:
            self._cap.given_up()
            self._leave(todo, "accepted")

    def _wait_for(self, todo: Todo) -> None:
        todo.since_s = self._clock.now_s()
        self._out[todo.thing.id] = todo
        self._looking.add(todo.page, todo.thing.id, todo.since_s)

    async def _refused(self, todo: Todo, number: int, refused: Refused) -> None:
        """A refusal: by a full queue it is tried again later; else it is that action's end."""
        assert todo.deed is not None
        await self._deeds.undo(todo.deed)
        todo.deed = None
        if refused.queue_full:
            self._put_back(todo, number, refused)
            return
        if refused.effect is Effect.STOP_RUN:
            raise RunStopped(str(refused)) from refused
        # The platform said why not: that is no reason for fewer.
        self._cap.settled()
        if refused.status == 404 and self._course.action == "delete":  # noqa: PLR2004
            self._leave(todo, "skipped", "already deleted")
            return
        self._leave(todo, "failed", str(refused))
        self._alike.add(refused)

    def _put_back(self, todo: Todo, number: int, refused: Refused) -> None:
        self._cap.queue_full(number)
        self.queue_full += 1
        if self._full_too_long(todo):
            self._give_up(todo)
            return
        todo.look_first = True
        self._waiting.appendleft(todo)
        self._hold.full(self._clock.now_s(), refused.retry_after_s)

    def _full_too_long(self, todo: Todo) -> bool:
        assert todo.first_tried_s is not None
        return self._clock.now_s() - todo.first_tried_s >= self._course.timeout_s

    def _give_up(self, todo: Todo) -> None:
        within = format_duration(self._course.timeout_s)
        self._leave(todo, "failed", f"the platform's queue was full for {within}")

    # -- looking -----------------------------------------------------------------------------

    async def _look_all(self) -> None:
        while self._waiting or self._sending or self._out:
            if self._stop.asked and not self._sending:
                return
            due = self._looking.next(starved=self._starved)
            now_s = self._clock.now_s()
            if self._stop.asked:
                await self._bell.sleep()
            elif self._wanted:
                await self._look(self._wanted.pop())
            elif due is None:
                await self._bell.sleep()
            elif due[1] > now_s:
                await self._bell.sleep(due[1] - now_s)
            else:
                await self._look(due[0])

    async def _look(self, page: int) -> None:
        """One look at a page, and what it says of all that is waited for there.

        A look that fails is no news; what is waited for then ends by its time-out.
        """
        look = self._looking.begin(page, self._clock.now_s())
        try:
            seen, whole = await self._seen(page)
        except ExchangeError as error:
            if error.effect is Effect.STOP_RUN:
                raise RunStopped(str(error)) from error
            self._emit(Note(f"looking at the listing failed, and is tried again: {error}"))
            seen, whole = {}, False
        there = [self._out[thing] for thing in look.things if thing in self._out]
        await self._judge_refused(seen)
        settled = await self._judge(
            [(todo, *self._found(todo, seen, whole=whole)) for todo in there], look.began_s
        )
        if page != EVERYWHERE and seen:
            for todo in there:
                if todo.thing.id in self._out and todo.thing.id not in seen:
                    self._move(todo, EVERYWHERE)
        self._looking.end(look, settled)
        self._bell.ring()

    async def _seen(self, page: int) -> tuple[dict[str, Thing], bool]:
        """The things on a page, or all, by id; and whether none can be missing."""
        if page == EVERYWHERE:
            roll = await call_roll(self._exchange, self._control, self._course.scope)
            for todo in (*self._out.values(), *self._waiting):
                if todo.thing.id in roll.positions:
                    self._move(todo, self._page_of(roll.positions[todo.thing.id]))
            return roll.things, roll.whole
        offset = page * self._page_size
        found = await self._exchange.run(self._control.list_things(self._course.scope, offset))
        return {thing.id: thing for thing in found.things}, False

    def _move(self, todo: Todo, page: int) -> None:
        if page != todo.page and todo.thing.id in self._out:
            self._looking.move(todo.page, page, todo.thing.id)
        todo.page = page

    def _found(
        self, todo: Todo, seen: Mapping[str, Thing], *, whole: bool
    ) -> tuple[Thing | None, Evidence]:
        """The thing as a look shows it, and what that says; nothing where it was not seen."""
        now = seen.get(todo.thing.id)
        if now is None and not whole:
            return None, Evidence(Sign.SILENT)
        found = self._control.evidence(self._course.action, todo.mark, now, begun=todo.begun)
        todo.begun = todo.begun or found.begun
        return now, found

    async def _judge_refused(self, seen: Mapping[str, Thing]) -> None:
        """Those that a full queue refused may be asked for again, unless they were taken."""
        for todo in [t for t in islice(self._waiting, 2 * SENDING_AT_ONCE) if t.look_first]:
            if todo.thing.id not in seen:
                # Not where it was: it is looked for in the whole, until its time is up.
                todo.page = EVERYWHERE if seen else todo.page
                continue
            todo.look_first = False
            _, found = self._found(todo, seen, whole=False)
            if found.sign in {Sign.NOTHING, Sign.SILENT}:
                continue
            self._waiting.remove(todo)
            deed = await self._deeds.intend(todo.thing.id, todo.mark, self._clock.wall_at())
            if isinstance(deed, Held):
                self._leave(todo, "skipped", "another process is at it")
                continue
            todo.deed, todo.clear, todo.number = deed, True, None
            self._wait_for(todo)

    async def _judge(
        self, looks: Sequence[tuple[Todo, Thing | None, Evidence]], looked_s: float
    ) -> int:
        """How many of these have settled, by the look that began at `looked_s`; they end."""
        ended: list[tuple[Todo, ActionLine]] = []
        outcomes: list[Outcome] = []
        wall_at, settled = self._clock.wall_at(), 0
        for todo, now, found in looks:
            assert todo.since_s is not None
            word = verdict(todo, self._course, now, found, looked_s - todo.since_s)
            if word is not None:
                status, reason, after = word
                settled += found.sign in {Sign.SETTLED, Sign.FAILED}
                line = line_of(todo, self._course, status, reason, after, finished_at=wall_at)
                ended.append((todo, line))
                if todo.deed is not None:
                    outcomes.append(Outcome(todo.deed, status, after, reason))
            elif found.sign is Sign.UNDER_WAY and not todo.clear:
                todo.clear = True
                if todo.deed is not None:
                    outcomes.append(Outcome(todo.deed, ACCEPTED))
            elif now is not None and may_be_asked(todo, found, wall_at):
                await self._ask_anew(todo, now)
        if outcomes:
            await self._deeds.note(outcomes, wall_at)
        for todo, line in ended:
            self._forget(todo)
            self._end_line(line)
        return settled

    async def _ask_anew(self, todo: Todo, now: Thing) -> None:
        assert todo.deed is not None
        await self._deeds.undo(todo.deed)
        self._looking.drop(todo.page, todo.thing.id)
        del self._out[todo.thing.id]
        todo.deed = todo.made_at = todo.since_s = None
        todo.mark = Mark.of(now)
        self._waiting.appendleft(todo)

    # -- ends --------------------------------------------------------------------------------

    def _forget(self, todo: Todo) -> None:
        self._looking.drop(todo.page, todo.thing.id)
        del self._out[todo.thing.id]
        if todo.number is not None:
            self._cap.settled()

    def _leave(self, todo: Todo, status: str, reason: str | None = None) -> None:
        """The action ends without having been waited for."""
        self._sending.pop(todo.thing.id, None)
        self._end_line(self._line(todo, status, reason, None))
        self._bell.ring()

    def _line(self, todo: Todo, status: str, reason: str | None, after: str | None) -> ActionLine:
        wall_at = self._clock.wall_at()
        return line_of(todo, self._course, status, reason, after, finished_at=wall_at)

    def _close_unended(self, cause: BaseException | None) -> None:
        """Lines for what was stopped; its deeds stay open, so that the next run carries on."""
        wall_at = self._clock.wall_at()
        sending = [todo for todo in self._sending.values() if todo.thing.id not in self._out]
        for todo in (*self._out.values(), *sending, *self._waiting):
            self._end_line(unfinished(todo, self._course, cause, finished_at=wall_at))
