"""The simulated cloud keeps to what is known of the gateway, the queue and the workspaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from penstock.simulators import Surf, SurfSettings


class Time:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """Asks one simulator, whose clock the test moves."""

    def __init__(self, sim: Surf, session: aiohttp.ClientSession, time: Time) -> None:
        self.sim, self.time = sim, time
        self._session = session

    async def ask(self, method: str, path: str = "", **more: Any) -> tuple[int, Any, Any]:  # noqa: ANN401
        url = f"{self.sim.endpoint}/workspace/workspaces/{path}"
        async with self._session.request(method, url, **more) as answer:
            json = "json" in answer.headers.get("Content-Type", "")
            return answer.status, await (answer.json() if json else answer.text()), answer.headers

    async def statuses(self, number: int) -> list[int]:
        return [(await self.ask("GET"))[0] for _ in range(number)]


@pytest.fixture
async def client() -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Client:  # noqa: ANN401 - the simulator's settings
            time = Time()
            made = SurfSettings(**{"workspaces": 2, **settings})
            sim = await stack.enter_async_context(Surf(made, clock=time))
            session = aiohttp.ClientSession(headers={"Authorization": sim.token})
            return Client(sim, await stack.enter_async_context(session), time)

        yield make


OVER = [200, 200, 200, 429, 429]


async def test_limiter_a_is_full_again_a_window_after_the_first_call(client: Any) -> None:  # noqa: ANN401
    one = await client(quota=3, window_s=60, limiter="A")
    assert await one.statuses(5) == OVER
    one.time.now += 59.9
    assert await one.statuses(1) == [429]
    one.time.now += 0.1
    assert await one.statuses(4) == [200, 200, 200, 429]


async def test_limiter_b_counts_what_it_refuses(client: Any) -> None:  # noqa: ANN401
    one = await client(quota=3, window_s=60, limiter="B")
    assert await one.statuses(5) == OVER
    one.time.now += 59.0
    assert await one.statuses(1) == [429]
    one.time.now += 1.0
    # The refusal of a second ago counts as a call.
    assert await one.statuses(3) == [200, 200, 429]


async def test_limiter_c_shuts_for_a_window_after_an_overrun(client: Any) -> None:  # noqa: ANN401
    one = await client(quota=3, window_s=60, limiter="C")
    one.time.now += 30
    assert await one.statuses(4) == OVER[:4]
    one.time.now += 59.0
    assert await one.statuses(1) == [429]
    one.time.now += 61.0
    assert await one.statuses(1) == [200]


async def test_limiter_d_begins_with_the_clocks_minute(client: Any) -> None:  # noqa: ANN401
    one = await client(quota=3, window_s=60, limiter="D")
    one.time.now += 55
    assert await one.statuses(5) == OVER
    one.time.now += 5
    assert await one.statuses(1) == [200]


async def test_headers_tell_the_quota_the_rate_or_nothing(client: Any) -> None:  # noqa: ANN401
    def told(headers: Any) -> list[str | None]:  # noqa: ANN401
        return [headers.get(f"X-RateLimit-{name}") for name in ("Limit", "Remaining", "Reset")]

    one = await client(quota=1, headers="quotas")
    assert told((await one.ask("GET"))[2]) == ["-1", "-1", "0"]
    status, body, headers = await one.ask("GET")
    assert (status, body, told(headers)) == (429, {"error": "Rate Limit Exceeded"}, [None] * 3)
    one = await client(quota=2, headers="rate_limits")
    assert told((await one.ask("GET"))[2]) == ["2", "1", str(int(one.time.now + 60))]
    one = await client(headers="none")
    assert told((await one.ask("GET"))[2]) == [None] * 3


async def test_pages_are_enveloped_and_a_slash_is_wanted(client: Any) -> None:  # noqa: ANN401
    one = await client(workspaces=5)
    status, body, _ = await one.ask("GET", "?limit=2&offset=2")
    assert (status, body["count"], len(body["results"])) == (200, 5, 2)
    assert "offset=4" in body["next"]
    assert "offset=0" in body["previous"]
    first = body["results"][0]["id"]
    assert (await one.ask("GET", first, allow_redirects=False))[0] == 301
    assert (await one.ask("POST", f"{first}/actions/pause", json={}))[0] == 404
    assert (await one.ask("POST", f"{first}/actions/pause/", data=b"x"))[0] == 415


async def test_an_action_waits_in_the_queue_passes_and_settles(client: Any) -> None:  # noqa: ANN401
    one = await client(served_per_s=1.0, pause_s=10.0)
    first, second = one.sim.workspaces()
    for each in (first, second):
        assert (await one.ask("POST", f"{each}/actions/pause/", json={}))[0] == 200
    seen = []
    for wait in (0.5, 1.0, 9.0, 1.0):
        one.time.now += wait
        body = (await one.ask("GET", f"{second}/"))[1]
        seen.append((body["status"], body["workspace_actions"][-1]["status"]))
    assert seen == [
        ("running", "pending"),
        ("pausing", "in_progress"),
        ("pausing", "in_progress"),
        ("paused", "success"),
    ]


async def test_a_full_queue_is_503_and_begins_nothing(client: Any) -> None:  # noqa: ANN401
    one = await client(workspaces=3, queue_capacity=1, served_per_s=0.1, full_retry_after_s=5.0)
    answers = [
        await one.ask("POST", f"{each}/actions/pause/", json={}) for each in one.sim.workspaces()
    ]
    # One is under way at once, one waits.
    assert [status for status, _, _ in answers] == [200, 200, 503]
    assert answers[-1][2]["Retry-After"] == "5"
    assert len(one.sim.accepted) == 2


async def test_a_forbidden_action_is_refused_by_status_or_by_body(client: Any) -> None:  # noqa: ANN401
    one = await client()
    first, _ = one.sim.workspaces()
    status, body, _ = await one.ask("POST", f"{first}/actions/resume/", json={})
    assert (status, list(body)) == (400, ["detail"])
    one.sim.change(refuses_with="body")
    status, body, _ = await one.ask("POST", f"{first}/actions/resume/", json={})
    assert (status, body["code"]) == (200, 400)


async def test_an_action_asked_for_twice_is_noticed(client: Any) -> None:  # noqa: ANN401
    one = await client()
    first, _ = one.sim.workspaces()
    for _ in range(2):
        await one.ask("POST", f"{first}/actions/pause/", json={})
    assert len(one.sim.repeated) == 1
    assert len(one.sim.accepted) == 1


async def test_the_deleted_are_listed_unless_left_out(client: Any) -> None:  # noqa: ANN401
    one = await client()
    first, _ = one.sim.workspaces()
    assert (await one.ask("DELETE", f"{first}/"))[0] == 204
    one.time.now += 60
    assert (await one.ask("GET"))[1]["count"] == 2
    assert (await one.ask("GET", "?deleted=false"))[1]["count"] == 1


async def test_who_has_no_token_or_a_bad_one_is_told_by_gateway_or_backend(
    client: Any,  # noqa: ANN401
) -> None:
    one = await client()
    bad = {"Authorization": "n0t-th1s-0ne"}
    assert (await one.ask("GET", headers=bad))[:2] == (401, {"detail": "Invalid token."})
    one.sim.change(bad_token=403)
    assert (await one.ask("GET", headers=bad))[0] == 403
    one.sim.change(token_form="token")
    assert (await one.ask("GET"))[0] == 403
    good = {"Authorization": f"Token {one.sim.token}"}
    assert (await one.ask("GET", headers=good))[0] == 200
