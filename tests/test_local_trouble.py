"""Trouble on this side, met by runs of the command: each a sentence, and a known outcome."""

import asyncio
import os
import re
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from benches import md5
from crashing import SevenBridgesCrash, seven_bridges
from forking import Ended, Forge
from penstock.core.model import MIB

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as opened:
        yield opened


class Shell:
    """`penstock copy` at a simulated platform, in a home of its own."""

    def __init__(self, forge: Forge, crash: SevenBridgesCrash, home: Path) -> None:
        self.forge, self.crash, self.home = forge, crash, home
        self.sim = crash._sim
        self.remote = f"{crash.remote}/"
        self.to = home / "to"

    @property
    def state(self) -> Path:
        return self.home / "state" / "penstock"

    @property
    def ledger(self) -> Path:
        (found,) = (self.home / "state").rglob("ledger.sqlite3")
        return found

    async def copy(self, *arguments: str | Path, **how: Any) -> Ended:  # noqa: ANN401
        ended = await self.forge.run(
            "copy",
            *arguments,
            "--json",
            "--progress",
            "none",
            environ=self.crash.environ,
            **how,
        )
        assert "Traceback" not in ended.err, ended.err
        assert "defect" not in ended.err, ended.err
        return ended

    def tree(self, files: dict[str, bytes]) -> Path:
        return self.crash.bench.tree(files)

    def seed(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            self.crash.bench.seed(name, content)

    def there(self) -> dict[str, str]:
        return self.crash.there("")

    def here(self, root: Path | None = None) -> dict[str, str]:
        root = root or self.to
        return {
            path.relative_to(root).as_posix(): md5(path.read_bytes())
            for path in root.rglob("*")
            if path.is_file()
        }


def md5s(files: dict[str, bytes]) -> dict[str, str]:
    return {name: md5(content) for name, content in files.items()}


@pytest.fixture
async def shell(forge: Forge) -> AsyncIterator[Shell]:
    # Not below pytest's own folder, which other users cannot pass.
    with tempfile.TemporaryDirectory(prefix="penstock-") as name:
        home = Path(name)
        home.chmod(0o755)
        async with seven_bridges(home) as crash:
            assert isinstance(crash, SevenBridgesCrash)
            yield Shell(forge, crash, home)
            assert not crash.violations()


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own with so much room; called with a size, it has that."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", at], check=True
    )

    def resize(to: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{to}", at], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", at], check=True)


# -- the ledger ------------------------------------------------------------------------------


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to be looked at " * 100)


def break_pages(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(1, size // 4096, 2):
            file.seek(page * 4096)
            file.write(os.urandom(4096))


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("break_it", [overwrite, break_pages, make_newer])
async def test_a_ledger_that_cannot_be_used_is_begun_anew_and_nothing_moves_again(
    shell: Shell, way: str, break_it: Callable[[Path], None]
) -> None:
    files = {f"f{n}": b"%d" % n * 1000 for n in range(60)}
    command: tuple[str | Path, ...] = (f"{shell.tree(files)}/", shell.remote)
    if way == "down":
        shell.seed(files)
        command = (shell.remote, f"{shell.to}/")
    assert (await shell.copy(*command)).code == 0
    break_it(shell.ledger)
    moved = shell.crash.moved()
    ended = await shell.copy(*command)
    assert ended.code == 3, ended.err
    assert "--rebuild-ledger" in ended.err
    again = await shell.copy(*command, "--rebuild-ledger")
    assert again.code == 0, again.err
    assert again.summary["skipped"] == len(files)
    assert "the old one is kept as" in again.err
    assert shell.crash.moved() - moved <= len(files)  # A byte each, for what the storage says.
    assert len(list(shell.ledger.parent.glob("*.aside-*"))) >= 1
    last = await shell.copy(*command)
    assert (last.code, last.summary["skipped"]) == (0, len(files))


async def test_a_damaged_ledger_still_tells_which_uploads_are_ours(shell: Shell) -> None:
    root = shell.tree({"large": os.urandom(12 * MIB)})
    command = (f"{root}/", shell.remote, "--part-size", "5MiB")
    killed = await shell.copy(*command, kill_at=2, kill_on=["wrote", "answered"])
    for at in range(3, 12):
        if killed.code is None and shell.sim.open_uploads():
            break
        killed = await shell.copy(*command, kill_at=at, kill_on=["answered"])
    assert shell.sim.open_uploads()
    with closing(sqlite3.connect(shell.ledger)) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = ledger.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
    with shell.ledger.open("r+b") as file:
        file.seek((page[0] - 1) * 4096)
        file.write(os.urandom(4096))
    again = await shell.copy(*command, "--rebuild-ledger")
    assert again.code == 0, again.err
    assert "unfinished uploads were read out of it" in again.err
    assert not shell.sim.open_uploads()
    assert shell.there() == shell.here(root)


async def test_a_ledger_is_not_set_aside_under_a_run_that_has_it_open(shell: Shell) -> None:
    from penstock.engine.ledger import Ledger

    root = shell.tree({"a": b"1"})
    assert (await shell.copy(f"{root}/", shell.remote)).code == 0
    async with Ledger(shell.ledger.parent, wall=lambda: 1.0):
        with closing(sqlite3.connect(shell.ledger)) as ledger:
            ledger.execute("PRAGMA user_version = 999")
        ended = await shell.copy(f"{root}/", shell.remote, "--rebuild-ledger")
    assert ended.code == 3
    assert "other runs have it open" in ended.err
    assert not list(shell.ledger.parent.glob("*.aside-*"))


@needs_root
async def test_a_ledger_on_a_full_disk_is_said_and_carries_on_when_there_is_room(
    shell: Shell,
) -> None:
    root = shell.tree({f"f{n:03}": b"%d" % n for n in range(200)})
    state = shell.home / "small"
    with small_disk(state, "128k") as resize:
        command = (f"{root}/", shell.remote, "--state", state / "s")
        ended = await shell.copy(*command)
        assert ended.code == 3, ended.err
        assert re.search("no room left for the ledger|No space left", ended.err)
        assert "run the same command again" in ended.err
        resize("size=64m")
        again = await shell.copy(*command)
        assert again.code == 0, again.err
    assert shell.there() == shell.here(root)
    assert not shell.sim.open_uploads()


async def test_a_state_folder_that_cannot_be_written_is_a_sentence(shell: Shell) -> None:
    root = shell.tree({"a": b"1"})
    locked = shell.home / "locked"
    locked.mkdir(mode=0o555)
    ended = await shell.copy(f"{root}/", shell.remote, "--state", locked / "s", unprivileged=True)
    assert ended.code == 2, ended.err
    assert "cannot keep a ledger" in ended.err
    assert "--state" in ended.err


# -- the destination -------------------------------------------------------------------------


@needs_root
async def test_a_full_destination_stops_the_run_and_carries_on_when_there_is_room(
    shell: Shell,
) -> None:
    files = {"large": os.urandom(12 * MIB), "small": b"s" * 1000}
    shell.seed(files)
    with small_disk(shell.to, "8m") as resize:
        command = (shell.remote, f"{shell.to}/", "--part-size", "5MiB")
        ended = await shell.copy(*command)
        assert ended.code == 3, ended.err
        assert "no room left" in ended.err
        assert "run the same command" in ended.err
        assert not (shell.to / "large").exists()
        resize("size=32m")
        again = await shell.copy(*command)
        assert again.code == 0, again.err
        assert shell.here() == md5s(files)


@needs_root
async def test_room_that_is_not_there_is_found_before_bytes_move(shell: Shell) -> None:
    files = {"large": os.urandom(MIB) * 48}
    shell.seed(files)
    with small_disk(shell.to, "40m") as resize:
        for options in ([], ["--part-size", "5MiB"], ["--part-size", "64MiB"]):
            ended = await shell.copy(shell.remote, f"{shell.to}/", *options)
            assert ended.code == 3, ended.err
            assert "no room left" in ended.err
            assert shell.crash.moved() < 10, "bytes of probes at most"
            assert sum(path.stat().st_blocks for path in shell.to.iterdir()) == 0
        resize("size=64m")
        again = await shell.copy(shell.remote, f"{shell.to}/")
        assert again.code == 0, again.err
        assert shell.here() == md5s(files)


@needs_root
async def test_a_disk_that_fills_while_it_is_written_keeps_what_was_proved(shell: Shell) -> None:
    files = {f"f{n:02}": os.urandom(MIB) for n in range(12)}
    shell.seed(files)
    with small_disk(shell.to, "6m") as resize:
        ended = await shell.copy(shell.remote, f"{shell.to}/", "--concurrency", "2")
        assert ended.code == 3, ended.err
        here = {name: d for name, d in shell.here().items() if ".penstock-" not in name}
        assert here.items() <= md5s(files).items()
        moved = shell.crash.moved()
        resize("size=32m")
        again = await shell.copy(shell.remote, f"{shell.to}/")
        assert again.code == 0, again.err
        assert shell.crash.moved() - moved <= (12 - len(here)) * MIB
        assert shell.here() == md5s(files)


@needs_root
async def test_a_read_only_destination_is_said_once(shell: Shell) -> None:
    shell.seed({f"f{n:02}": b"x" for n in range(30)})
    with small_disk(shell.to, "8m") as resize:
        resize("ro")
        ended = await shell.copy(shell.remote, f"{shell.to}/")
        assert ended.code == 3, ended.err
        assert ended.err.count("Read-only file system") <= 11
        resize("rw")
        assert (await shell.copy(shell.remote, f"{shell.to}/")).code == 0


async def test_a_destination_without_permission_is_said(shell: Shell) -> None:
    shell.seed({"d/a": b"1", "b": b"2"})
    (shell.to / "d").mkdir(parents=True)
    (shell.to / "d").chmod(0o555)
    ended = await shell.copy(shell.remote, f"{shell.to}/", unprivileged=True)
    (shell.to / "d").chmod(0o755)
    assert ended.code == 1, ended.err
    assert "Permission denied" in ended.err
    assert shell.here() == md5s({"b": b"2"})


async def test_a_file_where_a_folder_is_needed_fails_alone(shell: Shell) -> None:
    shell.seed({"d/a": b"1", "b": b"2"})
    shell.to.mkdir()
    (shell.to / "d").write_bytes(b"mine")
    ended = await shell.copy(shell.remote, f"{shell.to}/")
    assert (ended.code, ended.summary["failed"]) == (1, 1), ended.err
    assert shell.here() == md5s({"d": b"mine", "b": b"2"})


async def test_a_folder_where_a_file_should_be_is_a_conflict(shell: Shell) -> None:
    shell.seed({"a": b"1", "b": b"2"})
    (shell.to / "a").mkdir(parents=True)
    ended = await shell.copy(shell.remote, f"{shell.to}/", "--on-conflict", "overwrite")
    assert (ended.code, ended.summary["failed"]) == (1, 1), ended.err
    assert "is a folder" in ended.err
    assert shell.here() == md5s({"b": b"2"})


async def test_a_path_too_long_for_this_system_fails_alone(shell: Shell) -> None:
    deep = "/".join("d" * 200 for _ in range(24))
    shell.seed({f"{deep}/a": b"1", "b": b"2"})
    ended = await shell.copy(shell.remote, f"{shell.to}/")
    assert (ended.code, ended.summary["failed"]) == (1, 1), ended.err
    assert "too long" in ended.err
    assert (shell.to / "b").read_bytes() == b"2"


async def test_a_link_at_the_destination_is_replaced_and_what_it_led_to_is_not_touched(
    shell: Shell,
) -> None:
    shell.seed({"a": b"theirs"})
    shell.to.mkdir()
    outside = shell.home / "outside"
    outside.write_bytes(b"mine")
    (shell.to / "a").symlink_to(outside)
    ended = await shell.copy(shell.remote, f"{shell.to}/")
    assert ended.code == 1
    ended = await shell.copy(shell.remote, f"{shell.to}/", "--on-conflict", "overwrite")
    assert ended.code == 0, ended.err
    assert outside.read_bytes() == b"mine"
    assert not (shell.to / "a").is_symlink()
    assert (shell.to / "a").read_bytes() == b"theirs"


async def test_a_link_that_leads_nowhere_is_not_written_through(shell: Shell) -> None:
    shell.seed({"a": b"theirs"})
    shell.to.mkdir()
    (shell.to / "a").symlink_to(shell.home / "nowhere")
    ended = await shell.copy(shell.remote, f"{shell.to}/", "--on-conflict", "overwrite")
    assert ended.code == 0, ended.err
    assert not (shell.home / "nowhere").exists()
    assert (shell.to / "a").read_bytes() == b"theirs"


# -- the source ------------------------------------------------------------------------------


async def test_links_and_what_is_no_file_in_a_source(shell: Shell) -> None:
    root = shell.tree({"real": b"r", "d/inner": b"i"})
    outside = shell.home / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "x").write_bytes(b"x")
    (outside / "sub" / "y").write_bytes(b"y")
    (root / "in").symlink_to(root / "real")
    (root / "out").symlink_to(outside / "x")
    (root / "tree").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "d" / "up").symlink_to("..")
    (root / "self").symlink_to(root / "self")
    (root / "dangling").symlink_to(root / "gone")
    os.mkfifo(root / "fifo")
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        here = Path.cwd()
        os.chdir(root)
        bound.bind("socket")
        os.chdir(here)
        if os.geteuid() == 0:
            os.mknod(root / "device", 0o600 | 0o020000, os.makedev(1, 5))
        plain = await asyncio.wait_for(shell.copy(f"{root}/", shell.remote), 30)
        followed = await asyncio.wait_for(shell.copy(f"{root}/", shell.remote, "--follow"), 30)
    wanted = {"real": b"r", "d/inner": b"i", "in": b"r", "out": b"x"}
    assert plain.code in {0, 1}
    assert followed.code == plain.code
    more = {"tree/x": b"x", "tree/sub/y": b"y"}
    assert shell.there() == md5s(wanted | more)


async def test_a_fifo_named_as_a_source_is_a_sentence_and_is_not_waited_for(shell: Shell) -> None:
    os.mkfifo(shell.home / "fifo")
    ended = await asyncio.wait_for(shell.copy(shell.home / "fifo", shell.remote), 30)
    assert ended.code in {1, 2}, ended.err
    assert "fifo" in ended.err


async def test_a_source_without_permission_fails_alone(shell: Shell) -> None:
    root = shell.tree({"a": b"1", "b": b"2", "d/c": b"3"})
    (root / "b").chmod(0o000)
    (root / "d").chmod(0o000)
    ended = await shell.copy(f"{root}/", shell.remote, unprivileged=True)
    (root / "d").chmod(0o755)
    assert ended.code == 1, ended.err
    assert ended.summary["failed"] == 2
    assert shell.there() == md5s({"a": b"1"})
    assert "ermission denied" in ended.err


def vanish(path: Path) -> None:
    path.unlink()


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [vanish, grow, become_a_folder, become_a_fifo])
@pytest.mark.parametrize("when", ["/upload/multipart", "/part/2"])
async def test_a_source_that_is_another_while_it_is_sent_fails_alone(
    shell: Shell, change: Callable[[Path], None], when: str
) -> None:
    root = shell.tree({"a": os.urandom(12 * MIB), "b": b"2"})
    changed: list[str] = []

    def look(request: Any) -> None:  # noqa: ANN401 - aiohttp's
        if when in request.path and not changed:
            changed.append(request.path)
            change(root / "a")

    shell.sim.on_request = look
    ended = await asyncio.wait_for(
        shell.copy(f"{root}/", shell.remote, "--part-size", "5MiB", "--concurrency", "1"), 30
    )
    shell.sim.on_request = None
    assert changed
    assert ended.code == 1, ended.err
    assert ended.summary["failed"] == 1
    assert shell.there() == md5s({"b": b"2"})
    assert not shell.sim.open_uploads()


async def test_a_sparse_file_arrives_as_its_bytes_are(shell: Shell) -> None:
    root = shell.home / "src"
    root.mkdir()
    with (root / "sparse").open("wb") as file:
        file.seek(9 * MIB)
        file.write(b"end")
        file.truncate(11 * MIB)
    assert (await shell.copy(f"{root}/", shell.remote, "--part-size", "5MiB")).code == 0
    assert (await shell.copy(shell.remote, f"{shell.to}/", "--part-size", "5MiB")).code == 0
    assert shell.here() == shell.here(root) == shell.there()


# -- limits and neighbours -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", ["up", "down"])
async def test_few_descriptors_bound_what_is_open_and_break_nothing(shell: Shell, way: str) -> None:
    files = {f"f{n:04}": b"%d" % n for n in range(300)}
    files |= {"large": os.urandom(20 * MIB)}
    command: tuple[str | Path, ...] = (f"{shell.tree(files)}/", shell.remote)
    if way == "down":
        shell.seed(files)
        command = (shell.remote, f"{shell.to}/")
    ended = await shell.copy(*command, "--part-size", "5MiB", open_files=64)
    assert ended.code == 0, ended.err
    assert (shell.there() if way == "up" else shell.here()) == md5s(files)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "runs"), [("up", 2), ("down", 2), ("up", 16), ("down", 16)])
async def test_runs_beside_each_other_each_take_what_is_unclaimed(
    shell: Shell, way: str, runs: int
) -> None:
    files = {f"f{n:03}": b"%d" % n for n in range(60)} | {"large": os.urandom(11 * MIB)}
    command: tuple[str | Path, ...] = ("copy", f"{shell.tree(files)}/", shell.remote)
    if way == "down":
        shell.seed(files)
        command = ("copy", shell.remote, f"{shell.to}/")
    command = (*command, "--json", "--progress", "none", "--part-size", "5MiB")
    ended = await shell.forge.run_all([(command, shell.crash.environ)] * runs)
    assert [each.code for each in ended] == [0] * runs, [each.err for each in ended]
    assert sum(each.summary["verified"] for each in ended) == len(files)
    assert all(each.summary["failed"] == 0 for each in ended)
    assert (shell.there() if way == "up" else shell.here()) == md5s(files)
    assert not shell.sim.open_uploads()
    wanted = sum(map(len, files.values()))
    assert shell.crash.moved() <= wanted + runs * len(files)
    path = "/complete" if way == "up" else "/download_info"
    assert len(shell.sim.calls(path=path)) == len(files)


async def test_a_run_says_who_moves_what_it_waits_for(shell: Shell) -> None:
    from penstock.core.model import Direction, Identity
    from penstock.engine.ledger import Ledger

    root = shell.tree({"a": b"1", "b": b"2"})
    assert (await shell.copy(root / "b", shell.remote)).code == 0
    with closing(sqlite3.connect(shell.ledger)) as ledger:
        found = ledger.execute("SELECT endpoint, container, remote_path FROM transfers").fetchone()
    endpoint, container, path = found
    held = Identity(Direction.UP, endpoint, container, path[:-1] + "a", str(root / "a"))
    async with Ledger(shell.ledger.parent, wall=lambda: 1.0) as holder:
        await holder.claim(held, "another")
        waiting = asyncio.ensure_future(shell.copy(f"{root}/", shell.remote))
        while not waiting.done() and "other runs" not in shell.forge.err_so_far():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
        assert not waiting.done()
    ended = await waiting
    assert ended.code == 0, ended.err
    assert f"is being moved by other runs (process {os.getpid()})" in ended.err
    assert shell.there() == md5s({"a": b"1", "b": b"2"})
