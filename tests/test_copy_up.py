import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

import penstock
from penstock.core.model import MIB
from penstock.simulators import Fault
from worlds import World, by_name, md5, md5s

RANDOM = os.urandom(12 * MIB)


async def test_a_tree_arrives_with_its_folders_and_every_byte(world: World) -> None:
    root = world.tree({"a.txt": b"a", "empty": b"", "x/y/b.bin": RANDOM[:70000], "x/c": b"c"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert world.remote_md5s() == md5s(root)
    assert {line.verified_by for line in report.lines()} == {"etag"}
    assert not world.sim.open_uploads()
    assert not world.sim.violations


async def test_a_small_file_costs_three_requests_and_a_folder_one(world: World) -> None:
    root = world.tree({f"d{n % 3}/f{n}": b"x" * n for n in range(30)})
    await world.copy(root, f"{world.remote}/")
    # The project's root is listed once; folders made by us are known to be empty.
    assert world.asked() == 30 * 3 + 3 + 1


async def test_a_file_in_parts_costs_two_requests_and_one_a_part(world: World) -> None:
    root = world.tree({"big": RANDOM})
    report = await world.copy(root / "big", f"{world.remote}/", part_size=5 * MIB)
    (line,) = report.lines()
    assert (line.parts, line.api_requests) == (3, 5)
    assert world.calls("POST", "/part") == 0
    assert line.digests["md5"] == md5(RANDOM)


async def test_up_to_64_mib_go_as_one_part(world: World) -> None:
    root = world.tree({"whole": bytes(20 * MIB)})
    report = await world.copy(root / "whole", f"{world.remote}/")
    assert next(report.lines()).parts == 1


async def test_a_finished_copy_run_again_asks_for_pages_and_nothing_a_file(world: World) -> None:
    root = world.tree({f"f{n}": b"x" * n for n in range(150)})
    await world.copy(root, f"{world.remote}/")
    asked = world.asked()
    report = await world.copy(root, f"{world.remote}/")
    assert report.summary.skipped == 150
    assert {line.reason for line in report.lines()} == {"already verified"}
    assert all(line.digests for line in report.lines())
    assert world.asked() - asked == 2


async def test_a_second_copy_to_a_place_asks_nothing_to_find_it(world: World) -> None:
    root = world.tree({"f": b"1"})
    await world.copy(root, f"{world.remote}/deep/down")
    await world.copy(root, f"{world.remote}/deep/down")
    asked = world.asked()
    await world.copy(root, f"{world.remote}/deep/down")
    assert world.asked() - asked == 1


async def test_a_single_file_takes_the_name_it_is_given(world: World) -> None:
    root = world.tree({"a.txt": b"a"})
    await world.copy(root / "a.txt", f"{world.remote}/sub/other.txt")
    await world.copy(root / "a.txt", f"{world.remote}/sub/")
    await world.copy(root / "a.txt", f"{world.remote}/sub")
    assert set(world.sim.files()) == {"sub/other.txt", "sub/a.txt"}


async def test_several_sources_keep_their_last_names(world: World) -> None:
    one, two = world.tree({"f": b"1"}, "one"), world.tree({"f": b"2"}, "two")
    await world.copy(one, two, f"{world.remote}/in")
    assert set(world.sim.files()) == {"in/one/f", "in/two/f"}


async def test_a_single_folder_keeps_its_name_where_asked(world: World) -> None:
    root = world.tree({"f": b"1"})
    await world.copy(root, f"{world.remote}/", keep_names=True)
    assert set(world.sim.files()) == {"src/f"}


async def test_a_folder_by_id_is_a_destination(world: World) -> None:
    folder = world.sim.add_folder(world.sim.project, "some/where")
    root = world.tree({"f": b"1", "g/h": b"2"})
    report = await world.copy(root, f"cavatica:id={folder}")
    assert report.exit_code == 0
    assert set(world.sim.files()) == {"some/where/f", "some/where/g/h"}


async def test_filters_apply_and_the_last_match_wins(world: World) -> None:
    root = world.tree({"a.txt": b"1", "b.log": b"2", "keep/b.log": b"3", "keep/c.tmp": b"4"})
    report = await world.copy(
        root, f"{world.remote}/", rules=_rules(("-", "*.log"), ("-", "*.tmp"), ("+", "keep/*.log"))
    )
    assert set(world.sim.files()) == {"a.txt", "keep/b.log"}
    assert by_name(report)["c.tmp"].reason == "excluded"


def _rules(*pairs: tuple[str, str]) -> list[Any]:
    from penstock.core.globs import Rule

    return [Rule(sign == "+", pattern) for sign, pattern in pairs]


@pytest.mark.parametrize(
    ("choice", "status", "reason"),
    [("fail", "failed", "conflict"), ("skip", "skipped", "conflict")],
)
async def test_another_file_of_the_name_is_a_conflict(
    world: World, choice: str, status: str, reason: str
) -> None:
    world.sim.add_file(world.sim.project, "f", b"theirs")
    root = world.tree({"f": b"ours!!"})
    report = await world.copy(root, f"{world.remote}/", on_conflict=choice)
    line = by_name(report)["f"]
    assert (line.status, line.reason) == (status, reason)
    assert world.remote_md5s() == {"f": md5(b"theirs")}
    assert world.calls("POST", "/upload") == 0


async def test_overwrite_replaces_and_rename_stands_beside(world: World) -> None:
    world.sim.add_file(world.sim.project, "f.txt", b"theirs")
    root = world.tree({"f.txt": b"ours"})
    report = await world.copy(root, f"{world.remote}/", on_conflict="rename")
    assert by_name(report)["f.txt"].destination == f"{world.remote}/f (2).txt"
    again = await world.copy(root, f"{world.remote}/", on_conflict="rename")
    assert again.summary.skipped == 1
    assert set(world.sim.files()) == {"f.txt", "f (2).txt"}
    other = world.tree({"f.txt": b"other"}, "other")
    await world.copy(other, f"{world.remote}/", on_conflict="overwrite")
    assert world.remote_md5s()["f.txt"] == md5(b"other")


async def test_the_same_bytes_there_already_are_proved_by_one_request(world: World) -> None:
    world.sim.add_file(world.sim.project, "f", RANDOM[:100_000])
    world.sim.add_file(world.sim.project, "parts", RANDOM, part_size=5 * MIB)
    root = world.tree({"f": RANDOM[:100_000], "parts": RANDOM})
    report = await world.copy(root, f"{world.remote}/")
    assert {line.status for line in report.lines()} == {"skipped"}
    assert world.calls("GET", "/download_info") == 2
    assert world.calls("POST", "/upload") == 0
    await world.copy(root, f"{world.remote}/")
    assert world.calls("GET", "/download_info") == 2


async def test_compare_by_size_adopts_what_another_tool_sent(world: World) -> None:
    world.sim.add_file(world.sim.project, "f", b"123456")
    root = world.tree({"f": b"abcdef"})
    report = await world.copy(root, f"{world.remote}/", compare="size")
    line = by_name(report)["f"]
    assert line.status == "skipped"
    assert "unverified" in (line.reason or "")
    assert world.asked() == 1


async def test_the_part_size_the_server_insists_on_is_obeyed(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(insist_part_size=6 * MIB)
    root = world.tree({"big": RANDOM})
    report = await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    assert next(report.lines()).parts == 2
    assert world.remote_md5s() == {"big": md5(RANDOM)}


async def test_a_complete_that_refuses_parts_has_them_reported_once_and_is_remembered(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(complete_takes_parts=False)
    root = world.tree({"one": b"1"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert world.calls("POST", "/complete") == 2
    root = world.tree({"two": b"2"})
    await world.copy(root, f"{world.remote}/")
    assert world.calls("POST", "/complete") == 3


async def test_parts_go_in_order_where_the_platform_says_so(make_world: Callable[..., Any]) -> None:
    world: World = await make_world(parallel_uploads=False)
    root = world.tree({"big": RANDOM})
    report = await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    assert report.exit_code == 0
    assert world.remote_md5s() == {"big": md5(RANDOM)}


async def test_a_part_that_arrives_wrong_is_sent_again(world: World) -> None:
    world.sim.faults.add(Fault(kind="corrupt upload", host="storage", method="PUT", times=1))
    root = world.tree({"f": RANDOM[:300_000]})
    report = await world.copy(root, f"{world.remote}/")
    assert next(report.lines()).verified_by == "etag"
    assert world.remote_md5s() == {"f": md5(RANDOM[:300_000])}


async def test_etags_that_prove_nothing_are_met_by_reading_back(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(wrong_etags="random")
    root = world.tree({"big": RANDOM})
    report = await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    assert next(report.lines()).verified_by == "read-back"


async def test_bytes_that_differ_when_read_back_do_not_stay(make_world: Callable[..., Any]) -> None:
    world: World = await make_world(wrong_etags="random")
    world.sim.faults.add(Fault(kind="flip", host="storage", method="GET", times=None))
    root = world.tree({"f": RANDOM[:100_000]})
    report = await world.copy(root, f"{world.remote}/")
    (line,) = report.lines()
    assert line.status == "failed"
    assert line.error is not None
    assert line.error["type"] == "DigestMismatch"
    assert not world.sim.files()


async def test_encrypted_storage_proves_nothing_and_that_is_said(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(sse_kms=True)
    root = world.tree({"f": b"1234"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert next(report.lines()).status == "unverified"
    again = await world.copy(root, f"{world.remote}/")
    assert again.summary.skipped == 1
    root = world.tree({"g": b"5678"}, "strict")
    report = await world.copy(root, f"{world.remote}/", strict=True)
    assert next(report.lines()).verified_by == "read-back"


async def test_a_source_that_changes_while_it_is_sent_fails_and_leaves_nothing_open(
    world: World,
) -> None:
    root = world.tree({"big": RANDOM})

    def touch(_: object) -> None:
        if len(world.sim.calls("GET", "/part/2")) == 1:
            os.utime(root / "big", ns=(1, 1))

    world.sim.on_request = touch
    report = await world.copy(root, f"{world.remote}/", part_size=5 * MIB, concurrency=1)
    (line,) = report.lines()
    assert line.error is not None
    assert line.error["type"] == "SourceChanged"
    assert not world.sim.files()
    assert not world.sim.open_uploads()


async def test_a_lost_answer_to_create_is_settled_by_asking(world: World) -> None:
    world.sim.faults.add(Fault(kind="drop after", method="POST", path=r"/upload/multipart$"))
    root = world.tree({"f": b"1"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert world.calls("POST", "/upload/multipart") == 2  # create and complete: none twice
    assert not world.sim.open_uploads()


async def test_a_lost_answer_to_complete_is_settled_by_asking(world: World) -> None:
    world.sim.faults.add(Fault(kind="drop after", method="POST", path=r"/complete$"))
    root = world.tree({"f": b"1"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert world.calls("POST", "/complete") == 1
    assert world.remote_md5s() == {"f": md5(b"1")}


async def test_a_manifest_says_what_goes_where_and_what_it_must_be(world: World) -> None:
    root = world.tree({"a": b"aaa", "b": b"bbb", "c": b"ccc"})
    manifest = root.parent / "m.csv"
    manifest.write_text(
        "source,destination,md5\n"
        f"src/a,one/a.txt,{md5(b'aaa')}\n"
        f"src/b,,{md5(b'wrong')}\n"
        "src/gone,,\n"
        "src/c,two/,\n"
    )
    report = await world.copy(f"{world.remote}/in/", manifest=manifest)
    lines = by_name(report)
    assert set(world.sim.files()) == {"in/one/a.txt", "in/two/c"}
    assert (lines["b"].error or {})["type"] == "DigestMismatch"
    assert (lines["gone"].error or {})["type"] == "SourceMissing"
    assert report.exit_code == 1


async def test_only_the_failed_of_a_report_go_again(world: World) -> None:
    root = world.tree({"a": b"a", "b": b"b"})
    world.sim.add_file(world.sim.project, "b", b"in the way")
    report = root.parent / "r.jsonl"
    first = await world.copy(root, f"{world.remote}/", report=report)
    assert first.exit_code == 1
    world.sim.remove_file(world.sim.project, "b")
    again = await world.copy(f"{world.remote}/", manifest=report, only="failed")
    assert [Path(line.source).name for line in again.lines()] == ["b"]
    assert set(world.sim.files()) == {"a", "b"}


async def test_names_no_platform_can_take_fail_alone(world: World) -> None:
    root = world.tree({"good": b"1"})
    bad = os.fsencode(root) + b"/bad\xff"
    Path(os.fsdecode(bad)).write_bytes(b"2")
    report = await world.copy(root, f"{world.remote}/")
    assert report.summary.failed == 1
    assert set(world.sim.files()) == {"good"}


async def test_an_upload_interrupted_carries_on_from_its_receipts(world: World) -> None:
    root = world.tree({"big": RANDOM})
    world.sim.faults.add(
        Fault(
            kind="status", host="storage", method="PUT", path=r"partNumber=3\b", status=400, times=1
        )
    )
    options = {"part_size": 5 * MIB, "concurrency": 1}
    first = await world.copy(root, f"{world.remote}/", **options)
    assert first.exit_code == 1
    sent = sum(e.bytes_in for e in world.sim.log if e.host == "storage" and e.status == 200)
    assert sent == 10 * MIB
    second = await world.copy(root, f"{world.remote}/", **options)
    assert second.exit_code == 0
    assert second.summary.api_requests["cavatica"] == 3  # a page, a part's URL, complete
    sent = sum(e.bytes_in for e in world.sim.log if e.host == "storage" and e.status == 200)
    assert sent == len(RANDOM)
    assert world.remote_md5s() == {"big": md5(RANDOM)}


async def test_an_old_upload_of_a_changed_source_is_aborted(world: World) -> None:
    root = world.tree({"big": RANDOM})
    world.sim.faults.add(
        Fault(
            kind="status", host="storage", method="PUT", path=r"partNumber=3\b", status=400, times=1
        )
    )
    await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    assert len(world.sim.open_uploads()) == 1
    (root / "big").write_bytes(b"another")
    report = await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    assert report.exit_code == 0
    assert not world.sim.open_uploads()
    assert world.remote_md5s() == {"big": md5(b"another")}


async def test_the_open_upload_of_a_source_that_is_gone_is_aborted(world: World) -> None:
    root = world.tree({"big": RANDOM, "small": b"1"})
    world.sim.faults.add(
        Fault(
            kind="status", host="storage", method="PUT", path=r"partNumber=3\b", status=400, times=1
        )
    )
    await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    (root / "big").unlink()
    await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    assert not world.sim.open_uploads()


async def test_a_strangers_open_upload_of_the_same_name_is_left_alone(world: World) -> None:
    from aiohttp import ClientSession

    body = {"project": world.sim.project, "name": "f", "size": 1}
    async with (
        ClientSession(headers={"X-SBG-Auth-Token": world.sim.token}) as session,
        session.post(f"{world.sim.endpoint}/upload/multipart", json=body) as answer,
    ):
        assert answer.status == 200
    stranger = world.sim.open_uploads()[0].id
    world.sim.faults.add(Fault(kind="drop before", method="POST", path=r"/upload/multipart$"))
    root = world.tree({"f": b"1"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code in {0, 1}
    if report.exit_code:
        report = await world.copy(root, f"{world.remote}/")
    assert [upload.id for upload in world.sim.open_uploads()] == [stranger]


async def test_expired_part_urls_are_asked_for_again(make_world: Callable[..., Any]) -> None:
    world: World = await make_world()
    world.sim.faults.add(
        Fault(
            kind="status",
            host="storage",
            method="PUT",
            status=403,
            body=b"<Code>AccessDenied</Code>",
        )
    )
    root = world.tree({"f": b"1"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert world.calls("GET", "/part/1") == 2


async def test_a_refused_token_stops_the_run_after_one_request(world: World) -> None:
    root = world.tree({f"f{n}": b"1" for n in range(20)})
    environ = {**world.environ, "PENSTOCK_CAVATICA_TOKEN": "0" * 32}
    with pytest.raises(penstock.TokenRefused, match="refused"):
        await world.copy(root, f"{world.remote}/", environ=environ)
    refused = [e for e in world.sim.log if e.status == 401]
    assert len(refused) == 1
    with pytest.raises(penstock.TokenRefused, match="last hour"):
        await world.copy(root, f"{world.remote}/", environ=environ)
    assert len(world.sim.log) == len(refused)


async def test_a_token_file_is_read_again_after_a_refusal(world: World) -> None:
    token = world.home / "token"
    token.write_text("0" * 32)
    environ = {**world.environ, "PENSTOCK_CAVATICA_TOKEN": f"file:{token}"}
    root = world.tree({"f": b"1"})

    def renew(_: object) -> None:
        token.write_text(world.sim.token)

    world.sim.on_request = renew
    report = await world.copy(root, f"{world.remote}/", environ=environ)
    assert report.exit_code == 0
    assert sum(1 for e in world.sim.log if e.status == 401) == 1


async def test_what_another_client_spent_of_the_window_is_respected(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(quota=40, window_s=2.0)
    root = world.tree({f"f{n}": b"1" for n in range(15)})
    world.sim.quota.spend(25)
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert world.sim.quota.refused == 0
    assert report.summary.rejected_by_quota == {"cavatica": 0}


@pytest.mark.parametrize(
    ("locations", "match"),
    [
        (("src", "cavatcia:me/p"), "did you mean|unknown profile"),
        (("src", "cavatica:me"), "names no project"),
        (("nowhere", "cavatica:me/p"), "does not exist"),
        (("src", "elsewhere"), "neither side"),
        (("cavatica:me/p", "cavatica:me/q"), "platform to platform"),
        (("src",), "at least one SOURCE"),
        (("src", "coscine:p/r"), "cannot move files|no endpoint|token"),
    ],
)
async def test_bad_input_is_one_sentence_and_asks_nothing(
    world: World, locations: tuple[str, ...], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tree({"f": b"1"})
    monkeypatch.chdir(world.home)
    with pytest.raises(penstock.UsageError, match=match):
        await world.copy(*locations)
    assert not world.sim.log


async def test_a_missing_project_is_said_once(world: World) -> None:
    root = world.tree({"f": b"1"})
    with pytest.raises(penstock.UsageError, match="not there"):
        await world.copy(root, "cavatica:no/such")


async def test_a_part_size_outside_the_limits_is_refused_before_anything(world: World) -> None:
    root = world.tree({"f": b"1"})
    with pytest.raises(penstock.UsageError, match="part size"):
        await world.copy(root, f"{world.remote}/", part_size="1MiB")
    assert not world.sim.log


async def test_twenty_alike_failures_stop_the_run(world: World) -> None:
    world.sim.faults.add(
        Fault(
            kind="status",
            method="POST",
            path=r"/upload/multipart$",
            status=403,
            code=8001,
            times=None,
        )
    )
    root = world.tree({f"f{n:03}": b"1" for n in range(200)})
    with pytest.raises(penstock.RunStopped, match="failed alike"):
        await world.copy(root, f"{world.remote}/")
    assert world.calls("POST", "/upload") < 100


async def test_a_single_file_sent_to_its_name_again_is_known(world: World) -> None:
    root = world.tree({"a.txt": b"a"})
    for expected in ("verified", "skipped", "skipped"):
        report = await world.copy(root / "a.txt", f"{world.remote}/sub/b.txt")
        assert next(report.lines()).status == expected
    await world.copy(f"{world.remote}/sub/b.txt", world.home / "back")
    report = await world.copy(root / "a.txt", f"{world.remote}/sub/b.txt")
    assert next(report.lines()).status == "skipped"


async def test_a_part_that_arrived_wrong_is_not_proved_by_a_kill(world: World) -> None:
    # The receipt of a wrong ETag outlives the run that distrusted it.
    root = world.tree({"big": RANDOM})
    world.sim.faults.add(
        Fault(kind="corrupt upload", host="storage", path=r"partNumber=2\b", times=None)
    )
    armed = world.sim.faults.add(
        Fault(kind="status", path=r"/complete$", status=400, code=8007, times=2)
    )
    await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    assert armed.hits
    report = await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    (line,) = report.lines()
    assert line.status == "failed"
    assert not world.sim.files()


async def test_a_file_named_twice_is_one_transfer(world: World) -> None:
    root = world.tree({"f": b"1", "g/f": b"2"})
    report = await world.copy(root / "f", root / "f", f"{world.remote}/")
    assert report.summary.verified == 1
    assert len(list(report.lines())) == 1
    report = await world.copy(root / "f", root / "g/f", f"{world.remote}/x/")
    assert (report.summary.verified, report.summary.failed) == (1, 1)
    failed = next(line for line in report.lines() if line.status == "failed")
    assert "two sources go to" in (failed.error or {})["message"]
    assert not world.sim.open_uploads()


async def test_two_runs_at_once_send_each_file_once(world: World) -> None:
    import anyio

    root = world.tree({f"f{n:03}": b"%d" % n for n in range(80)})
    reports: list[penstock.Report] = []

    async def one() -> None:
        reports.append(await world.copy(root, f"{world.remote}/"))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
    assert [report.exit_code for report in reports] == [0, 0, 0]
    assert sum(report.summary.verified for report in reports) == 80
    assert world.calls("POST", "/complete") == 80


@pytest.mark.parametrize("choice", ["fail", "skip", "overwrite", "rename"])
async def test_a_conflict_met_on_resume_leaves_no_upload_open(world: World, choice: str) -> None:
    root = world.tree({"big": RANDOM})
    world.sim.faults.add(
        Fault(kind="status", host="storage", method="PUT", path=r"partNumber=3\b", status=400)
    )
    await world.copy(root, f"{world.remote}/", part_size=5 * MIB)
    assert len(world.sim.open_uploads()) == 1
    world.sim.add_file(world.sim.project, "big", b"in the way")
    report = await world.copy(root, f"{world.remote}/", part_size=5 * MIB, on_conflict=choice)
    assert report.exit_code == (1 if choice == "fail" else 0)
    assert not world.sim.open_uploads()


@pytest.mark.parametrize("kind", ["drop before", "status"])
async def test_a_creation_that_was_not_done_is_asked_for_again(
    world: World, kind: Literal["drop before", "status"]
) -> None:
    world.sim.faults.add(Fault(kind=kind, method="POST", path=r"/upload/multipart$", status=502))
    root = world.tree({"f": b"1"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert not world.sim.open_uploads()


async def test_a_run_does_not_send_its_own_report(world: World) -> None:
    root = world.tree({"f": b"1", ".penstock-x.part": b"2", "log.txt": b"3"})
    for _ in range(2):
        report = await world.copy(
            root, f"{world.remote}/", report=root / "r.jsonl", leave_out=[root / "log.txt"]
        )
        assert report.exit_code == 0
        left = {line.source: line.reason for line in report.lines() if line.reason}
        assert left[str(root / ".penstock-x.part")] == "unfinished download"
    assert set(world.sim.files()) == {"f"}


async def test_a_folder_that_is_refused_is_asked_for_once(world: World) -> None:
    world.sim.faults.add(
        Fault(kind="status", method="POST", path=r"/v2/files$", status=403, code=5001, times=None)
    )
    root = world.tree({f"f{n}": b"1" for n in range(10)})
    await world.copy(root, f"{world.remote}/x")
    assert world.calls("POST", "/v2/files") == 1


async def test_strict_does_not_adopt_by_size(world: World) -> None:
    world.sim.add_file(world.sim.project, "f", b"123456")
    root = world.tree({"f": b"abcdef"})
    report = await world.copy(root, f"{world.remote}/", compare="size", strict=True)
    assert report.exit_code == 1


async def test_digests_asked_for_later_are_reported(world: World) -> None:
    root = world.tree({"f": b"abc"})
    await world.copy(root, f"{world.remote}/")
    report = await world.copy(root, f"{world.remote}/", checksum=["sha256", "blake3"])
    digests = next(report.lines()).digests
    assert digests["sha256"].startswith("ba7816bf")
    assert digests["blake3"].startswith("6437b3ac")


async def test_a_lost_creation_is_found_where_the_server_chooses_part_sizes(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(insist_part_size=6 * MIB)
    world.sim.faults.add(Fault(kind="drop after", method="POST", path=r"/upload/multipart$"))
    root = world.tree({"f": b"1"})
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert not world.sim.open_uploads()


async def test_another_file_under_the_chosen_name_is_not_ours(world: World) -> None:
    world.sim.add_file(world.sim.project, "f", b"theirs")
    root = world.tree({"f": b"ours"})
    await world.copy(root, f"{world.remote}/", on_conflict="rename")
    world.sim.remove_file(world.sim.project, "f (2)")
    world.sim.add_file(world.sim.project, "f (2)", b"a stranger's")
    report = await world.copy(root, f"{world.remote}/", on_conflict="rename")
    assert next(report.lines()).status == "verified"
    assert world.remote_md5s()["f (3)"] == md5(b"ours")


async def test_a_folder_of_the_name_is_met_by_renaming(world: World) -> None:
    world.sim.add_folder(world.sim.project, "f")
    root = world.tree({"f": b"ours"})
    for expected in ("verified", "skipped"):
        report = await world.copy(root, f"{world.remote}/", on_conflict="rename")
        assert next(report.lines()).status == expected
    assert set(world.sim.files()) == {"f (2)"}


async def test_what_another_run_sent_unproved_is_not_sent_again(
    make_world: Callable[..., Any],
) -> None:
    import anyio

    world: World = await make_world(etags=False)
    root = world.tree({f"f{n:03}": b"%d" % n for n in range(40)})
    reports: list[penstock.Report] = []

    async def one() -> None:
        reports.append(await world.copy(root, f"{world.remote}/"))

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    assert [report.exit_code for report in reports] == [0, 0]
    assert (await world.copy(root, f"{world.remote}/")).summary.skipped == 40


async def test_a_file_deleted_on_the_platform_goes_again(world: World) -> None:
    root = world.tree({"f": b"1"})
    await world.copy(root, f"{world.remote}/")
    world.sim.remove_file(world.sim.project, "f")
    report = await world.copy(root, f"{world.remote}/")
    assert next(report.lines()).status == "verified"
    assert set(world.sim.files()) == {"f"}
