from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

from penstock.cli.bars import Bars, Screen
from penstock.cli.progress import FIRST_LINE_S, LINE_EVERY_S, Json, Plain, Silent, choose
from penstock.cli.telling import Watch
from penstock.cli.watching import Tally
from penstock.core.events import (
    BytesMoved,
    Event,
    Note,
    PlanComplete,
    QuotaWait,
    TransferEnded,
    TransferStarted,
)
from tallying import LINE, Time, tally_of

if TYPE_CHECKING:
    import pytest

ESCAPE = "\x1b]0;stolen\x07"


def test_a_hundred_thousand_events_are_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    tally, time = tally_of(1)
    watch = Watch(tally, Plain(tally))
    watch(TransferStarted("0", "there", 100_000))
    for number in range(100_000):
        watch(BytesMoved("0", 1))
        if number % 100 == 0:
            time.now_s += 0.05
            watch.display.tick()
    written = capsys.readouterr().err.splitlines()
    assert len(written) == 1 + int((50 - FIRST_LINE_S) // LINE_EVERY_S)


def test_json_progress_adds_up_bytes_between_ticks(capsys: pytest.CaptureFixture[str]) -> None:
    display = Json()
    for _ in range(1000):
        display.event(BytesMoved("a", 10))
    display.event(PlanComplete(1, 10_000))
    display.tick()
    display.event(TransferEnded(LINE))
    display.event(Note("\udcff and \x9b31m"))
    written = capsys.readouterr().err
    assert written.isascii()
    told = [json.loads(text) for text in written.splitlines()]
    assert told[0] == {"event": "plan_complete", "files": 1, "bytes": 10_000}
    assert told[1] == {"event": "bytes_moved", "source": "a", "size": 10_000}
    assert told[2]["event"] == "transfer_ended"
    assert told[2]["line"]["status"] == "verified"
    assert told[3] == {"event": "note", "message": "\udcff and \x9b31m"}


def test_a_long_wait_gets_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    tally, _ = tally_of(1)
    display = Plain(tally)
    for _ in range(100):
        display.event(QuotaWait("cavatica", 120.0))
    assert capsys.readouterr().err.count("the quota of cavatica is spent: waiting 2 min 00 s") == 1


def test_bars_are_drawn_on_ticks_only_and_no_name_reaches_the_terminal_raw() -> None:
    tally, time = tally_of(2, size=1 << 20)
    screen = io.StringIO()
    console = Screen(file=screen, force_terminal=True, width=120, highlight=False)
    bars = Bars(tally, console)
    bars.start()
    watch = Watch(tally, bars, verbose=1)
    before = screen.tell()
    name = f"cavatica:me/[red]{ESCAPE}"
    watch(TransferStarted(name, "there", 1 << 20))
    for _ in range(1000):
        watch(BytesMoved(name, 512))
    watch(QuotaWait("cavatica", 90.0))
    assert screen.tell() == before
    watch(Note("above the bars"))
    assert screen.tell() == before
    time.now_s += 1
    bars.tick()
    bars.close()
    drawn = screen.getvalue()
    assert "waiting 1 min 29 s for the quota of cavatica" in drawn
    assert "[red]\\x1b]0;stolen\\x07" in drawn
    assert ESCAPE not in drawn
    assert "of 2 files" in drawn
    assert "above the bars" in drawn


def test_a_terminal_that_goes_away_ends_the_bars_and_nothing_else() -> None:
    class Gone(io.StringIO):
        gone = False

        def write(self, text: str) -> int:
            if self.gone:
                raise BrokenPipeError
            return super().write(text)

    tally, _ = tally_of(1)
    screen = Gone()
    bars = Bars(tally, Screen(file=screen, force_terminal=True, width=80))
    bars.start()
    screen.gone = True
    bars.tick()
    bars.tick()
    bars.close()


def test_notes_are_told_once_and_safely(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(Tally(Time()), Silent())
    for event in (Note(ESCAPE), Note(ESCAPE), Note("two\nlines")):
        watch(event)
    told = capsys.readouterr().err
    assert told == "penstock: \\x1b]0;stolen\\x07\npenstock: two\\nlines\n"


def test_quiet_tells_nothing_until_there_is_something_to_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally = Tally(Time())
    watch = Watch(tally, choose("bars", tally, quiet=True), verbose=2, quiet=True)
    events: list[Event] = [Note("a warning"), TransferEnded(LINE)]
    for event in events:
        watch(event)
    assert capsys.readouterr().err == ""
    watch.release()
    assert "a warning" in capsys.readouterr().err


def test_auto_is_plain_where_there_is_no_terminal() -> None:
    assert not sys.stderr.isatty()
    assert isinstance(choose("auto", Tally(Time()), quiet=False), Plain)
