"""Presigned URLs in use: one for each file, renewed once for all that wait, never kept on disk.

Whoever needs bytes says what to ask of a URL; that the URL may end meanwhile, and is then asked
for again where it came from, is told here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio

from penstock.core.errors import LeaseExpired, PenstockError, SourceMissing
from penstock.core.model import Flow, Lease, Origin, Place, RemoteFile, Response
from penstock.engine.exchange import Exchange, Tally
from penstock.engine.files import Beside
from penstock.engine.passing import Progress

# Fresh URLs for one request before their refusal is believed to be meant.
_RENEWALS = 1
# What is left of a URL's life when another is asked for, or a quarter of a short life. Seconds.
_SPARE_S = 30.0
# Pages whose URLs are kept for files that have not asked yet: more than are under way at once.
_PAGES_KEPT = 256


class Renewals:
    """Fresh URLs by where they come from: whoever comes while one is asked for gets its answer.

    Where a page brings URLs, one request renews those of all its files. Kept for the files that
    have not asked yet; a file that has moved off its page is looked for by one walk of its folder.
    """

    def __init__(self) -> None:
        self._fresh: dict[Origin, Mapping[str, Lease]] = {}
        self._locks: dict[Origin, anyio.Lock] = {}
        self._walked: dict[str, Mapping[str, Lease]] = {}

    async def get(
        self, exchange: Exchange, file_id: str, old: Lease, tally: Tally, spare_s: float
    ) -> Lease | None:
        """A URL younger than `old`, from where it came; None where the file is gone from there.

        `spare_s` is what must be left of the life of one that another file's renewal brought.
        """
        async with self._locks.setdefault(old.origin, anyio.Lock()):
            known = self._fresh.get(old.origin, {}).get(file_id)
            due = known is not None and exchange.is_due(known.expires_at, spare_s)
            if known is None or known.url == old.url or due:
                fresh = await exchange.run(exchange.platform.renew(old.origin), tally=tally)
                if old.origin.kind == "page":
                    self._keep(old.origin, fresh)
                known = fresh.get(file_id)
        if known is None and old.origin.kind == "page":
            return await self._walk(exchange, file_id, old, tally)
        return known

    def _keep(self, origin: Origin, fresh: Mapping[str, Lease]) -> None:
        while len(self._fresh) >= _PAGES_KEPT:
            oldest = next(iter(self._fresh))
            del self._fresh[oldest]
            self._locks.pop(oldest, None)
        self._fresh[origin] = fresh

    async def _walk(
        self, exchange: Exchange, file_id: str, old: Lease, tally: Tally
    ) -> Lease | None:
        """The file's URL from a whole listing of its folder, made once for all that moved."""
        folder = old.origin.place
        async with self._locks.setdefault(Origin("folder", folder), anyio.Lock()):
            known = self._walked.get(folder, {}).get(file_id)
            if known is not None and known.url != old.url and not exchange.is_due(known.expires_at):
                return known
            found: dict[str, Lease] = {}
            cursor: str | None = None
            while True:
                place = Place("", id=folder)
                page = await exchange.run(exchange.platform.list_page(place, cursor), tally=tally)
                found.update((file.id, file.lease) for file in page.files if file.lease is not None)
                cursor = page.next
                if cursor is None:
                    break
            self._walked[folder] = found
            return found.get(file_id)


class Leases:
    """The one presigned URL all requests for a file's bytes use."""

    def __init__(
        self, exchange: Exchange, renewals: Renewals, file: RemoteFile, tally: Tally
    ) -> None:
        self._exchange = exchange
        self._renewals = renewals
        self._file = file
        self._tally = tally
        self._lease = file.lease
        self._life_s = _SPARE_S
        self._lock = anyio.Lock(fast_acquire=True)

    async def ask(
        self,
        flow: Callable[[Lease], Flow[Response]],
        progress: Progress = lambda _: None,
        beside: Beside | None = None,
        first: Response | PenstockError | None = None,
    ) -> Response:
        """The answer to what `flow` asks of a URL, of a fresh one where the first had ended.

        `first` is as in `Exchange.run`.

        Raises `LeaseExpired` where a fresh URL is refused as well.
        """
        refused: Lease | None = None
        for last_try in (*[False] * _RENEWALS, True):
            lease = await self._get(refused)
            try:
                return await self._exchange.run(
                    flow(lease), tally=self._tally, progress=progress, beside=beside, first=first
                )
            except LeaseExpired:
                if last_try:
                    raise
                refused, first = lease, None
        raise AssertionError("the last try returns or raises")

    @property
    def digests(self) -> Mapping[str, str]:
        """What came with the URL in use; nothing before one was asked for."""
        return self._lease.digests if self._lease is not None else {}

    async def are_whole(self) -> bool:
        """Whether the file comes only whole: no range of it can be had."""
        return (await self._get(None)).whole

    async def _get(self, refused: Lease | None) -> Lease:
        """A URL that is not `refused` and not near its end."""
        exchange = self._exchange
        async with self._lock:
            lease = self._lease
            spare_s = min(_SPARE_S, self._life_s / 4)
            is_due = lease is not None and exchange.is_due(lease.expires_at, spare_s)
            if lease is not None and lease is not refused and not is_due:
                return lease
            platform = exchange.platform
            if lease is None:
                self._lease = await exchange.run(platform.lease(self._file), tally=self._tally)
            else:
                fresh = await self._renewals.get(
                    exchange, self._file.id, lease, self._tally, spare_s
                )
                if fresh is None:
                    raise SourceMissing("the file is gone from where it was listed")
                self._lease = fresh
            if self._lease.expires_at is not None:
                self._life_s = max(self._lease.expires_at - exchange.server_at(), 0.0)
            return self._lease
