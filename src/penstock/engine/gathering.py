"""Small jobs on files, done many in one thread hop: whoever waits at the same moment goes along.

A hop costs some 100 µs whatever it does, a folder's flush the same for one new name as for a
hundred. So jobs that come within one turn of the event loop, and those that come while the lanes
are busy, are done together, in order; folders they name are flushed once, behind all of them. Only
jobs of about a millisecond belong here, for each waits for its neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from penstock.engine.files import flush_folder, settled

T = TypeVar("T")

# Batches at work at once: one writes while another waits for the disk.
_LANES = 2
# Jobs in one batch: what a stop waits for stays short.
_MOST = 32

_Job = tuple[Callable[[], Any], "str | None", "asyncio.Future[Any]"]


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
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, folder, future))
        self._call()
        return await settled(future)

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
        for (_, _, future), (result, failure) in zip(batch, done.result(), strict=True):
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(result)
        if self._waiting:
            self._call()


def _work(batch: list[_Job]) -> list[tuple[Any, BaseException | None]]:
    outcomes: list[tuple[Any, BaseException | None]] = []
    folders: dict[str, None] = {}
    for work, folder, _ in batch:
        try:
            outcomes.append((work(), None))
        except Exception as error:  # noqa: BLE001 - it is one caller's, and raised there
            outcomes.append((None, error))
        else:
            if folder is not None:
                folders[folder] = None
    for folder in folders:
        flush_folder(folder)
    return outcomes
