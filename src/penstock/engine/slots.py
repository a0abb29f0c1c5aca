"""Where the slots of a quota are kept, so that all who spend it count together.

A store does one thing, `turn`: in one transaction it settles what ended, applies what was heard
to the key's `Standing`, and grants what `Standing.room` allows. The rules are `core.quota`'s and
`core.window`'s; a store adds only atomicity and memory. A slot granted is in flight for everybody
until its holder settles it, or is found dead: then it may still be counted for the longest delay
and one window more.

Times are nanoseconds on the axis `open` gives (its `offset_ns` added to the limiter's own clock),
so a store with a clock of its own (a server's) can impose it. Keys and fingerprints are digests:
a token never gets here. Nothing here waits for a slot.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import field, replace
from pathlib import Path
from typing import Protocol

import anyio

from penstock.core.errors import QuotaStoreError, UsageError
from penstock.core.quota import Heard, Standing
from penstock.core.values import quick_value
from penstock.core.window import NS_PER_S, Count, Terms, Window, ns
from penstock.engine.clock import Clock
from penstock.engine.files import hop
from penstock.engine.locks import Holder
from penstock.engine.mounts import on_network
from penstock.engine.slots_sqlite import (
    BUSY_MS,
    TABLES,
    Rows,
    begin,
    refuse_in,
    refused_at_of,
    root_of,
    standing_of,
)

__all__ = [
    "MemorySlotStore",
    "Opened",
    "Outcome",
    "SlotStore",
    "SqliteSlotStore",
    "Turn",
    "key_of",
    "on_network",
]

# How long a refused token is not asked with again. Source: none, a choice; ARCHITECTURE, Admission.
REFUSAL_REMEMBERED_S = 3600.0
# Whether other holders live is asked at most this often: it opens their lock files.
_LIVES_EVERY_NS = NS_PER_S // 4
# When to ask again what was left to another holder.
_SHARE_AGAIN_NS = NS_PER_S // 4
# Spare slots are granted only from every eighth that is free, so that others find enough.
_SPARES_OF = 8


def key_of(endpoint: str, secret_or_group: str) -> str:
    """The key of a window: a digest of an endpoint and a token, or the name of a quota group."""
    text = f"{endpoint.rstrip('/')}\n{secret_or_group}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@quick_value(frozen=True, slots=True)
class Opened:
    """The key under which a window is to be asked for, and the store's axis of time."""

    key: str
    offset_ns: int


@quick_value(frozen=True, slots=True)
class Turn:
    """What a limiter tells and asks in one go.

    `back` were never sent; `held` are (slot, until); `heard` what was learnt from those. `want`
    slots are asked for callers that wait, `spare` besides where much is free. `first`: no answer
    has come to this run yet. `token` is a fingerprint, `refused` that a 401 came with it.
    `holder` is the run, which has `own` slots, in flight or held; `busy`: some are in flight, or
    callers wait; `leaving`: it asks no more. Runs that find too little share it by their weights.
    """

    now_ns: int
    terms: Terms
    want: int = 0
    spare: int = 0
    first: bool = False
    back: tuple[int, ...] = ()
    held: tuple[tuple[int, int], ...] = ()
    heard: tuple[Heard, ...] = ()
    token: str = ""
    proved: bool = False
    refused: bool = False
    holder: str = ""
    weight: float = 1.0
    own: int = 0
    busy: bool = False
    leaving: bool = False


@quick_value(frozen=True, slots=True)
class Outcome:
    """What a turn gave: slots, and the key as it stands after it.

    Where nothing was granted, `why` says what stands in the way and `next_ns` when to ask again;
    None: once an answer came, here or elsewhere.
    """

    slots: tuple[int, ...] = ()
    standing: Standing = field(default_factory=Standing)
    count: Count = field(default_factory=Count)
    next_ns: int | None = None
    why: str = ""
    token_refused: bool = False


class SlotStore(Protocol):
    """The contract, for whoever implements a store. One conformance suite tests all of them.

    A turn is atomic and awaited to its end: cancelled, it has happened. Two turns of one key
    never interleave, whoever makes them. Every method raises `QuotaStoreError` where the store
    cannot be used: nothing may be spent then.
    """

    async def open(self, key: str, terms: Terms, clock: Clock, *, profile: str = "") -> Opened:
        """The window of `key`, or the one that `profile` last spent and that still counts."""
        ...

    async def turn(self, key: str, turn: Turn) -> Outcome:
        """Settle, learn and take, in this order and at once."""
        ...

    async def token_refused_at(self, token: str, now_at: float | None = None) -> float | None:
        """When (epoch) the platform refused this token; None where that is not remembered.

        With `now_at`, a refusal that is too old to stop a limiter is not remembered either.
        """
        ...

    async def note_refusal(self, token: str, now_at: float) -> None:
        """The token was refused at that moment (epoch)."""
        ...

    async def forget_refusal(self, token: str) -> None:
        """The token may be tried again."""
        ...

    async def aclose(self) -> None:
        """Whatever is still in flight counts as a dead holder's."""
        ...


class SlotRows(Protocol):
    """The slots of one key inside a turn."""

    def give_back(self, numbers: Iterable[int]) -> None: ...

    def hold_all(self, held: Iterable[tuple[int, int]]) -> None: ...

    def is_in_flight(self, number: int) -> bool: ...

    def count(self, now_ns: int) -> Count: ...

    def take(self, slots: int, now_ns: int, *, limit: int) -> Sequence[int]: ...


def take_turn(rows: SlotRows, standing: Standing, turn: Turn, *, token_refused: bool) -> Outcome:
    """One turn on the slots and the standing of a key: what every store does atomically."""
    rows.give_back(turn.back)
    rows.hold_all(turn.held)
    if standing.probe_slot is not None and not rows.is_in_flight(standing.probe_slot):
        standing.probe_slot = None
    count = rows.count(turn.now_ns)
    standing.advance(turn.now_ns, count, turn.terms)
    for heard in turn.heard:
        standing.hear(heard, count, turn.terms)
    if turn.proved:
        standing.proved_by, standing.proved_ns = turn.token, turn.now_ns
    standing.runs.tell(
        turn.holder,
        turn.own,
        turn.weight,
        turn.now_ns,
        turn.terms,
        busy=turn.busy,
        leaving=turn.leaving,
    )
    if token_refused:
        return Outcome((), standing, count, token_refused=True)
    room = standing.room(
        count,
        turn.now_ns,
        turn.terms,
        first=turn.first,
        token=turn.token,
        holder=turn.holder,
    )
    # What a share leaves out is not missed.
    want = min(turn.want, standing.runs.left(count, turn.now_ns, turn.terms, turn.holder))
    part = standing.runs.part_of(turn.holder, room.slots, turn.now_ns, turn.terms)
    wanted = min(want, part)
    why, next_ns = room.why, room.next_ns
    if part < want and part < room.slots:
        again_ns = min(_SHARE_AGAIN_NS, turn.terms.window_ns // 50)
        why, next_ns = "share", turn.now_ns + again_ns
    if wanted == turn.want and not (room.probe or turn.first):
        wanted += max(0, min(turn.spare, (part - wanted) // _SPARES_OF))
    slots: tuple[int, ...] = ()
    if wanted:
        limit = standing.believed(turn.terms)
        slots = tuple(rows.take(wanted, turn.now_ns, limit=limit))
        count = replace(count, used=count.used + len(slots), in_flight=count.in_flight + len(slots))
        if room.probe and slots:
            standing.probe_slot = slots[0]
    standing.runs.served(turn.holder, len(slots), want, turn.now_ns, next_ns)
    return Outcome(slots, standing, count, next_ns, why)


class MemorySlotStore:
    """Slots of one process, for tests and for library use without a folder."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[Window, Standing]] = {}
        self._profiles: dict[str, str] = {}
        self._refused: dict[str, float] = {}
        self._offset_ns: int | None = None

    async def open(self, key: str, terms: Terms, clock: Clock, *, profile: str = "") -> Opened:
        """The window of `key`, or the one `profile` last spent."""
        if self._offset_ns is None:
            self._offset_ns = ns(clock.wall_at()) - ns(clock.now_s())
        if profile:
            key = self._profiles.setdefault(profile, key)
        self._keys.setdefault(key, (Window(terms.window_ns), Standing()))
        return Opened(key, self._offset_ns)

    async def turn(self, key: str, turn: Turn) -> Outcome:
        """See `SlotStore.turn`."""
        window, standing = self._keys[key]
        if turn.refused:
            self._refused[turn.token] = turn.now_ns / NS_PER_S
        refused_at = _if_remembered(self._refused.get(turn.token), turn.now_ns / NS_PER_S)
        outcome = take_turn(window, standing, turn, token_refused=refused_at is not None)
        return replace(outcome, standing=copy(standing))

    async def token_refused_at(self, token: str, now_at: float | None = None) -> float | None:
        """See `SlotStore.token_refused_at`."""
        return _if_remembered(self._refused.get(token), now_at)

    async def note_refusal(self, token: str, now_at: float) -> None:
        """See `SlotStore.note_refusal`."""
        self._refused[token] = now_at

    async def forget_refusal(self, token: str) -> None:
        """The token may be tried again."""
        self._refused.pop(token, None)

    async def aclose(self) -> None:
        """Nothing to do: the memory is this process's."""


def _if_remembered(refused_at: float | None, now_at: float | None) -> float | None:
    if refused_at is None or now_at is None or now_at - refused_at < REFUSAL_REMEMBERED_S:
        return refused_at
    return None


class SqliteSlotStore:
    """Slots of all processes of one machine, in the SQLite file `path`.

    The folder is made for its user only. What a turn commits survives the process, not a power
    cut: a machine that restarts within T of its last request may overspend that one window.
    `network` says whether other machines see the file; None: ask the system.
    """

    def __init__(self, path: Path, *, network: bool | None = None) -> None:
        self.path = path
        self.network = network
        self._holder_folder = path.parent / "holders"
        self._holder = Holder(self._holder_folder)
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._lives_asked_ns: dict[str, int] = {}

    async def open(self, key: str, terms: Terms, clock: Clock, *, profile: str = "") -> Opened:
        """The window of `key`, or the one `profile` last spent and that still counts.

        Raises `UsageError` where another machine spent this window within the last T, or where
        the file system's locks do not lock.
        """
        return await hop(self._open, key, terms, clock, profile)

    async def turn(self, key: str, turn: Turn) -> Outcome:
        """See `SlotStore.turn`."""
        return await hop(self._turn, key, turn)

    async def token_refused_at(self, token: str, now_at: float | None = None) -> float | None:
        """See `SlotStore.token_refused_at`."""
        return _if_remembered(await hop(self._token_refused_at, token), now_at)

    async def note_refusal(self, token: str, now_at: float) -> None:
        """See `SlotStore.note_refusal`."""
        await hop(self._note_refusal, token, now_at)

    async def forget_refusal(self, token: str) -> None:
        """The token may be tried again."""
        await hop(self._forget_refusal, token)

    async def aclose(self) -> None:
        """Let go of the file and of the holder's lock."""
        with anyio.CancelScope(shield=True):
            await hop(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._connection is not None:
                # A folder that was removed meanwhile has nobody else in it.
                with suppress(FileNotFoundError), self._alone():
                    self._connection.close()
                self._connection.close()
                self._connection = None
                self._holder.__exit__()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens or closes the file meanwhile.

        Changing to WAL, and leaving it with the last connection, fail at once where another
        process does the same: SQLite's busy time-out is not for them.
        """
        descriptor = os.open(self._holder_folder / "opening", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                connection = self._connection or self._connect()
                begin(connection)
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError, ValueError) as error:
                raise QuotaStoreError(
                    f"cannot count the quota in {self.path}: {error}; nothing may be spent "
                    "uncounted. Mend or remove that file, or choose another by --quota-store"
                ) from error

    def _connect(self) -> sqlite3.Connection:
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.network is None:
            self.network = on_network(folder)
        self._holder.__enter__()
        try:
            if self.network:
                self._try_locks()
            with self._alone():
                self._connection = self._open_file()
        except BaseException:
            self._holder.__exit__()
            raise
        return self._connection

    def _open_file(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=15, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if self.network else 'WAL'}")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self.network else 'NORMAL'}")
            for statement in TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _try_locks(self) -> None:
        if not Holder(self._holder_folder).lives(self._holder.id):
            raise UsageError(
                f"{self.path.parent} is on a network file system whose locks do not lock; choose a "
                "local folder by --quota-store, or spend a fixed part by --quota-share 1/N"
            )

    def _open(self, key: str, terms: Terms, clock: Clock, profile: str) -> Opened:
        with self._transaction() as connection:
            offset_ns = self._offset(connection, clock)
            now_ns = ns(clock.now_s()) + offset_ns
            connection.execute("DELETE FROM slots WHERE free_at <= ?", (now_ns,))
            forgotten_at = now_ns / NS_PER_S - REFUSAL_REMEMBERED_S
            connection.execute("DELETE FROM tokens WHERE refused_at < ?", (forgotten_at,))
            key = root_of(connection, key, profile)
            Rows(connection, key, self._holder.id, terms).bury(now_ns, self._holder)
            latest_ns = now_ns + terms.longest_delay_ns + terms.window_ns
            connection.execute(
                "UPDATE slots SET free_at = ? WHERE key = ? AND free_at > ?",
                (latest_ns, key, latest_ns),
            )
            self._check_host(connection, key, latest_ns - now_ns, now_ns)
            standing, told_ns = standing_of(connection, key)
            if told_ns > now_ns + NS_PER_S:
                standing.limit_future(now_ns, terms)
            connection.execute(
                "UPDATE windows SET standing = ?, told_at = ?, host = ? WHERE key = ?",
                (standing.dumps(), min(told_ns, now_ns), platform.node(), key),
            )
        return Opened(key, offset_ns)

    def _offset(self, connection: sqlite3.Connection, clock: Clock) -> int:
        """What turns the limiter's clock into the store's axis: epoch time that never steps.

        All processes of one boot share a monotonic clock and the offset the first of them noted,
        so a step of the epoch clock moves nothing that is held.
        """
        offset_ns = ns(clock.wall_at()) - ns(clock.now_s())
        if not clock.boot:
            return offset_ns
        connection.execute("INSERT OR IGNORE INTO boots VALUES (?, ?)", (clock.boot, offset_ns))
        query = "SELECT offset_ns FROM boots WHERE boot = ?"
        noted: int = connection.execute(query, (clock.boot,)).fetchone()[0]
        return noted

    def _check_host(
        self, connection: sqlite3.Connection, key: str, within_ns: int, now_ns: int
    ) -> None:
        if not self.network:
            return
        host, told_ns = connection.execute(
            "SELECT host, told_at FROM windows WHERE key = ?", (key,)
        ).fetchone()
        if host not in {"", platform.node()} and told_ns > now_ns - within_ns:
            raise UsageError(
                f"{self.path} is on a network file system, and {host} spends this quota through "
                "it; several machines share one by --quota-store redis://…, or each spends a "
                "fixed part by --quota-share 1/N with a --quota-store of its own"
            )

    def _check_still_ours(self, connection: sqlite3.Connection, key: str) -> None:
        """A run that was silent for a window may find that another machine has begun meanwhile."""
        if not self.network:
            return
        (host,) = connection.execute("SELECT host FROM windows WHERE key = ?", (key,)).fetchone()
        if host not in {"", platform.node()}:
            raise QuotaStoreError(
                f"{self.path} is on a network file system, and {host} has begun to spend this "
                "quota through it; several machines share one by --quota-store redis://…, or each "
                "spends a fixed part by --quota-share 1/N with a --quota-store of its own"
            )

    def _turn(self, key: str, turn: Turn) -> Outcome:
        with self._transaction() as connection:
            now_ns = turn.now_ns
            self._check_still_ours(connection, key)
            rows = Rows(connection, key, self._holder.id, turn.terms)
            connection.execute("DELETE FROM slots WHERE key = ? AND free_at <= ?", (key, now_ns))
            standing, _ = standing_of(connection, key)
            if turn.want and now_ns - self._lives_asked_ns.get(key, 0) >= _LIVES_EVERY_NS:
                self._lives_asked_ns[key] = now_ns
                rows.bury(now_ns, self._holder)
            if turn.refused:
                refuse_in(connection, turn.token, now_ns / NS_PER_S)
            refused_at = _if_remembered(refused_at_of(connection, turn.token), now_ns / NS_PER_S)
            outcome = take_turn(rows, standing, turn, token_refused=refused_at is not None)
            connection.execute(
                "UPDATE windows SET standing = ?, told_at = ?, host = ? WHERE key = ?",
                (standing.dumps(), now_ns, platform.node(), key),
            )
        return outcome

    def _token_refused_at(self, token: str) -> float | None:
        with self._transaction() as connection:
            return refused_at_of(connection, token)

    def _note_refusal(self, token: str, now_at: float) -> None:
        with self._transaction() as connection:
            refuse_in(connection, token, now_at)

    def _forget_refusal(self, token: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM tokens WHERE token = ?", (token,))
