"""Beginnings of names: they show all that is wanted, and never take more pages than the whole."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.prefixes import pages_to_show

NAMES = st.lists(st.text("ab.é", min_size=1, max_size=6), min_size=1, max_size=40, unique=True)


@given(wanted=NAMES, standing=NAMES, page_size=st.integers(1, 9))
def test_what_is_listed_shows_all_that_is_wanted_on_no_more_pages(
    wanted: list[str], standing: list[str], page_size: int
) -> None:
    pages, beginnings = pages_to_show(wanted, standing, 0, page_size)
    there = {*wanted, *standing}
    assert pages <= -(-len(there) // page_size)
    shown = [name for start in beginnings or ("",) for name in there if name.startswith(start)]
    assert set(wanted) <= set(shown)
    counts = [sum(n.startswith(start) for n in there) for start in beginnings or ("",)]
    assert sum(max(1, -(-count // page_size)) for count in counts) == pages


def test_a_few_names_in_a_huge_folder_take_a_page_each_at_most() -> None:
    standing = [f"f{n:05}" for n in range(40_000)]
    assert pages_to_show(["f00017", "f30000x", "g"], standing, 0, 50)[0] == 3


def test_a_new_folder_is_listed_whole() -> None:
    assert pages_to_show([f"f{n:03}" for n in range(120)], (), 0, 50) == (3, ())


def test_what_was_shown_before_is_not_listed_again_where_names_tell() -> None:
    later = [f"f{n:05}" for n in range(20_000, 40_000)]
    assert pages_to_show(later, (), 20_000, 50)[0] == 400
