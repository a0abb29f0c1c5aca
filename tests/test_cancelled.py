"""A cancelled call of the library leaves nothing behind: no task, socket, file or half a name."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock.core.model import MIB
from penstock.simulators import SevenBridgesSettings
from serving import Served
from worlds import World, md5s


def sockets() -> list[object]:
    """Connections of this process to servers in it: the client's ends."""
    found = psutil.Process().net_connections(kind="tcp")
    served = {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}
    return [each for each in found if getattr(each.raddr, "port", None) in served]


def files_below(folder: Path) -> list[str]:
    return [each.path for each in psutil.Process().open_files() if str(folder) in each.path]


@pytest.fixture
def served() -> Iterator[Served]:
    """The platform, in a thread and a loop of its own: what is in the test's is the library's."""
    served = Served(SevenBridgesSettings(quota=10_000, bandwidth=20 * MIB))
    yield served
    served.close()


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
@pytest.mark.parametrize("moment", ["list", "body"])
async def test_a_cancelled_copy_leaves_nothing_open_and_carries_on(
    served: Served, tmp_path: Path, way: str, how: str, moment: str
) -> None:
    world = World(served.sim, tmp_path)
    contents = {f"d/f{n}": os.urandom(50_000) for n in range(20)} | {"l": os.urandom(12 * MIB)}
    root = world.tree(contents)
    command: tuple[str | Path, ...] = (f"{root}/", f"{world.remote}/")
    if way == "down":
        for name, content in contents.items():
            world.sim.add_file(world.sim.project, name, content)
        command = (f"{world.remote}/", f"{world.home}/to/")
    came, loop = asyncio.Event(), asyncio.get_running_loop()

    def look(request: Any) -> None:  # noqa: ANN401 - aiohttp's
        storage = "upload" in request.path or "download_info" in request.path
        if moment == "list" or storage:
            loop.call_soon_threadsafe(came.set)

    world.sim.on_request = look
    task = asyncio.ensure_future(world.copy(*command, part_size=5 * MIB))
    await came.wait()
    world.sim.on_request = None
    if how == "cancel":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.15 if moment == "body" else 0):
                await task
    assert task.done()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert sockets() == []
    assert files_below(world.home) == []
    to = world.home / "to"
    if way == "down" and to.exists():
        here = {name: d for name, d in md5s(to).items() if ".penstock-" not in name}
        assert here.items() <= md5s(root).items()
    report = await world.copy(*command, part_size=5 * MIB)
    assert report.exit_code == 0
    assert files_below(world.home) == []
    if way == "up":
        assert world.remote_md5s() == md5s(root)
        assert not world.sim.open_uploads()
    else:
        assert md5s(to) == md5s(root)
