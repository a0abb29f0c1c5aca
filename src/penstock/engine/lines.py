"""A line for each transfer as it ends, and for those that were known and did not end.

The report, the summary and whoever listens are told in one place. What a transfer's end means for
the run is the scheduler's.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.core.errors import Conflict, MetadataRefused, PenstockError
from penstock.core.events import TransferEnded
from penstock.core.lifecycle import State
from penstock.core.model import Identity
from penstock.core.report import Line, Summary
from penstock.core.transfers import Ended, Transfer
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.planner import Unmoved


class Lines:
    """A run's lines: written, added up, and told."""

    def __init__(self, context: Context, summary: Summary, write: Callable[[Line], None]) -> None:
        self.summary = summary
        self._context = context
        self._write = write
        self._open: dict[Identity, tuple[str, str, int | None]] = {}

    def known(self, transfer: Transfer) -> None:
        """A transfer will have a line, if only that it did not end."""
        self._open[transfer.identity] = (transfer.source, transfer.destination, transfer.size)

    def unmoved(self, planned: Unmoved) -> None:
        """The line of a file that was not to move."""
        error = planned.error
        self._end(
            Line(
                run=self._context.run,
                source=planned.source,
                destination=planned.destination,
                id=None,
                size=planned.size,
                status=planned.state.value,
                reason=planned.reason,
                finished_at=self._context.clock.wall_at(),
                error=_told(error) if error is not None else None,
            )
        )

    def done(self, transfer: Transfer, ended: Ended, tally: Tally, seconds: float) -> None:
        """The line of a transfer that did not fail."""
        self._open.pop(transfer.identity, None)
        self._end(
            Line(
                run=self._context.run,
                source=transfer.source,
                destination=ended.destination or transfer.destination,
                id=ended.id,
                size=ended.size if ended.size is not None else transfer.size,
                status=ended.state.value,
                reason=ended.reason,
                digests=dict(ended.digests),
                verified_by=ended.verified_by,
                metadata=ended.metadata,
                parts=ended.parts,
                attempts=ended.attempts,
                api_requests=tally.api_requests,
                bytes_sent=tally.bytes_sent,
                bytes_received=tally.bytes_received,
                seconds=round(seconds, 3),
                finished_at=self._context.clock.wall_at(),
            )
        )

    def failed(
        self,
        transfer: Transfer,
        error: PenstockError,
        tally: Tally,
        seconds: float,
        ended: Ended | None = None,
    ) -> None:
        """A failed transfer's line; `ended` is how its content did, where that is there."""
        self._open.pop(transfer.identity, None)
        self._end(
            Line(
                run=self._context.run,
                source=transfer.source,
                destination=transfer.destination,
                id=ended.id if ended is not None else None,
                size=transfer.size,
                status=State.FAILED.value,
                reason="conflict" if type(error) is Conflict else None,
                digests=dict(ended.digests) if ended is not None else {},
                metadata="failed" if isinstance(error, MetadataRefused) else None,
                attempts=1,
                api_requests=tally.api_requests,
                bytes_sent=tally.bytes_sent,
                bytes_received=tally.bytes_received,
                seconds=round(seconds, 3),
                finished_at=self._context.clock.wall_at(),
                error=_told(error),
            )
        )

    def unended(self, cause: BaseException | None) -> None:
        """Lines for what was known and did not end."""
        if isinstance(cause, PenstockError):
            error = {"type": type(cause).__name__, "message": f"not finished: {cause}"}
        else:
            message = "not finished; run the same command to carry on"
            error = {"type": "Interrupted", "message": message}
        for source, destination, size in self._open.values():
            self._end(
                Line(
                    run=self._context.run,
                    source=source,
                    destination=destination,
                    id=None,
                    size=size,
                    status=State.FAILED.value,
                    reason="not finished",
                    finished_at=self._context.clock.wall_at(),
                    error=error,
                )
            )
        self._open.clear()

    def _end(self, line: Line) -> None:
        self.summary.add(line)
        self._write(line)
        self._context.emit(TransferEnded(line))


def _told(error: PenstockError) -> dict[str, str]:
    """An error as a report's line holds it."""
    return {"type": type(error).__name__, "message": str(error)}
