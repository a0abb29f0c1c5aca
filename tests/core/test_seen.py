"""What a run has met, by its hash."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.seen import Seen

# As a run uses it: tuples of texts. Of numbers, -1 and -2 have one hash.
THINGS = st.tuples(st.text(max_size=5), st.text(max_size=2))


@given(st.lists(st.tuples(THINGS, THINGS), max_size=200))
def test_it_tells_what_a_dict_would_tell(
    pairs: list[tuple[tuple[str, str], tuple[str, str]]],
) -> None:
    seen, known = Seen(), dict[tuple[str, str], tuple[str, str]]()
    for thing, other in pairs:
        first = known.get(thing)
        assert seen.put(thing, other) == (None if thing not in known else first == other)
        known.setdefault(thing, other)
    assert len(seen) == len(known)


def test_growing_forgets_nothing_and_makes_nothing_up() -> None:
    seen = Seen()
    assert all(seen.add(f"/to/{number}") for number in range(20_000))
    assert not any(seen.add(f"/to/{number}") for number in range(20_000))
    assert seen.add("/to/20000")


def test_hashes_whose_low_bits_are_alike_are_told_apart() -> None:
    seen = Seen()
    assert all(seen.add(number << 40) for number in range(1, 5000))
    assert not any(seen.add(number << 40) for number in range(1, 5000))
    assert seen.add(0)
    assert not seen.add(0)


def test_a_thing_takes_at_most_48_bytes() -> None:
    seen, count = Seen(), 50_000
    for number in range(count):
        seen.add(f"{number}")
    size = sum(sys.getsizeof(table) for table in (seen._keys, seen._values))
    assert size / count <= 48
