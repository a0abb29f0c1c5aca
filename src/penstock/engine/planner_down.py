"""Downwards: what is to move from remote sources to one local destination, as pages come.

Nothing is asked for a file that a page already says. What cannot or need not move (excluded, too
new, not there) is handed on as well, for a report lists every file.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path

from penstock.config import WEB, check_url
from penstock.core.errors import (
    Effect,
    LocationError,
    NameRefused,
    PenstockError,
    Refused,
    SourceMissing,
    UsageError,
)
from penstock.core.lifecycle import State
from penstock.core.locations import Local, Location, Remote, Url, is_url, parse, unescape
from penstock.core.locations import shown as shown_as
from penstock.core.model import Direction, Found, Identity, Place, RemoteFile
from penstock.core.names import encode, to_local
from penstock.core.tables import ManifestRow
from penstock.core.times import when
from penstock.core.transfers import DownTransfer
from penstock.core.values import quick_value
from penstock.engine.clock import Clock
from penstock.engine.digests import can_digest
from penstock.engine.exchange import Exchange
from penstock.engine.files import hop
from penstock.engine.groups import each
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
    Surveyor,
)

# Servers asked about URLs at once: they are many, and an answer is small.
_URLS_AT_ONCE = 16


class DownloadPlanner(Planner):
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
                above = place.path.rpartition("/")[0]
                remote = Place(place.container, join(above, found.file.name))
                planned = self._one(found.file, remote, shown, str(path), found.file.name, None)
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
        place = self._exchange.platform.place(remote_path(source))
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
        root = shown_as(source).rstrip("/")

        async def deliver(folders: tuple[str, ...], files: list[RemoteFile]) -> None:
            where = str(base.joinpath(*to_local(folders))).rstrip("/")
            inside = join(*folders)
            above = join(place.path, inside)
            planned = []
            for file in files:
                relative = join(inside, file.name)
                path = f"{where}/{encode(file.name)}"
                shown = f"{root}/{self._named(relative)}"
                remote = Place(place.container, join(above, file.name))
                planned.append(self._one(file, remote, shown, path, relative, None))
            await self._deliver(planned)

        await self._walk(place, deliver)

    async def plan_rows(
        self, rows: Collection[ManifestRow], root: Remote | None, destination: Local
    ) -> None:
        """Every row of a manifest, delivered: folders are listed, never a file asked for.

        Sources are locations, or (with `root`) paths below it.
        """
        target = Path(os.path.abspath(destination.path))  # noqa: PTH100,ASYNC240
        if self._profile == WEB.name:
            await self._plan_urls(rows, target)
            return
        by_folder: dict[Remote, dict[str, list[ManifestRow]]] = {}
        by_id: dict[str, list[ManifestRow]] = {}
        below: dict[str, list[ManifestRow]] = {}
        for row in rows:
            location = self._location(row, root)
            if location is None:
                below.setdefault(row.source.removeprefix("./"), []).append(row)
            elif location.id is not None:
                by_id.setdefault(location.id, []).append(row)
            else:
                above, _, name = location.path.rpartition("/")
                if self._escapes_names:
                    name = unescape(name)
                folder = Remote(location.profile, above)
                by_folder.setdefault(folder, {}).setdefault(name, []).append(row)
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

    def _location(self, row: ManifestRow, root: Remote | None) -> Remote | None:
        """Where a row's source is; None where it is a path below `root`."""
        location: Location | None = None
        if ":" in row.source:
            try:
                location = parse(row.source, self._profiles)
            except PenstockError:
                location = None
        if isinstance(location, Remote) and location.profile == self._profile:
            return location
        if root is None or isinstance(location, Remote):
            raise self._no_location(row)
        return None

    def _no_location(self, row: ManifestRow) -> UsageError:
        return UsageError(
            f"manifest row {row.row}: {row.source!r} is no location of {self._profile}; a run "
            "fetches from one profile (give a SOURCE for paths below it)"
        )

    async def _plan_urls(self, rows: Collection[ManifestRow], target: Path) -> None:
        """Each URL asked about once, several at a time; a row with a digest need not be.

        They may be very many, so they are gone through a batch at a time, after all were looked
        at: nothing moves before the last was found to be one.

        The digest says which bytes are meant, so that no server need be asked whether they are
        still the same.
        """
        for row in rows:
            if not is_url(row.source):
                raise self._no_location(row)
        waiting = iter(rows)
        while some := tuple(islice(waiting, BATCH)):
            looked = [self._plan_url(row, target) for row in some]
            asked = [number for number, one in enumerate(looked) if isinstance(one, _Asked)]

            async def look(number: int) -> None:
                one = looked[number]  # noqa: B023 - awaited here
                assert isinstance(one, _Asked)
                looked[number] = await self._look_at(one, target)  # noqa: B023 - as above

            if asked:
                await each(asked, look, at_once=_URLS_AT_ONCE)
            await self._deliver([one for one in looked if not isinstance(one, _Asked)])

    def _plan_url(self, row: ManifestRow, target: Path) -> Planned | _Asked:
        """What a row says by itself, or what is to be asked for it."""
        from penstock.platforms.web import file_at  # noqa: PLC0415 - a platform of its own

        url = parse(row.source, self._profiles)
        if not isinstance(url, Url):
            raise self._no_location(row)
        named = file_at(url.url)
        place = self._exchange.platform.place(url.url)
        try:
            path = _below_target(row, target, named)
            check_url(url)
        except (UsageError, NameRefused) as error:
            return _not_taken(url, named, target, error)
        if not any(map(can_digest, row.digests)):
            return _Asked(url, row, place, named, path)
        return self._of_url(url, row, place, named, path)

    async def _look_at(self, asked: _Asked, target: Path) -> Planned:
        """What the server of a row's URL says of it."""
        try:
            file = (await self._surveyor.find(asked.place)).file
        except PenstockError as error:
            if error.effect is Effect.STOP_RUN and not isinstance(error, UsageError):
                raise
            return _not_taken(asked.url, asked.named, target, error)
        if file is None:
            missing = SourceMissing(f"{asked.url.redacted} is not there")
            return Unmoved(asked.url.redacted, asked.path, State.FAILED, error=missing)
        return self._of_url(asked.url, asked.row, asked.place, file, asked.path)

    def _of_url(
        self, url: Url, row: ManifestRow, place: Place, file: RemoteFile, path: str
    ) -> Planned:
        above = place.path.rpartition("/")[0]
        remote = Place(place.container, join(above, file.name))
        return self._one(file, remote, url.redacted, path, file.name, row)

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
                rows = below.pop(join(*folders, file.name), None)
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
        inside = join(place.path, *folders)
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
            remote = Place(place.container, join(inside, file.name))
            planned.append(self._one(file, remote, shown, path, row.source, row))
        await self._deliver(planned)

    def _one(
        self,
        file: RemoteFile,
        remote: Place,
        shown: str,
        path: str,
        relative: str,
        row: ManifestRow | None,
    ) -> Planned:
        why = self._left_out(relative, lambda: when(file.modified))
        if why is not None:
            return Unmoved(shown, path, State.SKIPPED, why, size=file.size)
        endpoint = self._exchange.platform.endpoint
        identity = Identity(Direction.DOWN, endpoint, remote.container, remote.path, path)
        if row is None:
            return DownTransfer(identity, shown, file, path)
        return DownTransfer(identity, shown, file, path, row.digests, row.size)


@quick_value(frozen=True, slots=True)
class _Asked:
    """A row whose server has to be asked: where, what the URL names, and where that goes."""

    url: Url
    row: ManifestRow
    place: Place
    named: RemoteFile
    path: str


def _not_taken(url: Url, named: RemoteFile, target: Path, error: PenstockError) -> Unmoved:
    path = target / to_local([named.name])[0]
    return Unmoved(url.redacted, str(path), State.FAILED, error=error)


def _below_target(row: ManifestRow, target: Path, file: RemoteFile | None) -> str:
    """Where a row's file goes: below the target, whatever the manifest says."""
    wanted, base = row.destination or "", os.fspath(target)
    if not wanted or wanted.endswith("/"):
        last = file.name if file is not None else row.source.rpartition("/")[2]
        if not wanted:
            return f"{base.rstrip(os.sep)}{os.sep}{encode(last)}"
        wanted += encode(last)
    path = os.path.normpath(os.path.join(base, wanted))  # noqa: PTH118 - speed
    if not path.startswith(base.rstrip(os.sep) + os.sep) or path == base:
        raise NameRefused(f"the destination {row.destination} is not below {target}")
    return path
