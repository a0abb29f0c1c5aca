"""What a run has met already, in 16 bytes a thing: a table of 64-bit hashes.

A million names in a `set` take 100 MB, in a `dict` more. Here a thing is its hash: two of a
million things are taken for one with a chance of one in 30 million (birthday bound, 64 bits).
Open addressing in flat arrays; nothing is ever taken out.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable

_MASK = (1 << 64) - 1
_SMALLEST = 1 << 10
# 2^64 divided by the golden ratio: spreads hashes whose low bits are alike (Knuth, TAOCP 6.4).
_SPREAD = 0x9E3779B97F4A7C15


class Seen:
    """Things, each with a second one that belongs to it."""

    __slots__ = ("_count", "_keys", "_most", "_shift", "_values")

    def __init__(self) -> None:
        self._make(_SMALLEST)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, thing: Hashable) -> bool:
        """Whether the thing is new."""
        return self.put(thing) is None

    def put(self, thing: Hashable, other: Hashable = 0) -> bool | None:
        """None where the thing is new; else whether `other` is what it was first met with."""
        key = hash(thing) & _MASK or 1  # 0 is an empty place
        keys, values = self._keys, self._values
        place = ((key * _SPREAD) & _MASK) >> self._shift
        while found := keys[place]:
            if found == key:
                return values[place] == hash(other) & _MASK
            place += 1
            if place == len(keys):
                place = 0
        keys[place] = key
        values[place] = hash(other) & _MASK
        self._count += 1
        if self._count > self._most:
            self._grow()
        return None

    def _make(self, places: int) -> None:
        self._keys = array("Q", bytes(8 * places))
        self._values = array("Q", bytes(8 * places))
        self._shift = 64 - (places.bit_length() - 1)
        self._most = places * 2 // 3

    def _grow(self) -> None:
        old, others = self._keys, self._values
        self._make(2 * len(old))
        keys, values, shift = self._keys, self._values, self._shift
        for key, value in zip(old, others, strict=True):
            if key:
                place = ((key * _SPREAD) & _MASK) >> shift
                while keys[place]:
                    place += 1
                    if place == len(keys):
                        place = 0
                keys[place] = key
                values[place] = value
