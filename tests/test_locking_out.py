"""An expired key is used so rarely that its owner's account is not locked, by no command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import penstock
from penstock.core.errors import TokenRefused
from penstock.simulators import DataMeta


@pytest.fixture
async def sim() -> AsyncIterator[DataMeta]:
    async with DataMeta() as opened:
        opened.add_key("expired" * 8, expires_at=1.0)
        yield opened


@pytest.fixture
def environ(sim: DataMeta, tmp_path: Path) -> dict[str, str]:
    """Of the server's root, so that where the API is has to be asked for first."""
    return {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PENSTOCK_DATAMETA_ENDPOINT": sim.endpoint.removesuffix("/api/v1"),
        "PENSTOCK_DATAMETA_TOKEN": "expired" * 8,
    }


def uses(sim: DataMeta) -> int:
    return sum(each.status == 401 for each in sim.log)


async def test_checking_an_expired_key_again_and_again_locks_nobody_out(
    sim: DataMeta, environ: dict[str, str]
) -> None:
    for _ in range(6):
        with pytest.raises(TokenRefused) as told:
            await penstock.check("datameta", environ=environ)
    assert "locks an account" in str(told.value)
    assert (uses(sim), sim.enabled()) == (2, True)


async def test_a_refused_key_that_is_good_again_is_found_out_by_a_check(
    sim: DataMeta, environ: dict[str, str]
) -> None:
    for _ in range(2):
        with pytest.raises(TokenRefused):
            await penstock.list_("datameta:", environ=environ)
    sim.add_key("expired" * 8)
    await penstock.check("datameta", environ=environ)
    assert await penstock.list_("datameta:", environ=environ)
    assert uses(sim) == 1


async def test_many_runs_at_once_with_an_expired_key_use_it_once(
    sim: DataMeta, environ: dict[str, str]
) -> None:
    sim.change(latency_s=0.02)

    async def run() -> None:
        with pytest.raises(TokenRefused):
            await penstock.list_("datameta:", environ=environ)

    await asyncio.gather(*(run() for _ in range(8)))
    assert (uses(sim), sim.enabled()) == (1, True)
