"""One action on one thing on its way from planned to ended, and the line it ends with."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.core.actionreport import ActionLine
from penstock.core.errors import PenstockError
from penstock.core.units import format_duration
from penstock.core.values import quick_value
from penstock.platforms.control import Evidence, Mark, Scope, Sign, Thing

# How long a request whose sender is gone may take to show in the platform's memory. A guess:
# gateways answer, or drop, within seconds.
SHOWS_WITHIN_S = 15.0


@dataclass(slots=True, eq=False)
class Todo:
    """One action on one thing. `since_s`: since when it is waited for, by the loop's clock.

    `clear`: the platform is known to have taken it. `made_at` (epoch seconds) is when a run that
    was cut off intended it. `look_first`: a full queue refused it, so that it is looked at before
    it is asked for again: a gateway may say 503 over what was done.
    """

    thing: Thing
    mark: Mark
    page: int
    deed: int | None = None
    made_at: float | None = None
    number: int | None = None
    since_s: float | None = None
    clear: bool = False
    begun: bool = False
    first_tried_s: float | None = None
    look_first: bool = False


@quick_value(frozen=True, slots=True)
class Course:
    """What a run of actions does: which, where, how long each is waited for."""

    action: str
    scope: Scope
    wait: bool
    timeout_s: float
    pace_s: float


def line_of(
    todo: Todo,
    course: Course,
    status: str,
    reason: str | None,
    after: str | None,
    *,
    finished_at: float,
) -> ActionLine:
    """The line of an action that ended so."""
    return ActionLine(
        todo.thing.id,
        todo.thing.name,
        course.action,
        todo.mark.status,
        after,
        status,
        reason,
        finished_at,
    )


def unfinished(
    todo: Todo, course: Course, cause: BaseException | None, *, finished_at: float
) -> ActionLine:
    """The line of an action that was stopped by `cause`: taken, perhaps taken, or never sent."""
    status = "accepted" if todo.clear else "unknown" if todo.deed is not None else "failed"
    why = f": {cause}" if isinstance(cause, PenstockError) else ""
    return line_of(todo, course, status, f"not finished{why}", None, finished_at=finished_at)


def verdict(
    todo: Todo, course: Course, now: Thing | None, found: Evidence, waited_s: float
) -> tuple[str, str | None, str | None] | None:
    """Status, reason and state that a look ends an action with; None: it is waited for still.

    `now` is None for what is gone, and for what could not be looked at (then nothing was found).
    """
    if found.sign in {Sign.SETTLED, Sign.FAILED}:
        after = now.status if now is not None else "deleted"
        return found.sign.value, found.reason, after
    seen = now.status if now is not None else None
    over = waited_s >= course.timeout_s
    if todo.clear or found.sign is Sign.UNDER_WAY:
        if not over:
            return None
        return "accepted", f"not settled within {format_duration(course.timeout_s)}", seen
    # What a killed run intended and never sent is asked for instead, so it is not given up here.
    unseen = found.sign is Sign.NOTHING and waited_s >= SHOWS_WITHIN_S and todo.made_at is None
    if not (over or unseen):
        return None
    return "unknown", "the answer was lost, and nothing shows whether it was done", seen


def may_be_asked(todo: Todo, found: Evidence, wall_at: float) -> bool:
    """Whether what a killed run left intended was certainly never taken, so that it may be sent."""
    return (
        found.sign is Sign.NOTHING
        and not todo.clear
        and todo.made_at is not None
        and wall_at - todo.made_at >= SHOWS_WITHIN_S
    )
