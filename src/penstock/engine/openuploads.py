"""Which unfinished uploads on the platform are ours: asked once a run, decided by intent.

An upload is adopted or aborted only if its place, name, size and part size match an intent, it
began after that intent was written, and no row of the ledger owns it. A stranger's upload of the
same name began at another time, or has another size, or is somebody's; it is left alone, and
named where it might be ours and its size is not told. Where the
platform is known to choose part sizes itself, theirs says nothing and is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from penstock.core.model import OpenUpload
from penstock.engine.exchange import Exchange
from penstock.engine.ledger import Intent, Ledger

# The fact, remembered by endpoint, that the platform chooses part sizes itself.
INSISTS = "chooses part sizes"


class OpenUploads:
    """The caller's own unfinished uploads at one endpoint."""

    def __init__(
        self, exchange: Exchange, ledger: Ledger, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._tell = tell
        self._named: set[str] = set()
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
            insists = await self._ledger.fact(self._exchange.platform.endpoint, INSISTS) is not None
            owned = await self._ledger.owned_uploads([upload.id for upload in likely])
            for upload in likely:
                if upload.id in owned or not _may_match(upload, intent):
                    continue
                flow = self._exchange.platform.describe_upload(upload.id)
                described = await self._exchange.run(flow)
                if described is not None and _matches(described, upload, intent, insists=insists):
                    self._taken.add(upload.id)
                    return described
                if described is not None and upload.size is described.size is None:
                    self._name(described)
            return None

    def _name(self, upload: OpenUpload) -> None:
        """It is said, once, that an upload which may be ours is left: nothing tells that it is."""
        if upload.id not in self._named:
            self._named.add(upload.id)
            self._tell(
                f"an unfinished upload of {upload.name!r} is open on the platform; whether an "
                "earlier run began it cannot be told, so it is left as it is"
            )

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
        _place_may_match(upload, intent)
        and upload.size in {None, intent.size}
        and (upload.began_at is None or _began_after(upload.began_at, intent))
    )


def _place_may_match(upload: OpenUpload, intent: Intent) -> bool:
    """Whether the place, as far as it is known, is the intent's.

    A folder is known by its id, a root by its container: it may have an id nothing told us.
    """
    if upload.folder is None or upload.folder == intent.place:
        return upload.folder is not None or upload.container in {None, intent.place}
    return upload.container == intent.place


def _matches(described: OpenUpload, listed: OpenUpload, intent: Intent, *, insists: bool) -> bool:
    """Whether place, name and time are known, and all that is known is the intent's."""
    size = described.size if described.size is not None else listed.size
    began = described.began_at if described.began_at is not None else listed.began_at
    return (
        described.name == intent.name
        and intent.place in {described.container, described.folder}
        and _place_may_match(described, intent)
        and size == intent.size
        and began is not None
        and _began_after(began, intent)
        and (insists or described.part_size == intent.part_size)
    )


def _began_after(began_at: float, intent: Intent) -> bool:
    """Whether an upload is younger than an intent; the platform's times are cut to seconds."""
    return began_at >= math.floor(intent.made_at)
