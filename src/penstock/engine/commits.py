"""The ledger's file: opened, brought to the newest schema, and one commit for all that wait.

Every operation is a small function over the connection. Those that wait at the same moment are run
in one thread hop and one commit (`synchronous=FULL`), so that many workers share the price of a
flush. Whoever asked is told when it is durable. One that fails fails alone: the commit is begun
again with a savepoint around each.

No table is known here.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

import anyio

from penstock.core.errors import LedgerError
from penstock.engine import mending, moments
from penstock.engine.columns import RowUnreadable
from penstock.engine.files import hop
from penstock.engine.locks import Holder
from penstock.engine.mounts import on_network
from penstock.engine.schema import APPLICATION_ID, STEPS

T = TypeVar("T")

BUSY_TIMEOUT_S = 30.0


_Outcome: TypeAlias = tuple[Any, BaseException | None]


@dataclass(slots=True, eq=False)
class _Asked:
    """One operation, and whom to tell of it."""

    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    is_settled: bool = False


class Commits:
    """The ledger's file in one state folder, opened by `async with`."""

    def __init__(
        self,
        folder: Path,
        *,
        wall: Callable[[], float],
        rebuild: bool = False,
        patience_s: float = BUSY_TIMEOUT_S,
        on_network: Callable[[Path], bool] = on_network,
    ) -> None:
        """`rebuild`: a file that can never be used is set aside, and `mended` says so."""
        self.mended: str | None = None
        self._rebuild = rebuild
        self._patience_s = patience_s
        self._on_network = on_network
        self.path = folder / "ledger.sqlite3"
        self._folder = folder
        self._wall = wall
        self.holder = Holder(folder / "holders")
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[_Asked] = []
        self._thread: ThreadPoolExecutor | None = None
        self._busy = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        # Its own: files that are written and flushed must not hold commits up.
        self._thread = ThreadPoolExecutor(1, "penstock-ledger")
        try:
            await hop(self._open)
        except BaseException:
            self._close()
            self._stop_thread()
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
            if self._thread is not None:
                # In its turn: what is being committed at the moment ends first.
                await self._loop.run_in_executor(self._thread, self._close)
                self._stop_thread()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self.holder.__exit__()

    def _stop_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()

    def _open(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.holder.__enter__()
        except OSError as error:
            raise mending.no_folder(self._folder, error) from error
        try:
            self._connection = self._connect()
        except mending.LedgerUnusable as error:
            if not self._rebuild:
                raise
            self._connection = self._begin_anew(error)

    def _connect(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(
                self.path, timeout=self._patience_s, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise mending.no_folder(self._folder, error) from error
        try:
            self._use_journal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            if self._rebuild:
                mending.check_whole(self.path, connection)
            self._migrate(connection)
            if self._rebuild:
                self._check_rows(connection)
        except RowUnreadable as error:
            connection.close()
            raise mending.damaged(self.path, error) from error
        except sqlite3.Error as error:
            connection.close()
            raise mending.trouble(
                self.path, error, opening=True, waited_s=self._patience_s
            ) from error
        except LedgerError:
            connection.close()
            raise
        return connection

    def _check_rows(self, connection: sqlite3.Connection) -> None:
        """Nothing, or `RowUnreadable` or `sqlite3.Error` where not every row can be read."""

    def _begin_anew(self, why: LedgerError) -> sqlite3.Connection:
        """A new ledger in place of one that cannot be used, which is set aside."""
        if self.holder.others():
            raise LedgerError(
                f"the ledger {self.path} cannot be used, and other runs have it open: end them, "
                "then run the same command again"
            ) from why
        try:
            aside = mending.set_aside(self.path, self._wall())
        except OSError as error:
            raise mending.no_folder(self._folder, error) from error
        connection = self._connect()
        connection.execute("BEGIN IMMEDIATE")
        uploads = mending.carry_over(aside, connection)
        connection.execute("COMMIT")
        self.mended = (
            f"the ledger was begun anew; the old one is kept as {aside}. What is at the "
            "destination is found by listing it and proved by its digests"
            + (f"; {uploads} unfinished uploads were read out of it" if uploads else "")
        )
        return connection

    def _use_journal(self, connection: sqlite3.Connection) -> None:
        """WAL, where readers do not wait for writers; a rollback journal on a network's files."""
        if self._on_network(self._folder):
            connection.execute("PRAGMA journal_mode = DELETE")
        else:
            _use_wal(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application not in {0, APPLICATION_ID} or (version == 0 and application):
            connection.execute("ROLLBACK")
            raise LedgerError(f"{self.path} is an SQLite file, but no ledger")
        if version > len(STEPS):
            connection.execute("ROLLBACK")
            raise mending.too_new(self.path, version, len(STEPS))
        for step in STEPS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")

    # -- one commit for all that wait -------------------------------------------------------

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, committed. Cancelled, it is committed all the same.

        `work` may be run twice: where another's of the same commit fails, all are begun again.
        """
        asked = _Asked(work, self._loop.create_future())
        self._waiting.append(asked)
        if not self._busy:
            self._busy = True
            # Whatever else comes in this turn of the loop shares the commit.
            self._loop.call_soon(self._begin)
        try:
            result: T = await asked.future
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self._settled(asked)
            raise
        except RowUnreadable as error:
            raise mending.damaged(self.path, error) from error
        return result

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, committed with whatever waits at the moment.

        For a module that keeps a table of its own (`engine.deeds`).
        """
        return await self._do(work)

    async def _settled(self, asked: _Asked) -> None:
        """Whoever asked was cancelled: its work is done or undone all the same, in its turn."""
        while not asked.is_settled:
            if asked.future.done():
                asked.future = self._loop.create_future()
            with suppress(asyncio.CancelledError):
                await asyncio.wait((asked.future,))
        if not asked.future.cancelled():
            asked.future.exception()

    def _begin(self) -> None:
        """All that waits is under way, in one commit."""
        batch = tuple(self._waiting)
        self._waiting.clear()
        if self._thread is None:
            closed: asyncio.Future[Sequence[_Outcome]] = self._loop.create_future()
            closed.set_exception(LedgerError("the ledger is closed"))
            self._end(batch, closed)
            return
        works = [asked.work for asked in batch]
        running = self._loop.run_in_executor(self._thread, self._commit, works)
        running.add_done_callback(partial(self._end, batch))

    def _end(self, batch: Sequence[_Asked], running: asyncio.Future[Sequence[_Outcome]]) -> None:
        """A commit is over: whoever asked for it is told, and the next begins."""
        failure = running.exception()
        outcomes = [(None, failure)] * len(batch) if failure is not None else running.result()
        for asked, (result, error) in zip(batch, outcomes, strict=True):
            asked.is_settled = True
            if asked.future.done():
                continue  # Cancelled, a moment ago: `_settled` looks.
            if error is not None:
                asked.future.set_exception(error)
            else:
                asked.future.set_result(result)
        if self._waiting:
            self._begin()
        else:
            self._busy = False

    def _commit(self, works: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[_Outcome]:
        connection = self._connection
        if connection is None:
            raise LedgerError("the ledger is closed")
        changes = connection.total_changes
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                outcomes: list[_Outcome] = [(work(connection), None) for work in works]
            except sqlite3.OperationalError:
                raise
            except Exception:  # noqa: BLE001 - it is one caller's, found and raised there
                connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                outcomes = [_alone(connection, work) for work in works]
            changed = _names(works) if connection.total_changes != changes else None
            if changed is not None:
                moments.reached(moments.COMMITTING, changed)
            connection.execute("COMMIT")
            if changed is not None:
                moments.reached(moments.COMMITTED, changed)
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise mending.trouble(
                self.path, error, opening=False, waited_s=self._patience_s
            ) from error
        return outcomes


def _names(works: Sequence[Callable[..., Any]]) -> str:
    """What the works of a commit are for: the names of the methods they are of."""
    return " ".join(_method(getattr(work, "__qualname__", "")) for work in works)


@lru_cache
def _method(name: str) -> str:
    return name.split(".<locals>", maxsplit=1)[0].rpartition(".")[2].removesuffix("_all")


def _alone(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> _Outcome:
    """What one operation returned, or why it left nothing behind."""
    connection.execute("SAVEPOINT one")
    try:
        result = work(connection)
    except Exception as error:
        if type(error) in {sqlite3.OperationalError, sqlite3.DatabaseError}:
            raise  # The file's, not one caller's.
        connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        return None, error
    connection.execute("RELEASE one")
    return result, None


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
