"""What every worker of a run shares: who talks, remembers and is told, and the choices made."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import field

import anyio

from penstock.core.events import Event, Note
from penstock.core.transfers import Choices
from penstock.core.values import quick_value
from penstock.engine.clock import Clock
from penstock.engine.exchange import Exchange
from penstock.engine.folders import Folders
from penstock.engine.gathering import Gathered
from penstock.engine.leases import Renewals
from penstock.engine.ledger import Ledger
from penstock.engine.openuploads import OpenUploads
from penstock.engine.stretches import Pace

# Parts of one file in flight, at least; as many as the width says where that is more. Those that
# wait for a permit cost nothing. Parts go up in 64 MiB and more, ranges come down in 16 to 64.
PARTS_UP_AT_ONCE = 4
RANGES_AT_ONCE = 8


class Sent:
    """What a run sends where names are not unique: of a name and a digest one file is enough.

    Who sends it is alone with it. What was sent is known by a hash, so that very many fit; a lock
    is there for as long as somebody holds it or waits.
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, str] = {}
        self._locks: dict[bytes, tuple[anyio.Lock, int]] = {}

    @asynccontextmanager
    async def alone(self, name: str, digest: str) -> AsyncIterator[bytes]:
        """The key of a name and a digest, held by nobody else."""
        text = f"{digest} {name}".encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(text, digest_size=16).digest()
        lock, users = self._locks.get(key, (anyio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield key
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)

    def file_id(self, key: bytes) -> str | None:
        """The id of the file that was sent."""
        return self._ids.get(key)

    def note(self, key: bytes, file_id: str | None) -> None:
        """The file was sent."""
        if file_id is not None:
            self._ids[key] = file_id


@quick_value(frozen=True, slots=True)
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
    renewals: Renewals = field(default_factory=Renewals)
    sent: Sent = field(default_factory=Sent)
    """What this run sends where names are not unique."""
    files: Gathered = field(default_factory=Gathered)
    """Where small jobs on local files are done."""
    pace: Pace = field(default_factory=Pace)
    """What a stream of the run brings."""
    said: set[str] = field(default_factory=set)
    """Notes that were told, each once."""
    facts: dict[str, str | None] = field(default_factory=dict)
    """What was learnt of the platform's endpoint, as far as it was asked for."""

    @property
    def parts_up_at_once(self) -> int:
        """Parts of one file in flight on the way up. All the bodies there are may be one file's."""
        return max(PARTS_UP_AT_ONCE, self.exchange.permits.width.width // 2)

    @property
    def ranges_at_once(self) -> int:
        """Ranges of one file in flight on the way down."""
        return max(RANGES_AT_ONCE, self.exchange.permits.width.width)

    async def fact(self, name: str) -> str | None:
        """What is known of the platform's endpoint: as this run first found it, or learnt since."""
        if name not in self.facts:
            self.facts[name] = await self.ledger.fact(self.exchange.platform.endpoint, name)
        return self.facts[name]

    async def remember_fact(self, name: str, value: str) -> None:
        """Something was learnt of the platform's endpoint, for this run and later ones."""
        self.facts[name] = value
        await self.ledger.remember_fact(self.exchange.platform.endpoint, name, value)

    def say_once(self, message: str) -> None:
        """A note, unless this run has told it."""
        if message not in self.said:
            self.said.add(message)
            self.emit(Note(message))
