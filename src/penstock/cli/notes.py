"""Notes of commands that move nothing: told on standard error, each once."""

from __future__ import annotations

from penstock.cli import terminal
from penstock.core.events import Event, Note


class Notes:
    """What `on_event` is given where nothing else of a run is shown."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, event: Event) -> None:
        """A note is told, unless it was."""
        if isinstance(event, Note) and event.message not in self._told:
            self._told.add(event.message)
            terminal.complain(event.message)
