"""The event loop of a command, and what signals mean to it.

The first SIGINT, SIGTERM or SIGHUP asks to stop: the engine ends what is in flight within its
grace. The second cancels at once; the engine still cleans up. A third ends the process. A signal
that the caller's caller had ignored (SIGHUP under `nohup`) stays ignored; SIGINT does not: whoever
sends it by hand to a job in the background means it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from penstock.cli import failing, terminal
from penstock.core.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

_ASKING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_LAST = 3
# Objects made before the garbage collector looks at them. Python's 700 suit small programs.
_YOUNG = 20_000


class Signals:
    """Counts signals to stop. `ask` is called on the first; without one the first cancels."""

    def __init__(
        self, ask: Callable[[str], None] | None, say: Callable[[str], None] = terminal.complain
    ) -> None:
        self._ask = ask
        self._say = say
        self._count = 0 if ask is not None else 1
        self._task: asyncio.Task[object] | None = None
        self.cancelled_by: str | None = None

    def received(self, number: int) -> None:
        """A signal to stop came."""
        self._count += 1
        name = signal.Signals(number).name
        if self._count == 1 and self._ask is not None:
            self._say(f"{name}: ending what is under way, a few seconds; again to stop at once")
            self._ask(name)
        elif self._count < _LAST:
            self.cancel(name)
        else:
            self._say(f"{name}: ended at once")
            os._exit(failing.INTERRUPTED)

    def cancel(self, why: str) -> None:
        """The command is cancelled."""
        self.cancelled_by = why
        if self._task is not None:
            self._task.cancel()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this lasts, signals are received, and the current task is what is cancelled."""
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        handled = []
        for number in _ASKING:
            if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
                continue
            # Not on Windows, and not outside the main thread, where Python handles them itself.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.received, number)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)


def run(
    work: Callable[[], Awaitable[T]],
    signals: Signals,
    *,
    tick: Callable[[], None] | None = None,
    interval_s: float = 1.0,
    deadline_s: float | None = None,
) -> T:
    """What `work` returns; `tick` is called meanwhile.

    Raises what it raises, and `Interrupted` where a signal, or the deadline, cancelled it.
    """

    async def ticking() -> None:
        assert tick is not None
        while True:
            await asyncio.sleep(interval_s)
            tick()

    async def whole() -> T:
        with signals.watched():
            ticker = asyncio.ensure_future(ticking()) if tick is not None else None
            timer = None
            if deadline_s is not None:
                loop = asyncio.get_running_loop()
                timer = loop.call_later(deadline_s, signals.cancel, "the deadline passed")
            try:
                return await work()
            except asyncio.CancelledError:
                if signals.cancelled_by is None:
                    raise
                raise Interrupted(
                    f"stopped at once ({signals.cancelled_by}): what is proved is kept; run the"
                    " same command to carry on"
                ) from None
            finally:
                if timer is not None:
                    timer.cancel()
                if ticker is not None:
                    ticker.cancel()
                    # A defect of what is shown must not become the run's.
                    await asyncio.gather(ticker, return_exceptions=True)

    # What the imports made stays; looking through it again and again took a tenth of the CPU.
    gc.freeze()
    gc.enable()
    gc.set_threshold(_YOUNG, 20, 50)
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        return runner.run(whole())


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop of uvloop where it is installed (extra `fast`), else asyncio's own."""
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
    except ImportError:
        return None
