"""Values that are made quickly behave as frozen dataclasses do, but for being changed."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.values import changed, quick_value


@quick_value(frozen=True, slots=True)
class Quick:
    """One of each kind of field."""

    name: str
    size: int | None = None
    told: dict[str, str] = field(default_factory=dict, hash=False)
    aside: float = field(default=0.0, compare=False)
    hidden: str = field(default="secret", repr=False)


@dataclass(frozen=True, slots=True)
class Usual:
    """The same, as `dataclass` makes it."""

    name: str
    size: int | None = None
    told: dict[str, str] = field(default_factory=dict, hash=False)
    aside: float = field(default=0.0, compare=False)
    hidden: str = field(default="secret", repr=False)


FIELDS = st.tuples(
    st.sampled_from("ab"),
    st.none() | st.integers(0, 1),
    st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=1),
    st.floats(0, 1),
)


@given(FIELDS, FIELDS)
def test_they_are_compared_hashed_and_shown_as_a_dataclass_is(
    one: tuple[str, int | None, dict[str, str], float],
    other: tuple[str, int | None, dict[str, str], float],
) -> None:
    assert (Quick(*one) == Quick(*other)) == (Usual(*one) == Usual(*other))
    if Usual(*one) == Usual(*other):
        assert hash(Quick(*one)) == hash(Quick(*other))
    assert repr(Quick(*one)).removeprefix("Quick") == repr(Usual(*one)).removeprefix("Usual")
    usual: object = Usual(*one)
    assert Quick(*one) != usual


def test_one_with_other_fields_is_another() -> None:
    one = Quick("a", 1, {"x": "1"}, 0.5)
    another = changed(one, size=2, told={})
    assert another == replace(one, size=2, told={}) == Quick("a", 2, {}, 0.5)
    assert one == Quick("a", 1, {"x": "1"}, 0.5)


def test_they_are_copied_and_pickled() -> None:
    one = Quick("a", 1, {"x": "1"})
    assert copy.copy(one) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one  # noqa: S301
