"""Stores metadata with files: as many a request as the platform takes, what was stored remembered.

Files wait here until a request is full, or the run's last one is near. The digest of what was
stored goes to the ledger, so that a corrected table sends the changed rows and no bytes, and an
unchanged one sends nothing. A request that is refused as a whole is halved until the files that
are to blame stand alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence

from penstock.core.errors import (
    Effect,
    ExchangeError,
    MetadataRefused,
    PenstockError,
    Refused,
    RunStopped,
)
from penstock.core.transfers import Ended, UpTransfer
from penstock.core.values import quick_value
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.platforms.describing import Attachment, keeper_of

# Refusals that may be about one of many: the request was understood, and something in it was not.
_DIVISIBLE = frozenset((400, 413, 422))


def digest_of(text: str) -> str:
    """What the ledger remembers of metadata that is stored."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@quick_value(frozen=True, slots=True)
class Waiting:
    """A transfer whose content is there and whose metadata is still to be stored."""

    transfer: UpTransfer
    number: int
    """Its row in the ledger."""
    ended: Ended
    tally: Tally
    began_s: float

    @property
    def attachment(self) -> Attachment:
        """What is sent."""
        placed, transfer = self.ended.destination, self.transfer
        name = placed.rpartition("/")[2] if placed is not None else transfer.name
        assert transfer.metadata is not None
        return Attachment(transfer.folder, name, self.ended.id, transfer.metadata)


Settle = Callable[[Waiting, PenstockError | None], Awaitable[None]]


class Attachments:
    """What waits to have its metadata stored. `settle` is told how each ended."""

    def __init__(self, context: Context, settle: Settle) -> None:
        self._context = context
        self._settle = settle
        self._waiting: list[Waiting] = []

    async def add(self, waiting: Waiting) -> None:
        """It waits; if a request is full now, that is sent."""
        self._waiting.append(waiting)
        if len(self._waiting) >= self._context.exchange.platform.traits.attached_at_once:
            await self.flush()

    async def flush(self) -> None:
        """Everything that waited until now is stored, or was refused."""
        size = self._context.exchange.platform.traits.attached_at_once
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), size):
            await self._store(waiting[first : first + size])

    async def _store(self, batch: Sequence[Waiting]) -> None:
        try:
            reasons = await attach(self._context, [one.attachment for one in batch], batch[0].tally)
        except ExchangeError as error:
            if error.effect is Effect.STOP_RUN:
                raise RunStopped(str(error)) from error
            divisible = isinstance(error, Refused) and error.status in _DIVISIBLE
            if divisible and len(batch) > 1:
                half = len(batch) // 2
                await self._store(batch[:half])
                await self._store(batch[half:])
                return
            for one in batch:
                await self._settle(one, _refused(one.transfer, str(error)))
            return
        stored = [
            (one.number, digest_of(one.attachment.text))
            for one, reason in zip(batch, reasons, strict=True)
            if reason is None
        ]
        await self._context.ledger.attached(stored)
        for one, reason in zip(batch, reasons, strict=True):
            await self._settle(one, None if reason is None else _refused(one.transfer, reason))


async def attach(
    context: Context, attachments: Sequence[Attachment], tally: Tally
) -> Sequence[str | None]:
    """Why each file's metadata was not taken, None where it was. Throws what the exchange does."""
    keeper = keeper_of(context.exchange.platform)
    assert keeper is not None, "nothing is planned for a platform that keeps none"
    return await context.exchange.run(keeper.attach(attachments), tally=tally)


def _refused(transfer: UpTransfer, reason: str) -> MetadataRefused:
    return MetadataRefused(
        f"the metadata of {transfer.destination} was not taken ({reason}); correct the table and "
        "run the same command again: content that is there is not sent again"
    )
