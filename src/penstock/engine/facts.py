"""The ledger's memory of places, of facts about endpoints, and of runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from penstock.engine.commits import Commits
from penstock.engine.rows import RUNS, Run, read_run, stored


class Facts(Commits):
    """What earlier runs learnt, and which there were."""

    async def place_id(self, endpoint: str, path: str) -> str | None:
        """The id a path was found to have, by an earlier run."""
        found = await self._do(
            lambda c: c.execute(
                "SELECT id FROM places WHERE endpoint = ? AND path = ?", (endpoint, stored(path))
            ).fetchone()
        )
        return found[0] if found else None

    async def remember_place(self, endpoint: str, path: str, place_id: str | None) -> None:
        """A path's id, or (None) that it is not known any more."""
        if place_id is None:
            sql, values = (
                "DELETE FROM places WHERE endpoint = ? AND path = ?",
                (endpoint, stored(path)),
            )
        else:
            sql = "INSERT OR REPLACE INTO places VALUES (?, ?, ?)"
            values = (endpoint, stored(path), place_id)  # type: ignore[assignment]
        await self._do(lambda c: c.execute(sql, values))

    async def fact(self, endpoint: str, name: str) -> str | None:
        """Something learnt about an endpoint by an earlier run."""
        found = await self._do(
            lambda c: c.execute(
                "SELECT value FROM facts WHERE endpoint = ? AND name = ?", (endpoint, name)
            ).fetchone()
        )
        return found[0] if found else None

    async def remember_fact(self, endpoint: str, name: str, value: str) -> None:
        """Something learnt about an endpoint, for later runs."""
        await self._do(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (endpoint, name, value)
            )
        )

    async def begin_run(self, run: str, sources: Sequence[str], destination: str) -> None:
        """A run is under way."""
        now = self._wall()
        await self._do(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, NULL, ?, ?, NULL)",
                (run, now, json.dumps(list(sources)), stored(destination)),
            )
        )

    async def runs(self, most: int = 100) -> list[Run]:
        """Earlier runs, the newest first."""

        def work(connection: sqlite3.Connection) -> list[Run]:
            found = connection.execute(f"{RUNS} ORDER BY began_at DESC, id DESC LIMIT ?", (most,))
            return list(map(read_run, found.fetchall()))

        return await self._do(work)

    async def end_run(self, run: str, summary: str) -> None:
        """A run ended, with its summary (JSON)."""
        now = self._wall()
        await self._do(
            lambda c: c.execute(
                "UPDATE runs SET ended_at = ?, summary = ? WHERE id = ?", (now, summary, run)
            )
        )
