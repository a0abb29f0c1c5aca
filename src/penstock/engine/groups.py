"""Task groups that raise one error, the one that matters, in place of a group of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from penstock.core.errors import Effect, PenstockError


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
