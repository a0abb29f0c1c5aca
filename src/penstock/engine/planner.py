"""What a planner hands on, and what both ways share: what is meant, and how it is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import TypeAlias

from penstock.core.errors import (
    PenstockError,
)
from penstock.core.globs import Selection
from penstock.core.lifecycle import State
from penstock.core.locations import Remote, Url, escape
from penstock.core.model import Found, Place
from penstock.core.transfers import Transfer
from penstock.core.values import quick_value
from penstock.engine.clock import Clock
from penstock.engine.exchange import Exchange
from penstock.engine.survey import (
    Surveyor,
)


@quick_value(frozen=True, slots=True)
class Unmoved:
    """A file of the command that is not to move, and why."""

    source: str
    destination: str
    state: State
    reason: str | None = None
    error: PenstockError | None = None
    size: int | None = None


Planned: TypeAlias = Transfer | Unmoved
Deliver: TypeAlias = Callable[[Sequence[Planned]], Awaitable[None]]

BATCH = 200


@quick_value(frozen=True, slots=True)
class Selecting:
    """Which files of a source are meant, and how sources keep their names."""

    selection: Selection = field(default_factory=Selection)
    follow: bool = False
    keep_names: bool = False
    min_age_s: float = 0.0
    leave_out: frozenset[str] = frozenset()
    """Absolute paths of what the run itself writes."""


def join(*parts: str) -> str:
    """The parts that are not empty, as one path."""
    return "/".join(filter(None, parts))


class Planner:
    """What both ways share."""

    def __init__(
        self,
        profile: str,
        exchange: Exchange,
        surveyor: Surveyor,
        selecting: Selecting,
        clock: Clock,
        deliver: Deliver,
    ) -> None:
        self._profile = profile
        self._exchange = exchange
        self._surveyor = surveyor
        self._selecting = selecting
        self._clock = clock
        self._deliver = deliver
        self._escapes_names = exchange.platform.traits.escapes_names
        self._takes_all = not selecting.selection.rules and not selecting.min_age_s
        self._written: dict[str, str] = {}

    def _left_out(self, relative: str, changed_at: Callable[[], float | None]) -> str | None:
        """Why a file is not meant; None where it is."""
        if self._takes_all:
            return None
        if not self._selecting.selection.takes(relative):
            return "excluded"
        young = self._selecting.min_age_s
        if young:
            at = changed_at()
            if at is not None and at > self._clock.wall_at() - young:
                return "too new"
        return None

    def _shown(self, place: Place, *names: str) -> str:
        container = self._written.get(place.container, place.container)
        below = [self._named(part) for part in (place.path, *names)]
        return f"{self._profile}:{join(container, *below)}"

    def _named(self, path: str) -> str:
        """A path of names as a location writes it."""
        if not self._escapes_names:
            return path
        return "/".join(escape(name) for name in path.split("/"))

    async def _look(self, place: Place) -> Found:
        """What stands at a place. It is shown by the names it was written with."""
        found = await self._surveyor.find(place)
        self._written[found.place.container] = place.container
        return found


def remote_path(location: Remote | Url) -> str:
    """What a platform is asked for by a location: a path, an id or a URL."""
    if isinstance(location, Url):
        return location.url
    return f"id={location.id}" if location.id is not None else location.path
