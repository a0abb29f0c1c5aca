"""Folders on the platform: each is listed at most once a run, made at most once, when first needed.

A folder is made by the first transfer that has something to put there; all others wait for it, and
what was refused once is not asked again.
What is known to exist came from a listing of its parent, so nothing is asked to find out.
"""

from __future__ import annotations

import anyio

from penstock.core.errors import PenstockError, Refused, TransferError
from penstock.core.model import Place
from penstock.engine.exchange import Exchange


class Folders:
    """The folders below one destination."""

    def __init__(self, exchange: Exchange, root: Place) -> None:
        self._exchange = exchange
        self.container = root.container
        self._known: dict[str, Place] = {root.path: root}
        self._locks: dict[str, anyio.Lock] = {}
        self._refused: dict[str, PenstockError] = {}
        self.made = 0

    def learn(self, place: Place) -> None:
        """The folder exists."""
        self._known[place.path] = place

    def known(self, path: str) -> Place | None:
        """The folder at a path below the container, if it is known to exist."""
        return self._known.get(path)

    async def ensure(self, place: Place) -> Place:
        """The folder, made now where it is missing, and its parents before it."""
        found = self._known.get(place.path)
        if found is not None:
            return found
        async with self._locks.setdefault(place.path, anyio.Lock()):
            found = self._known.get(place.path)
            if found is not None:
                return found
            if place.path in self._refused:
                raise self._refused[place.path]
            above, _, name = place.path.rpartition("/")
            parent = await self.ensure(Place(place.container, above))
            try:
                made = await self._exchange.run(self._exchange.platform.make_folder(parent, name))
            except (Refused, TransferError) as error:
                self._refused[place.path] = error
                raise
            self.made += 1
            self._known[place.path] = made
            return made
