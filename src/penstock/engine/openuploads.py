"""Which unfinished uploads on the platform are ours: asked once a run, decided by intent.

An upload is adopted or aborted only if its place, name and size match an intent, it began after
that intent was written, and no row of the ledger owns it. A stranger's upload of the same name
began at another time, or has another size, or is somebody's; it is left alone.
"""

from __future__ import annotations

import anyio

from penstock.core.model import OpenUpload
from penstock.engine.exchange import Exchange
from penstock.engine.ledger import Intent, Ledger

# The platform's times are cut to seconds, and so is the `Date` our idea of its clock comes from.
CLOCK_GRAIN_S = 2.0


class OpenUploads:
    """The caller's own unfinished uploads at one endpoint."""

    def __init__(self, exchange: Exchange, ledger: Ledger) -> None:
        self._exchange = exchange
        self._ledger = ledger
        self._lock = anyio.Lock()
        self._listed: list[OpenUpload] | None = None
        self._taken: set[str] = set()

    async def ours(self, intent: Intent, *, again: bool = False) -> OpenUpload | None:
        """The upload an intent led to, if it did. `again`: list anew, for it may be seconds old.

        What is returned is taken: no other intent gets it.
        """
        async with self._lock:
            if self._listed is None or again:
                self._listed = await self._list()
            likely = [
                upload
                for upload in self._listed
                if upload.name == intent.name and upload.id not in self._taken
            ]
            owned = await self._ledger.owned_uploads([upload.id for upload in likely])
            for upload in likely:
                if upload.id in owned or not _may_match(upload, intent):
                    continue
                flow = self._exchange.platform.describe_upload(upload.id)
                described = await self._exchange.run(flow)
                if described is not None and _matches(described, upload, intent):
                    self._taken.add(upload.id)
                    return described
            return None

    async def _list(self) -> list[OpenUpload]:
        listed: list[OpenUpload] = []
        cursor = None
        while True:
            flow = self._exchange.platform.open_uploads(cursor)
            page, cursor = await self._exchange.run(flow)
            listed += page
            if cursor is None:
                return listed


def _may_match(upload: OpenUpload, intent: Intent) -> bool:
    """Whether nothing the listing says speaks against it; a listing may say little."""
    return (
        upload.place in {None, intent.place}
        and upload.size in {None, intent.size}
        and (upload.began_at is None or upload.began_at >= intent.made_at - CLOCK_GRAIN_S)
    )


def _matches(described: OpenUpload, listed: OpenUpload, intent: Intent) -> bool:
    """Whether place, name, size and time are all known, and all are the intent's."""
    place = described.place or listed.place
    size = described.size if described.size is not None else listed.size
    began = described.began_at if described.began_at is not None else listed.began_at
    return (
        described.name == intent.name
        and place == intent.place
        and (size is None or size == intent.size)
        and began is not None
        and began >= intent.made_at - CLOCK_GRAIN_S
    )
