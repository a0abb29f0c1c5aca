from email.utils import parsedate_to_datetime

import pytest

from driving import Clock, simulated
from penstock.simulators import FixedWindow, Window


def test_a_window_that_begins_with_a_call_ends_its_length_later() -> None:
    clock = Clock(1000.5)
    quota = FixedWindow(limit=2, window_s=300, clock=clock)
    assert [quota.admit() for _ in range(3)] == [True, True, False]
    clock.now += 299.9
    assert not quota.admit()
    clock.now += 0.1
    assert quota.admit()
    assert quota.windows == [Window(1000.5, 2, 2), Window(1300.5, 1, 0)]
    assert (quota.accepted, quota.refused) == (3, 2)


def test_aligned_windows_begin_where_the_clock_divides() -> None:
    clock = Clock(1000.5)
    quota = FixedWindow(limit=1, window_s=300, clock=clock, start="aligned")
    assert quota.admit()
    assert quota.reset_at == 1200
    clock.now = 1200.0
    assert quota.admit()


def test_refused_calls_count_only_if_told_so() -> None:
    for count, remaining in ((False, 1), (True, 0)):
        quota = FixedWindow(limit=2, window_s=300, clock=Clock(), count_refused=count)
        quota.spend(2)
        assert not quota.admit()
        quota.spend(-1)
        assert quota.remaining == remaining


def test_what_another_client_spends_is_gone_until_the_window_ends() -> None:
    clock = Clock()
    quota = FixedWindow(limit=10, window_s=300, clock=clock)
    quota.spend(9)
    assert quota.admit()
    assert not quota.admit()
    assert quota.accepted == 1
    clock.now += 300
    assert quota.remaining == 10


@pytest.mark.parametrize(
    ("style", "reset"),
    [
        ("epoch_s", "1300"),
        ("epoch_ms", "1300500"),
        ("delta_s", "300"),
        ("iso", "1970-01-01T00:21:40Z"),
    ],
)
def test_reset_is_written_in_the_style_asked_for(style: str, reset: str) -> None:
    quota = FixedWindow(limit=10, window_s=300, clock=Clock(1000.5))
    quota.admit()
    headers = quota.headers(style)  # type: ignore[arg-type] # parametrised
    assert headers == {
        "X-RateLimit-Limit": "10",
        "X-RateLimit-Remaining": "9",
        "X-RateLimit-Reset": reset,
    }


async def test_every_answer_tells_the_quota_also_refusals() -> None:
    clock = Clock()
    async with simulated(clock=clock, quota=2) as (sim, client):
        answers = [await client.call("GET", path) for path in ("/user", "/nothing", "/user")]
        assert [answer.status for answer in answers] == [200, 404, 429]
        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
        assert {answer.headers["X-RateLimit-Reset"] for answer in answers} == {"1800000300"}
        assert all("X-Request-Id" in answer.headers for answer in answers)
        assert answers[2].code == 1000
        assert [exchange.counted for exchange in sim.log] == [True, True, False]
        clock.now += 300
        assert (await client.call("GET", "/user")).status == 200
        assert sim.quota.windows == [Window(1.8e9, 2, 1), Window(1.8e9 + 300, 1, 0)]


async def test_the_quota_is_asked_for_nothing_even_when_it_is_spent() -> None:
    async with simulated(clock=Clock(), quota=1) as (sim, client):
        await client.call("GET", "/user")
        answer = await client.call("GET", "/rate_limit")
        rate = {"limit": 1, "remaining": 0, "reset": 1_800_000_300}
        assert answer.status == 200
        assert answer.json["rate"] == rate
        assert answer.json["instance_limit"]["limit"] == -1
        assert len(sim.calls()) == 1


async def test_headers_can_be_left_out() -> None:
    async with simulated(quota_headers="none") as (_, client):
        assert "X-RateLimit-Limit" not in (await client.call("GET", "/user")).headers
    async with simulated(quota=0, quota_headers_on_429=False) as (_, client):
        answer = await client.call("GET", "/user")
        assert answer.status == 429
        assert "X-RateLimit-Reset" not in answer.headers


async def test_storage_requests_are_not_counted() -> None:
    async with simulated() as (sim, client):
        await client.upload("a", b"123456789")
        assert len(sim.calls()) == 1 + 3 + 1
        assert sum(exchange.host == "storage" for exchange in sim.log) == 3
        assert sim.quota.accepted == 5


async def test_a_skewed_server_is_consistent_with_itself() -> None:
    async with simulated(clock=Clock(), clock_skew_s=77.0) as (_, client):
        answer = await client.call("GET", "/user")
        date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        assert date == 1_800_000_077
        assert float(answer.headers["X-RateLimit-Reset"]) - date == 300


async def test_unknown_tokens_are_refused_and_not_counted() -> None:
    async with simulated() as (sim, client):
        url = f"{sim.endpoint}/user"
        none = await client.request("GET", url)
        wrong = await client.request("GET", url, headers={"X-SBG-Auth-Token": "f" * 32})
        bearer = await client.request("GET", url, headers={"Authorization": f"Bearer {sim.token}"})
        root = await client.request("GET", sim.endpoint)
        assert [each.status for each in (none, wrong, bearer, root)] == [401, 401, 200, 200]
        assert none.code == 90001
        assert len(sim.calls()) == 1
        assert [exchange.has_token for exchange in sim.log] == [False, True, True, False]


async def test_maintenance_is_a_503_with_code_0() -> None:
    async with simulated(maintenance=True) as (sim, client):
        answer = await client.call("GET", "/user")
        assert (answer.status, answer.code) == (503, 0)
        sim.change(maintenance=False)
        assert (await client.call("GET", "/user")).status == 200
