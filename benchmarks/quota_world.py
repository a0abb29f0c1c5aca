"""Servers that judge a quota, and a loop whose clock jumps to the next timer.

Nothing here knows a policy. Times are seconds of the running loop; a run starts at `START_S`.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from bisect import bisect_right
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, TypeVar

T = TypeVar("T")
START_S = 10_000.0
EPOCH_AT = 1_800_000_000.0
# Each pass takes a little: a timer that floating point rounds to now would be armed for ever.
_PASS_S = 1e-7


class _JumpingSelector(selectors.DefaultSelector):
    now_s = START_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None and timeout > 0:
            self.now_s += timeout
        self.now_s += _PASS_S
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, in a loop of its own whose clock jumps."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    return asyncio.get_running_loop().time()


def our_epoch_at() -> float:
    return EPOCH_AT + now()


@dataclass
class Judge:
    """A server's quota of `quota` in `window_s`: what it takes, refuses and says of itself.

    kind: "fixed" (aligned windows, at `phase_s`), "log" (exactly the last T), "counting" (the
    last T with what it refused), "bucket" (capacity `capacity`, leaking N/T).
    """

    quota: int
    window_s: float
    kind: str
    says: bool
    skew_s: float = 0.0
    phase_s: float = 0.0
    capacity: int = 0
    _counted: list[float] = field(default_factory=list)
    _level: float = 0.0
    _level_at: float = 0.0

    def arrive(self, at: float) -> bool:
        """Whether a request that arrives now is accepted."""
        if self.kind == "bucket":
            leaked = (at - self._level_at) * self.quota / self.window_s
            self._level, self._level_at = max(0.0, self._level - leaked), at
            accepted = self._level + 1 <= self.capacity
            self._level += accepted
            return accepted
        accepted = self._spent(at) < self.quota
        if accepted or self.kind == "counting":
            self._counted.append(at)
        return accepted

    def headers(self, at: float) -> Mapping[str, str]:
        """What the answer says, in the server's own time."""
        date = {"date": formatdate(EPOCH_AT + at + self.skew_s, usegmt=True)}
        if not self.says:
            return date
        spent = int(self._level) if self.kind == "bucket" else self._spent(at)
        reset_at = EPOCH_AT + self._reset(at) + self.skew_s
        return date | {
            "x-ratelimit-limit": str(self.quota),
            "x-ratelimit-remaining": str(max(0, self.quota - spent)),
            "x-ratelimit-reset": str(int(reset_at)),
        }

    def _since(self, at: float) -> float:
        if self.kind != "fixed":
            return at - self.window_s
        return at - (at - self.phase_s) % self.window_s

    def _spent(self, at: float) -> int:
        return len(self._counted) - bisect_right(self._counted, self._since(at))

    def _reset(self, at: float) -> float:
        if self.kind == "fixed":
            return self._since(at) + self.window_s
        if self.kind == "bucket":
            return at + self._level * self.window_s / self.quota
        first = bisect_right(self._counted, self._since(at))
        return (self._counted[first] if first < len(self._counted) else at) + self.window_s


@dataclass
class Company:
    """Another client of the key: a steady rate, as a share of the quota; never tries again."""

    judge: Judge
    share: float
    chance: random.Random

    @property
    def _pause_s(self) -> float:
        rate = self.share * self.judge.quota / self.judge.window_s
        return self.chance.expovariate(rate)

    def was_here(self) -> None:
        """It has spent at its rate for a window before the run."""
        at = START_S - self.judge.window_s
        while (at := at + self._pause_s) < START_S:
            self.judge.arrive(at)

    async def spend(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            self.judge.arrive(now())
