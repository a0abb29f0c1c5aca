"""What each error means for the run, and that none tells a secret."""

from urllib.parse import urlsplit, urlunsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import errors
from penstock.core.errors import Effect, PenstockError, Refused, redacted

EFFECTS = {
    "UsageError": Effect.STOP_RUN,
    "LocationError": Effect.STOP_RUN,
    "ProfileError": Effect.STOP_RUN,
    "TableError": Effect.STOP_RUN,
    "RunStopped": Effect.STOP_RUN,
    "TokenRefused": Effect.STOP_RUN,
    "DestinationFull": Effect.STOP_RUN,
    "LedgerError": Effect.STOP_RUN,
    "QuotaStoreError": Effect.STOP_RUN,
    "AnswerLost": Effect.RETRY,
    "NotSent": Effect.RETRY,
    "Untrusted": Effect.FAIL_TRANSFER,
    "LedAstray": Effect.FAIL_TRANSFER,
    "LeaseExpired": Effect.RETRY,
    "AnswerUnusable": Effect.RETRY,
    "RemoteChanged": Effect.RETRY,
    "TransferError": Effect.FAIL_TRANSFER,
    "SourceMissing": Effect.FAIL_TRANSFER,
    "SourceUnreadable": Effect.FAIL_TRANSFER,
    "SourceChanged": Effect.FAIL_TRANSFER,
    "DigestMismatch": Effect.FAIL_TRANSFER,
    "Unproved": Effect.FAIL_TRANSFER,
    "Conflict": Effect.FAIL_TRANSFER,
    "NameRefused": Effect.FAIL_TRANSFER,
    "DestinationRefused": Effect.FAIL_TRANSFER,
}


@pytest.mark.parametrize(("name", "effect"), EFFECTS.items())
def test_an_error_says_what_it_means_for_the_run(name: str, effect: Effect) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, PenstockError)
    assert kind.effect is effect


def test_the_tree_in_the_docstring_has_every_error() -> None:
    tree = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, PenstockError):
            assert name in tree


def test_nothing_that_only_one_file_concerns_stops_the_run() -> None:
    stopping = {errors.UsageError, errors.RunStopped}
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, PenstockError):
            stops = value.effect is Effect.STOP_RUN
            assert stops == any(issubclass(value, kind) for kind in stopping)


def test_a_refusal_fails_its_transfer_unless_it_says_otherwise() -> None:
    assert Refused("no", status=403).effect is Effect.FAIL_TRANSFER
    assert Refused("later", status=503, retry=True).effect is Effect.RETRY
    assert Refused("never", status=402, stop=True).effect is Effect.STOP_RUN
    assert Refused("never", status=402, retry=True, stop=True).effect is Effect.STOP_RUN


def test_a_refusal_keeps_status_and_code() -> None:
    refused = Refused("no", status=409, code=8004)
    assert (refused.status, refused.code, str(refused)) == (409, 8004, "no")


def test_a_mismatch_keeps_both_digests() -> None:
    mismatch = errors.DigestMismatch("differs", expected="md5 a", actual="md5 b")
    assert (mismatch.expected, mismatch.actual) == ("md5 a", "md5 b")


# -- redacted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/p", "https://h/p"),
        ("https://h/p?Signature=SECRET", "https://h/p?…"),
        ("https://user:SECRET@h:8443/p?a=1#SECRET", "https://h:8443/p?…"),
        ("https://h/p#SECRET", "https://h/p"),
    ],
)
def test_a_shown_url_has_no_user_no_query_and_no_fragment(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url", ["http://[bad?SECRET", "http://[1.2]/?SECRET", "h\u2100p://u@h/?SECRET"]
)
def test_a_url_that_cannot_be_read_is_shown_without_its_query(url: str) -> None:
    assert "SECRET" not in redacted(url)


@given(st.text(max_size=20))
def test_any_text_can_be_redacted(query: str) -> None:
    assert "SECRET" not in redacted(f"https://h/p?{query}&SECRET")
    redacted(query)
    redacted(f"http://{query}")


@given(st.text(max_size=20))
def test_a_plain_url_is_shown_as_reading_it_would_show_it(path: str) -> None:
    for url in (f"http://h:8/{path}", f"https://h{path}", f"http://h/p{path}"):
        try:
            parts = urlsplit(url)
        except ValueError:
            continue
        host = parts.netloc.rpartition("@")[2]
        shown = urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
        assert redacted(url) == shown
