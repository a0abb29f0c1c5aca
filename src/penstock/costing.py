"""What a copy would cost: planned transfers added up, as ledger and destination stand."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from penstock.core.lifecycle import State
from penstock.core.model import RemoteFile
from penstock.core.plan import WHOLE_DOWNLOAD, Cost
from penstock.core.prefixes import pages_to_show
from penstock.core.transfers import (
    Choices,
    Compare,
    DownTransfer,
    OnConflict,
    Transfer,
    UpTransfer,
)
from penstock.engine.files import hop
from penstock.engine.folders import Folders
from penstock.engine.known import is_unchanged, metadata_wanted, proved_rows
from penstock.engine.ledger import Ledger, Row
from penstock.engine.planner import Planned, Unmoved
from penstock.engine.proving import MOST_UNPROVED
from penstock.session import Session

_Folder: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class _Sent:
    """What is to be sent to one folder. `names` are had where others stand there already."""

    standing: Mapping[str, RemoteFile]
    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """One file more."""
        self.count += 1
        if self.standing and len(self.names) < MOST_UNPROVED:
            self.names.append(name)

    def pages(self, page_size: int) -> int:
        """Pages that show all of it."""
        if self.count == len(self.names):
            return pages_to_show(self.names, self.standing, 0, page_size)[0]
        return -(-(self.count + len(self.standing)) // page_size)


@dataclass(slots=True)
class Costing:
    """Adds up what a plan delivers, as the ledger stands."""

    session: Session
    ledger: Ledger
    choices: Choices
    cost: Cost = field(default_factory=Cost)
    proving: int = 0
    attached: int = 0
    """Files whose metadata is to be stored."""
    new_folders: set[str] = field(default_factory=set)
    _sent: dict[_Folder, _Sent] = field(default_factory=dict)

    async def deliver(self, batch: Sequence[Planned]) -> None:
        """The batch is added."""
        moving = [planned for planned in batch if not isinstance(planned, Unmoved)]
        for planned in batch:
            if isinstance(planned, Unmoved):
                self.cost.skipped += planned.state is State.SKIPPED
                self.cost.failed += planned.state is State.FAILED
        rows = await self.ledger.lookup([transfer.identity for transfer in moving])
        proved = await hop(proved_rows, moving, rows, self.choices)
        missing = [
            each.local_path
            for each, is_proved in zip(moving, proved, strict=True)
            if not is_proved and isinstance(each, DownTransfer)
        ]
        standing = await hop(_sizes_of, missing) if missing else {}
        for transfer, row, is_proved in zip(moving, rows, proved, strict=True):
            self.attached += self._attaches(transfer, row, is_proved=is_proved)
            if is_proved:
                self.cost.skipped += 1
            elif isinstance(transfer, UpTransfer):
                self._up(transfer)
            else:
                self._down(transfer, standing.get(transfer.local_path))

    def _attaches(self, transfer: Transfer, row: Row | None, *, is_proved: bool) -> bool:
        """Whether the transfer's metadata is to be stored."""
        if not metadata_wanted(transfer, row if is_proved else None):
            return False
        assert isinstance(transfer, UpTransfer)
        existing = transfer.existing
        if is_proved or existing is None:
            return True
        if existing.size != transfer.found.size:
            return self.choices.on_conflict in {OnConflict.OVERWRITE, OnConflict.RENAME}
        return row is None or not is_unchanged(transfer, row, existing.id)

    def pages_to_prove(self) -> int:
        """Listing pages that show what is to be sent, where only they prove it."""
        size = self.session.exchange.platform.traits.page_size
        return sum(sent.pages(size) for sent in self._sent.values())

    def _up(self, transfer: UpTransfer) -> None:
        traits = self.session.exchange.platform.traits
        if transfer.namesakes:
            alike = [each for each in transfer.namesakes if each.size in {None, transfer.size}]
            asked = sum(traits.digest_first not in each.digests for each in alike)
            self.proving += asked
            self.cost.api_requests += asked
            if alike:
                self.cost.skipped += 1
                return
        existing = transfer.existing
        if existing is not None and self._settles(existing.size == transfer.found.size):
            return
        self.cost.add_upload(transfer.found.size, traits, self.choices.part_size)
        folder = transfer.folder
        if traits.proves_by_listing:
            where = (folder.container, folder.path)
            self._sent.setdefault(where, _Sent(transfer.siblings)).add(transfer.name)
        if folder.id is None and folder.path and traits.requests_per_folder:
            self.new_folders.add(folder.path)

    def _down(self, transfer: DownTransfer, there: int | None) -> None:
        """One file to fetch; `there` are the bytes of the local file that stands there."""
        if there is not None and self._settles(
            there == transfer.file.size, by_manifest=bool(transfer.promised)
        ):
            return
        traits = self.session.exchange.platform.traits
        size = transfer.file.size
        self.cost.add_download(size, traits, self.choices.part_size)
        if traits.listing_leases and transfer.file.lease is None:
            # Its listing brought no URL: its own endpoint is asked, a large file's what it does.
            self.cost.api_requests += 1 if size is not None and size <= WHOLE_DOWNLOAD else 2

    def _settles(self, same_size: bool, *, by_manifest: bool = False) -> bool:  # noqa: FBT001
        """Whether a file that is there already is not moved, as far as a plan can tell."""
        if same_size:
            by_request = not self.session.exchange.platform.traits.listing_leases
            if self.choices.compare is Compare.DIGEST and not by_manifest and by_request:
                self.proving += 1
                self.cost.api_requests += 1
            self.cost.skipped += 1
            return True
        if self.choices.on_conflict is OnConflict.SKIP:
            self.cost.skipped += 1
            return True
        if self.choices.on_conflict is OnConflict.FAIL:
            self.cost.failed += 1
            return True
        return False


def _sizes_of(paths: Sequence[str]) -> dict[str, int]:
    """The sizes of those that are files. Blocks."""
    sizes = {}
    for path in paths:
        with suppress(OSError, ValueError):
            found = os.stat(path)  # noqa: PTH116 - a batch at a time
            if stat.S_ISREG(found.st_mode):
                sizes[path] = found.st_size
    return sizes


def missing_folders(wanted: Iterable[str], known: Folders | None) -> set[str]:
    """Every folder that must be made, those on the way included."""
    missing: set[str] = set()
    for folder in wanted:
        path = folder
        while path and (known is None or known.known(path) is None):
            missing.add(path)
            path = path.rpartition("/")[0]
    return missing
