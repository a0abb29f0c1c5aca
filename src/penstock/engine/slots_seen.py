"""What a quota store holds of one key, read and never written: no window begins by being looked at.

For people who ask what is spent and who spends. What may be taken is the limiter's to ask, in a
turn; a number from here is old when it arrives, so nothing that spends belongs here.
"""

from __future__ import annotations

import os
import platform
import sqlite3
from contextlib import closing
from dataclasses import field
from pathlib import Path

from penstock.core.errors import QuotaStoreError
from penstock.core.quota import Standing
from penstock.core.values import quick_value
from penstock.core.window import Count, Terms, ns


@quick_value(frozen=True, slots=True)
class Spender:
    """A process that has the key open or slots in flight. `host` '' where the store knows none."""

    host: str
    pid: int
    in_flight: int


@quick_value(frozen=True, slots=True)
class Seen:
    """A key at `now_ns`, on its store's axis. A key nobody has spent has none used."""

    now_ns: int
    count: Count = field(default_factory=Count)
    standing: Standing = field(default_factory=Standing)
    spenders: tuple[Spender, ...] = ()
    refused_at: float | None = None


def spender_of(holder: str, in_flight: int) -> Spender:
    """Who `HOST:PID-RANDOM` or `PID-RANDOM` is."""
    host, _, process = holder.rpartition(":")
    pid = process.partition("-")[0]
    return Spender(host, int(pid) if pid.isdigit() else 0, in_flight)


def seen_in_file(
    path: Path, key: str, terms: Terms, *, profile: str, token: str, wall_at: float
) -> Seen:
    """What the file of a `SqliteSlotStore` holds of `key`, or of the key `profile` last spent.

    A file that is not there has nothing spent. Raises `QuotaStoreError` where it cannot be read.
    """
    if not path.exists():
        return Seen(ns(wall_at))
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
            connection.execute("BEGIN")
            return _seen(connection, key, terms, profile, token, wall_at)
    except sqlite3.Error as error:
        raise QuotaStoreError(f"cannot read the quota in {path}: {error}") from error


def _seen(
    connection: sqlite3.Connection,
    key: str,
    terms: Terms,
    profile: str,
    token: str,
    wall_at: float,
) -> Seen:
    """The rows as `SqliteSlotStore` writes them."""

    def one(query: str, *values: object) -> tuple[object, ...] | None:
        row: tuple[object, ...] | None = connection.execute(query, values).fetchone()
        return row

    tables = one("SELECT count(*) FROM sqlite_master WHERE name IN ('slots', 'windows')")
    if tables != (2,):
        return Seen(ns(wall_at))
    now_ns = ns(wall_at)
    last = one("SELECT key FROM profiles WHERE profile = ?", profile)
    for some in (str(last[0]) if last else key, key):
        found = one("SELECT root FROM windows WHERE key = ?", some)
        root = str(found[0]) if found else some
        counting = "SELECT 1 FROM slots WHERE key = ? AND (free_at IS NULL OR free_at > ?)"
        if one(counting, root, now_ns):
            key = root
            break
    used, in_flight, next_free = connection.execute(
        "SELECT count(*), total(free_at IS NULL OR free_at > ?), min(free_at)"
        " FROM slots WHERE key = ? AND (free_at IS NULL OR free_at > ?)",
        (now_ns + terms.window_ns, key, now_ns),
    ).fetchone()
    holders = connection.execute(
        "SELECT holder, total(free_at IS NULL) FROM slots"
        " WHERE key = ? AND (free_at IS NULL OR free_at > ?) GROUP BY holder",
        (key, now_ns),
    ).fetchall()
    standing = one("SELECT standing FROM windows WHERE key = ?", key)
    refused = one("SELECT refused_at FROM tokens WHERE token = ?", token)
    spenders = (spender_of(holder, int(flying)) for holder, flying in holders)
    return Seen(
        now_ns,
        Count(used=used, in_flight=int(in_flight), next_free_ns=next_free),
        Standing.loads(str(standing[0])) if standing else Standing(),
        tuple(
            Spender(platform.node(), spender.pid, spender.in_flight)
            for spender in spenders
            if _is_running(spender.pid)
        ),
        float(str(refused[0])) if refused else None,
    )


def _is_running(pid: int) -> bool:
    """Whether a process of this machine has that number. Its lock is left alone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid > 0
