"""What is to move: sources listed, matched with the destination, handed on page by page.

Nothing is asked for a file that a page already says. Upwards, a remote folder is listed once,
before anything is written to it, and what a listing does not show is known not to be there.
Downwards, files are handed on as pages come. What cannot or need not move (unreadable, excluded,
too new, a name that cannot stand there) is handed on as well, for a report lists every file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from penstock.config import WEB, check_url
from penstock.core.errors import (
    Conflict,
    Effect,
    LocationError,
    MetadataRefused,
    NameRefused,
    PenstockError,
    Refused,
    RunStopped,
    SourceMissing,
    TransferError,
    UsageError,
)
from penstock.core.globs import Selection
from penstock.core.lifecycle import State
from penstock.core.locations import Local, Location, Remote, Url, escape, parse, unescape
from penstock.core.locations import shown as shown_as
from penstock.core.metadata import Fault, FaultyTable, Sheet
from penstock.core.model import Direction, Found, Identity, Place, RemoteFile
from penstock.core.names import to_local, to_remote
from penstock.core.tables import ManifestRow
from penstock.core.times import when
from penstock.core.transfers import DownTransfer, OnConflict, Transfer, UpTransfer
from penstock.engine.clock import Clock
from penstock.engine.exchange import Exchange
from penstock.engine.files import can_digest, hop
from penstock.engine.folders import Folders
from penstock.engine.groups import each
from penstock.engine.survey import (
    Listing,
    LocalFile,
    Surveyor,
    local_file,
    no_such_place,
    take,
    walk_local,
)
from penstock.platforms.namesakes import Namesakes
from penstock.platforms.web import file_at


@dataclass(frozen=True, slots=True)
class Unmoved:
    """A file of the command that is not to move, and why."""

    source: str
    destination: str
    state: State
    reason: str | None = None
    error: PenstockError | None = None
    size: int | None = None


Planned: TypeAlias = Transfer | Unmoved
Deliver: TypeAlias = Callable[[Sequence[Planned]], Awaitable[None]]

_BATCH = 200
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Servers asked about URLs at once: they are many, and an answer is small.
_URLS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Selecting:
    """Which files of a source are meant, and how sources keep their names."""

    selection: Selection = field(default_factory=Selection)
    follow: bool = False
    keep_names: bool = False
    min_age_s: float = 0.0
    leave_out: frozenset[str] = frozenset()
    """Absolute paths of what the run itself writes."""


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


class _Planner:
    """What both ways share."""

    def __init__(
        self,
        profile: str,
        exchange: Exchange,
        surveyor: Surveyor,
        selecting: Selecting,
        clock: Clock,
        deliver: Deliver,
    ) -> None:
        self._profile = profile
        self._exchange = exchange
        self._surveyor = surveyor
        self._selecting = selecting
        self._clock = clock
        self._deliver = deliver
        self._written: dict[str, str] = {}

    def _left_out(self, relative: str, changed_at: float | None) -> str | None:
        """Why a file is not meant; None where it is."""
        if not self._selecting.selection.takes(relative):
            return "excluded"
        young = self._selecting.min_age_s
        if young and changed_at is not None and changed_at > self._clock.wall_at() - young:
            return "too new"
        return None

    def _shown(self, place: Place, *names: str) -> str:
        container = self._written.get(place.container, place.container)
        below = [self._named(part) for part in (place.path, *names)]
        return f"{self._profile}:{_join(container, *below)}"

    def _named(self, path: str) -> str:
        """A path of names as a location writes it."""
        if not self._exchange.platform.traits.escapes_names:
            return path
        return "/".join(escape(name) for name in path.split("/"))

    async def _look(self, place: Place) -> Found:
        """What stands at a place. It is shown by the names it was written with."""
        found = await self._surveyor.find(place)
        self._written[found.place.container] = place.container
        return found


class UploadPlanner(_Planner):
    """Local sources to one remote destination."""

    def __init__(
        self,
        profile: str,
        exchange: Exchange,
        surveyor: Surveyor,
        selecting: Selecting,
        clock: Clock,
        deliver: Deliver,
        *,
        on_conflict: OnConflict,
    ) -> None:
        super().__init__(profile, exchange, surveyor, selecting, clock, deliver)
        self._on_conflict = on_conflict
        self.room: int | None = None
        self.sheet: Sheet | None = None
        """The metadata table, where there is one."""
        self._faults: list[Fault] | None = None
        self._listings: dict[str, Listing] = {}
        self._folders: Folders | None = None
        self._namesakes: dict[str, list[RemoteFile]] | None = None
        """By name, files that stand where names are not unique; None where they are."""

    async def resolve(
        self, destination: Remote, sources: Sequence[Local], *, rows: bool
    ) -> Folders:
        """The destination looked at, and the folders below it.

        Raises `LocationError` where it is not there, `UsageError` where it is a file and a folder
        is needed.
        """
        platform = self._exchange.platform
        place = platform.place(_remote_path(destination))
        found = await self._look(place)
        if found.file is not None and (len(sources) != 1 or rows or destination.folder_like):
            raise UsageError(f"{destination} is a file; several sources need a folder to go to")
        if found.file is not None and place.container.startswith("id="):
            raise UsageError(f"{destination} is a file; name the folder to send to")
        self._found = found
        self._destination = destination
        self._asked = place
        self._wanted = Place(found.place.container, place.path)
        await self._prepare(found.place)
        self._folders = Folders(self._exchange, found.place)
        if isinstance(platform, Namesakes) and not platform.traits.unique_names:
            self._namesakes = {}
            for file in await self._exchange.run(platform.standing()):
                self._namesakes.setdefault(file.name, []).append(file)
        elif not found.missing:
            await self._check_root(found)
        return self._folders

    async def _prepare(self, place: Place) -> None:
        """What the platform says of the container before anything goes there.

        Raises `RunStopped` where it says that nothing may.
        """
        flow = self._exchange.platform.prepare(place, writing=True)
        prepared = await self._exchange.run(flow)
        if prepared.refusal is not None:
            raise RunStopped(f"{self._destination}: {prepared.refusal}; nothing was moved")
        self.room = prepared.room

    async def _check_root(self, found: Found) -> None:
        """The folder listed: it shows that it is there for this token, and what is in it."""
        assert self._folders is not None
        try:
            await self._listing(found.place)
        except Refused as refused:
            if refused.status == 404 and found.place.path:  # noqa: PLR2004
                # Remembered by an earlier run, and gone since: looked for anew.
                await self._surveyor.forget(found.place)
                again = await self._look(self._asked)
                self._found = again
                self._folders = Folders(self._exchange, again.place)
                await self._listing(again.place)
                return
            raise no_such_place(found.place, refused) from refused

    @property
    def container(self) -> Place:
        """What files go to."""
        return self._found.place

    async def check(self, plan: Callable[[], Awaitable[None]], table: str) -> None:
        """Nothing, or `RunStopped` where what `plan` delivers does not fit, or `FaultyTable`.

        Listings are kept. All faults of the metadata are found, those of rows that are about no
        file among them.

        A file that stands there with the same size needs no room; one that is written over does.
        """
        if self.room is None and self.sheet is None:
            return
        needed = 0
        self._faults = []

        async def add(batch: Sequence[Planned]) -> None:
            nonlocal needed
            for planned in batch:
                if isinstance(planned, UpTransfer):
                    there = planned.existing
                    same = there is not None and there.size == planned.found.size
                    needed += 0 if same else planned.found.size

        deliver, self._deliver = self._deliver, add
        try:
            await plan()
        finally:
            self._deliver = deliver
            faults, self._faults = self._faults, None
        if self.sheet is not None:
            found = dict.fromkeys((*self.sheet.check_rows(), *faults))
            if found:
                raise FaultyTable(table, sorted(found, key=lambda fault: fault.row))
        if self.room is not None and needed > self.room:
            raise RunStopped(
                f"{self._destination} has room for {self.room} bytes, and {needed} are to be sent; "
                "nothing was moved"
            )

    async def plan_sources(self, sources: Sequence[Local]) -> None:
        """Every file of the sources, delivered."""
        keep = len(sources) > 1 or self._selecting.keep_names
        whole = self._wanted
        is_folder = self._destination.folder_like or not self._found.missing
        is_folder = (is_folder and self._found.file is None) or keep
        for source in sources:
            path = source.path
            name = Path(os.path.abspath(path)).name  # noqa: PTH100,ASYNC240 - no I/O but getcwd; resolve() would follow links
            if await hop(Path(path).is_dir):
                base = _below(whole, (to_remote(name),)) if keep else whole
                if self._found.file is not None:
                    raise UsageError(
                        f"{self._destination} is a file; {path} is a folder and cannot go there"
                    )
                async for files in take(self._walk_local(path)):
                    await self._plan_folder(files, base)
            elif is_folder:
                await self._plan_files([(await hop(local_file, path, name), whole, name)])
            else:
                above, _, final = whole.path.rpartition("/")
                file = await hop(local_file, path, name)
                await self._plan_files([(file, Place(whole.container, above), final)])

    def _walk_local(self, path: str) -> Iterator[list[LocalFile]]:
        leave_out = self._selecting.leave_out
        return walk_local(path, follow=self._selecting.follow, leave_out=leave_out)

    async def plan_rows(self, rows: Iterable[ManifestRow], root: str) -> None:
        """Every row of a manifest, delivered. `root` is what relative sources are relative to."""
        for row in rows:
            path = os.path.abspath(Path(root) / row.source)  # noqa: PTH100,ASYNC240 - as above
            file = await hop(local_file, path, row.source)
            try:
                names = self._destination_names(row, file)
            except PenstockError as error:
                shown = self._shown(self._wanted, row.destination or Path(path).name)
                await self._deliver([Unmoved(path, shown, State.FAILED, error=error)])
                continue
            folder = _below(self._wanted, names[:-1])
            await self._plan_files([(file, folder, names[-1])], row)

    def _destination_names(self, row: ManifestRow, file: LocalFile) -> tuple[str, ...]:
        """Folders and name below the destination."""
        if not row.destination:
            return (Path(file.path).name,)
        if self._namesakes is not None:
            return (self._flat_name(row.destination, file),)
        wanted = row.destination
        prefix = self._shown(self._wanted)
        if wanted.startswith(f"{self._profile}:"):
            if not wanted.startswith(f"{prefix}/"):
                raise NameRefused(f"the destination {wanted} is not below {self._destination}")
            wanted = wanted.removeprefix(f"{prefix}/")
        if wanted.startswith("/"):
            raise NameRefused(f"the destination {wanted} is not below {self._destination}")
        if wanted.endswith("/"):
            wanted += Path(file.path).name
        return tuple(to_remote(name) for name in wanted.split("/"))

    def _flat_name(self, destination: str, file: LocalFile) -> str:
        """The name a manifest gives a file where there are no folders.

        A report's destination is an id: the file keeps the name it has there, or its own.
        """
        assert self._namesakes is not None
        wanted = destination.removeprefix(f"{self._profile}:")
        for name, standing in self._namesakes.items():
            if any(one.id == wanted for one in standing):
                return name
        last = wanted.rpartition("/")[2]
        is_id = wanted != destination and _UUID.fullmatch(wanted) is not None
        return Path(file.path).name if is_id or not last else last

    async def _plan_folder(self, files: Sequence[LocalFile], base: Place) -> None:
        planned = []
        for file in files:
            *folders, name = file.relative.split("/")
            try:
                place = _below(base, tuple(to_remote(folder) for folder in folders))
            except NameRefused as error:
                path = os.path.abspath(file.path)  # noqa: PTH100,ASYNC240 - as above
                shown = self._shown(base, file.relative)
                await self._deliver([Unmoved(path, shown, State.FAILED, error=error)])
                continue
            planned.append((file, place, name))
        await self._plan_files(planned)

    async def _plan_files(
        self, files: Sequence[tuple[LocalFile, Place, str]], row: ManifestRow | None = None
    ) -> None:
        planned: list[Planned] = []
        for file, place, name in files:
            planned.append(await self._plan_one(file, place, name, row))
            if len(planned) >= _BATCH:
                await self._deliver(planned)
                planned = []
        if planned:
            await self._deliver(planned)

    async def _plan_one(
        self, file: LocalFile, place: Place, name: str, row: ManifestRow | None
    ) -> Planned:
        if self._namesakes is not None:
            place = self._wanted
        shown = self._shown(place, name)
        path = os.path.abspath(file.path)  # noqa: PTH100,ASYNC240
        found = file.found
        changed_at = found.mtime_ns / 1e9 if found is not None and found.mtime_ns else None
        why = self._left_out(file.relative, changed_at)
        text, faults = self._metadata_of(place, name, is_moved=why is None)
        if why is not None:
            return Unmoved(path, shown, State.SKIPPED, why, size=found.size if found else None)
        if faults:
            # A file that came after the table was checked.
            refused = MetadataRefused("; ".join(map(str, faults)))
            return Unmoved(path, shown, State.FAILED, error=refused)
        if file.error is not None or found is None:
            return Unmoved(path, shown, State.FAILED, error=file.error)
        namesakes: tuple[RemoteFile, ...] | None = None
        try:
            name = to_remote(name)
            if self._namesakes is not None:
                namesakes = tuple(self._namesakes.get(name, ()))
                self._check_name(name)
        except NameRefused as error:
            return Unmoved(path, shown, State.FAILED, error=error, size=found.size)
        largest = self._exchange.platform.traits.largest_file
        if found.size > largest:
            too_large = TransferError(
                f"{path} has {found.size} bytes; the platform takes files up to {largest}"
            )
            return Unmoved(path, shown, State.FAILED, error=too_large, size=found.size)
        listing = await self._listing_of(place) if namesakes is None else Listing()
        folders = self._folders
        assert folders is not None
        taken: set[str] = set()
        existing = listing.files.get(name)
        if self._on_conflict is OnConflict.RENAME:
            taken = listing.taken()
            if existing is None and name in listing.folders:
                # A folder has the name: no file's size is like it, so another name is chosen.
                existing = RemoteFile(listing.folders[name].id, name, None)
        elif name in listing.folders:
            if self._on_conflict is OnConflict.SKIP:
                return Unmoved(path, shown, State.SKIPPED, "conflict", size=found.size)
            taken_by = Conflict(f"{shown} is a folder; a file cannot take its name")
            return Unmoved(path, shown, State.FAILED, "conflict", taken_by, found.size)
        return UpTransfer(
            Identity(
                Direction.UP,
                self._exchange.platform.endpoint,
                place.container,
                _join(place.path, name),
                path,
            ),
            path,
            shown,
            folders.known(place.path) or Place(place.container, place.path),
            name,
            found,
            existing=existing,
            taken=taken,
            siblings=listing.files,
            promised=dict(row.digests) if row else {},
            promised_size=row.size if row else None,
            namesakes=namesakes,
            metadata=text,
        )

    def _check_name(self, name: str) -> None:
        platform = self._exchange.platform
        assert isinstance(platform, Namesakes)
        platform.check_name(name)

    def _metadata_of(
        self, place: Place, name: str, *, is_moved: bool
    ) -> tuple[str | None, list[Fault]]:
        """What is to be stored with a file by its path below the destination, or what is wrong."""
        if self.sheet is None:
            return None, []
        below = place.path.removeprefix(self._wanted.path).lstrip("/")
        path = _join(below, name) if place.path.startswith(self._wanted.path) else name
        if not is_moved:
            self.sheet.rows_of(path)
            return None, []
        text, faults = self.sheet.of(path)
        if self._faults is None:
            return text, faults
        self._faults += faults
        return text, []

    async def _listing_of(self, place: Place) -> Listing:
        """A folder's listing; empty where the listings above it show that it is not there."""
        folders = self._folders
        assert folders is not None
        if place.path in self._listings:
            return self._listings[place.path]
        known = folders.known(place.path)
        if known is None and not self._is_missing(place.path):
            above, _, name = place.path.rpartition("/")
            if len(above) >= len(self._found.place.path):
                parent = await self._listing_of(Place(place.container, above))
                if name in parent.folders:
                    known = Place(place.container, place.path, parent.folders[name].id)
                    folders.learn(known)
        if known is None:
            return self._listings.setdefault(place.path, Listing())
        return await self._listing(known)

    def _is_missing(self, path: str) -> bool:
        """Whether looking for the destination has shown that nothing is at or below a path."""
        if not self._found.missing:
            return not path
        first = _join(self._found.place.path, self._found.missing[0])
        return path == first or path.startswith(f"{first}/")

    async def _listing(self, place: Place) -> Listing:
        listing = await self._surveyor.listing(place)
        self._listings[place.path] = listing
        return listing


class DownloadPlanner(_Planner):
    """Remote sources to one local destination."""

    def __init__(
        self,
        profile: str,
        exchange: Exchange,
        surveyor: Surveyor,
        selecting: Selecting,
        clock: Clock,
        deliver: Deliver,
        *,
        profiles: Iterable[str],
    ) -> None:
        super().__init__(profile, exchange, surveyor, selecting, clock, deliver)
        self._profiles = tuple(profiles)

    async def plan_sources(self, sources: Sequence[Remote | Url], destination: Local) -> None:
        """Every file of the sources, delivered."""
        keep = len(sources) > 1 or self._selecting.keep_names
        target = Path(os.path.abspath(destination.path))  # noqa: PTH100,ASYNC240
        is_folder = destination.folder_like or keep or await hop(target.is_dir)
        found_all = [(source, *await self._find(source)) for source in sources]
        for source, place, found in found_all:
            if found.file is not None:
                (name,) = to_local([found.file.name])
                path = target / name if is_folder else target
                shown = shown_as(source)
                above = Place(place.container, place.path.rpartition("/")[0])
                planned = self._one(found.file, above, (), shown, path, found.file.name, None)
                await self._deliver([planned])
                continue
            if await hop(target.is_file):
                raise UsageError(
                    f"{destination} is a file; {source} is a folder and cannot go there"
                )
            container = self._written.get(place.container, place.container)
            last = place.path.rpartition("/")[2] or container.rpartition("/")[2]
            base = target.joinpath(*to_local([last])) if keep else target
            await self._plan_tree(source, place, base)

    async def _find(self, source: Remote | Url) -> tuple[Place, Found]:
        place = self._exchange.platform.place(_remote_path(source))
        found = await self._look(place)
        if found.missing:
            raise LocationError(
                f"{shown_as(source)} is not there ({found.missing[0]!r} is missing)"
            )
        if found.file is None:
            return found.place, found
        return Place(found.place.container, place.path), found

    async def _walk(
        self, place: Place, deliver: Callable[[tuple[str, ...], list[RemoteFile]], Awaitable[None]]
    ) -> None:
        await self._surveyor.walk(place, deliver, self._selecting.selection.prunes)

    async def _plan_tree(self, source: Remote | Url, place: Place, base: Path) -> None:
        async def deliver(folders: tuple[str, ...], files: list[RemoteFile]) -> None:
            where = base.joinpath(*to_local(folders))
            planned = []
            for file in files:
                relative = _join(*folders, file.name)
                path = where / to_local([file.name])[0]
                shown = f"{shown_as(source).rstrip('/')}/{self._named(relative)}"
                planned.append(self._one(file, place, folders, shown, path, relative, None))
            await self._deliver(planned)

        await self._walk(place, deliver)

    async def plan_rows(
        self, rows: Iterable[ManifestRow], root: Remote | None, destination: Local
    ) -> None:
        """Every row of a manifest, delivered: folders are listed, never a file asked for.

        Sources are locations, or (with `root`) paths below it.
        """
        target = Path(os.path.abspath(destination.path))  # noqa: PTH100,ASYNC240
        by_folder: dict[Remote, dict[str, list[ManifestRow]]] = {}
        by_id: dict[str, list[ManifestRow]] = {}
        below: dict[str, list[ManifestRow]] = {}
        by_url: list[tuple[Url, ManifestRow]] = []
        for row in rows:
            location = self._location(row, root)
            if isinstance(location, Url):
                by_url.append((location, row))
            elif location is None:
                below.setdefault(row.source.removeprefix("./"), []).append(row)
            elif location.id is not None:
                by_id.setdefault(location.id, []).append(row)
            else:
                above, _, name = location.path.rpartition("/")
                if self._exchange.platform.traits.escapes_names:
                    name = unescape(name)
                folder = Remote(location.profile, above)
                by_folder.setdefault(folder, {}).setdefault(name, []).append(row)
        await self._plan_urls(by_url, target)
        await self._plan_ids(by_id, target)
        for folder, wanted in by_folder.items():
            listing, place = Listing(), Place("")
            try:
                place, found = await self._find(folder)
                listing = await self._surveyor.listing(found.place)
            except (LocationError, Refused) as error:
                if isinstance(error, Refused) and error.status not in {400, 404}:
                    raise
            for name, named in wanted.items():
                await self._plan_named(named, listing.files.get(name), place, target)
        if below:
            assert root is not None
            await self._plan_below(below, root, target)

    def _location(self, row: ManifestRow, root: Remote | None) -> Remote | Url | None:
        """Where a row's source is; None where it is a path below `root`."""
        location: Location | None = None
        if ":" in row.source:
            try:
                location = parse(row.source, self._profiles)
            except PenstockError:
                location = None
        if isinstance(location, Remote) and location.profile == self._profile:
            return location
        if isinstance(location, Url) and self._profile == WEB.name:
            return location
        if root is None or isinstance(location, Remote):
            raise UsageError(
                f"manifest row {row.row}: {row.source!r} is no location of {self._profile}; a run "
                "fetches from one profile (give a SOURCE for paths below it)"
            )
        return None

    async def _plan_urls(self, rows: Sequence[tuple[Url, ManifestRow]], target: Path) -> None:
        """Each URL asked about once, several at a time; a row with a digest need not be.

        The digest says which bytes are meant, so that no server need be asked whether they are
        still the same.
        """
        for first in range(0, len(rows), _BATCH):
            looked: dict[int, Planned] = {}

            async def look(numbered: tuple[int, tuple[Url, ManifestRow]]) -> None:
                number, (url, row) = numbered
                looked[number] = await self._plan_url(url, row, target)  # noqa: B023 - awaited here

            await each(enumerate(rows[first : first + _BATCH]), look, at_once=_URLS_AT_ONCE)
            await self._deliver([looked[number] for number in sorted(looked)])

    async def _plan_url(self, url: Url, row: ManifestRow, target: Path) -> Planned:
        shown = url.redacted
        place = self._exchange.platform.place(url.url)
        named = file_at(url.url)
        file: RemoteFile | None = named
        try:
            path = _below_target(row, target, named)
            check_url(url)
            if not any(can_digest(name) for name in row.digests):
                file = (await self._surveyor.find(place)).file
        except PenstockError as error:
            if error.effect is Effect.STOP_RUN and not isinstance(error, UsageError):
                raise
            return Unmoved(
                shown, str(target / to_local([named.name])[0]), State.FAILED, error=error
            )
        if file is None:
            missing = SourceMissing(f"{shown} is not there")
            return Unmoved(shown, str(path), State.FAILED, error=missing)
        above = Place(place.container, place.path.rpartition("/")[0])
        return self._one(file, above, (), shown, path, file.name, row)

    async def _plan_ids(self, by_id: dict[str, list[ManifestRow]], target: Path) -> None:
        platform, ids = self._exchange.platform, list(by_id)
        size = platform.traits.page_size
        for first in range(0, len(ids), size):
            described = await self._exchange.run(platform.describe(ids[first : first + size]))
            for file_id in ids[first : first + size]:
                place = Place(f"id={file_id}")
                await self._plan_named(by_id[file_id], described.get(file_id), place, target)

    async def _plan_below(
        self, below: dict[str, list[ManifestRow]], root: Remote, target: Path
    ) -> None:
        place, found = await self._find(root)
        if found.file is not None:
            raise UsageError(f"{root} is a file; a manifest's paths need a folder to be below")

        async def deliver(folders: tuple[str, ...], files: list[RemoteFile]) -> None:
            for file in files:
                rows = below.pop(_join(*folders, file.name), None)
                if rows is not None:
                    await self._plan_named(rows, file, place, target, folders, root)

        await self._walk(place, deliver)
        for rows in list(below.values()):
            await self._plan_named(rows, None, place, target, root=root)

    async def _plan_named(
        self,
        rows: Sequence[ManifestRow],
        file: RemoteFile | None,
        place: Place,
        target: Path,
        folders: tuple[str, ...] = (),
        root: Remote | None = None,
    ) -> None:
        planned: list[Planned] = []
        above = f"{str(root).rstrip('/')}/" if root is not None else ""
        for row in rows:
            relative = self._named(row.source.removeprefix("./"))
            shown = above + relative if above else row.source
            try:
                path = _below_target(row, target, file)
            except NameRefused as error:
                planned.append(Unmoved(shown, row.destination or "", State.FAILED, error=error))
                continue
            if file is None:
                missing = SourceMissing(f"{row.source} is not on {self._profile}")
                planned.append(Unmoved(shown, str(path), State.FAILED, error=missing))
                continue
            planned.append(self._one(file, place, folders, shown, path, row.source, row))
        await self._deliver(planned)

    def _one(
        self,
        file: RemoteFile,
        place: Place,
        folders: tuple[str, ...],
        shown: str,
        path: Path,
        relative: str,
        row: ManifestRow | None,
    ) -> Planned:
        why = self._left_out(relative, when(file.modified))
        if why is not None:
            return Unmoved(shown, str(path), State.SKIPPED, why, size=file.size)
        return DownTransfer(
            Identity(
                Direction.DOWN,
                self._exchange.platform.endpoint,
                place.container,
                _join(place.path, *folders, file.name),
                str(path),
            ),
            shown,
            file,
            str(path),
            promised=dict(row.digests) if row else {},
            promised_size=row.size if row else None,
        )


def _remote_path(location: Remote | Url) -> str:
    if isinstance(location, Url):
        return location.url
    return f"id={location.id}" if location.id is not None else location.path


def _below(place: Place, names: tuple[str, ...]) -> Place:
    return Place(place.container, _join(place.path, *names))


def _below_target(row: ManifestRow, target: Path, file: RemoteFile | None) -> Path:
    """Where a row's file goes: below the target, whatever the manifest says."""
    wanted = row.destination or ""
    if not wanted or wanted.endswith("/"):
        last = file.name if file is not None else row.source.rpartition("/")[2]
        wanted += to_local([last])[0]
    path = Path(os.path.normpath(target / wanted))
    if not path.is_relative_to(target) or path == target:
        raise NameRefused(f"the destination {row.destination} is not below {target}")
    return path
