"""SURF's flows, played against scripts; and what its states are taken for."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    Effect,
    LocationError,
    ProfileError,
    Refused,
)
from penstock.core.model import Headers, Rank, Repeat, Request, Response
from penstock.platforms.base import Platform
from penstock.platforms.control import Control, Mark, Past, Scope, Sign, Thing
from penstock.platforms.surf import Surf
from penstock.platforms.surf_states import evidence, forbids
from scripted import Asked, Line, answer, play

ENDPOINT = "https://gw.example/v1"
SURF = Surf(ENDPOINT)
BASE = "/v1/workspace/workspaces/"
PAUSE = Asked("POST", f"{BASE}w1/actions/pause/", json={}, repeat=Repeat.ASK, rank=Rank.START)


def page(*items: dict[str, Any], count: int | None = None) -> Response:
    return answer({"count": count, "next": None, "previous": None, "results": list(items)})


def played(flow: Any, script: list[Line]) -> Any:  # noqa: ANN401 - whatever the flow returns
    return play(flow, script, refusal=SURF.refusal, endpoint=ENDPOINT)


def refusal(status: int, body: bytes = b"", **headers: str) -> Refused:
    found = SURF.refusal(
        Request("GET", f"{ENDPOINT}/workspace/workspaces/"),
        Response(status, Headers({k.replace("_", "-"): v for k, v in headers.items()}), body),
    )
    assert isinstance(found, Refused)
    return found


def test_it_is_a_platform_whose_things_are_acted_on() -> None:
    platform: Platform = SURF
    assert isinstance(platform, Control)
    assert (platform.traits.quota, platform.traits.window_s) == (1000, 60.0)


@pytest.mark.parametrize(
    ("form", "header"),
    [(None, "t0k3n"), ("bare", "t0k3n"), ("Token", "Token t0k3n"), ("bearer", "Bearer t0k3n")],
)
def test_a_token_goes_bare_or_as_the_profile_says(form: str | None, header: str) -> None:
    settings = {"token_form": form} if form is not None else {}
    assert Surf(ENDPOINT, settings).sign("t0k3n") == (("Authorization", header),)


@pytest.mark.parametrize("settings", [{"token_form": "cookie"}, {"tokenform": "bare"}])
def test_settings_that_are_none_are_said_so(settings: dict[str, str]) -> None:
    with pytest.raises(ProfileError):
        Surf(ENDPOINT, settings)


def test_there_are_no_places_for_files() -> None:
    with pytest.raises(LocationError, match="keeps no files"):
        SURF.place("anything")


def test_own_compute_workspaces_are_listed_a_hundred_a_request() -> None:
    query = {
        "application_type": "Compute",
        "deleted": "false",
        "by_owner": "true",
        "co_id": "c",
        "limit": "100",
        "offset": "100",
    }
    item = {
        "id": "w1",
        "name": "n",
        "status": "Running",
        "allowed_actions": [{"name": "Pause"}, {"name": "reboot", "enabled": False}],
        "workspace_actions": [
            {"type": "pause", "status": "success", "time_created": "2026-11-21T08:00:00Z"},
            {"type": "resume", "status": "failed", "time_created": "2026-11-20T08:00:00Z"},
        ],
        "meta": {"application_name": "Jupyter"},
        "co_id": 7,
    }
    script: list[Line] = [(Asked("GET", BASE, query=query), page(item, count=250))]
    found = played(SURF.list_things(Scope(own=True, group="c"), 100), script)
    (thing,) = found.things
    assert (thing.status, thing.allowed, thing.application) == (
        "running",
        frozenset(("pause",)),
        "Jupyter",
    )
    assert [entry.action for entry in thing.past] == ["resume", "pause"]
    assert thing.group == "7"
    assert (found.next, found.total) == (101, 250)


def test_those_of_anyone_are_listed_without_asking_for_own_ones() -> None:
    script: list[Line] = [
        (Asked("GET", BASE, without=frozenset(("by_owner",))), page({"id": 5}, count=1))
    ]
    found = played(SURF.list_things(Scope(own=False), 0), script)
    (thing,) = found.things
    assert (thing.id, thing.status, thing.allowed, thing.past) == ("5", "", None, None)
    assert found.next is None


def test_an_action_is_a_post_of_nothing_with_a_slash_at_the_end() -> None:
    script: list[Line] = [(PAUSE, answer(status=202, json={"id": "w1", "status": "pausing"}))]
    assert played(SURF.act("pause", "w1"), script) is None


def test_an_id_cannot_lead_elsewhere() -> None:
    script: list[Line] = [
        (Asked("DELETE", f"{BASE}..%2Fx%3F/", repeat=Repeat.ASK), answer(status=204, body=b""))
    ]
    assert played(SURF.act("delete", "../x?"), script) is None


@pytest.mark.parametrize(
    "body",
    [
        {"code": 400, "message": "no"},
        {"result": {"code": "400"}},
        [{"action": "pause", "error": {"code": 400, "message": "no"}}],
        {"error": "no"},
        {"detail": "no"},
    ],
)
def test_a_success_that_carries_an_error_is_a_refusal(body: object) -> None:
    with pytest.raises(Refused) as raised:
        played(SURF.act("pause", "w1"), [(PAUSE, answer(status=200, json=body))])
    assert raised.value.status == 400
    assert raised.value.effect is Effect.FAIL_TRANSFER


def test_a_workspaces_own_history_is_no_error_of_the_action() -> None:
    body = {"id": "w1", "workspace_actions": [{"result": {"code": 500, "error": "long ago"}}]}
    script: list[Line] = [(PAUSE, answer(status=200, json=body))]
    assert played(SURF.act("pause", "w1"), script) is None


def test_an_answer_that_says_nothing_is_unclear_and_not_taken_for_a_yes() -> None:
    with pytest.raises(AnswerUnusable):
        played(SURF.act("pause", "w1"), [(PAUSE, answer(status=200, body=b"<html>"))])


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_gateways_error_leaves_an_action_unclear(status: int) -> None:
    with pytest.raises(AnswerLost):
        played(SURF.act("pause", "w1"), [(PAUSE, answer(status=status, body=b""))])


def test_a_full_queue_is_no_matter_of_the_quota_and_did_nothing() -> None:
    found = refusal(503, b"<html>busy</html>")
    assert (found.queue_full, found.undone, found.quota) == (True, True, False)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry_After": "12"}, 12.0),
        (
            {
                "Retry_After": "Wed, 25 Nov 2026 12:00:20 GMT",
                "Date": "Wed, 25 Nov 2026 12:00:00 GMT",
            },
            20.0,
        ),
        ({"X_Queue_Wait_Time": "7"}, 7.0),
        ({"X_Queue_Wait_Time": "long"}, None),
        ({"X_Queue_Length": "7"}, None),
    ],
)
def test_how_long_a_full_queue_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert refusal(503, b"", **headers).retry_after_s == seconds


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, b'{"error": "Rate Limit Exceeded"}'),
        (429, b""),
        (403, b'{"error": "Quota exceeded"}'),
    ],
)
def test_a_spent_quota_is_one(status: int, body: bytes) -> None:
    found = refusal(status, body)
    assert (found.quota, found.undone) == (True, True)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b'{"detail": "Not now."}', "Not now."),
        (404, b'{"message": ["Not found.", "Really."]}', "Not found.; Really."),
        (404, b'{"status": "Not Found", "message": "no such log"}', "no such log"),
        (403, b'{"error": "You may not"}', "You may not"),
        (500, b"<html>", "500"),
    ],
)
def test_what_is_said_of_a_refusal_is_told(status: int, body: bytes, said: str) -> None:
    found = refusal(status, body)
    assert said in str(found)
    assert not found.quota


def test_a_key_that_the_gateway_does_not_know_stops_the_run() -> None:
    found = refusal(403, b'{"error": "Access to this API has been disallowed"}')
    assert found.effect is Effect.STOP_RUN


# -- states -----------------------------------------------------------------------------------


def thing(status: str, *past: Past, remembers: bool = False, **more: Any) -> Thing:  # noqa: ANN401
    return Thing("w", "w", status, past=past if past or remembers else None, **more)


@pytest.mark.parametrize(
    ("action", "now", "reason"),
    [
        ("pause", thing("running"), None),
        ("pause", thing("paused"), "already paused"),
        ("pause", thing("pausing"), "already pausing"),
        ("pause", thing("creating"), "no pause while it is creating"),
        (
            "pause",
            thing("running", allowed=frozenset(("reboot",))),
            "the platform allows no pause while it is running",
        ),
        ("pause", thing("failed", allowed=frozenset(("pause",))), None),
        ("resume", thing("running"), "already running"),
        ("resume", thing("paused"), None),
        ("reboot", thing("running"), None),
        ("reboot", thing("paused"), "no reboot while it is paused"),
        ("delete", thing("paused"), None),
        ("delete", thing("deleting"), "already deleting"),
        ("delete", thing("deleted"), "already deleted"),
        ("delete", thing("paused", deletable=False), "the platform says it may not be deleted"),
    ],
)
def test_what_a_state_forbids(action: str, now: Thing, reason: str | None) -> None:
    assert forbids(action, now) == reason


def past(status: str, at: float | None = 50.0, action: str = "pause", **more: Any) -> Past:  # noqa: ANN401
    return Past(action, status, at, **more)


NEW, OLD = 50.0, 10.0
RAN = Mark("running", 1, OLD)


@pytest.mark.parametrize(
    ("action", "mark", "now", "sign"),
    [
        # The state alone: before differs from after.
        ("pause", RAN, thing("paused"), Sign.SETTLED),
        ("pause", RAN, thing("pausing"), Sign.UNDER_WAY),
        ("pause", RAN, thing("running"), Sign.SILENT),
        ("pause", RAN, thing("failed"), Sign.FAILED),
        ("pause", RAN, thing("sleeping"), Sign.SILENT),
        ("pause", RAN, None, Sign.FAILED),
        ("delete", RAN, None, Sign.SETTLED),
        ("delete", RAN, thing("deleted"), Sign.SETTLED),
        # The platform's memory.
        ("pause", RAN, thing("running", remembers=True), Sign.NOTHING),
        ("pause", RAN, thing("running", past("success", OLD)), Sign.NOTHING),
        ("pause", RAN, thing("running", past("success", NEW, "resume")), Sign.NOTHING),
        ("pause", RAN, thing("running", past("pending")), Sign.UNDER_WAY),
        ("pause", RAN, thing("running", past("a new word")), Sign.UNDER_WAY),
        ("pause", RAN, thing("running", past("success")), Sign.SETTLED),
        ("pause", RAN, thing("pausing", past("success")), Sign.UNDER_WAY),
        ("pause", RAN, thing("paused", past("failed")), Sign.FAILED),
        ("pause", RAN, thing("running", past("done", error="no")), Sign.FAILED),
        # Without times it is their number that tells.
        ("pause", RAN, thing("running", past("x", None), past("x", None)), Sign.UNDER_WAY),
        ("pause", RAN, thing("running", past("x", None)), Sign.NOTHING),
        # One state before and after says nothing by itself.
        ("reboot", RAN, thing("running"), Sign.SILENT),
        ("reboot", RAN, thing("rebooting"), Sign.UNDER_WAY),
        ("reboot", RAN, thing("running", past("pending", NEW, "reboot")), Sign.UNDER_WAY),
        ("reboot", RAN, thing("running", past("success", NEW, "reboot")), Sign.SETTLED),
    ],
)
def test_what_a_look_says_of_an_action(
    action: str, mark: Mark, now: Thing | None, sign: Sign
) -> None:
    assert evidence(action, mark, now, begun=False).sign is sign


def test_a_reboot_that_was_seen_under_way_has_settled_when_it_runs() -> None:
    assert evidence("reboot", RAN, thing("rebooting"), begun=False).begun
    assert evidence("reboot", RAN, thing("running"), begun=True).sign is Sign.SETTLED


def test_a_settled_action_that_was_undone_since_does_not_stand() -> None:
    assert not evidence("pause", RAN, thing("running", past("success")), begun=False).stands
    assert evidence("pause", RAN, thing("paused"), begun=False).stands
