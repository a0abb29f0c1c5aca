"""What those who send actions wait by: a bell, and the time a full queue is left alone.

Nothing is sent or decided here.
"""

from __future__ import annotations

import math

import anyio

_FIRST_HOLD_S = 1.0
_LONGEST_HOLD_S = 60.0


class Bell:
    """Wakes all who sleep by it, whenever something happens."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """All who sleep now wake."""
        self._rung.set()
        self._rung = anyio.Event()

    async def sleep(self, seconds: float = math.inf) -> None:
        """Returns after so long, or sooner where something happened."""
        rung = self._rung
        with anyio.move_on_after(seconds):
            await rung.wait()


class Hold:
    """Until when a full queue is left alone, by the loop's clock; longer each time in a row."""

    def __init__(self) -> None:
        self.until_s = -math.inf
        self._next_s = _FIRST_HOLD_S

    def full(self, now_s: float, asked_s: float | None) -> None:
        """It was full just now. `asked_s` is how long it asked to be left alone, if it did."""
        hold_s = self._next_s if asked_s is None else asked_s
        # Refusals of what was in flight together count once.
        if now_s >= self.until_s:
            self._next_s = min(2 * self._next_s, _LONGEST_HOLD_S)
        self.until_s = max(self.until_s, now_s + hold_s)

    def taken(self) -> None:
        """It had room."""
        self._next_s = _FIRST_HOLD_S
