"""A ledger that cannot be used: what is said of it, and how it is set aside and begun anew.

The ledger holds no bytes: what it claims can be found out again, from what lies at the destination
and what the platform proves of it. Only which uploads are ours cannot: those are read out of the
old file as far as it can be read, so that they are carried on or aborted, never left open. Nothing
else of a damaged file is believed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.core.errors import LedgerError, PenstockError, UsageError
from penstock.engine.columns import UNREADABLE, read_source

# What SQLite keeps beside a file while it is used.
_BESIDE = ("", "-wal", "-shm", "-journal")
# Primary result codes. Source: sqlite.org/rescode.html.
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
_REFUSED = frozenset((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM))
_BUSY = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))


class LedgerUnusable(LedgerError):
    """The file can never be used as it is; begun anew, a ledger can."""


def _anew(path: Path) -> str:
    return (
        "run `penstock copy` again with --rebuild-ledger: the file is set aside, what is at the "
        "destination is found by listing it and proved by its digests, and nothing that is there "
        f"is moved again (or move {path} away yourself)"
    )


def damaged(path: Path, why: object) -> LedgerUnusable:
    """What to raise where the file is no sound ledger."""
    return LedgerUnusable(f"the ledger {path} is damaged ({why}); {_anew(path)}")


def too_new(path: Path, version: int, known: int) -> LedgerUnusable:
    """What to raise where a later penstock has written the file."""
    return LedgerUnusable(
        f"the ledger {path} was written by a newer penstock (its format is {version}, this one "
        f"knows {known}): upgrade, or use another --state folder; or {_anew(path)}"
    )


def no_folder(folder: Path, error: OSError | sqlite3.Error) -> PenstockError:
    """What to raise where the state folder cannot hold a ledger."""
    if isinstance(error, OSError) and error.errno in _no_room():
        return _full(folder)
    return UsageError(
        f"cannot keep a ledger in {folder}: {error}; name a folder that can be written with --state"
    )


def _no_room() -> frozenset[int]:
    import errno  # noqa: PLC0415 - for the rare case

    return frozenset((errno.ENOSPC, errno.EDQUOT))


def _full(path: Path) -> LedgerError:
    return LedgerError(
        f"no room left for the ledger {path}; nothing that was proved is lost. Free some space (or "
        "name another folder with --state) and run the same command again"
    )


def trouble(path: Path, error: sqlite3.Error, *, opening: bool, waited_s: float) -> PenstockError:
    """The error of ours for SQLite's; `waited_s` is how long a lock was waited for."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    # SQLITE_ERROR: a table or a column is not there, or its text is none.
    if code in _DAMAGED or code == sqlite3.SQLITE_ERROR:
        return damaged(path, error)
    if code == sqlite3.SQLITE_FULL:
        return _full(path)
    if code in _BUSY:
        return LedgerError(
            f"the ledger {path} has been locked by another program for {waited_s:.0f} s; end that "
            "program and run the same command again"
        )
    if opening and code in _REFUSED:
        return no_folder(path.parent, error)
    return LedgerError(
        f"the ledger {path} cannot be written: {error}; nothing that was proved is lost. Mend the "
        "cause (a full disk, a read-only folder, a share that went away) and run the same command "
        "again"
    )


def check_whole(path: Path, connection: sqlite3.Connection) -> None:
    """Nothing, or `LedgerUnusable` where any page of the file is not as it should be."""
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from error
    if found != "ok":
        raise damaged(path, found)


def set_aside(path: Path, now_at: float) -> Path:
    """The file's new name, and that of what SQLite kept beside it. Raises OSError."""
    stamp = datetime.fromtimestamp(now_at, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept, number = path.with_name(f"{path.name}.aside-{stamp}"), 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{path.name}.aside-{stamp}-{number}")
    for end in _BESIDE:
        with suppress(FileNotFoundError):
            Path(f"{path}{end}").replace(f"{kept}{end}")
    return kept


_UPLOADS = (
    "SELECT id, direction, endpoint, container, remote_path, local_path, source, part_size,"
    " upload_id, parallel FROM transfers WHERE "
)
# The first by an index of its own, which may be whole where the table is not.
_WAYS = (
    _UPLOADS + "upload_id IS NOT NULL",
    _UPLOADS + "id IN (SELECT transfer FROM intents)",  # noqa: S608 - no value in it
)
_INTENTS = (
    "SELECT transfer, kind, place, name, size, part_size, made_at FROM intents"
    " WHERE kind = 'create'"
)


def carry_over(old: Path, connection: sqlite3.Connection) -> int:
    """Uploads that were under way by the old file, as far as it can be read: how many.

    Their receipts are not believed: parts that are there already are sent again.
    """
    numbers: dict[int, int] = {}
    with suppress(sqlite3.Error), closing(sqlite3.connect(old, timeout=1)) as damaged_one:
        for sql in _WAYS:
            for number, *row in _readable(damaged_one, sql):
                if number in numbers or row[0] != "up" or not _is_upload(row):
                    continue
                cursor = connection.execute(
                    "INSERT OR IGNORE INTO transfers (direction, endpoint, container, remote_path,"
                    " local_path, source, part_size, upload_id, parallel, state)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'moving')",
                    (*row[:5], _source(row[5]), *row[6:]),
                )
                if cursor.rowcount == 1 and cursor.lastrowid is not None:
                    numbers[number] = cursor.lastrowid
        for transfer, *row in _readable(damaged_one, _INTENTS):
            if transfer in numbers:
                connection.execute(
                    "INSERT INTO intents (transfer, kind, place, name, size, part_size, made_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (numbers[transfer], *row),
                )
    return len(numbers)


def _readable(connection: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows until the first that cannot be read."""
    with suppress(sqlite3.Error):
        yield from connection.execute(sql)


def _source(value: Any) -> str | None:  # noqa: ANN401 - as a damaged file has it
    """A fingerprint's column; None where it says nothing, so that the upload is begun again."""
    try:
        read_source(value)
    except UNREADABLE:
        return None
    return str(value)


def _is_upload(row: list[Any]) -> bool:
    """Whether a row of a damaged file can be what it says."""
    endpoint, container, remote, local = row[1:5]
    paths = isinstance(remote, str | bytes) and isinstance(local, str | bytes)
    upload_id = row[7]
    return (
        isinstance(endpoint, str)
        and isinstance(container, str)
        and paths
        and isinstance(upload_id, str | None)
        and isinstance(row[6], int | None)
    )
