"""A platform on loopback, and a home for `penstock`, for each test that asks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from penstock.simulators import SevenBridgesSettings
from serving import SOURCES, Served, Shell, at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Shell]:
    """A shell without a platform."""
    shell = Shell(
        tmp_path,
        {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCES),
            "LANG": "C.UTF-8",
            "HOME": str(tmp_path / "home"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
        },
    )
    yield shell
    shell.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """A platform with quota to spare."""
    served = Served(SevenBridgesSettings())
    yield served
    served.close()


@pytest.fixture
def tight() -> Iterator[Served]:
    """A platform that lets few requests through, so that a run is soon made to wait."""
    served = Served(SevenBridgesSettings(quota=10, window_s=60))
    yield served
    served.close()


@pytest.fixture
def shell(served: Served, bare: Shell) -> Shell:
    """A shell at the served platform."""
    return at(served, bare)


@pytest.fixture
def tight_shell(tight: Served, bare: Shell) -> Shell:
    """A shell at the tight platform."""
    return at(tight, bare)
