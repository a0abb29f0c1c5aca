"""Small downloads moved in groups: each step is done for all of a group before the next begins.

A small file costs little but what each step takes whatever it does: a hop into a thread, a commit,
turns of a task. So what a worker finds waiting is claimed in one commit, asked for in one burst on
one connection, written and flushed in one hop, committed as arrived, named in one hop, committed as
verified. The order each file goes through is that of any download:
write → flush → arrived → rename → verified.

This is the way of what goes well. Whatever does not (a file stands there, an answer is none, bytes
differ or prove nothing though strict) goes on alone through `engine.download`, which is given what
came, and judges it as its own first try.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import anyio

from penstock.core.errors import PenstockError
from penstock.core.events import BytesMoved, TransferStarted
from penstock.core.lifecycle import State
from penstock.core.model import Fingerprint, Flow, Request, Response
from penstock.core.proof import Finding, Weight
from penstock.core.times import when
from penstock.core.transfers import Choices, DownTransfer, Ended, OnConflict
from penstock.engine import files
from penstock.engine.bursts import Asked
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.fetching import SMALL, hold, small_part, total_of, widen
from penstock.engine.files import hop
from penstock.engine.lean import host_of
from penstock.engine.ledger import Arrived, End, Held, Row
from penstock.engine.partials import Partial, partial_of
from penstock.engine.stopping import Stop
from penstock.engine.weighing import UNPROVED, Weighing

T = TypeVar("T")

# Files of one group: what a hop and a commit cost is a small share of each already.
MOST = 32
# A flush that takes less waits for no disk: the files are in memory.
_NO_WAIT_S = 30e-6
# How long a group takes at most that is asked for on one connection, as far as can be foreseen.
_MOMENT_S = 0.1


@dataclass(slots=True, eq=False)
class Small:
    """One small file on its way: what is asked for it, and how far it has come."""

    transfer: DownTransfer
    flow: Flow[Response]
    request: Request
    tally: Tally = field(default_factory=Tally)
    row: Row | None = None
    began_s: float = 0.0
    asked: Asked | None = None
    weighing: Weighing | None = None
    size: int = 0
    answer: Response | None = None
    partial: Partial | None = None
    digests: dict[str, str] = field(default_factory=dict)
    finding: Finding | None = None
    named: Fingerprint | None = None
    error: PenstockError | None = None

    @property
    def first(self) -> Response | PenstockError | None:
        """What came of the first try."""
        return self.asked.outcome if self.asked is not None else None

    def goes_with(self, other: Small) -> bool:
        """Whether one connection will do for both."""
        return host_of(self.request.url) == host_of(other.request.url)

    @property
    def is_new(self) -> bool:
        """Whether the ledger knew nothing of it."""
        return self.row is not None and self.row.is_new

    @property
    def id(self) -> int:
        """Of its row."""
        assert self.row is not None
        return self.row.id


class Ends(Protocol):
    """What is told how transfers of a group end: the scheduler."""

    def held(self, transfer: DownTransfer, by: Held) -> None:
        """Another run moves it."""
        ...

    async def alone(self, small: Small) -> None:
        """It goes on by itself, claimed as it is."""
        ...

    async def missed(self, small: Small, error: PenstockError) -> None:
        """It failed."""
        ...

    def through(self, small: Small, ended: Ended) -> None:
        """It is done, and the ledger knows."""
        ...


class Express:
    """A run's small downloads."""

    def __init__(self, context: Context, ends: Ends, stop: Stop) -> None:
        self._context = context
        self._ends = ends
        self._stop = stop
        self._choices: Choices = context.choices
        self._largest = min(SMALL, context.choices.part_size or SMALL)
        # Files whose size is not told may be large: groups grow as they turn out small.
        self._trust = 1
        # The least time that a flush of the last group took.
        self._flush_s = math.inf

    def small(self, transfer: DownTransfer) -> Small | None:
        """The transfer as one that can be moved in a group; None where it cannot."""
        file, exchange = transfer.file, self._context.exchange
        lease, size, platform = file.lease, file.size, exchange.platform
        if lease is None or exchange.is_due(lease.expires_at):
            return None
        promised = transfer.promised_size or 0
        if size is None:
            if (
                promised > self._largest
                or lease.whole
                or (platform.traits.leases_prove and not file.digests)
            ):
                return None
            flow, change = platform.probe(lease), self._widened
        elif size > self._largest or transfer.promised_size not in {None, size}:
            return None
        else:
            flow, change = small_part(platform, lease, size), hold
        request = change(next(flow))
        if not exchange.bursts.can(request):
            flow.close()
            return None
        return Small(transfer, flow, request)

    def _widened(self, request: Request) -> Request:
        return widen(request, self._largest)

    def most(self, first: Small) -> int:
        """How many may go in one group with the first.

        As many as come in a moment: where each takes long, other connections shall have the rest.
        """
        each_s = self._context.exchange.bursts.each_s
        if each_s is None:
            return 1
        most = MOST if first.transfer.size is not None else self._trust
        return max(1, min(most, int(_MOMENT_S / each_s)))

    async def move(self, group: Sequence[Small]) -> None:
        """Every transfer of the group has ended, was handed on, or was not begun."""
        ledger, ours = self._context.ledger, dict[int, Small]()
        try:
            # What came and has not its name is what a kill costs, and what memory holds: groups
            # that wait for the disk make others wait that would ask for more.
            async with self._context.exchange.permits.landing:
                await self._claim(group, ours)
                alone = await self._move(ours)
            if alone:
                await hop(_close, alone)
            for small in alone:
                if self._stop.asked:
                    break
                del ours[small.id]
                await self._ends.alone(small)
        finally:
            for small in group:
                small.flow.close()
            if ours:  # Not begun, or cut off.
                left = list(ours.values())
                with anyio.CancelScope(shield=True):
                    await hop(_drop, left)
                    await ledger.release(*ours)

    async def _claim(self, group: Sequence[Small], ours: dict[int, Small]) -> None:
        """Those of the group that no other run moves are ours, by their rows."""
        if self._stop.asked:
            return
        identities = [small.transfer.identity for small in group]
        rows = await self._context.ledger.claim_all(identities, self._context.run)
        for small, row in zip(group, rows, strict=True):
            if isinstance(row, Held):
                self._ends.held(small.transfer, row)
            else:
                small.row = row
                ours[row.id] = small

    async def _move(self, ours: dict[int, Small]) -> list[Small]:
        """Those that go well have ended; the others, to go on alone."""
        now_s, emit = self._context.clock.now_s(), self._context.emit
        smalls = list(ours.values())
        paths = [small.transfer.local_path for small in smalls]
        standing = await self._do(functools.partial(_standing, paths))
        ready: deque[Small] = deque()
        alone: list[Small] = []
        for small, stands in zip(smalls, standing, strict=True):
            small.began_s = now_s
            row, transfer = small.row, small.transfer
            assert row is not None
            emit(TransferStarted(transfer.source, transfer.destination, transfer.size))
            if stands or row.partial is not None or row.state is State.ARRIVED:
                alone.append(small)
                continue
            small.asked = self._asked(small)
            small.weighing = Weighing(
                transfer, self._choices, self._context.exchange.platform.traits
            )
            ready.append(small)
        while ready and not self._stop.asked:
            came = await self._fetch(ready, alone)
            alone += await self._land(came, ours)
        return alone

    async def _fetch(self, ready: deque[Small], alone: list[Small]) -> list[Small]:
        """Some of those that are ready, asked for; others may go alone."""
        while ready and self._is_due(ready[0]):
            alone.append(ready.popleft())  # Its URL has grown old meanwhile.
        came: list[Small] = []
        if not ready:
            return came
        await self._context.exchange.bursts.run(
            [small.asked for small in ready if small.asked is not None], self._goes_on
        )
        while ready and ready[0].asked is not None and ready[0].asked.left:
            came.append(ready.popleft())
        if not came:
            alone.extend(ready)  # No connection, or nothing plain.
            ready.clear()
        return came

    def _is_due(self, small: Small) -> bool:
        lease = small.transfer.file.lease
        return lease is not None and self._context.exchange.is_due(lease.expires_at)

    def _goes_on(self) -> bool:
        return not self._stop.asked

    def _asked(self, small: Small) -> Asked:
        exchange, emit = self._context.exchange, self._context.emit
        source, tally = small.transfer.source, small.tally

        def left() -> None:
            for sums in (tally, exchange.total):
                sums.storage_requests += 1

        def received(size: int) -> None:
            for sums in (tally, exchange.total):
                sums.bytes_received += size

        return Asked(
            small.request,
            lambda size: emit(BytesMoved(source, size)),
            left,
            received,
        )

    # -- what came ---------------------------------------------------------------------------

    async def _land(self, came: Sequence[Small], ours: dict[int, Small]) -> list[Small]:
        """What came is under its names and in the ledger; those that go on alone."""
        good = [small for small in came if self._is_whole(small)]
        if not good:
            return list(came)
        await self._do(functools.partial(self._write, good))
        good = [small for small in good if self._is_accepted(small)]
        for small in good:
            small.answer = small.asked = None  # The bytes are needed no more.
        if good:
            await self._publish(good, ours)
        return [small for small in came if small.id in ours]

    async def _do(self, work: Callable[[], T]) -> T:
        """What `work` on a group's files returns: at once where nothing is to be waited for.

        A hop, and the threads' turns at the interpreter, cost more than it then does.
        """
        return work() if self._flush_s < _NO_WAIT_S else await hop(work)

    def _is_whole(self, small: Small) -> bool:
        """Whether a small file came whole, so that it can be written."""
        response, transfer = small.first, small.transfer
        if small.asked is None or not small.asked.is_good or not isinstance(response, Response):
            return False
        try:
            small.flow.send(response)
        except StopIteration as stop:
            answer: Response = stop.value
        except PenstockError:
            return False
        else:
            return False  # It asks for more.
        small.size = len(answer.body)
        if transfer.file.size is None:
            is_small = small.size == total_of(answer) and small.size <= self._largest
            self._trust = min(2 * self._trust, MOST) if is_small else 1
            if not is_small or transfer.promised_size not in {None, small.size}:
                return False
            lease = transfer.file.lease
            if lease is not None and lease.digests:
                told = {**lease.digests, **transfer.file.digests}
                small.transfer = replace(transfer, file=replace(transfer.file, digests=told))
                assert small.weighing is not None
                small.weighing.transfer = small.transfer
        small.answer = answer
        return True

    def _write(self, smalls: Sequence[Small]) -> None:
        """The files are in their partials, on the disk and weighed. Blocks."""
        folder, flush_s = self._choices.partial_dir, math.inf
        for small in smalls:
            transfer, answer, weighing = small.transfer, small.answer, small.weighing
            assert answer is not None
            assert weighing is not None
            partial = partial_of(transfer.identity, transfer.local_path, folder, None, small.id)
            small.partial = partial
            try:
                path = partial.lock()
                tag, stated, names = weighing.said(answer.headers)
                digests = files.write_small(partial.descriptor, path, answer.body, names)
                began_s = time.perf_counter()
                files.flush_open(partial.descriptor, path)
                flush_s = min(flush_s, time.perf_counter() - began_s)
            except OSError:
                continue  # Alone, it meets the same, and says so.
            small.digests = digests
            small.finding = weighing.weigh_known(tag, stated, digests)
        if smalls:
            self._flush_s = flush_s

    def _is_accepted(self, small: Small) -> bool:
        finding = small.finding
        if finding is None or finding.weight is Weight.DIFFERS:
            return False
        return finding.weight is Weight.PROVED or not self._choices.strict

    async def _publish(self, smalls: Sequence[Small], ours: dict[int, Small]) -> None:
        """The files are under their final names, and the ledger says how they ended."""
        ledger = self._context.ledger
        await ledger.arrived_all([_arrived(small) for small in smalls])
        await self._do(functools.partial(self._name, smalls))
        named = [small for small in smalls if small.named is not None]
        await ledger.end_all([_end(small) for small in named])
        await self._do(functools.partial(_close, smalls))
        for small in smalls:
            del ours[small.id]
        for small in named:
            self._ends.through(small, _ended(small))
        for small in smalls:
            if small.named is None:
                assert small.partial is not None
                await files.remove(small.partial.path)
                if small.error is not None:
                    await self._ends.missed(small, small.error)
                else:
                    # Something took the name meanwhile: it is met as if it had stood there.
                    await self._ends.alone(small)

    def _name(self, smalls: Sequence[Small]) -> None:
        """The files stand under their final names, durably, or have an error. Blocks."""
        overwrites = self._choices.on_conflict is OnConflict.OVERWRITE
        folders: dict[str, None] = {}
        for small in smalls:
            partial, final = small.partial, small.transfer.local_path
            assert partial is not None
            modified = when(small.transfer.file.modified) if self._choices.times else None
            try:
                if not overwrites and os.path.lexists(final):
                    continue
                small.named = files.place_open(partial.descriptor, partial.path, final, modified)
            except OSError as error:
                small.error = files.local_error(error, final)
            else:
                folders[os.path.dirname(final)] = None  # noqa: PTH120 - bytes paths and speed
        for folder in folders:
            files.flush_folder(folder)


def _standing(paths: Sequence[str]) -> list[bool]:
    """Which of the paths something stands at. Blocks."""
    return [os.path.lexists(path) for path in paths]


def _close(smalls: Sequence[Small]) -> None:
    """The partials are nobody's. Blocks."""
    for small in smalls:
        if small.partial is not None:
            small.partial.release()


def _drop(smalls: Sequence[Small]) -> None:
    """Files that were cut off leave nothing that no later run could use. Blocks."""
    for small in smalls:
        partial = small.partial
        if partial is None or partial.descriptor < 0:
            continue
        if small.named is None:
            files.unlink(partial.path)
        partial.release()


def _proved_by(small: Small) -> str | None:
    finding = small.finding
    assert finding is not None
    return finding.by if finding.weight is Weight.PROVED else None


def _state(small: Small) -> State:
    return State.VERIFIED if _proved_by(small) else State.UNVERIFIED


def _arrived(small: Small) -> Arrived:
    assert small.partial is not None
    return Arrived(
        small.id,
        small.transfer.fingerprint(small.size),
        small.digests,
        _proved_by(small),
        small.size,
        1,
        None,
        small.partial.path,
        small.is_new,
    )


def _end(small: Small) -> End:
    assert small.named is not None
    return End(
        small.id,
        _state(small),
        small.digests,
        verified_by=_proved_by(small),
        remote_id=small.transfer.file.id,
        size=small.size,
        mtime_ns=small.named.mtime_ns,
        parts=1,
        is_new=small.is_new,
    )


def _ended(small: Small) -> Ended:
    state = _state(small)
    return Ended(
        state,
        reason=None if state is State.VERIFIED else UNPROVED,
        id=small.transfer.file.id,
        size=small.size,
        digests=small.digests,
        verified_by=_proved_by(small),
        parts=1,
        attempts=1,
        destination=small.transfer.local_path,
    )
