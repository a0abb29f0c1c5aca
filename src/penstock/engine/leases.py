"""Presigned URLs in use: one for each file, renewed once for all that wait, never kept on disk.

Whoever needs bytes says what to ask of a URL; that the URL may end meanwhile, and is then asked
for again where it came from, is told here alone.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from penstock.core.errors import LeaseExpired, SourceMissing
from penstock.core.model import Flow, Lease, RemoteFile, Response
from penstock.engine.exchange import Exchange, Tally
from penstock.engine.transport import Progress

# Fresh URLs for one request before their refusal is believed to be meant.
_RENEWALS = 1
# What is left of a URL's life when another is asked for, or a quarter of a short life. Seconds.
_SPARE_S = 30.0


class Leases:
    """The one presigned URL all requests for a file's bytes use."""

    def __init__(self, exchange: Exchange, file: RemoteFile, tally: Tally) -> None:
        self._exchange = exchange
        self._file = file
        self._tally = tally
        self._lease = file.lease
        self._life_s = _SPARE_S
        self._lock = anyio.Lock()

    async def ask(
        self, flow: Callable[[Lease], Flow[Response]], progress: Progress = lambda _: None
    ) -> Response:
        """The answer to what `flow` asks of a URL, of a fresh one where the first had ended.

        Raises `LeaseExpired` where a fresh URL is refused as well.
        """
        refused: Lease | None = None
        for last_try in (*[False] * _RENEWALS, True):
            lease = await self._get(refused)
            try:
                return await self._exchange.run(flow(lease), tally=self._tally, progress=progress)
            except LeaseExpired:
                if last_try:
                    raise
                refused = lease
        raise AssertionError("the last try returns or raises")

    async def _get(self, refused: Lease | None) -> Lease:
        """A URL that is not `refused` and not near its end."""
        exchange = self._exchange
        async with self._lock:
            lease = self._lease
            if lease is not None and lease is not refused:
                spare_s = min(_SPARE_S, self._life_s / 4)
                if not exchange.is_due(lease.expires_at, spare_s):
                    return lease
            platform = exchange.platform
            if lease is None:
                self._lease = await exchange.run(platform.lease(self._file), tally=self._tally)
            else:
                fresh = await exchange.run(platform.renew(lease.origin), tally=self._tally)
                if self._file.id not in fresh:
                    raise SourceMissing("the file is gone from where it was listed")
                self._lease = fresh[self._file.id]
            if self._lease.expires_at is not None:
                self._life_s = max(self._lease.expires_at - exchange.server_at(), 0.0)
            return self._lease
