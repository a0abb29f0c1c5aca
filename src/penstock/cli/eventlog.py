"""`--log FILE`: what happened, a line an event, in UTC.

Lines are added to what is there. A log that can no longer be written is given up, and the run goes
on: it is told of once, by whoever asks `fault`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from penstock.cli import terminal, words
from penstock.core.errors import UsageError
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

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def event_name(event: Event) -> str:
    """`transfer_ended`."""
    return _WORD.sub("_", type(event).__name__).lower()


class EventLog:
    """A log in a file, opened for adding. Raises `UsageError` where it cannot be."""

    def __init__(self, path: str) -> None:
        try:
            self._file = Path(path).open("a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"the log {path} cannot be written: {error.strerror}") from error
        self.fault: str | None = None

    def write(self, event: Event) -> None:
        """A line for the event, where it is worth one."""
        text = _of(event)
        if text is not None:
            self.line(event_name(event), text)

    def line(self, kind: str, text: str) -> None:
        """A line of a kind."""
        if self.fault is not None:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            self._file.write(f"{at} {kind} {terminal.safe_line(text)}\n")
            if kind != "transfer_ended":
                self._file.flush()
        except (OSError, ValueError) as error:
            self.fault = f"the log could not be written to its end: {error}"

    def close(self) -> None:
        """The log is whole, or `fault` says why not."""
        try:
            self._file.close()
        except OSError as error:
            self.fault = self.fault or f"the log could not be written to its end: {error}"


def _of(event: Event) -> str | None:
    match event:
        case RunStarted(run, sources, destination):
            return f"{run} from {', '.join(sources) or 'a manifest'} to {destination}"
        case PlanComplete(files, size):
            return f"{words.counted(files, 'file')}, {size} bytes"
        case TransferStarted(source, destination, size):
            return f"{source} → {destination} ({'?' if size is None else size} bytes)"
        case TransferEnded(line):
            return words.of_line(line)
        case QuotaWait(profile, seconds):
            return f"{profile} {seconds:.1f} s"
        case Note(message):
            return message
        case RunEnded(summary):
            return summary
        case ActionsStarted(run, action, profile):
            return f"{run} {action} in {profile}"
        case ActionsListed(things):
            return words.counted(things, "workspace")
        case ActionAccepted(thing, name):
            return f"{name} ({thing})"
        case ActionEnded(ended):
            return words.of_action(ended)
        case BytesMoved() | Planned():
            return None
