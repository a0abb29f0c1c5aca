"""What a platform may offer beside `Platform` about looking for places and files.

None of it need be there: without, a folder is listed whole, and looking up costs what it costs.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from penstock.core.model import Place
from penstock.platforms.base import Platform
from penstock.platforms.handing import Carrying


@runtime_checkable
class NarrowsListings(Protocol):
    """A platform whose listing of a folder can be narrowed to names that begin alike."""

    def beginning(self, folder: Place, prefix: str) -> Place:
        """What stands in a folder and begins with `prefix`, as a place to list. Asks nothing."""
        ...


@runtime_checkable
class TellsSpared(Protocol):
    """A platform that tells what looking for a place has shown besides where it is.

    A plan then knows what a copy spends for which the place is remembered. Of a platform that does
    not tell, a plan counts looking as if it had to be done again.
    """

    @property
    def spared(self) -> int:
        """Requests that this run need not send for having looked, and a later run sends."""
        ...


def narrowing(platform: Platform) -> NarrowsListings | None:
    """Who narrows listings of the platform's own containers, if it can."""
    own = platform.own if isinstance(platform, Carrying) else platform
    return own if isinstance(own, NarrowsListings) else None


def spared_by(platform: Platform) -> int | None:
    """Requests that looking for places has saved this run alone; None: it is not told."""
    own = platform.own if isinstance(platform, Carrying) else platform
    return own.spared if isinstance(own, TellsSpared) else None
