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
    under_way = 0
    trying = anyio.CancelScope()

    async def take() -> None:
        nonlocal under_way
        try:
            for thing in waiting:
                try:
                    await do(thing)
                except PenstockError as error:
                    if error.effect is Effect.STOP_RUN:
                        raise
                    failures.append(error)
                if failures:
                    return
        finally:
            under_way -= 1
            if not under_way:
                trying.cancel()

    def start(count: int) -> None:
        nonlocal under_way
        under_way += count
        for _ in range(count):
            group.start_soon(take)

    async def widen(widening: Callable[[int], Awaitable[bool]]) -> None:
        count = 1
        with trying:
            while count < at_once:
                wider = await widening(count)
                if not under_way:
                    return  # What there was has been done meanwhile.
                if wider:
                    more = min(count, at_once - count)
                    start(more)
                    count += more

    async with task_group() as group:
        start(1 if widening is not None else max(at_once, 1))
        if widening is not None:
            group.start_soon(widen, widening)
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
