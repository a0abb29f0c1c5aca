"""`quick_value`: `dataclasses.dataclass` for values that are made by the million.

To a type checker it is `dataclass` itself, so that with `frozen=True` nobody can change one, and
mypy reads all of this package. Where it runs such a class is a plain one with a hash: a frozen
one sets each of its fields by a call, which takes four times as long as all else of making it, and
a run that moves small files makes a hundred fields a file. Only for classes of that kind, and
never without `frozen=True, slots=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as quick_value
else:
    from dataclasses import dataclass

    _C = TypeVar("_C", bound=type)

    def quick_value(*, frozen: bool, slots: bool) -> Callable[[_C], _C]:
        """A decorator that makes a class one of values, compared and hashed by their fields."""
        assert frozen, "a value is frozen to whoever checks its type"
        return dataclass(slots=slots, unsafe_hash=True)


__all__ = ["quick_value"]
