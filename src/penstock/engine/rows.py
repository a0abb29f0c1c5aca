"""The ledger's rows, as they are read and written: no transaction is begun here.

What SQLite holds becomes what the engine works with, and back: paths that are no valid text,
fingerprints, and the states that a claim or an end lead to.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from penstock.core.jsontext import written_ascii
from penstock.core.lifecycle import Event, State, after
from penstock.core.model import Direction, Fingerprint, Identity, RemoteFile
from penstock.core.times import when
from penstock.core.values import quick_value
from penstock.engine.columns import (
    UNREADABLE,
    RowUnreadable,
    all_of,
    read_digests,
    read_source,
)

# Proofs that a storage's own word makes, and can make again.
_STATED = frozenset(("etag", "platform-digest"))
# Whole seconds in listings, and two clocks that are kept by the same means. A guess.
_TICK_S = 2.0
IDENTITY = "direction = ? AND endpoint = ? AND container = ? AND remote_path = ? AND local_path = ?"


# Not frozen: to make a frozen one of so many fields takes thrice as long, and a run that has
# nothing to do makes little else. Nobody changes one.
@dataclass(slots=True)
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

    @property
    def is_new(self) -> bool:
        """Whether nothing of it was ever begun: it has no upload, no receipts and no intents."""
        return self.state is State.PLANNED and self.source is None and self.upload_id is None

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


@quick_value(frozen=True, slots=True)
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


@quick_value(frozen=True, slots=True)
class Run:
    """An earlier run; `ended_at` and `summary` (JSON) are None where it did not end by itself."""

    id: str
    began_at: float
    ended_at: float | None
    sources: tuple[str, ...]
    destination: str
    summary: str | None


@quick_value(frozen=True, slots=True)
class Held:
    """A transfer another live process is moving."""

    holder: str


@dataclass(slots=True)
class Arrived:
    """All of a file is there and weighed; as `Ledger.arrived` tells."""

    transfer: int
    source: Fingerprint
    digests: Mapping[str, str]
    verified_by: str | None
    size: int
    parts: int
    placed: str | None
    at_once_in: str | None = None
    is_new: bool = False
    """As the row's."""


@dataclass(slots=True)
class End:
    """How a transfer ended; as `Ledger.end` tells."""

    transfer: int
    state: State
    digests: Mapping[str, str] = field(default_factory=dict)
    source: Fingerprint | None = None
    verified_by: str | None = None
    remote_id: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    parts: int = 0
    placed: str | None = None
    validator: str | None = None
    is_new: bool = False
    """As the row's; and it arrived at once."""


COLUMNS = (
    "id, direction, endpoint, container, remote_path, local_path, state, source, part_size,"
    " upload_id, partial, validator, remote_id, size, mtime_ns, digests, verified_by, placed,"
    " parts, parallel, metadata, ended_at"
)

RUNS = "SELECT id, began_at, ended_at, sources, destination, summary FROM runs"


def key_of(identity: Identity) -> tuple[str | bytes | None, ...]:
    """What a transfer's row is found by, in the order of `IDENTITY`."""
    return (
        identity.direction.value,
        identity.endpoint,
        identity.container,
        stored(identity.remote_path),
        stored(identity.local_path),
    )


def stored(text: str | None) -> str | bytes | None:
    """A path as SQLite takes it: one that is no valid text, as a file name may be, as bytes."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def loaded(value: str | bytes | None) -> Any:  # noqa: ANN401 - as its column is
    """What `stored` was given."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


# As `COLUMNS`, without what whoever asks by it knows.
_COLUMNS_BY_IDENTITY = f"id, 0, 0, 0, 0, 0,{COLUMNS.partition('local_path,')[2]}"
_BY_IDENTITY = f"SELECT {_COLUMNS_BY_IDENTITY} FROM transfers WHERE {IDENTITY}"  # noqa: S608


def row_of(connection: sqlite3.Connection, identity: Identity) -> Row | None:
    """A transfer's row, where there is one."""
    found = connection.execute(_BY_IDENTITY, key_of(identity)).fetchone()
    return read_row(found, identity) if found is not None else None


def rows_of(identities: Sequence[Identity], connection: sqlite3.Connection) -> list[Row | None]:
    """Each transfer's row, in the order asked.

    Those of one container, as all of a batch are as a rule, are asked for by one statement: a
    third of what one for each takes.
    """
    rows: list[Row | None] = [None] * len(identities)
    begin = 0
    while begin < len(identities):
        first = identities[begin]
        alike = (first.direction, first.endpoint, first.container)
        keys: list[object] = []
        end = begin
        for each in identities[begin : begin + _AT_ONCE]:
            if (each.direction, each.endpoint, each.container) != alike:
                break
            keys += (end, stored(each.remote_path), stored(each.local_path))
            end += 1
        keys += (first.direction.value, first.endpoint, first.container)
        for found in connection.execute(_by_identities(end - begin), keys):
            number = found[-1]
            rows[number] = read_row(found[:-1], identities[number])
        begin = end
    return rows


# SQLite takes 999 values in a statement, at least. Source: sqlite.org/limits.html, 9.
_AT_ONCE = 300


@lru_cache(4)
def _by_identities(count: int) -> str:
    # The left table of a CROSS JOIN is the outer loop. Source: sqlite.org/optoverview.html, 8.1.
    asked = ", ".join(["(?, ?, ?)"] * count)
    return (
        f"SELECT {_COLUMNS_BY_IDENTITY}, column1 FROM (VALUES {asked}) CROSS JOIN transfers"  # noqa: S608
        " WHERE direction = ? AND endpoint = ? AND container = ?"
        " AND remote_path = column2 AND local_path = column3"
    )


def by_id(connection: sqlite3.Connection, transfer: int) -> Row:
    """The row of a transfer that has one."""
    return read_row(
        connection.execute(f"SELECT {COLUMNS} FROM transfers WHERE id = ?", (transfer,)).fetchone()  # noqa: S608
    )


def read_row(found: tuple[Any, ...], identity: Identity | None = None) -> Row:
    """A row out of `COLUMNS`; of the transfer `identity`, where it was found by that.

    Raises `RowUnreadable`.
    """
    key, direction, endpoint, container, remote, local, state, source, *rest = found
    part_size, upload_id, partial_path, validator, remote_id, size, mtime_ns, *rest = rest
    digests, verified_by, placed, parts, parallel, metadata, ended_at = rest
    try:
        row = Row(
            id=key,
            identity=identity
            or Identity(Direction(direction), endpoint, container, loaded(remote), loaded(local)),
            state=_STATES[state],
            source=read_source(source) if source else None,
            part_size=part_size,
            upload_id=upload_id,
            partial=loaded(partial_path),
            validator=validator,
            remote_id=remote_id,
            size=size,
            mtime_ns=mtime_ns,
            digests=read_digests(digests),
            verified_by=verified_by,
            placed=loaded(placed),
            parts=parts,
            parallel=bool(parallel),
            metadata=metadata,
            ended_at=ended_at,
        )
    except UNREADABLE as error:
        raise RowUnreadable(f"transfer {key} cannot be read") from error
    if not _NUMBERS.issuperset(map(type, (part_size, size, mtime_ns, parts, ended_at))):
        raise RowUnreadable(f"transfer {key} cannot be read")
    return row


def read_run(found: tuple[Any, ...]) -> Run:
    """A run out of its table's columns. Raises `RowUnreadable`."""
    run, began_at, ended_at, sources, destination, summary = found
    try:
        read = Run(
            run,
            began_at,
            ended_at,
            tuple(json.loads(sources)),
            str(loaded(destination)),
            summary,
        )
        counts = json.loads(summary) if summary is not None else {}
    except UNREADABLE as error:
        raise RowUnreadable(f"run {run} cannot be read") from error
    if (
        not isinstance(counts, dict)
        or not all_of(str, (run, *read.sources))
        or not all_of(float, (began_at, ended_at))
        or not all(isinstance(counts.get(name, 0), int) for name in _COUNTED)
    ):
        raise RowUnreadable(f"run {run} cannot be read")
    return read


_NUMBERS = frozenset((int, float, type(None)))
# What is shown of a summary, an action's among them.
_COUNTED = (
    "verified",
    "unverified",
    "skipped",
    "failed",
    "bytes",
    "settled",
    "accepted",
    "unknown",
)


_STATES = {state.value: state for state in State}


def state_of(connection: sqlite3.Connection, transfer: int) -> State:
    """The state of a transfer that has a row."""
    found = connection.execute("SELECT state FROM transfers WHERE id = ?", (transfer,)).fetchone()
    return _STATES[found[0]]


# What a claim alone does not change: it was proved as far as it can be, or only wants its name.
_KEPT = frozenset((State.VERIFIED, State.UNVERIFIED, State.ARRIVED))


def once_taken(state: State) -> State:
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


def once_ended(state: State, end: State) -> State:
    """`end`, reached from `state` by the events that lead there."""
    if state is end:
        return end
    if state is State.MOVING and end in {State.VERIFIED, State.UNVERIFIED}:
        state = after(state, Event.ALL_PARTS)
    return after(state, _ENDS[end])


_HAS_PARTS = (
    "EXISTS (SELECT 1 FROM receipts WHERE transfer = ?1)"
    " OR EXISTS (SELECT 1 FROM intents WHERE transfer = ?1)"
)
_STATE_AND_PARTS = f"SELECT state, {_HAS_PARTS} FROM transfers WHERE id = ?1"  # noqa: S608


def state_without_parts(connection: sqlite3.Connection, transfer: int) -> State:
    """The state of a transfer that has a row; its receipts and intents are gone."""
    state, has_parts = connection.execute(_STATE_AND_PARTS, (transfer,)).fetchone()
    if has_parts:
        _delete_parts(connection, transfer)
    return _STATES[state]


def forget_parts(connection: sqlite3.Connection, transfer: int) -> None:
    """A transfer's receipts and intents are gone."""
    # Most have none, and to see that takes a third of what it takes to delete nothing.
    if connection.execute(f"SELECT {_HAS_PARTS}", (transfer,)).fetchone()[0]:
        _delete_parts(connection, transfer)


def _delete_parts(connection: sqlite3.Connection, transfer: int) -> None:
    connection.execute("DELETE FROM receipts WHERE transfer = ?", (transfer,))
    connection.execute("DELETE FROM intents WHERE transfer = ?", (transfer,))


_TAKEN = after(State.PLANNED, Event.CLAIM).value


def start_over(
    connection: sqlite3.Connection,
    transfer: int,
    source: Fingerprint,
    part_size: int | None,
    partial: str | None,
    validator: str | None,
) -> None:
    """A transfer is moving, with nothing of an earlier try remembered."""
    forget_parts(connection, transfer)
    connection.execute(
        "UPDATE transfers SET state = ?, source = ?, part_size = ?, partial = ?,"
        " validator = ?, upload_id = NULL, verified_by = NULL, placed = NULL,"
        " digests = '{}', metadata = NULL WHERE id = ?",
        (
            _TAKEN,
            dumped(source),
            part_size,
            stored(partial),
            validator,
            transfer,
        ),
    )


# Once all parts came at once.
_ALL_AT_ONCE = after(once_taken(State.PLANNED), Event.ALL_PARTS).value


def arrive(connection: sqlite3.Connection, told: Arrived) -> None:
    """A transfer has arrived."""
    proved = (
        dumped(told.source),
        sorted_json(told.digests),
        told.verified_by,
        told.size,
        told.parts,
        stored(told.placed),
    )
    if told.at_once_in is not None:
        if not told.is_new:
            forget_parts(connection, told.transfer)
        connection.execute(
            "UPDATE transfers SET state = ?, source = ?, digests = ?, verified_by = ?,"
            " size = ?, parts = ?, placed = ?, partial = ?, part_size = NULL,"
            " validator = NULL, upload_id = NULL, metadata = NULL WHERE id = ?",
            (_ALL_AT_ONCE, *proved, stored(told.at_once_in), told.transfer),
        )
        return
    state = state_of(connection, told.transfer)
    if state is not State.ARRIVED:
        state = after(state, Event.ALL_PARTS)
    connection.execute(
        "UPDATE transfers SET state = ?, source = ?, digests = ?, verified_by = ?,"
        " size = ?, parts = ?, placed = ? WHERE id = ?",
        (state.value, *proved, told.transfer),
    )


def end(connection: sqlite3.Connection, told: End, now: float) -> None:
    """A transfer has ended; receipts, intents and claim are gone."""
    state = State.ARRIVED if told.is_new else state_without_parts(connection, told.transfer)
    ended = once_ended(state, told.state)
    connection.execute(
        "UPDATE transfers SET state = ?, source = coalesce(?, source), digests = ?,"
        " verified_by = ?, remote_id = coalesce(?, remote_id), size = ?, mtime_ns = ?,"
        " parts = ?, placed = ?, validator = coalesce(?, validator), upload_id = NULL,"
        " partial = NULL, ended_at = ?"
        " WHERE id = ?",
        (
            ended.value,
            dumped(told.source) if told.source is not None else None,
            sorted_json(told.digests),
            told.verified_by,
            told.remote_id,
            told.size,
            told.mtime_ns,
            told.parts,
            stored(told.placed),
            told.validator,
            now,
            told.transfer,
        ),
    )
    connection.execute("DELETE FROM claims WHERE transfer = ?", (told.transfer,))


def dumped(source: Fingerprint) -> str:
    """A fingerprint as its column holds it."""
    return written_ascii(
        [(name, value) for name in _FIELDS if (value := getattr(source, name)) is not None]
    )


_FIELDS = tuple(each.name for each in fields(Fingerprint))


def sorted_json(names: Mapping[str, str]) -> str:
    """Digests as their column holds them."""
    return written_ascii(sorted(names.items()))
