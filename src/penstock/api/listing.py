"""`list_`: what stands at a location on a platform, by whole pages."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import (
    Callable,
    Mapping,
)
from contextlib import suppress
from dataclasses import field

from penstock.api.opening import folders_of, prepared, settings_of
from penstock.config import WEB
from penstock.core.errors import (
    LocationError,
    Refused,
    UsageError,
)
from penstock.core.events import Event
from penstock.core.locations import Local, Url, escape
from penstock.core.model import Page, Place, RemoteFolder
from penstock.core.values import quick_value
from penstock.engine.clock import Clock
from penstock.engine.survey import Surveyor, no_such_place
from penstock.jobs import (
    Job,
    path_of,
    read_location,
)
from penstock.quotas import read_quotas
from penstock.session import Session


@quick_value(frozen=True, slots=True)
class Entry:
    """One line of a listing. `location` can be used as a location again."""

    kind: str
    location: str
    name: str
    id: str | None = None
    size: int | None = None
    modified: str | None = None
    about: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    """What else the platform says of it, by name; sizes in bytes."""


async def list_(
    location: str,
    *,
    recursive: bool = False,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    on_entry: Callable[[Entry], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[Entry]:
    """What stands at a location on a platform: projects, or the folders and files of one.

    Pages only. With `on_entry` entries are handed over as they come, and the list is empty.
    Raises `LocationError` where nothing is there, `UsageError` for a local path.
    """
    environ = os.environ if environ is None else environ
    settings = settings_of(config, environ)
    where = read_location(location, settings)
    if isinstance(where, Local):
        raise UsageError(f"{location} is a local path; list takes PROFILE:PATH, or a URL")
    quotas = read_quotas(quota_share, quota_store, quota_fallback)
    entries: list[Entry] = []
    take = on_entry or entries.append
    folders, clock, emit = folders_of(state, environ), Clock.running(), on_event or (lambda _: None)
    job = Job((where,), Local("."), WEB.name if isinstance(where, Url) else where.profile)
    async with prepared(
        job,
        settings,
        folders,
        emit=emit,
        clock=clock,
        concurrency=None,
        retries=None,
        quotas=quotas,
    ) as (session, _, surveyor):
        if isinstance(where, Url):
            take(await _file_at(surveyor, session, where))
            return entries
        above = [name for name in where.path.split("/") if name]
        if where.id is None and len(above) < session.exchange.platform.traits.container_levels:
            inside = "/".join(above)
            await _list_containers(
                surveyor, session, where.profile, inside, take, recursive=recursive
            )
            return entries
        if where.id is not None and not session.exchange.platform.traits.keeps_files:
            take(await _one_of(session, where.profile, where.id))
            return entries
        place = session.exchange.platform.place(path_of(where))
        found = await surveyor.find(place)
        base = str(where).rstrip("/")
        if found.missing:
            raise no_such_place(place, Refused(f"{found.missing[0]!r} is missing", status=404))
        if found.file is not None:
            file = found.file
            take(Entry("file", base, file.name, file.id, file.size, file.modified))
            return entries
        await _list_folder(surveyor, found.place, base, take, recursive=recursive)
    return entries


async def _file_at(surveyor: Surveyor, session: Session, where: Url) -> Entry:
    """The one file a URL names; its query, which may be a credential, is not shown."""
    place = session.exchange.platform.place(path_of(where))
    file = (await surveyor.find(place)).file
    if file is None:
        raise LocationError(f"{where.redacted} is not there")
    return Entry("file", where.redacted, file.name, None, file.size, file.modified)


async def _one_of(session: Session, profile: str, wanted: str) -> Entry:
    """What the profile's listing says of the thing of that id."""
    cursor = None
    while True:
        page: Page = await session.exchange.run(session.exchange.platform.list_containers(cursor))
        for folder in page.folders:
            if folder.id == wanted:
                return _container(folder, profile, "", folder.written or folder.name)
        cursor = page.next
        if cursor is None:
            raise LocationError(f"{profile}:id={wanted} is not there, or not for this token")


async def _list_containers(
    surveyor: Surveyor,
    session: Session,
    profile: str,
    above: str,
    take: Callable[[Entry], None],
    *,
    recursive: bool,
) -> None:
    """Projects, or what is in one. Where names may be shared, all are had before any is named."""
    traits = session.exchange.platform.traits
    gathered: list[RemoteFolder] = []
    cursor = None
    while True:
        flow = session.exchange.platform.list_containers(cursor, above)
        page: Page = await session.exchange.run(flow)
        if traits.names_containers:
            gathered += page.folders
        else:
            for folder in page.folders:
                take(_container(folder, profile, above, folder.written or folder.name))
        cursor = page.next
        if cursor is None:
            break
    shared = Counter(folder.written or folder.name for folder in gathered)
    for folder in gathered:
        name = folder.written or folder.name
        alone = shared[name] == 1 and _can_be_written(name)
        entry = _container(folder, profile, above, name if alone else folder.id)
        take(entry)
        if not recursive:
            continue
        if folder.kind == "project":
            # Sub-projects of sub-projects stand in this listing already, where it is of all.
            if not above:
                inside = entry.location.partition(":")[2]
                await _list_containers(surveyor, session, profile, inside, take, recursive=True)
            continue
        # By its id, as this listing has shown it: by its name it would be looked for again.
        path = f"{above}/{folder.id}" if above else folder.id
        found = await surveyor.find(session.exchange.platform.place(path))
        await _list_folder(surveyor, found.place, entry.location, take, recursive=True)


def _can_be_written(name: str) -> bool:
    """Whether a name can stand in a location, and be pasted as one."""
    return bool(name) and name.isprintable() and name not in {".", ".."}


def _container(folder: RemoteFolder, profile: str, above: str, name: str) -> Entry:
    inside = f"{above}/" if above and folder.kind != "project" else ""
    where = f"{profile}:{inside}{name}"
    return Entry(folder.kind, where, folder.name, folder.id, about=folder.about)


async def _list_folder(
    surveyor: Surveyor, place: Place, base: str, take: Callable[[Entry], None], *, recursive: bool
) -> None:
    """Folders by id under `id=`, where no path leads below; else by path."""
    by_id = place.container.startswith("id=")
    profile = base.partition(":")[0]

    def where(id_: str, name: str) -> str:
        written = escape(name) if surveyor.traits.escapes_names else name
        if by_id:
            return f"{profile}:id={id_}"
        return f"{base}{written}" if base.endswith(":") else f"{base}/{written}"

    try:
        async for files, folders in surveyor.pages_of(place):
            for folder in folders:
                there = where(folder.id, folder.name)
                take(Entry("folder", f"{there}/", folder.name, folder.id))
                if recursive:
                    path = f"{place.path}/{folder.name}" if place.path else folder.name
                    below = Place(place.container, path, folder.id)
                    # One that went meanwhile, or is empty, has nothing to list.
                    with suppress(LocationError):
                        await _list_folder(surveyor, below, there, take, recursive=True)
            for file in files:
                unique = surveyor.traits.unique_names
                there = where(file.id, file.name) if unique else f"{profile}:{file.id}"
                take(Entry("file", there, file.name, file.id, file.size, file.modified))
    except Refused as refused:
        await surveyor.forget(place)
        raise no_such_place(place, refused) from refused
