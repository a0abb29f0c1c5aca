"""Serves one simulator until cancelled: what `penstock simulate PLATFORM` runs."""

import asyncio
from collections.abc import Callable
from typing import Any

from penstock.simulators.coscine import Coscine
from penstock.simulators.datameta import DataMeta
from penstock.simulators.sevenbridges import SevenBridges
from penstock.simulators.surf import Surf

_PLATFORMS: dict[str, Callable[[Any, int], Any]] = {
    "coscine": lambda settings, port: Coscine(settings, port=port),
    "datameta": lambda settings, port: DataMeta(settings, port=port),
    "sevenbridges": lambda settings, port: SevenBridges(settings, port=port),
    "surf": lambda settings, port: Surf(settings, port=port),
}


async def serve(
    platform: str,
    settings: object = None,
    *,
    announce: Callable[[str], None],
    port: int = 0,
) -> None:
    """Announce `name: value` lines, then serve; ends only when cancelled, and then cleans up.

    settings: of that platform's simulator; None is its defaults.
    port: of the API; 0 is any free one. A storage host always takes a free one.

    Raises:
        ValueError: there is no simulator of this platform.
        OSError: the port is taken.
    """
    if platform not in _PLATFORMS:
        raise ValueError(f"no simulator of {platform!r}; there are: {', '.join(_PLATFORMS)}")
    async with _PLATFORMS[platform](settings, port) as simulator:
        for name, value in simulator.describe().items():
            announce(f"{name}: {value}")
        await asyncio.Event().wait()
