"""How many actions may be unsettled at once on a platform that queues them (SURF).

Actions are no reads: the platform asks for a steady rate, so they are not spent in bursts. The
cap grows by what succeeds. A full queue tells how many the platform bears: a quarter fewer from
then on, and around that number it grows slowly. Nothing here waits, and the quota's window is not
touched.
"""

from __future__ import annotations

# Source: a choice; the platform asks for a steady rate and says no number.
_AT_FIRST = 20
# Choices, tried in simulation: what is left after a refusal, and around what was borne how near,
# and how slowly (for each that settled), more is tried. Beyond, others have left the queue.
_LEFT = 0.75
_NEAR = 0.1
_SLOWLY = 0.05


class ActionCap:
    """Counts unsettled actions against a cap: 20 at first, more for each that settled.

    Every action that was begun ends by exactly one of `settled`, `queue_full` and `given_up`.
    """

    def __init__(self, cap: int = _AT_FIRST) -> None:
        self._cap = float(max(1, cap))
        self._borne: float | None = None
        self._unsettled = 0
        self._begun = 0
        self._full_at = 0

    @property
    def cap(self) -> int:
        """The most that may be unsettled; never below 1."""
        return int(self._cap)

    @property
    def unsettled(self) -> int:
        """Begun and not ended."""
        return self._unsettled

    def begin(self) -> int | None:
        """The number of an action that may be sent now; None where the cap is reached."""
        if self._unsettled >= self.cap:
            return None
        self._unsettled += 1
        self._begun += 1
        return self._begun

    def settled(self) -> None:
        """The platform did it, or said why not: more may be unsettled."""
        self._unsettled -= 1
        near = self._borne is not None and abs(self._cap - self._borne) <= _NEAR * self._borne
        self._cap += _SLOWLY if near else 1

    def queue_full(self, action: int) -> None:
        """A 503 to that action. Lowers the cap, once for all that were begun before the last."""
        if action > self._full_at:
            self._full_at = self._begun
            self._borne = min(self._cap, self._unsettled)
            self._cap = max(1.0, _LEFT * self._borne)
        self._unsettled -= 1

    def given_up(self) -> None:
        """It was never sent, or nobody waits for it: nothing is learnt."""
        self._unsettled -= 1

    def __repr__(self) -> str:
        return f"<ActionCap {self._unsettled} of {self.cap} unsettled>"
