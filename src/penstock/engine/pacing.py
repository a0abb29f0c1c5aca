"""Bytes paced to a rate: how long to wait after what has just moved. No waiting is done here.

Every body of a run asks the same pacer, so the rate holds over all of them. What was not used is
not saved up, beyond a twentieth of a second: a pause is not made good by a burst.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.core.model import MIB

# What moves between two waits, in seconds of the rate: smooth to the eye, few wake-ups.
_STEP_S = 0.05
_LARGEST_STEP = 4 * MIB


class Pacer:
    """Spends `rate` bytes a second. `now` is a monotonic clock in seconds."""

    def __init__(self, rate: int, now: Callable[[], float]) -> None:
        self.rate = max(rate, 1)
        self.step = max(1, min(int(self.rate * _STEP_S), _LARGEST_STEP))
        self._now = now
        self._paid_until_s = now()

    def spend(self, size: int) -> float:
        """Seconds to wait before more may move, `size` bytes having just moved or about to."""
        now_s = self._now()
        self._paid_until_s = max(self._paid_until_s, now_s - _STEP_S) + size / self.rate
        return max(self._paid_until_s - now_s, 0.0)

    def __repr__(self) -> str:
        return f"<Pacer {self.rate} bytes/s, paid until {self._paid_until_s:.3f} s>"
