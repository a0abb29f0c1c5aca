"""A run's events, added up: what progress and the closing words are made from.

Events come by the hundred thousand, so taking one is a few additions and never a redraw; memory is
O(files under way), never O(files). Displays read a `Tally` at their own pace.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.core.events import (
    ActionAccepted,
    ActionEnded,
    ActionsListed,
    ActionsStarted,
    BytesMoved,
    Event,
    Note,
    PlanComplete,
    Planned,
    QuotaWait,
    RunEnded,
    RunStarted,
    TransferEnded,
    TransferStarted,
)
from penstock.core.report import Line, Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.actionreport import ActionLine

# Failed files that are named at the end; the report has them all.
NAMED_FAILURES = 10
# Files that a stop left: the same command carries on with them.
UNFINISHED = "not finished"
# Rates are those of the last seconds; the time left is reckoned from the whole run, waits included.
_RATE_OVER_S = 10.0
# Bytes of the first files from which a pace can be told.
_TELLING = 8 << 20
_MANY_NOTES = 1000
# The rest of a reason that holds a name or a number would make every file a kind of its own.
_REASON = re.compile(r"[^:(]*")


@dataclass(slots=True)
class UnderWay:
    """A file on its way; sizes in bytes."""

    size: int | None
    moved: int = 0


@dataclass(slots=True)
class Tally:
    """How far a run is, of transfers or of actions. `now` gives seconds that only grow.

    `thing` is what is counted; `accepted` actions are under way.
    """

    now: Callable[[], float]
    thing: str = "file"
    accepted: int = 0
    summary: Summary = field(default_factory=lambda: Summary(""))
    sources: tuple[str, ...] = ()
    destination: str = ""
    files: int = 0
    size: int = 0
    listed: bool = False
    final: dict[str, Any] | None = None
    done: int = 0
    done_size: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    failures: list[Line] = field(default_factory=list)
    bad_actions: list[ActionLine] = field(default_factory=list)
    requests: int = 0
    unfinished: int = 0
    current: dict[str, UnderWay] = field(default_factory=dict)
    wait_profile: str = ""
    moved: int = 0
    waited: bool = False
    _under_way: int = 0
    _wait_until_s: float = 0.0
    _began_s: float | None = None
    _made_s: float = 0.0
    _moved_files: int = 0
    _moved_size: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _notes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._made_s = self.now()

    def take(self, event: Event) -> bool:
        """The event counts. False for a note that was taken before."""
        # The four that come with every file, told apart in a third of what `match` takes.
        if isinstance(event, BytesMoved):
            self._move(event.source, event.size)
        elif isinstance(event, Planned):
            self.files += 1
            self.size += event.size or 0
        elif isinstance(event, TransferStarted):
            self.current[event.source] = UnderWay(event.size)
            if self._began_s is None:
                self._began_s = self.now()
        elif isinstance(event, TransferEnded):
            self._end(event.line)
        else:
            return self._take_seldom(event)
        return True

    def _take_seldom(self, event: Event) -> bool:
        match event:
            case QuotaWait(profile, seconds):
                self.waited = True
                self.wait_profile = profile
                self._wait_until_s = self.now() + seconds
            case PlanComplete(files, size):
                self.files, self.size, self.listed = files, size, True
            case RunStarted(run, sources, destination):
                self.summary.run, self.sources, self.destination = run, sources, destination
            case RunEnded(summary):
                self.final = json.loads(summary)
            case ActionsStarted() | ActionsListed() | ActionAccepted() | ActionEnded():
                self._act(event)
            case Note(message):
                return self._is_new(message)
        return True

    def _move(self, source: str, size: int) -> None:
        self.moved += max(size, 0)
        under_way = self.current.get(source)
        if under_way is not None:
            before = under_way.moved
            under_way.moved = max(before + size, 0)
            self._under_way += under_way.moved - before

    def _end(self, line: Line) -> None:
        self.summary.add(line)
        self.done += 1
        self.done_size += line.size or 0
        self.requests += line.api_requests
        under_way = self.current.pop(line.source, None)
        if under_way is not None:
            self._under_way -= under_way.moved
            self._moved_files += 1
            self._moved_size += line.size or 0
        if line.status == "skipped" and line.reason:
            match = _REASON.match(line.reason)
            self.reasons[match[0].strip() if match else line.reason] += 1
        if line.reason == UNFINISHED:
            self.unfinished += 1
        elif line.status == "failed" and len(self.failures) < NAMED_FAILURES:
            self.failures.append(line)

    def _act(self, event: ActionsStarted | ActionsListed | ActionAccepted | ActionEnded) -> None:
        match event:
            case ActionsStarted(run):
                self.summary.run, self.thing = run, "workspace"
            case ActionsListed(things):
                self.files, self.listed, self._began_s = things, True, self.now()
            case ActionAccepted():
                self.accepted += 1
            case ActionEnded(line):
                self._end_action(line)

    def _end_action(self, line: ActionLine) -> None:
        self.done += 1
        if line.status == "settled" or (line.status == "failed" and line.after is not None):
            self.accepted = max(self.accepted - 1, 0)
            self._moved_files += 1
        bad = line.status in {"failed", "unknown"} or (line.status == "accepted" and line.reason)
        if bad:
            self.summary.failed += 1
            if len(self.bad_actions) < NAMED_FAILURES:
                self.bad_actions.append(line)

    def _is_new(self, message: str) -> bool:
        if message in self._notes:
            return False
        if len(self._notes) < _MANY_NOTES:
            self._notes.add(message)
        return True

    # -- what is read ------------------------------------------------------------------------

    @property
    def seen_size(self) -> int:
        """Bytes of files that ended, and what has moved of those under way."""
        return self.done_size + self._under_way

    def spent_s(self) -> float:
        """Seconds since the command began."""
        return self.now() - self._made_s

    def wait_s(self) -> float:
        """Seconds until the quota lets the next request through; 0 where it does now."""
        return max(self._wait_until_s - self.now(), 0.0)

    def rate(self) -> float:
        """Bytes a second over the last seconds: call it at every redraw."""
        now_s = self.now()
        self._samples.append((now_s, self.moved))
        while len(self._samples) > 2 and now_s - self._samples[1][0] > _RATE_OVER_S:  # noqa: PLR2004
            self._samples.popleft()
        first_s, first = self._samples[0]
        return (self.moved - first) / (now_s - first_s) if now_s > first_s else 0.0

    def left_s(self) -> float | None:
        """About how long until the end, at the pace until now; None where nothing can be said.

        The pace is that of the whole run, so that waiting for the quota is part of it. Files that
        were there already set no pace.
        """
        if not self.listed or self._began_s is None:
            return None
        spent_s = self.now() - self._began_s
        left, left_size = self.files - self.done, self.size - self.seen_size
        if left <= 0 or spent_s <= 0:
            return 0.0
        estimates = []
        if self._moved_files:
            estimates.append(left * spent_s / self._moved_files)
        moved_size = self._moved_size + self._under_way
        if moved_size > 0 and left_size > 0 and (self._moved_files or moved_size >= _TELLING):
            by_size = left_size * spent_s / moved_size
            # Small files wait for answers, large ones for bytes: what is left decides which.
            estimates = (
                [max(by_size, estimates[0] if self._mostly_small() else 0.0)]
                if (estimates)
                else [by_size]
            )
        return max(estimates[0], self.wait_s()) if estimates else None

    def _mostly_small(self) -> bool:
        """Whether files, rather than bytes, set the pace until now."""
        return self._moved_size < self._moved_files << 20
