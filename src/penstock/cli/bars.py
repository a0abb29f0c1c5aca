"""Bars, on a terminal: one for the run, a line for a wait, a few files under way.

Drawn on ticks only. The only module that imports rich.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from penstock.cli import terminal, words
from penstock.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.cli.watching import Tally
    from penstock.core.events import Event

_FILES_SHOWN = 4
_BAR = 30
_LITTLE_BAR = 14


class Screen(Console):
    """A console whose broken pipe is the caller's to deal with."""

    def on_broken_pipe(self) -> None:
        """Raises it; rich would end the process, and close standard output too."""
        raise BrokenPipeError


class Bars:
    """Redrawn in place on standard error; gone when closed."""

    # Five redraws a second: smooth to the eye, and little to a slow terminal.
    interval_s = 0.2
    shows_events = False

    def __init__(self, tally: Tally, console: Console | None = None) -> None:
        self._tally = tally
        self._console = console or Screen(stderr=True, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._lines: list[str] = []
        self._spinner = Spinner("line")

    def start(self) -> None:
        """The bars appear."""
        self._live = Live(
            self._drawn(),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._guarded(self._live.start)

    def event(self, event: Event) -> None:
        """Nothing: events are drawn on the next tick."""

    def tick(self) -> None:
        """Lines that came since stand above; the bars are as the tally is."""
        if self._live is not None:
            live = self._live
            self._print_lines()
            self._guarded(lambda: live.update(self._drawn(), refresh=True))

    def line(self, text: str) -> None:
        """A line above the bars, on the next tick: each print draws the bars anew."""
        if self._live is None:
            terminal.say(text)
        else:
            self._lines.append(terminal.safe(text))

    def close(self) -> None:
        """The bars are gone."""
        self._print_lines()
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except (OSError, ValueError):
                return

    def _print_lines(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            shown = Text("\n".join(lines), overflow="fold")
            self._guarded(lambda: self._console.print(shown, soft_wrap=True))

    def _guarded(self, draw: Callable[[], object]) -> None:
        """A terminal that went away ends the bars, not the run."""
        try:
            draw()
        except (OSError, ValueError):
            self._live = None

    def _drawn(self) -> RenderableType:
        return Group(*self._rows())

    def _rows(self) -> Iterator[RenderableType]:
        tally = self._tally
        total = tally.size or tally.files
        seen = tally.seen_size if tally.size else tally.done
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(total, 1), completed=seen if tally.files else 0, width=_BAR)
        how_far = words.how_far(tally)
        head.add_row(bar if tally.files else self._spinner, Text(how_far, overflow="ellipsis"))
        yield head
        wait = words.waiting(tally)
        if wait:
            yield Text(f"  {wait}", style="yellow")
        files = Table.grid(padding=(0, 1))
        for source, file in islice(tally.current.items(), _FILES_SHOWN):
            part = ProgressBar(
                total=max(file.size or 1, 1), completed=file.moved, width=_LITTLE_BAR
            )
            of = f"of {format_size(file.size)}" if file.size is not None else ""
            name = Text(terminal.safe_line(source), overflow="ellipsis", no_wrap=True)
            files.add_row(" ", part, Text(f"{format_size(file.moved)} {of}"), name)
        yield files
        more = len(tally.current) - _FILES_SHOWN
        if more > 0:
            yield Text(f"  and {words.counted(more, 'more file')} under way", style="dim")
