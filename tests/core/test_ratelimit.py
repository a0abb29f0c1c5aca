"""Every form in which answers speak of a quota, and what is no information."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.model import Headers
from penstock.core.ratelimit import NOTHING, Word, read_headers
from penstock.core.window import NS_PER_S

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
S = NS_PER_S


def told(fields: Mapping[str, str], wall_at: float = NOW) -> Word:
    headers = Headers({name.replace("_", "-"): value for name, value in fields.items()})
    return read_headers(headers, quota=1000, window_s=300, wall_at=wall_at)


def word(**fields: str) -> Word:
    return told(fields)


def reset_in(value: str, **named: str) -> float | None:
    found = word(
        X_RateLimit_Limit="1000", X_RateLimit_Remaining="7", X_RateLimit_Reset=value, **named
    )
    return None if found.reset_in_ns is None else found.reset_in_ns / S


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (str(int(NOW) + 100), 101),  # epoch seconds are truncated: one more
        (f"{NOW + 100.5}", 100.5),
        (str(int(NOW * 1000) + 100_250), 100.25),
        ("100", 101),
        ("99.5", 99.5),
        ("45000", 45),  # milliseconds
        ("2027-01-15T08:01:40Z", 101),
        ("2027-01-15T08:01:40.250Z", 100.25),
        ("2027-01-15T09:01:40+01:00", 101),
        ("Fri, 15 Jan 2027 08:01:40 GMT", 101),
    ],
)
def test_a_reset_is_understood_in_every_listed_format(value: str, seconds: float) -> None:
    assert reset_in(value, Date=DATE) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "0",
        "-1",
        "3600000",
        str(int(NOW) + 3600),
        str(int(NOW) - 3600),
        "2027-99-99T00:00",
    ],
)
def test_an_implausible_reset_is_no_information(value: str) -> None:
    assert reset_in(value, Date=DATE) is None


def test_milliseconds_are_not_believed_of_a_limit_that_is_not_ours() -> None:
    named = {"X_RateLimit_Limit": "9000", "X_RateLimit_Remaining": "7"}
    assert word(**named, X_RateLimit_Reset="3000") == NOTHING


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [
        ("-1", "-1"),
        ("-1", "0"),
        ("0", "0"),
        ("1000", "-1"),
        ("1000", "1001"),
        ("", "5"),
        ("x", "5"),
    ],
)
def test_a_limit_that_is_none_teaches_nothing(limit: str, remaining: str) -> None:
    named = {"X_RateLimit_Limit": limit, "X_RateLimit_Remaining": remaining}
    assert word(**named, X_RateLimit_Reset="10") == NOTHING


def test_zero_zero_zero_teaches_nothing() -> None:
    zero = {"X_RateLimit_Limit": "0", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "0"}
    assert word(**zero) == NOTHING


@pytest.mark.parametrize("skew_s", [-7200.0, 0.0, 7200.0])
def test_a_reset_is_compared_with_the_same_answers_date_not_with_our_clock(skew_s: float) -> None:
    fields = {
        "Date": DATE,
        "X-RateLimit-Limit": "1000",
        "X-RateLimit-Remaining": "3",
        "X-RateLimit-Reset": str(int(NOW) + 60),
    }
    found = told(fields, NOW + skew_s)
    assert (found.remaining, found.reset_in_ns) == (3, 61 * S)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"RateLimit": '"default";r=50;t=30'}, (50, 31)),
        ({"RateLimit": '"default";r=0;t=30'}, (0, 31)),
        (
            {
                "RateLimit_Policy": '"burst";q=100;w=300, "daily";q=5000;w=86400',
                "RateLimit": '"daily";r=4;t=1000, "burst";r=50;t=30',
            },
            (50, 31),
        ),
        (
            {"RateLimit_Policy": '"a;b,c";q=9;w=300', "RateLimit": '"a;b,c";r=5;t=30;pk=:aGk=:'},
            (5, 31),
        ),
        ({"RateLimit": "limit=100, remaining=50, reset=5"}, (50, 6)),
        (
            {
                "RateLimit_Limit": "100, 100;w=300",
                "RateLimit_Remaining": "50",
                "RateLimit_Reset": "5",
            },
            (50, 6),
        ),
    ],
)
def test_the_ietf_fields_are_read(named: dict[str, str], expected: tuple[int, int]) -> None:
    found = word(**named)
    assert found.reset_in_ns is not None
    assert (found.remaining, found.reset_in_ns / S) == expected


@pytest.mark.parametrize(
    "named",
    [
        {"RateLimit_Policy": '"day";q=100;w=86400', "RateLimit": '"day";r=50;t=30'},
        {"RateLimit": "limit=0, remaining=0, reset=0"},
        {"RateLimit": '"x";r=-1;t=30'},
        {"RateLimit": '"x";r=1'},
        {"RateLimit": ";;;,,,\"'="},
    ],
)
def test_ietf_fields_about_something_else_teach_nothing(named: dict[str, str]) -> None:
    assert word(**named) == NOTHING


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30),
        ("0", 0),
        ("-5", None),
        ("later", None),
        ("200000", 86_400),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: int | None) -> None:
    found = told({"Date": DATE, "Retry-After": value}, NOW + 999).retry_after_ns
    assert found == (None if seconds is None else seconds * S)


@pytest.mark.parametrize(
    "named",
    [
        {"X_RateLimit_Limit": "10;w=1", "X_RateLimit_Remaining": "3", "X_RateLimit_Reset": "1"},
        {
            "RateLimit_Limit": "10, 10;w=1, 1000;w=300",
            "RateLimit_Remaining": "3",
            "RateLimit_Reset": "1",
        },
        {"RateLimit_Limit": "100, 100;w=1", "RateLimit_Remaining": "3", "RateLimit_Reset": "1"},
        {
            "RateLimit_Limit": "100",
            "RateLimit_Policy": "100;w=1",
            "RateLimit_Remaining": "3",
            "RateLimit_Reset": "1",
        },
        {"RateLimit_Policy": '"b";q=9999;w=300;qu="content-bytes"', "RateLimit": '"b";r=5;t=30'},
    ],
)
def test_a_limit_of_another_window_or_of_bytes_is_no_limit_of_ours(named: dict[str, str]) -> None:
    assert word(**named) == NOTHING


@pytest.mark.parametrize(
    "fields",
    [
        {"X-RateLimit-Reset": str(int(NOW) + 60)},
        {"X-RateLimit-Reset": "60", "X-RateLimit-Remaining": "0"},
        {"RateLimit-Reset": "60"},
    ],
)
def test_a_refusal_with_a_reset_alone_says_that_nothing_is_left(fields: dict[str, str]) -> None:
    headers = Headers({"Date": DATE, **fields})
    found = read_headers(headers, quota=1000, window_s=300, wall_at=NOW, refused=True)
    assert (found.remaining, found.reset_in_ns) == (0, 61 * S)
    assert read_headers(headers, quota=1000, window_s=300, wall_at=NOW) == NOTHING


def test_a_refusal_of_an_unlimited_key_says_nothing() -> None:
    fields = {"X-RateLimit-Limit": "-1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}
    assert (
        read_headers(Headers(fields), quota=1000, window_s=300, wall_at=NOW, refused=True)
        == NOTHING
    )


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_no_header_makes_the_reader_fail(a: str, b: str, c: str, d: str) -> None:
    word(X_RateLimit_Limit="1000", X_RateLimit_Remaining="1", X_RateLimit_Reset=a)
    word(RateLimit=a, RateLimit_Policy=b, Retry_After=c, Date=d, X_RateLimit_Limit=b)
