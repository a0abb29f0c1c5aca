"""What is packed comes out as it went in, and takes little room."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.packed import Packed
from penstock.core.tables import ManifestRow

TEXT = st.text(st.characters(exclude_categories=[]), max_size=8)
ROWS = st.builds(
    ManifestRow,
    st.integers(1, 1 << 40),
    TEXT,
    st.none() | TEXT,
    st.none() | st.integers(0, 10**19),
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.none() | TEXT,
    st.dictionaries(TEXT, st.tuples(TEXT, TEXT), max_size=2),
)


@given(st.lists(ROWS, max_size=20), st.integers(0, 5))
def test_what_is_got_is_what_was_put_however_often(rows: list[ManifestRow], at_hand: int) -> None:
    packed = Packed(ManifestRow, iter(rows), at_hand)
    assert len(packed) == len(rows)
    assert list(packed) == list(packed) == rows
    assert bool(packed) == bool(rows)
    assert all(row in packed for row in rows)


def test_a_row_that_is_not_at_hand_takes_less_than_a_hundred_bytes() -> None:
    count = 10_000
    rows = (
        ManifestRow(n, f"https://h.example/{n:06}.bam", digests={"md5": f"{n * 7919:032x}"})
        for n in range(count)
    )
    packed = Packed(ManifestRow, rows, at_hand=0)
    assert sum(map(sys.getsizeof, packed._packs)) < 100 * count
