"""What may stand at an upload's destination already, and what is to be done about it.

A file with our bytes ends the transfer, whoever sent it; another is a conflict, which the run's
choices decide. What an earlier run began and left is aborted here.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from penstock.core.errors import (
    Conflict,
    DigestMismatch,
    PenstockError,
    Refused,
)
from penstock.core.events import BytesMoved
from penstock.core.lifecycle import State
from penstock.core.model import (
    Receipt,
    RemoteFile,
)
from penstock.core.transfers import Choices, Compare, Ended, OnConflict, UpTransfer
from penstock.engine import files
from penstock.engine.beginning import Beginning
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.ledger import Row
from penstock.engine.putting import Sending
from penstock.engine.witness import Witness

# What cleaning up may take. Seconds.
GRACE_S = 10.0


class Standing:
    """One transfer, held against what is there. `engine.upload` sends what is not."""

    def __init__(self, context: Context, transfer: UpTransfer, row: Row, tally: Tally) -> None:
        self._context = context
        self._exchange = context.exchange
        self._transfer = transfer
        self._row = row
        self._tally = tally
        self._choices: Choices = context.choices
        self._name = transfer.name
        self._whole: dict[str, str] = {}
        self._sending = Sending(context, transfer, row.id, tally, self._progress)
        self._beginning = Beginning(context, transfer, tally)
        self._witness = Witness(context, transfer, tally)
        self.attached: str | None = None
        """What became of the metadata, where it is stored before the content."""
        self._seen_later = context.exchange.platform.traits.proves_by_listing
        self._resumes = context.exchange.platform.traits.uploads_resume
        self._withdrawn = False

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
            names = self._witness.names() | {name}
            self._whole = await files.digest_file(self._transfer.local_path, size, names)
        return self._whole[name]

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
        self._whole = await files.digest_file(
            self._transfer.local_path, size, self._witness.names()
        )
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
            self._beginning.overwrite = True
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
            and not self._witness.states_another
            and not self._choices.strict
        )

    async def _prove_same(self, existing: RemoteFile, size: int) -> Ended | None:
        """The end of a transfer whose destination holds the same bytes: one request to prove it."""
        by, digests = await self._witness.weigh(self._row, existing, size, self._whole)
        if by is None and self._choices.strict and existing.id == self._row.remote_id:
            by, digests = (
                "read-back",
                await self._witness.read_back_unproved(self._row, existing, size),
            )
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

    async def _send_or_begin_anew(self, size: int) -> Ended:
        """The file sent. The one who sends says how."""
        raise NotImplementedError

    # -- leaving nothing behind --------------------------------------------------------------

    async def _abandon_old(self) -> None:
        """Whatever an earlier run began for another state of the source is aborted."""
        await abandon(self._context, self._row)
        self._row = await self._fresh_row()

    async def _abort(self) -> None:
        """The upload this transfer began is aborted. Trouble in doing so hides no cause."""
        with anyio.move_on_after(GRACE_S):
            try:
                await abandon(self._context, await self._fresh_row())
            except PenstockError:
                return

    async def _fresh_row(self) -> Row:
        (row,) = await self._context.ledger.lookup([self._transfer.identity])
        assert row is not None, "a claimed transfer has a row"
        return row

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
