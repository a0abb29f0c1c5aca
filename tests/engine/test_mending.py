"""A ledger where other machines may look, one that is locked, and files that are set aside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from penstock.core.errors import LedgerError
from penstock.engine import mending
from penstock.engine.ledger import Ledger


def on_network(_: Path) -> bool:
    return True


def here(_: Path) -> bool:
    return False


def journal_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        mode: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
        return mode


async def test_a_ledger_on_a_network_does_without_wal_and_loses_nothing(tmp_path: Path) -> None:
    async with Ledger(tmp_path, wall=lambda: 1.0, on_network=here) as ledger:
        await ledger.remember_fact("e", "n", "before")
        assert journal_of(ledger.path) == "wal"
    async with Ledger(tmp_path, wall=lambda: 1.0, on_network=on_network) as ledger:
        assert await ledger.fact("e", "n") == "before"
        await ledger.remember_fact("e", "n", "after")
        assert not list(tmp_path.glob("*-wal"))
        assert not list(tmp_path.glob("*-shm"))
        assert journal_of(ledger.path) == "delete"
        async with Ledger(tmp_path, wall=lambda: 1.0, on_network=on_network) as other:
            await other.remember_fact("e", "m", "beside")
            assert await ledger.fact("e", "m") == "beside"
            assert await other.fact("e", "n") == "after"


async def test_a_ledger_that_another_program_locks_is_said(tmp_path: Path) -> None:
    async with Ledger(tmp_path, wall=lambda: 1.0) as ledger:
        path = ledger.path
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match="locked by another program"):
            async with Ledger(tmp_path, wall=lambda: 1.0, patience_s=0.05):
                pass
        holder.execute("ROLLBACK")
    async with Ledger(tmp_path, wall=lambda: 1.0, patience_s=0.05):
        pass


def test_what_is_set_aside_takes_what_is_beside_it_along_and_replaces_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite3"
    kept = []
    for number in range(2):
        for end in ("", "-wal"):
            Path(f"{path}{end}").write_text(f"{number}{end}")
        kept.append(mending.set_aside(path, 0.0))
    assert [each.name for each in kept] == [
        "ledger.sqlite3.aside-19700101T000000Z",
        "ledger.sqlite3.aside-19700101T000000Z-2",
    ]
    assert [Path(f"{each}-wal").read_text() for each in kept] == ["0-wal", "1-wal"]
    assert not path.exists()
