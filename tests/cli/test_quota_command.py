from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from penstock.simulators import SevenBridgesSettings
from redis_server import RedisServer
from serving import Served, Shell, at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACE = "cavatica:demo/project"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", password="n0t-to-be-seen").start()
    yield server
    server.close()


def use(shell: Shell, *options: str) -> dict[str, object]:
    ended = shell.run("quota", "cavatica", "--json", *options)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, object] = json.loads(ended.stdout)
    return found


def test_an_unspent_quota_is_all_left_and_looking_makes_no_file(
    shell: Shell, served: Served
) -> None:
    found = use(shell)
    assert (found["spent"], found["held"], found["left"]) == (0, 0, served.sim.quota.limit)
    assert found["spenders"] == []
    assert served.requests() == 0
    assert not (shell.folder / "state").exists()


def test_what_was_spent_is_counted_and_looking_spends_nothing(
    tight_shell: Shell, tight: Served
) -> None:
    assert tight_shell.run("list", PLACE).returncode == 0
    spent = tight.requests()
    for _ in range(2):
        found = use(tight_shell)
        assert (found["spent"], found["left"]) == (spent, 10 - spent)
        assert 0 < float(str(found["next_free_s"])) <= 61
    assert tight.requests() == spent


def test_the_table_names_every_profile_with_a_token_and_no_secret(
    tight_shell: Shell, tight: Served
) -> None:
    ended = tight_shell.run("quota")
    assert ended.returncode == 0
    head, line = ended.stdout.splitlines()
    assert head.split()[:3] == ["profile", "quota", "spent"]
    assert line.startswith("cavatica  10 per 1 min")
    assert tight.sim.token not in ended.stdout


def test_without_any_token_it_says_where_to_look(bare: Shell) -> None:
    ended = bare.run("quota")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "profiles list" in ended.stderr
    assert bare.run("quota", "cavatica").returncode == 2
    assert bare.run("quota", "cavatca").returncode == 2


def test_who_is_spending_is_named(tight_shell: Shell, tight: Served) -> None:
    source = tight_shell.files(40)
    copying = tight_shell.start("copy", source, f"{PLACE}/")
    until = time.monotonic() + 20
    names: list[int] = []
    while not names and time.monotonic() < until:
        spenders = use(tight_shell)["spenders"]
        assert isinstance(spenders, list)
        names = [spender["pid"] for spender in spenders]
    assert names == [copying.pid]
    copying.send_signal(signal.SIGKILL)
    copying.wait()
    assert use(tight_shell)["spenders"] == []


def test_a_redis_is_looked_into_as_a_file_is(
    tight_shell: Shell, tight: Served, redis: RedisServer
) -> None:
    assert tight_shell.run("list", PLACE, "--quota-store", redis.url).returncode == 0
    found = use(tight_shell, "--quota-store", redis.url)
    assert found["spent"] == tight.requests()
    assert use(tight_shell)["spent"] == 0


def test_a_redis_that_is_not_there_is_exit_3_without_its_password(
    shell: Shell, redis: RedisServer, served: Served
) -> None:
    redis.close()
    for command in (["quota"], ["list", PLACE], ["copy", shell.files(1), f"{PLACE}/"]):
        ended = shell.run(*command, "--quota-store", redis.url)
        assert ended.returncode == 3, command
        assert "is lost" in ended.stderr
        assert "n0t-to-be-seen" not in ended.stdout + ended.stderr
    assert served.requests() == 0


def test_with_a_fallback_a_lost_redis_is_said_once_and_a_share_is_spent(
    shell: Shell, redis: RedisServer, served: Served
) -> None:
    redis.close()
    options = ["--quota-store", redis.url, "--quota-fallback", "share=1/2"]
    ended = shell.run("copy", shell.files(3), f"{PLACE}/", *options)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("0.5 of the quota") == 1
    assert "n0t-to-be-seen" not in ended.stderr
    assert len(served.sim.files()) == 3
    assert use(shell)["spent"] == served.requests()


@pytest.mark.parametrize(
    "options",
    [
        ["--quota-share", "0"],
        ["--quota-share", "1.5"],
        ["--quota-share", "half"],
        ["--quota-store", "http://host/"],
        ["--quota-store", "."],
        ["--quota-store", "redis://host:port/"],
        ["--quota-fallback", "share=1/2"],
        ["--quota-store", "redis://host/", "--quota-fallback", "1/2"],
        ["--quota-store", "redis://host/", "--quota-fallback", "share=2"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_exit_2_and_nothing_is_asked(
    shell: Shell, served: Served, options: list[str]
) -> None:
    for command in (["list", PLACE], ["plan", shell.files(1), f"{PLACE}/"]):
        ended = shell.run(*command, *options)
        assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
        assert ended.stderr.startswith("penstock: ")
    assert served.requests() == 0


def test_a_share_is_all_that_is_spent_and_what_a_plan_reckons_with(bare: Shell) -> None:
    served = Served(SevenBridgesSettings(quota=20, window_s=2))
    try:
        shell = at(served, bare)
        source = shell.files(12)
        share = ["--quota-share", "1/4"]
        plan = json.loads(shell.run("plan", source, f"{PLACE}/", *share, "--json").stdout)
        assert plan["quota"] == 5
        assert use(shell, *share)["limit"] == 5
        assert shell.run("copy", source, f"{PLACE}/", *share).returncode == 0
        sent = sorted(exchange.at for exchange in served.sim.log if exchange.host == "api")
        assert len(sent) > 10
        pairs = zip(sent, sent[5:], strict=False)
        assert all(later - earlier >= 2 for earlier, later in pairs)
    finally:
        served.close()


def test_a_store_of_ones_own_counts_apart(
    tight_shell: Shell, tight: Served, tmp_path: Path
) -> None:
    store = str(tmp_path / "elsewhere" / "quota.sqlite3")
    assert tight_shell.run("list", PLACE, "--quota-store", store).returncode == 0
    assert os.path.exists(store)  # noqa: PTH110 - the text is what was given
    assert use(tight_shell)["spent"] == 0
    assert use(tight_shell, "--quota-store", store)["spent"] == tight.requests()


def test_a_token_that_redis_remembers_as_refused_is_tried_again_by_profiles_check(
    shell: Shell, served: Served, redis: RedisServer
) -> None:
    token = served.sim.token
    store = ["--quota-store", redis.url]
    bad = {"PENSTOCK_CAVATICA_TOKEN": f"{token[:-1]}0"}
    assert shell.run("list", PLACE, *store, **bad).returncode == 3
    asked = served.requests()
    assert shell.run("list", PLACE, *store, **bad).returncode == 3
    assert served.requests() == asked
    ended = shell.run("quota", "cavatica", *store, **bad)
    assert "profiles check" in ended.stdout
    assert shell.run("profiles", "check", "cavatica", *store, **bad).returncode == 3
    assert served.requests() == asked + 1
