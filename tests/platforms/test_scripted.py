"""The driver of scripted flows fails what it should and follows the exchange's rules."""

import pytest

from penstock.core.errors import AnswerLost, ExchangeError, NotSent, Refused, TokenRefused
from penstock.core.model import Flow, Repeat, Request, Response
from scripted import Asked, LastTry, Line, answer, play

URL = "https://api.example/v2/thing?limit=100"
THING = Asked("GET", "/v2/thing", query={"limit": "100"})


def refusal(request: Request, response: Response) -> ExchangeError:
    return Refused("no", status=response.status, retry=response.status >= 500)


def flow(repeat: Repeat = Repeat.SAFE) -> Flow[int]:
    return (yield Request("GET", URL, repeat=repeat)).status


@pytest.mark.parametrize(
    "script",
    [
        [],
        [(THING, answer()), (THING, answer())],
        [(Asked("POST", "/v2/thing"), answer())],
        [(Asked("GET", "/v2/other"), answer())],
        [(Asked("GET", "/v2/thing", query={"limit": "50"}), answer())],
        [(Asked("GET", "/v2/thing", without=frozenset(("limit",))), answer())],
        [(Asked("GET", "/v2/thing", cost=0), answer())],
        [(Asked("GET", "/v2/thing", repeat=Repeat.ASK), answer())],
    ],
)
def test_a_script_that_differs_from_the_flow_fails(script: list[Line]) -> None:
    with pytest.raises(AssertionError):
        play(flow(), script)


def test_what_is_safe_is_sent_again_and_the_script_expects_it_again() -> None:
    script: list[Line] = [
        (THING, NotSent("no connection")),
        (THING, AnswerLost("cut off")),
        (THING, answer(status=503)),
        (THING, answer()),
    ]
    assert play(flow(), script, refusal=refusal) == 200


def test_what_may_have_been_done_is_thrown_as_lost() -> None:
    with pytest.raises(AnswerLost):
        play(flow(Repeat.ASK), [(THING, answer(status=503))], refusal=refusal)


def test_the_last_try_is_thrown_as_it_is() -> None:
    with pytest.raises(Refused):
        play(flow(), [(THING, LastTry(answer(status=503)))], refusal=refusal)


def test_a_refused_token_never_reaches_the_flow() -> None:
    def catching() -> Flow[int]:
        try:
            return (yield Request("GET", URL)).status
        except ExchangeError:
            return 0

    with pytest.raises(TokenRefused):
        play(catching(), [(THING, answer(status=401))], refusal=refusal)


def test_a_token_for_another_host_fails() -> None:
    with pytest.raises(AssertionError, match="another host"):
        play(flow(), [(THING, answer())], endpoint="https://other.example/v2")
