"""Folders as they were listed, for as long as a run plans: the last ones at hand, the rest packed.

A folder that is written to is listed once, for requests are scarcer than memory; but a million
files that stand there take a gigabyte as objects. Packed they take some 50 bytes each.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

from penstock.core.model import Lease, Origin, RemoteFile, RemoteFolder
from penstock.engine.survey import Listing

# Files at hand: some 20 MB, and more than one folder has as a rule.
_AT_HAND = 20_000
_LEVEL = 1


class Listings:
    """Listings by their folders' paths. What is got is what was put, URLs that may end excepted.

    A listing whose names are being given away (`Listing.taken`) stays as it is.
    """

    def __init__(self, at_hand: int = _AT_HAND) -> None:
        self._most = at_hand
        self._files = 0
        self._at_hand: dict[str, Listing] = {}
        """With files, the last used last."""
        self._kept: dict[str, Listing] = {}
        """Without files, or given away."""
        self._packed: dict[str, tuple[bytes, dict[str, RemoteFolder]]] = {}
        self._last: tuple[str, Listing] | None = None

    def get(self, path: str) -> Listing | None:
        """The listing of a folder; None where there is none."""
        if self._last is not None and self._last[0] == path:
            return self._last[1]
        listing = self._kept.get(path)
        if listing is None:
            listing = self._at_hand.pop(path, None)
            if listing is not None:
                self._at_hand[path] = listing
            elif path in self._packed:
                packed, folders = self._packed.pop(path)
                listing = self._add(
                    path, Listing({file.name: file for file in _unpacked(packed)}, folders)
                )
        if listing is not None:
            self._last = path, listing
        return listing

    def folders(self, path: str) -> dict[str, RemoteFolder] | None:
        """The folders in a folder, for which nothing is unpacked; None where it was not listed."""
        if path in self._packed:
            return self._packed[path][1]
        listing = self._kept.get(path) or self._at_hand.get(path)
        return listing.folders if listing is not None else None

    def put(self, path: str, listing: Listing) -> Listing:
        """The listing is the folder's from now on."""
        old = self._at_hand.pop(path, None)
        if old is not None:
            self._files -= len(old.files)
        self._kept.pop(path, None)
        self._packed.pop(path, None)
        self._last = path, listing
        return self._add(path, listing)

    def _add(self, path: str, listing: Listing) -> Listing:
        if not listing.files:
            self._kept[path] = listing
            return listing
        self._at_hand[path] = listing
        self._files += len(listing.files)
        while self._files > self._most and len(self._at_hand) > 1:
            self._put_away(next(iter(self._at_hand)))
        return listing

    def _put_away(self, path: str) -> None:
        listing = self._at_hand.pop(path)
        self._files -= len(listing.files)
        if listing.is_given_away:
            self._kept[path] = listing
        else:
            self._packed[path] = _packed(listing), listing.folders


def _packed(listing: Listing) -> bytes:
    rows = [
        (
            file.id,
            file.name,
            file.size,
            file.modified,
            file.etag,
            dict(file.digests),
            None
            if file.lease is None
            else (file.lease.origin.kind, file.lease.origin.place, file.lease.origin.cursor),
            None if file.lease is None else file.lease.whole,
        )
        for file in listing.files.values()
    ]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), _LEVEL)


def _unpacked(packed: bytes) -> Iterator[RemoteFile]:
    for id_, name, size, modified, etag, digests, origin, whole in json.loads(
        zlib.decompress(packed)
    ):
        lease = None
        if origin is not None:
            # Its URL was not kept: it is long over, and asked for anew where it came from.
            lease = Lease("", Origin(*origin), 0.0, whole=whole)
        yield RemoteFile(id_, name, size, modified, etag, digests, lease)
