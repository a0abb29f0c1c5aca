"""Moves one file up: an intent, an upload, its parts, and a proof of what the platform now holds.

The intent is committed before the upload is asked for, its id before the first byte moves, a
receipt before its part counts, an intent again before it is completed. So whatever moment the
process dies at, the next run knows what to ask, and asks only then. Each part's ETag is held
against the MD5 of the bytes that went; the source is looked at before each part and before the
end, and a file that changed under us fails.
"""

from __future__ import annotations

from functools import partial

import anyio

from penstock.core.errors import (
    Conflict,
    DigestMismatch,
    Effect,
    MetadataRefused,
    Refused,
    SourceChanged,
    TransferError,
)
from penstock.core.lifecycle import State
from penstock.core.model import (
    Completed,
    Place,
    Receipt,
    RemoteFile,
    Target,
    Upload,
)
from penstock.core.plan import cut
from penstock.core.traits import Attaches
from penstock.core.transfers import Ended
from penstock.engine import files
from penstock.engine.attaching import attach, digest_of
from penstock.engine.groups import task_group
from penstock.engine.putting import UploadGone, is_wrong
from penstock.engine.standing import GRACE_S, Standing, abandon
from penstock.platforms.describing import Attachment

# The part reports a profile refused in the completing request, remembered for later runs.
NEEDS_REPORTS = "needs reports"

# Times an upload that vanished on the platform is begun anew.
_BEGINNINGS = 2


class UploadRun(Standing):
    """One file's way up, claimed by this run."""

    async def run(self) -> Ended:
        """How the transfer ended; the ledger is told.

        Raises a penstock error where it failed. What was begun is aborted where going on would be
        wrong (the source changed, the bytes differ), and kept for the next run where it would not.
        """
        transfer, size = self._transfer, self._transfer.found.size
        largest = self._exchange.platform.traits.largest_file
        if size > largest:
            raise TransferError(
                f"{transfer.source} has {size} bytes; the platform takes files up to {largest}"
            )
        await self._check_unchanged()
        ledger, row = self._context.ledger, self._row
        intents = [] if row.is_new else await ledger.intents(row.id)
        begun = self._row.upload_id is not None or bool(intents)
        resuming = begun and self._row.source == transfer.found
        try:
            await self._check_promised(size)
            if transfer.namesakes is not None:
                return await self._unless_standing(transfer.namesakes, resuming=resuming)
            settled = None
            if transfer.existing is not None:
                completing = any(intent.kind == "complete" for intent in intents)
                settled = await self._existing(
                    transfer.existing, completing=resuming and completing
                )
        except TransferError:
            await self._abort()
            raise
        if settled is not None:
            return settled
        if not resuming or self._beginning.overwrite or self._name != transfer.name:
            await self._abandon_old()
        return await self._send_or_begin_anew(size)

    async def _send_or_begin_anew(self, size: int) -> Ended:
        """The file sent; begun anew where the platform does not know the upload any more."""
        for last_beginning in (*[False] * (_BEGINNINGS - 1), True):
            try:
                return await self._send(size)
            except UploadGone:
                if self._resumes:
                    await self._context.ledger.forget_upload(self._row.id)
                else:
                    await self._abort()
                if last_beginning:
                    raise
                self._row = await self._fresh_row()
            except (SourceChanged, Conflict, DigestMismatch):
                await self._abort()
                raise
        raise AssertionError("the last beginning returns or raises")

    # -- sending -----------------------------------------------------------------------------

    async def _send(self, size: int) -> Ended:
        """The file on the platform, proved."""
        place = await self._place()
        if self._exchange.platform.traits.digest_first is not None:
            await self._digest_first(size)
        target = Target(place, self._name, size, self._whole)
        if self._row.upload_id is not None and not self._resumes:
            ended = await self._complete_unsent(self._row.upload_id, target)
            if ended is not None:
                return ended
        upload = await self._beginning.begin(self._row, target)
        await self._attach(place)
        parts = cut(size, upload.part_size)
        # Where nothing but the listing shows a sent file, and it did not, it goes again.
        whole = len(parts) == 1 and self._exchange.platform.traits.puts_whole
        receipts = {} if self._seen_later or whole else await self._sending.known_receipts(parts)
        missing = [part for part in parts if part.number not in receipts]
        for part in parts:
            if part.number in receipts:
                self._progress(part.length)
        self._whole = self._whole or {}
        arrived = None
        if len(parts) > 1:
            async with task_group() as group:
                if not self._whole:
                    group.start_soon(self._digest_whole, size)
                await self._sending.put_all(upload, missing, receipts)
        elif missing:
            arrived = receipts[1] = await self._sending.put(upload, parts[0])
        if not self._whole and self._witness.names() != {"md5"}:
            await self._digest_whole(size)
        await self._check_unchanged()
        sent = [receipts[part.number] for part in parts]
        try:
            return await self._complete(upload, target, sent, arrived)
        except DigestMismatch:
            if self._withdrawn or upload.lease is None:
                raise
        # The platform refused to complete it: what arrived is not what was sent.
        self._progress(-size)
        await self._sending.put_all(upload, list(parts), receipts)
        return await self._complete(upload, target, [receipts[part.number] for part in parts])

    async def _check_unchanged(self) -> None:
        """Nothing, or `SourceChanged` where the local file is not as it was planned."""
        check = partial(files.check_unchanged, self._transfer.local_path, self._transfer.found)
        await self._context.files.do(check)

    async def _attach(self, place: Place) -> None:
        """Metadata stored, where the platform wants it before the content.

        Raises `MetadataRefused`; nothing of the content was sent then.
        """
        text, traits = self._transfer.metadata, self._exchange.platform.traits
        if text is None or traits.attaches is not Attaches.BEFORE:
            return
        if self._row.upload_id is not None and self._row.metadata == digest_of(text):
            self.attached = "unchanged"
            return
        existing = self._transfer.existing
        one = Attachment(place, self._name, existing.id if existing else None, text)
        try:
            (reason,) = await attach(self._context, [one], self._tally)
        except Refused as refused:
            if refused.effect is not Effect.FAIL_TRANSFER:
                raise
            reason = str(refused)
        if reason is not None:
            raise MetadataRefused(
                f"the metadata of {self._transfer.destination} was not taken, so its content was "
                f"not sent ({reason})"
            )
        await self._context.ledger.attached([(self._row.id, digest_of(text))])
        self.attached = "stored"

    async def _complete_unsent(self, upload_id: str, target: Target) -> Ended | None:
        """The end of an upload that a dead run began and may have sent; None where it had not.

        Nothing can be sent to it any more, so that it is aborted then.
        """
        receipt = Receipt(1, 0, target.size, self._whole["md5"])
        upload = Upload(upload_id, self._row.part_size or target.size, parallel=False)
        try:
            return await self._complete(upload, target, [receipt])
        except (UploadGone, DigestMismatch):
            await abandon(self._context, self._row)
            self._row = await self._fresh_row()
            return None

    async def _place(self) -> Place:
        folder = self._transfer.folder
        if folder.id is not None or not folder.path or self._context.folders is None:
            return folder
        return await self._context.folders.ensure(folder)

    async def _digest_whole(self, size: int) -> None:
        """Whole-file digests of a file that goes in parts, beside the sending."""
        self._whole = await files.digest_file(
            self._transfer.local_path, size, self._witness.names()
        )

    # -- completing --------------------------------------------------------------------------

    async def _complete(
        self,
        upload: Upload,
        target: Target,
        receipts: list[Receipt],
        arrived: Receipt | None = None,
    ) -> Ended:
        """The end of a file all of whose parts are there; `arrived` is not yet remembered."""
        if self._seen_later:
            return await self._arrive(receipts)
        ledger = self._context.ledger
        where = target.place.id or target.place.container
        made_at, size = self._exchange.server_at(), target.size
        if arrived is not None:
            await ledger.sent_whole(
                self._row.id, arrived, place=where, name=target.name, size=size, made_at=made_at
            )
        else:
            await ledger.intend(
                self._row.id, "complete", place=where, name=target.name, size=size, made_at=made_at
            )
        reports = await self._context.fact(NEEDS_REPORTS) is not None
        flow = self._exchange.platform.complete_upload(upload, target, receipts, reports=reports)
        completed = await self._exchange.run(flow, tally=self._tally)
        if completed is None:
            raise UploadGone(
                f"the upload of {self._transfer.source} is gone, and no file came of it"
            )
        if completed.reported:
            await self._context.remember_fact(NEEDS_REPORTS, "yes")
        if completed.file.size not in {None, target.size}:
            await self._withdraw(completed)
            raise DigestMismatch(
                f"{self._transfer.source} has {target.size} bytes, the platform made a file of "
                f"{completed.file.size}",
                expected=str(target.size),
                actual=str(completed.file.size),
            )
        try:
            proved_by = await self._prove(completed.file, receipts, asked=completed.asked)
        except DigestMismatch:
            await self._withdraw(completed)
            raise
        return await self._end(completed.file, proved_by, receipts)

    async def _arrive(self, receipts: list[Receipt]) -> Ended:
        """Sent, and told so: the proof comes with a listing of the folder (`prove_listed`)."""
        size = self._transfer.found.size
        digests = self._whole or {"md5": receipts[0].md5}
        renamed = self._name if self._name != self._transfer.name else None
        await self._context.ledger.arrived(
            self._row.id,
            source=self._transfer.found,
            digests=digests,
            verified_by=None,
            size=size,
            parts=len(receipts),
            placed=renamed,
        )
        return Ended(
            State.ARRIVED,
            size=size,
            digests=digests,
            parts=len(receipts),
            attempts=1,
            destination=self._transfer.placed_as(renamed, None),
            asked=self._sending.asked,
        )

    async def prove_listed(self, ended: Ended, file: RemoteFile) -> Ended:
        """The end of a transfer that has arrived, by the file its folder's listing shows.

        The storage's ETag proves it; where it states another digest, the bytes are read back from
        the listing's own URL, at no quota. Raises `DigestMismatch`, the file then withdrawn.
        """
        size = self._transfer.found.size
        if ended.destination is not None:
            self._name = ended.destination.rpartition("/")[2]
        self._whole = dict(ended.digests)
        receipt = Receipt(1, 0, size, ended.digests["md5"])
        try:
            by = await self._prove_shown(file, receipt)
        except DigestMismatch:
            await self._withdraw(Completed(file, asked=ended.asked))
            raise
        return await self._end(file, by, [receipt])

    async def _prove_shown(self, file: RemoteFile, receipt: Receipt) -> str | None:
        size = self._transfer.found.size
        if file.size not in {None, size}:
            raise DigestMismatch(
                f"{self._transfer.source} has {size} bytes, the platform lists "
                f"{self._transfer.destination} with {file.size}",
                expected=str(size),
                actual=str(file.size),
            )
        if file.lease is None and not self._choices.strict:
            return None
        by, _ = await self._witness.weigh(self._row, file, size, self._whole)
        # A storage says nothing of a range of an empty file, and reading it back costs as much.
        if by is None and (self._choices.strict or self._witness.states_another or not size):
            await self._witness.read_back(self._row, file, [receipt])
            return "read-back"
        return by

    async def _prove(self, file: RemoteFile, receipts: list[Receipt], *, asked: bool) -> str | None:
        """What proves the completed file; None where nothing does. Raises `DigestMismatch`."""
        first = self._exchange.platform.traits.digest_first
        if first is not None and first in file.digests:
            if file.digests[first] == self._whole[first]:
                return "platform-digest"
            raise DigestMismatch(
                f"{self._transfer.source} has {first} {self._whole[first]}, the platform holds "
                f"{file.digests[first]}",
                expected=self._whole[first],
                actual=file.digests[first],
            )
        if self._sending.distrusted or any(is_wrong(receipt) for receipt in receipts):
            await self._witness.read_back(self._row, file, receipts)
            return "read-back"
        if not all(receipt.proves for receipt in receipts):
            if self._choices.strict:
                await self._witness.read_back(self._row, file, receipts)
                return "read-back"
            return None
        if asked:
            by, _ = await self._witness.weigh(
                self._row, file, self._transfer.found.size, self._whole
            )
            if by is None:
                await self._witness.read_back(self._row, file, receipts)
                return "read-back"
            return by
        return "etag"

    async def _withdraw(self, completed: Completed) -> None:
        """A file whose bytes failed a check does not stay under its name, if we just made it."""
        self._withdrawn = True
        if completed.asked:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(GRACE_S):
            flow = self._exchange.platform.delete_file(completed.file.id)
            await self._exchange.run(flow, tally=self._tally)
            await self._context.ledger.forget_upload(self._row.id)
