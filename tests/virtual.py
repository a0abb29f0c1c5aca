"""A loop whose clock jumps: hours of quota in seconds, with real sockets on loopback.

When nothing is ready and no thread is at work, time is what the next timer waits for. Each pass
takes 100 ns: without that, a timer armed for a moment that floating point rounds to now would be
armed for ever.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from penstock.engine.clock import Clock

T = TypeVar("T")
PASS_S = 1e-7
# A busy machine may take real moments to hand bytes from one loopback socket to the other. Before
# time leaps so far that something would be taken for silence, they are waited for.
LEAP_S = 1.0
PATIENCE_S = 0.005
EPOCH = 1_800_000_000.0


class _JumpingSelector(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            if self.loop.threads_at_work or timeout is None:
                ready = super().select(1.0)
            elif timeout > LEAP_S:
                ready = super().select(PATIENCE_S)
            if not ready and timeout is not None and not self.loop.threads_at_work:
                self.loop.now_s += timeout
        self.loop.now_s += PASS_S
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Use it by `run`, or `asyncio.Runner(loop_factory=VirtualLoop)`."""

    def __init__(self, starts_s: float = 1000.0) -> None:
        self.now_s = starts_s
        self.threads_at_work = 0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s

    def run_in_executor(  # type: ignore[override]  # asyncio's stub wants a TypeVarTuple
        self,
        executor: Executor | None,
        func: Callable[..., T],
        *args: Any,  # noqa: ANN401 - asyncio's own,
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.threads_at_work += 1
        future.add_done_callback(self._one_less)
        return future

    def _one_less(self, _: object) -> None:
        self.threads_at_work -= 1


def run(coroutine: Coroutine[Any, Any, T], *, starts_s: float = 1000.0) -> T:
    """What the coroutine returns, run in a loop of its own whose clock jumps."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(starts_s)) as runner:
        return runner.run(coroutine)


def virtual_clock(epoch_at: float = EPOCH) -> Clock:
    """A clock on the running virtual loop: epoch time goes with it and never steps."""
    loop = asyncio.get_running_loop()
    return Clock(loop.time, lambda: epoch_at + loop.time())
