from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from serving import Served, Shell

TO = "cavatica:demo/project/to/"
WRONG = "0123456789abcdef0123456789abcdef"
SUMMARY = {
    "run", "verified", "unverified", "skipped", "failed", "bytes", "seconds", "api_requests",
    "rejected_by_quota", "waited_for_quota_s", "submission",
}  # fmt: skip


def summary_of(out: str) -> dict[str, object]:
    """The one object that standard output may hold."""
    assert out.count("\n") == 1
    summary = json.loads(out)
    assert set(summary) == SUMMARY
    return dict(summary)


def until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Returns when something holds; the process has to live until then."""
    for _ in range(1000):
        if true():
            return
        assert process.poll() is None
        time.sleep(0.02)
    raise AssertionError("it never came")


def read_until(words: str, process: subprocess.Popen[str]) -> None:
    """Returns when the process has told so on standard error."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError("it never said so")


# What a copy to one platform has no use for: other platforms, and what an option asks for.
UNUSED = {
    "botocore", "keyring", "pyshacl", "rdflib", "redis", "rich", "tomlkit",
    "penstock.api.saving", "penstock.engine.slots_fallback", "penstock.engine.slots_redis",
    "penstock.platforms.coscine_answers", "penstock.platforms.datameta_records",
    "penstock.platforms.surf_states", "penstock.platforms.xmlreading", "penstock.simulators",
}  # fmt: skip


def test_a_copy_that_finds_nothing_to_do_imports_no_more_than_it_uses(shell: Shell) -> None:
    data = shell.files(2)
    assert shell.run("copy", data, TO).returncode == 0
    again = shell.run("copy", data, TO, PYTHONPROFILEIMPORTTIME="1")
    assert "2 skipped" in again.stdout
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines()}
    assert "penstock.platforms.sevenbridges_metadata" in imported
    assert imported.isdisjoint(UNUSED)


def test_up_and_down_again_and_all_of_it_skipped(served: Served, shell: Shell) -> None:
    data = shell.files(5)
    up = shell.run("copy", data, TO)
    assert up.returncode == 0, up.stderr
    assert "5 verified, 0 unverified, 0 skipped, 0 failed" in up.stdout
    assert "cavatica: " in up.stdout
    again = shell.run("copy", data, TO)
    assert again.returncode == 0
    assert "5 skipped (already verified 5)" in again.stdout
    down = shell.run("copy", TO, "back")
    assert down.returncode == 0
    for path in data.iterdir():
        assert (shell.folder / "back" / path.name).read_bytes() == path.read_bytes()


def test_json_is_one_object_and_nothing_else_whatever_else_is_told(shell: Shell) -> None:
    data = shell.files(3)
    ended = shell.run("copy", data, TO, "--json", "-vv", "--progress", "plain", "--debug")
    assert ended.returncode == 0
    summary = summary_of(ended.stdout)
    assert (summary["verified"], summary["bytes"]) == (3, 300)
    requests = summary["api_requests"]
    assert isinstance(requests, dict)
    assert requests["cavatica"] > 0
    assert ended.stderr.count("verified ") == 3


def test_progress_as_json_is_an_object_a_line_on_standard_error(shell: Shell) -> None:
    ended = shell.run("copy", shell.files(3), TO, "--progress", "json", "--json")
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    names = [event["event"] for event in events]
    assert names[0] == "run_started"
    assert names[-1] == "run_ended"
    assert names.count("transfer_ended") == names.count("planned") == 3
    assert sum(e["size"] for e in events if e["event"] == "bytes_moved") <= 300


def test_quiet_prints_nothing_when_all_is_well(shell: Shell) -> None:
    ended = shell.run("copy", shell.files(2), TO, "-q")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_quiet_prints_when_something_failed(served: Served, shell: Shell) -> None:
    served.sim.add_file("demo/project", "to/file-000", b"another")
    ended = shell.run("copy", shell.files(2), TO, "-q")
    assert ended.returncode == 1
    assert "1 verified" in ended.stdout
    assert "file-000" in ended.stderr


def test_failed_transfers_are_named_with_their_sentence_and_exit_1(
    served: Served, shell: Shell
) -> None:
    for number in range(12):
        served.sim.add_file("demo/project", f"to/file-{number:03}", b"another")
    ended = shell.run("copy", shell.files(13), TO, "--progress", "none", "--report", "r.jsonl")
    assert ended.returncode == 1
    told = ended.stderr.splitlines()
    assert all(line.startswith("penstock: ") for line in told)
    assert sum("file-0" in line for line in told) == 10
    assert "2 more failed files; all are in r.jsonl" in told[-2]
    assert "12 transfers failed; run the same command again" in told[-1]
    lines = (shell.folder / "r.jsonl").read_text().splitlines()
    assert len(lines) == 13


def test_json_of_failures_is_the_same_one_object(served: Served, shell: Shell) -> None:
    served.sim.add_file("demo/project", "to/file-000", b"another")
    ended = shell.run("copy", shell.files(2), TO, "--json")
    assert ended.returncode == 1
    assert summary_of(ended.stdout)["failed"] == 1


def test_nothing_is_on_standard_output_when_the_command_makes_no_sense(shell: Shell) -> None:
    for args in (("nothere", TO), ("data", "cavatica:no/project/"), ("data", "nobody:a/b/")):
        shell.files(1)
        ended = shell.run("copy", *args, "--json")
        assert (ended.returncode, ended.stdout) == (2, ""), args
        assert ended.stderr.splitlines()[-1].startswith("penstock: ")


def test_a_refused_token_is_exit_3_and_later_runs_ask_nothing(served: Served, shell: Shell) -> None:
    data = shell.files(3)
    first = shell.run("copy", data, TO, "--json", PENSTOCK_CAVATICA_TOKEN=WRONG)
    asked = served.requests()
    assert first.returncode == 3
    assert asked == 1
    summary_of(first.stdout)
    for args in (("copy", data, TO, "--json"), ("list", "cavatica:"), ("plan", data, TO)):
        again = shell.run(*args, PENSTOCK_CAVATICA_TOKEN=WRONG)
        assert again.returncode == 3
        assert again.stderr.splitlines()[-1].startswith("penstock: cavatica refused the token")
    assert served.requests() == asked
    tried = shell.run("profiles", "check", "cavatica", PENSTOCK_CAVATICA_TOKEN=WRONG)
    assert tried.returncode == 3
    assert served.requests() == asked + 1


def test_no_token_is_exit_2_and_says_where_to_put_one(shell: Shell) -> None:
    ended = shell.run("copy", shell.files(1), TO, PENSTOCK_CAVATICA_TOKEN="")
    assert ended.returncode == 2
    assert "PENSTOCK_CAVATICA_TOKEN" in ended.stderr


def test_the_token_appears_nowhere(served: Served, shell: Shell) -> None:
    data = shell.files(3)
    token = served.sim.token
    told = ""
    for args in (
        ("copy", data, TO, "-vv", "--debug", "--log", "log", "--report", "report"),
        ("copy", TO, "back", "--progress", "json"),
        ("copy", "nothere", TO, "--debug"),
        ("plan", data, TO),
        ("list", "cavatica:demo/project", "--json"),
        ("profiles", "list"),
        ("profiles", "show", "cavatica"),
        ("profiles", "check", "cavatica"),
    ):
        ended = shell.run(*args)
        told += ended.stdout + ended.stderr
    for secret in (token, WRONG):
        ended = shell.run("copy", data, TO, "--debug", PENSTOCK_CAVATICA_TOKEN=secret)
        told += ended.stdout + ended.stderr
        assert secret not in told
        assert secret.encode() not in shell.state()
        for name in ("log", "report"):
            assert secret not in (shell.folder / name).read_text()
    assert "X-Amz-Signature" not in told
    assert b"X-Amz-Signature" not in shell.state()


def test_the_first_interrupt_ends_the_run_in_good_order(tight: Served, tight_shell: Shell) -> None:
    process = tight_shell.start("copy", tight_shell.files(20), TO, "--json")
    until(lambda: tight.requests() >= 10, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert summary_of(out)["run"]
    assert "run the same command" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_an_interrupted_run_says_what_is_left_not_that_it_failed(
    tight: Served, tight_shell: Shell
) -> None:
    args = ("copy", tight_shell.files(20), TO, "--deadline", "1", "--progress", "json", "-v")
    ended = tight_shell.run(*args)
    assert ended.returncode == 130
    assert re.search(r"0 failed, [1-9][0-9]* not finished", ended.stdout)
    *events, last = ended.stderr.splitlines()
    assert last.startswith("penstock: stopped (the deadline passed)")
    assert all(json.loads(event)["event"] for event in events)


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,) * 2])
def test_the_second_interrupt_ends_it_at_once(
    tight: Served, tight_shell: Shell, numbers: tuple[signal.Signals, ...]
) -> None:
    process = tight_shell.start("copy", tight_shell.files(20), TO, "--json")
    until(lambda: tight.requests() >= 10, process)
    began = time.monotonic()
    process.send_signal(numbers[0])
    read_until("again to stop at once", process)
    process.send_signal(numbers[1])
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 4
    assert process.returncode == 130
    summary_of(out)
    assert err.splitlines()[-1].startswith("penstock: ")
    assert "Traceback" not in err


def test_an_interrupt_before_the_run_began_does_not_wait_for_the_quota(
    tight: Served, tight_shell: Shell
) -> None:
    spending = tight_shell.start("copy", tight_shell.files(20), TO)
    until(lambda: tight.requests() >= 10, spending)
    spending.kill()
    spending.communicate()
    process = tight_shell.start("copy", "data", "cavatica:demo/project/elsewhere/")
    read_until("the quota of cavatica is spent", process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130, err


def test_the_deadline_is_an_interrupt(tight: Served, tight_shell: Shell) -> None:
    ended = tight_shell.run("copy", tight_shell.files(20), TO, "--deadline", "1")
    assert ended.returncode == 130
    assert "deadline" in ended.stderr.splitlines()[-1]


def test_a_hangup_that_is_ignored_stays_ignored(tight: Served, tight_shell: Shell) -> None:
    line = f"trap '' HUP; exec PENSTOCK copy {tight_shell.files(20)} {TO} --deadline 2 & sleep 1.5"
    ended = tight_shell.shell(f"{line}; kill -HUP $!; wait $!")
    assert ended.returncode == 130
    assert "SIGHUP" not in ended.stderr
    assert "deadline" in ended.stderr.splitlines()[-1]


def test_on_finish_gets_the_summary_and_cannot_change_the_exit_code(shell: Shell) -> None:
    data = shell.files(2)
    finish = "cat > summary; echo told; exit 7"
    ended = shell.run("copy", data, TO, "--json", "--on-finish", finish)
    assert ended.returncode == 0
    assert json.loads((shell.folder / "summary").read_text()) == summary_of(ended.stdout)
    assert "told" in ended.stderr
    assert "--on-finish ended with 7" in ended.stderr


def test_a_reader_that_goes_away_changes_nothing(shell: Shell) -> None:
    ended = shell.shell(f"PENSTOCK copy {shell.files(2)} {TO} --on-finish 'cat > s' | true")
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert "Broken" not in ended.stderr
    assert json.loads((shell.folder / "s").read_text())["verified"] == 2


def test_a_full_disk_behind_standard_output_is_a_sentence(shell: Shell) -> None:
    ended = shell.shell(f"PENSTOCK copy {shell.files(2)} {TO} > /dev/full")
    assert ended.returncode == 1
    assert "standard output cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_log_has_a_line_an_event_and_is_added_to(shell: Shell) -> None:
    data = shell.files(2)
    for _ in range(2):
        shell.run("copy", data, TO, "--log", "log")
    lines = (shell.folder / "log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [a-z_]+ ", line) for line in lines)
    assert sum(" run_ended " in line for line in lines) == 2
    assert sum(" transfer_ended verified" in line for line in lines) == 2


def test_names_that_would_command_a_terminal_are_written_out(shell: Shell) -> None:
    data = shell.files(1)
    (data / "bad\x1b]0;name\x07").write_bytes(b"x")
    ended = shell.run("copy", data, TO, "-v")
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "\\x1b]0;name\\x07" in ended.stderr


def test_include_and_exclude_work_in_their_order(shell: Shell) -> None:
    data = shell.files(4)
    args = ("--exclude", "*", "--include", "file-00?", "--exclude", "*3")
    ended = shell.run("copy", data, TO, "--json", *args)
    assert summary_of(ended.stdout)["verified"] == 3


def test_a_manifest_and_only_its_failed_lines(served: Served, shell: Shell) -> None:
    data = shell.files(3)
    served.sim.add_file("demo/project", "to/file-001", b"another")
    first = shell.run("copy", data, TO, "--report", "report")
    assert first.returncode == 1
    second = shell.run(
        "copy", TO, "--manifest", "report", "--only", "failed", "--on-conflict", "overwrite",
        "--json",
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    summary = summary_of(second.stdout)
    assert (summary["verified"], summary["skipped"]) == (1, 0)


@pytest.mark.parametrize("command", [("plan",), ("copy", "--dry-run")])
def test_a_plan_tells_what_it_costs_and_moves_nothing(
    served: Served, shell: Shell, command: tuple[str, ...]
) -> None:
    data = shell.files(4)
    human = shell.run(*command, data, TO)
    assert human.returncode == 0, human.stderr
    for word in ("4 files", "400 B", "API requests", "1 window of 1,000/5 min", "binds"):
        assert word in human.stdout
    ended = shell.run(*command, data, TO, "--json", "--report", "r", "--on-finish", "touch f")
    assert ended.stdout.count("\n") == 1
    plan = json.loads(ended.stdout)
    assert plan["files"] == 4
    assert list(plan["api_requests"]) == ["cavatica"]
    assert not (shell.folder / "f").exists()
    assert {exchange.method for exchange in served.sim.log} == {"GET"}


def test_max_failures_gives_up_with_exit_1(served: Served, shell: Shell) -> None:
    for number in range(10):
        served.sim.add_file("demo/project", f"to/file-{number:03}", b"another")
    ended = shell.run("copy", shell.files(10), TO, "--max-failures", "2")
    assert ended.returncode == 1
    assert "stopped at 2 failures" in ended.stderr


def test_a_ledger_that_is_none_is_exit_3_and_still_one_object(shell: Shell) -> None:
    data = shell.files(1)
    assert shell.run("copy", data, TO).returncode == 0
    for ledger in (shell.folder / "state").rglob("ledger*.sqlite3"):
        sqlite3.connect(ledger).close()
        ledger.write_bytes(b"no database at all, but long enough to be looked at " * 100)
    ended = shell.run("copy", data, TO, "--json")
    assert ended.returncode == 3, ended.stderr
    summary_of(ended.stdout)
