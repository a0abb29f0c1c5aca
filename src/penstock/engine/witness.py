"""What proves that the platform holds our bytes: what it states of them, or reading them back."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from penstock.core.errors import DigestMismatch
from penstock.core.model import Part, Receipt, RemoteFile, Response
from penstock.core.plan import cut, upload_part_size
from penstock.core.proof import (
    TagKind,
    Weight,
    candidate_part_sizes,
    multipart_tag,
    promised_digests,
    read_tag,
    weigh,
)
from penstock.core.transfers import UpTransfer
from penstock.engine import files
from penstock.engine.context import Context
from penstock.engine.digests import can_digest
from penstock.engine.exchange import Tally
from penstock.engine.files import hop
from penstock.engine.leases import Leases
from penstock.engine.reserving import open_partial
from penstock.engine.rows import Row


class Witness:
    """What can be had of one file that was sent."""

    def __init__(self, context: Context, transfer: UpTransfer, tally: Tally) -> None:
        self._context = context
        self._exchange = context.exchange
        self._choices = context.choices
        self._transfer = transfer
        self._tally = tally
        self.states_another = False
        """Whether the storage stated a digest that is not ours, the last time it was asked."""

    def names(self) -> set[str]:
        """Digests to take of the source."""
        known = {name for name in self._transfer.promised if can_digest(name)}
        return {"md5", *known, *self._choices.checksums}

    async def weigh(
        self, row: Row, remote: RemoteFile, size: int, whole: Mapping[str, str]
    ) -> tuple[str | None, dict[str, str]]:
        """What proves that the platform holds our bytes, if anything does, and their digests."""
        if remote.lease is None and self._exchange.platform.traits.listing_leases:
            # A listing that gives a URL wherever there is one gave none: the storage is not asked.
            return None, {}
        headers = (await self._probe(remote)).headers
        tag, path = read_tag(headers), self._transfer.local_path
        stated = {
            name: value for name, value in promised_digests(headers).items() if can_digest(name)
        }
        if tag.kind is TagKind.OPAQUE and not stated:
            return None, {}
        actual = dict(whole)
        if not actual or not actual.keys() >= stated.keys():
            actual = await files.digest_file(path, size, self.names() | stated.keys())
        multipart = None
        if tag.kind is TagKind.MULTIPART:
            usual = self._exchange.platform.traits.etag_part_sizes
            traits = self._exchange.platform.traits
            own = [own for own in (row.part_size, self._choices.part_size) if own]
            planned = upload_part_size(size, traits)
            for candidate in candidate_part_sizes(size, tag.parts, (*own, planned, *usual)):
                multipart = multipart_tag(await files.block_md5s(path, size, candidate))
                if multipart == tag.text:
                    break
        finding = weigh(manifest={}, stated=stated, tag=tag, actual=actual, multipart=multipart)
        self.states_another = finding.weight not in {Weight.PROVED, Weight.OPEN}
        return (finding.by if finding.weight is Weight.PROVED else None), actual

    async def _probe(self, remote: RemoteFile) -> Response:
        leases = Leases(self._exchange, self._context.renewals, remote, self._tally)
        return await leases.ask(self._exchange.platform.probe)

    async def read_back_unproved(self, row: Row, file: RemoteFile, size: int) -> dict[str, str]:
        """The digests of a file an earlier run sent unproved, read back and held against it now.

        Raises `DigestMismatch`.
        """
        path = self._transfer.local_path
        parts = cut(size, upload_part_size(size, self._exchange.platform.traits))
        md5s = await files.block_md5s(path, size, parts[0].length or 1)
        receipts = [
            Receipt(part.number, part.offset, part.length, md5)
            for part, md5 in zip(parts, md5s, strict=True)
        ]
        await self.read_back(row, file, receipts)
        return await files.digest_file(path, size, self.names())

    async def read_back(self, row: Row, file: RemoteFile, receipts: list[Receipt]) -> None:
        """Nothing, or `DigestMismatch`: the bytes fetched again and held against what was sent."""
        folder = str(self._context.ledger.path.parent)
        platform = self._exchange.platform
        leases = Leases(self._exchange, self._context.renewals, file, self._tally)
        size = self._transfer.found.size
        for receipt in receipts:
            partial = f"{folder}/.penstock-{row.id}-{receipt.number}.part"
            await hop(open_partial, partial, receipt.length)
            try:
                ask = functools.partial(
                    platform.get_part,
                    part=Part(receipt.number, receipt.offset, receipt.length),
                    sink=partial,
                    total=size,
                    validator=None,
                    digests=frozenset(("md5",)),
                )
                answer = await leases.ask(ask)
            finally:
                await files.remove(partial)
            if answer.digests["md5"] != receipt.md5:
                raise DigestMismatch(
                    f"{self._transfer.destination} read back is not what was sent (part "
                    f"{receipt.number}): sent md5 {receipt.md5}, got {answer.digests['md5']}; "
                    "run the command again, with --on-conflict overwrite if it still stands there",
                    expected=receipt.md5,
                    actual=answer.digests["md5"],
                )
