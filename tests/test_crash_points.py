"""SIGKILL, and a cut of the power, wherever something durable changes, on each platform.

Each run is a process of its own that kills itself at the n-th of its moments
(`penstock.engine.moments`). Then, for what was fetched, the disk becomes what a cut of the power
could make of it: bytes never flushed are lost, and so are names of which no folder was flushed. The
ledger must not claim more than is left. Then the same command is run again.

`PENSTOCK_TESTS_KILLS=every` kills at each occurrence of each moment, in place of the first of each
kind that changes something; `PENSTOCK_TESTS_KILLS=200` is how many random moments are tried.
Kills survived and the share of bytes sent again are recorded as properties (`-o
junit_family=xunit1 --junitxml=FILE`).
"""

import hashlib
import json
import os
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from benches import md5
from crashing import CRASHES, Crash
from forking import Ended, Forge
from penstock.core.model import MIB
from powercut import Disk

KILLS = os.environ.get("PENSTOCK_TESTS_KILLS", "")
# A moment just before one of these leaves what the one before it left.
TELLING = ("asking", "answered", "wrote", "flushed", "renamed", "removed", "committed")
OPTIONS = ("--json", "--progress", "none", "--part-size", "5MiB", "--concurrency", "4")
# Parts in flight at a kill, at most: `--concurrency`, and a part each.
IN_FLIGHT = 4 * 5 * MIB
BOTH_WAYS = [
    (name, way)
    for name in sorted(CRASHES)
    for way in ("up", "down")
    if (name, way) != ("web", "up")
]


Record: TypeAlias = Callable[[str, object], None]


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as opened:
        yield opened


def kind(moment: tuple[Any, ...]) -> str:
    """What a moment is, whatever the ids and numbers in it."""
    name, *what, _thread = moment
    if name in {"asking", "answered"}:
        method, _, url = str(what[0]).partition(" ")
        path = re.sub(r"[^/]*\d[^/]*", "#", url.partition("//")[2].partition("/")[2])
        return f"{name} {method} {path}"
    if name == "flushed":
        return f"{name} {'partial' if str(what[0]).endswith('.part') else 'folder'}"
    return f"{name} {what[0] if name == 'committed' else ''}".strip()


def points(moments: list[tuple[Any, ...]]) -> dict[int, str]:
    """Where to kill, by the number of the moment: once in each kind that changes something."""
    chosen: dict[str, int] = {}
    for number, moment in enumerate(moments, 1):
        if KILLS == "every":
            chosen[f"{number} {kind(moment)}"] = number
            continue
        asks = moment[0] in {"asking", "answered"}
        if moment[0] not in TELLING or (asks and str(moment[1]).startswith("GET")):
            continue
        if "_run" in kind(moment):
            continue
        chosen.setdefault(kind(moment), number)
    return {number: name for name, number in chosen.items()}


@dataclass
class Trial:
    """One tree, one platform and one direction, killed and carried on in a home of its own."""

    crash: Crash
    forge: Forge
    up: bool
    number: int = 0
    kills: int = 0
    moved: int = 0
    wanted: int = 0
    unanswered: int = 0
    """Uploads that were about to be begun at the kill, and whose ids were not committed."""
    names: tuple[str, ...] = ()
    home: Path = field(default_factory=Path)
    root: Path = field(default_factory=Path)
    place: str = ""

    def renew(self, contents: dict[str, bytes]) -> None:
        """Other places, here and there, so that nothing of an earlier trial helps."""
        self.number += 1
        bench = self.crash.bench
        self.home = bench.home / f"home{self.number}"
        self.home.mkdir(parents=True)
        self.place = f"t{self.number}/" if bench.folders else ""
        files = {}
        for name, content in contents.items():
            own = name if bench.folders else f"t{self.number}-{name.replace('/', '-')}"
            files[own] = content + str(self.number).encode()
        self.names = tuple(files)
        self.wanted = sum(map(len, files.values()))
        self.root = bench.tree(files, f"src{self.number}")
        if not self.up:
            for name, content in files.items():
                bench.seed(self.place + name, content)

    @property
    def environ(self) -> dict[str, str]:
        return {
            **self.crash.environ,
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
        }

    @property
    def to(self) -> Path:
        return self.home / "to"

    @property
    def command(self) -> list[str]:
        remote = self.crash.remote
        if self.up:
            return ["copy", f"{self.root}/", f"{remote}{self._sep}{self.place}", *OPTIONS]
        if self.crash.bench.profile == "web":
            sources = [f"{remote}/{self.place}{name}" for name in self.names]
        elif self.place:
            sources = [f"{remote}/{self.place}"]
        else:
            sources = [remote, "--include", f"t{self.number}-*"]
        return ["copy", *sources, f"{self.to}/", *OPTIONS]

    @property
    def _sep(self) -> str:
        return "" if self.crash.remote.endswith(":") else "/"

    async def run(self, *, more: tuple[str, ...] = (), **how: Any) -> Ended:  # noqa: ANN401
        return await self.forge.run(*self.command, *more, environ=self.environ, **how)

    def there(self) -> dict[str, str]:
        """What is at the destination, by name; partials too."""
        if self.up:
            mine = self.crash.there(self.place or f"t{self.number}-")
            return {name.removeprefix(self.place): digest for name, digest in mine.items()}
        return {
            path.relative_to(self.to).as_posix(): md5(path.read_bytes())
            for path in self.to.rglob("*")
            if path.is_file()
        }

    def expected(self) -> dict[str, str]:
        return {name: md5((self.root / name).read_bytes()) for name in self.names}

    def check_ledger(self) -> int:
        """The bytes the ledger claims; each claim of a local file is held against the disk."""
        import blake3

        found = [*(self.home / "state").rglob("ledger.sqlite3")]
        if not found:
            return 0
        proved = self.unanswered = 0
        with closing(sqlite3.connect(found[0])) as ledger:
            try:
                rows = ledger.execute(
                    "SELECT id, state, local_path, partial, size, digests FROM transfers"
                ).fetchall()
                receipts = ledger.execute(
                    "SELECT transfer, start, length, blake3, front FROM receipts"
                ).fetchall()
                (self.unanswered,) = ledger.execute(
                    "SELECT count(*) FROM intents WHERE kind = 'create'"
                ).fetchone()
            except sqlite3.OperationalError:
                return 0  # Killed before it had a table.
        partials, whole = {}, set()
        for number, state, local, partial, size, digests in rows:
            partials[number] = partial
            if state in {"verified", "unverified"}:
                proved += size
                if not self.up:
                    assert md5(Path(local).read_bytes()) == json.loads(digests)["md5"]
            elif state == "arrived":
                # It is about to be given its name, which is looked into before it is believed:
                # a power cut may have taken it.
                whole.add(number)
                at = Path(partial if partial and Path(partial).exists() else local)
                proved += size if self.up or at.exists() else 0
                if not self.up and at.exists():
                    assert md5(at.read_bytes()) == json.loads(digests)["md5"]
        for number, start, length, digest, front in receipts:
            if number in whole:
                continue
            if not self.up:
                with Path(partials[number]).open("rb") as file:
                    if front is None:
                        file.seek(start)
                        assert blake3.blake3(file.read(length)).hexdigest() == digest
                    else:
                        name, _, known = front.partition(":")
                        prefix = hashlib.new(name, file.read(start + length))
                        assert prefix.hexdigest() == known
            proved += length
        return proved

    # -- one kill ---------------------------------------------------------------------------------

    async def survive(self, what: str, *, cut: bool = False, **kill: Any) -> bool:  # noqa: ANN401
        """Whether it was killed; then the same command has ended it well."""
        await self._begin_strangers()
        strangers = self.crash.left_open()
        before = self.crash.moved()
        first = await self.run(**kill)
        assert first.code in {None, 0}, (what, first.err)
        if not self.up and cut:
            Disk.after(first.moments).lose()
        proved = self.check_ledger() if first.code is None else self.wanted
        here = {} if self.up or not self.to.exists() else self.there()
        expected = self.expected()
        published = {name: d for name, d in here.items() if ".penstock-" not in name}
        assert published.items() <= expected.items(), what
        report = self.home / "report.jsonl"
        last = await self.run(more=("--report", str(report)))
        assert last.code == 0, (what, last.err)
        assert "Traceback" not in last.err
        assert self.there() == expected, what
        moved = self.crash.moved() - before
        self._check_open(strangers, last, what)
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        again = sum(line["bytes_sent"] + line["bytes_received"] for line in lines)
        assert again <= self.wanted - proved, what
        # Ends of files are asked for again, a byte each.
        assert moved <= self.wanted + IN_FLIGHT + 100, what
        self.moved += moved
        self.kills += first.code is None
        return first.code is None

    async def _begin_strangers(self) -> None:
        """Somebody else has begun an upload of each name and size."""
        if self.up:
            for name in self.names:
                size = (self.root / name).stat().st_size
                await self.crash.begin_as_a_stranger(self.place + name, size)

    def _check_open(self, strangers: list[object], last: Ended, what: str) -> None:
        """What is open is the strangers', or what nobody can know of: that is told."""
        left = [each for each in self.crash.left_open() if each not in strangers]
        assert all(each in self.crash.left_open() for each in strangers), what
        if self.crash.leaves_what_it_cannot_know and left:
            assert len(left) <= self.unanswered, what
            assert re.search("may be left there|is open on the platform", last.err)
            return
        assert not left, what


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "way"), BOTH_WAYS)
async def test_a_kill_at_any_point_costs_what_was_in_flight_and_nothing_else(
    forge: Forge, tmp_path: Path, platform: str, way: str, record_property: Record
) -> None:
    contents = {"d/large": os.urandom(5 * MIB + 70_000), "small": os.urandom(3_000)}
    async with CRASHES[platform](tmp_path / "bench") as crash:
        trial = Trial(crash, forge, up=way == "up")
        trial.renew(contents)
        whole = await trial.run()
        assert whole.code == 0, whole.err
        assert trial.there() == trial.expected()
        chosen = points(whole.moments)
        for number, what in chosen.items():
            trial.renew(contents)
            name = what.split()[1 if KILLS == "every" else 0]
            on = [] if KILLS == "every" else [name]
            at = number
            if on:
                at = sum(moment[0] == name for moment in whole.moments[:number])
            await trial.survive(what, cut=True, kill_at=at, kill_on=on)
        assert trial.kills >= len(chosen) * 0.9
        assert not crash.violations()
        record_property("kills", trial.kills)
        record_property("sent again", trial.moved / (trial.wanted * len(chosen)) - 1)


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "way"), BOTH_WAYS)
async def test_a_kill_at_a_random_moment_costs_what_was_in_flight_and_nothing_else(
    forge: Forge, tmp_path: Path, platform: str, way: str, record_property: Record
) -> None:
    chance = random.Random(f"{platform} {way}")
    wanted = -(-int(KILLS) // len(BOTH_WAYS)) if KILLS.isdigit() else 2
    contents = {f"d{n % 2}/f{n:02}": chance.randbytes(chance.randrange(200_000)) for n in range(12)}
    contents |= {"large": chance.randbytes(12 * MIB), "empty": b""}
    async with CRASHES[platform](tmp_path / "bench") as crash:
        trial = Trial(crash, forge, up=way == "up")
        trial.renew(contents)
        whole = await trial.run()
        assert whole.code == 0, whole.err
        tried = 0
        while trial.kills < wanted and tried < 3 * wanted:
            tried += 1
            trial.renew(contents)
            at = chance.randrange(1, len(whole.moments))
            await trial.survive(f"moment {at}", cut=tried % 2 == 0, kill_at=at)
        assert trial.kills >= wanted
        assert not crash.violations()
        record_property("kills", trial.kills)
        record_property("sent again", trial.moved / (trial.wanted * tried) - 1)


# The steps of one file in a letter each. Down: made, its folder flushed, written, flushed,
# receipt, arrived, named, verified; ranges go side by side, each flushed before its receipt. Up:
# intent, asked for, its id, parts taken, each before its receipt, intent to complete, asked for, or
# arrived where only a listing proves it; verified. The only part's receipt is one with the intent.
STEPS = {"down": r"md[wfr]+andv", "up": r"iq*bq*p[pr]*(riq+|r?a)v"}
COMMITS = {
    "add_receipt": "r",
    "arrived": "a",
    "end": "v",
    "intend": "i",
    "start_upload": "i",
    "sent_whole": "ri",
    "began": "b",
}
BODY = re.compile(r"(PUT|POST) http://[^/]+/…|PUT http://[^/]+/penstock-tests|POST .*/content")


def steps(moments: list[tuple[Any, ...]], up: bool) -> str:  # noqa: FBT001 - which way
    """What became durable, in its order, a letter each."""
    letters = []
    for name, *what, _thread in moments:
        told = str(what[0])
        if name == "committed":
            letters += [COMMITS.get(each, "") for each in told.split()]
        elif up and name == "asking" and not told.startswith("GET") and not BODY.match(told):
            letters.append("q")
        elif up and name == "answered" and BODY.match(told):
            letters.append("p")
        elif name == "flushed":
            letters.append("f" if told.endswith(".part") else "d")
        elif name in {"made", "wrote", "renamed"}:
            letters.append({"made": "m", "wrote": "w", "renamed": "n"}[name])
    return "".join(letters)


@pytest.mark.parametrize(("platform", "way"), BOTH_WAYS)
async def test_each_step_is_durable_before_the_next_one_counts(
    forge: Forge, tmp_path: Path, platform: str, way: str
) -> None:
    async with CRASHES[platform](tmp_path / "bench") as crash:
        trial = Trial(crash, forge, up=way == "up")
        trial.renew({"large": os.urandom(5 * MIB + 70_000)})
        trial.to.mkdir()
        ended = await trial.run(more=("--concurrency", "1"))
        assert ended.code == 0, ended.err
        found = steps(ended.moments, up=way == "up")
        assert re.search(STEPS[way] + "$", found), found
        for number, letter in enumerate(found):
            before = found[: number + 1]
            assert letter != "r" or before.count("r") <= before.count("f" if way == "down" else "p")
