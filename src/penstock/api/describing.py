"""`metadata`: what a platform stores with files, and what it would take."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from penstock.api.opening import folders_of, prepared, settings_of
from penstock.api.tables import schema_of
from penstock.core.errors import Refused, UsageError
from penstock.core.events import Event
from penstock.core.locations import Local, Remote
from penstock.core.metadata import Column, Values
from penstock.core.model import Place
from penstock.core.traits import Attaches
from penstock.core.values import quick_value
from penstock.engine.clock import Clock
from penstock.engine.kept import KeptAnswers
from penstock.engine.survey import Surveyor, no_such_place
from penstock.jobs import Job, path_of, read_location
from penstock.platforms.describing import keeper_of
from penstock.quotas import read_quotas
from penstock.session import Session


@quick_value(frozen=True, slots=True)
class Described:
    """What is stored with one file: its path below the location, and values by column.

    `path` is None for a record, which names its files by its values.
    """

    path: str | None
    values: Values


@quick_value(frozen=True, slots=True)
class Columns:
    """The columns of a metadata table, beside `path` where it is `by_path`."""

    columns: Sequence[Column]
    by_path: bool


async def metadata(
    location: str,
    *,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    on_file: Callable[[Described], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[Described]:
    """What the platform stores with the files at a location; files without metadata are left out.

    Pages only: one request a resource on Coscine. With `on_file` they are handed over as they
    come, and the list is empty. Raises `LocationError` where nothing is there, `UsageError` for a
    local path and for a platform that keeps no metadata with files.
    """
    found: list[Described] = []
    take = on_file or found.append
    async with _opened(
        location, state, config, quota_share, quota_store, quota_fallback, on_event, environ
    ) as (session, surveyor, where, kept, emit):
        platform = session.exchange.platform
        place = platform.place(path_of(where))
        there = await surveyor.find(place)
        if there.missing:
            raise no_such_place(place, Refused(f"{there.missing[0]!r} is missing", status=404))
        await schema_of(session, there.place, kept, emit)
        by_path = platform.traits.attaches is not Attaches.SUBMITTED
        only = there.file.name if there.file is not None else None
        if only is not None and place.container.startswith("id="):
            raise UsageError(f"{location} is a file; name it by its path, or name its folder")
        async for path, values in stored_below(session, there.place, kept):
            if values and only in {None, path}:
                take(Described(path if by_path else None, values))
    return found


async def metadata_table(
    location: str,
    *,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Columns:
    """The columns a metadata table for a location may have. Raises as `metadata` does."""
    async with _opened(
        location, state, config, quota_share, quota_store, quota_fallback, on_event, environ
    ) as (session, surveyor, where, kept, emit):
        place = session.exchange.platform.place(path_of(where))
        there = await surveyor.find(place)
        schema = (await schema_of(session, there.place, kept, emit)).schema
        by_path = session.exchange.platform.traits.attaches is not Attaches.SUBMITTED
        return Columns(schema.columns(), by_path)


async def metadata_columns(location: str, **options: Any) -> Sequence[Column]:  # noqa: ANN401
    """The columns of `metadata_table`; takes the same options."""
    return (await metadata_table(location, **options)).columns


@asynccontextmanager
async def _opened(
    location: str,
    state: str | os.PathLike[str] | None,
    config: str | os.PathLike[str] | None,
    quota_share: float | str | None,
    quota_store: str | None,
    quota_fallback: str | None,
    on_event: Callable[[Event], None] | None,
    environ: Mapping[str, str] | None,
) -> AsyncIterator[tuple[Session, Surveyor, Remote, Path, Callable[[Event], None]]]:
    environ = os.environ if environ is None else environ
    settings = settings_of(config, environ)
    where = read_location(location, settings)
    if not isinstance(where, Remote):
        raise UsageError(f"{location} is no place on a platform; metadata takes PROFILE:PATH")
    quotas = read_quotas(quota_share, quota_store, quota_fallback)
    folders, emit = folders_of(state, environ), on_event or (lambda _: None)
    async with prepared(
        Job((where,), Local("."), where.profile),
        settings,
        folders,
        emit=emit,
        clock=Clock.running(),
        concurrency=None,
        retries=None,
        quotas=quotas,
    ) as (session, _, surveyor):
        yield session, surveyor, where, folders.kept, emit


async def stored_below(
    session: Session, place: Place, kept: Path
) -> AsyncIterator[tuple[str, Values]]:
    """Each file below a folder by its path below it, with what is stored with it, by pages."""
    keeper = keeper_of(session.exchange.platform)
    assert keeper is not None, "its schema was asked for"
    answers = KeptAnswers(kept, session.clock)
    waiting: list[tuple[str, Place]] = [("", place)]
    while waiting:
        below, folder = waiting.pop()
        cursor: str | None = None
        while True:
            page = await answers.run(session.exchange, keeper.stored_in(folder, cursor))
            for name, values in page.files:
                yield below + name, values
            for inner in page.folders:
                path = f"{folder.path}/{inner.name}" if folder.path else inner.name
                waiting.append((f"{below}{inner.name}/", Place(folder.container, path, inner.id)))
            cursor = page.next
            if cursor is None:
                break
