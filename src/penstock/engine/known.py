"""What the ledger proves already, held against what the listing and the disk show now."""

from __future__ import annotations

import os
from collections.abc import Sequence

from penstock.core.lifecycle import State
from penstock.core.model import RemoteFile
from penstock.core.transfers import Choices, DownTransfer, Ended, OnConflict, Transfer, UpTransfer
from penstock.engine.attaching import digest_of
from penstock.engine.ledger import Row


def metadata_of(transfer: Transfer) -> str | None:
    """What is to be stored with a file, as text; None where that is nothing."""
    return transfer.metadata if isinstance(transfer, UpTransfer) else None


def is_unchanged(transfer: Transfer, row: Row, file_id: str | None = None) -> bool:
    """Whether what is to be stored with a file is what was last stored with it."""
    text = metadata_of(transfer)
    if text is None or row.metadata != digest_of(text):
        return False
    return file_id is None or file_id == row.remote_id


def metadata_wanted(transfer: Transfer, row: Row | None) -> bool:
    """Whether a transfer's metadata costs a request, or a share of one."""
    return bool(metadata_of(transfer)) and (row is None or not is_unchanged(transfer, row))


def known(row: Row, transfer: Transfer) -> Ended:
    """The end of a transfer that an earlier run proved."""
    proved = row.state is State.VERIFIED
    return Ended(
        State.SKIPPED,
        reason="already verified" if proved else "already there, unverified",
        id=row.remote_id,
        size=row.size,
        digests=row.digests,
        verified_by="ledger" if proved else None,
        parts=row.parts,
        destination=(
            row.placed
            if isinstance(transfer, DownTransfer)
            else transfer.placed_as(None, row.remote_id)
        ),
    )


def proved_rows(
    transfers: Sequence[Transfer], rows: Sequence[Row | None], choices: Choices
) -> list[bool]:
    """Which transfers the ledger proves, with nothing seen since against it. Blocks: it stats."""
    return [
        row is not None and _is_proved(transfer, row, choices)
        for transfer, row in zip(transfers, rows, strict=True)
    ]


def _is_proved(transfer: Transfer, row: Row, choices: Choices) -> bool:
    if row.state is not State.VERIFIED and (choices.strict or row.state is not State.UNVERIFIED):
        return False
    if row.placed is not None and choices.on_conflict is not OnConflict.RENAME:
        return False
    if any(
        row.digests.get(name) not in {None, digest} for name, digest in transfer.promised.items()
    ):
        return False
    if isinstance(transfer, UpTransfer):
        return _is_still_up(transfer, row)
    return _is_still_down(transfer, row)


def is_sent(transfer: Transfer, row: Row) -> bool:
    """Whether the source, as it is, was sent, and proved as far as it can be."""
    return (
        isinstance(transfer, UpTransfer)
        and row.state in {State.VERIFIED, State.UNVERIFIED}
        and row.source == transfer.found
    )


def _is_still_up(transfer: UpTransfer, row: Row) -> bool:
    """The source is as it was sent, and the platform lists the file it became."""
    if row.source != transfer.found:
        return False
    if transfer.namesakes is not None:
        return any(file.id == row.remote_id for file in transfer.namesakes)
    if row.placed is not None:
        placed = transfer.siblings.get(row.placed)
        return placed is not None and placed.id == row.remote_id and _is_the_state(placed, row)
    existing = transfer.existing
    return (
        existing is not None
        and not row.may_be_another(existing)
        and existing.id == row.remote_id
        and existing.size in {None, transfer.found.size}
        and _is_the_state(existing, row)
    )


def _is_the_state(listed: RemoteFile, row: Row) -> bool:
    """Whether a listed file is in the state it was proved in, as far as its ETag tells."""
    return None in {listed.etag, row.validator} or listed.etag == row.validator


def _is_still_down(transfer: DownTransfer, row: Row) -> bool:
    """The remote file is as it was fetched, and the local one as it was written."""
    if row.size is None or row.source != transfer.fingerprint(row.size):
        return False
    if transfer.file.size not in {None, row.size} or row.may_be_another(transfer.file):
        return False
    try:
        found = os.stat(row.placed or transfer.local_path)  # noqa: PTH116 - a batch at a time
    except OSError:
        return False
    return found.st_size == row.size and found.st_mtime_ns == row.mtime_ns
