from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import units
from penstock.core.errors import PenstockError, UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20MiB", 20 << 20),
        ("1G", 1 << 30),
        ("5MB", 5_000_000),
        ("4096", 4096),
        ("4096B", 4096),
        ("1.5GiB", 3 << 29),
        (" 64 kib ", 64 << 10),
        ("0", 0),
        (7, 7),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str | int, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "MiB", "5 apples", "1e5", "٣", "1..2", "9" * 40, -1])
def test_what_is_no_size_is_a_sentence(text: str | int) -> None:
    with pytest.raises(UsageError, match="is no size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("15m", 900.0),
        ("8h", 28_800.0),
        ("1h30m", 5400.0),
        ("2d", 172_800.0),
        ("1.5h", 5400.0),
        ("1d 2h", 93_600.0),
        ("0", 0.0),
        (60, 60.0),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str | float, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "30m1h", "-5", "1y", "nan", float("nan"), "99999d"])
def test_what_is_no_duration_is_a_sentence(text: str | float) -> None:
    with pytest.raises(UsageError, match="is no duration"):
        units.parse_duration(text)


def test_a_share_is_a_number_or_a_ratio() -> None:
    assert units.parse_share("0.8") == 0.8
    assert units.parse_share("1/20") == 0.05
    assert units.parse_share(1) == 1.0


@pytest.mark.parametrize("text", ["0", "1.1", "2/1", "1/0", "x", "", -0.5, float("inf")])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(text: str | float) -> None:
    with pytest.raises(UsageError, match="is no share"):
        units.parse_share(text)


def test_a_rate_is_a_size_a_second_and_moves_something() -> None:
    assert units.parse_rate("20MiB") == units.parse_rate("20MiB/s") == 20 << 20
    with pytest.raises(UsageError, match="is no rate"):
        units.parse_rate("0")


@pytest.mark.parametrize(
    ("text", "quota"),
    [("500/60s", (500, 60.0)), ("1000/5m", (1000, 300.0)), ("1000/300", (1000, 300.0))],
)
def test_a_quota_is_requests_per_window(text: str, quota: tuple[int, float]) -> None:
    assert units.parse_quota(text) == quota


@pytest.mark.parametrize("text", ["500", "0/60s", "10/0", "/60", "1.5/60", "10/-1"])
def test_a_quota_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_quota(text)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (20 << 20, "20.0 MiB"),
    ],
)
def test_a_size_is_shown_in_the_unit_that_fits(size: int, shown: str) -> None:
    assert units.format_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.44, "0.4 s"),
        (12.3, "12 s"),
        (59.9, "1 min 00 s"),
        (185, "3 min 05 s"),
        (9000, "2 h 30 min"),
        (90_000, "1 d 01 h"),
        (-12, "-12 s"),
    ],
)
def test_a_duration_is_shown_in_two_units_at_most(seconds: float, shown: str) -> None:
    assert units.format_duration(seconds) == shown


@given(st.integers(0, 10**17))
def test_plain_bytes_are_exact(size: int) -> None:
    assert units.parse_size(str(size)) == size


@given(st.text() | st.from_regex(r"[0-9.]{0,5}[kmgtpibdhms/]{0,4}[0-9.]{0,3}s?"))
def test_any_text_gives_a_value_or_a_sentence(text: str) -> None:
    for parse in (
        units.parse_size,
        units.parse_duration,
        units.parse_rate,
        units.parse_share,
        units.parse_quota,
    ):
        with contextlib.suppress(PenstockError):
            parse(text)
