"""The two clocks the engine reads, handed in so that a test can hand in others.

`now_s` is the running loop's monotonic time: everything that waits or measures uses it. `wall_at`
is the epoch time: only what is compared with another machine, or with another boot of this one,
uses it. Nothing else in the engine reads a clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from penstock.core.values import quick_value


@quick_value(frozen=True, slots=True)
class Clock:
    """Reads the loop's time (`now_s()`) and the epoch (`wall_at()`), both in seconds.

    `boot` names the boot of the machine whose monotonic clock `now_s` is: processes with the same
    `boot` read the same `now_s`. Empty where that is not known (a virtual clock, a foreign
    system): then nothing is concluded from `now_s` across processes.
    """

    now_s: Callable[[], float]
    wall_at: Callable[[], float]
    boot: str = ""

    @classmethod
    def running(cls) -> Clock:
        """The clock of the running event loop, and the machine's epoch time.

        Raises `RuntimeError` outside a running loop.
        """
        loop = asyncio.get_running_loop()
        # Only asyncio's own loops are known to use the clock all processes of a boot share.
        shared = type(loop).time is asyncio.BaseEventLoop.time
        return cls(loop.time, time.time, _boot() if shared else "")


def _boot() -> str:
    try:
        # Source: random(4): "boot_id … generated once" per boot.
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
