"""Task groups that raise one error, the one that matters, in place of a group of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from penstock.core.errors import Effect, PenstockError

T = TypeVar("T")


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """An anyio task group. Of several errors the one that stops the run is raised, else the first.

    What is no penstock error goes first of all: it is a defect, and must not hide behind one.
    """
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as several:
        errors = list(_leaves(several))
        raise min(errors, key=_weight) from None


async def each(
    things: Iterable[T],
    do: Callable[[T], Awaitable[None]],
    *,
    at_once: int,
    widening: Callable[[int], Awaitable[bool]] | None = None,
) -> None:
    """`do` done for each thing, begun in order, so many at once.

    With `widening`, one at first, and twice as many each time that it, asked with how many there
    are, says so.

    When one fails nothing more is begun, but what is under way ends first: a part that is nearly
    there is not sent twice because its neighbour failed. What stops the run, and what is no
    penstock error, ends all at once. The first failure is raised.
    """
    waiting = iter(things)
    failures: list[PenstockError] = []

    async def take() -> None:
        for thing in waiting:
            try:
                await do(thing)
            except PenstockError as error:
                if error.effect is Effect.STOP_RUN:
                    raise
                failures.append(error)
            if failures:
                return

    async def widen(widening: Callable[[int], Awaitable[bool]], group: TaskGroup) -> None:
        count = 1
        while count < at_once:
            if await widening(count):
                for _ in range(min(count, at_once - count)):
                    group.start_soon(take)
                    count += 1

    async with task_group() as outer:
        async with task_group() as group:
            if widening is None:
                for _ in range(max(at_once, 1)):
                    group.start_soon(take)
            else:
                group.start_soon(take)
                outer.start_soon(widen, widening, group)
        outer.cancel_scope.cancel()
    if failures:
        raise failures[0]


def _weight(error: BaseException) -> int:
    if not isinstance(error, PenstockError):
        return 0
    return 1 if error.effect is Effect.STOP_RUN else 2


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What the work returns. A cancellation that comes meanwhile is raised when it is done."""
    running = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        running.exception()
        raise cancelled
    return running.result()
