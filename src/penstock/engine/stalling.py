"""Whether a stream gets on. Arithmetic alone: whoever moves the bytes says when and how many.

A stream that brings a byte now and then is as dead as one that brings none, and no time-out that
starts anew with each byte ever ends it. So bytes are counted over a window.
"""

from __future__ import annotations

from penstock.core.model import KIB

# What a stream must bring in a window of `STALL_TIMEOUT_S`, some 500 bytes a second: a fiftieth of
# what one of fifty streams has on the slowest line people complain of. A choice.
LEAST_BYTES = 64 * KIB


def longest_s(size: int, window_s: float | None) -> float | None:
    """How long a whole body may take that moves no faster than it must, and stalls once."""
    return None if window_s is None else window_s * (1 + size / LEAST_BYTES)


class Watch:
    """Counts what one stream brings, over one window after another."""

    def __init__(self, window_s: float | None, now_s: float) -> None:
        self._window_s = window_s
        self._since_s = now_s
        self._bytes = 0

    def moved(self, size: int, now_s: float) -> bool:
        """Whether too little came since the window began, this counted; then another begins."""
        self._bytes += size
        if self._window_s is None or now_s - self._since_s < self._window_s:
            return False
        slow = self._bytes < LEAST_BYTES
        self.rest(now_s)
        return slow

    def rest(self, now_s: float) -> None:
        """Whoever takes the bytes was busy meanwhile: a window begins anew."""
        self._since_s, self._bytes = now_s, 0


class Stride:
    """How many bytes are written at once, so that a slow line moves each within the stall time."""

    def __init__(self, stall_timeout_s: float | None) -> None:
        self.size = LEAST_BYTES
        self._short_s = None if stall_timeout_s is None else stall_timeout_s / 16

    def took(self, seconds: float) -> None:
        """The last stride took so long: the next is longer where it was short."""
        if self._short_s is None or seconds < self._short_s:
            self.size *= 2
        else:
            self.size = max(LEAST_BYTES, self.size // 2)
