"""What is shown while a run goes on: plain lines, JSON lines, or nothing. Bars are in `bars`.

A display is told of each event after the `Tally` took it, and ticked a few times a second; what it
draws for bytes it draws on a tick. Whatever goes wrong with the terminal ends the display, never
the run.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from penstock.cli import terminal, words
from penstock.cli.eventlog import event_name
from penstock.core.events import (
    ActionsListed,
    ActionsStarted,
    BytesMoved,
    Event,
    PlanComplete,
    QuotaWait,
    RunStarted,
    TransferEnded,
)
from penstock.core.units import format_duration, format_size

if TYPE_CHECKING:
    from penstock.cli.watching import Tally

FIRST_LINE_S = 2.0
LINE_EVERY_S = 10.0
# A shorter wait is over before it was read.
_WORTH_A_LINE_S = 5.0


class Display(Protocol):
    """Shows a run while it goes on."""

    interval_s: float
    # Whether every event is shown as it is, so that none need be told in words.
    shows_events: bool

    def start(self) -> None:
        """The run is about to begin."""

    def event(self, event: Event) -> None:
        """Something happened; the tally has counted it. Cheap for `BytesMoved`."""

    def tick(self) -> None:
        """Some time passed."""

    def line(self, text: str) -> None:
        """A line for the reader, beside what is shown."""

    def close(self) -> None:
        """Nothing is shown any more."""


class Silent:
    """Shows nothing, and lets lines through."""

    interval_s = 1.0
    shows_events = False

    def start(self) -> None:
        """Nothing."""

    def event(self, event: Event) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """The line."""
        terminal.say(text)

    def close(self) -> None:
        """Nothing."""


class Plain(Silent):
    """A line now and then, for logs and terminals that cannot redraw."""

    interval_s = 0.5

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._next_s = tally.now() + FIRST_LINE_S
        self._said_wait_until_s = 0.0

    def event(self, event: Event) -> None:
        """Beginnings, and waits worth a line."""
        match event:
            case RunStarted(run, sources, destination):
                many = f" and {len(sources) - 3} more" if len(sources) > 3 else ""  # noqa: PLR2004
                what = ", ".join(sources[:3]) or "the manifest's files"
                self._say(f"run {run}: copying {what}{many} to {destination}")
            case ActionsStarted(run, action, profile):
                self._say(f"run {run}: {action} in {profile}")
            case ActionsListed(things):
                self._say(f"all is listed: {words.counted(things, 'workspace')}")
            case PlanComplete(files, size):
                self._say(f"all is listed: {words.counted(files, 'file')}, {format_size(size)}")
            case QuotaWait(profile, seconds):
                self._wait(profile, seconds)

    def _wait(self, profile: str, seconds: float) -> None:
        until_s = self._tally.now() + seconds
        if seconds < _WORTH_A_LINE_S or until_s < self._said_wait_until_s + _WORTH_A_LINE_S:
            return
        self._said_wait_until_s = until_s
        duration = format_duration(seconds)
        self._say(f"the quota of {profile} is spent: waiting {duration} for the next request")

    def tick(self) -> None:
        """A line, when it is time for one."""
        now_s = self._tally.now()
        if now_s >= self._next_s:
            self._next_s = now_s + LINE_EVERY_S
            wait = words.waiting(self._tally)
            self._say(words.how_far(self._tally) + (f" · {wait}" if wait else ""))

    def _say(self, text: str) -> None:
        terminal.say(f"{terminal.clock_time()}  {terminal.safe_line(text)}")


class Json(Silent):
    """One JSON object an event. Bytes are added up by source between ticks."""

    interval_s = 0.5
    shows_events = True

    def __init__(self) -> None:
        self._moved: Counter[str] = Counter()

    def event(self, event: Event) -> None:
        """The event, as it is; bytes later."""
        if isinstance(event, BytesMoved):
            self._moved[event.source] += event.size
            return
        if isinstance(event, TransferEnded):
            self._moved.pop(event.line.source, None)
        fields = dataclasses.asdict(event)
        self._write({"event": event_name(event), **fields})

    def tick(self) -> None:
        """The bytes that moved since the last tick."""
        moved, self._moved = self._moved, Counter()
        for source, size in moved.items():
            if size:
                self._write({"event": "bytes_moved", "source": source, "size": size})

    def close(self) -> None:
        """The last bytes."""
        self.tick()

    def _write(self, record: dict[str, object]) -> None:
        try:
            sys.stderr.write(terminal.to_json(record) + "\n")
        except (OSError, ValueError):
            self._moved.clear()


def choose(wanted: str, tally: Tally, *, quiet: bool) -> Display:
    """The display for `--progress`; bars only where they can be drawn."""
    if quiet or wanted == "none":
        return Silent()
    if wanted == "json":
        return Json()
    if wanted == "plain" or not terminal.is_terminal(sys.stderr):
        return Plain(tally)
    from penstock.cli.bars import Bars  # noqa: PLC0415 - rich is slow to import

    return Bars(tally)
