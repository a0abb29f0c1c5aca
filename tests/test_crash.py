"""SIGKILL at random moments, and at chosen ones: the same command ends what was begun."""

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.core.model import MIB
from worlds import World, md5s

KILLS = 5


async def penstock_copy(
    world: World, *arguments: str, until: Callable[[], bool] | None = None
) -> dict[str, Any] | None:
    """The summary of a run of the command; None where it was killed as soon as `until` held."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "penstock",
        "copy",
        "--json",
        "--progress",
        "none",
        *arguments,
        env={**os.environ, **world.environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ended = asyncio.create_task(process.communicate())
    try:
        while until is not None and not ended.done():
            if until():
                process.kill()
                await ended
                return None
            await asyncio.sleep(0.005)
        out, err = await ended
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    summary: dict[str, Any] = json.loads(out)
    return summary


def moved(world: World) -> int:
    return sum(e.bytes_in + e.bytes_out for e in world.sim.log if e.host == "storage")


def after_more_bytes(world: World, size: int) -> Callable[[], bool]:
    goal = moved(world) + size
    return lambda: moved(world) >= goal


def after_requests(world: World, count: int) -> Callable[[], bool]:
    goal = len(world.sim.log) + count
    return lambda: len(world.sim.log) >= goal


def make_tree(world: World, chance: random.Random) -> Path:
    files = {f"d{n % 3}/f{n:02}": chance.randbytes(chance.randrange(200_000)) for n in range(30)}
    files["large"] = chance.randbytes(30 * MIB)
    files["empty"] = b""
    return world.tree(files)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_uploads_killed_at_random_moments_end_whole(
    make_world: Callable[..., Any], seed: int
) -> None:
    world: World = await make_world(bandwidth=40 * MIB)
    chance = random.Random(seed)
    root = make_tree(world, chance)
    command = (str(root), f"{world.remote}/in", "--part-size", "5MiB", "--concurrency", "4")
    kills = 0
    for _ in range(KILLS):
        until = (
            after_requests(world, chance.randrange(1, 60))
            if chance.random() < 0.5
            else after_more_bytes(world, chance.randrange(12 * MIB))
        )
        if await penstock_copy(world, *command, until=until) is not None:
            break
        kills += 1
    summary = await penstock_copy(world, *command)
    assert summary is not None
    assert summary["failed"] == 0
    assert world.remote_md5s() == {f"in/{name}": digest for name, digest in md5s(root).items()}
    assert not world.sim.open_uploads()
    # What was in flight at a kill: four parts at most.
    assert moved(world) <= sum(map(_size, root.rglob("*"))) + kills * 4 * 5 * MIB
    again = await penstock_copy(world, *command)
    assert again is not None
    assert again["skipped"] == 32


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_downloads_killed_at_random_moments_end_whole(
    make_world: Callable[..., Any], seed: int
) -> None:
    world: World = await make_world(bandwidth=40 * MIB)
    chance = random.Random(100 + seed)
    root = make_tree(world, chance)
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        relative = path.relative_to(root).as_posix()
        world.sim.add_file(world.sim.project, relative, path.read_bytes(), part_size=8 * MIB)
    to = world.home / "to"
    command = (f"{world.remote}/", str(to), "--concurrency", "4")
    wanted, kills = md5s(root), 0
    for _ in range(KILLS):
        until = (
            after_requests(world, chance.randrange(1, 50))
            if chance.random() < 0.5
            else after_more_bytes(world, chance.randrange(12 * MIB))
        )
        if await penstock_copy(world, *command, until=until) is not None:
            break
        kills += 1
        here = md5s(to) if to.exists() else {}
        published = {name: d for name, d in here.items() if ".penstock-" not in name}
        assert published.items() <= wanted.items()
    summary = await penstock_copy(world, *command)
    assert summary is not None
    assert summary["failed"] == 0
    assert md5s(to) == wanted
    assert moved(world) <= sum(map(_size, root.rglob("*"))) + kills * 4 * 8 * MIB + 64


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@pytest.mark.parametrize("step", ["create", "part", "complete"])
async def test_a_kill_right_after_a_step_leaves_no_upload_open(world: World, step: str) -> None:
    # The answer is on its way, or just read, when the process dies.
    root = world.tree({"f": b"x" * 1000})
    path = {"create": "/upload/multipart", "part": "/part/1", "complete": "/complete"}[step]
    command = (str(root), f"{world.remote}/")

    def reached() -> bool:
        return any(e.path.endswith(path) for e in world.sim.log)

    await penstock_copy(world, *command, until=reached)
    summary = await penstock_copy(world, *command)
    assert summary is not None
    assert summary["failed"] == 0
    assert not world.sim.open_uploads()
    assert world.remote_md5s() == md5s(root)
