"""What every worker of a run shares: who talks, remembers and is told, and the choices made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from penstock.core.events import Event
from penstock.core.transfers import Choices
from penstock.engine.clock import Clock
from penstock.engine.exchange import Exchange
from penstock.engine.folders import Folders
from penstock.engine.leases import Renewals
from penstock.engine.ledger import Ledger
from penstock.engine.openuploads import OpenUploads

# Parts of one file in flight: enough to fill a long pipe, few enough that a kill costs little.
# Parts go up in 64 MiB and more, ranges come down in 8 to 64.
PARTS_UP_AT_ONCE = 4
RANGES_AT_ONCE = 8


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
    folders: Folders | None = None
    """Where the run sends to; None where it fetches."""
    parts_up_at_once: int = PARTS_UP_AT_ONCE
    ranges_at_once: int = RANGES_AT_ONCE
    renewals: Renewals = field(default_factory=Renewals)
