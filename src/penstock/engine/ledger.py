"""The one module that remembers: what was proved, in SQLite, durable before it counts.

The ledger may claim less than is true, never more: callers flush bytes before they commit a
receipt and publish a file before they commit `verified`. How operations share a commit is
`engine.commits`'; here are those over transfers, in `engine.receipts` those over parts and
uploads, in `engine.facts` the rest.

Nothing here asks a platform or looks at a file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial

from penstock.core.lifecycle import State
from penstock.core.model import Fingerprint, Identity
from penstock.engine.facts import Facts
from penstock.engine.receipts import Receipts, receipts_of
from penstock.engine.rows import (
    COLUMNS,
    RUNS,
    Arrived,
    End,
    Held,
    Intent,
    Row,
    Run,
    arrive,
    by_id,
    end,
    key_of,
    once_ended,
    once_taken,
    read_row,
    read_run,
    row_of,
    rows_of,
    start_over,
    state_of,
    stored,
)

__all__ = ["Arrived", "End", "Held", "Intent", "Ledger", "Row", "Run"]

_LOOKUP_AT_ONCE = 100
# The state of a new transfer whose claim was its first event.
_CLAIMED = once_taken(State.PLANNED).value


class Ledger(Receipts, Facts):
    """The ledger in one state folder, opened by `async with`."""

    def _check_rows(self, connection: sqlite3.Connection) -> None:
        for found in connection.execute(f"SELECT {COLUMNS} FROM transfers"):  # noqa: S608
            read_row(found)
        for found in connection.execute(RUNS):
            read_run(found)
        for (number,) in connection.execute("SELECT DISTINCT transfer FROM receipts"):
            receipts_of(connection, number)
        for table in ("intents", "claims", "actions", "places", "facts"):
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608

    async def lookup(self, identities: Sequence[Identity]) -> list[Row | None]:
        """What is known of each transfer, in the order asked."""
        rows: list[Row | None] = []
        for first in range(0, len(identities), _LOOKUP_AT_ONCE):
            some = identities[first : first + _LOOKUP_AT_ONCE]
            rows += await self._do(partial(rows_of, some))
        return rows

    async def claim(self, identity: Identity, run: str) -> Row | Held:
        """The transfer's row as it was left, now ours to move; or who moves it.

        A dead holder's claim is taken.
        """
        (row,) = await self.claim_all((identity,), run)
        return row

    async def claim_all(self, identities: Sequence[Identity], run: str) -> list[Row | Held]:
        """Each as `claim` tells, all in one commit."""
        now = self._wall()

        def claimed(connection: sqlite3.Connection, identity: Identity) -> Row | Held:
            # Most are new: one search of the index less than to look first.
            cursor = connection.execute(
                "INSERT INTO transfers (direction, endpoint, container, remote_path,"
                " local_path, state, run) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*key_of(identity), _CLAIMED, run),
            )
            if cursor.rowcount:
                assert cursor.lastrowid is not None
                connection.execute(
                    "INSERT INTO claims (transfer, holder, claimed_at) VALUES (?, ?, ?)",
                    (cursor.lastrowid, self.holder.id, now),
                )
                return Row(cursor.lastrowid, identity, State.PLANNED)
            row = row_of(connection, identity)
            assert row is not None
            found = connection.execute(
                "SELECT holder FROM claims WHERE transfer = ?", (row.id,)
            ).fetchone()
            if found is not None and found[0] != self.holder.id and self.holder.lives(found[0]):
                return Held(found[0])
            connection.execute(
                "INSERT OR REPLACE INTO claims (transfer, holder, claimed_at) VALUES (?, ?, ?)",
                (row.id, self.holder.id, now),
            )
            connection.execute(
                "UPDATE transfers SET run = ?, state = ? WHERE id = ?",
                (run, once_taken(row.state).value, row.id),
            )
            return row

        def work(connection: sqlite3.Connection) -> list[Row | Held]:
            return [claimed(connection, identity) for identity in identities]

        return await self._do(work)

    async def release(self, *transfers: int) -> None:
        """The transfers are nobody's; what is proved of them stays."""
        await self._do(
            lambda c: c.executemany(
                "DELETE FROM claims WHERE transfer = ?", [(each,) for each in transfers]
            )
        )

    async def start(
        self,
        transfer: int,
        source: Fingerprint,
        *,
        part_size: int | None = None,
        partial: str | None = None,
        validator: str | None = None,
    ) -> None:
        """The transfer begins anew: an earlier try's receipts, intents and upload are forgotten."""
        await self._do(lambda c: start_over(c, transfer, source, part_size, partial, validator))

    async def adopt(self, transfer: int, partial: str) -> Row | None:
        """The transfer takes over receipts of another whose unfinished file lies at `partial`."""

        def work(connection: sqlite3.Connection) -> Row | None:
            other = connection.execute(
                "SELECT id FROM transfers WHERE partial = ? AND id <> ?",
                (stored(partial), transfer),
            ).fetchone()
            if other is None:
                return None
            held = connection.execute(
                "SELECT holder FROM claims WHERE transfer = ?", (other[0],)
            ).fetchone()
            if held is not None and self.holder.lives(held[0]) and held[0] != self.holder.id:
                return None
            connection.execute("DELETE FROM receipts WHERE transfer = ?", (transfer,))
            connection.execute(
                "UPDATE receipts SET transfer = ? WHERE transfer = ?", (transfer, other[0])
            )
            connection.execute(
                "UPDATE transfers SET (source, part_size, partial, validator) ="
                " (SELECT source, part_size, partial, validator FROM transfers WHERE id = ?)"
                " WHERE id = ?",
                (other[0], transfer),
            )
            connection.execute(
                "UPDATE transfers SET partial = NULL, state = 'planned' WHERE id = ?", (other[0],)
            )
            return by_id(connection, transfer)

        return await self._do(work)

    async def arrived(
        self,
        transfer: int,
        *,
        source: Fingerprint,
        digests: Mapping[str, str],
        verified_by: str | None,
        size: int,
        parts: int,
        placed: str | None,
        at_once_in: str | None = None,
    ) -> None:
        """All parts are there and weighed; what is left is to publish them under the final name.

        A file that came at once, in one part, was never `start`ed: `at_once_in` is its partial.
        """
        told = Arrived(transfer, source, digests, verified_by, size, parts, placed, at_once_in)
        await self.arrived_all((told,))

    async def arrived_all(self, arrivals: Sequence[Arrived]) -> None:
        """Each as `arrived` tells, all in one commit."""

        def work(connection: sqlite3.Connection) -> None:
            for one in arrivals:
                arrive(connection, one)

        await self._do(work)

    async def end(
        self,
        transfer: int,
        state: State,
        *,
        source: Fingerprint | None = None,
        digests: Mapping[str, str] | None = None,
        verified_by: str | None = None,
        remote_id: str | None = None,
        size: int | None = None,
        mtime_ns: int | None = None,
        parts: int = 0,
        placed: str | None = None,
        validator: str | None = None,
    ) -> None:
        """The transfer ended in `state`; receipts, intents and claim go in the same commit.

        `validator` is what tells the state of the remote file, where the platform says it.
        """
        told = End(
            transfer,
            state,
            source=source,
            digests=digests or {},
            verified_by=verified_by,
            remote_id=remote_id,
            size=size,
            mtime_ns=mtime_ns,
            parts=parts,
            placed=placed,
            validator=validator,
        )
        await self.end_all((told,))

    async def end_all(self, ends: Sequence[End]) -> None:
        """Each as `end` tells, all in one commit."""
        now = self._wall()

        def work(connection: sqlite3.Connection) -> None:
            for one in ends:
                end(connection, one, now)

        await self._do(work)

    async def failed(self, transfer: int) -> None:
        """The transfer failed; receipts stay, so that the next run carries on. The claim goes.

        What an earlier run verified, or sent as well as it could, stays so.
        """
        now = self._wall()

        def work(connection: sqlite3.Connection) -> None:
            state = state_of(connection, transfer)
            if state not in {State.VERIFIED, State.UNVERIFIED}:
                connection.execute(
                    "UPDATE transfers SET state = ?, ended_at = ? WHERE id = ?",
                    (once_ended(state, State.FAILED).value, now, transfer),
                )
            connection.execute("DELETE FROM claims WHERE transfer = ?", (transfer,))

        await self._do(work)

    async def attached(self, stored: Sequence[tuple[int, str]]) -> None:
        """Digests of the metadata that is now stored, by transfer."""
        await self._do(
            lambda c: c.executemany(
                "UPDATE transfers SET metadata = ? WHERE id = ?",
                [(digest, transfer) for transfer, digest in stored],
            )
        )

    async def proved_here(self, path: str) -> list[Row]:
        """Transfers that ended, from or to the local file `path`, or below it."""
        below = path.rstrip("/") + "/"
        return await self._proved("local_path", path, below, "")

    async def proved_there(self, endpoint: str, container: str, path: str) -> list[Row]:
        """Transfers that ended, from or to a place on a platform, or below it."""
        below = f"{path}/" if path else ""
        where = " AND endpoint = ? AND container = ?"
        return await self._proved("remote_path", path, below, where, endpoint, container)

    async def _proved(
        self, column: str, path: str, below: str, where: str, *values: str
    ) -> list[Row]:
        def work(connection: sqlite3.Connection) -> list[Row]:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM transfers t WHERE state IN ('verified', 'unverified')"  # noqa: S608 - no value in it
                f" AND ({column} = ? OR substr({column}, 1, ?) = ?){where}"
                " ORDER BY ended_at",
                (stored(path), len(below), stored(below), *values),
            ).fetchall()
            return list(map(read_row, rows))

        return await self._do(work)
