"""What stands where a run sends to: each remote folder is listed once, before anything goes there.

What a listing does not show is known not to be there, so nothing is asked below a folder that is
missing.
"""

from __future__ import annotations

from penstock.core.model import Found, Place
from penstock.engine.exchange import Exchange
from penstock.engine.folders import Folders
from penstock.engine.listings import Listings
from penstock.engine.survey import Listing, Surveyor


class There:
    """A destination as it was found, the folders below it, and what is in them."""

    def __init__(self, exchange: Exchange, surveyor: Surveyor, found: Found) -> None:
        self.found = found
        self.folders = Folders(exchange, found.place)
        self._surveyor = surveyor
        self._listings = Listings()

    async def list(self, place: Place) -> Listing:
        """The listing of a folder that is there, made now."""
        return self._listings.put(place.path, await self._surveyor.listing(place))

    async def listing_of(self, place: Place) -> Listing:
        """A folder's listing; empty where the listings above it show that it is not there."""
        listed = self._listings.get(place.path)
        if listed is not None:
            return listed
        known = self.folders.known(place.path)
        if known is None and not self._is_missing(place.path):
            above, _, name = place.path.rpartition("/")
            if len(above) >= len(self.found.place.path):
                inside = self._listings.folders(above)
                if inside is None:
                    inside = (await self.listing_of(Place(place.container, above))).folders
                if name in inside:
                    known = Place(place.container, place.path, inside[name].id)
                    self.folders.learn(known)
        if known is None:
            return self._listings.put(place.path, Listing())
        return await self.list(known)

    def _is_missing(self, path: str) -> bool:
        """Whether looking for the destination has shown that nothing is at or below a path."""
        if not self.found.missing:
            return not path
        above, name = self.found.place.path, self.found.missing[0]
        first = f"{above}/{name}" if above else name
        return path == first or path.startswith(f"{first}/")
