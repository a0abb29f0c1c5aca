"""Tyk's four limiters: N requests in a window, each with its own idea of a refusal. Nothing waits.

Source: Tyk's gateway at 31e219beb: internal/memorycache/bucket.go (A), gateway/session_manager.go
and internal/rate (B, C, D).
"""

from collections import deque
from collections.abc import Callable

from penstock.simulators.quota import FixedWindow
from penstock.simulators.surf.settings import HeaderMode, SurfSettings


class SlidingLog:
    """B: a log of calls in which refused ones count. With `sentinel` C: an overrun shuts it."""

    def __init__(
        self, *, limit: int, window_s: float, clock: Callable[[], float], sentinel: bool
    ) -> None:
        self.limit = limit
        self.window_s = window_s
        self.accepted = 0
        self.refused = 0
        self._clock = clock
        self._log: deque[float] = deque()
        self._sentinel = sentinel
        self._shut_until = float("-inf")

    def _spent(self) -> int:
        now = self._clock()
        while self._log and self._log[0] <= now - self.window_s:
            self._log.popleft()
        return len(self._log)

    @property
    def remaining(self) -> int:
        """How many more calls are let through now."""
        shut = self._clock() < self._shut_until
        return 0 if shut else max(0, self.limit - self._spent())

    @property
    def reset_at(self) -> float:
        """When the oldest call is forgotten, epoch s."""
        self._spent()
        return (self._log[0] if self._log else self._clock()) + self.window_s

    def admit(self) -> bool:
        """Count one call; return whether it is let through."""
        now, spent = self._clock(), self._spent()
        self._log.append(now)
        if now < self._shut_until or spent >= self.limit:
            if self._sentinel and now >= self._shut_until:
                self._shut_until = now + self.window_s
            self.refused += 1
            return False
        self.accepted += 1
        return True

    def spend(self, calls: int) -> None:
        """Count calls of another client of the same key."""
        self._log.extend([self._clock()] * calls)


Judge = FixedWindow | SlidingLog


def limiter_of(settings: SurfSettings, clock: Callable[[], float]) -> Judge:
    """Return the limiter that the settings name."""
    limit, window_s = settings.quota, settings.window_s
    match settings.limiter:
        case "A":
            return FixedWindow(limit=limit, window_s=window_s, clock=clock)
        case "D":
            return FixedWindow(limit=limit, window_s=window_s, clock=clock, start="aligned")
        case name:
            return SlidingLog(limit=limit, window_s=window_s, clock=clock, sentinel=name == "C")


def headers_of(judge: Judge, mode: HeaderMode, *, refused: bool, skew_s: float) -> dict[str, str]:
    """Return the `X-RateLimit-*` of an answer.

    Source: Tyk, config/rate_limit.go: "quotas" tells the key's quota, not its rate, and only on
    what came back from behind the gateway; "rate_limits" tells the rate on every answer.
    """
    if mode == "none" or (mode == "quotas" and refused):
        return {}
    told = ("-1", "-1", "0")
    if mode == "rate_limits":
        told = (str(judge.limit), str(judge.remaining), str(int(judge.reset_at + skew_s)))
    return dict(zip(("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"), told))  # noqa: B905 - three and three
