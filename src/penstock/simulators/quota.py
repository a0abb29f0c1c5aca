"""A quota of N requests in a window, and the headers that tell of it.

Fixed as Seven Bridges says: once the limit is reached nothing more is accepted until the interval
ends; or sliding: never more than N in any T. Time comes from the caller; nothing here waits.
Whether windows are aligned to the clock or begin with a first call, and whether refused calls
count, no document says: both are switches.
"""

import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

WindowStart = Literal["first call", "aligned"]
QuotaHeaders = Literal["epoch_s", "epoch_ms", "delta_s", "iso", "none"]


class Window(NamedTuple):
    """One window that was used: when it began (epoch s), what it accepted, what it refused."""

    start: float
    accepted: int
    refused: int


class FixedWindow:
    """Counts requests against `limit` for each window of `window_s` seconds.

    Source: Seven Bridges documentation, "API rate limit".
    """

    def __init__(
        self,
        *,
        limit: int,
        window_s: float,
        clock: Callable[[], float],
        start: WindowStart = "first call",
        count_refused: bool = False,
    ) -> None:
        self.limit = limit
        self.window_s = window_s
        self.windows: list[Window] = []
        self._clock = clock
        self._start = start
        self._count_refused = count_refused
        self._spent_by_others = 0

    def __repr__(self) -> str:
        return (
            f"FixedWindow({self.limit}/{self.window_s:g}s, remaining={self.remaining}, "
            f"accepted={self.accepted}, refused={self.refused})"
        )

    @property
    def accepted(self) -> int:
        """How many requests were accepted in all windows."""
        return sum(window.accepted for window in self.windows)

    @property
    def refused(self) -> int:
        """How many requests were refused in all windows."""
        return sum(window.refused for window in self.windows)

    @property
    def remaining(self) -> int:
        """How many more requests this window takes."""
        window = self._current()
        return self.limit if window is None else max(0, self.limit - self._used(window))

    @property
    def reset_at(self) -> float:
        """When this window ends, epoch s; where none is open, when one opened now would."""
        window = self._current()
        return (self._opening() if window is None else window.start) + self.window_s

    def admit(self) -> bool:
        """Count one request, opening a window if none is; return whether it is accepted."""
        window = self._open()
        if self._used(window) >= self.limit:
            self.windows[-1] = window._replace(refused=window.refused + 1)
            return False
        self.windows[-1] = window._replace(accepted=window.accepted + 1)
        return True

    def spend(self, requests: int) -> None:
        """Take requests out of this window for another client of the same token."""
        self._open()
        self._spent_by_others += requests

    def headers(self, style: QuotaHeaders, *, clock_skew_s: float = 0.0) -> dict[str, str]:
        """Return the headers that tell limit, remaining and reset, in the style asked for.

        Source: API overview, "Rate limits": `X-RateLimit-Reset` is a Unix timestamp ("epoch_s");
        the other styles are what other services do.
        """
        if style == "none":
            return {}
        reset_at = self.reset_at
        reset = {
            "epoch_s": str(int(reset_at + clock_skew_s)),
            "epoch_ms": str(int((reset_at + clock_skew_s) * 1000)),
            "delta_s": str(max(0, math.ceil(reset_at - self._clock()))),
            "iso": datetime.fromtimestamp(int(reset_at + clock_skew_s), UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
        }[style]
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": reset,
        }

    def _used(self, window: Window) -> int:
        refused = window.refused if self._count_refused else 0
        return window.accepted + refused + self._spent_by_others

    def _opening(self) -> float:
        now = self._clock()
        return now if self._start == "first call" else now - now % self.window_s

    def _current(self) -> Window | None:
        if self.windows and self._clock() < self.windows[-1].start + self.window_s:
            return self.windows[-1]
        return None

    def _open(self) -> Window:
        window = self._current()
        if window is None:
            window = Window(self._opening(), 0, 0)
            self.windows.append(window)
            self._spent_by_others = 0
        return window


class SlidingWindow:
    """Counts requests against `limit` over the last `window_s` seconds, whenever one looks."""

    def __init__(
        self,
        *,
        limit: int,
        window_s: float,
        clock: Callable[[], float],
        count_refused: bool = False,
    ) -> None:
        self.limit = limit
        self.window_s = window_s
        self.accepted = 0
        self.refused = 0
        self._clock = clock
        self._count_refused = count_refused
        self._at: deque[float] = deque()

    def __repr__(self) -> str:
        return (
            f"SlidingWindow({self.limit}/{self.window_s:g}s, remaining={self.remaining}, "
            f"accepted={self.accepted}, refused={self.refused})"
        )

    @property
    def remaining(self) -> int:
        """How many more requests are accepted now."""
        self._forget()
        return max(0, self.limit - len(self._at))

    def admit(self) -> bool:
        """Count one request; return whether it is accepted."""
        accepted = self.remaining > 0
        if accepted:
            self.accepted += 1
        else:
            self.refused += 1
        if accepted or self._count_refused:
            self._at.append(self._clock())
        return accepted

    def spend(self, requests: int) -> None:
        """Take requests out of the window, now, for another client of the same token."""
        self._at.extend([self._clock()] * requests)

    def _forget(self) -> None:
        gone = self._clock() - self.window_s
        while self._at and self._at[0] <= gone:
            self._at.popleft()
