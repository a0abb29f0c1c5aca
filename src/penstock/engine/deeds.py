"""The ledger's memory of actions: what was about to be asked for, accepted, and seen to end.

A row is committed before its request is sent. It stays open until its run has ended by itself, so
that the run after a kill finds what it may not ask for again, and what it need not. Nothing here
asks a platform.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from penstock.core.values import quick_value
from penstock.engine.columns import UNREADABLE, RowUnreadable
from penstock.engine.ledger import Held, Ledger
from penstock.platforms.control import Mark

# A run that was cut off longer ago is not carried on any more: what it did is the past, and a
# state that it left may have been left on purpose. A guess.
CARRIED_ON_FOR_S = 24 * 3600.0
_AT_ONCE = 500

INTENDED, ACCEPTED, UNCLEAR = "intended", "accepted", "unclear"
_UNENDED = (INTENDED, ACCEPTED, UNCLEAR)


@quick_value(frozen=True, slots=True)
class Deed:
    """An action that a run, which did not end by itself, asked for or was about to."""

    id: int
    thing: str
    state: str
    mark: Mark
    after: str | None
    made_at: float
    ended_at: float | None
    held: bool = False

    @property
    def unended(self) -> bool:
        """Whether it is not known how it ended."""
        return self.state in _UNENDED


@quick_value(frozen=True, slots=True)
class Outcome:
    """What became of a deed."""

    id: int
    state: str
    after: str | None = None
    reason: str | None = None


class Deeds:
    """Actions of one endpoint, for one run."""

    def __init__(self, ledger: Ledger, endpoint: str, action: str, run: str) -> None:
        self._ledger = ledger
        self._endpoint = endpoint
        self._action = action
        self._run = run

    async def left(self, things: Sequence[str], now: float) -> dict[str, Deed]:
        """The newest open deed of each thing where it is this action; others are superseded."""
        found: dict[str, Deed] = {}
        for first in range(0, len(things), _AT_ONCE):
            some = things[first : first + _AT_ONCE]
            found |= await self._ledger.do(lambda c, some=some: self._left(c, some, now))  # type: ignore[misc]
        return found

    def _left(
        self, connection: sqlite3.Connection, things: Sequence[str], now: float
    ) -> dict[str, Deed]:
        found = {}
        for thing in things:
            row = connection.execute(
                "SELECT id, action, state, before, mark, after, made_at, ended_at, holder, open"
                " FROM actions WHERE endpoint = ? AND thing = ? ORDER BY id DESC LIMIT 1",
                (self._endpoint, thing),
            ).fetchone()
            if row is None:
                continue
            number, action, state, before, mark, after, made_at, ended_at, holder, is_open = row
            if action != self._action or not is_open or made_at < now - CARRIED_ON_FOR_S:
                continue
            try:
                count, newest = json.loads(mark) if mark else (0, None)
            except UNREADABLE as error:
                raise RowUnreadable(f"action {number} cannot be read") from error
            held = holder != self._ledger.holder.id and self._ledger.holder.lives(holder or "")
            found[thing] = Deed(
                number,
                thing,
                state,
                Mark(before or "", count, newest),
                after,
                made_at,
                ended_at,
                held and state in _UNENDED,
            )
        return found

    async def intend(self, thing: str, mark: Mark, now: float) -> int | Held:
        """The id of a deed, committed before its request is sent; or who is at it already."""

        def work(connection: sqlite3.Connection) -> int | Held:
            rows = connection.execute(
                "SELECT holder FROM actions WHERE endpoint = ? AND thing = ? AND open"
                " AND state IN (?, ?, ?) AND holder <> ?",
                (self._endpoint, thing, *_UNENDED, self._ledger.holder.id),
            ).fetchall()
            for (holder,) in rows:
                if self._ledger.holder.lives(holder):
                    return Held(holder)
            cursor = connection.execute(
                "INSERT INTO actions"
                " (endpoint, thing, action, state, before, mark, run, holder, made_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._endpoint,
                    thing,
                    self._action,
                    INTENDED,
                    mark.status,
                    json.dumps([mark.count, mark.made_at]),
                    self._run,
                    self._ledger.holder.id,
                    now,
                ),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

        return await self._ledger.do(work)

    async def adopt(self, deeds: Iterable[int]) -> None:
        """Deeds of a run that was cut off are this run's."""
        rows = [(self._run, self._ledger.holder.id, deed) for deed in deeds]
        await self._ledger.do(
            lambda c: c.executemany("UPDATE actions SET run = ?, holder = ? WHERE id = ?", rows)
        )

    async def note(self, outcomes: Sequence[Outcome], now: float) -> None:
        """What became of deeds, in one commit."""
        rows = [
            (o.state, o.after, o.reason, None if o.state in _UNENDED else now, o.id)
            for o in outcomes
        ]
        await self._ledger.do(
            lambda c: c.executemany(
                "UPDATE actions SET state = ?, after = ?, reason = ?, ended_at = ? WHERE id = ?",
                rows,
            )
        )

    async def undo(self, deed: int) -> None:
        """What was intended was certainly not done."""
        await self._ledger.do(lambda c: c.execute("DELETE FROM actions WHERE id = ?", (deed,)))

    async def close(self) -> None:
        """The run ended by itself: no later run carries on what has ended.

        What was accepted and not seen to its end stays open: it may not be asked for again.
        """
        await self._ledger.do(
            lambda c: c.execute(
                "UPDATE actions SET open = 0 WHERE run = ? AND state NOT IN (?, ?, ?)",
                (self._run, *_UNENDED),
            )
        )
