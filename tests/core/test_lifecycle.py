"""A transfer goes only the ways there are, and nothing leads away from `verified`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import PenstockError
from penstock.core.lifecycle import ENDED, Event, ImpossibleEvent, State, after

P, M, A, V = State.PLANNED, State.MOVING, State.ARRIVED, State.VERIFIED
U, S, F = State.UNVERIFIED, State.SKIPPED, State.FAILED


@pytest.mark.parametrize(
    ("state", "event", "then"),
    [
        (P, Event.CLAIM, M),
        (M, Event.ALL_PARTS, A),
        (A, Event.PROOF, V),
        (A, Event.NO_PROOF, U),
        (M, Event.INTERRUPT, P),
        (P, Event.SKIP, S),
        (P, Event.FAIL, F),
        (M, Event.FAIL, F),
        (A, Event.FAIL, F),
        (F, Event.PLAN_AGAIN, P),
        (U, Event.PLAN_AGAIN, P),
    ],
)
def test_the_ways_that_are_drawn_can_be_gone(state: State, event: Event, then: State) -> None:
    assert after(state, event) is then


@pytest.mark.parametrize("event", Event)
def test_no_event_leaves_verified(event: Event) -> None:
    with pytest.raises(ImpossibleEvent):
        after(State.VERIFIED, event)


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_verified_is_reached_only_by_proof_and_then_kept(events: list[Event]) -> None:
    state = State.PLANNED
    for event in events:
        try:
            then = after(state, event)
        except ImpossibleEvent:
            continue
        assert state is not State.VERIFIED
        if then is State.VERIFIED:
            assert event is Event.PROOF
            assert state in {State.ARRIVED, State.UNVERIFIED}
        if then is State.ARRIVED:
            assert (state, event) == (State.MOVING, Event.ALL_PARTS)
        if then is State.MOVING:
            assert (state, event) == (State.PLANNED, Event.CLAIM)
        state = then


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_an_event_leads_to_another_state_or_is_impossible(state: State, event: Event) -> None:
    try:
        then = after(state, event)
    except ImpossibleEvent:
        then = None
    assert then is not state


def test_an_impossible_event_names_state_and_event() -> None:
    with pytest.raises(ImpossibleEvent, match=r"proof.*moving"):
        after(State.MOVING, Event.PROOF)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (P, Event.PROOF),
        (P, Event.ALL_PARTS),
        (M, Event.PROOF),
        (M, Event.CLAIM),
        (M, Event.NO_PROOF),
        (F, Event.PROOF),
        (S, Event.PROOF),
        (S, Event.CLAIM),
    ],
)
def test_what_cannot_happen_is_said_to_be_a_defect_of_ours(state: State, event: Event) -> None:
    with pytest.raises(ImpossibleEvent) as raised:
        after(state, event)
    assert not isinstance(raised.value, PenstockError)


def test_a_transfer_ends_verified_unverified_skipped_or_failed() -> None:
    assert {V, U, S, F} == ENDED


@pytest.mark.parametrize("state", [P, M, A])
def test_any_transfer_under_way_can_fail(state: State) -> None:
    assert after(state, Event.FAIL) is F
