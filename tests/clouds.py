"""A simulated SURF Research Cloud on a clock that jumps, and `workspaces` run against it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import penstock
from penstock.simulators import Surf, SurfSettings
from virtual import EPOCH, run, virtual_clock

T = TypeVar("T")


def environ_of(sim: Surf, home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PENSTOCK_SURF_ENDPOINT": sim.endpoint,
        "PENSTOCK_SURF_TOKEN": sim.token,
        "PENSTOCK_SURF_QUOTA": f"{sim.settings.quota}/{sim.settings.window_s:g}s",
    }


@dataclass
class Cloud:
    sim: Surf
    home: Path

    async def act(self, action: str, *ids: str, **options: Any) -> penstock.ActionReport:  # noqa: ANN401
        options.setdefault("environ", environ_of(self.sim, self.home))
        return await penstock.workspaces(action, *ids, clock=virtual_clock(), **options)

    def statuses(self) -> dict[str, str]:
        return {each.name: each.status for each in self.sim.workspaces().values()}

    def asked(self) -> Counter[tuple[str, str]]:
        """How often each action was accepted, by the workspace's name."""
        names = {each.id: each.name for each in self.sim.workspaces().values()}
        return Counter((names[one.workspace], one.action) for one in self.sim.accepted)

    def posts(self) -> int:
        return sum(each.method in {"POST", "DELETE"} for each in self.sim.log)

    def looks(self) -> int:
        return sum(each.method == "GET" for each in self.sim.log)

    def statuses_sent(self, status: int) -> int:
        return sum(each.status == status for each in self.sim.log)


def in_cloud(
    home: Path,
    work: Callable[[Cloud], Awaitable[T]],
    *,
    number: int = 0,
    **settings: Any,  # noqa: ANN401 - the simulator's settings
) -> T:
    """What the work returns, done in a cloud of so many running workspaces, in virtual time."""

    async def main() -> T:
        loop = asyncio.get_running_loop()
        made = SurfSettings(workspaces=0, **settings)
        async with Surf(made, clock=lambda: EPOCH + loop.time()) as sim:
            for each in range(number):
                sim.add_workspace(f"w{each:03}")
            return await work(Cloud(sim, home))

    return run(main())


def by_name(report: penstock.ActionReport) -> dict[str | None, penstock.ActionLine]:
    return {line.name or line.id: line for line in report.lines()}
