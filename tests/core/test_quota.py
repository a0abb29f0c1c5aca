"""Each rule on what answers say, told to a `Standing` the way a store tells it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from penstock.core.quota import Heard, Room, Standing
from penstock.core.ratelimit import NOTHING, Word
from penstock.core.window import NS_PER_S, Count, Terms, Window, ns

NOW = 1_800_000_000.0
S = NS_PER_S


def test_a_refusal_with_a_reset_alone_closes_until_then_and_lowers_nothing() -> None:
    key = Key()
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, Word(None, 0, 30 * S, 31 * S), refused=True)
    assert key.room(2).why == "closed"
    assert key.standing.believed(key.terms) == 1000
    assert key.room(2).next_ns == 31 * S + S // 4


def test_gates_of_moments_under_a_small_limit_are_no_gates_after_some() -> None:
    key = Key()
    for second in range(0, 12, 2):
        key.room(second)
        key.standing.probe_due_ns = None
        (only,) = key.take(1, second)
        key.end(only, second, second + 0.2, Word(10, 0, S, (1000 + second) * S))
    assert key.room(10.3).slots > 900
    key.room(14)
    key.standing.probe_due_ns = None
    (only,) = key.take(1, 14)
    key.end(only, 14, 14.2, Word(10, 0, 40 * S, 2000 * S))
    assert key.room(14.3).why == "gate"


def test_a_fixed_part_for_a_machine_counts_whatever_is_spent_there() -> None:
    terms = Terms(1000, 60 * S, share=0.25)
    standing = Standing(quota=1000)
    standing.runs.tell(
        "other", 200, 1.0, 0, Terms(1000, 60 * S, share=0.1), busy=True, leaving=False
    )
    count = Count(used=200)
    assert standing.runs.left(count, 1, terms, "mine") == 250
    assert standing.runs.left(count, 1, replace(terms, together=True), "mine") == 50


@pytest.mark.parametrize(
    ("quota", "share", "top"),
    [(100, 0.29, 29), (900, 1 / 3, 300), (1000, 0.05, 50), (7, 0.001, 1), (1000, 1.0, 1000)],
)
def test_a_share_is_not_rounded_down_by_a_float(quota: int, share: float, top: int) -> None:
    assert Terms(quota, 60 * S, share=share).top == top


@dataclass
class Key:
    """A window and its standing, driven as a store does; times in seconds."""

    terms: Terms = field(default_factory=lambda: Terms(1000, 60 * S, 10 * S))
    standing: Standing = field(default_factory=Standing)

    def __post_init__(self) -> None:
        self.window = Window(self.terms.window_ns)

    def room(self, at_s: float, *, first: bool = False, token: str = "") -> Room:
        now = ns(at_s)
        if self.standing.probe_slot is not None and not self.window.is_in_flight(
            self.standing.probe_slot
        ):
            self.standing.probe_slot = None
        self.standing.advance(now, self.window.count(now), self.terms)
        return self.standing.room(self.window.count(now), now, self.terms, first=first, token=token)

    def take(self, slots: int, at_s: float) -> list[int]:
        room = self.room(at_s)
        wanted = min(slots, room.slots)
        taken = list(self.window.take(wanted, ns(at_s), limit=self.standing.believed(self.terms)))
        if room.probe and taken:
            self.standing.probe_slot = taken[0]
        return taken

    def end(
        self, number: int, sent_s: float, ended_s: float, said: Word = NOTHING, **how: bool
    ) -> None:
        ended = ns(ended_s)
        longest = self.terms.longest_delay_ns if how.get("lost") else 0
        self.window.hold(number, ended + longest + self.terms.window_ns)
        self.standing.advance(ended, self.window.count(ended), self.terms)
        heard = Heard(ns(sent_s), ended, said, **how)
        self.standing.hear(heard, self.window.count(ended), self.terms)

    def spend(self, slots: int, at_s: float, ended_s: float) -> None:
        for number in self.take(slots, at_s):
            self.end(number, at_s, ended_s)


def says(remaining: int, reset_in_s: float, at_s: float, limit: int = 1000) -> Word:
    return Word(limit, remaining, ns(reset_in_s), ns(at_s + reset_in_s))


def test_the_gate_is_the_remainder_less_what_is_in_flight() -> None:
    key = Key()
    probe, *others = key.take(6, 0)
    key.end(probe, 0, 1, says(100, 50, 1))
    assert key.room(1).slots == 95
    key.end(others[0], 0, 1.1, says(98, 49.9, 1.1))
    assert key.room(1.1).slots == 94


def test_once_all_is_answered_the_gate_is_the_lowest_word() -> None:
    key = Key()
    sent = key.take(64, 0)
    for count, number in enumerate(reversed(sent)):
        key.end(number, 0, 1 + count / 100, says(936 + count, 50 - count / 100, 1 + count / 100))
    assert key.room(2).slots == 936


def test_an_older_word_only_lowers_and_a_later_sent_one_may_raise() -> None:
    key = Key()
    old, new = key.take(2, 0)
    key.end(new, 0.5, 2, says(50, 48, 2))
    key.end(old, 0, 2.5, says(90, 47.5, 2.5))
    assert key.room(3).slots == 50
    (later,) = key.take(1, 3)
    key.end(later, 3, 4, says(80, 46, 4))
    assert key.room(4).slots == 80


def test_a_word_about_the_window_before_is_ignored_and_a_later_window_raises() -> None:
    key = Key()
    old, new = key.take(2, 0)
    key.end(new, 0, 2, says(990, 58, 2))
    key.end(old, 0, 3, says(0, 2, 3))
    assert key.room(3).slots == 990
    (next_one,) = key.take(1, 3)
    key.end(next_one, 3, 4, says(999, 116, 4))
    assert key.room(4).slots == 997


def test_an_answer_that_says_nothing_is_counted_against_the_gate() -> None:
    key = Key()
    probe, silent = key.take(2, 0)
    key.end(probe, 0, 1, says(10, 50, 1))
    key.end(silent, 0, 2)
    assert key.room(2).slots == 9


def test_a_gate_at_zero_waits_for_its_reset_and_a_margin_then_one_probe_goes() -> None:
    key = Key()
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, says(0, 20, 1))
    room = key.room(2)
    assert (room.slots, room.why) == (0, "gate")
    assert room.next_ns is not None
    assert 21 * S <= room.next_ns <= 22 * S
    after_s = room.next_ns / S
    (probe,) = key.take(5, after_s)
    assert key.take(5, after_s) == []
    key.end(probe, after_s, after_s + 1, says(999, 59, after_s + 1))
    assert key.room(after_s + 1).slots > 900


def test_a_window_is_over_a_window_after_its_first_word_whatever_reset_says() -> None:
    key = Key()
    (only,) = key.take(1, 0)
    key.end(only, 0, 0.5, says(0, 62, 0.5))
    assert key.room(1).next_ns == ns(60.5)


def test_a_lost_probe_is_followed_by_another() -> None:
    key = Key()
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, says(0, 20, 1))
    (probe,) = key.take(5, 30)
    key.end(probe, 30, 40, lost=True)
    assert len(key.take(5, 40)) == 1


def test_headers_never_raise_the_quota() -> None:
    key = Key()
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, says(90_000, 50, 1, limit=90_000))
    assert key.room(1).slots == 999


def test_what_others_use_is_obeyed_and_lowers_the_limit() -> None:
    key = Key()
    first, second = key.take(2, 0)
    key.end(first, 0, 1, says(999, 59, 1))
    key.end(second, 0, 2, says(698, 58, 2))
    assert key.standing.others == 300
    assert key.standing.effective_limit(key.terms) == 700
    # A hundredth is left to what they send while ours travel.
    assert key.room(2).slots == 688
    assert key.standing.limit == 700


def test_what_was_spent_before_we_came_lowers_this_window_only() -> None:
    key = Key()
    (first,) = key.take(1, 0)
    key.end(first, 0, 1, says(99, 20, 1))
    assert key.room(1).slots == 99
    (probe,) = key.take(9, 30)
    key.end(probe, 30, 31, says(999, 59, 31))
    assert key.room(31).slots == 998


def test_a_429_with_trusted_headers_stops_the_key_until_its_reset_and_keeps_the_limit() -> None:
    key = Key()
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, says(0, 30, 1), refused=True)
    room = key.room(2)
    assert (room.why, key.standing.limit) == ("closed", 1000)
    assert room.next_ns is not None
    assert 31 * S <= room.next_ns <= 32 * S
    assert key.room(32).probe


def test_a_429_with_retry_after_stops_the_key_until_then() -> None:
    key = Key()
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, Word(retry_after_ns=90 * S), refused=True)
    assert key.room(90.9).next_ns == 91 * S
    assert key.room(91).probe
    assert key.standing.limit == 1000


def test_a_429_whose_headers_contradict_it_is_one_without() -> None:
    key = Key()
    key.spend(600, 0, 1)
    (only,) = key.take(1, 2)
    key.end(only, 2, 3, says(300, 30, 3), refused=True)
    assert key.room(3).next_ns == (3 + 15) * S
    assert key.standing.limit == 700


def test_a_bare_429_is_answered_by_a_quarter_and_then_a_whole_window_of_silence() -> None:
    key = Key()
    key.spend(600, 0, 1)
    (a, b) = key.take(2, 2)
    key.end(a, 2, 3, refused=True)
    key.end(b, 2, 3.5, refused=True)
    assert key.standing.limit == 700
    assert key.room(4).next_ns == 18 * S
    (probe,) = key.take(9, 18)
    key.end(probe, 18, 19, refused=True)
    assert key.room(20).next_ns == 79 * S
    assert key.standing.limit == 700
    (probe,) = key.take(9, 79)
    key.end(probe, 79, 80)
    assert key.standing.strikes == 0
    assert key.room(80).slots > 500


def test_a_flight_lowers_the_limit_once() -> None:
    key = Key()
    key.spend(600, 0, 1)
    for number in key.take(64, 2):
        key.end(number, 2, 3 + number / 1000, refused=True)
    assert key.standing.limit == 700


def test_silence_is_a_429_without() -> None:
    key = Key()
    key.spend(600, 0, 1)
    (only,) = key.take(1, 2)
    key.end(only, 2, 30, lost=True, silent=True)
    assert key.room(30).next_ns == 45 * S
    assert key.standing.limit == 700


def test_a_refused_request_counts_as_used() -> None:
    key = Key()
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, refused=True)
    assert key.window.count(2 * S).used == 1


def test_recovery_is_additive_a_fortieth_for_each_clean_window() -> None:
    key = Key(standing=Standing(quota=1000, limit=700, burst=1000, clean_ns=0))
    limits = []
    for window in (0, 1, 2, 12, 13):
        key.room(window * 60)
        limits.append(key.standing.limit)
    assert limits == [700, 725, 750, 1000, 1000]


def test_a_refusal_of_little_that_soon_ends_blames_the_burst_and_not_the_limit() -> None:
    key = Key(terms=Terms(500, 60 * S))
    key.spend(50, 0, 1)
    for number in key.take(64, 1):
        key.end(number, 1, 2, refused=True)
    assert (key.standing.limit, key.standing.burst) == (350, 500)
    (probe,) = key.take(9, 17)
    key.end(probe, 17, 18)
    assert (key.standing.limit, key.standing.burst) == (500, 25)


def test_a_burst_shrinks_no_further_than_a_fiftieth_then_the_limit_is_to_blame() -> None:
    key = Key(standing=Standing(quota=1000, limit=1000, burst=20))
    (only,) = key.take(1, 1)
    key.end(only, 1, 2, refused=True)
    (probe,) = key.take(9, 17)
    key.end(probe, 17, 18)
    assert (key.standing.limit, key.standing.burst) == (700, 20)


def test_a_platform_whose_limit_is_lower_than_the_profiles_is_obeyed() -> None:
    key = Key()
    (number,) = key.take(1, 0)
    key.end(number, 0, 1, says(99, 59, 1, limit=100))
    assert key.room(1).slots == 99


def test_a_burst_recovers_slowly() -> None:
    key = Key(standing=Standing(quota=1000, limit=1000, burst=20))
    key.room(599)
    assert key.standing.burst == 20
    key.room(600)
    assert key.standing.burst == 40
    key.room(36_000)
    assert key.standing.burst == 1000


def test_a_share_is_what_is_ours_of_the_quota() -> None:
    key = Key(terms=Terms(1000, 60 * S, share=0.05))
    assert key.room(0).slots == 50
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, says(400, 50, 1))
    assert key.room(1).slots == 49


def test_the_first_request_of_a_run_goes_alone() -> None:
    key = Key()
    room = key.room(0, first=True, token="a")
    assert (room.slots, room.probe) == (1, True)
    key.standing.probe_slot = key.window.take(1, 0, limit=9)[0]
    assert key.room(0, first=True, token="a").why == "probe"
    assert key.room(0).slots > 900


def test_a_token_proved_a_moment_ago_is_not_proved_again_by_every_process() -> None:
    key = Key()
    key.standing.proved_by, key.standing.proved_ns = "a", ns(5)
    assert key.room(6, first=True, token="a").slots > 1
    assert key.room(6, first=True, token="b").slots == 1
    assert key.room(16, first=True, token="a").slots == 1


def test_a_platform_without_headers_is_not_believed_when_it_sends_some() -> None:
    key = Key(terms=Terms(1000, 60 * S, headers=False))
    (only,) = key.take(1, 0)
    key.end(only, 0, 1, says(0, 50, 1))
    assert key.room(1).slots == 999


def test_a_standing_survives_being_written_down() -> None:
    standing = Standing(quota=5, remaining=3, probe_slot=None, proved_by="x", others=2)
    assert Standing.loads(standing.dumps()) == standing
    assert Standing.loads("[1, 2]") == Standing()


def test_a_clock_that_went_back_closes_a_key_for_a_window_at_most() -> None:
    key = Key(standing=Standing(quota=1000, limit=1000, burst=1000, closed_until_ns=9_000 * S))
    key.standing.limit_future(100 * S, key.terms)
    assert key.room(100).next_ns == 160 * S


def test_another_quota_in_the_profile_keeps_what_was_learnt_in_proportion() -> None:
    key = Key(standing=Standing(quota=1000, limit=700, burst=100))
    key.terms = replace(key.terms, quota=500)
    key.room(0)
    assert (key.standing.limit, key.standing.burst) == (350, 50)


def test_a_count_says_what_it_is() -> None:
    assert Count() == Count(0, 0, None)


def refused_at_350() -> Key:
    """A key of 500 whose first flight met another client's share."""
    key = Key(terms=Terms(500, 60 * S))
    key.spend(350, 0, 1)
    (only,) = key.take(1, 2)
    key.end(only, 2, 3, refused=True)
    return key


def test_beyond_what_was_proved_few_are_in_flight() -> None:
    key = Key(standing=Standing(quota=1000, limit=1000, burst=1000, proved=600))
    assert len(key.take(900, 0)) == 600
    room = key.room(0)
    assert (room.slots, room.why) == (0, "unproved")
    key = Key(standing=Standing(quota=1000, limit=1000, burst=1000, proved=600))
    key.spend(600, 0, 1)
    assert len(key.take(900, 2)) == 2
    assert key.room(2).why == "unproved"


def test_a_refusal_beyond_what_was_proved_lowers_the_limit_to_what_was_taken() -> None:
    standing = Standing(quota=1000, limit=700, burst=1000, proved=600, clean_ns=0)
    key = Key(standing=standing)
    key.spend(600, 0, 1)
    for _ in range(13):
        for number in key.take(2, 2):
            key.end(number, 2, 3)
    (only,) = key.take(1, 4)
    key.end(only, 4, 5, refused=True)
    assert (standing.limit, standing.proved, standing.burst) == (616, 576, 1000)
    # Nothing helps before the first of our own is no longer counted.
    assert key.room(6).next_ns == 61 * S


def test_what_is_taken_again_once_our_own_are_forgotten_says_nothing_of_a_burst() -> None:
    key = refused_at_350()
    (probe,) = key.take(9, 61)
    key.end(probe, 61, 62)
    assert (key.standing.limit, key.standing.burst, key.standing.proved) == (350, 500, 330)


def spread_over(window_s: int, requests: int, **named: object) -> Key:
    """A key that has taken so many, evenly over a window that began at 0."""
    key = Key(standing=Standing(quota=1000, limit=1000, burst=1000, **named))  # type: ignore[arg-type]
    for number in range(requests):
        at = number * window_s / requests
        key.spend(1, at, at)
    return key


def test_after_an_edge_nothing_is_tried_before_others_have_left_room_for_it() -> None:
    key = spread_over(50, 500, proved=480, clean_ns=0)
    (only,) = key.take(1, 55)
    key.end(only, 55, 56, refused=True)
    # One of ours is free at 60 s, but the platform's room for it is whoever's is quicker.
    assert key.standing.proved == 450
    assert key.room(60).slots == key.room(64.9).slots == 0
    assert key.room(65).probe


def test_a_first_refusal_above_the_lowered_limit_waits_for_several_to_be_free() -> None:
    key = spread_over(40, 800)
    (only,) = key.take(1, 41)
    key.end(only, 41, 42, refused=True)
    assert key.standing.limit == 700
    assert key.room(65).slots == key.room(66.5).slots == 0
    assert key.room(67).probe


def test_where_others_are_quicker_a_gate_that_slides_is_not_tried_at_its_reset() -> None:
    key = Key(standing=Standing(quota=1000, limit=1000, burst=1000, was_short=True, company_ns=0))
    key.spend(600, 0, 1)
    (last,) = key.take(1, 2)
    key.end(last, 2, 3, says(0, 1, 3))
    assert key.room(10)[:3] == (0, 61 * S, "window")
    assert key.room(61).probe


def test_each_edge_makes_the_next_try_wait_twice_as_long() -> None:
    key = Key(
        standing=Standing(quota=1000, limit=700, burst=1000, proved=690, patience=4, clean_ns=0)
    )
    limits = []
    for at in (239, 240):
        key.room(at)
        limits.append(key.standing.limit)
    assert limits == [700, 725]


def test_what_was_proved_is_forgotten_after_a_time_without_refusals() -> None:
    key = Key(standing=Standing(quota=1000, limit=700, burst=1000, proved=100, patience=2))
    key.room(20 * 60 - 1)
    assert key.standing.proved == 100
    key.room(20 * 60)
    assert (key.standing.proved, key.standing.patience) == (0, 1)


def test_with_others_about_each_gate_that_ends_is_probed() -> None:
    key = Key(standing=Standing(quota=1000, limit=1000, burst=1000, was_short=True, company_ns=0))
    (first,) = key.take(1, 0)
    key.end(first, 0, 1, says(30, 2, 1))
    assert key.room(30).probe


def test_a_second_refusal_whose_reset_slid_lowers_the_limit_to_what_was_taken() -> None:
    key = Key()
    key.spend(600, 0, 1)
    for at in (2, 6):
        (only,) = key.take(1, at)
        key.end(only, at, at + 0.5, says(0, 1, at + 0.5), refused=True)
    assert key.standing.limit == 590
    assert key.room(7).next_ns == 61 * S
