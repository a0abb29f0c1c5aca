"""Threads awaited to their end, slices, digests, and the order that makes a file durable."""


# ruff: noqa: ASYNC110 - what is waited for happens in a thread, or in code that tells nobody

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock.core.errors import (
    DestinationFull,
    DestinationRefused,
    SourceChanged,
    SourceMissing,
)
from penstock.core.model import MIB, FileSlice
from penstock.engine import files
from penstock.engine.digests import Digests
from penstock.engine.files import SliceWriter, hop
from penstock.engine.reading import reading
from penstock.engine.reserving import open_partial
from penstock.simulators import SevenBridges, SevenBridgesSettings


class Gate:
    """A function for a thread that is at work until it is told to end."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()
        self.ended = False

    def __call__(self) -> int:
        self.began.set()
        assert self.go.wait(10)
        self.ended = True
        return 7


async def _began(gate: Gate) -> None:
    while not gate.began.is_set():
        await asyncio.sleep(0)


# -- hops ----------------------------------------------------------------------------------


async def test_a_hop_returns_what_the_function_returns() -> None:
    gate = Gate()
    gate.go.set()
    assert await hop(gate) == 7


async def test_a_hop_raises_what_the_function_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        await hop(lambda: 1 // 0)


async def test_a_hop_cancelled_by_asyncio_returns_only_when_its_thread_is_through() -> None:
    gate = Gate()
    task = asyncio.ensure_future(hop(gate))
    await _began(gate)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.005)
        assert not task.done()
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.ended


async def test_a_hop_cancelled_by_anyio_returns_only_when_its_thread_is_through() -> None:
    gate = Gate()
    ended: list[bool] = []

    async def work() -> None:
        try:
            await hop(gate)
        finally:
            ended.append(gate.ended)

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await _began(gate)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(0.005)
        assert ended == []
        gate.go.set()
    assert ended == [True]


async def test_a_hop_raises_the_cancellation_that_anyio_meant_for_it() -> None:
    """Else a loop of hops with data at hand never ends: none of its awaits is a checkpoint."""
    gate, returned = Gate(), False

    async def work() -> None:
        nonlocal returned
        await hop(gate)
        returned = True

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await _began(gate)
        group.cancel_scope.cancel()
        gate.go.set()
    assert not returned


async def test_a_failure_in_a_cancelled_hop_goes_unseen_and_unwarned() -> None:
    gate = Gate()

    def fail() -> None:
        gate()
        raise OSError

    task = asyncio.ensure_future(hop(fail))
    await _began(gate)
    task.cancel()
    await asyncio.sleep(0)
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- slices --------------------------------------------------------------------------------


async def _read(piece: FileSlice, digests: Digests) -> bytes:
    async with reading(piece, digests) as pieces:
        return b"".join([data async for data in pieces])


async def test_a_slice_is_read_from_its_offset_and_digested(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(os.urandom(3 * MIB))
    digests = Digests(("md5",))
    data = await _read(FileSlice(str(path), MIB - 3, MIB + 9), digests)
    assert data == path.read_bytes()[MIB - 3 : 2 * MIB + 6]
    assert digests.hex() == {"md5": hashlib.md5(data, usedforsecurity=False).hexdigest()}


async def test_a_slice_beyond_the_end_says_that_the_source_changed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    with pytest.raises(SourceChanged, match="shorter"):
        await _read(FileSlice(str(path), 2, 5), Digests(()))


async def test_a_source_that_is_gone_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="does not exist"):
        await _read(FileSlice(str(tmp_path / "no"), 0, 1), Digests(()))
    with pytest.raises(SourceChanged):
        await _read(FileSlice(str(tmp_path), 0, 1), Digests(()))


async def test_reading_cancelled_while_it_opens_leaves_no_descriptor(
    tmp_path: Path, open_descriptors: Callable[[Path], list[str]]
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    for turns in range(4):
        task = asyncio.ensure_future(_read(FileSlice(str(path), 0, 1), Digests(())))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_descriptors(tmp_path) == []


async def test_a_pipe_in_the_place_of_a_source_is_not_waited_for(
    tmp_path: Path, open_descriptors: Callable[[Path], list[str]]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceChanged, match="no file any more"):
        await _read(FileSlice(str(tmp_path / "pipe"), 0, 1), Digests(()))
    assert open_descriptors(tmp_path) == []


async def test_a_writer_touches_its_slice_alone(
    tmp_path: Path, open_descriptors: Callable[[Path], list[str]]
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"." * 10)
    writer = SliceWriter(FileSlice(str(path), 3, 4), ("md5",))
    assert open_descriptors(tmp_path) == []
    await writer.write([b"a", b"bc"])
    await writer.write([b"d"])
    await writer.close()
    await writer.close()
    assert path.read_bytes() == b"...abcd..."
    assert writer.written == 4
    assert writer.hex() == {"md5": hashlib.md5(b"abcd", usedforsecurity=False).hexdigest()}
    assert open_descriptors(tmp_path) == []


async def test_a_writer_makes_no_file(tmp_path: Path) -> None:
    writer = SliceWriter(FileSlice(str(tmp_path / "no"), 0, 4), ())
    with pytest.raises(DestinationRefused):
        await writer.write([b"a"])
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300), st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_writers_in_any_order_make_the_file_that_readers_find(
    content: bytes, first: int, second: int, step: int
) -> None:
    import tempfile

    cuts = sorted({0, min(first, len(content)), min(second, len(content)), len(content)})

    async def work(path: str) -> list[bytes]:
        slices = [FileSlice(path, a, b - a) for a, b in pairwise(cuts)]
        for piece in reversed(slices):
            writer = SliceWriter(piece, ())
            data = content[piece.offset : piece.offset + piece.length]
            for at in range(0, len(data), step):
                await writer.write([data[at : at + step]])
            await writer.close()
        return [await _read(piece, Digests(())) for piece in slices]

    with tempfile.NamedTemporaryFile() as file:
        file.truncate(len(content))
        assert b"".join(asyncio.run(work(file.name))) == content
        assert Path(file.name).read_bytes() == content


# -- digests -------------------------------------------------------------------------------


async def test_a_file_is_digested_in_hops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A constant, made small: 64 MiB of real bytes would prove no more.
    monkeypatch.setattr(files, "DIGEST_AT_ONCE", 5)
    path = tmp_path / "f"
    path.write_bytes(b"0123456789abc")
    found = await files.digest_file(str(path), 12, ("md5", "sha1"))
    assert found["sha1"] == hashlib.sha1(b"0123456789ab", usedforsecurity=False).hexdigest()
    assert sorted(found) == ["md5", "sha1"]


async def test_a_file_that_shrinks_while_it_is_digested_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    with pytest.raises(SourceChanged, match="shorter"):
        await files.digest_file(str(path), 4, ("md5",))
    path.unlink()
    with pytest.raises(SourceMissing):
        await files.digest_file(str(path), 4, ("md5",))


@pytest.mark.parametrize(("size", "blocks"), [(0, 1), (1, 1), (4, 1), (5, 2), (8, 2)])
async def test_blocks_tile_a_file(tmp_path: Path, size: int, blocks: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * size)
    found = await files.block_md5s(str(path), size, 4)
    assert len(found) == blocks
    last = b"x" * (size - 4 * (blocks - 1))
    assert found[-1] == hashlib.md5(last, usedforsecurity=False).hexdigest()


async def test_a_source_at_rest_is_unchanged_and_a_touched_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    since = files.fingerprint(str(path))
    await files.unchanged(str(path), since)
    os.utime(path, ns=(0, 1))
    with pytest.raises(SourceChanged, match="at rest"):
        await files.unchanged(str(path), since)


async def test_a_source_that_was_replaced_alike_has_changed(tmp_path: Path) -> None:
    path, other = tmp_path / "f", tmp_path / "g"
    path.write_bytes(b"abc")
    since = files.fingerprint(str(path))
    other.write_bytes(b"abd")
    os.utime(other, ns=(since.mtime_ns or 0, since.mtime_ns or 0))
    other.replace(path)
    with pytest.raises(SourceChanged):
        await files.unchanged(str(path), since)


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_the_run_and_says_what_to_do(number: int) -> None:
    error = files.local_error(OSError(number, os.strerror(number)), "/d/f")
    assert isinstance(error, DestinationFull)
    assert "/d/f" in str(error)
    assert "free some space" in str(error)


def test_other_trouble_at_a_destination_is_one_file_s() -> None:
    assert isinstance(files.local_error(PermissionError(13, "no"), "/d/f"), DestinationRefused)


async def test_a_disk_that_is_full_is_told_by_the_write() -> None:
    writer = SliceWriter(FileSlice("/dev/full", 0, 4), ())
    with pytest.raises(DestinationFull):
        await writer.write([b"abcd"])
    await writer.close()


# -- partials ------------------------------------------------------------------------------


def test_a_partial_is_made_with_its_folders_and_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / ".f"
    assert open_partial(str(path), 3 * MIB) == 0
    found = path.stat()
    assert found.st_size == 3 * MIB
    assert found.st_blocks * 512 >= 3 * MIB, "blocks are reserved, so that a full disk shows now"


def test_a_partial_keeps_the_bytes_it_has(tmp_path: Path) -> None:
    path = tmp_path / ".f"
    path.write_bytes(b"abc")
    assert open_partial(str(path), 5) == 3
    assert path.read_bytes() == b"abc\0\0"
    assert open_partial(str(path), 5) == 5
    assert path.read_bytes() == b"abc\0\0"
    assert open_partial(str(path), 2) == 5
    assert path.read_bytes() == b"ab"
    assert open_partial(str(path), 0) == 2
    assert path.read_bytes() == b""


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [_link, os.mkfifo, Path.mkdir, _socket])
def test_a_partial_goes_through_nothing_that_is_no_file(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    make(tmp_path / ".f")
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's
        open_partial(str(tmp_path / ".f"), 5)
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_a_partial_below_a_file_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(OSError):  # noqa: PT011
        open_partial(str(tmp_path / "f" / ".g"), 5)


def test_publishing_takes_the_name_and_the_time(tmp_path: Path) -> None:
    (tmp_path / ".f").write_bytes(b"abc")
    (tmp_path / "f").write_bytes(b"old")
    found = files.place(str(tmp_path / ".f"), str(tmp_path / "f"), 1_000_000_000.0)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"abc"
    assert found == files.fingerprint(str(tmp_path / "f"))
    assert found.mtime_ns == 1_000_000_000 * 10**9


async def test_what_is_removed_twice_is_gone(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    await files.remove(str(tmp_path / "f"))
    await files.remove(str(tmp_path / "f"))
    assert list(tmp_path.iterdir()) == []


async def test_a_file_may_be_removed_by_who_is_cancelled(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await files.remove(str(tmp_path / "f"))
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_cannot_be_removed_is_still_awaited(tmp_path: Path) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        await files.remove(str(tmp_path))


# -- order ---------------------------------------------------------------------------------


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The calls that make a file durable, in order, with the name they are about.

    Patched because nothing else shows them: `fsync` raises no audit event, and leaves no trace on
    a disk that does not lose power.
    """
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))  # noqa: PTH115

    def traced_replace(old: str, new: str) -> None:
        replace(old, new)
        calls.append(("rename", Path(new).name))

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    return calls


@pytest.mark.parametrize("size", [10, 20 * MIB])
async def test_a_download_is_flushed_then_renamed_then_its_folder_flushed(
    tmp_path: Path, traced: list[tuple[str, str]], size: int
) -> None:
    async with SevenBridges(SevenBridgesSettings()) as sim:
        sim.add_file(sim.project, "a.bin", os.urandom(size))
        report = await penstock.copy(
            f"cavatica:{sim.project}/a.bin",
            f"{tmp_path}/down/",
            part_size="8MiB",
            environ={
                "PENSTOCK_CAVATICA_ENDPOINT": sim.endpoint,
                "PENSTOCK_CAVATICA_TOKEN": sim.token,
                "PENSTOCK_STATE": str(tmp_path / "state"),
                "PENSTOCK_STATE_DIR": str(tmp_path / "state"),
                "HOME": str(tmp_path),
                "XDG_STATE_HOME": str(tmp_path / "xdg"),
            },
        )
    assert report.ok
    at = traced.index(("rename", "a.bin"))
    assert [name for what, name in traced[:at] if what == "flush" and name.endswith(".part")]
    assert not [name for what, name in traced[at:] if name.endswith(".part")]
    assert ("flush", "down") in traced[at:]


def test_a_new_folder_s_name_is_flushed_in_the_one_above(
    tmp_path: Path, traced: list[tuple[str, str]]
) -> None:
    files.make_folder(tmp_path / "a" / "b")
    assert traced == [("flush", tmp_path.name), ("flush", "a")]
    files.make_folder(tmp_path / "a" / "b")
    assert len(traced) == 2
