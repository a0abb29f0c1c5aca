"""Many values of one kind, to be gone through again and again: the first at hand, the rest packed.

A row of a manifest takes 600 bytes as an object, packed some 80. What is got is what was put, in
the same order, as new objects. Fields hold text, numbers, None, and tuples and dicts of these:
nothing else belongs here.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")

_AT_HAND = 20_000
_IN_A_PACK = 500
_LEVEL = 1


class Packed(Collection[T]):
    """Values of a dataclass of several fields. Whether one is `in` is seen by going through."""

    def __init__(self, kind: type[T], values: Iterable[T], at_hand: int = _AT_HAND) -> None:
        self._kind: Any = kind
        names = [each.name for each in fields(kind)]  # type: ignore[arg-type]  # a dataclass
        read, coming = attrgetter(*names), iter(values)
        self._at_hand = tuple(islice(coming, at_hand))
        self._count = len(self._at_hand)
        self._packs: list[bytes] = []
        while some := [read(each) for each in islice(coming, _IN_A_PACK)]:
            self._packs.append(zlib.compress(marshal.dumps(some), _LEVEL))
            self._count += len(some)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)

    def __iter__(self) -> Iterator[T]:
        yield from self._at_hand
        for pack in self._packs:
            for each in marshal.loads(zlib.decompress(pack)):  # noqa: S302 - our own, of memory
                yield self._kind(*each)
