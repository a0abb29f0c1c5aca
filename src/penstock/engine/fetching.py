"""Fetches one file's bytes into its partial, once: at once if it is small, else in ranges.

A small file stays in memory until it is whole, and is written, digested and flushed in one thread
hop together with its neighbours. A large one is fetched in ranges, in order, a bounded way ahead
of a digest that follows the contiguous front from the page cache. The ETag and size learnt first
are held fixed for every range, so a file that changes meanwhile is an error, never a mix. Each
range is flushed before its receipt is committed.

On resume nothing on disk is believed: a range whose digest is not its receipt's is fetched again,
and so are those behind it which only the digest of the front before them can tell.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Set

import anyio

from penstock.core.errors import PenstockError, RemoteChanged
from penstock.core.model import (
    MIB,
    UNKNOWN_SIZE,
    Fingerprint,
    Flow,
    Headers,
    Lease,
    Part,
    Receipt,
    Request,
    Response,
    validator_of,
)
from penstock.core.plan import WHOLE_DOWNLOAD, cut, range_size
from penstock.core.units import whole_number
from penstock.core.values import changed
from penstock.engine import files
from penstock.engine.context import Context
from penstock.engine.digests import STATED, stated_too
from penstock.engine.files import hop
from penstock.engine.front import Front, known_by
from penstock.engine.groups import each, task_group
from penstock.engine.leases import Leases
from penstock.engine.partials import Partial
from penstock.engine.reserving import RESERVED_AT_ONCE, Reserving, open_partial
from penstock.engine.rows import Row
from penstock.engine.stretches import Settling, Stretch, Stretches
from penstock.engine.weighing import Fetched, Weighing
from penstock.platforms.base import Platform

# A file up to this size is held in memory, which is then less than a large body's two buffers,
# and costs a third of what a file of its own in the threads does.
SMALL = MIB

# A stream that brings this many bytes a second is not held up by its line; others beside it would
# only take turns with it, and what they bring ahead of the front is read again to be digested.
FAST = 100 * MIB
# All files' streams together: as much as one core receives, writes and digests at ease. A guess.
_FAST_TOGETHER = 2 * FAST
# How long a number of streams is looked at before there are twice as many: a long round trip.
_MOMENT_S = 0.1

_WHOLE, _RANGE = 200, 206


class Flushing:
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


class Fetching:
    """One file's bytes, as often as they are asked for."""

    def __init__(
        self,
        context: Context,
        row: Row,
        leases: Leases,
        weighing: Weighing,
        progress: Callable[[int], None],
        first: Response | PenstockError | None = None,
    ) -> None:
        """`first` is what came of a first try, as in `Exchange.run`."""
        self._context = context
        self._first = first
        self._row = row
        self._leases = leases
        self._weighing = weighing
        self._tell = progress
        self._moved = 0
        self._takes_ranges = True
        self._came: tuple[Headers, bytes] | None = None
        self.times = 0
        """Whole fetches begun."""
        self.parts = 0
        """Ranges the file came in, the last time."""
        self.at_once = False
        """Whether it came at once, the last time: the ledger knows nothing of it yet."""

    async def look(self) -> int | None:
        """The file's size, where its listing does not tell; a small file comes with the answer."""
        platform = self._context.exchange.platform
        most = min(SMALL, self._context.choices.part_size or SMALL)
        is_large = (self._weighing.transfer.promised_size or 0) > most

        def look(lease: Lease) -> Flow[Response]:
            # Of a file that is known to be large its first bytes come with its first range.
            return platform.probe(lease) if is_large else widened(platform.probe(lease), most)

        answer = await self._leases.ask(look, self._progress, first=self._given())
        total = self._learn(answer)
        whole = answer.status in {_WHOLE, _RANGE} and len(answer.body) == total
        if whole:
            self._came = answer.headers, answer.body
        elif answer.body:
            self._progress(-len(answer.body))
        return total

    def _given(self) -> Response | PenstockError | None:
        given, self._first = self._first, None
        return given

    @property
    def told(self) -> Mapping[str, str]:
        """The file's digests, as far as they came with its URL."""
        return self._leases.digests

    async def probe(self) -> tuple[Headers, int | None]:
        """What the storage says of the file in an answer's head, and the file's size by it."""
        answer = await self._leases.ask(self._context.exchange.platform.probe)
        return answer.headers, self._learn(answer)

    def _learn(self, answer: Response) -> int | None:
        self._takes_ranges = answer.status != _WHOLE
        return total_of(answer)

    async def fetch(self, partial: Partial, size: int | None, *, fresh: bool) -> Fetched:
        """The whole file in the partial, flushed, with its digests; from receipts if they hold.

        Raises OSError for trouble with the partial, beside the errors of penstock.
        """
        self.times += 1
        self.at_once = False
        if size is None:
            return await self._unbounded(await hop(partial.lock))
        if size <= min(SMALL, self._context.choices.part_size or SMALL):
            return await self._at_once(partial, size)
        path = await hop(partial.lock)
        source = self._weighing.transfer.fingerprint(size)
        row, ledger, choices = self._row, self._context.ledger, self._context.choices
        if not fresh and row.partial is None and choices.partial_dir is not None:
            row = await ledger.adopt(row.id, path) or row
        if not fresh and row.source == source and row.partial == path and row.part_size is not None:
            try:
                # What else the storage states is not known yet, but for the ETag.
                head = Headers({"etag": row.validator} if row.validator else {})
                return await self._in_parts(
                    path, size, row.part_size, row.validator, head, resume=True
                )
            except RemoteChanged:
                # What changed did so between two runs: its old parts are worth nothing.
                await ledger.drop_receipts(row.id)
        if size <= (choices.part_size or WHOLE_DOWNLOAD) or await self._leases.are_whole():
            return await self._whole(path, size, source)
        headers, total = await self.probe()
        if total is not None and total != size:
            raise RemoteChanged(
                f"{self._weighing.transfer.source} has {total} bytes, the listing says {size}"
            )
        if not self._takes_ranges:
            return await self._whole(path, size, source)
        part_size = range_size(size, self._weighing.block(headers, size), choices.part_size)
        validator = validator_of(headers)
        await ledger.start(row.id, source, part_size=part_size, partial=path, validator=validator)
        return await self._in_parts(path, size, part_size, validator, headers, resume=False)

    async def _at_once(self, partial: Partial, size: int) -> Fetched:
        """A small file, held in memory and then written and flushed beside its neighbours."""
        self.parts, self.at_once = 1, True
        came, self._came = self._came, None
        if came is None or len(came[1]) != size:
            platform = self._context.exchange.platform
            answer = await self._leases.ask(
                lambda lease: held(small_part(platform, lease, size)),
                self._progress,
                first=self._given(),
            )
            came = answer.headers, answer.body
        headers, body = came
        names = stated_too(self._weighing.names() | {STATED}, headers)

        def write() -> dict[str, str]:
            path = partial.lock()
            digests = files.write_small(partial.descriptor, path, body, names)
            files.flush_open(partial.descriptor, path)
            return digests

        return Fetched(await self._context.files.do(write), headers, size)

    async def _unbounded(self, path: str) -> Fetched:
        """A file whose size nobody tells: all that comes, to its end. It cannot be resumed."""
        self.parts = 1
        source = self._weighing.transfer.fingerprint(0)
        await self._context.ledger.start(self._row.id, source, partial=path)
        await hop(open_partial, path, 0)
        names = frozenset(self._weighing.names() | {STATED})
        platform = self._context.exchange.platform
        answer = await self._leases.ask(
            lambda lease: platform.get_part(
                lease, Part(1, 0, 0), path, total=UNKNOWN_SIZE, validator=None, digests=names
            ),
            self._progress,
        )
        # A try that broke off may have brought more.
        await hop(os.truncate, path, answer.received)
        await hop(files.flush, path)
        return Fetched(dict(answer.digests), answer.headers, answer.received)

    async def _whole(self, path: str, size: int, source: Fingerprint) -> Fetched:
        """A file of one range: its digests are taken as the bytes pass."""
        self.parts, part = 1, Part(1, 0, size)
        await self._context.ledger.start(self._row.id, source, partial=path)
        await hop(open_partial, path, size)
        names = self._weighing.names() | {STATED}
        headers, digests = await self._get(path, part, size, None, names)
        await hop(files.flush, path)
        return Fetched(digests, headers, size)

    async def _in_parts(
        self,
        path: str,
        size: int,
        part_size: int,
        validator: str | None,
        head: Headers,
        *,
        resume: bool,
    ) -> Fetched:
        """A file of many ranges, in order, and the digests of its front as it grows."""
        had = await hop(open_partial, path, size, reserved=False)
        # A receipt claims bytes under a name: the name is on the disk before.
        await hop(files.flush_folder, os.path.dirname(path))  # noqa: PTH120
        parts = cut(size, part_size)
        self.parts = len(parts)
        receipts: list[Receipt] = []
        if resume and had == size:
            receipts = await self._context.ledger.receipts(self._row.id)
        names = stated_too(self._weighing.names() | {STATED}, head)
        # An ETag `hex-N` need not be held against what a stronger promise is held against.
        promised = self._weighing.is_promised(names)
        block = None if promised else self._weighing.block(head, size)
        front = Front(path, size, part_size, names | known_by(receipts), block)
        done = await self._recheck(front, receipts, parts)
        for number in done:
            front.arrived(number)
        missing = [part for part in parts if part.number not in done]
        reserving = Reserving(path, size if had != size else 0)
        try:
            head_seen = await self._missing(front, missing, path, size, validator, reserving)
        except OSError as error:
            if files.is_full(error):
                # What was reserved is given back, whatever was written of it meanwhile.
                await self._context.ledger.drop_receipts(self._row.id)
                await hop(os.truncate, path, 0)
            raise
        headers = head_seen or (await self.probe())[0]
        return Fetched(front.digests(), headers, size, front.block, front.block_md5s)

    async def _missing(
        self,
        front: Front,
        missing: list[Part],
        path: str,
        size: int,
        validator: str | None,
        reserving: Reserving,
    ) -> Headers | None:
        """The ranges that are missing, each flushed and then known to the ledger; an answer's head.

        Everything is digested when it returns.
        """
        seen: list[Headers] = []
        flushed, pace = Flushing(path), self._context.pace

        async def settle(part: Part) -> None:
            await flushed.now()
            blake3, known = await front.proof(part)
            receipt = Receipt(
                part.number, part.offset, part.length, "", validator, blake3=blake3, front=known
            )
            await self._context.ledger.add_receipt(self._row.id, receipt)
            front.arrived(part.number)

        async def fetch(parts: tuple[Part, ...]) -> None:
            stretch = Stretch(parts, front, settling)
            await front.near(parts[0].offset)
            await reserving.reach(parts[-1].offset + parts[-1].length)
            began_s = self._context.clock.now_s()
            with settling.stream():
                seen[:] = [await self._get_stretch(path, stretch, size, validator)]
            pace.brought(stretch.length, self._context.clock.now_s() - began_s)

        width = min(self._context.ranges_at_once, len(missing))
        # Who says how large parts are says how much one request asks for.
        most = pace.most if self._context.choices.part_size is None else lambda: 0.0
        async with task_group() as group:
            group.start_soon(front.follow)
            group.start_soon(reserving.run)
            settling = Settling(group, settle)
            # A stream that waited for blocks would be taken for a slow one.
            await reserving.reach(4 * RESERVED_AT_ONCE)
            try:
                stretches = Stretches(missing, most)
                await each(stretches, fetch, at_once=width, widening=self._is_slow)
            except PenstockError:
                await settling.ended()
                raise
        return seen[0] if seen else None

    async def _is_slow(self, streams: int) -> bool:
        """Whether, a moment later, more streams would help: those there are bring little each.

        Not where their bytes come quicker than they are written and digested, nor where all files
        together bring much: more streams of one would be ahead of its front for nothing.
        """
        held_up, exchange = self._context.exchange.held_up, self._context.exchange
        permits = exchange.permits
        before, all_before, began_s = self._moved, permits.passed, self._context.clock.now_s()
        await anyio.sleep(_MOMENT_S)
        seconds = self._context.clock.now_s() - began_s
        slow = self._moved - before < streams * FAST * seconds
        slow = slow and permits.passed - all_before < _FAST_TOGETHER * seconds
        return slow and exchange.held_up == held_up

    def _progress(self, size: int) -> None:
        self._moved += size
        self._tell(size)

    async def _recheck(
        self, front: Front, receipts: list[Receipt], parts: tuple[Part, ...]
    ) -> list[int]:
        """The ranges whose bytes are really on the disk; the other receipts are forgotten."""
        held, lost = [], []
        cut_alike = {(part.number, part.offset, part.length) for part in parts}
        for receipt in receipts:
            alike = (receipt.number, receipt.offset, receipt.length) in cut_alike
            if alike and await hop(front.proves, receipt):
                held.append(receipt.number)
                self._progress(receipt.length)
            else:
                lost.append(receipt.number)
        if lost:
            await self._context.ledger.drop_receipts(self._row.id, lost)
        return held

    async def _get_stretch(
        self, path: str, stretch: Stretch, size: int, validator: str | None
    ) -> Headers:
        """A stretch in the partial, its ranges settled or about to be: the answer's head."""
        platform = self._context.exchange.platform
        answer = await self._leases.ask(
            lambda lease: platform.get_part(
                lease, stretch.rest, path, total=size, validator=validator, digests=frozenset()
            ),
            self._progress,
            stretch,
        )
        return answer.headers

    async def _get(
        self, path: str, part: Part, size: int, validator: str | None, names: Set[str]
    ) -> tuple[Headers, dict[str, str]]:
        """One range in the partial, not yet flushed: the answer's head and the bytes' digests."""
        platform, digests = self._context.exchange.platform, frozenset(names)
        answer = await self._leases.ask(
            lambda lease: platform.get_part(
                lease, part, path, total=size, validator=validator, digests=digests
            ),
            self._progress,
        )
        return answer.headers, dict(answer.digests)


def total_of(answer: Response) -> int | None:
    """The size that an answer says its file has."""
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    if answer.status == _WHOLE:
        total = answer.headers.get("content-length", "")
    return whole_number(total)


def small_part(platform: Platform, lease: Lease, size: int) -> Flow[Response]:
    """The flow that asks for a small file as one part."""
    return platform.get_part(
        lease, Part(1, 0, size), "", total=size, validator=None, digests=frozenset()
    )


def held(flow: Flow[Response]) -> Flow[Response]:
    """The flow, its file's bytes held in memory."""
    return _each(flow, hold)


def widened(flow: Flow[Response], most: int) -> Flow[Response]:
    """The flow that asks for a file's first byte, asking for all that a small file has."""
    return _each(flow, lambda request: widen(request, most))


def widen(request: Request, most: int) -> Request:
    """A request for a file's first byte, asking for all of one of at most so many bytes."""
    headers = tuple(
        (name, f"bytes=0-{most - 1}") if name.lower() == "range" else (name, value)
        for name, value in request.headers
    )
    return changed(request, headers=headers, held=most)


def hold(request: Request) -> Request:
    """A request for a small file, its bytes held in memory."""
    return changed(request, held=SMALL)


def _each(flow: Flow[Response], change: Callable[[Request], Request]) -> Flow[Response]:
    """The flow, each of its requests changed."""
    try:
        request = next(flow)
        while True:
            try:
                response = yield change(request)
            except Exception as error:  # noqa: BLE001 - it is the flow's to judge
                request = flow.throw(error)
            else:
                request = flow.send(response)
    except StopIteration as stop:
        result: Response = stop.value
        return result
    finally:
        flow.close()
