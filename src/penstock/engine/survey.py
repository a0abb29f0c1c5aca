"""What there is: local trees walked, remote folders listed by whole pages, places found once.

A remote listing counts as whole when its distinct ids are as many as the server says, and that
number held throughout; else it is listed again, and after three times that is said. Files are
handed on as their page arrives, each once, so the first moves before the last page is listed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field

import anyio

from penstock.core.errors import (
    AnswerUnusable,
    LocationError,
    PenstockError,
    Refused,
    SourceMissing,
)
from penstock.core.events import Event, Note
from penstock.core.model import Fingerprint, Found, Place, RemoteFile, RemoteFolder
from penstock.core.names import is_part_file
from penstock.core.seen import Seen
from penstock.core.traits import Traits
from penstock.core.values import quick_value
from penstock.engine.exchange import Exchange
from penstock.engine.files import fingerprint_of, hop, source_error
from penstock.engine.groups import task_group
from penstock.engine.ledger import Ledger
from penstock.platforms.base import Platform
from penstock.platforms.finding import spared_by
from penstock.platforms.handing import HandsOver

# Listings of one folder before its size is taken as it is.
LISTINGS = 3
# Pages in a row that bring nothing new: a listing shifts by a few files, not by pages of them.
MOST_BARREN = 20
# Folders listed at once: enough to hide the round trip, few enough that files get slots too.
FOLDERS_AT_ONCE = 4


@quick_value(frozen=True, slots=True)
class LocalFile:
    """A local file below a root: its path, its name from the root on, and how it was found."""

    path: str
    relative: str
    found: Fingerprint | None = None
    error: PenstockError | None = None
    unfinished: bool = False
    """Whether it is an unfinished download of ours, by its name."""


def walk_local(
    root: str, *, follow: bool, leave_out: Collection[str] = ()
) -> Iterator[list[LocalFile]]:
    """The files below a folder, a list a folder, by name. Blocks; take each list through `hop`.

    `leave_out` are real paths of files and folders the run itself writes. Unfinished files of ours
    (`.penstock-*.part`) are said to be so.

    Links to files are followed, links to folders only with `follow`, and never round in a circle.
    What is neither file nor folder is left out. What cannot be read is in the list, with its error.
    """
    pending: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(root, "", frozenset())]
    while pending:
        folder, below, above = pending.pop()
        found: list[LocalFile] = []
        deeper: list[tuple[str, str, frozenset[tuple[int, int]]]] = []
        try:
            here = os.stat(folder)  # noqa: PTH116 - a walk makes no Path for each file
            inside = above | {(here.st_dev, here.st_ino)}
            real = os.path.realpath(folder) if leave_out else folder
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield [LocalFile(folder, below or ".", error=source_error(error, folder))]
            continue
        for entry in ordered:
            if leave_out and os.path.join(real, entry.name) in leave_out:  # noqa: PTH118
                continue
            relative = f"{below}/{entry.name}" if below else entry.name
            try:
                status = entry.stat()
            except OSError as error:
                found.append(LocalFile(entry.path, relative, error=source_error(error, entry.path)))
                continue
            if stat.S_ISREG(status.st_mode):
                ours = is_part_file(entry.name)
                found.append(
                    LocalFile(entry.path, relative, fingerprint_of(status), unfinished=ours)
                )
            elif stat.S_ISDIR(status.st_mode) and (
                not entry.is_symlink() or (follow and (status.st_dev, status.st_ino) not in inside)
            ):
                deeper.append((entry.path, relative, inside))
        pending.extend(reversed(deeper))
        yield found


def local_file(path: str, relative: str) -> LocalFile:
    """One named local file; its error where it cannot be taken. Blocks."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return LocalFile(path, relative, error=source_error(error, path))
    if not stat.S_ISREG(status.st_mode):
        return LocalFile(path, relative, error=SourceMissing(f"{path} is not a file"))
    return LocalFile(path, relative, fingerprint_of(status))


@dataclass(slots=True)
class Listing:
    """One remote folder as it was last listed, by name."""

    files: dict[str, RemoteFile] = field(default_factory=dict)
    folders: dict[str, RemoteFolder] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    @property
    def is_given_away(self) -> bool:
        """Whether names were chosen, or are being chosen, among those that stand here."""
        return bool(self._taken)

    def taken(self) -> set[str]:
        """Every name that stands in the folder; one set, to which chosen names are added."""
        if not self._taken:
            self._taken.update(self.files, self.folders)
        return self._taken


class Surveyor:
    """Finds and lists on one platform, for one run."""

    def __init__(
        self, exchange: Exchange, ledger: Ledger | None, emit: Callable[[Event], None]
    ) -> None:
        self._exchange = exchange
        self._ledger = ledger
        self._emit = emit
        self._written: dict[str, str] = {}
        self._carried: dict[str, bool] = {}
        self.pages = 0

    @property
    def platform(self) -> Platform:
        """Whose places are looked at."""
        return self._exchange.platform

    @property
    def traits(self) -> Traits:
        """How the platform that is asked differs."""
        return self._exchange.platform.traits

    async def find(self, place: Place) -> Found:
        """What stands at a place, asked of whoever carries its container's files.

        The place found has the platform's own name for the container.
        """
        root = await self._carrying(place)
        if root is None:
            return await self._find(place)
        there = Place(root.container, place.path)
        try:
            return await self._exchange.run(self._exchange.platform.find(there))
        except Refused as refused:
            raise no_such_place(place, refused) from refused

    async def _carrying(self, place: Place) -> Place | None:
        """The root of a place's container where another platform carries its files, else None.

        The platform is asked once a run; that it carries a container itself holds for good.
        """
        platform = self._exchange.platform
        if not isinstance(platform, HandsOver) or place.container.startswith("id="):
            return None
        root = (await self._find(Place(place.container))).place
        carried = self._carried.get(root.container)
        if carried is None and await self._recall_itself(root) is None:
            asked = self._exchange.total.api_requests
            try:
                handed = await self._exchange.run(platform.through(root))
            except Refused as refused:
                await self.forget(root)
                raise no_such_place(place, refused) from refused
            if handed is not None:
                await self._exchange.hand_over(root.container, handed)
            elif self._ledger is not None:
                self._exchange.once += self._exchange.total.api_requests - asked
                await self._ledger.remember_fact(platform.endpoint, _itself(root), "yes")
            carried = handed is not None
        self._carried[root.container] = bool(carried)
        return root if carried else None

    async def _recall_itself(self, root: Place) -> str | None:
        if self._ledger is None:
            return None
        return await self._ledger.fact(self._exchange.platform.endpoint, _itself(root))

    async def _find(self, place: Place) -> Found:
        """What stands at a place, looked for from the deepest folder the ledger remembers.

        A folder looked for before is asked nothing for; a file, once for its name in its folder.
        The place found has the platform's own name for the container.
        """
        platform = self._exchange.platform
        named = platform.traits.names_containers
        if not place.path and not named and not place.container.startswith("id="):
            return Found(place)
        start = await self._remembered(place)
        if start is not None and start.path == place.path:
            return Found(start)
        asked = self._exchange.total.api_requests
        try:
            found = await self._exchange.run(platform.find(place, start))
        except Refused as refused:
            if start is None:
                raise no_such_place(place, refused) from refused
            if refused.status not in {400, 404}:
                raise
            # The folder it was looked for in is gone.
            await self.forget(start)
            return await self._find(place)
        if found.place.id is not None:
            self._written[found.place.container] = place.container
            if self._ledger is not None and spared_by(platform) is not None:
                asked = self._exchange.total.api_requests - asked
                self._exchange.once += asked - _again(found, start, asked)
            # The container's own name first: a place that is known by it alone would mislead.
            if found.place.container != place.container:
                await self._remember(_named(place.container), found.place.container)
            await self._remember(self._key(found.place), found.place.id)
        return found

    async def _remembered(self, place: Place) -> Place | None:
        """The deepest folder on the way to a place that an earlier run has found."""
        path = place.path
        while True:
            known = await self._recall(self._key(Place(place.container, path)))
            if known is not None:
                own = await self._recall(_named(place.container)) or place.container
                self._written[own] = place.container
                return Place(own, path, known)
            if not path:
                return None
            path = path.rpartition("/")[0]

    async def forget(self, place: Place) -> None:
        """What the ledger remembers of a place turned out not to hold."""
        await self._remember(self._key(place), None)

    def _key(self, place: Place) -> str:
        """What a place is remembered by: its container as it was written."""
        return f"{self._written.get(place.container, place.container)}/{place.path}"

    async def _recall(self, key: str) -> str | None:
        if self._ledger is None:
            return None
        return await self._ledger.place_id(self._exchange.platform.endpoint, key)

    async def _remember(self, key: str, value: str | None) -> None:
        if self._ledger is not None:
            await self._ledger.remember_place(self._exchange.platform.endpoint, key, value)

    async def pages_of(
        self, place: Place
    ) -> AsyncIterator[tuple[list[RemoteFile], list[RemoteFolder]]]:
        """What is new on each page of a folder, until the listing is whole. Each id comes once."""
        seen = Seen()
        for listing in range(1, LISTINGS + 1):
            ids = seen if listing == 1 else Seen()
            totals: set[int] = set()
            left_out = 0
            cursor: str | None = None
            barren = 0
            while True:
                page = await self._exchange.run(self._exchange.platform.list_page(place, cursor))
                self.pages += 1
                known = len(ids)
                if ids is not seen:
                    for file in page.files:
                        ids.add(file.id)
                    for folder in page.folders:
                        ids.add(folder.id)
                left_out += page.left_out
                if page.total is not None:
                    totals.add(page.total)
                files = [file for file in page.files if seen.add(file.id)]
                folders = [folder for folder in page.folders if seen.add(folder.id)]
                barren = barren + 1 if len(ids) == known and not page.left_out else 0
                if barren >= MOST_BARREN and page.next is not None:
                    raise AnswerUnusable(
                        f"the listing of {place.container}/{place.path} has no end: "
                        f"{MOST_BARREN} pages brought nothing that was not on those before"
                    )
                if files or folders:
                    yield files, folders
                cursor = page.next
                if cursor is None:
                    break
            if not totals or totals == {len(ids) + left_out}:
                return
            if listing == LISTINGS:
                self._emit(
                    Note(
                        f"{place.container}/{place.path} changed while it was listed, "
                        f"{LISTINGS} times over: files that came or went meanwhile may be missing"
                    )
                )

    async def _pages_of_sub(
        self, place: Place, *, is_root: bool
    ) -> AsyncIterator[tuple[list[RemoteFile], list[RemoteFolder]]]:
        """Pages of a folder on a walk. One that went meanwhile is said; a root must be there."""
        try:
            async for page in self.pages_of(place):
                yield page
        except Refused as refused:
            if refused.status not in {400, 404}:
                raise
            await self.forget(place)
            if is_root:
                raise no_such_place(place, refused) from refused
            where = f"{place.container}/{place.path}"
            self._emit(Note(f"{where} was there and holds nothing now: nothing of it is copied"))

    async def listing(self, place: Place) -> Listing:
        """One folder whole, by name."""
        listed = Listing()
        async for files, folders in self.pages_of(place):
            listed.files.update((file.name, file) for file in files)
            listed.folders.update((folder.name, folder) for folder in folders)
        return listed

    async def walk(
        self,
        root: Place,
        deliver: Callable[[tuple[str, ...], list[RemoteFile]], Awaitable[None]],
        prunes: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Delivers files below a folder as pages bring them, with the names of their folders.

        Several folders are listed at once; `prunes` says which need not be.
        """
        waiting: list[tuple[tuple[str, ...], Place]] = [((), root)]
        under_way = 0
        stirred = anyio.Event()

        async def list_one(names: tuple[str, ...], place: Place) -> None:
            nonlocal under_way
            async for files, folders in self._pages_of_sub(place, is_root=not names):
                for folder in folders:
                    below = (*names, folder.name)
                    if not prunes("/".join(below)):
                        path = f"{place.path}/{folder.name}" if place.path else folder.name
                        waiting.append((below, Place(place.container, path, folder.id)))
                        stirred.set()
                if files:
                    await deliver(names, files)
            under_way -= 1
            stirred.set()

        async with task_group() as group:
            while waiting or under_way:
                if waiting and under_way < FOLDERS_AT_ONCE:
                    under_way += 1
                    group.start_soon(list_one, *waiting.pop())
                    continue
                stirred = anyio.Event()
                await stirred.wait()


def _named(container: str) -> str:
    """What the platform's own name of a container is remembered by. No path begins so."""
    return f"//{container}"


def _again(found: Found, start: Place | None, asked: int) -> int:
    """Requests the same question takes when it is asked again, from the folder found now."""
    if found.file is None and not found.missing:
        return 0
    same = start is not None and start.path == found.place.path
    return asked if same else min(asked, 1)


def _itself(root: Place) -> str:
    """The fact that the platform carries a container's files itself."""
    return f"carries {root.container}"


def no_such_place(place: Place, refused: Refused) -> PenstockError:
    """What a refused listing means: a place that is not there, or whatever it was."""
    if refused.status in {400, 404}:
        where = "/".join(filter(None, (place.container, place.path)))
        return LocationError(f"{where} is not there, or not for this token ({refused})")
    return refused


async def take(folders: Iterator[list[LocalFile]]) -> AsyncIterator[list[LocalFile]]:
    """Each list of a local walk, fetched in a thread."""
    while True:
        found = await hop(next, folders, None)
        if found is None:
            return
        yield found
