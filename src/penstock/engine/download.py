"""Moves one file down: into a hidden neighbour, proof, then its name.

The final name appears only after everything the platform offers was held against the bytes:
write → flush → receipt → (arrived, with digests) → rename → verified. How the bytes come is
`engine.fetching`'s, what they are worth `engine.weighing`'s.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from penstock.core.errors import (
    AnswerUnusable,
    Conflict,
    DigestMismatch,
    PenstockError,
    RemoteChanged,
    Unproved,
)
from penstock.core.events import BytesMoved
from penstock.core.lifecycle import State
from penstock.core.model import Fingerprint, Headers, Response
from penstock.core.proof import Finding, Weight, disagreement
from penstock.core.times import when
from penstock.core.transfers import Choices, Compare, DownTransfer, Ended, OnConflict
from penstock.engine import files
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.fetching import Fetching
from penstock.engine.files import hop
from penstock.engine.leases import Leases
from penstock.engine.partials import Partial, partial_of
from penstock.engine.rows import Row
from penstock.engine.weighing import UNPROVED, Fetched, Weighing

# Whole fetches of one file before it is given up: the first, one for a mismatch, one to see
# whether the bytes are the same again, and one spare.
MOST_FETCHES = 4


class Download:
    """One file's way down, claimed by this run."""

    def __init__(
        self,
        context: Context,
        transfer: DownTransfer,
        row: Row,
        tally: Tally,
        first: Response | PenstockError | None = None,
    ) -> None:
        """`first` is what came of a first try, as in `Exchange.run`."""
        self._context = context
        self._transfer = transfer
        self._row = row
        self._tally = tally
        self._choices: Choices = context.choices
        self._final = transfer.local_path
        self._weighing = Weighing(transfer, context.choices, context.exchange.platform.traits)
        self._fetching = Fetching(
            context,
            row,
            Leases(context.exchange, context.renewals, transfer.file, tally),
            self._weighing,
            self._progress,
            first,
        )

    async def run(self) -> Ended:
        """How the transfer ended, its file under its final name and the ledger told.

        Raises a penstock error where it failed; receipts then stay for the next run.
        """
        finished = await self._finish_published()
        if finished is not None:
            return finished
        proves = self._context.exchange.platform.traits.leases_prove
        untold = self._transfer.file.size is None and self._transfer.file.lease is None
        # What stands here already is held against a description.
        if untold and (not proves or await self._is_there() is not None):
            await self._learn()
        same = await self._already_there()
        if same is not None:
            return same
        size, lease = self._transfer.file.size, self._transfer.file.lease
        if size is None and self._row.state is State.ARRIVED and self._row.size is not None:
            # Fetched and weighed by a run that was killed before it had its name.
            async with self._held_partial() as partial:
                arrived = await self._arrived(partial, self._row.size)
                if (
                    arrived is not None
                    and self._is_promised_size(self._row.size)
                    and (arrived[1].weight is Weight.PROVED or not self._choices.strict)
                ):
                    return await self._publish(partial, self._row.size, *arrived)
        if size is None and (lease is not None or proves):
            if lease is None or not lease.whole:
                size = await self._fetching.look()
                self._take(None, self._fetching.told)
            if size is None or (proves and not self._transfer.file.digests):
                size = await self._learn()
        if size is None and lease is None:
            raise AnswerUnusable(f"the platform does not say how large {self._transfer.source} is")
        if size is not None:
            self._check_size(size)
        async with self._held_partial() as partial:
            return await self._into(partial, size)

    def _is_promised_size(self, size: int) -> bool:
        return self._transfer.promised_size in {None, size}

    def _check_size(self, size: int) -> None:
        """Nothing, or `DigestMismatch` where the manifest says another."""
        if not self._is_promised_size(size):
            raise DigestMismatch(
                f"{self._transfer.source} has {size} bytes, the manifest says "
                f"{self._transfer.promised_size}",
                expected=str(self._transfer.promised_size),
                actual=str(size),
            )

    @asynccontextmanager
    async def _held_partial(self) -> AsyncIterator[Partial]:
        """The partial, not yet locked; let go at the end.

        One without receipts is of no use to a later run and goes when this one fails.
        """
        kept = self._row.partial
        folder = self._choices.partial_dir
        identity = self._transfer.identity
        partial = partial_of(identity, self._final, folder, kept, self._row.id)
        try:
            yield partial
        except BaseException:
            if partial.descriptor >= 0 and (self._fetching.parts == 1 or partial.is_empty):
                await files.remove(partial.path)
            raise
        finally:
            partial.release()

    async def _into(self, partial: Partial, size: int | None) -> Ended:
        """The file fetched into its partial, weighed, and published."""
        arrived = await self._arrived(partial, size) if size is not None else None
        fetched, finding = arrived or await self._fetch_until_weighed(partial, size)
        if size is None:
            size = fetched.size
            if finding.weight is Weight.OPEN and fetched.may_be_short:
                await self._drop(partial)
                raise Unproved(
                    f"the server of {self._transfer.source} says no size and ends the file by "
                    "hanging up, so that nothing shows whether all of it came; a manifest with a "
                    "digest would"
                )
        if finding.weight is Weight.OPEN and self._choices.strict:
            await self._drop(partial)
            raise Unproved(
                f"nothing the platform offers proves the bytes of {self._transfer.source}, and "
                "strict was asked for; a manifest with digests would"
            )
        return await self._publish(partial, size, fetched, finding)

    # -- what is there already ---------------------------------------------------------------

    async def _finish_published(self) -> Ended | None:
        """The end of a transfer that was killed between its rename and its last commit."""
        row = self._row
        if row.state is not State.ARRIVED or not row.digests or row.size is None:
            return None
        if row.source != self._transfer.fingerprint(row.size) or (
            row.partial is not None and await hop(os.path.lexists, row.partial)
        ):
            return None
        self._final = row.placed or self._final
        if not await hop(Path(self._final).is_file):
            return None
        found = await hop(files.fingerprint, self._final)
        if found.size != row.size:
            return None
        if await files.digest_file(self._final, row.size, row.digests) != row.digests:
            return None
        state = State.VERIFIED if row.verified_by else State.UNVERIFIED
        await self._context.ledger.end(
            row.id,
            state,
            digests=row.digests,
            verified_by=row.verified_by,
            remote_id=self._transfer.file.id,
            size=found.size,
            mtime_ns=found.mtime_ns,
            parts=row.parts,
            placed=row.placed,
        )
        return Ended(
            state,
            id=self._transfer.file.id,
            size=found.size,
            digests=row.digests,
            verified_by=row.verified_by,
            parts=row.parts,
            attempts=1,
        )

    async def _arrived(self, partial: Partial, size: int) -> tuple[Fetched, Finding] | None:
        """What an earlier run fetched and weighed, and was killed before it had its name."""
        row = self._row
        if row.state is not State.ARRIVED or row.size != size:
            return None
        if row.source != self._transfer.fingerprint(size):
            return None
        path = await hop(partial.lock)
        if row.partial != path or (await hop(files.fingerprint, path)).size != size:
            return None
        names = self._weighing.names() | row.digests.keys()
        actual = await files.digest_file(path, size, names)
        if not self._weighing.are_promised(actual, row.digests):
            return None
        self._fetching.parts, self._fetching.times = row.parts, 1
        by = row.verified_by
        finding = Finding(Weight.OPEN) if by is None else Finding(Weight.PROVED, by)
        return Fetched(actual, Headers()), finding

    async def _is_there(self) -> bool | None:
        """Whether a folder stands at the destination; None where nothing does."""
        return await self._context.files.do(functools.partial(_is_folder, self._final))

    async def _already_there(self) -> Ended | None:
        """What to do about a file that stands at the destination; None: go on and fetch.

        Raises `Conflict` where it is not the same and that is to fail.
        """
        is_folder = await self._is_there()
        if is_folder is None:
            return None
        if is_folder:
            raise Conflict(f"{self._final} is a folder; a file cannot take its name")
        same = await self._prove_same()
        if same is not None:
            return same
        if self._row.state is State.UNVERIFIED and self._choices.strict:
            raise Unproved(
                f"{self._final} was fetched by an earlier run, and nothing the platform offers "
                "proves it; strict was asked for, and a manifest with digests would"
            )
        choice = self._choices.on_conflict
        if choice is OnConflict.SKIP:
            return Ended(State.SKIPPED, reason="conflict", id=self._transfer.file.id)
        if choice is OnConflict.RENAME:
            self._final = await hop(free_name, self._final)
            return None
        if choice is OnConflict.OVERWRITE:
            return None
        raise Conflict(
            f"{self._final} exists and is not the same file; use --on-conflict to skip, overwrite "
            "or rename"
        )

    async def _prove_same(self) -> Ended | None:
        """The end of a transfer whose destination holds the same bytes already."""
        size, row = self._transfer.file.size, self._row
        if not await hop(Path(self._final).is_file):
            return None  # A pipe, or a link that leads nowhere.
        found = await hop(files.fingerprint, self._final)
        promised_size = self._transfer.promised_size
        is_told, size = size is not None, found.size if size is None else size
        if found.size != size or promised_size not in {None, size}:
            return None
        if is_told and self._choices.compare is Compare.SIZE and not self._choices.strict:
            return Ended(
                State.SKIPPED, reason="same size, unverified", id=self._transfer.file.id, size=size
            )
        finding, actual = None, {}
        known = row.state is State.VERIFIED and row.source == self._transfer.fingerprint(size)
        if known and not row.may_be_another(self._transfer.file):
            actual = await files.digest_file(self._final, size, row.digests)
            promised = self._transfer.promised
            if row.digests and actual == row.digests and not disagreement(promised, actual):
                finding = Finding(Weight.PROVED, "ledger")
        if finding is None:
            finding, actual = await self._weighed_existing(size)
        if finding.weight is not Weight.PROVED:
            return None
        await self._context.ledger.end(
            row.id,
            State.VERIFIED,
            source=self._transfer.fingerprint(size),
            digests=dict(actual),
            verified_by=finding.by,
            size=size,
            mtime_ns=found.mtime_ns,
        )
        return Ended(
            State.SKIPPED,
            reason="already verified" if known else "already there, the same",
            id=self._transfer.file.id,
            size=size,
            digests=actual,
            verified_by=finding.by,
        )

    async def _weighed_existing(self, size: int) -> tuple[Finding, dict[str, str]]:
        """What manifest and storage say of a local file we did not fetch."""
        headers = Headers()
        if not self._transfer.promised and not self._weighing.stated(headers):
            headers, _ = await self._fetching.probe()
        return await self._weighing.weigh_existing(self._final, size, headers)

    # -- fetching ----------------------------------------------------------------------------

    async def _fetch_until_weighed(
        self, partial: Partial, size: int | None
    ) -> tuple[Fetched, Finding]:
        """Bytes and what they are worth: fetched again where something differs or nothing proves.

        Raises `DigestMismatch` where equal bytes twice differ from a stated digest, or where no
        two fetches agree.
        """
        before: dict[str, str] | None = None
        fresh = False
        while True:
            try:
                fetched = await self._fetching.fetch(partial, size, fresh=fresh)
            except RemoteChanged:
                # What says so may be a page of something between: the storage is asked once more.
                if self._fetching.times > 1 or self._fetching.parts > 1:
                    raise
                await self._context.ledger.drop_receipts(self._row.id)
                await self._context.exchange.pause()
                fresh = True
                continue
            except OSError as error:
                raise files.local_error(error, str(error.filename or self._final)) from error
            if size is None:
                self._check_size(fetched.size)
            finding = await self._weighing.weigh(partial.path, fetched.size, fetched)
            if finding.weight in {Weight.PROVED, Weight.OPEN}:
                return fetched, finding
            alike = before == fetched.digests
            if alike and not finding.hard:
                return fetched, Finding(Weight.OPEN)
            times = self._fetching.times
            if alike or times >= MOST_FETCHES:
                await self._drop(partial)
                raise DigestMismatch(
                    f"{self._transfer.source} arrived {times} times and is not what was "
                    f"promised: expected {finding.expected or 'the same bytes twice'}, got "
                    f"{finding.actual or fetched.digests.get('md5')}; nothing was published",
                    expected=finding.expected,
                    actual=finding.actual,
                )
            before, fresh = fetched.digests, True

    # -- proof and publication ---------------------------------------------------------------

    async def _publish(
        self, partial: Partial, size: int, fetched: Fetched, finding: Finding
    ) -> Ended:
        """The file under its final name, and `verified` (or honestly not) in the ledger."""
        ledger, row = self._context.ledger, self._row
        state = State.VERIFIED if finding.weight is Weight.PROVED else State.UNVERIFIED
        parts = self._fetching.parts
        await ledger.arrived(
            row.id,
            source=self._transfer.fingerprint(size),
            digests=fetched.digests,
            verified_by=finding.by if state is State.VERIFIED else None,
            size=size,
            parts=parts,
            placed=self._placed(),
            at_once_in=partial.path if self._fetching.at_once else None,
        )
        published = await self._name(partial)
        if published is None:
            # Something took the name meanwhile: it is met as if it had stood there before.
            try:
                met = await self._already_there()
            except PenstockError:
                await self._drop(partial)
                raise
            if met is None:
                return await self._publish(partial, size, fetched, finding)
            await self._drop(partial)
            return met
        await ledger.end(
            row.id,
            state,
            digests=fetched.digests,
            verified_by=finding.by if state is State.VERIFIED else None,
            remote_id=self._transfer.file.id,
            size=size,
            mtime_ns=published.mtime_ns,
            parts=parts,
            placed=self._placed(),
        )
        return Ended(
            state,
            reason=None if state is State.VERIFIED else UNPROVED,
            id=self._transfer.file.id,
            size=size,
            digests=fetched.digests,
            verified_by=finding.by if state is State.VERIFIED else None,
            parts=parts,
            attempts=self._fetching.times,
            destination=self._final,
        )

    async def _name(self, partial: Partial) -> Fingerprint | None:
        """The file under its final name, durably; None where something has taken the name."""
        modified = when(self._transfer.file.modified) if self._choices.times else None
        final, overwrites = self._final, self._choices.on_conflict is OnConflict.OVERWRITE

        def name() -> Fingerprint | None:
            if not overwrites and os.path.lexists(final):
                return None
            return files.place(partial.path, final, modified)

        try:
            return await self._context.files.do(name, os.path.dirname(final))  # noqa: PTH120
        except OSError as error:
            raise files.local_error(error, final) from error

    async def _drop(self, partial: Partial) -> None:
        """Bytes that proved nothing, or the wrong thing, are not kept to be resumed from."""
        with anyio.CancelScope(shield=True):
            await self._context.ledger.drop_receipts(self._row.id)
            await files.remove(partial.path)

    async def _learn(self) -> int | None:
        """The size that the platform's description tells, where its listing told none.

        The file's digests by it are the file's from now on.
        """
        exchange, file = self._context.exchange, self._transfer.file
        told = await exchange.run(exchange.platform.stat(file.id), tally=self._tally)
        self._take(told.size, told.digests)
        return told.size

    def _take(self, size: int | None, digests: Mapping[str, str]) -> None:
        """What the platform said of the file is known of it from now on."""
        file = self._transfer.file
        file = replace(file, size=size, digests={**digests, **file.digests})
        self._transfer = self._weighing.transfer = replace(self._transfer, file=file)

    def _placed(self) -> str | None:
        """Where the file stands, if not where it was planned to."""
        return self._final if self._final != self._transfer.local_path else None

    def _progress(self, size: int) -> None:
        self._context.emit(BytesMoved(self._transfer.source, size))


def free_name(path: str) -> str:
    """`path`, or the first of `name (2).ext`, `name (3).ext`… that nothing stands under."""
    wanted = Path(path)
    number = 2
    while os.path.lexists(path):
        path = str(wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}"))
        number += 1
    return path


def _is_folder(path: str) -> bool | None:
    """Whether a folder stands there; None where nothing does. Blocks."""
    return os.path.isdir(path) if os.path.lexists(path) else None  # noqa: PTH112 - bytes paths
