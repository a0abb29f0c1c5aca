"""One request done properly, against a platform that judges: admitted, signed, settled."""

# ruff: noqa: ASYNC110 - what is waited for happens in a thread, or in code that tells nobody

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from penstock.config import Token
from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    ExchangeError,
    LeaseExpired,
    NotSent,
    PenstockError,
    Refused,
    SourceMissing,
    TokenRefused,
)
from penstock.core.model import NO_AUTH, FileSlice, Flow, Head, Repeat, Request, Response
from penstock.engine.exchange import MOST_ANSWERS, MOST_QUOTA_REFUSALS, Tally
from penstock.simulators import Fault, SevenBridges, SevenBridgesSettings

if TYPE_CHECKING:
    from composing import Compose, Raw, World

ANY = frozenset(range(200, 600))


def ask(request: Request) -> Flow[Response]:
    return (yield request)


def user(world: World, **named: Any) -> Request:  # noqa: ANN401 - a request's fields
    return Request("GET", f"{world.sim.endpoint}/user", **named)


def new_folder(world: World, name: str) -> Request:
    body = json.dumps({"name": name, "project": world.sim.project, "type": "FOLDER"}).encode()
    return Request("POST", f"{world.sim.endpoint}/files", body=(body,), repeat=Repeat.ASK)


async def thrown(world: World, request: Request, tally: Tally | None = None) -> PenstockError:
    """What is thrown into a flow, as the flow sees it."""
    seen: list[PenstockError] = []

    def flow() -> Generator[Request, Response, None]:
        try:
            yield request
        except PenstockError as error:
            seen.append(error)

    await world.exchange.run(flow(), tally=tally)
    (error,) = seen
    return error


async def held(world: World) -> int:
    """Slots that count, once the limiter has told its store: those it holds ahead do not."""
    await asyncio.sleep(0.1)
    return world.limiter.seen().held - len(world.limiter._spare)


# -- order ---------------------------------------------------------------------------------


async def test_a_body_takes_its_permit_before_its_slot(compose: Compose, tmp_path: Path) -> None:
    """Else a slot of the quota would wait for a body."""
    (tmp_path / "f").write_bytes(b"abc")
    async with compose(permits=1) as world:
        await world.exchange.run(ask(user(world)))
        body = (FileSlice(str(tmp_path / "f"), 0, 3),)
        request = Request("POST", f"{world.sim.endpoint}/user", body=body)
        before = world.limiter.seen().in_flight
        async with world.permits.body(comes=False):
            waiting = asyncio.ensure_future(world.exchange.run(ask(request)))
            for _ in range(20):
                await asyncio.sleep(0)
            assert world.permits.waiting == 1
            assert (world.limiter.seen().in_flight, world.limiter.seen().waiting) == (before, 0)
        with pytest.raises(Refused):
            await waiting


async def test_a_request_without_a_body_needs_no_permit(compose: Compose) -> None:
    async with compose(permits=1) as world, world.permits.body(comes=False):
        with anyio.fail_after(2.0):
            assert (await world.exchange.run(ask(user(world)))).status == 200


async def test_what_the_storage_is_asked_costs_no_slot(compose: Compose) -> None:
    async with compose() as world:
        world.sim.add_file(world.sim.project, "a", b"abc")
        url = world.sim.storage.lease_get(next(iter(world.sim.storage.objects))).url
        tally = Tally()
        request = Request("GET", url, cost=0, auth=NO_AUTH)
        assert (await world.exchange.run(ask(request), tally=tally)).body == b"abc"
        assert (tally.api_requests, tally.storage_requests) == (0, 1)
        assert await held(world) == 0
        assert world.sim.violations == []


# -- repeats -------------------------------------------------------------------------------


async def test_every_repeat_is_admitted_and_counted(compose: Compose) -> None:
    async with compose(tries=4) as world:
        world.sim.faults.add(Fault(kind="status", status=503, code=8008, times=2))
        tally = Tally()
        await world.exchange.run(ask(user(world)), tally=tally)
        assert len(world.sim.calls()) == tally.api_requests == 3
        assert tally.repeats == 2
        assert world.limiter.accepted == 3
        assert world.exchange.total == tally


async def test_tries_are_bounded_and_told(compose: Compose) -> None:
    async with compose(tries=3) as world:
        world.sim.faults.add(Fault(kind="status", status=500, times=None))
        tally = Tally()
        error = await thrown(world, user(world), tally)
        assert isinstance(error, Refused)
        assert "(tried 3 times)" in str(error)
        assert len(world.sim.calls()) == tally.api_requests == 3


async def test_a_lost_answer_to_what_is_safe_is_asked_for_again(compose: Compose) -> None:
    async with compose() as world:
        world.sim.faults.add(Fault(kind="drop after"))
        assert (await world.exchange.run(ask(user(world)))).status == 200
        assert len(world.sim.calls()) == 2


async def test_a_lost_answer_to_what_is_not_safe_is_thrown_and_not_sent_again(
    compose: Compose,
) -> None:
    async with compose() as world:
        await world.exchange.run(ask(user(world)))
        world.sim.faults.add(Fault(kind="drop after", method="POST"))
        error = await thrown(world, new_folder(world, "f"))
        assert isinstance(error, AnswerLost)
        assert len(world.sim.calls("POST")) == 1
        assert "f" in world.sim.folders()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_gateway_s_trouble_with_what_is_not_safe_is_a_lost_answer(
    compose: Compose, status: int
) -> None:
    async with compose() as world:
        armed = world.sim.faults.add(Fault(kind="status", status=status, times=None))
        error = await thrown(world, new_folder(world, "f"))
        assert isinstance(error, AnswerLost)
        assert armed.hits == 1


async def test_what_the_platform_says_it_did_not_do_is_sent_again(compose: Compose) -> None:
    async with compose() as world:
        world.sim.faults.add(Fault(kind="status", status=503, code=8008))
        await world.exchange.run(ask(new_folder(world, "f")))
        assert len(world.sim.calls("POST")) == 2


async def test_a_refusal_that_means_no_is_thrown_at_once(compose: Compose) -> None:
    async with compose() as world:
        error = await thrown(world, Request("GET", f"{world.sim.endpoint}/files/no"))
        assert isinstance(error, Refused)
        assert error.status == 404
        assert len(world.sim.calls()) == 1


async def test_a_spent_quota_spends_no_tries(compose: Compose) -> None:
    async with compose(tries=1, window_s=0.05, quota=1000) as world:
        await world.exchange.run(ask(user(world)))
        world.sim.faults.add(
            Fault(kind="status", status=429, code=1000, times=3, headers={"Retry-After": "0"})
        )
        tally = Tally()
        with anyio.fail_after(20):
            await world.exchange.run(ask(user(world)), tally=tally)
        assert (tally.refused_by_quota, tally.repeats) == (3, 0)
        assert tally.api_requests == 4
        assert world.limiter.refused == 3


async def test_a_quota_that_is_never_ours_is_given_up(compose: Compose) -> None:
    async with compose(window_s=0.001, quota=10_000) as world:
        world.sim.faults.add(Fault(kind="status", status=429, code=1000, times=None))
        with anyio.move_on_after(5.0) as scope:
            error = await thrown(world, user(world))
            assert isinstance(error, Refused)
            assert error.quota
        if not scope.cancelled_caught:
            assert len(world.sim.log) == MOST_QUOTA_REFUSALS


async def test_an_unusable_answer_is_asked_for_again_and_then_thrown(
    compose: Compose, raw: Raw, tmp_path: Path
) -> None:
    server = await raw(b"HTTP/1.1 206 x\r\nContent-Length: 3\r\n\r\nabc")
    (tmp_path / "sink").touch()
    async with compose(tries=3) as world:
        request = Request(
            "GET",
            server.url,
            sink=FileSlice(str(tmp_path / "sink"), 0, 3),
            head=Head(0, 3, 9),
            cost=0,
            auth=NO_AUTH,
        )
        assert isinstance(await thrown(world, request), AnswerUnusable)
    assert len(server.asked) == 3


async def test_an_expired_lease_is_the_flow_s_to_renew(compose: Compose, raw: Raw) -> None:
    server = await raw(b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n")
    async with compose() as world:
        request = Request("GET", f"{server.url}/?X-Amz-Signature=s", cost=0, auth=NO_AUTH)
        assert isinstance(await thrown(world, request), LeaseExpired)
    assert len(server.asked) == 1


async def test_a_host_that_cannot_be_reached_costs_no_slot_and_no_request(
    unused_tcp_port: int, compose: Compose
) -> None:
    dead = SevenBridges(SevenBridgesSettings())
    dead._host.port = unused_tcp_port
    async with compose(dead, tries=2) as world:
        tally = Tally()
        error = await thrown(world, user(world), tally)
        assert isinstance(error, NotSent)
        assert (tally.api_requests, tally.repeats) == (0, 1)
        assert await held(world) == 0


async def test_a_storage_that_is_away_alone_fails_and_is_not_waited_for(
    unused_tcp_port: int, compose: Compose
) -> None:
    """The platform answers, so the network is there: this host is not for us to reach."""
    async with compose(tries=2) as world:
        await world.exchange.run(ask(user(world)))
        url = f"http://127.0.0.1:{unused_tcp_port}/x"
        with anyio.fail_after(5):
            error = await thrown(world, Request("GET", url, cost=0, auth=NO_AUTH))
        assert isinstance(error, NotSent)
        assert await world.transport.reaches(world.sim.endpoint)
        assert not await world.transport.reaches(url)
        assert len(world.sim.log) == 1, "asking whether the network is there asks nothing"


async def test_bytes_of_a_failed_try_are_taken_back(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "sink").write_bytes(bytes(3 << 20))
    async with compose() as world:
        world.sim.add_file(world.sim.project, "a", bytes(3 << 20))
        url = world.sim.storage.lease_get(next(iter(world.sim.storage.objects))).url
        world.sim.faults.add(Fault(kind="truncate", host="storage", after=(2 << 20) + 5))
        moved: list[int] = []
        size = 3 << 20
        request = Request(
            "GET",
            url,
            sink=FileSlice(str(tmp_path / "sink"), 0, size),
            head=Head(0, size, size),
            cost=0,
            auth=NO_AUTH,
        )
        tally = Tally()
        await world.exchange.run(ask(request), tally=tally, progress=moved.append)
        assert sum(moved) == size
        assert min(moved) < 0
        assert tally.bytes_received > size


async def test_no_progress_is_told_where_nothing_moved(compose: Compose) -> None:
    async with compose() as world:
        moved: list[int] = []
        world.sim.faults.add(Fault(kind="status", status=500))
        await world.exchange.run(ask(user(world)), progress=moved.append)
        assert moved == []


async def test_a_flow_that_is_led_round_in_a_circle_ends(compose: Compose) -> None:
    def round_and_round(world: World) -> Flow[None]:
        while True:
            yield Request("GET", f"{world.sim.storage.url}/x", cost=0, auth=NO_AUTH, accept=ANY)

    async with compose() as world:
        with pytest.raises(AnswerUnusable, match="led to no end"):
            await world.exchange.run(round_and_round(world))
        assert len(world.sim.log) == MOST_ANSWERS


# -- tokens --------------------------------------------------------------------------------


async def test_a_refused_token_is_tried_once_and_stops_everything(compose: Compose) -> None:
    async with compose(token="wrong") as world:
        with pytest.raises(TokenRefused, match="sim refused the token"):
            await world.exchange.run(ask(user(world)))
        with pytest.raises(TokenRefused):
            await world.exchange.run(ask(user(world)))
    assert len(world.sim.log) == 1


async def test_callers_that_wait_behind_a_refused_token_ask_nothing(compose: Compose) -> None:
    async with compose(token="wrong") as world:
        came = await asyncio.gather(
            *(world.exchange.run(ask(user(world))) for _ in range(20)), return_exceptions=True
        )
        assert {type(each) for each in came} == {TokenRefused}
    assert len(world.sim.log) == 1


async def test_no_flow_is_asked_about_a_refused_token(compose: Compose) -> None:
    seen: list[ExchangeError] = []

    def flow(request: Request) -> Flow[None]:
        try:
            yield request
        except ExchangeError as error:
            seen.append(error)

    async with compose(token="wrong") as world:
        with pytest.raises(TokenRefused):
            await world.exchange.run(flow(user(world)))
    assert seen == []


async def test_a_token_that_was_replaced_carries_on(compose: Compose) -> None:
    async with SevenBridges(SevenBridgesSettings()) as sim:

        async def reread() -> Token:
            return Token(sim.token)

        async with compose(sim, token="old", reread=reread) as world:
            assert (await world.exchange.run(ask(user(world)))).status == 200
            assert (await world.exchange.run(ask(user(world)))).status == 200
        assert [exchange.status for exchange in sim.log] == [401, 200, 200]


async def test_a_token_that_was_replaced_by_itself_is_refused(compose: Compose) -> None:
    reread: list[int] = []

    async def same() -> Token:
        reread.append(1)
        return Token("wrong")

    async with compose(token="wrong", reread=same) as world:
        with pytest.raises(TokenRefused):
            await world.exchange.run(ask(user(world)))
    assert reread == [1]
    assert len(world.sim.log) == 1


async def test_all_that_were_refused_together_wait_for_the_new_token(compose: Compose) -> None:
    """A token rotates under many requests in flight: reading it again takes a moment."""
    async with SevenBridges(SevenBridgesSettings(api_latency_s=0.01)) as sim:
        new = "a-new-token"

        async def reread() -> Token:
            await asyncio.sleep(0.02)
            return Token(new)

        async with compose(sim, reread=reread) as world:
            await world.exchange.run(ask(user(world)))
            sim.token = new
            came = await asyncio.gather(
                *(world.exchange.run(ask(user(world))) for _ in range(6)), return_exceptions=True
            )
            assert [each for each in came if isinstance(each, BaseException)] == []
            assert (await world.exchange.run(ask(user(world)))).status == 200


@pytest.mark.parametrize("repeat", list(Repeat))
async def test_a_token_goes_to_the_platform_s_own_host_alone(
    compose: Compose, raw: Raw, repeat: Repeat
) -> None:
    server = await raw(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n")
    paused: list[int] = []

    def pause(tried: int) -> float:
        paused.append(tried)
        return 0.0

    async with compose(pause=pause) as world:
        error = await thrown(world, Request("GET", f"{server.url}/v2/user", repeat=repeat))
        assert isinstance(error, AnswerUnusable)
        assert server.connections == 0
        assert await held(world) == 0
        assert paused == [], "what must not be sent will not become right by waiting"


async def test_a_look_alike_of_the_platform_s_host_gets_no_token(compose: Compose) -> None:
    async with compose(tries=1) as world:
        endpoint = world.sim.endpoint
        for url in (
            endpoint.replace("127.0.0.1", "localhost"),
            endpoint.replace("http:", "https:"),
            endpoint.replace("127.0.0.1", "127.0.0.1@127.0.0.2"),
        ):
            error = await thrown(world, Request("GET", f"{url}/user"))
            assert isinstance(error, AnswerUnusable), url
        assert world.sim.log == []


async def test_a_redirect_of_the_platform_is_refused_and_not_followed(
    compose: Compose, raw: Raw
) -> None:
    elsewhere = await raw(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n")
    async with compose() as world:
        world.sim.faults.add(Fault(kind="redirect", url=elsewhere.url, status=302))
        error = await thrown(world, user(world))
        assert isinstance(error, Refused)
        assert error.status == 302
    assert elsewhere.asked == []


# -- flows ---------------------------------------------------------------------------------


async def test_an_error_of_the_local_disk_ends_the_flow(compose: Compose, tmp_path: Path) -> None:
    async with compose() as world:
        seen: list[BaseException] = []

        def flow() -> Flow[None]:
            try:
                yield Request(
                    "PUT",
                    f"{world.sim.endpoint}/user",
                    body=(FileSlice(str(tmp_path / "no"), 0, 5),),
                )
            except ExchangeError as error:
                seen.append(error)

        with pytest.raises(SourceMissing):
            await world.exchange.run(flow())
        assert seen == []


@pytest.mark.parametrize("native", [True, False])
async def test_a_cancelled_flow_is_closed_and_its_slot_is_held(
    compose: Compose, *, native: bool
) -> None:
    async with compose(api_latency_s=30.0) as world:
        closed: list[str] = []

        def flow() -> Flow[None]:
            try:
                yield user(world)
            finally:
                closed.append("closed")

        async def work() -> None:
            await world.exchange.run(flow())

        async def sent() -> None:
            while not world.exchange.total.api_requests:
                await asyncio.sleep(0)

        if native:
            task = asyncio.ensure_future(work())
            await sent()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await sent()
                group.cancel_scope.cancel()
        assert closed == ["closed"]
        assert await held(world) == 1, "it was sent: whether it counts is not known"


async def test_a_flow_cancelled_while_it_waits_costs_nothing(compose: Compose) -> None:
    async with compose(quota=1, window_s=300.0) as world:
        await world.exchange.run(ask(user(world)))
        task = asyncio.ensure_future(world.exchange.run(ask(user(world))))
        await asyncio.sleep(0.02)
        assert world.limiter.seen().waiting == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.limiter.seen().waiting == 0
        assert world.exchange.total.api_requests == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=404, times=None),
        Fault(kind="drop before", times=None),
        Fault(kind="html", times=None),
    ],
    ids=lambda fault: fault.kind,
)
async def test_every_request_sent_is_held_whatever_became_of_it(
    compose: Compose, fault: Fault
) -> None:
    async with compose(tries=2) as world:
        world.sim.faults.add(fault)
        for _ in range(3):
            await asyncio.gather(world.exchange.run(ask(user(world))), return_exceptions=True)
        assert await held(world) == world.exchange.total.api_requests == len(world.sim.log)
        assert world.permits.borrowed_tokens == 0


async def test_the_server_s_clock_is_learnt_from_its_answers(compose: Compose) -> None:
    async with compose(clock_skew_s=5000.0) as world:
        await world.exchange.run(ask(user(world)))
        ahead = world.exchange.server_at() - world.clock.wall_at()
        assert 4998 <= ahead <= 5001
        assert world.exchange.is_due(world.clock.wall_at() + 4000)
        assert not world.exchange.is_due(world.clock.wall_at() + 6000)
        assert not world.exchange.is_due(None)
