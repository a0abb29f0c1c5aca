"""The ledger's memory of parts, uploads and intents."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from penstock.core.model import Fingerprint, Receipt, Upload
from penstock.engine.columns import UNREADABLE, RowUnreadable
from penstock.engine.commits import Commits
from penstock.engine.rows import (
    COLUMNS,
    Intent,
    Row,
    forget_parts,
    loaded,
    read_row,
    start_over,
    stored,
)

# An intent but for its id: transfer, kind, place, name, size, part size, and when.
_Asked: TypeAlias = tuple[int | None, str, str, str, int | None, int | None, float]


class Receipts(Commits):
    """What is under way: the parts that arrived, open uploads, and what was about to be asked."""

    async def receipts(self, transfer: int) -> list[Receipt]:
        """The parts that arrived, in part order."""
        return await self._do(lambda c: receipts_of(c, transfer))

    async def add_receipt(self, transfer: int, receipt: Receipt) -> None:
        """A part counts as arrived. Its bytes are durable before this is called."""
        await self._do(lambda c: _keep(c, transfer, receipt))

    async def drop_receipts(self, transfer: int, numbers: Sequence[int] | None = None) -> None:
        """Parts that turned out not to be there after all; None: all of them."""

        def work(connection: sqlite3.Connection) -> None:
            if numbers is None:
                connection.execute("DELETE FROM receipts WHERE transfer = ?", (transfer,))
                return
            connection.executemany(
                "DELETE FROM receipts WHERE transfer = ? AND number = ?",
                [(transfer, number) for number in numbers],
            )

        await self._do(work)

    async def intend(
        self,
        transfer: int | None,
        kind: str,
        *,
        place: str,
        name: str,
        size: int | None,
        made_at: float,
        part_size: int | None = None,
    ) -> int:
        """The id of an intent, committed before the request it is about is sent."""
        asked = (transfer, kind, place, name, size, part_size, made_at)
        return await self._do(lambda c: _intend(c, asked))

    async def sent_whole(
        self,
        transfer: int,
        receipt: Receipt,
        *,
        place: str,
        name: str,
        size: int,
        made_at: float,
    ) -> None:
        """The only part arrived, as by `add_receipt`, and the intent to complete the upload."""

        def work(connection: sqlite3.Connection) -> None:
            _keep(connection, transfer, receipt)
            _intend(connection, (transfer, "complete", place, name, size, None, made_at))

        await self._do(work)

    async def start_upload(
        self,
        transfer: int,
        source: Fingerprint,
        *,
        place: str,
        name: str,
        size: int,
        part_size: int,
        made_at: float,
    ) -> Intent:
        """The transfer begins anew, as by `start`, and the intent to create its upload."""

        def work(connection: sqlite3.Connection) -> Intent:
            start_over(connection, transfer, source, part_size, None, None)
            asked = (transfer, "create", place, name, size, part_size, made_at)
            return Intent(_insert(connection, asked), *asked)  # Earlier ones are forgotten.

        return await self._do(work)

    async def intents(self, transfer: int) -> list[Intent]:
        """What was about to be asked for a transfer, oldest first."""
        return await self._do(
            lambda c: [
                replace(Intent(*row), name=loaded(row[4]))
                for row in c.execute(
                    "SELECT id, transfer, kind, place, name, size, part_size, made_at FROM intents"
                    " WHERE transfer = ? ORDER BY id",
                    (transfer,),
                )
            ]
        )

    async def settle(self, intent: int) -> None:
        """What the intent was about is known not to have been done."""
        await self._do(lambda c: c.execute("DELETE FROM intents WHERE id = ?", (intent,)))

    async def began(self, transfer: int, intent: int, upload: Upload) -> None:
        """The platform's upload id, committed before the first byte moves."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE transfers SET upload_id = ?, part_size = ?, parallel = ? WHERE id = ?",
                (upload.id, upload.part_size, upload.parallel, transfer),
            )
            connection.execute("DELETE FROM intents WHERE id = ?", (intent,))

        await self._do(work)

    async def forget_upload(self, transfer: int) -> None:
        """The upload is gone: aborted, or no longer known to the platform."""

        def work(connection: sqlite3.Connection) -> None:
            forget_parts(connection, transfer)
            connection.execute("UPDATE transfers SET upload_id = NULL WHERE id = ?", (transfer,))

        await self._do(work)

    async def owned_uploads(self, upload_ids: Sequence[str]) -> set[str]:
        """Which of these uploads some transfer of this ledger owns."""

        def work(connection: sqlite3.Connection) -> set[str]:
            return {
                upload
                for upload in upload_ids
                if connection.execute(
                    "SELECT 1 FROM transfers WHERE upload_id = ?", (upload,)
                ).fetchone()
            }

        return await self._do(work)

    async def left_open(self, endpoint: str, container: str) -> list[Row]:
        """Uploads into a container that no live process moves: with an upload id or an intent."""

        def work(connection: sqlite3.Connection) -> list[Row]:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM transfers t WHERE direction = 'up' AND endpoint = ?"  # noqa: S608 - no value in it
                " AND container = ? AND (upload_id IS NOT NULL OR EXISTS"
                " (SELECT 1 FROM intents WHERE transfer = t.id))",
                (endpoint, container),
            ).fetchall()
            return [row for row in map(read_row, rows) if not self._is_held(connection, row.id)]

        return await self._do(work)

    def _is_held(self, connection: sqlite3.Connection, transfer: int) -> bool:
        found = connection.execute(
            "SELECT holder FROM claims WHERE transfer = ?", (transfer,)
        ).fetchone()
        return found is not None and self.holder.lives(found[0])


def _keep(connection: sqlite3.Connection, transfer: int, receipt: Receipt) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            transfer,
            receipt.number,
            receipt.offset,
            receipt.length,
            receipt.md5,
            receipt.etag,
            receipt.proves,
            json.dumps(receipt.report) if receipt.report else "[]",
            receipt.blake3,
            receipt.front,
        ),
    )


def _intend(connection: sqlite3.Connection, asked: _Asked) -> int:
    transfer, kind, *_ = asked
    if transfer is not None:
        connection.execute("DELETE FROM intents WHERE transfer = ? AND kind = ?", (transfer, kind))
    return _insert(connection, asked)


def _insert(connection: sqlite3.Connection, asked: _Asked) -> int:
    transfer, kind, place, name, size, part_size, made_at = asked
    cursor = connection.execute(
        "INSERT INTO intents (transfer, kind, place, name, size, part_size, made_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (transfer, kind, place, stored(name), size, part_size, made_at),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def receipts_of(connection: sqlite3.Connection, transfer: int) -> list[Receipt]:
    """The parts of a transfer that arrived, in part order. Raises `RowUnreadable`."""
    rows = connection.execute(
        "SELECT number, start, length, md5, etag, proves, report, blake3, front"
        " FROM receipts WHERE transfer = ? ORDER BY number",
        (transfer,),
    )
    try:
        return [
            Receipt(
                n,
                start,
                length,
                md5,
                etag,
                bool(proves),
                tuple(map(tuple, json.loads(report))),
                blake3,
                front,
            )
            for n, start, length, md5, etag, proves, report, blake3, front in rows
        ]
    except UNREADABLE as error:
        raise RowUnreadable(f"receipts of transfer {transfer} cannot be read") from error
