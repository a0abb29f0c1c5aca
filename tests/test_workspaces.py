"""`workspaces` against the simulated cloud, in virtual time: what is asked for, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

import penstock
from clouds import Cloud, by_name, environ_of, in_cloud
from penstock.core.events import ActionAccepted, ActionEnded, ActionsListed, Event
from penstock.engine.stopping import Stop
from penstock.simulators import Fault

ACTION = r"/actions/pause/$"


def statuses(report: penstock.ActionReport) -> Counter[str]:
    return Counter(line.status for line in report.lines())


def test_each_action_is_sent_once_and_settles_by_pages(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("pause", all=True)
        assert report.ok
        assert statuses(report) == {"settled": 150}
        assert set(cloud.statuses().values()) == {"paused"}
        assert set(cloud.asked().values()) == {1}
        assert cloud.posts() == 150
        # Two pages at first, and far fewer looks than a poll each.
        assert cloud.looks() < 50

    in_cloud(tmp_path, work, number=150, pause_s=30.0, spread=0.5)


def test_a_line_says_what_was_before_and_after(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        (line,) = (await cloud.act("pause", all=True, report=tmp_path / "r.jsonl")).lines()
        assert (line.before, line.after, line.status) == ("running", "paused", "settled")
        fields = "id name action before after status reason finished_at"
        assert list(json.loads((tmp_path / "r.jsonl").read_text())) == fields.split()

    in_cloud(tmp_path, work, number=1)


@pytest.mark.parametrize("shows", ["allowed_actions", "actions", "none"])
def test_what_its_state_forbids_is_skipped_with_the_reason(tmp_path: Path, shows: str) -> None:
    async def work(cloud: Cloud) -> None:
        for status in ("paused", "pausing", "creating", "failed"):
            cloud.sim.add_workspace(status, status)
        found = by_name(await cloud.act("pause", all=True))
        assert {line.status for line in found.values()} == {"skipped"}
        assert found["paused"].reason == "already paused"
        assert found["pausing"].reason == "already pausing"
        assert "creating" in (found["creating"].reason or "")
        assert "failed" in (found["failed"].reason or "")
        assert cloud.posts() == 0

    in_cloud(tmp_path, work, shows=shows)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_lost_answer_to_an_action_that_was_taken_is_settled_by_looking(
    tmp_path: Path, *, remembers: bool
) -> None:
    async def work(cloud: Cloud) -> None:
        cloud.sim.faults.add(Fault(kind="drop after", path=ACTION, times=2))
        report = await cloud.act("pause", all=True)
        assert statuses(report) == {"settled": 5}
        assert cloud.posts() == 5
        assert not cloud.sim.repeated

    in_cloud(tmp_path, work, number=5, remembers=remembers)


def test_a_lost_answer_to_an_action_that_shows_nowhere_is_unknown_and_not_repeated(
    tmp_path: Path,
) -> None:
    async def work(cloud: Cloud) -> None:
        cloud.sim.faults.add(Fault(kind="drop before", path=ACTION, times=1))
        report = await cloud.act("pause", all=True)
        assert statuses(report) == {"settled": 2, "unknown": 1}
        assert report.exit_code == 1
        assert cloud.posts() == 3

    in_cloud(tmp_path, work, number=3)


def test_without_a_memory_an_unclear_answer_is_waited_for_until_the_time_out(
    tmp_path: Path,
) -> None:
    async def work(cloud: Cloud) -> float:
        loop = asyncio.get_running_loop()
        cloud.sim.faults.add(Fault(kind="drop before", path=ACTION, times=1))
        began_s = loop.time()
        report = await cloud.act("pause", all=True, timeout="5m")
        assert statuses(report) == {"unknown": 1}
        assert cloud.posts() == 1
        return loop.time() - began_s

    took_s = in_cloud(tmp_path, work, number=1, remembers=False)
    assert 300 <= took_s < 335


def test_a_gateways_error_may_hide_what_was_done_and_is_no_reason_to_repeat_it(
    tmp_path: Path,
) -> None:
    async def work(cloud: Cloud) -> None:
        cloud.sim.faults.add(Fault(kind="status", status=502, path=ACTION, times=1))
        report = await cloud.act("pause", all=True)
        assert statuses(report) == {"unknown": 1}
        assert cloud.posts() == 1

    in_cloud(tmp_path, work, number=1)


def test_an_error_in_the_body_of_a_success_is_a_failure(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        body = b'{"result": {"code":400, "message": "not allowed now"}}'
        cloud.sim.faults.add(Fault(kind="status", status=200, body=body, path=ACTION, times=1))
        report = await cloud.act("pause", all=True)
        found = by_name(report)
        assert found["w000"].status == "failed"
        assert "not allowed now" in (found["w000"].reason or "")
        assert found["w001"].status == "settled"
        assert report.exit_code == 1

    in_cloud(tmp_path, work, number=2)


def test_a_failed_action_is_told_with_the_platforms_reason(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        asleep = cloud.sim.add_workspace("asleep", "paused")
        cloud.sim.fail(asleep.id, "resume", "Timeout waiting for VM to resume.")
        report = await cloud.act("resume", asleep.id)
        (line,) = report.lines()
        assert (line.status, line.reason) == ("failed", "Timeout waiting for VM to resume.")
        assert report.exit_code == 1

    in_cloud(tmp_path, work, resume_s=120.0)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_reboot_settles_though_before_and_after_are_one_state(
    tmp_path: Path, *, remembers: bool
) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("reboot", all=True)
        assert statuses(report) == {"settled": 3}

    in_cloud(tmp_path, work, number=3, remembers=remembers, reboot_s=40.0)


def test_deleted_ones_settle_when_they_are_gone(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("delete", name="w0[0-4]?")
        assert statuses(report) == {"settled": 50}
        assert {line.after for line in report.lines()} == {"deleted"}
        assert Counter(cloud.statuses().values()) == {"deleted": 50, "running": 80}

    in_cloud(tmp_path, work, number=130, delete_s=20.0, spread=0.5)


def test_what_does_not_settle_in_time_is_accepted_with_the_reason_and_exit_1(
    tmp_path: Path,
) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("pause", all=True, timeout="2m")
        (line,) = report.lines()
        assert (line.status, line.after) == ("accepted", "pausing")
        assert line.reason == "not settled within 2 min 00 s"
        assert report.exit_code == 1
        # The next run waits for the same one.
        again = await cloud.act("pause", all=True)
        assert statuses(again) == {"settled": 1}
        assert cloud.posts() == 1

    in_cloud(tmp_path, work, number=1, pause_s=300.0)


def test_without_waiting_what_was_accepted_is_enough(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("pause", all=True, wait=False)
        assert statuses(report) == {"accepted": 60}
        assert report.ok
        assert cloud.looks() == 1

    in_cloud(tmp_path, work, number=60, pause_s=300.0)


def test_one_that_takes_long_is_looked_at_ever_more_rarely(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        assert (await cloud.act("pause", all=True)).ok
        assert cloud.looks() < 50

    in_cloud(tmp_path, work, number=1, pause_s=600.0)


# -- the queue and the quota ------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [{}, {"full_html": True}, {"full_retry_after_s": 7.0}, {"full_header": ("X-Queue-Wait", "9")}],
)
def test_a_full_queue_slows_what_is_in_flight_and_loses_nothing(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("pause", all=True, timeout="60m")
        assert statuses(report) == {"settled": 60}
        assert set(cloud.asked().values()) == {1}
        assert 0 < cloud.sim.refused_full == report.summary.queue_full
        assert cloud.sim.refused_full < 20
        assert cloud.statuses_sent(429) == 0
        assert report.summary.rejected_by_quota == {"surf": 0}

    in_cloud(tmp_path, work, number=60, queue_capacity=10, served_per_s=1.0, **more)


def test_a_queue_that_stays_full_fails_what_it_refused(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("pause", all=True, timeout="3m")
        assert statuses(report) == {"failed": 2}
        assert all("queue was full" in (line.reason or "") for line in report.lines())
        assert not cloud.sim.accepted

    in_cloud(tmp_path, work, number=2, queue_capacity=0)


def test_a_503_over_what_was_done_is_seen_and_not_asked_for_again(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        (only,) = cloud.sim.workspaces().values()
        fault = cloud.sim.faults.add(Fault(kind="status", status=503, path=ACTION, times=1))

        def swallow() -> None:
            # What stands behind the gateway did it all the same.
            if fault.hits:
                cloud.sim._cloud.begin(only, "pause")
            else:
                asyncio.get_running_loop().call_later(0.01, swallow)

        swallow()
        report = await cloud.act("pause", all=True)
        assert statuses(report) == {"settled": 1}
        assert cloud.posts() == 1

    in_cloud(tmp_path, work, number=1, pause_s=20.0)


@pytest.mark.parametrize("limiter", ["A", "B", "C", "D"])
@pytest.mark.parametrize("headers", ["quotas", "rate_limits"])
def test_no_limiter_is_ever_overrun(tmp_path: Path, limiter: str, headers: str) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("pause", all=True)
        assert statuses(report) == {"settled": 40}
        assert cloud.statuses_sent(429) == 0

    in_cloud(tmp_path, work, number=40, limiter=limiter, headers=headers, quota=15, window_s=5.0)


def test_a_429_is_waited_out_and_the_action_is_still_asked_for_once(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        cloud.sim.quota.spend(25)
        report = await cloud.act("pause", all=True)
        assert statuses(report) == {"settled": 20}
        assert set(cloud.asked().values()) == {1}
        assert cloud.statuses_sent(429) >= 1

    in_cloud(tmp_path, work, number=20, quota=30, window_s=10.0)


def test_actions_go_at_a_steady_rate(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        await cloud.act("pause", all=True, wait=False)
        times = [one.at for one in cloud.sim.accepted]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert min(gaps) > 0.9 * 60 / 1000

    in_cloud(tmp_path, work, number=100)


@pytest.mark.slow
def test_many_pauses_cost_little_more_than_one_request_each(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        report = await cloud.act("pause", all=True)
        assert report.summary.settled == 600
        assert len(cloud.sim.log) <= 600 * 1.15
        assert cloud.statuses_sent(429) == 0
        assert not cloud.sim.repeated

    in_cloud(tmp_path, work, number=600, limiter="B", pause_s=40.0, spread=0.5)


# -- a run that was cut off -------------------------------------------------------------------


async def cut_off(cloud: Cloud, after: int, **options: Any) -> None:  # noqa: ANN401 - the command's
    """A run that is cancelled, as by a kill, once so many actions were accepted."""
    with anyio.CancelScope() as scope:

        def on_event(event: Event) -> None:
            if isinstance(event, ActionAccepted) and len(cloud.sim.accepted) >= after:
                scope.cancel()

        await cloud.act("pause", all=True, on_event=on_event, **options)


@pytest.mark.parametrize("remembers", [True, False])
def test_the_same_command_carries_on_and_asks_for_nothing_twice(
    tmp_path: Path, *, remembers: bool
) -> None:
    async def work(cloud: Cloud) -> None:
        await cut_off(cloud, 30)
        report = await cloud.act("pause", all=True)
        assert set(cloud.asked().values()) == {1}
        assert not cloud.sim.repeated
        # What the first run asked for is reported as settled, not as found so.
        if remembers:
            assert statuses(report) == {"settled": 80}
        assert statuses(report)["skipped"] == 0

    in_cloud(tmp_path, work, number=80, pause_s=5.0, remembers=remembers)


def test_an_accepted_action_that_still_waits_in_the_queue_is_not_sent_again(
    tmp_path: Path,
) -> None:
    async def work(cloud: Cloud) -> None:
        await cut_off(cloud, 15)
        assert Counter(cloud.statuses().values())["running"] > 70
        report = await cloud.act("pause", all=True)
        assert statuses(report)["settled"] >= 79
        assert set(cloud.asked().values()) == {1}

    in_cloud(tmp_path, work, number=80, served_per_s=0.5, remembers=False)


def test_what_was_paused_by_another_run_that_ended_is_skipped(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        await cloud.act("pause", all=True)
        report = await cloud.act("pause", all=True)
        assert {line.reason for line in report.lines()} == {"already paused"}

    in_cloud(tmp_path, work, number=3)


def test_one_that_was_resumed_by_hand_meanwhile_is_paused_anew(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        await cloud.act("pause", all=True, wait=False)
        await asyncio.sleep(60)
        (only,) = cloud.sim.workspaces().values()
        cloud.sim._cloud.begin(only, "resume")
        await asyncio.sleep(60)
        report = await cloud.act("pause", all=True)
        assert statuses(report) == {"settled": 1}
        assert cloud.asked()["w000", "pause"] == 2

    in_cloud(tmp_path, work, number=1)


def test_a_stop_keeps_what_was_asked_for_and_says_how_to_carry_on(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        stop = Stop()

        def on_event(event: Event) -> None:
            if isinstance(event, ActionAccepted) and len(cloud.sim.accepted) >= 10:
                stop.ask("SIGTERM")

        with pytest.raises(penstock.Interrupted, match="same command") as raised:
            await cloud.act("pause", all=True, stop=stop, on_event=on_event)
        report = raised.value.report
        assert report.exit_code == 130
        assert len(list(report.lines())) == 50
        again = await cloud.act("pause", all=True)
        assert statuses(again) == {"settled": 50}
        assert set(cloud.asked().values()) == {1}

    in_cloud(tmp_path, work, number=50, pause_s=20.0)


# -- which ------------------------------------------------------------------------------------


async def many(cloud: Cloud) -> None:
    add = cloud.sim.add_workspace
    add("mine-a", group="co-1", wallet="wal-1", application="Jupyter")
    add("mine-b", "paused", group="co-2", wallet="wal-2")
    add("theirs", owner="somebody", group="co-1", wallet="wal-1")
    add("disk", kind="Storage")


CHOICES: list[tuple[dict[str, Any], set[str]]] = [
    ({"all": True}, {"mine-a", "mine-b"}),
    ({"all": True, "anyone": True}, {"mine-a", "mine-b", "theirs"}),
    ({"co": "co-1"}, {"mine-a", "theirs"}),
    ({"wallet": "wal-1"}, {"mine-a"}),
    ({"name": "mine-*"}, {"mine-a", "mine-b"}),
    ({"name": ["*-a", "*-b"], "exclude": "*-b"}, {"mine-a"}),
    ({"status": "Paused"}, {"mine-b"}),
    ({"application": "Jup*"}, {"mine-a"}),
    ({"name": "mine-*", "status": "running"}, {"mine-a"}),
]


@pytest.mark.parametrize(("options", "names"), CHOICES)
@pytest.mark.parametrize("ignored", [frozenset(), frozenset(("co_id", "wallet_id", "status"))])
def test_filters_choose_whether_the_server_knows_them_or_not(
    tmp_path: Path, options: dict[str, Any], names: set[str], ignored: frozenset[str]
) -> None:
    async def work(cloud: Cloud) -> None:
        await many(cloud)
        report = await cloud.act("pause", dry_run=True, **options)
        assert set(by_name(report)) == names
        assert cloud.posts() == 0

    in_cloud(tmp_path, work, ignored_filters=ignored)


def test_a_server_that_does_not_know_whose_they_are_is_not_believed(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        await many(cloud)
        with pytest.raises(penstock.UsageError, match="--anyone"):
            await cloud.act("pause", all=True)
        assert cloud.posts() == 0

    in_cloud(tmp_path, work, ignored_filters=frozenset(("by_owner",)))


def test_an_id_that_is_not_there_fails_by_name(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        here = next(iter(cloud.sim.workspaces()))
        report = await cloud.act("pause", here, "nowhere")
        assert by_name(report)["nowhere"].status == "failed"
        assert by_name(report)["w000"].status == "settled"
        assert report.exit_code == 1

    in_cloud(tmp_path, work, number=1)


def test_a_report_names_exactly_what_settled_there_whoever_owns_it(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        await many(cloud)
        friday = tmp_path / "fri.jsonl"
        await cloud.act("pause", all=True, anyone=True, report=friday)
        monday = await cloud.act("resume", from_=friday)
        assert {line.name for line in monday.lines()} == {"mine-a", "theirs"}
        assert cloud.statuses()["mine-b"] == "paused"

    in_cloud(tmp_path, work)


def test_of_a_report_the_failed_alone_can_be_meant(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        first, *_ = cloud.sim.workspaces()
        cloud.sim.fail(first, "pause", "no", status="running")
        report = tmp_path / "r.jsonl"
        assert (await cloud.act("pause", all=True, report=report)).exit_code == 1
        cloud.sim._cloud.failing.clear()
        again = await cloud.act("pause", from_=report, only="failed")
        assert [line.name for line in again.lines()] == ["w000"]
        assert again.ok

    in_cloud(tmp_path, work, number=3)


@pytest.mark.parametrize(
    ("action", "options", "said"),
    [
        ("pause", {}, "pause what"),
        ("pause", {"exclude": "x"}, "pause what"),
        ("pause", {"anyone": True}, "pause what"),
        ("pause", {"only": "failed", "all": True}, "give one with from"),
        ("pause", {"from_": "missing.jsonl"}, "cannot be read"),
        ("explode", {"all": True}, "the action is one of"),
        ("pause", {"all": True, "timeout": 0}, "timeout"),
        ("pause", {"all": True, "profile": "cavatica"}, "no workspaces"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_asked(
    tmp_path: Path, action: str, options: dict[str, Any], said: str
) -> None:
    async def work(cloud: Cloud) -> None:
        with pytest.raises(penstock.UsageError, match=said):
            await cloud.act(action, **options)
        assert not cloud.sim.log

    in_cloud(tmp_path, work, number=1)


def test_a_listing_that_moves_loses_nobody(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        first, *_ = cloud.sim.workspaces()

        def on_event(event: Event) -> None:
            if isinstance(event, ActionAccepted) and len(cloud.sim.accepted) == 120:
                cloud.sim.remove_workspace(first)

        report = await cloud.act("pause", all=True, exclude="w000", on_event=on_event)
        assert statuses(report) == {"settled": 149}
        assert set(cloud.asked().values()) == {1}

    in_cloud(tmp_path, work, number=150, pause_s=20.0, spread=0.5)


def test_pages_smaller_than_asked_for_are_followed(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        assert statuses(await cloud.act("pause", all=True)) == {"settled": 45}

    in_cloud(tmp_path, work, number=45, most_per_page=7)


def test_one_that_vanishes_failed_and_says_so(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        first, *_ = cloud.sim.workspaces()

        def on_event(event: Event) -> None:
            if isinstance(event, ActionAccepted) and first in cloud.sim.workspaces():
                cloud.sim.remove_workspace(first)

        found = by_name(await cloud.act("pause", all=True, on_event=on_event))
        assert found["w000"].status == "failed"
        assert found["w000"].reason == "the workspace is gone"
        assert found["w001"].status == "settled"

    in_cloud(tmp_path, work, number=2, pause_s=20.0)


# -- causes that all share --------------------------------------------------------------------


def test_twenty_that_fail_alike_stop_the_run_with_the_cause_named_once(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        body = b'{"detail": "You do not have permission to perform this action."}'
        cloud.sim.faults.add(Fault(kind="status", status=403, body=body, path=ACTION, times=None))
        with pytest.raises(penstock.RunStopped, match="first 20 actions") as raised:
            await cloud.act("pause", all=True)
        assert "permission" in str(raised.value)
        assert raised.value.report.exit_code == 3
        assert cloud.posts() < 40

    in_cloud(tmp_path, work, number=60)


@pytest.mark.parametrize(("form", "setting"), [("bare", "bare"), ("token", "Token")])
def test_the_token_goes_in_the_form_that_the_profile_says(
    tmp_path: Path, form: str, setting: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[profiles.surf.settings]\ntoken_form = "{setting}"\n')

    async def work(cloud: Cloud) -> None:
        assert (await cloud.act("pause", all=True, config=config)).ok

    in_cloud(tmp_path, work, number=1, token_form=form)


@pytest.mark.parametrize("bad_token", [401, 403])
def test_a_refused_token_stops_the_run_at_the_first_request(tmp_path: Path, bad_token: int) -> None:
    async def work(cloud: Cloud) -> None:
        environ = environ_of(cloud.sim, tmp_path) | {"PENSTOCK_SURF_TOKEN": "n0t-th1s-0ne"}
        with pytest.raises(penstock.PenstockError) as raised:
            await cloud.act("pause", all=True, environ=environ)
        assert "n0t-th1s" not in str(raised.value)
        assert len(cloud.sim.log) == 1

    in_cloud(tmp_path, work, number=1, bad_token=bad_token)


def test_events_tell_how_far_it_is(tmp_path: Path) -> None:
    async def work(cloud: Cloud) -> None:
        seen: list[Event] = []
        await cloud.act("pause", all=True, on_event=seen.append)
        assert ActionsListed(3) in seen
        assert sum(isinstance(event, ActionAccepted) for event in seen) == 3
        assert sum(isinstance(event, ActionEnded) for event in seen) == 3

    in_cloud(tmp_path, work, number=3)
