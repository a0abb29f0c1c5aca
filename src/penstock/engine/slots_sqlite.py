"""The tables of a quota's slots in SQLite, and the statements on them inside one transaction.

Nothing here opens, locks or waits, and nothing decides: `slots.SqliteSlotStore` does the one,
`core.quota` the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from penstock.core.quota import Standing
from penstock.core.window import Count, Terms
from penstock.engine.locks import Holder

# SQLite waits for a lock by sleeping longer each time, up to 100 ms, so that whoever came first
# starves. Asked anew after a few ms, all who wait have the same chance. A store locked for longer
# than all tries together (15 s) is broken, not busy.
BUSY_MS = 3
_BUSY_TRIES = 5000

# One row a slot: `free_at` in nanoseconds, NULL while in flight. `root` is the key whose slots a
# replaced token's key spends on; `told_at` the moment of the last turn, and `host` whose it was.
TABLES = """
    CREATE TABLE IF NOT EXISTS slots (
        number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, holder TEXT NOT NULL,
        free_at INTEGER);
    CREATE INDEX IF NOT EXISTS slots_key ON slots (key, free_at, holder);
    CREATE TABLE IF NOT EXISTS windows (
        key TEXT PRIMARY KEY, root TEXT NOT NULL, standing TEXT NOT NULL, host TEXT NOT NULL,
        told_at INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS profiles (profile TEXT PRIMARY KEY, key TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS tokens (token TEXT PRIMARY KEY, refused_at REAL NOT NULL);
    CREATE TABLE IF NOT EXISTS boots (boot TEXT PRIMARY KEY, offset_ns INTEGER NOT NULL);
"""

_NEW = Standing().dumps()


@dataclass(slots=True)
class Rows:
    """The slots of one key in an open transaction. The contract of `core.window.Window`."""

    connection: sqlite3.Connection
    key: str
    holder: str
    terms: Terms
    # All slots of the key as last counted: holding one changes no number.
    _used: int | None = field(default=None, init=False)

    def give_back(self, numbers: Iterable[int]) -> None:
        """See `Window.give_back`."""
        self._used = None
        self.connection.executemany(
            "DELETE FROM slots WHERE number = ? AND free_at IS NULL", [(n,) for n in numbers]
        )

    def hold_all(self, held: Iterable[tuple[int, int]]) -> None:
        """Each slot until its moment; see `Window.hold`."""
        self.connection.executemany(
            "UPDATE slots SET free_at = ? WHERE number = ? AND free_at IS NULL",
            [(until_ns, number) for number, until_ns in held],
        )

    def is_in_flight(self, number: int) -> bool:
        """See `Window.is_in_flight`."""
        found = self.connection.execute(
            "SELECT 1 FROM slots WHERE number = ? AND free_at IS NULL", (number,)
        )
        return found.fetchone() is not None

    def count(self, now_ns: int) -> Count:
        """The slots of the key; those free by now must have been deleted."""
        used, in_flight, late, next_free = self.connection.execute(
            "SELECT (SELECT count(*) FROM slots WHERE key = ?1),"
            " (SELECT count(*) FROM slots WHERE key = ?1 AND free_at IS NULL),"
            " (SELECT count(*) FROM slots WHERE key = ?1 AND free_at > ?2),"
            " (SELECT min(free_at) FROM slots WHERE key = ?1 AND free_at > 0)",
            (self.key, now_ns + self.terms.window_ns),
        ).fetchone()
        self._used = used
        return Count(used, in_flight + late, next_free)

    def take(self, slots: int, now_ns: int, *, limit: int) -> Sequence[int]:
        """See `Window.take`."""
        used = self.count(now_ns).used if self._used is None else self._used
        slots = min(slots, max(0, limit - used))
        self.connection.executemany(
            "INSERT INTO slots (key, holder) VALUES (?, ?)", [(self.key, self.holder)] * slots
        )
        self._used = used + slots
        # Within a transaction numbers follow each other.
        (last,) = self.connection.execute("SELECT last_insert_rowid()").fetchone()
        return range(last - slots + 1, last + 1)

    def bury(self, now_ns: int, holder: Holder) -> None:
        """Hold what dead holders had in flight until nothing of it can still be counted."""
        others = self.connection.execute(
            "SELECT DISTINCT holder FROM slots WHERE key = ? AND free_at IS NULL AND holder <> ?",
            (self.key, self.holder),
        ).fetchall()
        until_ns = now_ns + self.terms.longest_delay_ns + self.terms.window_ns
        for (other,) in others:
            if not holder.lives(other):
                self.connection.execute(
                    "UPDATE slots SET free_at = ? WHERE holder = ? AND free_at IS NULL",
                    (until_ns, other),
                )


def begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction that writes, whoever else does."""
    for attempt in range(_BUSY_TRIES):
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or attempt == _BUSY_TRIES - 1:
                raise
        else:
            return


def refuse_in(connection: sqlite3.Connection, token: str, now_at: float) -> None:
    """The token was refused at that moment."""
    connection.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (token, now_at))


def refused_at_of(connection: sqlite3.Connection, token: str) -> float | None:
    """When the token was refused; None where that is not known."""
    query = "SELECT refused_at FROM tokens WHERE token = ?"
    row = connection.execute(query, (token,)).fetchone()
    return None if row is None else row[0]


def standing_of(connection: sqlite3.Connection, key: str) -> tuple[Standing, int]:
    """The key's standing, and when it was last told something."""
    text, told_ns = connection.execute(
        "SELECT standing, told_at FROM windows WHERE key = ?", (key,)
    ).fetchone()
    return Standing.loads(text), told_ns


def root_of(connection: sqlite3.Connection, key: str, profile: str) -> str:
    """The key whose slots `key` spends: its own, or that of the token it replaced.

    What was inherited stays: a run that is open may spend it at any time, though it has no slot
    now, and two roots of one token would be two windows.
    """

    def root(some: str) -> str:
        row = connection.execute("SELECT root FROM windows WHERE key = ?", (some,)).fetchone()
        return row[0] if row else some

    def counts(some: str) -> bool:
        query = "SELECT 1 FROM slots WHERE key = ? LIMIT 1"
        return connection.execute(query, (some,)).fetchone() is not None

    found = root(key)
    last = connection.execute("SELECT key FROM profiles WHERE profile = ?", (profile,)).fetchone()
    inherited = root(last[0]) if profile and last else found
    if inherited != found and counts(inherited):
        connection.execute("UPDATE slots SET key = ? WHERE key = ?", (inherited, found))
        found = inherited
    connection.execute("INSERT OR IGNORE INTO windows VALUES (?, ?, ?, '', 0)", (key, found, _NEW))
    connection.execute("UPDATE windows SET root = ? WHERE key = ?", (found, key))
    if profile:
        connection.execute("INSERT OR REPLACE INTO profiles VALUES (?, ?)", (profile, key))
    return found
