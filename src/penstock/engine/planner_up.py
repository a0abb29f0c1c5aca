"""Upwards: what is to move from local sources to one remote destination.

A remote folder is listed once, before anything is written to it, and what a listing does not show
is known not to be there. What cannot or need not move (unreadable, excluded, too new, a name that
cannot stand there) is handed on as well, for a report lists every file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from penstock.core.errors import (
    Conflict,
    MetadataRefused,
    NameRefused,
    PenstockError,
    Refused,
    RunStopped,
    TransferError,
    UsageError,
)
from penstock.core.lifecycle import State
from penstock.core.locations import Local, Remote
from penstock.core.metadata import Fault, FaultyTable, Sheet
from penstock.core.model import Direction, Fingerprint, Found, Identity, Place, RemoteFile
from penstock.core.names import to_remote
from penstock.core.tables import ManifestRow
from penstock.core.transfers import OnConflict, UpTransfer
from penstock.engine.clock import Clock
from penstock.engine.exchange import Exchange
from penstock.engine.files import hop
from penstock.engine.folders import Folders
from penstock.engine.planner import (
    BATCH,
    Deliver,
    Planned,
    Planner,
    Selecting,
    Unmoved,
    join,
    remote_path,
)
from penstock.engine.survey import (
    Listing,
    LocalFile,
    Surveyor,
    local_file,
    no_such_place,
    take,
    walk_local,
)
from penstock.engine.there import There
from penstock.platforms.namesakes import Namesakes

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


# A local file, the folder and the name it is to have, and the row that says so, where one does.
_Meant: TypeAlias = tuple[LocalFile, Place, str, ManifestRow | None]
_NOTHING: Mapping[str, str] = {}


@dataclass(slots=True)
class _Where:
    """A remote folder that files go to: what is the same for all of them.

    Its listing is asked for by the first that is to move.
    """

    place: Place
    above: str
    """What the name of a file is shown behind."""
    listing: Listing | None = None


class UploadPlanner(Planner):
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
        place = platform.place(remote_path(destination))
        found = await self._look(place)
        if found.file is not None and (len(sources) != 1 or rows or destination.folder_like):
            raise UsageError(f"{destination} is a file; several sources need a folder to go to")
        if found.file is not None and place.container.startswith("id="):
            raise UsageError(f"{destination} is a file; name the folder to send to")
        self._destination = destination
        self._asked = place
        self._wanted = Place(found.place.container, place.path)
        await self._prepare(found.place)
        self._there = There(self._exchange, self._surveyor, found)
        if isinstance(platform, Namesakes) and not platform.traits.unique_names:
            self._namesakes = {}
            for file in await self._exchange.run(platform.standing()):
                self._namesakes.setdefault(file.name, []).append(file)
        elif not found.missing:
            await self._check_root(found)
        return self._there.folders

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
        try:
            await self._there.list(found.place)
        except Refused as refused:
            if refused.status == 404 and found.place.path:  # noqa: PLR2004
                # Remembered by an earlier run, and gone since: looked for anew.
                await self._surveyor.forget(found.place)
                again = await self._look(self._asked)
                self._there = There(self._exchange, self._surveyor, again)
                await self._there.list(again.place)
                return
            raise no_such_place(found.place, refused) from refused

    @property
    def container(self) -> Place:
        """What files go to."""
        return self._there.found.place

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
        found = self._there.found
        is_folder = self._destination.folder_like or not found.missing
        is_folder = (is_folder and found.file is None) or keep
        for source in sources:
            path = source.path
            name = Path(os.path.abspath(path)).name  # noqa: PTH100,ASYNC240 - no I/O but getcwd; resolve() would follow links
            if await hop(Path(path).is_dir):
                base = _below(whole, (to_remote(name),)) if keep else whole
                if found.file is not None:
                    raise UsageError(
                        f"{self._destination} is a file; {path} is a folder and cannot go there"
                    )
                async for files in take(self._walk_local(path)):
                    await self._plan_folder(files, base)
            elif is_folder:
                (file,) = await hop(_local_files, [(path, name)])
                await self._plan_files([(file, whole, name, None)])
            else:
                above, _, final = whole.path.rpartition("/")
                (file,) = await hop(_local_files, [(path, name)])
                await self._plan_files([(file, Place(whole.container, above), final, None)])

    def _walk_local(self, path: str) -> Iterator[list[LocalFile]]:
        root, leave_out = os.path.abspath(path), self._selecting.leave_out  # noqa: PTH100 - as above
        return walk_local(root, follow=self._selecting.follow, leave_out=leave_out)

    async def plan_rows(self, rows: Iterable[ManifestRow], root: str) -> None:
        """Every row of a manifest, delivered. `root` is what relative sources are relative to."""
        waiting = iter(rows)
        while some := tuple(islice(waiting, BATCH)):
            named = [(os.path.join(root, row.source), row.source) for row in some]  # noqa: PTH118
            planned, places = [], dict[tuple[str, ...], Place]()
            for row, file in zip(some, await hop(_local_files, named), strict=True):
                try:
                    *folders, name = self._destination_names(row, file)
                except PenstockError as error:
                    shown = self._shown(self._wanted, row.destination or _last(file.path))
                    await self._deliver([Unmoved(file.path, shown, State.FAILED, error=error)])
                    continue
                inside = tuple(folders)
                place = places.get(inside) or _below(self._wanted, inside)
                places[inside] = place
                planned.append((file, place, name, row))
            await self._plan_files(planned)

    def _destination_names(self, row: ManifestRow, file: LocalFile) -> tuple[str, ...]:
        """Folders and name below the destination."""
        if not row.destination:
            return (_last(file.path),)
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
        """The files of one local folder, delivered."""
        planned: list[_Meant] = []
        inside, place = "", base
        for file in files:
            folders, _, name = file.relative.rpartition("/")
            try:
                if folders != inside:
                    place = _below(base, tuple(map(to_remote, folders.split("/"))))
                    inside = folders
            except NameRefused as error:
                shown = self._shown(base, file.relative)
                await self._deliver([Unmoved(file.path, shown, State.FAILED, error=error)])
                continue
            planned.append((file, place, name, None))
        await self._plan_files(planned)

    async def _plan_files(self, files: Sequence[_Meant]) -> None:
        planned: list[Planned] = []
        where: _Where | None = None
        for file, wanted, name, row in files:
            place = wanted if self._namesakes is None else self._wanted
            if where is None or where.place is not place:
                shown = self._shown(place)
                is_bare = shown.endswith(":") and not place.path
                where = _Where(place, shown if is_bare else f"{shown}/")
            planned.append(await self._plan_one(file, where, name, row))
            if len(planned) >= BATCH:
                await self._deliver(planned)
                planned = []
        if planned:
            await self._deliver(planned)

    async def _plan_one(
        self, file: LocalFile, where: _Where, name: str, row: ManifestRow | None
    ) -> Planned:
        place, path, found = where.place, file.path, file.found
        shown = f"{where.above}{self._named(name)}"
        why = self._left_out(file.relative, lambda: _changed_at(found))
        if file.unfinished:
            why = "unfinished download"
        text, faults = None, None
        if self.sheet is not None:
            text, faults = self._metadata_of(self.sheet, place, name, is_moved=why is None)
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
        listing = Listing() if namesakes is not None else await self._listing_at(where)
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
        endpoint = self._exchange.platform.endpoint
        return UpTransfer(
            Identity(Direction.UP, endpoint, place.container, join(place.path, name), path),
            path,
            shown,
            self._there.folders.known(place.path) or Place(place.container, place.path),
            name,
            found,
            existing=existing,
            taken=taken,
            siblings=listing.files,
            promised=row.digests if row else _NOTHING,
            promised_size=row.size if row else None,
            namesakes=namesakes,
            metadata=text,
        )

    def _check_name(self, name: str) -> None:
        platform = self._exchange.platform
        assert isinstance(platform, Namesakes)
        platform.check_name(name)

    def _metadata_of(
        self, sheet: Sheet, place: Place, name: str, *, is_moved: bool
    ) -> tuple[str | None, list[Fault]]:
        """What is to be stored with a file by its path below the destination, or what is wrong."""
        below = place.path.removeprefix(self._wanted.path).lstrip("/")
        path = join(below, name) if place.path.startswith(self._wanted.path) else name
        if not is_moved:
            sheet.rows_of(path)
            return None, []
        text, faults = sheet.of(path)
        if self._faults is None:
            return text, faults
        self._faults += faults
        return text, []

    async def _listing_at(self, where: _Where) -> Listing:
        if where.listing is None:
            where.listing = await self._there.listing_of(where.place)
        return where.listing


def _local_files(named: Sequence[tuple[str, str]]) -> list[LocalFile]:
    """Each path and the name from its root on, looked at. Blocks."""
    return [local_file(os.path.abspath(path), relative) for path, relative in named]  # noqa: PTH100


def _last(path: str) -> str:
    """The last name of a normal path."""
    return path.rpartition(os.sep)[2]


def _changed_at(found: Fingerprint | None) -> float | None:
    return found.mtime_ns / 1e9 if found is not None and found.mtime_ns else None


def _below(place: Place, names: tuple[str, ...]) -> Place:
    return Place(place.container, join(place.path, *names))
