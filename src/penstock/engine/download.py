"""Moves one file down: ranges into a hidden neighbour, proof, then its name.

A large file is fetched in ranges, in order, a bounded way ahead of a digest that follows the
contiguous front from the page cache. The ETag and size learnt first are held fixed for every
range, so a file that changes meanwhile is an error, never a mix. Each range is flushed before its
receipt is committed. The final name appears only after everything the platform offers was held
against the bytes: write → flush → receipt → (arrived, with digests) → rename → verified.

On resume nothing on disk is believed: a range whose digest is not its receipt's is fetched again.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from penstock.core.errors import (
    AnswerUnusable,
    Conflict,
    DigestMismatch,
    RemoteChanged,
    Unproved,
)
from penstock.core.events import BytesMoved
from penstock.core.lifecycle import State
from penstock.core.model import (
    UNKNOWN_SIZE,
    Fingerprint,
    Headers,
    Part,
    Receipt,
    RemoteFile,
    validator_of,
)
from penstock.core.plan import WHOLE_DOWNLOAD, cut, range_size
from penstock.core.proof import (
    OPAQUE,
    Finding,
    Tag,
    TagKind,
    Weight,
    candidate_part_sizes,
    disagreement,
    multipart_tag,
    promised_digests,
    read_tag,
    weigh,
)
from penstock.core.times import when
from penstock.core.transfers import Choices, Compare, DownTransfer, Ended, OnConflict
from penstock.engine import files
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.files import STATED, Beside, hop
from penstock.engine.front import Front
from penstock.engine.groups import each, task_group
from penstock.engine.leases import Leases
from penstock.engine.ledger import Row

# Whole fetches of one file before it is given up: the first, one for a mismatch, one to see
# whether the bytes are the same again, and one spare.
MOST_FETCHES = 4


@dataclass(slots=True)
class _Fetched:
    """One whole fetch: the digests of the bytes, and what the storage said of them."""

    digests: dict[str, str]
    headers: Headers
    block: int | None
    block_md5s: list[str] = field(default_factory=list)
    size: int = UNKNOWN_SIZE
    """Where it was not known before."""

    @property
    def may_be_short(self) -> bool:
        """Whether a server that hung up is all that says it was the end (RFC 9112, 6.3)."""
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        return self.size >= 0 and not chunked and "content-length" not in self.headers


class _Flushing:
    """Flushes of one file: whoever comes while one runs shares the next."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = anyio.Lock()
        self._asked = 0
        self._done = 0

    async def now(self) -> None:
        """What was written before this was called is on the disk."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._done >= mine:
                return
            covers = self._asked
            await hop(files.flush, self._path)
            self._done = covers


class Download:
    """One file's way down, claimed by this run."""

    def __init__(self, context: Context, transfer: DownTransfer, row: Row, tally: Tally) -> None:
        self._context = context
        self._transfer = transfer
        self._row = row
        self._tally = tally
        self._choices: Choices = context.choices
        self._leases = Leases(context.exchange, context.renewals, transfer.file, tally)
        self._final = transfer.local_path
        self._fetches = 0
        self._takes_ranges = True
        self._parts = 0

    async def run(self) -> Ended:
        """How the transfer ended, its file under its final name and the ledger told.

        Raises a penstock error where it failed; receipts then stay for the next run.
        """
        finished = await self._finish_published()
        if finished is not None:
            return finished
        if self._transfer.file.size is None and self._transfer.file.lease is None:
            await self._learn()
        same = await self._already_there()
        if same is not None:
            return same
        size = self._transfer.file.size
        if size is None and self._transfer.file.lease is not None:
            size = (await self._probe())[1]
            if size is None:
                size = await self._learn()
        if size is None and self._transfer.file.lease is None:
            raise AnswerUnusable(f"the platform does not say how large {self._transfer.source} is")
        if size is not None:
            self._check_size(size)
        async with self._held_partial() as partial:
            return await self._into(partial, size)

    def _check_size(self, size: int) -> None:
        """Nothing, or `DigestMismatch` where the manifest says another."""
        if self._transfer.promised_size not in {None, size}:
            raise DigestMismatch(
                f"{self._transfer.source} has {size} bytes, the manifest says "
                f"{self._transfer.promised_size}",
                expected=str(self._transfer.promised_size),
                actual=str(size),
            )

    @asynccontextmanager
    async def _held_partial(self) -> AsyncIterator[str]:
        """The partial's path, locked: two runs never write into one, nor into what it became.

        Where another run holds it, one of a name of our own. A partial without receipts is of no
        use to a later run and goes when this one fails.
        """
        locks: list[int] = []
        held: list[str] = []

        def lock() -> str:
            path = self._partial_path()
            own = path.removesuffix(".part") + f"-{os.getpid()}-{self._row.id}.part"
            kept = self._row.partial
            if kept is None or os.path.dirname(kept) != os.path.dirname(path):  # noqa: PTH120
                kept = path
            for tried in dict.fromkeys((kept, path, own)):
                descriptor = files.lock_partial(tried)
                if descriptor is not None:
                    locks.append(descriptor)
                    held.append(tried)
                    return tried
            raise OSError(errno.EBUSY, "another run is writing it", path)

        try:
            try:
                partial = await hop(lock)
            except OSError as error:
                raise files.local_error(error, str(error.filename or self._final)) from error
            yield partial
        except BaseException:
            if locks and (self._parts == 1 or os.fstat(locks[0]).st_size == 0):
                await files.remove(held[0])
            raise
        finally:
            for descriptor in locks:
                os.close(descriptor)

    async def _into(self, partial: str, size: int | None) -> Ended:
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

    async def _arrived(self, partial: str, size: int) -> tuple[_Fetched, Finding] | None:
        """What an earlier run fetched and weighed, and was killed before it had its name."""
        row = self._row
        if row.state is not State.ARRIVED or (row.partial, row.size) != (partial, size):
            return None
        if row.source != self._transfer.fingerprint(size):
            return None
        if (await hop(files.fingerprint, partial)).size != size:
            return None
        actual = await files.digest_file(partial, size, self._names() | row.digests.keys())
        if not actual.items() >= {**row.digests, **_comparable(self._transfer.promised)}.items():
            return None
        self._parts, self._fetches = row.parts, 1
        by = row.verified_by
        finding = Finding(Weight.OPEN) if by is None else Finding(Weight.PROVED, by)
        return _Fetched(actual, Headers(), None), finding

    async def _already_there(self) -> Ended | None:
        """What to do about a file that stands at the destination; None: go on and fetch.

        Raises `Conflict` where it is not the same and that is to fail.
        """
        final = Path(self._final)
        if not await hop(os.path.lexists, final):
            return None
        if await hop(final.is_dir):
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
            finding, actual = await self._weigh_existing(size)
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

    async def _weigh_existing(self, size: int) -> tuple[Finding, dict[str, str]]:
        """What manifest and storage say of a local file we did not fetch."""
        promised = self._transfer.promised
        headers = Headers()
        if not promised and not self._stated(headers):
            headers, _ = await self._probe()
        tag = read_tag(headers)
        stated = self._stated(headers)
        if not promised and not stated and tag.kind is TagKind.OPAQUE:
            return Finding(Weight.OPEN), {}
        names = self._names() | stated.keys()
        actual = await files.digest_file(self._final, size, names)
        multipart = await self._fitting_tag(self._final, size, tag, None, [])
        finding = weigh(
            manifest=promised, stated=stated, tag=tag, actual=actual, multipart=multipart
        )
        return self._believed(finding, stated, actual), actual

    # -- fetching ----------------------------------------------------------------------------

    async def _fetch_until_weighed(
        self, partial: str, size: int | None
    ) -> tuple[_Fetched, Finding]:
        """Bytes and what they are worth: fetched again where something differs or nothing proves.

        Raises `DigestMismatch` where equal bytes twice differ from a stated digest, or where no
        two fetches agree.
        """
        before: dict[str, str] | None = None
        fresh = False
        while True:
            try:
                if size is None:
                    fetched = await self._fetch_unbounded(partial)
                else:
                    fetched = await self._fetch(partial, size, fresh=fresh)
            except RemoteChanged:
                # What says so may be a page of something between: the storage is asked once more.
                if self._fetches > 1 or self._parts > 1:
                    raise
                await self._context.ledger.drop_receipts(self._row.id)
                await self._context.exchange.pause()
                fresh = True
                continue
            finding = await self._weigh(partial, fetched.size if size is None else size, fetched)
            if finding.weight is Weight.PROVED:
                return fetched, finding
            if finding.weight is Weight.OPEN:
                return fetched, finding
            alike = before == fetched.digests
            if alike and not finding.hard:
                return fetched, Finding(Weight.OPEN)
            if alike or self._fetches >= MOST_FETCHES:
                await self._drop(partial)
                raise DigestMismatch(
                    f"{self._transfer.source} arrived {self._fetches} times and is not what was "
                    f"promised: expected {finding.expected or 'the same bytes twice'}, got "
                    f"{finding.actual or fetched.digests.get('md5')}; nothing was published",
                    expected=finding.expected,
                    actual=finding.actual,
                )
            before, fresh = fetched.digests, True

    async def _fetch(self, partial: str, size: int, *, fresh: bool) -> _Fetched:
        """The whole file in the partial, flushed, with its digests; from receipts if they hold."""
        self._fetches += 1
        source = self._transfer.fingerprint(size)
        row = self._row
        if not fresh and row.partial is None and self._choices.partial_dir is not None:
            adopted = await self._context.ledger.adopt(row.id, partial)
            row = adopted or row
        resumable = (
            not fresh
            and row.source == source
            and row.partial == partial
            and row.part_size is not None
        )
        if resumable:
            try:
                # What else the storage states is not known yet, but for the ETag.
                head = Headers({"etag": row.validator} if row.validator else {})
                return await self._fetch_parts(
                    partial, size, row.part_size or 1, row.validator, head, resume=True
                )
            except RemoteChanged:
                # What changed did so between two runs: its old parts are worth nothing.
                await self._context.ledger.drop_receipts(row.id)
        if size <= (self._choices.part_size or WHOLE_DOWNLOAD) or await self._leases.are_whole():
            return await self._fetch_whole(partial, size, source)
        headers, total = await self._probe()
        if total is not None and total != size:
            raise RemoteChanged(
                f"{self._transfer.source} has {total} bytes, the listing says {size}"
            )
        if not self._takes_ranges:
            return await self._fetch_whole(partial, size, source)
        part_size = range_size(
            size, self._likely_block(read_tag(headers), size), self._choices.part_size
        )
        validator = validator_of(headers)
        await self._context.ledger.start(
            row.id, source, part_size=part_size, partial=partial, validator=validator
        )
        return await self._fetch_parts(partial, size, part_size, validator, headers, resume=False)

    async def _fetch_unbounded(self, partial: str) -> _Fetched:
        """A file whose size nobody tells: all that comes, to its end. It cannot be resumed."""
        self._fetches += 1
        self._parts = 1
        await self._context.ledger.start(
            self._row.id, self._transfer.fingerprint(0), partial=partial
        )
        await self._make_partial(partial, 0)
        names = frozenset(self._names() | {STATED})
        platform = self._context.exchange.platform
        answer = await self._leases.ask(
            lambda lease: platform.get_part(
                lease, Part(1, 0, 0), partial, total=UNKNOWN_SIZE, validator=None, digests=names
            ),
            self._progress,
        )
        # A try that broke off may have brought more.
        await hop(os.truncate, partial, answer.received)
        await hop(files.flush, partial)
        self._check_size(answer.received)
        return _Fetched(dict(answer.digests), answer.headers, None, size=answer.received)

    async def _fetch_whole(self, partial: str, size: int, source: Fingerprint) -> _Fetched:
        """A file of one range: its digests are taken as the bytes pass."""
        self._parts, part = 1, Part(1, 0, size)
        await self._context.ledger.start(self._row.id, source, partial=partial)
        await self._make_partial(partial, size)
        names = self._names() | {STATED}
        answer_headers, digests = await self._get(partial, part, size, None, names)
        await hop(files.flush, partial)
        return _Fetched(digests, answer_headers, None)

    async def _fetch_parts(
        self,
        partial: str,
        size: int,
        part_size: int,
        validator: str | None,
        head: Headers,
        *,
        resume: bool,
    ) -> _Fetched:
        """A file of many ranges, in order, and the digests of its front as it grows."""
        had = await self._make_partial(partial, size)
        # A receipt claims bytes under a name: the name is on the disk before.
        await hop(files.flush_folder, os.path.dirname(partial))  # noqa: PTH120
        parts = cut(size, part_size)
        self._parts = len(parts)
        done: dict[int, Receipt] = {}
        if resume and had == size:
            done = await self._recheck(partial, parts)
        names = files.stated_too(self._names() | {STATED}, head)
        # An ETag `hex-N` need not be held against what a stronger promise is held against.
        weaker = any(name in names for name in self._transfer.promised)
        block = None if weaker else self._likely_block(read_tag(head), size)
        front = Front(partial, size, part_size, names, block)
        for number in done:
            front.arrived(number)
        seen: list[Headers] = []
        flushed = _Flushing(partial)

        async def fetch(part: Part) -> None:
            await front.near(part.offset)
            headers, digests = await self._get(
                partial, part, size, validator, {files.BLAKE3}, front.beside(part)
            )
            await flushed.now()
            receipt = Receipt(
                part.number,
                part.offset,
                part.length,
                "",
                validator,
                blake3=digests[files.BLAKE3],
            )
            await self._context.ledger.add_receipt(self._row.id, receipt)
            seen[:] = [headers]
            front.arrived(part.number)

        missing = [part for part in parts if part.number not in done]
        async with task_group() as group:
            group.start_soon(front.follow)
            width = min(self._context.ranges_at_once, len(missing))
            await each(missing, fetch, at_once=width)
        headers = seen[0] if seen else (await self._probe())[0]
        return _Fetched(front.digests(), headers, front.block, front.block_md5s)

    async def _recheck(self, partial: str, parts: tuple[Part, ...]) -> dict[int, Receipt]:
        """The receipts whose bytes are really on the disk; the others are forgotten."""
        ledger, held, lost = self._context.ledger, {}, []
        cut_alike = {(part.number, part.offset, part.length) for part in parts}
        for receipt in await ledger.receipts(self._row.id):
            on_disk = None
            name = files.BLAKE3 if receipt.blake3 else "md5"
            if (receipt.number, receipt.offset, receipt.length) in cut_alike:
                on_disk = await hop(
                    files.digest_slice, partial, receipt.offset, receipt.length, (name,)
                )
            if on_disk is not None and on_disk[name] == (receipt.blake3 or receipt.md5):
                held[receipt.number] = receipt
                self._progress(receipt.length)
            else:
                lost.append(receipt.number)
        if lost:
            await ledger.drop_receipts(self._row.id, lost)
        return held

    async def _get(
        self,
        partial: str,
        part: Part,
        size: int,
        validator: str | None,
        names: Set[str],
        beside: Beside | None = None,
    ) -> tuple[Headers, dict[str, str]]:
        """One range in the partial, not yet flushed: the answer's head and the bytes' digests."""
        platform, digests = self._context.exchange.platform, frozenset(names)
        answer = await self._leases.ask(
            lambda lease: platform.get_part(
                lease, part, partial, total=size, validator=validator, digests=digests
            ),
            self._progress,
            beside,
        )
        return answer.headers, dict(answer.digests)

    async def _probe(self) -> tuple[Headers, int | None]:
        """What the storage says of the file in an answer's head, and the file's size by it."""
        answer = await self._leases.ask(self._context.exchange.platform.probe)
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        self._takes_ranges = answer.status != 200  # noqa: PLR2004
        if answer.status == 200:  # noqa: PLR2004
            total = answer.headers.get("content-length", "")
        return answer.headers, int(total) if total.isdigit() else None

    # -- proof and publication ---------------------------------------------------------------

    async def _weigh(self, partial: str, size: int, fetched: _Fetched) -> Finding:
        tag = read_tag(fetched.headers)
        stated = self._stated(fetched.headers)
        missing = stated.keys() - fetched.digests.keys()
        if tag.kind is TagKind.MD5 and "md5" not in fetched.digests:
            missing = {"md5", *missing}
        if missing:
            fetched.digests.update(await files.digest_file(partial, size, missing))
        stronger = any(name in fetched.digests for name in (*self._transfer.promised, *stated))
        multipart = None
        if not stronger:
            multipart = await self._fitting_tag(
                partial, size, tag, fetched.block, fetched.block_md5s
            )
        finding = weigh(
            manifest=self._transfer.promised,
            stated=stated,
            tag=tag,
            actual=fetched.digests,
            multipart=multipart,
        )
        return self._believed(finding, stated, fetched.digests)

    def _believed(
        self, finding: Finding, stated: Mapping[str, str], actual: Mapping[str, str]
    ) -> Finding:
        """The finding, unless all it rests on is an ETag that need not be a digest here."""
        traits = self._context.exchange.platform.traits
        if finding.weight is Weight.DIFFERS and finding.by == "etag" and not traits.etag_is_digest:
            promised = self._transfer.promised
            return weigh(
                manifest=promised, stated=stated, tag=OPAQUE, actual=actual, multipart=None
            )
        return finding

    async def _fitting_tag(
        self, path: str, size: int, tag: Tag, block: int | None, block_md5s: list[str]
    ) -> str | None:
        """The ETag `hex-N` of the bytes: the one that fits if any part size makes it fit."""
        if tag.kind is not TagKind.MULTIPART:
            return None
        found = None
        if block is not None and block_md5s:
            found = multipart_tag(block_md5s)
            if found == tag.text:
                return found
        for candidate in candidate_part_sizes(size, tag.parts, self._usual_part_sizes()):
            if candidate == block:
                continue
            found = multipart_tag(await files.block_md5s(path, size, candidate))
            if found == tag.text:
                return found
        return found

    async def _publish(self, partial: str, size: int, fetched: _Fetched, finding: Finding) -> Ended:
        """The file under its final name, and `verified` (or honestly not) in the ledger."""
        ledger, row = self._context.ledger, self._row
        state = State.VERIFIED if finding.weight is Weight.PROVED else State.UNVERIFIED
        parts = self._parts
        await ledger.arrived(
            row.id,
            source=self._transfer.fingerprint(size),
            digests=fetched.digests,
            verified_by=finding.by if state is State.VERIFIED else None,
            size=size,
            parts=parts,
            placed=self._placed(),
        )
        modified = when(self._transfer.file.modified) if self._choices.times else None
        if self._choices.on_conflict is not OnConflict.OVERWRITE and await hop(
            os.path.lexists, self._final
        ):
            await self._drop(partial)
            raise Conflict(f"{self._final} appeared while it was being fetched")
        try:
            published = await hop(files.publish, partial, self._final, modified)
        except OSError as error:
            raise files.local_error(error, self._final) from error
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
            reason=None if state is State.VERIFIED else "nothing the platform offers proves it",
            id=self._transfer.file.id,
            size=size,
            digests=fetched.digests,
            verified_by=finding.by if state is State.VERIFIED else None,
            parts=parts,
            attempts=self._fetches,
            destination=self._final,
        )

    async def _make_partial(self, partial: str, size: int) -> int:
        try:
            return await hop(files.open_partial, partial, size)
        except OSError as error:
            raise files.local_error(error, self._final) from error

    async def _drop(self, partial: str) -> None:
        """Bytes that proved nothing, or the wrong thing, are not kept to be resumed from."""
        with anyio.CancelScope(shield=True):
            await self._context.ledger.drop_receipts(self._row.id)
            await files.remove(partial)

    async def _learn(self) -> int | None:
        """The size that the platform's description tells, where its listing told none.

        The file's digests by it are the file's from now on.
        """
        exchange, file = self._context.exchange, self._transfer.file
        told = await exchange.run(exchange.platform.stat(file.id), tally=self._tally)
        file = replace(file, size=told.size, digests={**told.digests, **file.digests})
        self._transfer = replace(self._transfer, file=file)
        return told.size

    def _describe(self, file: RemoteFile) -> None:
        """The source is known from now on as the platform describes it."""
        self._transfer = replace(self._transfer, file=file)
        self._leases = Leases(self._context.exchange, self._context.renewals, file, self._tally)

    def _partial_path(self) -> str:
        identity = self._transfer.identity
        kept = self._choices.partial_dir
        named = (identity.endpoint, identity.container, identity.remote_path)
        key = named if kept else (*named, self._transfer.local_path)
        name = hashlib.sha256("\0".join(key).encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return str(Path(kept or Path(self._final).parent) / f".penstock-{name}.part")

    def _placed(self) -> str | None:
        """Where the file stands, if not where it was planned to."""
        return self._final if self._final != self._transfer.local_path else None

    def _stated(self, headers: Headers) -> dict[str, str]:
        """Digests the storage states, and those the platform's description of the file does."""
        return _comparable({**promised_digests(headers), **self._transfer.file.digests})

    def _names(self) -> set[str]:
        """Digests to take of the whole file: what was promised or asked for, else MD5.

        What the storage states comes to that (`STATED`).
        """
        promised = (*self._transfer.promised, *self._transfer.file.digests)
        known = {name for name in promised if files.can_digest(name)}
        return {*(known or {"md5"}), *self._choices.checksums}

    def _usual_part_sizes(self) -> tuple[int, ...]:
        return self._context.exchange.platform.traits.etag_part_sizes

    def _likely_block(self, tag: Tag, size: int) -> int | None:
        if tag.kind is not TagKind.MULTIPART:
            return None
        fitting = candidate_part_sizes(size, tag.parts, self._usual_part_sizes())
        return fitting[0] if fitting else None

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


def _comparable(stated: Mapping[str, str]) -> dict[str, str]:
    """Stated digests that can be taken here."""
    return {name: value for name, value in stated.items() if files.can_digest(name)}
