"""Decides which transfers move, and how many at once: a bounded queue between planner and workers.

The planner delivers batches; each batch is held against the ledger in one look-up, so what is
proved already costs no request and no worker. The rest waits in a short queue for a worker. A
transfer another process moves is set aside and looked at again when nothing else is left. A
failure is a line in the report; only what every transfer shares stops the run.

Stopping is asked for by `Stop`: nothing new is begun, what is in flight has a few seconds to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import anyio

from penstock.core.errors import (
    Effect,
    PenstockError,
    Refused,
)
from penstock.core.events import (
    PlanComplete,
    TransferStarted,
)
from penstock.core.events import (
    Planned as PlannedEvent,
)
from penstock.core.lifecycle import State
from penstock.core.model import Identity, Response
from penstock.core.plan import SMALLEST_RANGE, WHOLE_DOWNLOAD
from penstock.core.report import Line, Summary
from penstock.core.transfers import DownTransfer, Ended, Transfer, UpTransfer
from penstock.engine.attaching import Attachments, Waiting
from penstock.engine.context import RANGES_AT_ONCE, Context
from penstock.engine.destinations import Destinations
from penstock.engine.exchange import Tally
from penstock.engine.files import digest_file, hop, local_error
from penstock.engine.groups import task_group
from penstock.engine.known import is_sent, is_unchanged, known, metadata_of, proved_rows
from penstock.engine.ledger import Held, Row
from penstock.engine.lines import Lines
from penstock.engine.permits import Room
from penstock.engine.planner import Deliver, Planned, Unmoved
from penstock.engine.proving import Arrival, Arrivals
from penstock.engine.stopping import Alike, Limits, Stop, TooManyFailures

if TYPE_CHECKING:
    from penstock.engine.express import Express, Small

# Transfers known and waiting for a worker: enough never to run dry, few enough to hold in memory.
QUEUE = 1000
# What a stop leaves to what is in flight.
GRACE_S = 5.0
_HELD_AGAIN_S = 0.5
# Of one file, and no cause for others. Source: RFC 9110, 15.5.5 and 15.5.11.
_GONE = frozenset((404, 410))


# Moves one claimed transfer.
Worker: TypeAlias = Callable[[Transfer, Row, Tally], Awaitable[Ended]]


class Scheduler:
    """One run's transfers, from planned to ended; `worker` moves one, in place of the usual."""

    def __init__(
        self,
        context: Context,
        summary: Summary,
        write: Callable[[Line], None],
        stop: Stop,
        limits: Limits,
        *,
        worker: Worker | None = None,
    ) -> None:
        self._context = context
        self._lines = Lines(context, summary, write)
        self._stop = stop
        self._limits = limits
        self._worker = worker or self._move_bytes
        self._is_usual = worker is None
        self._room = Room(context.exchange.permits)
        self._alike = Alike()
        self._gave_up = False
        self._files = 0
        self._bytes = 0
        # Proved, but not in the listing made since: the file that is gone, by its id.
        self._replanned: dict[Identity, str | None] = {}
        self._held: list[Transfer] = []
        self._holders: set[str] = set()
        self._destinations = Destinations(context.choices)
        # None: nothing more comes.
        self._queue: asyncio.Queue[Transfer | None] = asyncio.Queue(QUEUE)
        self._arrivals = Arrivals(context, self._settled)
        self._unproved: set[int] = set()
        self._attachments = Attachments(context, self._attached)
        # Proved already: only their metadata is to be stored.
        self._metadata_only: set[Identity] = set()

    async def run(self, plan: Callable[[Deliver], Awaitable[None]]) -> None:
        """Every transfer that `plan` delivers has ended, or the run was stopped.

        Raises what stops the run. Lines of transfers that were known and did not end are written
        as failed, with the reason.
        """
        cause: BaseException | None = None
        try:
            async with task_group() as group:
                work = anyio.CancelScope()
                group.start_soon(self._watch, work)
                with work:
                    async with task_group() as workers:
                        workers.start_soon(self._plan, plan)
                        for _ in range(self._limits.files_at_once):
                            workers.start_soon(self._work)
                    await self._conclude()
                    await self._settle_held()
                group.cancel_scope.cancel()
        except BaseException as error:
            cause = error
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._let_go()
            if cause is not None or self._stop.asked:
                self._lines.unended(cause)

    async def _let_go(self) -> None:
        """Claims of what has arrived and was not proved: the next run's listing proves it."""
        for number in tuple(self._unproved):
            await self._context.ledger.release(number)
        self._unproved.clear()

    async def _watch(self, work: anyio.CancelScope) -> None:
        """Ends what is in flight some seconds after a stop was asked for."""
        await self._stop.wait()
        work.deadline = min(work.deadline, anyio.current_time() + GRACE_S)

    async def _plan(self, plan: Callable[[Deliver], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            async with task_group() as group:
                group.start_soon(self._end_when_stopped, scope)
                await plan(self._deliver)
                group.cancel_scope.cancel()
        if self._stop.asked:
            # Nothing waits for room: workers that have seen the stop take nothing any more.
            while not self._queue.empty():
                self._queue.get_nowait()
        else:
            self._context.emit(PlanComplete(self._files, self._bytes))
        await self._queue.put(None)

    async def _end_when_stopped(self, scope: anyio.CancelScope) -> None:
        await self._stop.wait()
        scope.cancel()

    # -- intake ------------------------------------------------------------------------------

    async def _deliver(self, batch: Sequence[Planned]) -> None:
        """A batch of the plan: what is settled is reported, the rest waits for a worker."""
        moving: list[Transfer] = []
        for found in batch:
            planned = self._destinations.unless_met(found)
            if planned is None:
                continue
            self._files += 1
            self._bytes += planned.size or 0
            self._context.emit(PlannedEvent(planned.source, planned.destination, planned.size))
            if isinstance(planned, Unmoved):
                self._unmoved(planned)
            else:
                self._lines.known(planned)
                moving.append(planned)
        rows = await self._context.ledger.lookup([transfer.identity for transfer in moving])
        proved = await hop(proved_rows, moving, rows, self._context.choices)
        for transfer, row, is_proved in zip(moving, rows, proved, strict=True):
            if is_proved and row is not None:
                ended = known(row, transfer)
                missing = set(self._context.choices.checksums) - row.digests.keys()
                if missing and ended.size is not None:
                    path = (row.placed if isinstance(transfer, DownTransfer) else None) or (
                        transfer.local_path
                    )
                    more = await digest_file(path, ended.size, missing)
                    ended = replace(ended, digests={**ended.digests, **more})
                if is_unchanged(transfer, row):
                    self._done(transfer, replace(ended, metadata="unchanged"), Tally(), 0.0)
                    continue
                if not metadata_of(transfer):
                    self._done(transfer, ended, Tally(), 0.0)
                    continue
                self._metadata_only.add(transfer.identity)
            elif (
                row is not None
                and is_sent(transfer, row)
                and (row.ended_at or 0.0) < self._context.began_at
            ):
                # It was proved, and the listing made since does not show it: it goes again.
                # What another run proved after this one began may be younger than our listing.
                self._replanned[transfer.identity] = row.remote_id
            await self._queue.put(transfer)

    def _unmoved(self, planned: Unmoved) -> None:
        self._lines.unmoved(planned)
        error = planned.error
        gone = isinstance(error, Refused) and error.status in _GONE
        if error is not None and not gone:
            # What looking for each file met may be one cause for all: no right, for one.
            self._alike.add(error)

    # -- work --------------------------------------------------------------------------------

    async def _work(self) -> None:
        transfer = await self._queue.get()
        while transfer is not None and not self._stop.asked and not self._gave_up:
            small = self._small(transfer)
            if small is not None:
                group, transfer = self._beside(small)
                await self._express.move(group)
            else:
                bodies = _bodies_of(transfer)
                if bodies > 1:
                    async with self._room.of(bodies):
                        is_moved = await self._move(transfer)
                else:
                    is_moved = await self._move(transfer)
                if not is_moved:
                    self._held.append(transfer)
                transfer = None
            if transfer is None:
                transfer = await self._queue.get()
        if self._queue.empty():
            self._queue.put_nowait(None)  # For the other workers.

    def _small(self, transfer: Transfer) -> Small | None:
        """The transfer as one of a group, where it can be."""
        if isinstance(transfer, UpTransfer) or not self._is_usual:
            return None
        return self._express.small(transfer)

    def _beside(self, small: Small) -> tuple[list[Small], Transfer | None]:
        """The transfer and those behind it that go with it, and the first that does not."""
        group, most = [small], self._express.most(small)
        while len(group) < most and not self._queue.empty():
            transfer = self._queue.get_nowait()
            if transfer is None:
                self._queue.put_nowait(None)  # For the other workers.
                break
            other = self._small(transfer)
            if other is None or not other.goes_with(small):
                return group, transfer
            group.append(other)
        return group, None

    # -- what a group of small ones is told by ------------------------------------------------

    def held(self, transfer: DownTransfer, by: Held) -> None:
        """Another run moves it."""
        self._holders.add(by.holder.partition("-")[0])
        self._held.append(transfer)

    async def alone(self, small: Small) -> None:
        """It goes on by itself, claimed as it is."""
        assert small.row is not None
        transfer, first = small.transfer, small.first
        await self._move_claimed(transfer, small.row, small.tally, small.began_s, first)

    async def missed(self, small: Small, error: PenstockError) -> None:
        """It failed."""
        await self._fail(small.transfer, small.id, error, small.tally, small.began_s)

    def through(self, small: Small, ended: Ended) -> None:
        """It is done, and the ledger knows."""
        seconds = self._context.clock.now_s() - small.began_s
        self._done(small.transfer, ended, small.tally, seconds)

    async def _conclude(self) -> None:
        """What has arrived is proved, and what waits for its metadata has it.

        It stays claimed until then, and other processes wait for it: it must never wait for theirs.
        """
        if not self._stop.asked:
            await self._arrivals.prove()
        await self._attachments.flush()

    async def _settle_held(self) -> None:
        """Transfers that other processes were moving: theirs when proved, ours when they let go."""
        while self._held and not self._stop.asked:
            held, self._held = self._held, []
            rows = await self._context.ledger.lookup([transfer.identity for transfer in held])
            proved = await hop(proved_rows, held, rows, self._context.choices)
            for transfer, row, is_proved in zip(held, rows, proved, strict=True):
                # Our listing is older than what another process has just proved.
                if row is not None and (is_proved or self._was_sent_since(transfer, row)):
                    await self._finish(transfer, row, known(row, transfer), Tally(), 0.0)
                elif not await self._move(transfer):
                    self._held.append(transfer)
            await self._conclude()
            if self._held:
                whose = ", ".join(sorted(self._holders))
                self._context.say_once(
                    f"what is left is being moved by other runs (process {whose}); it is waited "
                    "for, and taken over if they end before it is done"
                )
                await anyio.sleep(_HELD_AGAIN_S)

    async def _move(self, transfer: Transfer) -> bool:
        """Whether the transfer ended; False where another live process moves it."""
        context, tally = self._context, Tally()
        row = await context.ledger.claim(transfer.identity, context.run)
        if isinstance(row, Held):
            self._holders.add(row.holder.partition("-")[0])
            return False
        if transfer.identity in self._metadata_only or self._was_sent_since(transfer, row):
            # Sent before, or by another process since our listing was made.
            self._metadata_only.discard(transfer.identity)
            await context.ledger.release(row.id)
            await self._finish(transfer, row, known(row, transfer), tally, context.clock.now_s())
            return True
        began_s = context.clock.now_s()
        context.emit(TransferStarted(transfer.source, transfer.destination, transfer.size))
        await self._move_claimed(transfer, row, tally, began_s)
        return True

    async def _move_claimed(
        self,
        transfer: Transfer,
        row: Row,
        tally: Tally,
        began_s: float,
        first: Response | PenstockError | None = None,
    ) -> None:
        """The transfer ended; `first` is what came of a first try, as in `Exchange.run`."""
        context = self._context
        try:
            if first is None:
                ended = await self._worker(transfer, row, tally)
            else:
                ended = await self._move_bytes(transfer, row, tally, first)
        except (PenstockError, OSError) as failure:
            error = (
                local_error(failure, str(failure.filename or transfer.destination))
                if isinstance(failure, OSError)
                else failure
            )
            await self._fail(transfer, row.id, error, tally, began_s)
            return
        except BaseException:
            with anyio.CancelScope(shield=True):
                await context.ledger.release(row.id)
            raise
        if ended.state is State.SKIPPED:
            await context.ledger.release(row.id)
        if ended.state is State.ARRIVED and isinstance(transfer, UpTransfer):
            self._unproved.add(row.id)
            if self._arrivals.add(Arrival(transfer, row, ended, tally, began_s)):
                await self._arrivals.prove()
            return
        await self._finish(transfer, row, ended, tally, began_s)

    async def _fail(
        self, transfer: Transfer, row: int, error: PenstockError, tally: Tally, began_s: float
    ) -> None:
        """The transfer failed. Raises what stops the run."""
        await self._context.ledger.failed(row)
        if error.effect is Effect.STOP_RUN:
            raise error
        self._failed(transfer, error, tally, self._context.clock.now_s() - began_s)

    async def _finish(
        self, transfer: Transfer, row: Row, ended: Ended, tally: Tally, began_s: float
    ) -> None:
        """The transfer is done, once its metadata is stored too."""
        text = metadata_of(transfer)
        stored = ended.metadata is not None or ended.id is None or ended.reason == "conflict"
        if isinstance(transfer, UpTransfer) and text and not stored:
            if ended.state is State.SKIPPED and is_unchanged(transfer, row, ended.id):
                ended = replace(ended, metadata="unchanged")
            else:
                await self._attachments.add(Waiting(transfer, row.id, ended, tally, began_s))
                return
        seconds = self._context.clock.now_s() - began_s if began_s else 0.0
        self._done(transfer, ended, tally, seconds)

    async def _attached(self, waiting: Waiting, error: PenstockError | None) -> None:
        """A transfer's metadata is stored, or was refused."""
        seconds = self._context.clock.now_s() - waiting.began_s if waiting.began_s else 0.0
        if error is None:
            ended = replace(waiting.ended, metadata="stored")
            self._done(waiting.transfer, ended, waiting.tally, seconds)
        else:
            self._failed(waiting.transfer, error, waiting.tally, seconds, waiting.ended)

    @cached_property
    def _express(self) -> Express:
        # Imported when bytes move, as below.
        from penstock.engine.express import Express  # noqa: PLC0415

        return Express(self._context, self, self._stop)

    async def _settled(self, arrival: Arrival, ended: Ended | PenstockError) -> None:
        """What has arrived is proved, or is not."""
        self._unproved.discard(arrival.row.id)
        seconds = self._context.clock.now_s() - arrival.began_s
        if isinstance(ended, Ended):
            ended = replace(ended, metadata=arrival.ended.metadata)
            await self._finish(arrival.transfer, arrival.row, ended, arrival.tally, arrival.began_s)
            return
        await self._context.ledger.forget_upload(arrival.row.id)
        await self._context.ledger.failed(arrival.row.id)
        if ended.effect is Effect.STOP_RUN:
            raise ended
        self._failed(arrival.transfer, ended, arrival.tally, seconds)

    def _was_sent_since(self, transfer: Transfer, row: Row) -> bool:
        """Whether another process has sent the file since our listing was made."""
        if not is_sent(transfer, row) or (
            self._context.choices.strict and row.state is not State.VERIFIED
        ):
            return False
        gone = self._replanned.get(transfer.identity)
        return gone is None or gone != row.remote_id

    async def _move_bytes(
        self,
        transfer: Transfer,
        row: Row,
        tally: Tally,
        first: Response | PenstockError | None = None,
    ) -> Ended:
        # Imported when bytes move: most runs of a command that is run again move none.
        if isinstance(transfer, DownTransfer):
            from penstock.engine.download import Download  # noqa: PLC0415 - as above

            return await Download(self._context, transfer, row, tally, first).run()
        from penstock.engine.upload import UploadRun  # noqa: PLC0415 - as above

        run = UploadRun(self._context, transfer, row, tally)
        return replace(await run.run(), metadata=run.attached)

    # -- ends -------------------------------------------------------------------------------

    def _done(self, transfer: Transfer, ended: Ended, tally: Tally, seconds: float) -> None:
        if ended.state in {State.VERIFIED, State.UNVERIFIED}:
            self._alike.succeeded = True
        self._lines.done(transfer, ended, tally, seconds)

    def _failed(
        self,
        transfer: Transfer,
        error: PenstockError,
        tally: Tally,
        seconds: float,
        ended: Ended | None = None,
    ) -> None:
        self._lines.failed(transfer, error, tally, seconds, ended)
        self._alike.add(error)
        most, failed = self._limits.max_failures, self._lines.summary.failed
        if most is not None and failed >= most:
            self._gave_up = True
            raise TooManyFailures(f"{failed} transfers failed, as many as allowed")


def _bodies_of(transfer: Transfer) -> int:
    """Bodies of one file that may be in flight at once, as far as its size tells."""
    size = transfer.size or 0
    return min(-(-size // SMALLEST_RANGE), RANGES_AT_ONCE) if size > WHOLE_DOWNLOAD else 1
