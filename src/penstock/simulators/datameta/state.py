"""What the server remembers: users, keys, files, records and submissions. Speaks no HTTP."""

import itertools
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from penstock.simulators.content import Bodies, Bytes, Content
from penstock.simulators.datameta.settings import DataMetaSettings

_FAILURES_COUNT_S = 3600.0


@dataclass(frozen=True)
class Id:
    """The two names of a thing; either may be used."""

    uuid: str
    site: str


@dataclass
class User:
    """An account and its group. failures: when expired keys were used, epoch seconds."""

    id: Id
    group: Id
    name: str
    group_name: str
    admin: bool
    enabled: bool = True
    failures: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Key:
    """An API key: whose, and until when, epoch seconds."""

    user: User
    expires_at: float | None = None


@dataclass
class File:
    """An announced file; `confirmed` once its bytes were held against its checksum.

    url_given: a download URL was issued once.
    """

    id: Id
    user: User
    name: str
    checksum: str
    access_token: str
    expires_at: float
    content: Content = field(default_factory=lambda: Bytes(b""))
    modified_at: float = 0.0
    confirmed: bool = False
    url_given: bool = False
    submission: "Submission | None" = None


@dataclass(frozen=True, kw_only=True)
class Metadatum:
    """A column of the server's records."""

    id: str
    name: str
    order: int = 0
    mandatory: bool = False
    is_file: bool = False
    submission_unique: bool = False
    site_unique: bool = False
    pattern: str | None = None
    pattern_means: str | None = None
    description: str | None = None
    example: str = ""
    date_format: str | None = None
    service: Id | None = None


@dataclass
class Record:
    """A metadataset; dates are kept in ISO 8601. files: those bound to it, by column."""

    id: Id
    user: User
    values: dict[str, str | None]
    files: dict[str, File] = field(default_factory=dict)
    submission: "Submission | None" = None


@dataclass
class Submission:
    """Records and files submitted together, for good."""

    id: Id
    label: str | None
    group: Id
    at: float
    records: list[Record]
    files: list[File]


class World:
    """Everything on one server."""

    def __init__(self, settings: DataMetaSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.bodies = Bodies(settings.keep_bodies)
        self.url = ""
        self.keys: dict[str, Key] = {}
        self.files: dict[str, File] = {}
        self.metadata: dict[str, Metadatum] = {}
        self.records: dict[str, Record] = {}
        self.submissions: dict[str, Submission] = {}
        self.downloads: dict[str, tuple[File, float]] = {}
        self._clock = clock
        self._numbers = itertools.count(1)

    def now(self) -> float:
        """Return the server's time, epoch seconds."""
        return self._clock() + self.settings.clock_skew_s

    def new_id(self, kind: str) -> Id:
        """Return names nothing has yet; `kind` is a letter, F of files."""
        number = next(self._numbers)
        own = uuid.uuid5(uuid.NAMESPACE_URL, f"penstock simulator {number}")
        return Id(str(own), f"DM{kind}-{number:08d}")

    def new_user(self, name: str, *, admin: bool) -> User:
        """Return a user in a group of their own."""
        group_name = "Test Group" if admin else f"Group of {name}"
        return User(self.new_id("U"), self.new_id("G"), name, group_name, admin)

    def user_of(self, token: str) -> User | None:
        """Return whose key this is, if it is good; uses of expired ones lock the account.

        Source: *observed*, DataMeta 1.1.1: five uses of an expired key within an hour disable
        the account; one request with a good key clears the count.
        """
        key = self.keys.get(token)
        if key is None or not key.user.enabled:
            return None
        user, now = key.user, self.now()
        if key.expires_at is not None and now >= key.expires_at:
            user.failures = [at for at in user.failures if at > now - _FAILURES_COUNT_S]
            user.failures.append(now)
            user.enabled = len(user.failures) < self.settings.uses_of_expired_keys
            return None
        user.failures.clear()
        return user

    def announce(self, user: User, name: str, checksum: str) -> File:
        """Return a new file without bytes. Names are not unique."""
        file = File(
            id=self.new_id("F"),
            user=user,
            name=name,
            checksum=checksum,
            access_token=secrets.token_hex(32),
            expires_at=self.now() + self.settings.upload_lifetime_s,
            modified_at=self.now(),
        )
        self.files[file.id.uuid] = file
        return file

    def lease(self, file: File, minutes: int) -> tuple[str, float]:
        """Return the token of a download URL, and when it expires. The file can stay for ever."""
        told = self.settings.download_lifetime_s
        expires_at = self.now() + (minutes * 60 if told is None else told)
        token = secrets.token_hex(32)
        self.downloads[token] = (file, expires_at)
        file.url_given = True
        return token, expires_at


_Thing = TypeVar("_Thing", File, Record)


def named(things: Mapping[str, _Thing], name: str) -> _Thing | None:
    """Return a thing by its uuid or its site id."""
    found = things.get(name)
    if found is None:
        found = next((each for each in things.values() if each.id.site == name), None)
    return found
