"""What a platform offers beside `Platform` where it keeps metadata with files.

A platform that has these three methods takes part in `--metadata`, `--save-metadata` and
`penstock metadata`; `Traits.attaches` says when the engine calls `attach`. One whose metadata is
stored as a whole at the end of a run (`Attaches.SUBMITTED`) gives a schema and is never asked to
attach: its submission reads the table with `core.metadata.read_metadata(by_path=False)` and checks
each row with the same schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from penstock.core.metadata import Schema, Values
from penstock.core.model import Flow, Place, RemoteFolder
from penstock.core.values import quick_value
from penstock.platforms.base import Platform
from penstock.platforms.handing import Carrying


@quick_value(frozen=True, slots=True)
class SchemaFound:
    """A place's schema; `warning` says what of it could not be read, so that the server decides."""

    schema: Schema
    warning: str | None = None


@quick_value(frozen=True, slots=True)
class Attachment:
    """One file's metadata, as its schema compiled it. `file_id` is None where it is not there."""

    place: Place
    name: str
    file_id: str | None
    text: str


@quick_value(frozen=True, slots=True)
class StoredPage:
    """What is stored with files: values by the path below the place that was asked about."""

    files: tuple[tuple[str, Values], ...]
    folders: tuple[RemoteFolder, ...] = ()
    next: str | None = None


@runtime_checkable
class KeepsMetadata(Protocol):
    """The flows of a platform that keeps metadata with files."""

    def schema(self, place: Place) -> Flow[SchemaFound]:
        """What the place's container takes. As few requests as it takes, or none."""
        ...

    def demands_metadata(self, place: Place) -> Flow[bool]:
        """Whether a file without metadata is refused there, so that a schema is needed anyway."""
        ...

    def attach(self, attachments: Sequence[Attachment]) -> Flow[Sequence[str | None]]:
        """Why each file's metadata was not taken, None where it was. Safe to repeat.

        At most `Traits.attached_at_once`. Throws `Refused` where the request as a whole was.
        """
        ...

    def stored_with(self, file_ids: Sequence[str]) -> Flow[Mapping[str, Values]]:
        """What is stored with files, by id; at most `Traits.described_at_once`."""
        ...

    def stored_in(self, place: Place, cursor: str | None) -> Flow[StoredPage]:
        """One page of what is stored with a folder's files, its sub-folders apart or included."""
        ...


@runtime_checkable
class ReadsByExtra(Protocol):
    """Who keeps metadata that only an optional package can read."""

    def check_readable(self) -> None:
        """Nothing, or `ProfileError` where that package is not installed."""
        ...


def check_readable(keeper: object) -> None:
    """Nothing, or `ProfileError` where what somebody keeps cannot be read here."""
    if isinstance(keeper, ReadsByExtra):
        keeper.check_readable()


def keeper_of(platform: Platform) -> KeepsMetadata | None:
    """Who keeps metadata: the platform itself, also of containers that another carries."""
    own = platform.own if isinstance(platform, Carrying) else platform
    return own if isinstance(own, KeepsMetadata) else None
