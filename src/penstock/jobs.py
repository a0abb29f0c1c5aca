"""A command, read: what goes where, through which profile, chosen how.

No platform is asked; of the disk only a manifest is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from penstock.config import WEB, Settings, check_url
from penstock.core.errors import TableError, UsageError
from penstock.core.globs import Rule
from penstock.core.locations import Local, Location, Remote, Url, parse
from penstock.core.metadata import MetadataRow, read_metadata
from penstock.core.packed import Packed
from penstock.core.tables import ManifestRow, decode_lines, only, read_manifest
from penstock.core.transfers import Choices, Compare, OnConflict
from penstock.core.units import parse_size
from penstock.core.values import quick_value
from penstock.engine.digests import new_digest
from penstock.engine.files import hop

T = TypeVar("T")


@quick_value(frozen=True, slots=True)
class Table:
    """A metadata table. `is_manifest`: the same file is the manifest."""

    path: Path
    encoding: str | None
    is_manifest: bool

    def rows(self, *, by_path: bool = True) -> tuple[MetadataRow, ...]:
        """Every row. Blocks. Raises `TableError`."""
        name = str(self.path)
        try:
            with self.path.open("rb") as file:
                chunks = iter(lambda: file.read(1 << 20), b"")
                lines = decode_lines(chunks, encoding=self.encoding, table=name)
                return tuple(
                    read_metadata(lines, table=name, by_path=by_path, is_manifest=self.is_manifest)
                )
        except OSError as error:
            raise TableError(
                f"the metadata table {name} cannot be read: {error.strerror}"
            ) from error


@quick_value(frozen=True, slots=True)
class Job:
    """A command, read: what goes where, through which profile."""

    sources: tuple[Local | Remote | Url, ...]
    destination: Local | Remote
    profile: str
    rows: Collection[ManifestRow] | None = None
    rows_root: str = "."
    table: Table | None = None

    @property
    def uploads(self) -> bool:
        """Whether files go to the platform."""
        return isinstance(self.destination, Remote)


def path_of(location: Local | Remote | Url) -> str:
    """What a platform's `place` reads: the path, `id=ID`, or the URL."""
    if isinstance(location, Url):
        return str(location)
    assert isinstance(location, Remote)
    return f"id={location.id}" if location.id is not None else location.path


def _enum(kind: Callable[[str], T], value: str, option: str, known: Iterable[str]) -> T:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{option} is one of {', '.join(known)}, not {value!r}") from None


def read_choices(
    compare: str,
    on_conflict: str,
    strict: bool,  # noqa: FBT001 - an option, passed on
    checksum: Sequence[str],
    part_size: int | str | None,
    partial_dir: str | os.PathLike[str] | None,
    times: bool,  # noqa: FBT001
) -> Choices:
    """The choices options make.

    Raises `UsageError` for a value that is none, and for a digest nobody can take.
    """
    names = (checksum,) if isinstance(checksum, str) else tuple(checksum)
    for name in names:
        try:
            if new_digest(name).digest_size == 0:
                raise UsageError(f"the digest {name} has no fixed length and cannot be reported")
        except ValueError:
            raise UsageError(
                f"no digest is called {name!r} here; sha256, sha1, md5 and sha512 always are"
            ) from None
    size = parse_size(part_size) if part_size is not None else None
    if size is not None and size < 1:
        raise UsageError("a part size is at least one byte")
    return Choices(
        compare=_enum(Compare, compare, "compare", (c.value for c in Compare)),
        on_conflict=_enum(OnConflict, on_conflict, "on_conflict", (c.value for c in OnConflict)),
        strict=strict,
        checksums=names,
        part_size=size,
        partial_dir=os.path.abspath(partial_dir) if partial_dir is not None else None,  # noqa: PTH100
        times=times,
    )


def check_partial_dir(partial_dir: str | None, destination: Local) -> None:
    """Nothing, or `UsageError` where a rename from the one to the other cannot be. Blocks."""
    if partial_dir is None:
        return
    devices = []
    for wanted in (Path(partial_dir), Path(os.path.abspath(destination.path))):  # noqa: PTH100
        there = next(path for path in (wanted, *wanted.parents) if path.exists())
        devices.append(there.stat().st_dev)
    if devices[0] != devices[1]:
        raise UsageError(
            f"{partial_dir} is on another file system than {destination}, so a finished file could "
            "not take its name; choose a folder beside the destination"
        )


async def read_job(
    locations: Sequence[str | os.PathLike[str]],
    settings: Settings,
    manifest: str | os.PathLike[str] | None,
    encoding: str | None,
    only_status: str | None,
    metadata: str | os.PathLike[str] | None = None,
) -> Job:
    """The command as a job.

    Raises `UsageError` for a combination that cannot be: nothing is asked to find out.
    """
    parsed = [read_location(os.fspath(text), settings) for text in locations]
    if parsed and isinstance(parsed[-1], Url):
        raise UsageError(f"{parsed[-1].redacted} is a URL; files can be fetched from one, not sent")
    least = 1 if manifest is not None else 2
    if len(parsed) < least:
        raise UsageError("a copy needs at least one SOURCE and a DESTINATION")
    *sources, destination = parsed
    if manifest is None and only_status is not None:
        raise UsageError("only is about a manifest; none was given")
    if manifest is None and metadata is None and encoding is not None:
        raise UsageError("encoding is about a table; none was given")
    rows = None
    root = str(Path(manifest).parent) if manifest is not None else "."
    if manifest is not None:
        rows = await hop(read_rows, Path(manifest), encoding, only_status)
        if len(sources) > 1:
            raise UsageError("with a manifest, give no SOURCE, or the one its paths are below")
        if sources and isinstance(sources[0], Local):
            root = sources[0].path
    remote = [source for source in sources if isinstance(source, Remote | Url)]
    if isinstance(destination, Remote):
        if remote:
            raise UsageError(
                "from platform to platform is not possible yet: copy to a local folder first"
            )
        table = await hop(_table_of, metadata, manifest, encoding)
        return Job(tuple(sources), destination, destination.profile, rows, root, table)
    if metadata is not None:
        raise UsageError("metadata is stored with files that are sent; these are fetched")
    if len(remote) < len(sources):
        raise UsageError(
            "neither side is a platform: write PROFILE:PATH for one (profiles: "
            f"{', '.join(sorted(settings.profiles))})"
        )
    profiles = {_profile_of(s) for s in remote} or _profiles_in(rows or (), settings)
    assert isinstance(destination, Local)
    if len(profiles) != 1:
        raise UsageError(
            "a run fetches from one profile"
            + (
                f", not from {', '.join(sorted(profiles))}"
                if profiles
                else ": name one as a SOURCE"
            )
        )
    return Job(tuple(remote), destination, profiles.pop(), rows, root)


def _table_of(
    metadata: str | os.PathLike[str] | None,
    manifest: str | os.PathLike[str] | None,
    encoding: str | None,
) -> Table | None:
    if metadata is None:
        return None
    try:
        is_manifest = manifest is not None and Path(metadata).samefile(manifest)
    except OSError as error:
        raise TableError(
            f"the metadata table {os.fspath(metadata)} cannot be read: {error.strerror}"
        ) from error
    return Table(Path(metadata), encoding, is_manifest)


def _profile_of(location: Remote | Url) -> str:
    return WEB.name if isinstance(location, Url) else location.profile


def _profiles_in(rows: Iterable[ManifestRow], settings: Settings) -> set[str]:
    found = set()
    for row in rows:
        if ":" in row.source:
            location = parse(row.source, settings.profiles)
            if not isinstance(location, Local):
                found.add(_profile_of(location))
    return found


def read_location(text: str, settings: Settings) -> Location:
    """A location, as it is written.

    Raises `UsageError` for a URL without TLS beyond loopback, and what `locations.parse` raises.
    """
    location: Location = parse(text, settings.profiles)
    if isinstance(location, Url):
        check_url(location)
    return location


def read_rows(path: Path, encoding: str | None, only_status: str | None) -> Collection[ManifestRow]:
    """A manifest's rows; of a report those that ended with `only_status`. Blocks.

    Read once, whatever becomes of the file, and held in little memory however many they are.

    Raises `TableError`.
    """
    try:
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(1 << 20), b"")
            rows = read_manifest(
                decode_lines(chunks, encoding=encoding, table=str(path)), table=str(path)
            )
            return Packed(ManifestRow, only(rows, only_status) if only_status is not None else rows)
    except OSError as error:
        raise TableError(f"the manifest {path} cannot be read: {error.strerror}") from error


def rules_of(
    rules: Sequence[Rule] | None, include: Sequence[str], exclude: Sequence[str]
) -> tuple[Rule, ...]:
    """The rules in their one order, or includes and then excludes."""
    if rules is not None:
        return tuple(rules)
    included = (include,) if isinstance(include, str) else include
    excluded = (exclude,) if isinstance(exclude, str) else exclude
    return (*(Rule(True, p) for p in included), *(Rule(False, p) for p in excluded))
