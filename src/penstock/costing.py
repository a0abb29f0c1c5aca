"""What a copy would cost: planned transfers added up, as ledger and destination stand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from penstock.core.lifecycle import State
from penstock.core.plan import Cost
from penstock.core.transfers import Choices, Compare, DownTransfer, OnConflict, UpTransfer
from penstock.engine.files import hop
from penstock.engine.folders import Folders
from penstock.engine.known import metadata_wanted, proved_rows
from penstock.engine.ledger import Ledger
from penstock.engine.planner import Planned, Unmoved
from penstock.session import Session


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

    async def deliver(self, batch: Sequence[Planned]) -> None:
        """The batch is added."""
        moving = [planned for planned in batch if not isinstance(planned, Unmoved)]
        for planned in batch:
            if isinstance(planned, Unmoved):
                self.cost.skipped += planned.state is State.SKIPPED
                self.cost.failed += planned.state is State.FAILED
        rows = await self.ledger.lookup([transfer.identity for transfer in moving])
        proved = await hop(proved_rows, moving, rows, self.choices)
        for transfer, row, is_proved in zip(moving, rows, proved, strict=True):
            self.attached += metadata_wanted(transfer, row if is_proved else None)
            if is_proved:
                self.cost.skipped += 1
            elif isinstance(transfer, UpTransfer):
                self._up(transfer)
            else:
                await self._down(transfer)

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
        if transfer.folder.id is None and transfer.folder.path:
            self.new_folders.add(transfer.folder.path)

    async def _down(self, transfer: DownTransfer) -> None:
        exists = await hop(os.path.isfile, transfer.local_path)
        if exists:
            found = await hop(os.path.getsize, transfer.local_path)
            if self._settles(found == transfer.file.size, by_manifest=bool(transfer.promised)):
                return
        traits = self.session.exchange.platform.traits
        self.cost.add_download(transfer.file.size, traits, self.choices.part_size)

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


def missing_folders(wanted: Iterable[str], known: Folders | None) -> set[str]:
    """Every folder that must be made, those on the way included."""
    missing: set[str] = set()
    for folder in wanted:
        path = folder
        while path and (known is None or known.known(path) is None):
            missing.add(path)
            path = path.rpartition("/")[0]
    return missing
