"""Where a run's events go: counted, shown, logged, and told in words where asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.cli import terminal, words
from penstock.cli.watching import UNFINISHED
from penstock.core.events import (
    ActionAccepted,
    ActionEnded,
    BytesMoved,
    Event,
    Note,
    TransferEnded,
    TransferStarted,
)

if TYPE_CHECKING:
    from penstock.cli.eventlog import EventLog
    from penstock.cli.progress import Display
    from penstock.cli.watching import Tally


class Watch:
    """What `on_event` is given: counts, shows and logs. Notes are told once each.

    With `quiet` nothing is told until `release`; what would have been is kept, within bounds.
    """

    _MOST_KEPT = 200

    def __init__(
        self,
        tally: Tally,
        display: Display,
        *,
        verbose: int = 0,
        quiet: bool = False,
        log: EventLog | None = None,
    ) -> None:
        self.tally = tally
        self.display = display
        self._verbose = verbose
        self._kept: list[str] | None = [] if quiet else None
        self._log = log

    def __call__(self, event: Event) -> None:
        """The event is counted, shown and logged."""
        is_news = self.tally.take(event)
        self.display.event(event)
        if isinstance(event, BytesMoved):
            return
        text = None
        if self._verbose or isinstance(event, Note):
            text = None if self.display.shows_events or not is_news else self._in_words(event)
        if text is not None:
            self._tell(text)
        if self._log is not None and is_news:
            self._log.write(event)

    def _in_words(self, event: Event) -> str | None:
        match event:
            case Note(message):
                return f"penstock: {terminal.safe_line(message)}"
            case TransferEnded(line) if self._verbose and line.reason != UNFINISHED:
                return words.of_line(line)
            case ActionEnded(ended) if self._verbose:
                return words.of_action(ended)
            case ActionAccepted(thing, name) if self._verbose > 1:
                return f"{'accepted':<10} {terminal.safe_line(name)} ({terminal.safe_line(thing)})"
            case TransferStarted(source) if self._verbose > 1:
                return f"{'started':<10} {terminal.safe_line(source)}"
            case _:
                return None

    def tell(self, sentence: str) -> None:
        """A sentence of ours, as errors have it."""
        self._tell(f"penstock: {sentence}")
        if self._log is not None:
            self._log.write(Note(sentence))

    def _tell(self, text: str) -> None:
        if self._kept is None:
            self.display.line(text)
        elif len(self._kept) < self._MOST_KEPT:
            self._kept.append(text)

    def release(self) -> None:
        """What was kept is told, and all that follows."""
        kept, self._kept = self._kept or [], None
        for text in kept:
            self.display.line(text)

    def close(self) -> None:
        """Nothing is shown any more. May be called twice."""
        self.display.close()
