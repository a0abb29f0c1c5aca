"""`--save-metadata`: what the platform stores with the files of a download, as a table.

Which files those are is watched as the planner delivers them; what is stored with them is asked
when all have moved, by whole requests: many ids at once, or a folder's pages.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from penstock.api.describing import stored_below
from penstock.api.tables import schema_of
from penstock.core.errors import UsageError
from penstock.core.events import Event
from penstock.core.metadata import Values
from penstock.core.metatables import csv_of, json_of
from penstock.core.model import Place
from penstock.core.traits import Attaches
from penstock.core.transfers import DownTransfer
from penstock.engine.files import hop
from penstock.engine.planner import Deliver, Planned
from penstock.platforms.describing import check_readable, keeper_of
from penstock.session import Session

_JSON = (".jsonl", ".ndjson", ".json")


class Saving:
    """The files of one download, and where the table of their metadata goes."""

    def __init__(self, wanted: Path, destination: str) -> None:
        self._wanted = wanted
        self._base = Path(os.path.abspath(destination))  # noqa: PTH100 - as planned paths are
        self._names: dict[tuple[str, str], tuple[str, str]] = {}

    def check(self, session: Session) -> None:
        """Nothing, or `UsageError` where there is nothing to save, or no place for it.

        `ProfileError` where what would be saved cannot be read here.
        """
        keeper = keeper_of(session.exchange.platform)
        if keeper is None:
            raise UsageError(f"{session.profile.name} keeps no metadata with files")
        check_readable(keeper)
        if self._wanted.is_dir() or not self._wanted.absolute().parent.is_dir():
            raise UsageError(f"the metadata cannot be saved as {self._wanted}: no such folder")

    def watching(self, deliver: Deliver) -> Deliver:
        """Hands batches on to `deliver`, and remembers their files."""

        async def watch(batch: Sequence[Planned]) -> None:
            for planned in batch:
                if isinstance(planned, DownTransfer):
                    key = (planned.identity.container, planned.identity.remote_path)
                    self._names[key] = (self._name(planned.local_path), planned.file.id)
            await deliver(batch)

        return watch

    def _name(self, path: str) -> str:
        """The path below the destination, or the last name where the file is the destination."""
        if path == str(self._base):
            return self._base.name
        return Path(path).relative_to(self._base).as_posix()

    async def save(self, session: Session, kept: Path, emit: Callable[[Event], None]) -> None:
        """The table is written, beside its name first. Files without metadata are left out."""
        rows = [row async for row in self._rows(session, kept, emit)]
        rows.sort(key=lambda row: row[0])
        by_path = session.exchange.platform.traits.attaches is not Attaches.SUBMITTED
        if not by_path:
            # A record that names several files came with each of them.
            once = {json_of("", values, by_path=False): ("", values) for _, values in rows}
            rows = list(once.values())
        await hop(lambda: self._write(rows, by_path=by_path))

    async def _rows(
        self, session: Session, kept: Path, emit: Callable[[Event], None]
    ) -> AsyncIterator[tuple[str, Values]]:
        keeper = keeper_of(session.exchange.platform)
        assert keeper is not None, "checked before"
        size = session.exchange.platform.traits.described_at_once
        if size:
            named = {file_id: name for name, file_id in self._names.values()}
            ids = list(named)
            for first in range(0, len(ids), size):
                flow = keeper.stored_with(ids[first : first + size])
                for file_id, values in (await session.exchange.run(flow)).items():
                    if values and file_id in named:
                        yield named[file_id], values
            return
        for container in dict.fromkeys(container for container, _ in self._names):
            place = Place(container)
            await schema_of(session, place, kept, emit)
            async for path, values in stored_below(session, place, kept):
                known = self._names.get((container, path))
                if values and known is not None:
                    yield known[0], values

    def _write(self, rows: Sequence[tuple[str, Values]], *, by_path: bool) -> None:
        beside = self._wanted.with_name(f".{self._wanted.name}.part")
        try:
            with beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                if self._wanted.suffix.lower() in _JSON:
                    file.writelines(
                        json_of(path, values, by_path=by_path) + "\n" for path, values in rows
                    )
                else:
                    file.writelines(csv_of(rows, by_path=by_path))
            beside.replace(self._wanted)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise UsageError(
                f"the metadata cannot be saved as {self._wanted}: {error.strerror}"
            ) from error
