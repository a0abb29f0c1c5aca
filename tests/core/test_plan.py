"""Parts tile the file, within the platform's limits, for few requests."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import UsageError
from penstock.core.model import GIB, MIB, TIB
from penstock.core.plan import (
    Cost,
    check_part_size,
    cut,
    estimate,
    range_size,
    upload_part_size,
)
from penstock.core.traits import Traits

# Seven Bridges, by its fact sheet.
SEVEN_BRIDGES = Traits(
    platform="sevenbridges",
    quota=1000,
    window_s=300,
    page_size=100,
    smallest_part=5 * MIB,
    largest_part=5 * GIB,
    most_parts=10_000,
    largest_file=5 * TIB,
)
HUNDRED_GB = 100 * 10**9

sizes = st.one_of(
    st.integers(0, 128 * MIB),
    st.integers(0, 5 * TIB),
    st.integers(1, 5 * 1024).map(lambda n: n * GIB),
    st.builds(
        lambda n, by: max(0, n * MIB + by), st.integers(0, 5 * 1024 * 1024), st.integers(-1, 1)
    ).filter(lambda size: size <= 5 * TIB),
)


def parts_of(size: int, part_size: int) -> int:
    return max(1, math.ceil(size / part_size)) if size < 2**53 else -(-size // part_size)


# -- cut --------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_parts_tile_the_file(size: int, part_size: int) -> None:
    parts = cut(size, part_size)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    end = 0
    for part in parts:
        assert part.offset == end
        assert 0 <= part.length <= part_size
        end += part.length
    assert end == size
    assert all(part.length == part_size for part in parts[:-1])


def test_an_empty_file_is_one_empty_part() -> None:
    (part,) = cut(0, 5 * MIB)
    assert (part.number, part.offset, part.length) == (1, 0, 0)


# -- uploads ----------------------------------------------------------------------------------


@given(st.integers(0, 64 * MIB))
def test_a_file_up_to_64_mib_is_one_part(size: int) -> None:
    assert len(cut(size, upload_part_size(size, SEVEN_BRIDGES))) == 1


@given(sizes.filter(lambda size: size > 64 * MIB))
def test_a_larger_file_has_at_most_32_parts_and_one_for_each_gib(size: int) -> None:
    parts = parts_of(size, upload_part_size(size, SEVEN_BRIDGES))
    assert parts <= 32 + -(-size // GIB)


@given(sizes)
def test_a_part_size_is_within_the_platforms_limits_for_every_size(size: int) -> None:
    part_size = upload_part_size(size, SEVEN_BRIDGES)
    assert 5 * MIB <= part_size <= 5 * GIB
    assert parts_of(size, part_size) <= 10_000


@given(
    smallest=st.integers(0, 8 * MIB),
    spare=st.integers(0, 200 * MIB),
    most=st.integers(1, 200),
    share=st.floats(0, 1),
)
def test_a_narrower_platforms_limits_hold_too(
    smallest: int, spare: int, most: int, share: float
) -> None:
    largest = max(smallest + spare, 1)
    narrow = replace(SEVEN_BRIDGES, smallest_part=smallest, largest_part=largest, most_parts=most)
    size = int(largest * most * share)
    part_size = upload_part_size(size, narrow)
    assert smallest <= part_size <= largest
    assert parts_of(size, max(part_size, 1)) <= most


@pytest.mark.parametrize(
    ("size", "most"),
    [(65 * MIB, 33), (GIB, 33), (10 * GIB, 42), (5 * TIB, 32 + 5 * 1024)],
)
def test_few_parts_are_few(size: int, most: int) -> None:
    assert parts_of(size, upload_part_size(size, SEVEN_BRIDGES)) <= most


@pytest.mark.parametrize("asked", [5 * MIB, 32 * MIB, 5 * GIB])
def test_an_asked_part_size_is_obeyed(asked: int) -> None:
    assert upload_part_size(10 * MIB, SEVEN_BRIDGES, asked) == asked


@pytest.mark.parametrize("asked", [0, 1, 5 * MIB - 1, 5 * GIB + 1])
def test_a_part_size_outside_the_limits_is_a_usage_error_that_names_them(asked: int) -> None:
    with pytest.raises(UsageError, match=f"{5 * MIB} to {5 * GIB}"):
        upload_part_size(10 * MIB, SEVEN_BRIDGES, asked)
    with pytest.raises(UsageError):
        check_part_size(asked, SEVEN_BRIDGES)


def test_a_part_size_that_needs_too_many_parts_says_which_would_do() -> None:
    # 100 GB in parts of 5 MiB are 19,074; 10 MiB is the first whole MiB that makes at most 10,000.
    with pytest.raises(UsageError, match="at least 10MiB"):
        upload_part_size(HUNDRED_GB, SEVEN_BRIDGES, 5 * MIB)
    assert upload_part_size(HUNDRED_GB, SEVEN_BRIDGES, 10 * MIB) == 10 * MIB


@given(sizes.filter(bool), st.integers(5 * MIB, 5 * GIB))
def test_an_asked_size_is_either_obeyed_within_the_limits_or_refused(size: int, asked: int) -> None:
    try:
        part_size = upload_part_size(size, SEVEN_BRIDGES, asked)
    except UsageError:
        assert -(-size // asked) > 10_000
    else:
        assert part_size == asked
        assert -(-size // part_size) <= 10_000


# -- ranges -----------------------------------------------------------------------------------


@given(size=sizes.filter(lambda size: size > 8 * MIB))
def test_a_range_of_a_large_file_has_8_to_64_mib(size: int) -> None:
    assert 8 * MIB <= range_size(size) <= 64 * MIB


@given(size=st.integers(0, 8 * MIB))
def test_a_file_up_to_8_mib_is_one_range(size: int) -> None:
    assert len(cut(size, range_size(size))) == 1


@given(size=st.integers(64 * MIB + 1, TIB), block=st.integers(1, 5 * 1024).map(lambda n: n * MIB))
def test_a_range_has_8_to_64_mib_whatever_the_block(size: int, block: int) -> None:
    assert 8 * MIB <= range_size(size, block) <= 64 * MIB


@given(size=st.integers(64 * MIB + 1, TIB), block=st.integers(1, 64).map(lambda n: n * MIB))
def test_ranges_hold_whole_blocks_where_blocks_are_no_larger(size: int, block: int) -> None:
    assert range_size(size, block) % block == 0


@given(size=st.integers(64 * MIB + 1, TIB), block=st.integers(9, 640).map(lambda n: n * 8 * MIB))
def test_a_larger_block_of_whole_8_mib_holds_whole_ranges(size: int, block: int) -> None:
    assert block % range_size(size, block) == 0


@pytest.mark.parametrize("asked", [1, MIB, 200 * MIB])
def test_an_asked_range_is_obeyed(asked: int) -> None:
    assert range_size(TIB, 32 * MIB, asked) == asked


# -- costs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "requests"),
    # The fact sheet's section 6: 100 GB in 2981, 746, 94 and 19 parts.
    [(32 * MIB, 2983), (128 * MIB, 748), (GIB, 96), (5 * GIB, 21)],
)
def test_an_upload_costs_two_requests_and_one_a_part(asked: int, requests: int) -> None:
    cost = Cost()
    cost.add_upload(HUNDRED_GB, SEVEN_BRIDGES, asked)
    assert (cost.files, cost.bytes, cost.api_requests) == (1, HUNDRED_GB, requests)


def test_an_empty_file_costs_a_part_too() -> None:
    cost = Cost()
    cost.add_upload(0, SEVEN_BRIDGES)
    assert cost.api_requests == 3


def test_a_download_costs_a_request_unless_the_listing_brought_the_url() -> None:
    cost = Cost()
    cost.add_download(5, SEVEN_BRIDGES)
    assert cost.api_requests == 1
    cost.add_download(5, replace(SEVEN_BRIDGES, listing_leases=True))
    assert (cost.files, cost.bytes, cost.api_requests) == (2, 10, 1)


@pytest.mark.parametrize(
    ("requests", "minutes"),
    # The fact sheet's section 6; the first window is free.
    [(30_000, 145), (40_000, 195), (1000, 0), (1001, 5), (0, 0)],
)
def test_what_is_free_is_spent_at_once_and_then_windows_are_waited_for(
    requests: int, minutes: int
) -> None:
    found = estimate(requests, 0, quota=1000, window_s=300, rate=1e9, answer_s=0)
    assert found.quota_s == minutes * 60
    assert found.seconds == minutes * 60


@pytest.mark.parametrize(("requests", "windows"), [(0, 0), (1, 1), (1000, 1), (1001, 2)])
def test_windows_are_counted_whole(requests: int, windows: int) -> None:
    assert estimate(requests, 0, quota=1000, window_s=300, rate=1e9).windows == windows


def test_an_estimate_says_which_of_the_two_binds() -> None:
    quota = estimate(30_000, 10_000 * 10**6, quota=1000, window_s=300, rate=100e6)
    assert (quota.binds, quota.bandwidth_s) == ("quota", 100.0)
    bandwidth = estimate(96, HUNDRED_GB, quota=1000, window_s=300, rate=100e6)
    assert (bandwidth.binds, bandwidth.seconds) == ("bandwidth", 1000.0)
