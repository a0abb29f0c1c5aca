"""What is sent again: the table, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    LeaseExpired,
    NotSent,
    PenstockError,
    Refused,
    RemoteChanged,
    TokenRefused,
)
from penstock.core.model import Repeat, Request
from penstock.core.retry import Verdict, decide

AGAIN, FREE = Verdict.AGAIN, Verdict.AGAIN_FREE
THROW, LOST = Verdict.THROW, Verdict.THROW_LOST


def later(status: int, *, undone: bool = False, queue_full: bool = False) -> Refused:
    return Refused("later", status=status, retry=True, undone=undone, queue_full=queue_full)


@pytest.mark.parametrize(
    ("error", "safe", "ask"),
    [
        (NotSent("no connection"), AGAIN, AGAIN),
        (Refused("spent", status=429, retry=True, quota=True), FREE, FREE),
        (Refused("spent", status=403, quota=True), FREE, FREE),
        (later(500), AGAIN, LOST),
        (later(502), AGAIN, LOST),
        (later(503), AGAIN, LOST),
        (later(504), AGAIN, LOST),
        (later(408), AGAIN, LOST),
        # RFC 8470 and RFC 6585: neither was processed.
        (later(425), AGAIN, AGAIN),
        (later(429), AGAIN, AGAIN),
        (later(503, undone=True), AGAIN, AGAIN),
        # Whoever sends many is to send fewer, so it is told.
        (later(503, undone=True, queue_full=True), AGAIN, THROW),
        # Too many at once is the exchange's affair: fewer are in flight, and it goes again.
        (Refused("busy", status=500, retry=True, crowded=True, undone=True), AGAIN, AGAIN),
        (Refused("busy", status=500, retry=True, crowded=True), AGAIN, LOST),
        (Refused("no", status=400), THROW, THROW),
        (Refused("no", status=403), THROW, THROW),
        (Refused("no", status=404), THROW, THROW),
        (Refused("no", status=409), THROW, THROW),
        (Refused("stop", status=402, stop=True), THROW, THROW),
        (AnswerLost("cut off"), AGAIN, THROW),
        (AnswerLost("silence", timed_out=True), AGAIN, THROW),
        (AnswerUnusable("cut short"), AGAIN, LOST),
        (LeaseExpired("too old"), THROW, THROW),
        (RemoteChanged("another"), THROW, THROW),
        (TokenRefused("401"), THROW, THROW),
    ],
)
def test_a_failed_send_is_repeated_as_the_table_says(
    error: PenstockError, safe: Verdict, ask: Verdict
) -> None:
    assert decide(error, Request("GET", "https://h/p")) is safe
    assert decide(error, Request("POST", "https://h/p", repeat=Repeat.ASK)) is ask


@given(
    status=st.integers(400, 599),
    retry=st.booleans(),
    undone=st.booleans(),
)
def test_what_may_have_been_done_is_never_done_again_unasked(
    status: int,
    retry: bool,  # noqa: FBT001 - fuzzed
    undone: bool,  # noqa: FBT001 - fuzzed
) -> None:
    error = Refused("so", status=status, retry=retry, undone=undone)
    verdict = decide(error, Request("POST", "https://h/p", repeat=Repeat.ASK))
    if verdict is AGAIN:
        assert undone or status in {425, 429}
