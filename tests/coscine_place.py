"""A resource of a simulated Coscine and a home of its own, for tests of whole runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import penstock
from penstock.core.report import Line
from penstock.simulators import Coscine, CoscineSettings
from virtual import run, virtual_clock

T = TypeVar("T")


@dataclass
class Place:
    sim: Coscine
    home: Path
    config: str = ""

    @property
    def remote(self) -> str:
        return f"coscine:{self.sim.project_name}/{self.sim.resource_name}"

    @property
    def environ(self) -> dict[str, str]:
        environ = {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "PENSTOCK_COSCINE_ENDPOINT": self.sim.endpoint,
            "PENSTOCK_COSCINE_TOKEN": self.sim.token,
            "PENSTOCK_COSCINE_QUOTA": f"{self.sim.quota.limit}/{self.sim.quota.window_s:g}s",
        }
        if self.config:
            path = self.home / "config.toml"
            path.write_text(self.config)
            environ["PENSTOCK_CONFIG"] = str(path)
        return environ

    async def copy(self, *locations: str | Path, **options: Any) -> penstock.Report:  # noqa: ANN401
        return await penstock.copy(*map(str, locations), environ=self.environ, **options)

    def tree(self, files: dict[str, bytes], below: str = "src") -> Path:
        root = self.home / below
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    def there(self) -> dict[str, str]:
        return {path: file.md5 for path, file in self.sim.files().items()}

    def asked(self, method: str | None = None, path: str = "") -> int:
        return len(self.sim.calls(method, path))


def settings(**changed: Any) -> CoscineSettings:  # noqa: ANN401 - the settings' fields
    return CoscineSettings(**{"metadata_first": False, "quota": 10_000, **changed})


def by_name(report: penstock.Report) -> dict[str, Line]:
    return {os.path.basename(line.source): line for line in report.lines()}  # noqa: PTH119


async def virtually(
    main: Callable[[Place], Coroutine[Any, Any, T]],
    home: Path,
    **changed: Any,  # noqa: ANN401 - the settings' fields
) -> T:
    """What `main` returns, in a loop of its own whose clock jumps, the simulator's with it."""

    async def inside() -> T:
        clock = virtual_clock()
        async with Coscine(settings(**changed), clock=clock.wall_at) as sim:
            return await main(Place(sim, home))

    return await asyncio.to_thread(run, inside())
