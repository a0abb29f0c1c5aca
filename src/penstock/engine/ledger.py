"""The one module that remembers: what was proved, in SQLite, durable before it counts.

Every operation is a small function over the connection. Those that wait at the same moment are run
in one thread hop and one commit (`synchronous=FULL`), each under a savepoint of its own, so many
workers share the price of a flush. The ledger may claim less than is true, never more: callers
flush bytes before they commit a receipt and publish a file before they commit `verified`.

Nothing here asks a platform or looks at a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio

from penstock.core.errors import LedgerError, UsageError
from penstock.core.lifecycle import Event, State, after
from penstock.core.model import Direction, Fingerprint, Identity, Receipt, RemoteFile, Upload
from penstock.core.times import when
from penstock.engine.files import hop
from penstock.engine.locks import Holder
from penstock.engine.schema import APPLICATION_ID, STEPS

T = TypeVar("T")

BUSY_TIMEOUT_S = 30.0
_LOOKUP_AT_ONCE = 100

# Proofs that a storage's own word makes, and can make again.
_STATED = frozenset(("etag", "platform-digest"))
# Whole seconds in listings, and two clocks that are kept by the same means. A guess.
_TICK_S = 2.0
_IDENTITY = (
    "direction = ? AND endpoint = ? AND container = ? AND remote_path = ? AND local_path = ?"
)


@dataclass(frozen=True, slots=True)
class Row:
    """What the ledger knows of one transfer."""

    id: int
    identity: Identity
    state: State
    source: Fingerprint | None = None
    part_size: int | None = None
    upload_id: str | None = None
    partial: str | None = None
    validator: str | None = None
    remote_id: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    digests: dict[str, str] = field(default_factory=dict)
    verified_by: str | None = None
    placed: str | None = None
    parts: int = 0
    parallel: bool = True
    metadata: str | None = None
    """Digest of the metadata that is stored with it."""
    ended_at: float | None = None

    def may_be_another(self, file: RemoteFile) -> bool:
        """Whether a listed file that looks like the one proved may have come after it.

        Where a file's id is its path, one that took its place within a tick of the platform's
        clock differs in nothing a listing tells. What its URL proves then costs no request of the
        quota, so it is asked again where only seconds lie between.
        """
        told_by_page = file.lease is not None and file.lease.origin.kind == "page"
        if self.verified_by not in _STATED or not told_by_page or not file.size:
            return False  # Empty files are all alike.
        modified_at = when(file.modified)
        return (
            modified_at is not None
            and self.ended_at is not None
            and modified_at > self.ended_at - _TICK_S
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """A request that was about to be sent, and whose answer might have been lost."""

    id: int
    transfer: int | None
    kind: str
    place: str
    name: str
    size: int | None
    part_size: int | None
    made_at: float


@dataclass(frozen=True, slots=True)
class Run:
    """An earlier run; `ended_at` and `summary` (JSON) are None where it did not end by itself."""

    id: str
    began_at: float
    ended_at: float | None
    sources: tuple[str, ...]
    destination: str
    summary: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """A transfer another live process is moving."""

    holder: str


class Ledger:
    """The ledger in one state folder, opened by `async with`."""

    def __init__(self, folder: Path, *, wall: Callable[[], float]) -> None:
        self.path = folder / "ledger.sqlite3"
        self._folder = folder
        self._wall = wall
        self.holder = Holder(folder / "holders")
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = (
            deque()
        )
        self._busy = False

    async def __aenter__(self) -> Self:
        try:
            await hop(self._open)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            holder, connection = self.holder, self._connection
            if connection is not None:
                with suppress(LedgerError):
                    await self._do(
                        lambda c: c.execute("DELETE FROM claims WHERE holder = ?", (holder.id,))
                    )
            await hop(self._close)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self.holder.__exit__()

    def _open(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.holder.__enter__()
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise UsageError(
                f"cannot keep a ledger in {self._folder}: {error}; name a folder that can be "
                "written with --state"
            ) from error
        try:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._migrate(connection)
        except sqlite3.Error as error:
            connection.close()
            raise LedgerError(
                f"the ledger {self.path} cannot be read ({error}); move it away and run the same "
                "command again: what is at the destination is found by listing it"
            ) from error
        except LedgerError:
            connection.close()
            raise
        self._connection = connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if version > len(STEPS):
            connection.execute("ROLLBACK")
            raise LedgerError(
                f"the ledger {self.path} was written by a newer penstock (its format is {version}, "
                f"this one knows {len(STEPS)}): upgrade, or use another --state folder"
            )
        if application not in {0, APPLICATION_ID} or (version == 0 and application):
            connection.execute("ROLLBACK")
            raise LedgerError(f"{self.path} is an SQLite file, but no ledger")
        for step in STEPS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")

    # -- one commit for all that wait -------------------------------------------------------

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, committed. Cancelled, it is committed all the same.

        Whoever comes first while nobody works does the work of all that have come until then.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        with anyio.CancelScope(shield=True):
            cancelled: asyncio.CancelledError | None = None
            while not future.done():
                try:
                    if self._busy:
                        await asyncio.wait((future,))
                    else:
                        await self._drain()
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            future.exception()
            raise cancelled
        return future.result()

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, committed with whatever waits at the moment.

        For a module that keeps a table of its own (`engine.deeds`).
        """
        return await self._do(work)

    async def _drain(self) -> None:
        self._busy = True
        cancelled: asyncio.CancelledError | None = None
        try:
            while self._waiting:
                batch = list(self._waiting)
                self._waiting.clear()
                works = [work for work, _ in batch]
                running = asyncio.ensure_future(hop(self._commit, works))
                while not running.done():
                    try:
                        await asyncio.wait((running,))
                    except asyncio.CancelledError as error:
                        cancelled = error
                try:
                    outcomes = running.result()
                except LedgerError as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), (result, failure) in zip(batch, outcomes, strict=True):
                    if future.done():
                        continue
                    if failure is not None:
                        future.set_exception(failure)
                    else:
                        future.set_result(result)
        finally:
            self._busy = False
        if cancelled is not None:
            raise cancelled

    def _commit(
        self, batch: Sequence[Callable[[sqlite3.Connection], Any]]
    ) -> list[tuple[Any, Exception | None]]:
        connection = self._connection
        if connection is None:
            raise LedgerError("the ledger is closed")
        outcomes: list[tuple[Any, Exception | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work in batch:
                connection.execute("SAVEPOINT one")
                try:
                    outcomes.append((work(connection), None))
                    connection.execute("RELEASE one")
                except sqlite3.OperationalError:
                    raise
                except Exception as error:  # noqa: BLE001 - it is one caller's, and raised there
                    connection.execute("ROLLBACK TO one")
                    connection.execute("RELEASE one")
                    outcomes.append((None, error))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise LedgerError(
                f"the ledger {self.path} cannot be written: {error}; nothing that was proved is "
                "lost. Mend the cause (a full disk, a read-only folder) and run the command again"
            ) from error
        return outcomes

    # -- transfers --------------------------------------------------------------------------

    async def lookup(self, identities: Sequence[Identity]) -> list[Row | None]:
        """What is known of each transfer, in the order asked."""
        rows: list[Row | None] = []
        for first in range(0, len(identities), _LOOKUP_AT_ONCE):
            some = identities[first : first + _LOOKUP_AT_ONCE]
            rows += await self._do(partial(_rows, some))
        return rows

    async def claim(self, identity: Identity, run: str) -> Row | Held:
        """The transfer's row as it was left, now ours to move; or who moves it.

        A dead holder's claim is taken.
        """
        now = self._wall()

        def work(connection: sqlite3.Connection) -> Row | Held:
            row = _row(connection, identity)
            if row is None:
                connection.execute(
                    "INSERT INTO transfers (direction, endpoint, container, remote_path,"
                    " local_path, state, run) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*_key(identity), State.PLANNED.value, run),
                )
                row = _row(connection, identity)
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
                (run, _taken(row.state).value, row.id),
            )
            return row

        return await self._do(work)

    async def release(self, transfer: int) -> None:
        """The transfer is nobody's; what is proved of it stays."""
        await self._do(lambda c: c.execute("DELETE FROM claims WHERE transfer = ?", (transfer,)))

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

        def work(connection: sqlite3.Connection) -> None:
            _forget_parts(connection, transfer)
            connection.execute(
                "UPDATE transfers SET state = ?, source = ?, part_size = ?, partial = ?,"
                " validator = ?, upload_id = NULL, verified_by = NULL, placed = NULL,"
                " digests = '{}', metadata = NULL WHERE id = ?",
                (
                    after(State.PLANNED, Event.CLAIM).value,
                    _dump(source),
                    part_size,
                    _stored(partial),
                    validator,
                    transfer,
                ),
            )

        await self._do(work)

    async def adopt(self, transfer: int, partial: str) -> Row | None:
        """The transfer takes over receipts of another whose unfinished file lies at `partial`."""

        def work(connection: sqlite3.Connection) -> Row | None:
            other = connection.execute(
                "SELECT id FROM transfers WHERE partial = ? AND id <> ?",
                (_stored(partial), transfer),
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
            return _by_id(connection, transfer)

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
    ) -> None:
        """All parts are there and weighed; what is left is to publish them under the final name."""

        def work(connection: sqlite3.Connection) -> None:
            state = _state(connection, transfer)
            if state is not State.ARRIVED:
                state = after(state, Event.ALL_PARTS)
            connection.execute(
                "UPDATE transfers SET state = ?, source = ?, digests = ?, verified_by = ?,"
                " size = ?, parts = ?, placed = ? WHERE id = ?",
                (
                    state.value,
                    _dump(source),
                    json.dumps(dict(digests), sort_keys=True),
                    verified_by,
                    size,
                    parts,
                    _stored(placed),
                    transfer,
                ),
            )

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
        now = self._wall()

        def work(connection: sqlite3.Connection) -> None:
            ended = _ended(_state(connection, transfer), state)
            _forget_parts(connection, transfer)
            connection.execute(
                "UPDATE transfers SET state = ?, source = coalesce(?, source), digests = ?,"
                " verified_by = ?, remote_id = coalesce(?, remote_id), size = ?, mtime_ns = ?,"
                " parts = ?, placed = ?, validator = coalesce(?, validator), upload_id = NULL,"
                " partial = NULL, ended_at = ?"
                " WHERE id = ?",
                (
                    ended.value,
                    _dump(source) if source is not None else None,
                    json.dumps(dict(digests or {}), sort_keys=True),
                    verified_by,
                    remote_id,
                    size,
                    mtime_ns,
                    parts,
                    _stored(placed),
                    validator,
                    now,
                    transfer,
                ),
            )
            connection.execute("DELETE FROM claims WHERE transfer = ?", (transfer,))

        await self._do(work)

    async def failed(self, transfer: int) -> None:
        """The transfer failed; receipts stay, so that the next run carries on. The claim goes.

        What an earlier run verified, or sent as well as it could, stays so.
        """
        now = self._wall()

        def work(connection: sqlite3.Connection) -> None:
            state = _state(connection, transfer)
            if state not in {State.VERIFIED, State.UNVERIFIED}:
                connection.execute(
                    "UPDATE transfers SET state = ?, ended_at = ? WHERE id = ?",
                    (_ended(state, State.FAILED).value, now, transfer),
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

    # -- parts and uploads ------------------------------------------------------------------

    async def receipts(self, transfer: int) -> list[Receipt]:
        """The parts that arrived, in part order."""

        def work(connection: sqlite3.Connection) -> list[Receipt]:
            rows = connection.execute(
                "SELECT number, start, length, md5, etag, proves, report, blake3 FROM receipts"
                " WHERE transfer = ? ORDER BY number",
                (transfer,),
            )
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
                )
                for n, start, length, md5, etag, proves, report, blake3 in rows
            ]

        return await self._do(work)

    async def add_receipt(self, transfer: int, receipt: Receipt) -> None:
        """A part counts as arrived. Its bytes are durable before this is called."""
        await self._do(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    transfer,
                    receipt.number,
                    receipt.offset,
                    receipt.length,
                    receipt.md5,
                    receipt.etag,
                    receipt.proves,
                    json.dumps(receipt.report),
                    receipt.blake3,
                ),
            )
        )

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

        def work(connection: sqlite3.Connection) -> int:
            if transfer is not None:
                connection.execute(
                    "DELETE FROM intents WHERE transfer = ? AND kind = ?", (transfer, kind)
                )
            cursor = connection.execute(
                "INSERT INTO intents (transfer, kind, place, name, size, part_size, made_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (transfer, kind, place, _stored(name), size, part_size, made_at),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

        return await self._do(work)

    async def intents(self, transfer: int) -> list[Intent]:
        """What was about to be asked for a transfer, oldest first."""
        return await self._do(
            lambda c: [
                replace(Intent(*row), name=_loaded(row[4]))
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
            _forget_parts(connection, transfer)
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
                f"SELECT {_COLUMNS} FROM transfers t WHERE direction = 'up' AND endpoint = ?"  # noqa: S608 - no value in it
                " AND container = ? AND (upload_id IS NOT NULL OR EXISTS"
                " (SELECT 1 FROM intents WHERE transfer = t.id))",
                (endpoint, container),
            ).fetchall()
            return [row for row in map(_read, rows) if not self._is_held(connection, row.id)]

        return await self._do(work)

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
                f"SELECT {_COLUMNS} FROM transfers t WHERE state IN ('verified', 'unverified')"  # noqa: S608 - no value in it
                f" AND ({column} = ? OR substr({column}, 1, ?) = ?){where}"
                " ORDER BY ended_at",
                (_stored(path), len(below), _stored(below), *values),
            ).fetchall()
            return list(map(_read, rows))

        return await self._do(work)

    def _is_held(self, connection: sqlite3.Connection, transfer: int) -> bool:
        found = connection.execute(
            "SELECT holder FROM claims WHERE transfer = ?", (transfer,)
        ).fetchone()
        return found is not None and self.holder.lives(found[0])

    # -- places, facts, runs ----------------------------------------------------------------

    async def place_id(self, endpoint: str, path: str) -> str | None:
        """The id a path was found to have, by an earlier run."""
        found = await self._do(
            lambda c: c.execute(
                "SELECT id FROM places WHERE endpoint = ? AND path = ?", (endpoint, _stored(path))
            ).fetchone()
        )
        return found[0] if found else None

    async def remember_place(self, endpoint: str, path: str, place_id: str | None) -> None:
        """A path's id, or (None) that it is not known any more."""
        if place_id is None:
            sql, values = (
                "DELETE FROM places WHERE endpoint = ? AND path = ?",
                (endpoint, _stored(path)),
            )
        else:
            sql = "INSERT OR REPLACE INTO places VALUES (?, ?, ?)"
            values = (endpoint, _stored(path), place_id)  # type: ignore[assignment]
        await self._do(lambda c: c.execute(sql, values))

    async def fact(self, endpoint: str, name: str) -> str | None:
        """Something learnt about an endpoint by an earlier run."""
        found = await self._do(
            lambda c: c.execute(
                "SELECT value FROM facts WHERE endpoint = ? AND name = ?", (endpoint, name)
            ).fetchone()
        )
        return found[0] if found else None

    async def remember_fact(self, endpoint: str, name: str, value: str) -> None:
        """Something learnt about an endpoint, for later runs."""
        await self._do(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (endpoint, name, value)
            )
        )

    async def begin_run(self, run: str, sources: Sequence[str], destination: str) -> None:
        """A run is under way."""
        now = self._wall()
        await self._do(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, NULL, ?, ?, NULL)",
                (run, now, json.dumps(list(sources)), _stored(destination)),
            )
        )

    async def runs(self, most: int = 100) -> list[Run]:
        """Earlier runs, the newest first."""
        found = await self._do(
            lambda c: c.execute(
                "SELECT id, began_at, ended_at, sources, destination, summary FROM runs"
                " ORDER BY began_at DESC, id DESC LIMIT ?",
                (most,),
            ).fetchall()
        )
        return [
            Run(run, began, ended, tuple(json.loads(sources)), str(_loaded(to)), summary)
            for run, began, ended, sources, to, summary in found
        ]

    async def end_run(self, run: str, summary: str) -> None:
        """A run ended, with its summary (JSON)."""
        now = self._wall()
        await self._do(
            lambda c: c.execute(
                "UPDATE runs SET ended_at = ?, summary = ? WHERE id = ?", (now, summary, run)
            )
        )


_COLUMNS = (
    "id, direction, endpoint, container, remote_path, local_path, state, source, part_size,"
    " upload_id, partial, validator, remote_id, size, mtime_ns, digests, verified_by, placed,"
    " parts, parallel, metadata, ended_at"
)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Readers do not wait for writers from now on.

    Two processes that switch at once are told "locked" without the busy time-out being waited
    for, so the switch is tried again here.
    """
    for pause_s in (*(0.05,) * 100, None):
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if pause_s is None:
                raise
            time.sleep(pause_s)
        else:
            return


def _key(identity: Identity) -> tuple[str | bytes | None, ...]:
    return (
        identity.direction.value,
        identity.endpoint,
        identity.container,
        _stored(identity.remote_path),
        _stored(identity.local_path),
    )


def _stored(text: str | None) -> str | bytes | None:
    """A path as SQLite takes it: one that is no valid text, as a file name may be, as bytes."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _loaded(value: str | bytes | None) -> Any:  # noqa: ANN401 - as its column is
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def _row(connection: sqlite3.Connection, identity: Identity) -> Row | None:
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM transfers WHERE {_IDENTITY}",  # noqa: S608 - no value in it
        _key(identity),
    ).fetchone()
    return _read(found) if found is not None else None


def _rows(identities: Sequence[Identity], connection: sqlite3.Connection) -> list[Row | None]:
    return [_row(connection, identity) for identity in identities]


def _by_id(connection: sqlite3.Connection, transfer: int) -> Row:
    return _read(
        connection.execute(f"SELECT {_COLUMNS} FROM transfers WHERE id = ?", (transfer,)).fetchone()  # noqa: S608
    )


def _read(found: tuple[Any, ...]) -> Row:
    key, direction, endpoint, container, remote, local, state, source, *rest = found
    part_size, upload_id, partial_path, validator, remote_id, size, mtime_ns, *rest = rest
    digests, verified_by, placed, parts, parallel, metadata, ended_at = rest
    return Row(
        id=key,
        identity=Identity(
            Direction(direction), endpoint, container, _loaded(remote), _loaded(local)
        ),
        state=State(state),
        source=Fingerprint(**json.loads(source)) if source else None,
        part_size=part_size,
        upload_id=upload_id,
        partial=_loaded(partial_path),
        validator=validator,
        remote_id=remote_id,
        size=size,
        mtime_ns=mtime_ns,
        digests=json.loads(digests),
        verified_by=verified_by,
        placed=_loaded(placed),
        parts=parts,
        parallel=bool(parallel),
        metadata=metadata,
        ended_at=ended_at,
    )


def _state(connection: sqlite3.Connection, transfer: int) -> State:
    found = connection.execute("SELECT state FROM transfers WHERE id = ?", (transfer,)).fetchone()
    return State(found[0])


# What a claim alone does not change: it was proved as far as it can be, or only wants its name.
_KEPT = frozenset((State.VERIFIED, State.UNVERIFIED, State.ARRIVED))


def _taken(state: State) -> State:
    """The state of a transfer that was left in `state`, once it is claimed."""
    if state in _KEPT:
        return state
    if state is State.MOVING:
        state = after(state, Event.INTERRUPT)
    elif state is not State.PLANNED:
        state = after(state, Event.PLAN_AGAIN)
    return after(state, Event.CLAIM)


_ENDS = {
    State.VERIFIED: Event.PROOF,
    State.UNVERIFIED: Event.NO_PROOF,
    State.SKIPPED: Event.SKIP,
    State.FAILED: Event.FAIL,
}


def _ended(state: State, end: State) -> State:
    """`end`, reached from `state` by the events that lead there."""
    if state is end:
        return end
    if state is State.MOVING and end in {State.VERIFIED, State.UNVERIFIED}:
        state = after(state, Event.ALL_PARTS)
    return after(state, _ENDS[end])


def _forget_parts(connection: sqlite3.Connection, transfer: int) -> None:
    connection.execute("DELETE FROM receipts WHERE transfer = ?", (transfer,))
    connection.execute("DELETE FROM intents WHERE transfer = ?", (transfer,))


def _dump(source: Fingerprint) -> str:
    return json.dumps(
        {k: v for k, v in asdict(source).items() if v is not None} | {"size": source.size}
    )
