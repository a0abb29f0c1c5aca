from __future__ import annotations

from dataclasses import replace

from penstock.cli import words
from penstock.cli.watching import NAMED_FAILURES
from penstock.core.events import (
    BytesMoved,
    Note,
    QuotaWait,
    RunEnded,
    TransferEnded,
    TransferStarted,
)
from tallying import LINE, move, tally_of


def test_bytes_of_files_under_way_count_until_they_move_again() -> None:
    tally, _ = tally_of(2)
    tally.take(TransferStarted("0", "there", 100))
    tally.take(BytesMoved("0", 60))
    assert tally.seen_size == 60
    tally.take(BytesMoved("0", -60))
    assert tally.seen_size == 0
    tally.take(BytesMoved("0", 100))
    tally.take(TransferEnded(replace(LINE, source="0")))
    assert tally.seen_size == 100
    assert not tally.current


def test_a_note_is_news_once() -> None:
    tally, _ = tally_of(0)
    assert tally.take(Note("mind the gap"))
    assert not tally.take(Note("mind the gap"))


def test_the_time_left_includes_what_was_waited() -> None:
    tally, time = tally_of(100)
    move(tally, "0")
    time.now_s += 300
    for number in range(1, 50):
        move(tally, f"{number}")
    left_s = tally.left_s()
    assert left_s is not None
    assert 290 <= left_s <= 310


def test_files_that_were_there_set_no_pace() -> None:
    tally, time = tally_of(100)
    for number in range(90):
        tally.take(TransferEnded(replace(LINE, source=f"{number}", status="skipped")))
    assert tally.left_s() is None
    tally.take(TransferStarted("90", "there", 100))
    time.now_s += 10
    move(tally, "90")
    left_s = tally.left_s()
    assert left_s is not None
    assert 80 <= left_s <= 100


def test_a_wait_is_shown_with_its_profile_until_it_is_over() -> None:
    tally, time = tally_of(1)
    tally.take(QuotaWait("cavatica", 120.0))
    time.now_s += 60
    assert words.waiting(tally) == "waiting 1 min 00 s for the quota of cavatica"
    time.now_s += 61
    assert words.waiting(tally) == ""


def test_memory_is_that_of_files_under_way() -> None:
    tally, _ = tally_of(0)
    for number in range(5000):
        move(tally, f"{number}")
        line = replace(LINE, source=f"bad {number}", status="failed", reason=f"why: {number}")
        tally.take(TransferEnded(line))
        left = replace(LINE, source=f"left {number}", status="skipped", reason=f"old: {number}")
        tally.take(TransferEnded(left))
    assert len(tally.failures) == NAMED_FAILURES
    assert not tally.current
    assert list(tally.reasons) == ["old"]
    assert tally.summary.verified == tally.summary.failed == tally.summary.skipped == 5000


def test_the_last_word_of_a_run_is_its_own() -> None:
    tally, _ = tally_of(1)
    tally.take(RunEnded(tally.summary.json()))
    assert tally.final is not None
    assert tally.final["run"] == "run"


def test_a_summary_tells_all_there_is_to_tell() -> None:
    tally, _ = tally_of(3)
    move(tally, "0", 2048)
    tally.take(TransferEnded(replace(LINE, status="skipped", reason="already verified")))
    tally.take(TransferEnded(replace(LINE, status="unverified")))
    summary = tally.summary
    summary.api_requests, summary.rejected_by_quota = {"cavatica": 1234}, {"cavatica": 2}
    summary.waited_for_quota_s, summary.seconds = 61.0, 5.0
    text = "\n".join(words.of_summary(summary, tally.reasons))
    assert "1 verified, 1 unverified, 1 skipped (already verified 1), 0 failed; 2.1 KiB" in text
    assert "cavatica: 1,234 API requests, 2 refused by the quota, waited 1 min 01 s" in text


def test_failures_beyond_the_first_are_counted() -> None:
    line = replace(LINE, status="failed", error={"type": "X", "message": "it\x1b[31m broke"})
    told = list(words.of_failures([line], 12, "report.jsonl"))
    assert told == [
        "source: it\\x1b[31m broke",
        "… and 11 more failed files; all are in report.jsonl",
    ]


def test_a_reason_that_names_the_file_is_not_told_with_the_name_before_it() -> None:
    line = replace(LINE, status="failed", error={"type": "X", "message": "source does not exist"})
    assert list(words.of_failures([line], 1, None)) == ["source does not exist"]
