"""Which beginnings of names to list, so that few pages show all the names that are wanted. Pure.

A folder's listing costs a page for so many entries, whoever's they are. Where a listing can be
narrowed to names that begin alike, a few files in a huge folder need a few pages of it only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import groupby

# Splits of splits looked at. A choice: each at least halves what the pages hold in vain.
_DEEPEST = 64
_LAST = "\U0010ffff"


def pages_to_show(
    wanted: Sequence[str], standing: Collection[str], earlier: int, page_size: int
) -> tuple[int, tuple[str, ...]]:
    """Pages that a listing of `wanted` takes, and the beginnings to list; none: the whole folder.

    `standing` are names known to be in the folder besides, `earlier` is how many more there are.
    The whole folder is listed wherever no beginnings are known to take fewer pages.
    """
    there = len(set(wanted).union(standing)) + earlier
    whole = max(1, -(-there // page_size))
    if whole == 1 or not wanted:
        return whole, ()
    known = sorted({*wanted, *standing})
    pages, beginnings = _cover(sorted(set(wanted)), known, page_size, "", _DEEPEST)
    return (pages, tuple(beginnings)) if pages < whole else (whole, ())


def _cover(
    wanted: Sequence[str], known: Sequence[str], page_size: int, above: str, deepest: int
) -> tuple[int, list[str]]:
    """Pages and beginnings for `wanted`, which all begin with `above`. Both lists are sorted."""
    first, last = wanted[0], wanted[-1]
    at = len(above)
    while at < min(len(first), len(last)) and first[at] == last[at]:
        at += 1
    common = first[:at]
    count = bisect_left(known, common + _LAST) - bisect_left(known, common)
    own = max(1, -(-count // page_size))
    if own == 1 or first == common or not deepest:
        return own, [common]
    pages, beginnings = 0, list[str]()
    for _, alike in groupby(wanted, key=lambda name: name[at]):
        more, found = _cover(list(alike), known, page_size, common, deepest - 1)
        pages += more
        beginnings += found
    # Where both take as many, the narrower: what is not known to stand there is not listed.
    return (pages, beginnings) if pages <= own else (own, [common])
