"""Moves one file up: an intent, an upload, its parts, and a proof of what the platform now holds.

The intent is committed before the upload is asked for, its id before the first byte moves, a
receipt before its part counts, an intent again before it is completed. So whatever moment the
process dies at, the next run knows what to ask, and asks only then. Each part's ETag is held
against the MD5 of the bytes that went; the source is looked at before each part and before the
end, and a file that changed under us fails.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import anyio

from penstock.core.errors import (
    AnswerLost,
    Conflict,
    DigestMismatch,
    Effect,
    MetadataRefused,
    PenstockError,
    Refused,
    SourceChanged,
    TransferError,
)
from penstock.core.events import BytesMoved
from penstock.core.lifecycle import State
from penstock.core.model import (
    Completed,
    Part,
    Place,
    Receipt,
    RemoteFile,
    Response,
    Target,
    Upload,
)
from penstock.core.plan import cut, upload_part_size
from penstock.core.proof import (
    TagKind,
    Weight,
    candidate_part_sizes,
    multipart_tag,
    promised_digests,
    read_tag,
    tag_of,
    weigh,
)
from penstock.core.traits import Attaches
from penstock.core.transfers import Choices, Compare, Ended, OnConflict, UpTransfer
from penstock.engine import files
from penstock.engine.attaching import attach, digest_of
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.files import hop
from penstock.engine.groups import each, task_group
from penstock.engine.leases import Leases
from penstock.engine.ledger import Intent, Row
from penstock.engine.openuploads import INSISTS
from penstock.platforms.describing import Attachment

# The part reports a profile refused in the completing request, remembered for later runs.
NEEDS_REPORTS = "needs reports"

# Times an upload that vanished on the platform is begun anew.
_BEGINNINGS = 2
# Times an upload whose creation was never answered is asked for.
_CREATIONS = 4
_GRACE_S = 10.0


class UploadGone(TransferError):
    """The platform does not know the upload any more; it is begun anew."""


class UploadRun:
    """One file's way up, claimed by this run."""

    def __init__(self, context: Context, transfer: UpTransfer, row: Row, tally: Tally) -> None:
        self._context = context
        self._exchange = context.exchange
        self._transfer = transfer
        self._row = row
        self._tally = tally
        self._choices: Choices = context.choices
        self._name = transfer.name
        self._overwrite = False
        self._distrusted = False
        self._creation_lost = False
        self._states_another = False
        self._asked = False
        self._whole: dict[str, str] = {}
        self.attached: str | None = None
        """What became of the metadata, where it is stored before the content."""
        self._seen_later = context.exchange.platform.traits.proves_by_listing
        self._resumes = context.exchange.platform.traits.uploads_resume
        self._withdrawn = False

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
        await files.unchanged(transfer.local_path, transfer.found)
        intents = await self._context.ledger.intents(self._row.id)
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
        if not resuming or self._overwrite or self._name != transfer.name:
            await self._abandon_old()
        return await self._send_or_begin_anew(size)

    async def _unless_standing(self, namesakes: tuple[RemoteFile, ...], *, resuming: bool) -> Ended:
        """The file sent, unless one of its name and digest is there, or is being sent by this run.

        Only digests that the listing does not tell are asked for, a file at a time.
        """
        size = self._transfer.found.size
        ours = await self._digest_first(size)
        sent = self._context.sent
        async with sent.alone(self._name, ours) as key:
            standing = sent.file_id(key) or await self._standing(namesakes, ours)
            if standing is None:
                if not resuming:
                    await self._abandon_old()
                ended = await self._send_or_begin_anew(size)
                sent.note(key, ended.id)
                return ended
        return await self._same(standing, size, "platform-digest", self._whole)

    async def _standing(self, namesakes: tuple[RemoteFile, ...], ours: str) -> str | None:
        """The id of a file with our digest; None where there is none."""
        platform = self._exchange.platform
        name = platform.traits.digest_first or ""
        for file in namesakes:
            told = file
            if name not in told.digests:
                try:
                    told = await self._exchange.run(platform.stat(file.id), tally=self._tally)
                except Refused as refused:
                    if refused.status not in {403, 404}:
                        raise
            if told.digests.get(name) == ours:
                return file.id
        return None

    async def _digest_first(self, size: int) -> str:
        """The digest the platform wants before an upload is begun; all others are taken as well."""
        name = self._exchange.platform.traits.digest_first
        assert name is not None
        if name not in self._whole:
            names = self._names() | {name}
            self._whole = await files.digest_file(self._transfer.local_path, size, names)
        return self._whole[name]

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

    # -- what is there already ---------------------------------------------------------------

    async def _check_promised(self, size: int) -> None:
        """Nothing, or `DigestMismatch` where the local file is not what a manifest says."""
        promised = self._transfer.promised
        if self._transfer.promised_size not in {None, size}:
            raise DigestMismatch(
                f"{self._transfer.source} has {size} bytes, the manifest says "
                f"{self._transfer.promised_size}",
                expected=str(self._transfer.promised_size),
                actual=str(size),
            )
        if not promised:
            return
        self._whole = await files.digest_file(self._transfer.local_path, size, self._names())
        for name, expected in promised.items():
            actual = self._whole.get(name)
            if actual is not None and actual != expected:
                raise DigestMismatch(
                    f"{self._transfer.source}: the manifest says {name} {expected}, the file has "
                    f"{actual}; nothing was sent",
                    expected=expected,
                    actual=actual,
                )

    async def _existing(self, existing: RemoteFile, *, completing: bool) -> Ended | None:
        """What to do about a file that has the name already; None: go on and send.

        Raises `Conflict` where it is not the same and that is to fail.
        """
        size = self._transfer.found.size
        if existing.size == size:
            by_size = self._choices.compare is Compare.SIZE and not self._choices.strict
            if by_size and self._row.upload_id is None:
                return Ended(
                    State.SKIPPED, reason="same size, unverified", id=existing.id, size=size
                )
            same = await self._prove_same(existing, size)
            if same is not None:
                return same
            if self._was_taken():
                # The platform said that it had taken it, and nothing there says otherwise.
                self._whole = dict(self._row.digests)
                return await self._end(existing, None, [Receipt(1, 0, size, self._whole["md5"])])
            if completing:
                return None  # It was being completed: completing again finds out what came of it.
        choice = self._choices.on_conflict
        if choice is OnConflict.SKIP:
            await self._abort()
            return Ended(State.SKIPPED, reason="conflict", id=existing.id, size=existing.size)
        if choice is OnConflict.OVERWRITE:
            self._overwrite = True
            return None
        if choice is OnConflict.RENAME:
            self._name = free_name(self._name, self._transfer.taken)
            return None
        raise Conflict(
            f"{self._transfer.destination} exists and is not the same file; use --on-conflict to "
            "skip, overwrite or rename"
        )

    def _was_taken(self) -> bool:
        """Whether an earlier run sent the file, was told so, and ended before it was proved."""
        row = self._row
        return (
            self._seen_later
            and row.state is State.ARRIVED
            and row.source == self._transfer.found
            and "md5" in row.digests
            and not self._states_another
            and not self._choices.strict
        )

    async def _prove_same(self, existing: RemoteFile, size: int) -> Ended | None:
        """The end of a transfer whose destination holds the same bytes: one request to prove it."""
        by, digests = await self._weigh_remote(existing, size)
        if by is None and self._choices.strict and existing.id == self._row.remote_id:
            by, digests = "read-back", await self._read_back_unproved(existing, size)
        if by is None:
            return None
        return await self._same(existing.id, size, by, digests, existing.etag)

    async def _same(
        self,
        file_id: str,
        size: int,
        by: str,
        digests: Mapping[str, str],
        etag: str | None = None,
    ) -> Ended:
        """The end of a transfer whose bytes are there: sent by a run that was killed, or before."""
        killed = self._row.upload_id is not None
        known = self._row.state is State.VERIFIED and self._row.source == self._transfer.found
        await abandon(self._context, self._row)
        await self._context.ledger.end(
            self._row.id,
            State.VERIFIED,
            source=self._transfer.found,
            digests=digests,
            verified_by=by,
            remote_id=file_id,
            size=size,
            validator=etag,
        )
        return Ended(
            State.VERIFIED if killed else State.SKIPPED,
            reason=None if killed else "already verified" if known else "already there, the same",
            id=file_id,
            size=size,
            digests=digests,
            verified_by=by,
            attempts=1 if killed else 0,
            destination=self._transfer.placed_as(None, file_id),
        )

    async def _weigh_remote(
        self, remote: RemoteFile, size: int
    ) -> tuple[str | None, dict[str, str]]:
        """What proves that the platform holds our bytes, if anything does, and their digests."""
        if remote.lease is None and self._exchange.platform.traits.listing_leases:
            # A listing that gives a URL wherever there is one gave none: the storage is not asked.
            return None, {}
        headers = (await self._probe(remote)).headers
        tag, path = read_tag(headers), self._transfer.local_path
        stated = {
            name: value
            for name, value in promised_digests(headers).items()
            if files.can_digest(name)
        }
        if tag.kind is TagKind.OPAQUE and not stated:
            return None, {}
        actual = self._whole
        if not actual or not actual.keys() >= stated.keys():
            actual = await files.digest_file(path, size, self._names() | stated.keys())
        multipart = None
        if tag.kind is TagKind.MULTIPART:
            usual = self._exchange.platform.traits.etag_part_sizes
            traits = self._exchange.platform.traits
            own = [own for own in (self._row.part_size, self._choices.part_size) if own]
            planned = upload_part_size(size, traits)
            for candidate in candidate_part_sizes(size, tag.parts, (*own, planned, *usual)):
                multipart = multipart_tag(await files.block_md5s(path, size, candidate))
                if multipart == tag.text:
                    break
        finding = weigh(manifest={}, stated=stated, tag=tag, actual=actual, multipart=multipart)
        self._states_another = finding.weight not in {Weight.PROVED, Weight.OPEN}
        return (finding.by if finding.weight is Weight.PROVED else None), dict(actual)

    async def _probe(self, remote: RemoteFile) -> Response:
        leases = Leases(self._exchange, self._context.renewals, remote, self._tally)
        return await leases.ask(self._exchange.platform.probe)

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
        upload = await self._begin(target)
        await self._attach(place)
        parts = cut(size, upload.part_size)
        # Where nothing but the listing shows a sent file, and it did not, it goes again.
        whole = len(parts) == 1 and self._exchange.platform.traits.puts_whole
        receipts = {} if self._seen_later or whole else await self._known_receipts(parts)
        missing = [part for part in parts if part.number not in receipts]
        for part in parts:
            if part.number in receipts:
                self._progress(part.length)
        self._whole = self._whole or {}
        async with task_group() as group:
            if len(parts) > 1 and not self._whole:
                group.start_soon(self._digest_whole, size)
            await self._put_all(upload, missing, receipts)
        if not self._whole and self._names() != {"md5"}:
            await self._digest_whole(size)
        await files.unchanged(self._transfer.local_path, self._transfer.found)
        sent = [receipts[part.number] for part in parts]
        try:
            return await self._complete(upload, target, sent)
        except DigestMismatch:
            if self._withdrawn or upload.lease is None:
                raise
        # The platform refused to complete it: what arrived is not what was sent.
        self._progress(-size)
        await self._put_all(upload, list(parts), receipts)
        return await self._complete(upload, target, [receipts[part.number] for part in parts])

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

    async def _begin(self, target: Target) -> Upload:
        """The upload to send to: the one under way, the one an intent led to, or a new one."""
        ledger, row = self._context.ledger, self._row
        if row.upload_id is not None and row.part_size is not None:
            return Upload(row.upload_id, row.part_size, row.parallel)
        traits = self._exchange.platform.traits
        part_size = upload_part_size(target.size, traits, self._choices.part_size)
        earlier = await ledger.intents(row.id)
        for intent in earlier:
            found = await self._context.uploads.ours(intent) if intent.kind == "create" else None
            if found is not None and found.part_size is not None:
                upload = Upload(found.id, found.part_size, found.parallel)
                await ledger.began(row.id, intent.id, upload)
                return upload
            if intent.kind == "create" and not self._resumes:
                self._say_left_open()
        await ledger.start(row.id, self._transfer.found, part_size=part_size)
        where = target.place.id or target.place.container
        made_at = self._exchange.server_at()
        number = await ledger.intend(
            row.id,
            "create",
            place=where,
            name=target.name,
            size=target.size,
            part_size=part_size,
            made_at=made_at,
        )
        try:
            upload = await self._create(target, part_size, number)
        except (Refused, Conflict):
            await ledger.settle(number)
            raise
        (intent,) = [intent for intent in await ledger.intents(row.id) if intent.id == number]
        await ledger.began(row.id, number, upload)
        if upload.part_size != part_size:
            await self._learn_insistence([*earlier, *([intent] if self._creation_lost else [])])
        return upload

    async def _learn_insistence(self, intents: list[Intent]) -> None:
        """The platform chooses part sizes: what earlier intents led to can be told only now."""
        await self._context.ledger.remember_fact(self._exchange.platform.endpoint, INSISTS, "yes")
        for intent in intents:
            if intent.kind != "create":
                continue
            stray = await self._context.uploads.ours(intent, again=True)
            if stray is not None:
                await self._exchange.run(self._exchange.platform.abort_upload(stray.id))

    async def _create(self, target: Target, part_size: int, number: int) -> Upload:
        """A new upload. A lost answer is settled by asking; nothing there: asked for again.

        The intent stays what it was, so that an upload which a slow platform makes after all is
        found by it, here or by the next run.
        """
        (intent,) = [i for i in await self._context.ledger.intents(self._row.id) if i.id == number]
        for last_try in (*[False] * (_CREATIONS - 1), True):
            flow = self._exchange.platform.create_upload(
                target, part_size, overwrite=self._overwrite
            )
            try:
                return await self._exchange.run(flow, tally=self._tally)
            except AnswerLost:
                self._creation_lost = True
                found = await self._context.uploads.ours(intent, again=True)
                if found is not None and found.part_size is not None:
                    return Upload(found.id, found.part_size, found.parallel)
                if last_try:
                    raise
                if not self._resumes:
                    self._say_left_open()
                await self._exchange.pause()
        raise AssertionError("the last try returns or raises")

    def _say_left_open(self) -> None:
        """Told once: an upload whose beginning was never answered may stay, and nobody can know."""
        profile = self._transfer.destination.partition(":")[0]
        self._context.say_once(
            f"{profile} did not answer when a file was announced, and lists no such files: an "
            "empty one may be left there; the file was announced anew"
        )

    async def _known_receipts(self, parts: tuple[Part, ...]) -> dict[int, Receipt]:
        """Receipts of parts cut as they are now.

        What a receipt says was sent is still the source's: the fingerprint has not changed.
        """
        cut_now = {(part.number, part.offset, part.length) for part in parts}
        return {
            receipt.number: receipt
            for receipt in await self._context.ledger.receipts(self._row.id)
            if (receipt.number, receipt.offset, receipt.length) in cut_now
        }

    async def _put_all(
        self, upload: Upload, missing: list[Part], receipts: dict[int, Receipt]
    ) -> None:
        """Every missing part sent; so many at once, or in order where the platform says so."""

        async def put(part: Part) -> None:
            receipt = await self._put(upload, part)
            await self._context.ledger.add_receipt(self._row.id, receipt)
            receipts[part.number] = receipt

        width = min(self._context.parts_up_at_once, len(missing)) if upload.parallel else 1
        await each(missing, put, at_once=width)

    async def _put(self, upload: Upload, part: Part) -> Receipt:
        """One part's receipt, its ETag held against the MD5 of what went.

        A wrong ETag: sent again. Another wrong one: this storage's ETags prove nothing, and the
        completed file is read back.
        """
        first = await self._put_once(upload, part)
        if self._distrusted or not _is_wrong(first):
            return first
        self._progress(-part.length)
        second = await self._put_once(upload, part)
        if _is_wrong(second):
            self._distrusted = True
        return second

    async def _put_once(self, upload: Upload, part: Part) -> Receipt:
        await files.unchanged(self._transfer.local_path, self._transfer.found)
        flow = self._exchange.platform.put_part(upload, part, self._transfer.local_path)
        try:
            receipt = await self._exchange.run(flow, tally=self._tally, progress=self._progress)
        except Refused as refused:
            if refused.status in {404, 410}:
                raise UploadGone(
                    f"the upload of {self._transfer.source} is gone: {refused}"
                ) from refused
            raise
        if receipt.md5:
            return receipt
        # It went, and its answer did not come: what went is still the source's.
        self._asked = True
        digests = await hop(
            files.digest_slice, self._transfer.local_path, part.offset, part.length, ("md5",)
        )
        await files.unchanged(self._transfer.local_path, self._transfer.found)
        return replace(receipt, md5=digests["md5"])

    async def _digest_whole(self, size: int) -> None:
        """Whole-file digests of a file that goes in parts, beside the sending."""
        self._whole = await files.digest_file(self._transfer.local_path, size, self._names())

    # -- completing --------------------------------------------------------------------------

    async def _complete(self, upload: Upload, target: Target, receipts: list[Receipt]) -> Ended:
        if self._seen_later:
            return await self._arrive(receipts)
        ledger, endpoint = self._context.ledger, self._exchange.platform.endpoint
        where = target.place.id or target.place.container
        await ledger.intend(
            self._row.id,
            "complete",
            place=where,
            name=target.name,
            size=target.size,
            made_at=self._exchange.server_at(),
        )
        reports = await ledger.fact(endpoint, NEEDS_REPORTS) is not None
        flow = self._exchange.platform.complete_upload(upload, target, receipts, reports=reports)
        completed = await self._exchange.run(flow, tally=self._tally)
        if completed is None:
            raise UploadGone(
                f"the upload of {self._transfer.source} is gone, and no file came of it"
            )
        if completed.reported:
            await ledger.remember_fact(endpoint, NEEDS_REPORTS, "yes")
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
            asked=self._asked,
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
        by, _ = await self._weigh_remote(file, size)
        # A storage says nothing of a range of an empty file, and reading it back costs as much.
        if by is None and (self._choices.strict or self._states_another or not size):
            await self._read_back(file, [receipt])
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
        if self._distrusted or any(_is_wrong(receipt) for receipt in receipts):
            await self._read_back(file, receipts)
            return "read-back"
        if not all(receipt.proves for receipt in receipts):
            if self._choices.strict:
                await self._read_back(file, receipts)
                return "read-back"
            return None
        if asked:
            by, _ = await self._weigh_remote(file, self._transfer.found.size)
            if by is None:
                await self._read_back(file, receipts)
                return "read-back"
            return by
        return "etag"

    async def _withdraw(self, completed: Completed) -> None:
        """A file whose bytes failed a check does not stay under its name, if we just made it."""
        self._withdrawn = True
        if completed.asked:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(_GRACE_S):
            flow = self._exchange.platform.delete_file(completed.file.id)
            await self._exchange.run(flow, tally=self._tally)
            await self._context.ledger.forget_upload(self._row.id)

    async def _read_back_unproved(self, file: RemoteFile, size: int) -> dict[str, str]:
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
        await self._read_back(file, receipts)
        return await files.digest_file(path, size, self._names())

    async def _read_back(self, file: RemoteFile, receipts: list[Receipt]) -> None:
        """Nothing, or `DigestMismatch`: the bytes fetched again and held against what was sent."""
        folder = str(self._context.ledger.path.parent)
        platform = self._exchange.platform
        leases = Leases(self._exchange, self._context.renewals, file, self._tally)
        size = self._transfer.found.size
        for receipt in receipts:
            partial = f"{folder}/.penstock-{self._row.id}-{receipt.number}.part"
            await hop(files.open_partial, partial, receipt.length)
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

    async def _end(self, file: RemoteFile, proved_by: str | None, receipts: list[Receipt]) -> Ended:
        state = State.VERIFIED if proved_by is not None else State.UNVERIFIED
        digests = self._whole or {"md5": receipts[0].md5}
        renamed = self._name if self._name != self._transfer.name else None
        await self._context.ledger.end(
            self._row.id,
            state,
            source=self._transfer.found,
            digests=digests,
            verified_by=proved_by,
            remote_id=file.id,
            size=self._transfer.found.size,
            parts=len(receipts),
            placed=renamed,
            validator=file.etag,
        )
        return Ended(
            state,
            reason=None if proved_by else "the storage's ETags prove nothing",
            id=file.id,
            size=self._transfer.found.size,
            digests=digests,
            verified_by=proved_by,
            parts=len(receipts),
            attempts=1,
            destination=self._transfer.placed_as(renamed, file.id),
        )

    # -- leaving nothing behind --------------------------------------------------------------

    async def _abandon_old(self) -> None:
        """Whatever an earlier run began for another state of the source is aborted."""
        await abandon(self._context, self._row)
        self._row = await self._fresh_row()

    async def _abort(self) -> None:
        """The upload this transfer began is aborted. Trouble in doing so hides no cause."""
        with anyio.move_on_after(_GRACE_S):
            try:
                await abandon(self._context, await self._fresh_row())
            except PenstockError:
                return

    async def _fresh_row(self) -> Row:
        (row,) = await self._context.ledger.lookup([self._transfer.identity])
        assert row is not None, "a claimed transfer has a row"
        return row

    def _names(self) -> set[str]:
        known = {name for name in self._transfer.promised if files.can_digest(name)}
        return {"md5", *known, *self._choices.checksums}

    def _progress(self, size: int) -> None:
        self._context.emit(BytesMoved(self._transfer.source, size))


async def abandon(context: Context, row: Row) -> bool:
    """Whether there was an upload of this row's on the platform; it is aborted and forgotten."""
    upload_id = row.upload_id
    if upload_id is None:
        for intent in await context.ledger.intents(row.id):
            found = await context.uploads.ours(intent) if intent.kind == "create" else None
            if found is not None:
                upload_id = found.id
    if upload_id is not None:
        await context.exchange.run(context.exchange.platform.abort_upload(upload_id))
    await context.ledger.forget_upload(row.id)
    return upload_id is not None


def _is_wrong(receipt: Receipt) -> bool:
    """Whether the storage states a digest of the part, and it is another."""
    tag = tag_of(receipt.etag)
    return receipt.proves and tag.kind is TagKind.MD5 and tag.hex != receipt.md5


def free_name(name: str, taken: set[str]) -> str:
    """`name (2).ext`, or the next number that nothing stands under; it is taken from now on."""
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    number = 2
    while f"{stem} ({number}){dot}{suffix}" in taken:
        number += 1
    chosen = f"{stem} ({number}){dot}{suffix}"
    taken.add(chosen)
    return chosen
