"""A planned transfer, how it may end, and the choices a run makes for all of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from typing import TypeAlias

from penstock.core.lifecycle import State
from penstock.core.model import Fingerprint, Identity, Place, RemoteFile
from penstock.core.values import quick_value


class Compare(enum.Enum):
    """When a file that is there already, and that the ledger does not know, counts as the same."""

    DIGEST = "digest"
    SIZE = "size"


class OnConflict(enum.Enum):
    """What to do where the destination has a file that is not the same."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    FAIL = "fail"
    RENAME = "rename"


@quick_value(frozen=True, slots=True)
class Choices:
    """What the caller chose, for every transfer of a run. Sizes in bytes."""

    compare: Compare = Compare.DIGEST
    on_conflict: OnConflict = OnConflict.FAIL
    strict: bool = False
    checksums: tuple[str, ...] = ()
    part_size: int | None = None
    partial_dir: str | None = None
    times: bool = False


@quick_value(frozen=True, slots=True)
class DownTransfer:
    """One remote file to one local path. `promised` are digests a manifest states."""

    identity: Identity
    source: str
    file: RemoteFile
    local_path: str
    promised: Mapping[str, str] = field(default_factory=dict)
    promised_size: int | None = None

    @property
    def destination(self) -> str:
        """The local path, as the report names it."""
        return self.local_path

    @property
    def size(self) -> int | None:
        """Bytes, as the platform lists them."""
        return self.file.size

    def fingerprint(self, size: int) -> Fingerprint:
        """The remote source as it was listed."""
        return Fingerprint(
            size, remote_id=self.file.id, modified=self.file.modified, etag=self.file.etag
        )


@quick_value(frozen=True, slots=True)
class UpTransfer:
    """One local file to one remote name. `existing` is what a listing already holds under it."""

    identity: Identity
    local_path: str
    destination: str
    folder: Place
    name: str
    found: Fingerprint
    existing: RemoteFile | None = None
    taken: set[str] = field(default_factory=set, compare=False)
    """Names that stand in the folder; a name chosen in place of a taken one is added."""
    siblings: Mapping[str, RemoteFile] = field(default_factory=dict, compare=False)
    """The folder's files as it was listed, by name."""
    promised: Mapping[str, str] = field(default_factory=dict)
    promised_size: int | None = None
    namesakes: tuple[RemoteFile, ...] | None = None
    """Files of the name that are there already; None where a name means one file."""
    metadata: str | None = None
    """What is stored with the file, as its platform takes it; None: nothing is said of it."""

    @property
    def source(self) -> str:
        """The local path, as the report names it."""
        return self.local_path

    @property
    def size(self) -> int | None:
        """Bytes, as the walk found them."""
        return self.found.size

    def placed_as(self, name: str | None, file_id: str | None) -> str | None:
        """Where it went if not to `destination`: under another name, or known by its id alone."""
        if self.namesakes is not None and file_id is not None:
            return f"{self.destination.partition(':')[0]}:{file_id}"
        return self.destination[: -len(self.name)] + name if name is not None else None


Transfer: TypeAlias = DownTransfer | UpTransfer


@quick_value(frozen=True, slots=True)
class Ended:
    """How a transfer ended, but for what it cost."""

    state: State
    reason: str | None = None
    id: str | None = None
    size: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    verified_by: str | None = None
    parts: int = 0
    attempts: int = 0
    destination: str | None = None
    """Where it went, if not where it was planned to (a rename)."""
    metadata: str | None = None
    """What became of its metadata: `stored`, `unchanged`, `failed`; None: none was given."""
    asked: bool = False
    """Whether its answer was lost and asking found a file: not certainly the one that was sent."""
