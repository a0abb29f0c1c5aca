"""How many bodies to keep in flight: found by trying, from what moves. No clock, no I/O.

More bodies hide the round trip and fill a line that caps each connection; beyond what line, disk
or server can take they only wait, or are refused. So the width is changed a step at a time, held
for a while, and kept only where it paid: up while throughput rises by a fair share of what was
added, back where it does not, down where fewer move as much. Bodies that are lost in numbers, and
memory that runs short, cut it at once.

Throughput is bytes, and a fixed number of bytes for each body that ended: thus a thousand small
files and four large ones are weighed by one measure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.core.model import KIB, MIB

# What a body counts for besides its bytes: about what moves in the time one costs. A guess.
BODY_WEIGHT = 64 * KIB
# A width is held for so long before it is judged, or four answers' time where that is longer.
_EPOCH_S = 0.5
_LONGEST_EPOCH_S = 4.0
# A width is judged by as many bodies as it has, or by so many bytes.
_ENOUGH = 16 * MIB
# Of what was added, the share that throughput must have risen by: adding a tenth must bring 3 %.
_GAIN = 0.3
# What fewer bodies must still move to be as good.
_AS_GOOD = 0.96
_FAST, _SLOW, _LESS = 1.5, 1.25, 0.8
# Epochs of rest after a step that did not pay; doubled each time, for a steady line stays so.
_REST, _LONGEST_REST = 4, 32
# The share of bodies lost from which they are too many; fewer are accidents. A guess.
_LOST_SHARE = 0.08
_LEAST_LOST = 3
_AFTER_LOSS = 0.7
# First bytes that come so much later than the soonest ever: something queues.
_QUEUEING = 4.0


@dataclass(slots=True)
class Epoch:
    """What happened at one width."""

    began_s: float
    moved: int = 0
    ended: int = 0
    lost: int = 0
    full: bool = False
    """Whether somebody waited for a permit: where nobody did, more would not be used."""
    waits_s: list[float] = field(default_factory=list)


class Width:
    """A number of bodies between `least` and `most` that finds its level. Times in seconds."""

    def __init__(self, *, least: int, most: int, begin: int, now_s: float) -> None:
        self.most = max(most, 1)
        self.least = min(max(least, 1), self.most)
        self.width = min(max(begin, self.least), self.most)
        self._step = _FAST
        self._rest = 0
        self._next_rest = _REST
        self._soonest_s: float | None = None
        self._kept: tuple[int, float] | None = None
        """The last width that paid, and what it moved a second."""
        self._tried_less = False
        self._settles_until_s = now_s
        self._epoch = Epoch(now_s)

    @property
    def soonest_s(self) -> float | None:
        """The least time that a body's first byte took to come; None before one did."""
        return self._soonest_s

    def open_to(self, width: int, now_s: float) -> None:
        """So many from now on, if there were fewer: what is there leaves room."""
        self._set(min(max(width, self.width), self.most), now_s)

    def moved(self, size: int) -> None:
        """So many bytes passed; fewer than none where what had moved must move again."""
        self._epoch.moved += size

    def waited(self, seconds: float) -> None:
        """The first byte of a body came so long after it was asked for."""
        if self._soonest_s is None or seconds < self._soonest_s:
            self._soonest_s = seconds
        if len(self._epoch.waits_s) < 1000:  # noqa: PLR2004 - enough for a median
            self._epoch.waits_s.append(seconds)

    def ended(self, *, lost: bool) -> None:
        """A body is through, or was lost: broken off, timed out, refused for too many."""
        self._epoch.ended += 1
        self._epoch.lost += lost

    def filled(self) -> None:
        """Somebody waits for a permit."""
        self._epoch.full = True

    def look(self, now_s: float, *, pressed: bool = False) -> int:
        """The width from now on. `pressed`: memory runs short."""
        if pressed:
            self.most = max(self.least, self.width // 2)
            self._cut(self.most, now_s)
            return self.width
        epoch = self._epoch
        if now_s < self._settles_until_s:
            return self.width
        if epoch.began_s < self._settles_until_s:
            # What moved while the last change took hold tells of neither width.
            self._epoch = Epoch(self._settles_until_s, full=epoch.full)
            return self.width
        if self._is_lossy(epoch):
            self._cut(int(self.width * _AFTER_LOSS), now_s)
            return self.width
        seconds = now_s - epoch.began_s
        if seconds < self._epoch_s() or not (
            epoch.ended >= self.width or epoch.moved >= _ENOUGH or seconds >= _LONGEST_EPOCH_S
        ):
            return self.width
        if epoch.moved > 0 or epoch.ended:
            rate = (max(epoch.moved, 0) + epoch.ended * BODY_WEIGHT) / seconds
            self._judge(rate, epoch, now_s)
        else:
            self._epoch = Epoch(now_s)
        return self.width

    def __repr__(self) -> str:
        kept = "" if self._kept is None else f", {self._kept[0]} moved {self._kept[1]:.0f} a second"
        return f"<Width {self.width} of {self.least} to {self.most}{kept}>"

    # -- judging -----------------------------------------------------------------------------

    def _judge(self, rate: float, epoch: Epoch, now_s: float) -> None:
        kept = self._kept
        if kept is None or self.width == kept[0]:
            # The rate of a width is that of the last times: lines change.
            self._kept = (self.width, rate if kept is None else (rate + kept[1]) / 2)
            self._at_rest(epoch, now_s)
        elif self.width > kept[0]:
            if rate >= kept[1] * (1 + _GAIN * (self.width / kept[0] - 1)):
                self._kept, self._next_rest = (self.width, rate), _REST
                self._more(epoch, now_s)
            else:
                self._back(now_s)
        elif rate >= kept[1] * _AS_GOOD:
            self._kept, self._rest = (self.width, rate), 1
            self._tried_less = False
            self._set(self.width, now_s)
        else:
            self._back(now_s)

    def _at_rest(self, epoch: Epoch, now_s: float) -> None:
        """Nothing is being tried; when the rest is over, something is."""
        if self._rest > 0 and not self._queues(epoch):
            self._rest -= 1
            self._epoch = Epoch(now_s)
        elif self._step == _FAST:
            self._more(epoch, now_s)
        elif self._tried_less and not self._queues(epoch):
            self._tried_less = False
            self._more(epoch, now_s)
        else:
            self._tried_less = True
            self._set(max(self.least, min(self.width - 1, int(self.width * _LESS))), now_s)

    def _more(self, epoch: Epoch, now_s: float) -> None:
        more = self.width
        if epoch.full:
            more = min(self.most, max(self.width + 1, int(self.width * self._step)))
        self._set(more, now_s)

    def _back(self, now_s: float) -> None:
        """What was tried did not pay."""
        assert self._kept is not None
        self._step = _SLOW
        self._rest = self._next_rest
        self._next_rest = min(2 * self._next_rest, _LONGEST_REST)
        self._set(self._kept[0], now_s)

    def _cut(self, width: int, now_s: float) -> None:
        """Fewer at once; what was measured before does not hold any more."""
        self._step, self._rest, self._kept = _SLOW, self._next_rest, None
        self._next_rest = min(2 * self._next_rest, _LONGEST_REST)
        self._tried_less = True
        self._set(max(self.least, min(width, self.most)), now_s)

    def _set(self, width: int, now_s: float) -> None:
        if width != self.width:
            self.width = width
            self._settles_until_s = now_s + self._epoch_s() / 2
        self._epoch = Epoch(now_s)

    def _is_lossy(self, epoch: Epoch) -> bool:
        return epoch.lost >= _LEAST_LOST and epoch.lost >= _LOST_SHARE * max(
            epoch.ended, self.width
        )

    def _queues(self, epoch: Epoch) -> bool:
        """Whether bodies wait for their first byte far longer than one must."""
        if self._soonest_s is None or len(epoch.waits_s) < min(self.width, 8):
            return False
        from statistics import median  # noqa: PLC0415 - few runs get as far, and it takes 3 ms

        return median(epoch.waits_s) > max(_QUEUEING * self._soonest_s, 0.05)

    def _epoch_s(self) -> float:
        return max(_EPOCH_S, min(4 * (self._soonest_s or 0.0), _LONGEST_EPOCH_S))
