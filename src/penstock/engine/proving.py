"""Proves what has arrived where only a listing shows it: a page for fifty files, no request each.

A platform that takes a file in one request says nothing of the bytes it now holds. The folders
files went to are listed again when the last of them has arrived, and each file is held against
the storage by the URL its page brings. Of a folder that holds much else, only what begins as the
files' names do is listed; what that does not show is looked for in the whole of it. Until then it
is `arrived`, claimed, and not done: a run that is killed here sends nothing twice, for the next
one's listing shows the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from penstock.core.errors import PenstockError, Refused, Unproved
from penstock.core.model import Place, RemoteFile
from penstock.core.prefixes import pages_to_show
from penstock.core.transfers import Ended, UpTransfer
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.groups import each
from penstock.engine.ledger import Row
from penstock.engine.survey import Surveyor
from penstock.platforms.finding import narrowing

# Arrived files held in memory before their folders are listed, whatever is still under way.
MOST_UNPROVED = 20_000
# Listings of a folder before a file that it does not show is taken to be missing.
_LISTINGS = 3
_AT_ONCE = 16


@dataclass(slots=True)
class Arrival:
    """A transfer whose bytes were taken, and what is known of it so far."""

    transfer: UpTransfer
    row: Row
    ended: Ended
    tally: Tally
    began_s: float

    @property
    def name(self) -> str:
        """The name it went under."""
        placed = self.ended.destination
        return placed.rpartition("/")[2] if placed is not None else self.transfer.name


Settle = Callable[[Arrival, Ended | PenstockError], Awaitable[None]]


class Arrivals:
    """What has arrived and waits for its proof, by folder. `settle` is told how each ended."""

    def __init__(self, context: Context, settle: Settle) -> None:
        self._context = context
        self._settle = settle
        self._folders: dict[Place, dict[str, Arrival]] = {}
        self._count = 0
        self._proved: dict[Place, int] = {}

    def add(self, arrival: Arrival) -> bool:
        """Whether so many wait that it is time to prove them."""
        folder = arrival.transfer.folder
        if folder.id is None and self._context.folders is not None:
            folder = self._context.folders.known(folder.path) or folder
        self._folders.setdefault(folder, {})[arrival.name] = arrival
        self._count += 1
        return self._count >= MOST_UNPROVED

    async def prove(self) -> None:
        """Everything that has arrived until now is settled."""
        folders, self._folders, self._count = self._folders, {}, 0
        surveyor = Surveyor(self._context.exchange, None, self._context.emit)
        for folder, arrivals in folders.items():
            for listing in range(_LISTINGS):
                if not arrivals:
                    break
                if listing:
                    await self._context.exchange.pause()
                else:
                    for place in self._narrowed(folder, arrivals):
                        await self._list(surveyor, place, arrivals)
                if arrivals:
                    await self._list(surveyor, folder, arrivals)
            for arrival in arrivals.values():
                await self._settle(
                    arrival,
                    Unproved(
                        f"{arrival.transfer.source} was sent, and the platform does not list "
                        f"{arrival.transfer.destination}; run the same command to send it again"
                    ),
                )

    def _narrowed(self, folder: Place, arrivals: dict[str, Arrival]) -> list[Place]:
        """What to list in place of the whole folder, where that takes fewer pages."""
        platform = self._context.exchange.platform
        narrows = narrowing(platform)
        earlier = self._proved.get(folder, 0)
        self._proved[folder] = earlier + len(arrivals)
        if narrows is None or folder.id is None:
            return []
        standing = next(iter(arrivals.values())).transfer.siblings
        _, beginnings = pages_to_show(tuple(arrivals), standing, earlier, platform.traits.page_size)
        return [narrows.beginning(folder, prefix) for prefix in beginnings]

    async def _list(self, surveyor: Surveyor, folder: Place, arrivals: dict[str, Arrival]) -> None:
        try:
            async for files, _ in surveyor.pages_of(folder):
                shown = [(arrivals.pop(f.name), f) for f in files if f.name in arrivals]
                await each(shown, self._prove, at_once=_AT_ONCE)
                if not arrivals:
                    return
        except Refused as refused:
            if refused.status not in {400, 404}:
                raise

    async def _prove(self, shown: tuple[Arrival, RemoteFile]) -> None:
        arrival, file = shown
        from penstock.engine.upload import UploadRun  # noqa: PLC0415 - imported when bytes move

        run = UploadRun(self._context, arrival.transfer, arrival.row, arrival.tally)
        try:
            ended: Ended | PenstockError = await run.prove_listed(arrival.ended, file)
        except PenstockError as error:
            ended = error
        await self._settle(arrival, ended)
