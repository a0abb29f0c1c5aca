"""What every worker of a run shares: who talks, remembers and is told, and the choices made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from penstock.core.events import Event, Note
from penstock.core.transfers import Choices
from penstock.engine.clock import Clock
from penstock.engine.exchange import Exchange
from penstock.engine.folders import Folders
from penstock.engine.gathering import Gathered
from penstock.engine.leases import Renewals
from penstock.engine.ledger import Ledger
from penstock.engine.openuploads import OpenUploads

# Parts of one file in flight: enough to fill a long pipe, few enough that a kill costs little.
# Parts go up in 64 MiB and more, ranges come down in 8 to 64.
PARTS_UP_AT_ONCE = 4
RANGES_AT_ONCE = 8


@dataclass(slots=True)
class Sent:
    """A name and a digest of which one file is enough: who sends it holds the lock."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    file_id: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """A run's shared means. Workers change none of it."""

    run: str
    exchange: Exchange
    ledger: Ledger
    clock: Clock
    choices: Choices
    emit: Callable[[Event], None]
    uploads: OpenUploads
    began_at: float = math.inf
    """When the run began to look at its destination, by our own clock."""
    folders: Folders | None = None
    """Where the run sends to; None where it fetches."""
    parts_up_at_once: int = PARTS_UP_AT_ONCE
    ranges_at_once: int = RANGES_AT_ONCE
    renewals: Renewals = field(default_factory=Renewals)
    sent: dict[tuple[str, str], Sent] = field(default_factory=dict)
    """By name and digest, what this run sends where names are not unique."""
    files: Gathered = field(default_factory=Gathered)
    """Where small jobs on local files are done."""
    said: set[str] = field(default_factory=set)
    """Notes that were told, each once."""

    def say_once(self, message: str) -> None:
        """A note, unless this run has told it."""
        if message not in self.said:
            self.said.add(message)
            self.emit(Note(message))
