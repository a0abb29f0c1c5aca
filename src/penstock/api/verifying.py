"""`verify`: whether what stands at a place is what it should be; moves nothing, changes nothing.

A place is held against another, a report, a table of digests, or the ledger. Names are compared
first, then sizes, then digests: local ones are taken, remote ones are what listing and storage
state, or with `read_back` those of the bytes. What nothing proves is said so, apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from penstock.api.namesakes import matched
from penstock.api.opening import folders_of, prepared, settings_of
from penstock.config import Settings
from penstock.core.errors import PenstockError, Refused, UsageError
from penstock.core.events import Event, Note
from penstock.core.locations import Local, Location, Remote, unescape
from penstock.core.model import RemoteFile
from penstock.core.names import to_local
from penstock.core.tables import ManifestRow
from penstock.core.values import quick_value
from penstock.engine.clock import Clock
from penstock.engine.comparing import (
    Claim,
    Compared,
    Outcome,
    RemoteComparer,
    local_against,
)
from penstock.engine.files import hop
from penstock.engine.groups import each
from penstock.engine.ledger import Ledger
from penstock.engine.survey import Surveyor, no_such_place, take, walk_local
from penstock.jobs import Job, path_of, read_location, read_rows
from penstock.platforms.base import Platform
from penstock.quotas import read_quotas
from penstock.session import Session, ledger_in

T = TypeVar("T")

_AT_ONCE = 8


@quick_value(frozen=True, slots=True)
class Difference:
    """One file that is not the same: its path below the place, and why."""

    path: str
    reason: str = ""


@dataclass(slots=True)
class Verification:
    """What `verify` found. `same` counts files that are; the rest is by path."""

    same: int = 0
    missing: list[Difference] = field(default_factory=list)
    extra: list[Difference] = field(default_factory=list)
    different: list[Difference] = field(default_factory=list)
    unproved: list[Difference] = field(default_factory=list)
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """1 where something is missing, extra or different; with `strict`, or not proved."""
        wrong = self.missing or self.extra or self.different or (self.strict and self.unproved)
        return 1 if wrong else 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.exit_code == 0


@dataclass(slots=True)
class _There:
    """What stands at a place: local paths or remote files, by their path below it."""

    local: dict[str, str] = field(default_factory=dict)
    remote: dict[str, RemoteFile] = field(default_factory=dict)

    def keys(self) -> set[str]:
        return self.local.keys() | self.remote.keys()


async def verify(
    place: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    *,
    report: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    encoding: str | None = None,
    read_back: bool = False,
    strict: bool = False,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Verification:
    """What stands at `place`, held against another place, a report, a table, or the ledger.

    Exactly one of `against`, `report` and `manifest`, or none for the ledger. Asks a platform for
    pages, and for a file's storage where its page brings no URL (a `Note` says how many requests
    beforehand). Raises `UsageError` for what makes no sense together, and what asking raises.
    """
    environ = os.environ if environ is None else environ
    if sum(given is not None for given in (against, report, manifest)) > 1:
        raise UsageError("verify holds a place against one thing: a place, a report or a manifest")
    settings = settings_of(config, environ)
    first = _place(place, settings)
    second = _place(against, settings) if against is not None else None
    remote = [p for p in (first, second) if isinstance(p, Remote)]
    if len(remote) > 1:
        raise UsageError("from platform to platform cannot be compared yet: copy one of them here")
    folders, clock, emit = folders_of(state, environ), Clock.running(), on_event or _nobody
    async with AsyncExitStack() as stack:
        session, surveyor, ledger = None, None, None
        if remote:
            job = Job((remote[0],), Local("."), remote[0].profile)
            quotas = read_quotas(quota_share, quota_store, quota_fallback)
            session, ledger, surveyor = await stack.enter_async_context(
                prepared(
                    job,
                    settings,
                    folders,
                    emit=emit,
                    clock=clock,
                    concurrency=None,
                    retries=None,
                    quotas=quotas,
                )
            )
        else:
            ledger = await stack.enter_async_context(ledger_in(folders, clock))
        there = await _look(first, surveyor)
        table = report if report is not None else manifest
        if second is not None:
            other = await _look(second, surveyor)
            other.local = _as_listed(other.local, there.remote.keys())
            claims = await _claims_of(second, other)
        elif table is not None:
            rows = await hop(read_rows, Path(table), encoding, None)
            claims = await hop(
                _claims_in,
                rows,
                str(first).rstrip("/"),
                Path(table).parent,
                session.exchange.platform if session and isinstance(first, Remote) else None,
            )
        else:
            claims = await _claims_remembered(first, ledger, surveyor)
        if not claims and table is None and second is None:
            raise UsageError(f"nothing is known of {first}: name what to hold it against")
        if session is not None and not session.exchange.platform.traits.unique_names:
            there_at = first if isinstance(first, Remote) else second
            is_root = isinstance(there_at, Remote) and not (there_at.path or there_at.id)
            claims = await _by_name(first, there, claims, session, is_root=is_root)
        held = _Holding(there, claims, Verification(strict=strict), emit)
        if session is not None and isinstance(second, Remote):
            await held.swapped(RemoteComparer(session.exchange, folders.state, read_back=read_back))
        elif session is not None:
            await held.remote(RemoteComparer(session.exchange, folders.state, read_back=read_back))
        else:
            await held.local()
    return held.found


def _nobody(_: Event) -> None:
    return None


def _place(text: str | os.PathLike[str], settings: Settings) -> Location:
    location = read_location(os.fspath(text), settings)
    if not isinstance(location, Local | Remote):
        raise UsageError(f"{location.redacted} is one file: verify takes a place, or local files")
    return location


async def _look(location: Location, surveyor: Surveyor | None) -> _There:
    """Everything at a place. Raises `UsageError` or `LocationError` where nothing is there."""
    found = _There()
    if isinstance(location, Local):
        root = Path(os.path.abspath(location.path))  # noqa: PTH100,ASYNC240 - asks nothing
        if await hop(root.is_file):
            found.local[root.name] = str(root)
            return found
        if not await hop(root.is_dir):
            raise UsageError(f"{location} does not exist")
        async for files in take(walk_local(str(root), follow=False)):
            found.local.update(
                (f.relative, f.path) for f in files if f.error is None and not f.unfinished
            )
        return found
    assert surveyor is not None
    place = surveyor.platform.place(path_of(location))
    there = await surveyor.find(place)
    if there.missing:
        raise no_such_place(place, Refused(f"{there.missing[0]!r} is missing", status=404))
    if there.file is not None:
        found.remote[to_local([there.file.name])[0]] = there.file
        return found

    async def deliver(names: tuple[str, ...], files: list[RemoteFile]) -> None:
        found.remote.update(("/".join(to_local((*names, f.name))), f) for f in files)

    await surveyor.walk(there.place, deliver)
    return found


async def _claims_of(location: Location, there: _There) -> dict[str, Claim]:
    """Another place as claims; a remote one claims nothing by itself but its names and sizes."""
    if isinstance(location, Local):
        found = {}
        for key, path in there.local.items():
            size = await hop(os.path.getsize, path)
            found[key] = Claim(size, path=path)
        return found
    return _remote_claims(there.remote)


async def _by_name(
    first: Location,
    there: _There,
    claims: dict[str, Claim],
    session: Session,
    *,
    is_root: bool,
) -> dict[str, Claim]:
    """The claims; `there` and they have one key for what is one file (see `matched`)."""
    digest = session.exchange.platform.traits.digest_first
    if isinstance(first, Remote):
        there.remote = await matched(there.remote, claims, digest, is_root=is_root)
        return claims
    listed = {key: claim.file for key, claim in claims.items() if claim.file is not None}
    ours = await _claims_of(first, there)
    return _remote_claims(await matched(listed, ours, digest, is_root=is_root))


def _as_listed(local: dict[str, T], listed: Set[str]) -> dict[str, T]:
    """What is known by local paths, under the keys of what is listed on a platform.

    A file that came from there has the name it could be written under. One that was sent from here
    may have a name that would be written otherwise if it came back: it is the same file, where
    nothing else stands for it.
    """
    keyed = {}
    for key, value in local.items():
        written = key if key in listed else "/".join(to_local(key.split("/")))
        keyed[written if written in listed and written not in local else key] = value
    return keyed


def _remote_claims(there: Mapping[str, RemoteFile]) -> dict[str, Claim]:
    return {key: Claim(file.size, file.digests, file=file) for key, file in there.items()}


def _claims_in(
    rows: Iterable[ManifestRow], place: str, folder: Path, platform: Platform | None
) -> dict[str, Claim]:
    """The files a table names at a place, by their path below it. Blocks: it looks for copies.

    `platform` is the place's, None for a local one.
    """
    escapes = platform is not None and platform.traits.escapes_names
    claims: dict[str, Claim] = {}
    local = os.path.abspath(place)  # noqa: PTH100 - a link on the way is not followed
    for row in rows:
        if row.status == "failed":
            continue
        key = other = None
        for mine, theirs in ((row.destination, row.source), (row.source, row.destination)):
            key = _below(mine, place) or _below(mine, local)
            if key is not None:
                # It stood in a location, where names are written as locations write them.
                key = "/".join(map(unescape, key.split("/"))) if escapes else key
                other = theirs
                break
        if key is None:
            named = row.destination or row.source
            stands = os.path.abspath(folder / named)  # noqa: PTH100
            key = _below(stands, local) or named.removeprefix("./")
        if platform is not None:
            key = "/".join(to_local(key.split("/")))
        copy = other if other is not None and Path(other).is_file() else None
        claims[key] = Claim(row.size, row.digests, path=_unchanged(copy, row))
    return claims


def _unchanged(copy: str | None, row: ManifestRow) -> str | None:
    """A local copy, where its size is still the row's: its bytes are digested anew anyway."""
    if copy is None or row.size is None or Path(copy).stat().st_size != row.size:
        return None
    return copy


def _below(text: str | None, place: str) -> str | None:
    if not text:
        return None
    if text == place:
        return text.rpartition("/")[2]
    head = place.rstrip("/") + ("" if place.endswith(":") else "/")
    return text.removeprefix(head) if text.startswith(head) else None


async def _claims_remembered(
    location: Location, ledger: Ledger, surveyor: Surveyor | None
) -> dict[str, Claim]:
    """What the ledger proved at a place, the last of each."""
    claims: dict[str, Claim] = {}
    if isinstance(location, Local):
        root = os.path.abspath(location.path)  # noqa: PTH100,ASYNC240
        for row in await ledger.proved_here(root):
            path = row.placed if row.placed and "/" in row.placed else row.identity.local_path
            key = _below(path, root)
            if key is not None:
                claims[key] = Claim(row.size, row.digests)
        return claims
    assert surveyor is not None
    platform = surveyor.platform
    place = platform.place(path_of(location))
    # The ledger has the platform's own name for the container.
    container = (await surveyor.find(place)).place.container
    for row in await ledger.proved_there(platform.endpoint, container, place.path):
        path = row.identity.remote_path
        if row.placed and "/" not in row.placed:
            path = "/".join(filter(None, (path.rpartition("/")[0], row.placed)))
        key = _below(path, place.path) if place.path else path
        if key is not None:
            names = to_local(key.split("/"))
            copy = row.identity.local_path
            same = await hop(_same_size, copy, row.size)
            claims["/".join(names)] = Claim(
                row.size, row.digests, copy if same else None, row.part_size
            )
    return claims


def _same_size(path: str, size: int | None) -> bool:
    try:
        return Path(path).stat().st_size == size
    except OSError:
        return False


@dataclass(slots=True)
class _Holding:
    """One side held against the other."""

    there: _There
    claims: dict[str, Claim]
    found: Verification
    emit: Callable[[Event], None]

    async def local(self) -> None:
        """Local files against what was claimed of them."""
        await self._all(lambda key: local_against(self.there.local[key], self.claims[key]))

    async def remote(self, comparer: RemoteComparer) -> None:
        """Remote files against what was claimed of them."""
        self._announce(
            comparer, [(self.there.remote[key], self.claims[key]) for key in self._both()]
        )
        await self._all(lambda key: comparer.compare(self.there.remote[key], self.claims[key]))

    async def swapped(self, comparer: RemoteComparer) -> None:
        """Local files against remote ones: the local bytes are what the remote is compared with."""
        self.there.local = _as_listed(self.there.local, self.claims.keys())
        pairs: dict[str, tuple[RemoteFile, Claim]] = {}
        for key in self._both():
            claim = self.claims[key]
            assert claim.file is not None
            path = self.there.local[key]
            pairs[key] = (claim.file, Claim(await hop(os.path.getsize, path), path=path))
        self._announce(comparer, list(pairs.values()))
        await self._all(lambda key: comparer.compare(*pairs[key]))

    def _both(self) -> list[str]:
        return sorted(self.claims.keys() & self.there.keys())

    def _announce(self, comparer: RemoteComparer, pairs: list[tuple[RemoteFile, Claim]]) -> None:
        requests = sum(comparer.needs_requests(file, claim) for file, claim in pairs)
        if requests:
            self.emit(Note(f"comparing {len(pairs)} files takes {requests} API requests"))

    async def _all(self, compare: Callable[[str], object]) -> None:
        here = self.there.keys()
        self.found.missing = [Difference(key) for key in sorted(self.claims.keys() - here)]
        self.found.extra = [Difference(key) for key in sorted(here - self.claims.keys())]
        ended: dict[str, Compared] = {}

        async def one(key: str) -> None:
            try:
                ended[key] = await compare(key)  # type: ignore[misc]
            except (PenstockError, OSError) as error:
                if isinstance(error, PenstockError) and error.effect.name == "STOP_RUN":
                    raise
                ended[key] = Compared(Outcome.UNPROVED, str(error))

        await each(self._both(), one, at_once=_AT_ONCE)
        for key in sorted(ended):
            compared = ended[key]
            if compared.outcome is Outcome.SAME:
                self.found.same += 1
            elif compared.outcome is Outcome.DIFFERENT:
                self.found.different.append(Difference(key, compared.why))
            else:
                self.found.unproved.append(Difference(key, compared.why))
