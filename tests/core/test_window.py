"""A window is judged by a server that sees arrivals, never by its own account of itself."""

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.window import Count, Window, ns

T = 1_000
LONGEST = 300


def most_in_any_window(arrivals: list[int], window: int = T) -> int:
    """The largest number of arrivals in any half-open interval of `window`."""
    arrivals = sorted(arrivals)
    return max(
        (bisect_right(arrivals, at + window - 1) - i for i, at in enumerate(arrivals)), default=0
    )


ENDS = st.sampled_from(["answered", "given up", "cancelled"])
REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 400),  # until the next attempt
        st.integers(0, 700),  # until it arrives, or is given up
        st.integers(0, 700),  # from there to the answer, or to a late arrival
        ENDS,
    ),
    max_size=200,
)


@given(st.integers(1, 12), REQUESTS)
def test_no_server_ever_sees_more_than_the_limit_in_any_window(
    limit: int, requests: list[tuple[int, int, int, str]]
) -> None:
    window = Window(T)
    now = 0
    arrivals: list[int] = []
    ends: list[tuple[int, int, int | None]] = []
    for pause, there, back, end in requests:
        now += pause
        for _, number, until in (e for e in ends if e[0] <= now):
            if until is None:
                window.give_back([number])
            else:
                window.hold(number, until)
        ends = [e for e in ends if e[0] > now]
        for number in window.take(1, now, limit=limit):
            if end == "answered":
                arrivals.append(now + there)
                ends.append((now + there + back, number, now + there + back + T))
            elif end == "given up":
                arrivals.append(now + there + min(back, LONGEST))
                ends.append((now + there, number, now + there + LONGEST + T))
            else:
                ends.append((now + there, number, None))
        assert window.count(now).used <= limit
    assert most_in_any_window(arrivals) <= limit


def test_all_that_is_free_is_given_at_once() -> None:
    assert len(Window(T).take(500, 0, limit=500)) == 500
    assert len(Window(T).take(501, 0, limit=500)) == 500


def test_a_slot_is_free_at_its_very_moment_and_not_a_nanosecond_before() -> None:
    window = Window(T)
    (number,) = window.take(1, 0, limit=1)
    window.hold(number, 10 + T)
    assert window.next_free_at(10) == 10 + T
    assert not window.take(1, 10 + T - 1, limit=1)
    assert window.take(1, 10 + T, limit=1)


def test_what_never_left_is_free_at_once() -> None:
    window = Window(T)
    window.give_back(window.take(1, 0, limit=1))
    assert window.take(1, 0, limit=1)


def test_a_slot_is_settled_once() -> None:
    window = Window(T)
    (number,) = window.take(1, 0, limit=2)
    window.hold(number, T)
    window.give_back([number, 77])
    window.hold(number, 9 * T)
    window.hold(77, 9 * T)
    assert window.count(0) == Count(used=1, in_flight=0, next_free_ns=T)


def test_what_was_given_up_counts_as_in_flight_while_it_may_arrive() -> None:
    window = Window(T)
    (number,) = window.take(1, 0, limit=1)
    window.hold(number, 5 + LONGEST + T)
    assert window.count(5).in_flight == 1
    assert window.count(5 + LONGEST) == Count(used=1, in_flight=0, next_free_ns=5 + LONGEST + T)


def test_a_clock_that_goes_back_frees_nothing_and_takes_nothing_away() -> None:
    window = Window(T)
    (number,) = window.take(1, 10 * T, limit=1)
    window.hold(number, 11 * T)
    assert window.count(0).used == 1
    assert window.take(1, 11 * T, limit=1)


def test_a_lower_limit_waits_for_slots_to_free() -> None:
    window = Window(T)
    for number in window.take(10, 0, limit=10):
        window.hold(number, T + number)
    assert not window.take(1, T, limit=7)
    assert len(window.take(10, T + 5, limit=7)) == 2


def test_a_hold_is_never_rounded_down() -> None:
    assert ns(1e-10) == 1
    assert ns(60.0) == 60_000_000_000
