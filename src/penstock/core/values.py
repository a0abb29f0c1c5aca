"""`quick_value`, in place of `dataclasses.dataclass`, and `changed`, in place of its `replace`.

To a type checker it is `dataclass` itself, so that with `frozen=True` nobody can change one, and
mypy reads all of this package. Where it runs such a class is a plain one, compared, hashed and
shown by its fields. A frozen one sets each field by a call, which takes four times as long as all
else of making it, and a run that moves small files sets a hundred fields a file. And for each class
`dataclass` writes six functions and compiles them: of a command that finds nothing to do that was
an eighth of the time. Never without `frozen=True, slots=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as quick_value
else:
    from dataclasses import dataclass, fields
    from operator import attrgetter

    _C = TypeVar("_C", bound=type)

    def quick_value(*, frozen: bool, slots: bool) -> Callable[[_C], _C]:
        """A decorator that makes a class one of values."""
        assert frozen, "a value is frozen to whoever checks its type"
        assert slots, "and takes little room"
        return _made

    def _made(bare: _C) -> _C:
        cls = dataclass(slots=True, eq=False, repr=False)(bare)
        told = fields(cls)
        compared = _values([one.name for one in told if one.compare])
        hashed = _values(
            [one.name for one in told if (one.compare if one.hash is None else one.hash)]
        )

        def equal(self: Any, other: object) -> bool:  # noqa: ANN401
            if other.__class__ is not self.__class__:
                return NotImplemented
            return compared(self) == compared(other)

        def hash_of(self: Any) -> int:  # noqa: ANN401
            return hash(hashed(self))

        cls.__eq__, cls.__hash__ = equal, hash_of
        cls._all = staticmethod(_values([one.name for one in told if one.init]))
        if "__repr__" not in bare.__dict__:
            cls.__repr__ = _shown
        return cls

    def _values(names: list[str]) -> Callable[[Any], object]:
        return attrgetter(*names) if names else lambda _: ()

    def _shown(self: Any) -> str:  # noqa: ANN401
        told = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
        return f"{self.__class__.__qualname__}({', '.join(told)})"


def changed(value: T, /, **fields: object) -> T:
    """The value of `quick_value` with other fields: `dataclasses.replace`, in a third of it.

    Only for classes of several fields, all of which are given to make one.
    """
    kind: Any = value.__class__
    another: T = kind(*kind._all(value))  # noqa: SLF001 - set above
    for name, field in fields.items():
        setattr(another, name, field)
    return another


__all__ = ["changed", "quick_value"]
