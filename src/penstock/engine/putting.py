"""Sends the parts of one upload: each once, its ETag held against the MD5 of what went.

The source is looked at before each part; one that changed under us fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from penstock.core.errors import Refused, TransferError
from penstock.core.model import Part, Receipt, Upload
from penstock.core.proof import TagKind, tag_of
from penstock.core.transfers import UpTransfer
from penstock.engine import files
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.files import hop
from penstock.engine.groups import each


class UploadGone(TransferError):
    """The platform does not know the upload any more; it is begun anew."""


class Sending:
    """The parts of one transfer."""

    def __init__(
        self,
        context: Context,
        transfer: UpTransfer,
        row: int,
        tally: Tally,
        progress: Callable[[int], None],
    ) -> None:
        self._context = context
        self._exchange = context.exchange
        self._transfer = transfer
        self._row = row
        self._tally = tally
        self._progress = progress
        self.distrusted = False
        """Whether this storage's ETags were seen to prove nothing."""
        self.asked = False
        """Whether an answer was lost, and asking showed that the part is there."""

    async def known_receipts(self, parts: tuple[Part, ...]) -> dict[int, Receipt]:
        """Receipts of parts cut as they are now.

        What a receipt says was sent is still the source's: the fingerprint has not changed.
        """
        cut_now = {(part.number, part.offset, part.length) for part in parts}
        return {
            receipt.number: receipt
            for receipt in await self._context.ledger.receipts(self._row)
            if (receipt.number, receipt.offset, receipt.length) in cut_now
        }

    async def put_all(
        self, upload: Upload, missing: list[Part], receipts: dict[int, Receipt]
    ) -> None:
        """Every missing part sent; so many at once, or in order where the platform says so."""

        async def put(part: Part) -> None:
            receipt = await self.put(upload, part)
            await self._context.ledger.add_receipt(self._row, receipt)
            receipts[part.number] = receipt

        width = min(self._context.parts_up_at_once, len(missing)) if upload.parallel else 1
        await each(missing, put, at_once=width)

    async def put(self, upload: Upload, part: Part) -> Receipt:
        """One part's receipt, its ETag held against the MD5 of what went; not yet remembered.

        A wrong ETag: sent again. Another wrong one: this storage's ETags prove nothing, and the
        completed file is read back.
        """
        first = await self._put_once(upload, part)
        if self.distrusted or not is_wrong(first):
            return first
        self._progress(-part.length)
        second = await self._put_once(upload, part)
        if is_wrong(second):
            self.distrusted = True
        return second

    async def _put_once(self, upload: Upload, part: Part) -> Receipt:
        if not 0 < part.length <= files.READ_SIZE:  # else the last look is the first
            await files.unchanged(self._transfer.local_path, self._transfer.found)
        flow = self._exchange.platform.put_part(upload, part, self._transfer.local_path)
        try:
            receipt = await self._exchange.run(
                flow,
                tally=self._tally,
                progress=self._progress,
                beside=_LastLook(self._transfer, part),
            )
        except Refused as refused:
            if refused.status in {404, 410}:
                raise UploadGone(
                    f"the upload of {self._transfer.source} is gone: {refused}"
                ) from refused
            raise
        if receipt.md5:
            return receipt
        # It went, and its answer did not come: what went is still the source's.
        self.asked = True
        digests = await hop(
            files.digest_slice, self._transfer.local_path, part.offset, part.length, ("md5",)
        )
        await files.unchanged(self._transfer.local_path, self._transfer.found)
        return replace(receipt, md5=digests["md5"])


class _LastLook(files.Beside):
    """Looks at the source when a part's last bytes were read, before they are sent.

    Where the part is the whole file, its last byte is what gives it its name there: a source that
    changed until then must not get one.
    """

    def __init__(self, transfer: UpTransfer, part: Part) -> None:
        self._transfer = transfer
        self._end = part.offset + part.length

    def __call__(self, offset: int, data: bytes | memoryview) -> None:
        """`SourceChanged`, where it has; in the thread that reads."""
        if offset + len(data) == self._end:
            files.check_unchanged(self._transfer.local_path, self._transfer.found)


def is_wrong(receipt: Receipt) -> bool:
    """Whether the storage states a digest of the part, and it is another."""
    tag = tag_of(receipt.etag)
    return receipt.proves and tag.kind is TagKind.MD5 and tag.hex != receipt.md5
