"""Who is refused for asking too often: a window for each token or address, and a penalty.

Nothing here waits, and nothing tells a client how it stands: Coscine has no such headers. For how
long requests are ignored is "some time" and a switch.

Source: Coscine documentation, "API", "Rate limiting".
"""

from collections.abc import Callable

from penstock.simulators.coscine.settings import CoscineSettings
from penstock.simulators.quota import FixedWindow, SlidingWindow


class Throttle:
    """Counts the requests of each key.

    limit, window_s: in force for keys seen from now on.
    penalised: how many requests were refused only because of the penalty.
    """

    def __init__(self, settings: CoscineSettings, clock: Callable[[], float]) -> None:
        self.limit = settings.quota
        self.window_s = settings.window_s
        self.penalty_s = settings.penalty_s
        self.penalised = 0
        self.settings = settings
        self._clock = clock
        self._windows: dict[str, FixedWindow | SlidingWindow] = {}
        self._until: dict[str, float] = {}
        self._all_until = 0.0
        self._spent_before = 0

    def __repr__(self) -> str:
        return (
            f"Throttle({self.limit}/{self.window_s:g}s, accepted={self.accepted}, "
            f"refused={self.refused})"
        )

    @property
    def accepted(self) -> int:
        """How many requests were accepted."""
        return sum(window.accepted for window in self._windows.values())

    @property
    def refused(self) -> int:
        """How many requests were refused, those under a penalty included."""
        return self.penalised + sum(window.refused for window in self._windows.values())

    @property
    def remaining(self) -> int:
        """How many more requests the key that has asked most may send now."""
        return min((w.remaining for w in self._windows.values()), default=self.limit)

    def admit(self, key: str) -> bool:
        """Count a request; return whether it is accepted. One too many begins the penalty."""
        if self._clock() < max(self._all_until, self._until.get(key, 0.0)):
            self.penalised += 1
            if self.settings.count_refused:
                self._window(key).admit()
            return False
        if self._window(key).admit():
            return True
        self._until[key] = self._clock() + self.penalty_s
        return False

    def spend(self, requests: int) -> None:
        """Take requests out of every window, for another client of the same token or address."""
        if not self._windows:
            self._spent_before += requests
        for window in self._windows.values():
            window.spend(requests)

    def punish(self, seconds: float) -> None:
        """Refuse everybody from now on, for so long."""
        self._all_until = self._clock() + seconds

    def _window(self, key: str) -> FixedWindow | SlidingWindow:
        if key not in self._windows:
            self._windows[key] = self._new()
            self._windows[key].spend(self._spent_before)
            self._spent_before = 0
        return self._windows[key]

    def _new(self) -> FixedWindow | SlidingWindow:
        settings = self.settings
        if settings.window == "sliding":
            return SlidingWindow(
                limit=self.limit,
                window_s=self.window_s,
                clock=self._clock,
                count_refused=settings.count_refused,
            )
        return FixedWindow(
            limit=self.limit,
            window_s=self.window_s,
            clock=self._clock,
            start=settings.window_start,
            count_refused=settings.count_refused,
        )
