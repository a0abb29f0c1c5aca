"""Listings are kept for as long as a run plans, whatever it takes."""

from __future__ import annotations

import tracemalloc

import pytest

from penstock.core.model import Lease, Origin, RemoteFile, RemoteFolder
from penstock.engine.listings import Listings
from penstock.engine.survey import Listing


def listing(folder: str, count: int) -> Listing:
    files = {}
    for number in range(count):
        name = f"{folder}-{number:06}.dat"
        files[name] = RemoteFile(
            f"5f{number:022x}",
            name,
            number,
            modified="2026-11-01T00:00:00Z",
            etag=f'"{number:032x}"',
            digests={"md5": f"{number:032x}"},
        )
    return Listing(files, {"sub": RemoteFolder("sub-id", "sub")})


def test_what_was_put_is_got_however_much_came_after_it() -> None:
    listings = Listings(at_hand=10)
    for folder in range(20):
        listings.put(f"f{folder}", listing(f"f{folder}", 4))
    listings.put("empty", Listing())
    for folder in (0, 19, 7, 7, 0):
        got = listings.get(f"f{folder}")
        assert got is not None
        assert got == listing(f"f{folder}", 4)
        assert listings.folders(f"f{folder}") == got.folders
    assert listings.get("empty") == Listing()
    assert listings.get("unknown") is None
    assert listings.folders("unknown") is None


def test_a_newer_listing_of_a_folder_takes_the_place_of_the_old_one() -> None:
    listings = Listings(at_hand=1)
    for _ in range(2):
        for count in (3, 2, 5):
            listings.put("f", listing("f", count))
            listings.put("other", listing("other", 3))
            got = listings.get("f")
            assert got is not None
            assert len(got.files) == count


@pytest.mark.parametrize("name", ["\udcff", "ü", 'a"b', "\\u0041"])
def test_names_of_any_kind_come_back(name: str) -> None:
    listings = Listings(at_hand=0)
    listings.put("f", Listing({name: RemoteFile("id", name, None)}))
    listings.put("g", listing("g", 1))
    got = listings.get("f")
    assert got is not None
    assert got.files[name] == RemoteFile("id", name, None)


def test_a_url_that_was_packed_is_asked_for_anew_from_where_it_came() -> None:
    origin = Origin("page", "folder", "100")
    listings = Listings(at_hand=0)
    lease = Lease("https://storage/x?signed", origin, 2e9, whole=True)
    listings.put("f", Listing({"x": RemoteFile("id", "x", 1, lease=lease)}))
    listings.put("g", listing("g", 1))
    got = listings.get("f")
    assert got is not None
    kept = got.files["x"].lease
    assert kept is not None
    assert (kept.origin, kept.expires_at, kept.whole) == (origin, 0.0, True)


def test_names_that_are_given_away_stay_one_set() -> None:
    listings = Listings(at_hand=0)
    first = listings.put("f", listing("f", 3))
    taken = first.taken()
    listings.put("g", listing("g", 3))
    taken.add("chosen")
    again = listings.get("f")
    assert again is not None
    assert again.taken() is taken


def test_what_is_packed_takes_little() -> None:
    listings = Listings(at_hand=1000)
    tracemalloc.start()
    try:
        for folder in range(20):
            listings.put(f"f{folder}", listing(f"f{folder}", 1000))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 3e6, "20,000 files as objects take 10 MB and more"
