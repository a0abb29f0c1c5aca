"""`penstock workspaces` as a process, against a simulated cloud behind a socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from penstock.simulators import Surf, SurfSettings
from serving import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cloud:
    """A simulator in a thread, and a shell whose profile `surf` it is."""

    def __init__(self, bare: Shell, **settings: Any) -> None:  # noqa: ANN401 - the simulator's
        made = {"workspaces": 0, "pause_s": 0.5, "resume_s": 0.5, "delete_s": 0.3, **settings}
        self.sim = Surf(SurfSettings(**made))
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(10)
        environ = {
            **bare.environ,
            "PENSTOCK_SURF_ENDPOINT": self.sim.endpoint,
            "PENSTOCK_SURF_TOKEN": self.sim.token,
        }
        self.shell = Shell(bare.folder, environ, bare.started)

    async def _serve(self) -> None:
        async with self.sim:
            self._ready.set()
            await self._over.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    def posts(self) -> int:
        return sum(each.method != "GET" for each in list(self.sim.log))

    def statuses(self) -> dict[str, str]:
        return {each.name: each.status for each in self.sim.workspaces().values()}

    def lines(self, name: str) -> list[dict[str, Any]]:
        text = (self.shell.folder / name).read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def cloud(bare: Shell) -> Iterator[Cloud]:
    """Three workspaces of ours, one of them paused, and one of somebody else's."""
    made = Cloud(bare)
    for name, status in (("one", "running"), ("two", "running"), ("three", "paused")):
        made.sim.add_workspace(name, status)
    made.sim.add_workspace("theirs", owner="somebody", group="co-2")
    yield made
    made.close()


@pytest.fixture
def slow(bare: Shell) -> Iterator[Cloud]:
    """Twenty-five workspaces that take long to pause."""
    made = Cloud(bare, pause_s=3.0)
    for number in range(25):
        made.sim.add_workspace(f"w{number:02}")
    yield made
    made.close()


def test_an_action_without_a_choice_is_exit_2_and_asks_nothing(cloud: Cloud) -> None:
    for action in ("pause", "delete"):
        ended = cloud.shell.run("workspaces", action, "--yes")
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"penstock: {action} what?")
        assert ended.stdout == ""
    assert not cloud.sim.log


def test_pause_on_friday_and_resume_on_monday(cloud: Cloud) -> None:
    ended = cloud.shell.run(
        *("workspaces", "pause", "--all", "--report", "fri.jsonl", "--json", "--progress", "none")
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    summary = json.loads(ended.stdout)
    assert (summary["settled"], summary["skipped"]) == (2, 1)
    assert summary["api_requests"] == {"surf": len(cloud.sim.log)}
    lines = {line["name"]: line for line in cloud.lines("fri.jsonl")}
    assert lines["one"]["status"] == "settled"
    assert (lines["one"]["before"], lines["one"]["after"]) == ("running", "paused")
    assert lines["three"]["reason"] == "already paused"
    ended = cloud.shell.run("workspaces", "resume", "--from", "fri.jsonl")
    assert ended.returncode == 0
    assert cloud.statuses() == {
        **dict.fromkeys(("one", "two", "theirs"), "running"),
        "three": "paused",
    }


def test_a_dry_run_lists_and_does_nothing(cloud: Cloud) -> None:
    ended = cloud.shell.run("workspaces", "pause", "--all", "--dry-run")
    assert ended.returncode == 0
    assert [line.split()[0] for line in ended.stdout.splitlines()] == ["one", "two", "three"]
    assert "already paused" in ended.stdout
    ended = cloud.shell.run("workspaces", "pause", "--all", "--dry-run", "--json")
    assert len(json.loads(ended.stdout)["workspaces"]) == 3
    assert cloud.posts() == 0


def test_the_list_shows_own_ones_unless_anyones(cloud: Cloud) -> None:
    ended = cloud.shell.run("workspaces", "list")
    assert ended.returncode == 0
    assert [line.split()[-1] for line in ended.stdout.splitlines()] == ["one", "two", "three"]
    ended = cloud.shell.run("workspaces", "list", "--anyone", "--json")
    shown = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [each["name"] for each in shown] == ["one", "two", "three", "theirs"]
    ended = cloud.shell.run("workspaces", "list", "--co", "co-2")
    assert ended.stdout.split()[-1] == "theirs"


def test_delete_off_a_terminal_needs_a_yes(cloud: Cloud) -> None:
    ended = cloud.shell.run("workspaces", "delete", "--name", "one")
    assert ended.returncode == 2
    assert "--yes" in ended.stderr
    assert not cloud.sim.log
    ended = cloud.shell.run("workspaces", "delete", "--name", "one", "--yes")
    assert ended.returncode == 0
    assert cloud.statuses()["one"] == "deleted"


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", {"two", "three"}), (b"y\n", set())])
def test_delete_asks_a_person_and_takes_no_for_an_answer(
    cloud: Cloud, answer: bytes, left: set[str]
) -> None:
    ours, theirs = os.openpty()
    try:
        os.write(ours, answer)
        ended = subprocess.run(
            cloud.shell.command("workspaces", "delete", "--name", "t*", "--progress", "none"),
            cwd=cloud.shell.folder,
            env=cloud.shell.environ,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert ended.returncode == 0
    assert "Delete 2 workspaces for good?" in ended.stderr
    there = {name for name, status in cloud.statuses().items() if status != "deleted"}
    assert there & {"two", "three"} == left


def test_what_failed_is_named_and_exit_1_also_when_quiet(cloud: Cloud) -> None:
    one = next(iter(cloud.sim.workspaces()))
    cloud.sim.fail(one, "pause", "no room in the rack")
    ended = cloud.shell.run("workspaces", "pause", "--all", "-q")
    assert ended.returncode == 1
    assert "penstock: one: no room in the rack" in ended.stderr
    assert "1 failed" in ended.stdout
    ended = cloud.shell.run("workspaces", "resume", "--name", "two", "-q")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_refused_token_is_exit_3_then_without_a_request(cloud: Cloud) -> None:
    for requests in (1, 1):
        ended = cloud.shell.run("workspaces", "pause", "--all", PENSTOCK_SURF_TOKEN="n0t-th1s-0ne")
        assert ended.returncode == 3
        assert "n0t-th1s" not in ended.stdout + ended.stderr
        assert len(cloud.sim.log) == requests


def test_progress_goes_to_standard_error_as_for_transfers(cloud: Cloud) -> None:
    ended = cloud.shell.run("workspaces", "pause", "--all", "--progress", "json", "--json")
    assert ended.returncode == 0
    events = [json.loads(line)["event"] for line in ended.stderr.splitlines()]
    assert events[0] == "actions_started"
    assert Counter(events)["action_ended"] == 3
    assert events[-1] == "run_ended"
    json.loads(ended.stdout)
    ended = cloud.shell.run("workspaces", "resume", "--all", "-v", "--log", "log")
    assert "settled    one" in ended.stderr
    assert "action_ended" in (cloud.shell.folder / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_asked_for_and_is_exit_130(
    slow: Cloud, number: signal.Signals
) -> None:
    process = slow.shell.start("workspaces", "pause", "--all", "--report", "r.jsonl", "--json")
    until(lambda: len(slow.sim.accepted) >= 6)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command to carry on" in err
    assert json.loads(out)["run"]
    assert len(slow.lines("r.jsonl")) == 25
    slow.sim.change(pause_s=0.2)
    ended = slow.shell.run("workspaces", "pause", "--all", "--report", "r.jsonl")
    assert ended.returncode == 0
    assert Counter(line["status"] for line in slow.lines("r.jsonl")) == {"settled": 25}
    assert len(slow.sim.accepted) == 25
    assert not slow.sim.repeated


def test_a_kill_never_makes_it_ask_twice(slow: Cloud) -> None:
    for accepted in (4, 15):
        process = slow.shell.start("workspaces", "pause", "--all")
        until(lambda accepted=accepted: len(slow.sim.accepted) >= accepted)
        process.kill()
        process.wait()
    slow.sim.change(pause_s=0.2)
    ended = slow.shell.run("workspaces", "pause", "--all", "--report", "r.jsonl", "--json")
    assert ended.returncode == 0, ended.stderr
    assert {line["status"] for line in slow.lines("r.jsonl")} == {"settled"}
    assert set(Counter(one.workspace for one in slow.sim.accepted).values()) == {1}
    assert not slow.sim.repeated


def until(holds: Any) -> None:  # noqa: ANN401 - a condition without arguments
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends
        threading.Event().wait(0.01)


def test_two_at_once_ask_once(slow: Cloud) -> None:
    slow.sim.change(pause_s=0.5)
    both = [slow.shell.start("workspaces", "pause", "--all", "--json") for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(slow.sim.accepted) == 25
    assert not slow.sim.repeated
    assert sum(json.loads(out)["settled"] for out, _ in ended) >= 25


def test_a_cloud_has_no_files(cloud: Cloud) -> None:
    (cloud.shell.folder / "a.txt").write_text("a")
    for command in (
        ("copy", "a.txt", "surf:one"),
        ("copy", "surf:one", "here/"),
        ("plan", "a.txt", "surf:"),
    ):
        ended = cloud.shell.run(*command, "--progress", "none")
        assert ended.returncode == 2
        assert "keeps no files" in ended.stderr
    assert not cloud.sim.log


def test_profiles_list_and_quota_know_the_cloud(cloud: Cloud) -> None:
    assert cloud.shell.run("profiles", "check", "surf").returncode == 0
    listed = cloud.shell.run("list", "surf:").stdout.splitlines()
    assert listed == [f"surf:id={number}" for number in cloud.sim.workspaces()]
    # Limit -1, Remaining -1 and Reset 0 of a gateway are no information.
    ended = cloud.shell.run("quota", "surf")
    assert "998" in ended.stdout
    # Each line can be pasted, as a location and as an id.
    again = cloud.shell.run("list", listed[1], "--json")
    assert (json.loads(again.stdout)["name"], again.returncode) == ("two", 0)
    assert cloud.shell.run("workspaces", "pause", listed[1], "--no-wait").returncode == 0
    assert cloud.posts() == 1
    assert cloud.shell.run("list", "surf:id=nobody").returncode == 2


def test_a_run_of_actions_is_told_of_later_as_one_of_transfers_is(cloud: Cloud) -> None:
    cloud.shell.run("workspaces", "pause", "--all", "--report", "r.jsonl", "-q")
    ended = cloud.shell.run("status")
    assert "2 settled, 1 skipped" in ended.stdout
    run = ended.stdout.split()[0]
    assert cloud.shell.run("report", run).stdout == (cloud.shell.folder / "r.jsonl").read_text()
    assert cloud.shell.run("report", run, "--html", "page.html").returncode == 0
    assert "already paused" in (cloud.shell.folder / "page.html").read_text()
