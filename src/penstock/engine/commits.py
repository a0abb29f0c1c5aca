"""The ledger's file: opened, brought to the newest schema, and one commit for all that wait.

Every operation is a small function over the connection. Those that wait at the same moment are run
in one thread hop and one commit (`synchronous=FULL`), each under a savepoint of its own, so many
workers share the price of a flush.

No table is known here.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio

from penstock.core.errors import LedgerError, UsageError
from penstock.engine import moments
from penstock.engine.files import hop
from penstock.engine.locks import Holder
from penstock.engine.schema import APPLICATION_ID, STEPS

T = TypeVar("T")

BUSY_TIMEOUT_S = 30.0


class Commits:
    """The ledger's file in one state folder, opened by `async with`."""

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
        changes = connection.total_changes
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
            changed = _names(batch) if connection.total_changes != changes else None
            if changed is not None:
                moments.reached(moments.COMMITTING, changed)
            connection.execute("COMMIT")
            if changed is not None:
                moments.reached(moments.COMMITTED, changed)
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise LedgerError(
                f"the ledger {self.path} cannot be written: {error}; nothing that was proved is "
                "lost. Mend the cause (a full disk, a read-only folder) and run the command again"
            ) from error
        return outcomes


def _names(batch: Sequence[Callable[..., Any]]) -> str:
    """What the works of a commit are for: the names of the methods they are of."""
    names = (getattr(work, "__qualname__", "").split(".<locals>")[0] for work in batch)
    return " ".join(name.rpartition(".")[2] for name in names)


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
