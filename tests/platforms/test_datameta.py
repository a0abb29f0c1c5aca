"""DataMeta's flows, against the real server: nothing here is a stand-in."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import penstock
from datameta_server import DataMetaServer
from penstock.config import Token
from penstock.core.errors import (
    AnswerLost,
    DigestMismatch,
    LocationError,
    NameRefused,
    Refused,
    TokenRefused,
)
from penstock.core.model import Completed, Flow, Part, Place, Receipt, Request, Response, Target
from penstock.engine.clock import Clock
from penstock.engine.exchange import Credentials, Exchange
from penstock.engine.limiter import Limiter
from penstock.engine.permits import Permits
from penstock.engine.slots import MemorySlotStore
from penstock.engine.transport import Transport
from penstock.platforms.datameta import DataMeta
from penstock.platforms.datameta_uploads import MD5_OF_NOTHING
from penstock.simulators import DataMeta as Simulated
from penstock.simulators import DataMetaSettings

HERE = Place("")


@asynccontextmanager
async def asking(endpoint: str, token: str) -> AsyncIterator[Exchange]:
    """An exchange that speaks DataMeta."""

    async def none() -> None:
        return None

    platform, clock, held = DataMeta(endpoint), Clock.running(), Token(token)
    quota, window_s = platform.traits.quota, platform.traits.window_s
    async with (
        Transport() as transport,
        Limiter(
            key="k",
            quota=quota,
            window_s=window_s,
            store=MemorySlotStore(),
            clock=clock,
            token=held.fingerprint(),
        ) as limiter,
    ):
        yield Exchange(
            platform,
            credentials=Credentials("datameta", held, none),
            limiter=limiter,
            transport=transport,
            permits=Permits.fixed(4),
            clock=clock,
            pause=lambda _: 0.0,
        )


@pytest.fixture
async def exchange(datameta_server: DataMetaServer) -> AsyncIterator[Exchange]:
    ready: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def hold() -> None:
        # A fixture's two halves run in two tasks, and a cancel scope is left by who entered it.
        async with asking(datameta_server.endpoint, datameta_server.token) as made:
            ready.set_result(made)
            await over.wait()

    holding = asyncio.create_task(hold())
    yield await ready
    over.set()
    await holding


def target(name: str, content: bytes, *, md5: str | None = None) -> Target:
    digest = md5 or hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Target(HERE, name, len(content), {"md5": digest})


async def send(exchange: Exchange, goal: Target, content: bytes, folder: Path) -> Completed | None:
    path = folder / "source"
    path.write_bytes(content)
    platform = exchange.platform
    upload = await exchange.run(platform.create_upload(goal, 1, overwrite=False))
    receipt = await exchange.run(platform.put_part(upload, Part(1, 0, goal.size), str(path)))
    return await exchange.run(platform.complete_upload(upload, goal, [receipt], reports=False))


async def test_a_file_takes_three_requests_and_the_platform_proves_it(
    exchange: Exchange, datameta_server: DataMetaServer, tmp_path: Path
) -> None:
    content = b"\r\n--penstock" * 9000
    goal = target("three.bin", content)
    done = await send(exchange, goal, content, tmp_path)
    assert done is not None
    assert exchange.total.api_requests == 3
    assert done.file.digests == goal.digests
    status, stored = datameta_server.ask("GET", f"/files/{done.file.id}")
    assert (status, stored["contentUploaded"], stored["filesize"]) == (200, True, len(content))


async def test_an_empty_file_takes_two_requests(exchange: Exchange, tmp_path: Path) -> None:
    done = await send(exchange, target("empty", b"", md5=MD5_OF_NOTHING), b"", tmp_path)
    assert done is not None
    assert done.file.size == 0
    assert exchange.total.api_requests == 2


async def test_other_bytes_than_announced_are_told_with_both_digests(
    exchange: Exchange, tmp_path: Path
) -> None:
    goal = target("other", b"sent", md5="0" * 32)
    with pytest.raises(DigestMismatch) as told:
        await send(exchange, goal, b"sent", tmp_path)
    assert told.value.expected == "0" * 32
    assert told.value.actual == hashlib.md5(b"sent", usedforsecurity=False).hexdigest()


async def test_a_confirmation_whose_answer_was_lost_is_asked_about_and_not_repeated(
    exchange: Exchange, tmp_path: Path
) -> None:
    platform, path = exchange.platform, tmp_path / "source"
    path.write_bytes(b"once")
    goal = target("once", b"once")
    upload = await exchange.run(platform.create_upload(goal, 1, overwrite=False))
    receipt = await exchange.run(platform.put_part(upload, Part(1, 0, 4), str(path)))
    sent: list[str] = []

    def losing() -> Flow[Completed | None]:
        """The same flow, the first answer to its confirmation dropped on the way."""
        flow = platform.complete_upload(upload, goal, [receipt], reports=False)
        request: Request = next(flow)
        while True:
            response: Response = yield request
            sent.append(request.method)
            try:
                lost = sent == ["PUT"]
                request = flow.throw(AnswerLost("lost")) if lost else flow.send(response)
            except StopIteration as stop:
                done: Completed | None = stop.value
                return done

    done = await exchange.run(losing())
    assert sent == ["PUT", "GET"]
    assert done is not None
    assert done.asked
    again = platform.complete_upload(upload, goal, [receipt], reports=False)
    confirmed = await exchange.run(again)
    assert confirmed is not None
    assert confirmed.asked


async def test_a_lost_key_to_an_announced_file_is_said_and_the_file_can_be_deleted(
    exchange: Exchange,
) -> None:
    platform = exchange.platform
    upload = await exchange.run(platform.create_upload(target("a", b"x"), 1, overwrite=False))
    assert await exchange.run(platform.describe_upload(upload.id)) is not None
    keyless = type(upload)(upload.id, upload.part_size)
    with pytest.raises(Refused, match="key"):
        await exchange.run(platform.put_part(keyless, Part(1, 0, 1), "unread"))
    for _ in range(2):
        await exchange.run(platform.abort_upload(upload.id))
    assert await exchange.run(platform.describe_upload(upload.id)) is None
    gone = platform.complete_upload(
        upload, target("a", b"x"), [Receipt(1, 0, 1, "0" * 32)], reports=False
    )
    assert await exchange.run(gone) is None


@pytest.mark.parametrize("name", ["λ.txt", "two\nlines", ""])
async def test_names_the_server_cannot_serve_back_are_refused_before_anything_is_sent(
    exchange: Exchange, name: str
) -> None:
    with pytest.raises(NameRefused):
        await exchange.run(exchange.platform.create_upload(target(name, b"x"), 1, overwrite=False))
    assert exchange.total.api_requests == 0


async def test_a_pending_file_is_found_by_id_and_fetched_by_ranges(
    exchange: Exchange, tmp_path: Path
) -> None:
    platform = exchange.platform
    done = await send(exchange, target("range.bin", b"0123456789"), b"0123456789", tmp_path)
    assert done is not None
    found = await exchange.run(platform.find(platform.place(done.file.id)))
    assert found.file == done.file
    page = await exchange.run(platform.list_page(HERE, None))
    assert done.file in page.files
    lease = await exchange.run(platform.lease(done.file))
    assert lease.expires_at is not None
    assert lease.expires_at - exchange.server_at() > 14 * 60
    sink = tmp_path / "sink"
    sink.write_bytes(bytes(10))
    flow = platform.get_part(
        lease, Part(1, 4, 3), str(sink), total=10, validator=None, digests=frozenset(("md5",))
    )
    answer = await exchange.run(flow)
    assert (answer.status, sink.read_bytes()[4:7]) == (206, b"456")
    renewed = await exchange.run(platform.renew(lease.origin))
    assert renewed[done.file.id].url != lease.url


async def test_the_servers_root_is_enough_and_the_api_is_looked_for_once(
    datameta_server: DataMetaServer,
) -> None:
    async with asking(datameta_server.root, datameta_server.token) as exchange:
        for _ in range(2):
            await exchange.run(exchange.platform.prepare(HERE, writing=False))
        await exchange.run(exchange.platform.list_page(Place("submissions"), None))
        assert exchange.total.api_requests == 3
        assert exchange.platform.endpoint == DataMeta(datameta_server.endpoint).endpoint


async def test_a_transaction_rolled_back_goes_again_with_fewer_in_flight(tmp_path: Path) -> None:
    """SURF's full queue is the caller's affair; DataMeta's conflict is none of a flow's."""
    files = 6
    async with (
        Simulated(DataMetaSettings(every_nth_fails=4)) as sim,
        asking(sim.endpoint, sim.token) as exchange,
    ):
        halved: list[int] = []
        limiter = exchange.limiter

        async def announce(number: int) -> None:
            goal = target(f"f{number}", b"x")
            await exchange.run(exchange.platform.create_upload(goal, 1, overwrite=False))
            if limiter._most_out is not None:
                halved.append(limiter._most_out)

        async with anyio.create_task_group() as group:
            for number in range(files):
                group.start_soon(announce, number)
        refused = [each for each in sim.log if each.status == 500]
        assert len(refused) == limiter.queue_full > 0
        assert min(halved) <= files // 2 + 1
        assert sorted(file.name for file in sim.files().values()) == [
            f"f{number}" for number in range(files)
        ]


async def test_twenty_files_refused_alike_stop_the_run_with_the_cause_named_once(
    tmp_path: Path,
) -> None:
    root = tmp_path / "src"
    root.mkdir()
    for number in range(60):
        (root / f"f{number}").write_bytes(bytes(3000))
    async with Simulated(DataMetaSettings(largest_body=2000)) as sim:
        environ = {
            "HOME": str(tmp_path),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PENSTOCK_DATAMETA_ENDPOINT": sim.root,
            "PENSTOCK_DATAMETA_TOKEN": sim.token,
        }
        with pytest.raises(
            penstock.RunStopped, match=r"first 20 .* 413: .* takes no file this large"
        ):
            await penstock.copy(f"{root}/", "datameta:", environ=environ)
        assert len(sim.calls("POST", "/upload/")) < 40


async def test_a_refused_key_is_asked_with_once(datameta_server: DataMetaServer) -> None:
    async with asking(datameta_server.endpoint, "k" * 64) as exchange:
        with pytest.raises(TokenRefused):
            await exchange.run(exchange.platform.prepare(HERE, writing=False))
        assert exchange.total.api_requests == 1


async def test_what_is_another_users_is_not_there(
    exchange: Exchange, datameta_server: DataMetaServer, tmp_path: Path
) -> None:
    done = await send(exchange, target("own", b"mine"), b"mine", tmp_path)
    assert done is not None
    async with asking(datameta_server.endpoint, datameta_server.other_token) as stranger:
        with pytest.raises(LocationError, match="not for this key"):
            await stranger.run(stranger.platform.find(Place(f"id={done.file.id}")))


async def test_a_submission_lists_its_files_without_a_request_for_each(
    exchange: Exchange, datameta_server: DataMetaServer, tmp_path: Path
) -> None:
    ask = datameta_server.ask
    column = {"name": "Data", "isFile": True, "isMandatory": False, "order": 1}
    texts = ("regexDescription", "longDescription", "example", "regExp", "dateTimeFmt")
    column |= dict.fromkeys(("isSubmissionUnique", "isSiteUnique"), False)
    column |= dict.fromkeys((*texts, "serviceId"), "")
    assert ask("POST", "/metadata", column)[0] == 200
    names = {f"in-{number}.bin": f"in {number}".encode() for number in range(3)}
    files, sets = {}, []
    for name, content in names.items():
        done = await send(exchange, target(name, content), content, tmp_path)
        assert done is not None
        files[name] = done.file.id
        sets.append(ask("POST", "/metadatasets", {"record": {"Data": name}})[1]["id"]["uuid"])
    body = {"metadatasetIds": sets, "fileIds": list(files.values()), "label": "three"}
    status, submitted = ask("POST", "/submissions", body)
    assert status == 200
    platform = exchange.platform
    before = exchange.total.api_requests
    folders = (await exchange.run(platform.list_page(Place("submissions"), None))).folders
    assert submitted["id"]["uuid"] in {folder.id for folder in folders}
    site = submitted["id"]["site"]
    found = await exchange.run(platform.find(platform.place(f"submissions/{site}")))
    page = await exchange.run(platform.list_page(found.place, None))
    assert {file.name: file.id for file in page.files} == files
    assert exchange.total.api_requests - before == 5  # whoami, three times submissions, metadata
    pending = await exchange.run(platform.list_page(HERE, None))
    assert not {file.id for file in pending.files} & set(files.values())
