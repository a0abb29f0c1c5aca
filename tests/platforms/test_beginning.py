"""Flows that are begun again where an answer made no sense."""

from __future__ import annotations

import pytest

from penstock.core.errors import AnswerUnusable, LedAstray, Refused
from penstock.core.model import Flow, Repeat, Request, Response
from penstock.platforms.base import JsonObject
from penstock.platforms.beginning import BEGINNINGS, all_begin_again, begins_again

GOOD, BAD = Response(200, body=b'{"a": 1}'), Response(200, body=b"<html>")


@begins_again
def number(repeat: Repeat = Repeat.SAFE) -> Flow[int]:
    yield Request("GET", "https://h/first", repeat=repeat)
    return JsonObject.of((yield Request("GET", "https://h/second")), "it").whole("a")


def played(flow: Flow[int], *answers: Response) -> tuple[int, list[tuple[str, int]]]:
    asked: list[tuple[str, int]] = []
    coming = iter(answers)
    try:
        request = next(flow)
        while True:
            asked.append((request.url[-6:], request.again))
            request = flow.send(next(coming))
    except StopIteration as stop:
        return stop.value, asked


def test_an_answer_without_sense_is_asked_for_again_from_the_flow_s_start() -> None:
    assert played(number(), GOOD, BAD, GOOD, GOOD) == (
        1,
        [("/first", 0), ("second", 0), ("/first", 1), ("second", 0)],
    )


def test_nonsense_that_lasts_is_told_with_how_often_it_was_asked_for() -> None:
    with pytest.raises(AnswerUnusable, match=rf"is not JSON \(asked {BEGINNINGS} times\)"):
        played(number(), *([GOOD, BAD] * BEGINNINGS))


def test_what_must_not_be_done_twice_is_not_begun_again() -> None:
    with pytest.raises(AnswerUnusable):
        played(number(Repeat.ASK), GOOD, BAD)


@pytest.mark.parametrize("error", [AnswerUnusable("x"), Refused("x", status=404)])
def test_what_the_exchange_throws_has_had_its_tries(error: Exception) -> None:
    flow = number()
    next(flow)
    with pytest.raises(type(error), match=r"^x$"):
        flow.throw(error)


def test_where_it_shall_not_be_asked_again_the_first_nonsense_is_told() -> None:
    flow = number()
    next(flow)
    flow.send(GOOD)
    assert flow.send(BAD).again == 1
    with pytest.raises(AnswerUnusable, match="not JSON"):
        flow.throw(AnswerUnusable("no tries left"))


def test_a_redirect_that_leads_nowhere_is_not_followed_again() -> None:
    @begins_again
    def led() -> Flow[int]:
        yield Request("GET", "https://h/first")
        raise LedAstray("round in a circle")

    with pytest.raises(LedAstray):
        played(led(), GOOD)


def test_public_flows_of_a_class_begin_again_and_nothing_else_changes() -> None:
    @all_begin_again
    class Platform:
        name = "x"

        def numbers(self, wanted: str) -> Flow[int]:
            """A docstring."""
            return JsonObject.of((yield Request("GET", "https://h/second")), "it").whole(wanted)

        def plain(self) -> int:
            return 3

    platform = Platform()
    assert played(platform.numbers("a"), BAD, GOOD)[0] == 1
    assert (platform.plain(), platform.name) == (3, "x")
    assert Platform.numbers.__doc__ == "A docstring."
