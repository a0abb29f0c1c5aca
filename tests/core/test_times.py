"""Times as platforms write them; what cannot be read is None."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.times import url_expires_at, when

# 2026-11-22 08:00:00 UTC.
THEN = 1_795_334_400


@pytest.mark.parametrize(
    ("query", "expires_at"),
    [
        ("AWSAccessKeyId=K&Signature=S&Expires=1795334400", THEN),
        ("GoogleAccessId=G&Expires=1795334400&Signature=S", THEN),
        ("X-Amz-Date=20261122T080000Z&X-Amz-Expires=86400", THEN + 86_400),
        ("x-amz-expires=60&x-amz-date=20261122T080000Z", THEN + 60),
        ("X-Goog-Date=20261122T080000Z&X-Goog-Expires=604800", THEN + 604_800),
        ("", None),
        ("token=S", None),
        ("Expires=", None),
        ("Expires=soon", None),
        ("Expires=-1", None),
        ("Expires=1e9", None),
        ("Expires=99999999999999999999", None),
        ("X-Amz-Expires=60", None),
        ("X-Amz-Date=20261122T080000Z", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=60", None),
        ("X-Amz-Date=20261322T080000Z&X-Amz-Expires=60", None),
        ("X-Amz-Date=20261122T080000Z&X-Amz-Expires=-60", None),
        # Digits to `str.isdigit` but not to `int`; more than `float` holds, or `int` reads.
        ("Expires=%C2%B2", None),
        ("X-Amz-Date=20261122T080000Z&X-Amz-Expires=%C2%B2", None),
        ("X-Amz-Date=20261122T080000Z&X-Amz-Expires=" + "9" * 400, None),
        ("X-Amz-Date=20261122T080000Z&X-Amz-Expires=" + "9" * 5000, None),
    ],
)
def test_a_presigned_url_says_when_it_ends_or_nothing(query: str, expires_at: float | None) -> None:
    assert url_expires_at(f"https://bucket.example/a?{query}") == expires_at


@pytest.mark.parametrize("url", ["http://[bad", "http://[1.2]/?Expires=1", ""])
def test_a_url_that_cannot_be_read_says_nothing(url: str) -> None:
    assert url_expires_at(url) is None


@given(st.text(max_size=30))
def test_any_text_as_a_url_is_read_or_not_and_never_an_error(text: str) -> None:
    for url in (
        text,
        f"https://{text}",
        f"https://h/?Expires={text}",
        f"https://h/?X-Amz-Date=20261122T080000Z&X-Amz-Expires={text}",
        f"https://h/?X-Amz-Date={text}&X-Amz-Expires=60",
    ):
        found = url_expires_at(url)
        assert found is None or isinstance(found, float)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-22T08:00:00Z", THEN),
        ("2026-11-22T08:00:00", THEN),
        ("2026-11-22T08:00:00.250000", THEN + 0.25),
        ("2026-11-22T09:00:00+01:00", THEN),
        ("2026-11-22T08:00:00+00:00", THEN),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1_795_334_400, None),
        (["2026-11-22T08:00:00Z"], None),
    ],
)
def test_an_iso_time_is_read_as_utc_unless_it_says_otherwise(
    text: object, at: float | None
) -> None:
    assert when(text) == at


@given(
    st.text(max_size=40)
    | st.none()
    | st.integers()
    | st.datetimes().map(lambda moment: moment.isoformat())
    | st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat())
)
def test_anything_is_a_time_or_none(value: object) -> None:
    found = when(value)
    assert found is None or isinstance(found, float)
