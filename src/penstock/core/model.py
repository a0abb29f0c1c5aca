"""The values everything speaks in: requests, answers, leases, files, parts, transfers.

All are frozen (those that are made for every file, to the type checker alone: `core.values`) and
picklable, so that they can be compared, logged, replayed and sent to another process. Bodies are
described (`FileSlice`), never held: a request can be sent again, and memory does not grow with a
file. No behaviour beyond what follows from the fields belongs here.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import field
from typing import TypeAlias, TypeVar, overload

from penstock.core.values import quick_value

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

T = TypeVar("T")


class Rank(enum.IntEnum):
    """Who goes first when slots are scarce: what finishes something before what starts it."""

    FINISH = 0
    CONTINUE = 1
    START = 2


class Repeat(enum.Enum):
    """What may be done when an answer was lost."""

    SAFE = "safe"
    """The exchange may send the request again by itself."""
    ASK = "ask"
    """Sending again might do the thing twice: the flow is told, and asks what happened."""


class AuthKind(enum.Enum):
    """How a request proves who sends it."""

    PLATFORM = "platform"
    NONE = "none"
    SIGV4 = "sigv4"


@quick_value(frozen=True, slots=True)
class Auth:
    """Which credential a request is sent with. Names it; never holds it."""

    kind: AuthKind
    key: str | None = None
    """With SIGV4, the name of the key pair (and region) to sign with."""


PLATFORM = Auth(AuthKind.PLATFORM)
NO_AUTH = Auth(AuthKind.NONE)


def sigv4(key: str) -> Auth:
    """Authority to sign with the key pair known to the engine as `key`."""
    return Auth(AuthKind.SIGV4, key)


class Headers(Mapping[str, str]):
    """HTTP header fields, looked up without regard to case; a repeated field is joined by ', '."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        joined: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            joined[key] = f"{joined[key]}, {value}" if key in joined else value
        self._fields = joined

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    @overload
    def get(self, key: str, /) -> str | None: ...

    @overload
    def get(self, key: str, /, default: str | T) -> str | T: ...

    def get(self, key: str, /, default: str | T | None = None) -> str | T | None:
        """The field's value, or `default`."""
        # Not `Mapping`'s: it raises and catches for each field that is not there.
        return self._fields.get(key.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __hash__(self) -> int:
        return hash(frozenset(self._fields.items()))

    def __repr__(self) -> str:
        # Values may hold tokens and presigned URLs; names are enough to find a fault.
        return f"Headers({sorted(self._fields)})"


@quick_value(frozen=True, slots=True)
class FileSlice:
    """`length` bytes of the local file `path` from `offset` on."""

    path: str
    offset: int
    length: int


Rope: TypeAlias = tuple["bytes | FileSlice", ...]


# In place of a file's size where nobody tells it: all is taken that comes, to its clean end.
UNKNOWN_SIZE = -1


@quick_value(frozen=True, slots=True)
class Head:
    """What an answer's head must say before one byte of its body reaches the sink.

    `total` is the size the whole file must have (or `UNKNOWN_SIZE`), `validator` the ETag it must
    still carry, or its `Last-Modified` where there is no ETag. A
    whole-file answer (200) is taken in place of a range only where the range is the whole file.
    """

    offset: int
    length: int
    total: int
    validator: str | None = None


def validator_field(validator: str | None) -> str:
    """The header field a validator stands in: an ETag begins with `"` or `W/`, a date does not.

    Source: RFC 9110, section 8.8. Storages that send ETags without quotes were seen (*observed*,
    2026-11), so only what is a date goes for one.
    """
    return "last-modified" if validator is not None and validator.endswith(" GMT") else "etag"


def validator_of(headers: Headers) -> str | None:
    """What tells one state of a file from another: its ETag, else when it was changed."""
    return headers.get("etag") or headers.get("last-modified")


@quick_value(frozen=True, slots=True)
class Request:
    """One HTTP request, described: what to send, what it costs, and what may be done with it."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: Rope = ()
    sink: FileSlice | None = None
    cost: int = 1
    auth: Auth = PLATFORM
    accept: frozenset[int] = frozenset((200, 201, 202, 204, 206))
    head: Head | None = None
    repeat: Repeat = Repeat.SAFE
    rank: Rank = Rank.CONTINUE
    digests: frozenset[str] = frozenset()
    """Names of digests to take of the bytes that pass (`hashlib` names)."""
    enough: int | None = None
    """Bytes of the answer's body that suffice where it has no sink; the rest is not waited for."""
    keep_s: float = 0.0
    """How long its answer may be kept between runs, where whoever drives the flow keeps any."""
    again: int = 0
    """How often it was asked before and answered with what made no sense."""
    held: int | None = None
    """Bytes of a file that stay in memory, for whoever asked to write: a small file needs no sink
    opened for it. A body that is announced longer is not read, where it has no sink."""
    announces_md5: bool = False
    """Whether the body's MD5 goes ahead of it, so that no other bytes are kept."""

    @property
    def body_length(self) -> int:
        """Bytes the body has."""
        return sum(len(x) if isinstance(x, bytes) else x.length for x in self.body)

    @property
    def is_unbounded(self) -> bool:
        """Whether the answer's body is a file of a size that nobody tells."""
        return self.head is not None and self.head.total == UNKNOWN_SIZE

    @property
    def carries_body(self) -> bool:
        """Whether file bytes move with it, either way, so that it needs a permit."""
        return self.fetches or any(isinstance(x, FileSlice) for x in self.body)

    @property
    def fetches(self) -> bool:
        """Whether its answer brings a file's bytes."""
        return self.sink is not None or self.held is not None

    def _shown(self) -> str:
        from penstock.core.errors import redacted  # noqa: PLC0415 - errors is the lower module

        shown = redacted(self.url)
        return shown if self.auth != NO_AUTH else "/".join(shown.split("/")[:3]) + "/…"

    @property
    def shown(self) -> str:
        """The request as a message names it: its method, and its URL as far as it may be shown."""
        return f"{self.method} {self._shown()}"

    def __repr__(self) -> str:
        return f"<Request {self.method} {self._shown()} cost={self.cost} {self.rank.name}>"


@quick_value(frozen=True, slots=True)
class Response:
    """An answer: its status, its head, and its body where it did not go to a sink.

    `digests` maps each digest the request asked for to the hex digest of the file bytes that
    passed, sent or received; `received` counts the bytes that reached the sink.
    """

    status: int
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    digests: Mapping[str, str] = field(default_factory=dict)
    received: int = 0
    sent: int = 0

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.headers!r} {len(self.body)} bytes>"


Flow: TypeAlias = Generator[Request, Response, T]


@quick_value(frozen=True, slots=True)
class Origin:
    """Where leases come from, and are renewed: a listing page, or a single file."""

    kind: str
    place: str
    cursor: str | None = None


@quick_value(frozen=True, slots=True)
class Lease:
    """A presigned URL, and when it ends by the server's clock. Lives in memory only."""

    url: str
    origin: Origin
    expires_at: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    whole: bool = False
    """Whether it brings the whole file only, whatever range is asked for."""
    digests: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the platform says of the file's bytes where it gives the URL."""

    def __repr__(self) -> str:
        return f"<Lease from {self.origin.kind} {self.origin.place} until {self.expires_at}>"


@quick_value(frozen=True, slots=True)
class Place:
    """A folder on a platform: where files are listed and made.

    `container` is what the platform counts as one store (a project, a resource); `path` is below
    it, '' for its root; `id` is the platform's own, or None while the folder does not exist.
    """

    container: str
    path: str = ""
    id: str | None = None


@quick_value(frozen=True, slots=True)
class RemoteFile:
    """A file as the platform describes it."""

    id: str
    name: str
    size: int | None
    modified: str | None = None
    etag: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    lease: Lease | None = None


@quick_value(frozen=True, slots=True)
class Found:
    """What stands at a path: a file, or the deepest folder there is and the names missing below."""

    place: Place
    missing: tuple[str, ...] = ()
    file: RemoteFile | None = None


@quick_value(frozen=True, slots=True)
class RemoteFolder:
    """A folder as a listing names it; or a project, or what is in one, by its `kind`."""

    id: str
    name: str
    kind: str = "folder"
    written: str = ""
    """How a location names it, where that is not its name."""
    about: Mapping[str, str | int | bool | None] = field(default_factory=dict, hash=False)
    """What else a listing shows of it."""


@quick_value(frozen=True, slots=True)
class Page:
    """One page of a listing. `total` is the number of entries as the server counts them.

    `left_out` are entries of this page that are counted and are neither file nor folder.
    """

    files: tuple[RemoteFile, ...] = ()
    folders: tuple[RemoteFolder, ...] = ()
    next: str | None = None
    total: int | None = None
    left_out: int = 0


@quick_value(frozen=True, slots=True)
class Part:
    """An independently retried byte range of a transfer, numbered from 1."""

    number: int
    offset: int
    length: int


@quick_value(frozen=True, slots=True)
class Receipt:
    """Proof that a part arrived: what was digested here, and the platform's word for it.

    `proves` is False where the storage said that its ETag is no digest (encryption). `md5` is ''
    where the answer was lost, and asking showed that the part is there. A part that came down
    in order is known by `front`, the digest of the file from its start to the part's end, as
    `name:hex`: it is taken anyway. Any other is known by its `blake3`, an eighth of an MD5's cost.
    """

    number: int
    offset: int
    length: int
    md5: str
    etag: str | None = None
    proves: bool = True
    report: tuple[tuple[str, str], ...] = ()
    """Header fields the platform wants told back when the upload is completed."""
    blake3: str | None = None
    front: str | None = None


@quick_value(frozen=True, slots=True)
class Upload:
    """An upload the platform has begun to take."""

    id: str
    part_size: int
    parallel: bool = True
    lease: Lease | None = None


@quick_value(frozen=True, slots=True)
class Target:
    """What an upload is to become: a name in a place, of a size in bytes."""

    place: Place
    name: str
    size: int
    digests: Mapping[str, str] = field(default_factory=dict)


@quick_value(frozen=True, slots=True)
class Completed:
    """A completed upload.

    `asked`: the answer was lost and the file was found by asking, so it needs a proof of its own.
    `reported`: the platform refused parts in the completing request and had them reported apart.
    """

    file: RemoteFile
    asked: bool = False
    reported: bool = False


@quick_value(frozen=True, slots=True)
class OpenUpload:
    """An unfinished upload as the platform lists it; None is what it does not say."""

    id: str
    name: str
    container: str | None
    folder: str | None
    size: int | None
    part_size: int | None
    began_at: float | None
    parallel: bool = True


class Direction(enum.Enum):
    """Which way a transfer goes."""

    UP = "up"
    DOWN = "down"

    # A member is itself alone: the inherited hash is that of its name, reckoned in Python.
    __hash__ = object.__hash__


@quick_value(frozen=True, slots=True)
class Identity:
    """What makes a transfer the same in every run. Tokens rotate, so none is part of it."""

    direction: Direction
    endpoint: str
    container: str
    remote_path: str
    local_path: str


@quick_value(frozen=True, slots=True)
class Fingerprint:
    """What tells a changed source: local by size, mtime_ns and inode, remote by its id too."""

    size: int
    mtime_ns: int | None = None
    inode: int | None = None
    remote_id: str | None = None
    modified: str | None = None
    etag: str | None = None
