"""Small jobs on files, done many in one thread hop: whoever waits at the same moment goes along.

A hop costs some 100 µs whatever it does, a folder's flush the same for one new name as for a
hundred. So jobs that come within one turn of the event loop, and those that come while the lanes
are busy, are done together, in order; folders they name are flushed once, behind all of them. Only
jobs of about a millisecond belong here, for each waits for its neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

from penstock.engine.files import flush_folder

T = TypeVar("T")

# Batches at work at once: one writes while another waits for the disk.
_LANES = 2
# Jobs in one batch: what a stop waits for stays short.
_MOST = 32


@dataclass(slots=True, eq=False)
class _Job:
    """One piece of work, the folder to flush behind it, and whom to tell."""

    work: Callable[[], Any]
    folder: str | None
    future: asyncio.Future[Any]
    is_done: bool = False

    async def settled(self) -> None:
        """Whoever asked was cancelled: it is done all the same, in its turn."""
        while not self.is_done:
            if self.future.done():
                self.future = asyncio.get_running_loop().create_future()
            with suppress(asyncio.CancelledError):
                await asyncio.wait((self.future,))
        if not self.future.cancelled():
            self.future.exception()  # Seen: nobody is left to tell.


class Gathered:
    """Jobs waiting for a thread. Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Job] = []
        self._at_work = 0
        self._called = False

    async def do(self, work: Callable[[], T], folder: str | None = None) -> T:
        """What `work` returns, done in a thread; `folder`, if any, is flushed behind it.

        Cancelled, it is done all the same, if it was begun or not, before the cancellation is
        raised. Raises what `work` does.
        """
        job = _Job(work, folder, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._call()
        try:
            result: T = await job.future
        except asyncio.CancelledError:
            # anyio cancels anew at every turn of the loop, but for a shielded scope.
            with anyio.CancelScope(shield=True):
                await job.settled()
            raise
        return result

    def _call(self) -> None:
        """Looks for work at the end of this turn of the loop: others may come until then."""
        if not self._called and self._at_work < _LANES:
            self._called = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._called = False
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        if not batch:
            return
        self._at_work += 1
        running = asyncio.get_running_loop().run_in_executor(None, _work, batch)
        running.add_done_callback(lambda done: self._ended(batch, done))
        if self._waiting:
            self._call()

    def _ended(
        self, batch: list[_Job], done: asyncio.Future[list[tuple[Any, BaseException | None]]]
    ) -> None:
        self._at_work -= 1
        for job, (result, failure) in zip(batch, done.result(), strict=True):
            job.is_done = True
            if job.future.done():
                continue  # Cancelled, a moment ago: `settled` looks.
            if failure is not None:
                job.future.set_exception(failure)
            else:
                job.future.set_result(result)
        if self._waiting:
            self._call()


def _work(batch: list[_Job]) -> list[tuple[Any, BaseException | None]]:
    outcomes: list[tuple[Any, BaseException | None]] = []
    folders: dict[str, None] = {}
    for job in batch:
        try:
            outcomes.append((job.work(), None))
        except Exception as error:  # noqa: BLE001 - it is one caller's, and raised there
            outcomes.append((None, error))
        else:
            if job.folder is not None:
                folders[job.folder] = None
    for folder in folders:
        flush_folder(folder)
    return outcomes
