import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.core.events import BytesMoved
from penstock.core.model import MIB
from penstock.simulators import Bytes, Fault, Zeros
from worlds import World, by_name, md5, md5s

RANDOM = os.urandom(40 * MIB)


def fill(world: World, files: dict[str, bytes], part_size: int | None = None) -> None:
    for path, content in files.items():
        world.sim.add_file(world.sim.project, path, content, part_size=part_size)


def storage_bytes(world: World) -> int:
    return sum(e.bytes_out for e in world.sim.log if e.host == "storage" and e.method == "GET")


def part_files(root: Path) -> list[Path]:
    return list(root.rglob(".penstock-*"))


async def test_a_tree_arrives_with_its_folders_and_every_byte(world: World) -> None:
    files = {"a": b"a", "empty": b"", "x/y/b": RANDOM[:70_000], "x/c": b"c"}
    fill(world, files)
    to = world.home / "to"
    report = await world.copy(f"{world.remote}/", to)
    assert report.exit_code == 0
    assert md5s(to) == {name: md5(content) for name, content in files.items()}
    assert {line.verified_by for line in report.lines()} == {"etag"}
    assert not part_files(to)
    assert not world.sim.violations


async def test_a_download_costs_one_request_a_file_and_one_a_hundred_entries(world: World) -> None:
    fill(world, {f"d/f{n:03}": b"x" for n in range(250)})
    await world.copy(f"{world.remote}/", world.home / "to")
    assert world.asked() == 250 + 3 + 1


async def test_the_first_file_moves_before_the_last_page_is_listed(world: World) -> None:
    fill(world, {f"f{n:04}": b"x" for n in range(1200)})
    await world.copy(f"{world.remote}/", world.home / "to")
    api = [e for e in world.sim.log if e.host == "api"]
    pages = [n for n, e in enumerate(api) if e.path.endswith("/files")]
    urls = [n for n, e in enumerate(api) if e.path.endswith("/download_info")]
    assert urls[0] < pages[-1]


async def test_a_finished_copy_run_again_asks_for_pages_and_nothing_a_file(world: World) -> None:
    fill(world, {f"f{n:03}": b"x" for n in range(150)})
    await world.copy(f"{world.remote}/", world.home / "to")
    asked = world.asked()
    report = await world.copy(f"{world.remote}/", world.home / "to")
    assert {line.reason for line in report.lines()} == {"already verified"}
    assert world.asked() - asked == 2


async def test_a_vanished_file_is_fetched_again_and_a_changed_one_is_a_conflict(
    world: World,
) -> None:
    fill(world, {"gone": b"1", "changed": b"22"})
    to = world.home / "to"
    await world.copy(f"{world.remote}/", to)
    (to / "gone").unlink()
    (to / "changed").write_bytes(b"33")
    report = await world.copy(f"{world.remote}/", to)
    lines = by_name(report)
    assert lines["gone"].status == "verified"
    assert (lines["changed"].status, lines["changed"].reason) == ("failed", "conflict")
    assert (to / "changed").read_bytes() == b"33"


async def test_a_touched_file_with_the_same_bytes_costs_nothing(world: World) -> None:
    fill(world, {"f": b"1"})
    to = world.home / "to"
    await world.copy(f"{world.remote}/", to)
    os.utime(to / "f", (1, 1))
    report = await world.copy(f"{world.remote}/", to)
    assert next(report.lines()).status == "skipped"
    assert world.calls("GET", "/download_info") == 1


async def test_a_file_there_already_is_proved_by_the_storages_etag(world: World) -> None:
    fill(world, {"f": b"12345", "g": RANDOM}, part_size=8 * MIB)
    to = world.tree({"f": b"12345", "g": RANDOM}, "to")
    report = await world.copy(f"{world.remote}/", to)
    assert {line.status for line in report.lines()} == {"skipped"}
    assert storage_bytes(world) < 10


@pytest.mark.parametrize("part_size", [8 * MIB, 32 * MIB, 5 * MIB, 16 * MIB])
async def test_ranges_are_proved_by_a_multipart_etag(world: World, part_size: int) -> None:
    fill(world, {"big": RANDOM}, part_size=part_size)
    report = await world.copy(f"{world.remote}/big", f"{world.home}/to/")
    (line,) = report.lines()
    assert (line.verified_by, line.status) == ("etag", "verified")
    assert line.parts > 1
    assert line.api_requests == 1
    assert line.digests["md5"] == md5(RANDOM)


async def test_an_etag_no_part_size_fits_is_fetched_twice_and_unverified(world: World) -> None:
    odd = 7 * MIB + 12345
    fill(world, {"big": RANDOM}, part_size=odd)
    report = await world.copy(f"{world.remote}/big", f"{world.home}/to/")
    (line,) = report.lines()
    assert (line.status, line.attempts) == ("unverified", 2)
    assert (world.home / "to/big").read_bytes() == RANDOM


async def test_only_a_length_is_fetched_once_and_unverified(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(etags=False)
    fill(world, {"f": b"abc"})
    report = await world.copy(f"{world.remote}/", world.home / "to")
    (line,) = report.lines()
    assert (line.status, line.attempts, line.verified_by) == ("unverified", 1, None)
    again = await world.copy(f"{world.remote}/", world.home / "to")
    assert again.summary.skipped == 1


async def test_strict_publishes_nothing_unproved(make_world: Callable[..., Any]) -> None:
    world: World = await make_world(etags=False)
    fill(world, {"f": b"abc"})
    report = await world.copy(f"{world.remote}/", world.home / "to", strict=True)
    assert next(report.lines()).status == "failed"
    assert not list((world.home / "to").iterdir())


async def test_a_flipped_bit_is_fetched_again(world: World) -> None:
    fill(world, {"f": RANDOM[:100_000]})
    world.sim.faults.add(Fault(kind="flip", host="storage", after=500))
    report = await world.copy(f"{world.remote}/", world.home / "to")
    (line,) = report.lines()
    assert (line.status, line.attempts) == ("verified", 2)
    assert (world.home / "to/f").read_bytes() == RANDOM[:100_000]


async def test_bytes_that_are_wrong_every_time_are_never_published(world: World) -> None:
    fill(world, {"f": RANDOM[:100_000]})
    world.sim.faults.add(Fault(kind="flip", host="storage", after=500, times=None))
    report = await world.copy(f"{world.remote}/", world.home / "to")
    (line,) = report.lines()
    assert (line.error or {})["type"] == "DigestMismatch"
    assert not list((world.home / "to").iterdir())


async def test_a_manifest_proves_and_disproves(make_world: Callable[..., Any]) -> None:
    world: World = await make_world(etags=False)
    fill(world, {"good": b"good", "bad": b"bad!", "other": b"o"})
    sums = world.home / "sums.md5"
    sums.write_text(f"{md5(b'good')}  good\n{md5(b'else')}  bad\n{md5(b'x')}  missing\n")
    report = await world.copy(f"{world.remote}/", world.home / "to", manifest=sums)
    lines = by_name(report)
    assert lines["good"].verified_by == "manifest"
    assert (lines["bad"].error or {})["type"] == "DigestMismatch"
    assert (lines["missing"].error or {})["type"] == "SourceMissing"
    assert sorted(p.name for p in (world.home / "to").iterdir()) == ["good"]
    # One page for all rows, one URL for each file.
    assert world.calls("GET", "/v2/files") - world.calls("GET", "/download_info") == 1


async def test_a_manifest_may_name_files_by_id(world: World) -> None:
    ids = [world.sim.add_file(world.sim.project, f"x/f{n}", b"%d" % n) for n in range(3)]
    manifest = world.home / "m.csv"
    rows = "".join(f"cavatica:id={file},n{n}\n" for n, file in enumerate(ids))
    manifest.write_text("source,destination\n" + rows)
    report = await world.copy(world.home / "to", manifest=manifest)
    assert report.exit_code == 0
    assert sorted(p.name for p in (world.home / "to").iterdir()) == ["n0", "n1", "n2"]
    assert world.calls("POST", "/bulk/files/get") == 1


async def test_a_file_by_id_and_a_folder_by_id(world: World) -> None:
    file = world.sim.add_file(world.sim.project, "x/f", b"1")
    folder = world.sim.add_folder(world.sim.project, "x")
    await world.copy(f"cavatica:id={file}", world.home / "one")
    await world.copy(f"cavatica:id={folder}", world.home / "two")
    assert (world.home / "one").read_bytes() == b"1"
    assert (world.home / "two/f").read_bytes() == b"1"


async def test_a_file_that_changes_meanwhile_is_an_error_never_a_mix(world: World) -> None:
    fill(world, {"big": RANDOM}, part_size=8 * MIB)
    moved = 0

    def change(event: object) -> None:
        nonlocal moved
        if isinstance(event, BytesMoved):
            moved += event.size
            if moved == event.size:
                for key in list(world.sim.storage.objects):
                    world.sim.storage.put(key, Bytes(RANDOM[::-1]), part_size=8 * MIB)

    report = await world.copy(
        f"{world.remote}/big", f"{world.home}/to/", concurrency=1, on_event=change
    )
    (line,) = report.lines()
    assert line.status == "failed"
    assert not (world.home / "to/big").exists()


async def test_an_expired_url_is_renewed_and_the_file_goes_on(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world()
    fill(world, {"big": RANDOM}, part_size=8 * MIB)
    expired = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    world.sim.faults.add(Fault(kind="status", host="storage", status=403, body=expired, skip=2))
    report = await world.copy(f"{world.remote}/big", f"{world.home}/to/")
    assert report.exit_code == 0
    assert world.calls("GET", "/download_info") == 2


async def test_a_listing_that_shifts_is_noticed_and_loses_nothing(world: World) -> None:
    fill(world, {f"f{n:03}": b"x" for n in range(250)})
    shifted = False

    def shift(_: object) -> None:
        nonlocal shifted
        if world.calls("GET", "/v2/files") == 1 and not shifted:
            shifted = True
            world.sim.remove_file(world.sim.project, "f000")

    world.sim.on_request = shift
    report = await world.copy(f"{world.remote}/", world.home / "to")
    here = {p.name for p in (world.home / "to").iterdir()}
    assert {f"f{n:03}" for n in range(1, 250)} <= here
    assert report.summary.verified >= 249


async def test_a_download_interrupted_carries_on_from_its_receipts(world: World) -> None:
    fill(world, {"big": RANDOM}, part_size=8 * MIB)
    world.sim.faults.add(Fault(kind="status", host="storage", status=400, skip=2))
    first = await world.copy(f"{world.remote}/big", f"{world.home}/to/", concurrency=1)
    assert first.exit_code == 1
    second = await world.copy(f"{world.remote}/big", f"{world.home}/to/")
    assert second.exit_code == 0
    assert storage_bytes(world) <= len(RANDOM) + 10
    assert (world.home / "to/big").read_bytes() == RANDOM


async def test_bytes_on_disk_are_not_believed_on_resume(world: World) -> None:
    fill(world, {"big": RANDOM}, part_size=8 * MIB)
    world.sim.faults.add(Fault(kind="status", host="storage", status=400, skip=2))
    await world.copy(f"{world.remote}/big", f"{world.home}/to/", concurrency=1)
    (partial,) = part_files(world.home / "to")
    with partial.open("r+b") as file:
        file.seek(100)
        file.write(b"corrupted")
    report = await world.copy(f"{world.remote}/big", f"{world.home}/to/")
    (line,) = report.lines()
    assert (line.status, line.attempts) == ("verified", 1)
    assert (world.home / "to/big").read_bytes() == RANDOM


async def test_a_partial_folder_is_found_again_from_another_destination(world: World) -> None:
    fill(world, {"big": RANDOM}, part_size=8 * MIB)
    world.sim.faults.add(Fault(kind="status", host="storage", status=400, skip=2))
    options = {"partial_dir": world.home / "parts", "concurrency": 1}
    await world.copy(f"{world.remote}/big", f"{world.home}/one/", **options)
    report = await world.copy(f"{world.remote}/big", f"{world.home}/two/", **options)
    assert report.exit_code == 0
    assert storage_bytes(world) <= len(RANDOM) + 10
    assert not list((world.home / "parts").iterdir())


async def test_conflicts_are_met_as_chosen(world: World) -> None:
    fill(world, {"f.txt": b"theirs"})
    to = world.tree({"f.txt": b"ours"}, "to")
    await world.copy(f"{world.remote}/", to, on_conflict="skip")
    assert (to / "f.txt").read_bytes() == b"ours"
    await world.copy(f"{world.remote}/", to, on_conflict="rename")
    assert (to / "f (2).txt").read_bytes() == b"theirs"
    again = await world.copy(f"{world.remote}/", to, on_conflict="rename")
    assert again.summary.skipped == 1
    await world.copy(f"{world.remote}/", to, on_conflict="overwrite")
    assert (to / "f.txt").read_bytes() == b"theirs"


async def test_nothing_is_written_outside_the_destination(world: World) -> None:
    for name in ("..", ".", "...", "~", "-rf", "a\nb", "tab\t", "C:\\x", ".penstock-x.part"):
        world.sim.add_file(world.sim.project, name, name.encode())
    to = world.home / "deep" / "to"
    report = await world.copy(f"{world.remote}/", to)
    assert report.summary.verified == 9
    assert len(list(to.iterdir())) == 9
    assert [p.name for p in (world.home / "deep").iterdir()] == ["to"]


async def test_a_destination_that_is_a_file_is_refused(world: World) -> None:
    fill(world, {"x/f": b"1"})
    to = world.tree({"file": b"1"}) / "file"
    with pytest.raises(penstock.UsageError, match="is a file"):
        await world.copy(f"{world.remote}/x", to)


async def test_times_are_the_platforms_where_asked(world: World) -> None:
    fill(world, {"f": b"1"})
    await world.copy(f"{world.remote}/", world.home / "to", times=True)
    listed = await penstock.list_(f"{world.remote}/", environ=world.environ)
    from penstock.core.times import when

    assert (world.home / "to/f").stat().st_mtime == when(listed[0].modified)


async def test_extra_digests_are_reported(world: World) -> None:
    import hashlib

    fill(world, {"f": b"abc", "big": RANDOM}, part_size=8 * MIB)
    report = await world.copy(f"{world.remote}/", world.home / "to", checksum=["sha256"])
    for name, content in (("f", b"abc"), ("big", RANDOM)):
        assert by_name(report)[name].digests["sha256"] == hashlib.sha256(content).hexdigest()


async def test_a_missing_source_among_several_moves_nothing(world: World) -> None:
    fill(world, {"a/f": b"1"})
    with pytest.raises(penstock.UsageError, match="not there"):
        await world.copy(f"{world.remote}/a", f"{world.remote}/b", world.home / "to")
    assert not (world.home / "to").exists()


async def test_rows_of_a_missing_folder_fail_alone(world: World) -> None:
    fill(world, {"a/f": b"1"})
    manifest = world.home / "m.csv"
    manifest.write_text(f"source\n{world.remote}/a/f\n{world.remote}/nowhere/g\n")
    report = await world.copy(world.home / "to", manifest=manifest)
    assert (report.summary.verified, report.summary.failed) == (1, 1)


async def test_a_missing_source_is_said(world: World) -> None:
    with pytest.raises(penstock.UsageError, match="not there"):
        await world.copy(f"{world.remote}/nowhere", world.home / "to")


async def test_two_runs_at_once_share_one_ledger_and_one_quota(world: World) -> None:
    import anyio

    fill(world, {f"f{n:03}": b"x" * 1000 for n in range(120)})
    reports: list[penstock.Report] = []

    async def one() -> None:
        reports.append(await world.copy(f"{world.remote}/", world.home / "to"))

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    assert all(report.exit_code == 0 for report in reports)
    assert sum(report.summary.verified for report in reports) == 120
    assert world.calls("GET", "/download_info") == 120


async def test_large_files_are_fetched_without_holding_them(world: World) -> None:
    world.sim.add_file(world.sim.project, "zeros", Zeros(300 * MIB), part_size=64 * MIB)
    report = await world.copy(f"{world.remote}/zeros", f"{world.home}/to/")
    (line,) = report.lines()
    assert (line.status, line.verified_by) == ("verified", "etag")
    assert (world.home / "to/zeros").stat().st_size == 300 * MIB


async def test_a_plan_moves_nothing_and_says_what_it_costs(world: World) -> None:
    fill(world, {f"f{n:03}": b"x" * 10 for n in range(150)})
    plan = await penstock.plan(f"{world.remote}/", str(world.home / "to"), environ=world.environ)
    assert (plan.files, plan.bytes, plan.api_requests) == (150, 1500, 152)
    assert not (world.home / "to").exists()
    assert world.calls("GET", "/download_info") == 0
    report = await world.copy(f"{world.remote}/", world.home / "to")
    assert report.summary.api_requests["cavatica"] == plan.api_requests


async def test_a_redirect_of_the_storage_is_a_new_request_without_any_token(
    world: World,
) -> None:
    fill(world, {"f": b"12345"})
    (lease,) = [world.sim.storage]
    world.sim.faults.add(Fault(kind="redirect", host="storage", url=f"{lease.url}/elsewhere"))
    report = await world.copy(f"{world.remote}/", world.home / "to")
    assert report.exit_code in {0, 1}
    assert any(e.path == "/elsewhere" and not e.has_token for e in world.sim.log)


async def test_a_redirect_of_the_platform_is_not_followed(world: World) -> None:
    fill(world, {"f": b"12345"})
    world.sim.faults.add(
        Fault(
            kind="redirect",
            host="api",
            path="/download_info",
            url=f"{world.sim.storage.url}/x",
            times=None,
        )
    )
    report = await world.copy(f"{world.remote}/", world.home / "to")
    assert report.exit_code == 1
    assert not any(e.path == "/x" for e in world.sim.log)
    assert not world.sim.violations


async def test_a_crc32c_alone_proves_where_the_storage_states_it(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(google=True, goog_md5=False, etags=False)
    fill(world, {"f": RANDOM[:100_000], "big": RANDOM})
    report = await world.copy(f"{world.remote}/", world.home / "to")
    assert {line.verified_by for line in report.lines()} == {"platform-digest"}
    fill(world, {"g": RANDOM[:200_000]})
    world.sim.faults.add(Fault(kind="flip", host="storage", times=None))
    report = await world.copy(f"{world.remote}/g", f"{world.home}/to/")
    assert next(report.lines()).status == "failed"
    assert not (world.home / "to/g").exists()


async def test_two_sources_for_one_path_are_a_conflict_between_them(world: World) -> None:
    fill(world, {"a/f": b"1", "b/f": b"2"})
    report = await world.copy(
        f"{world.remote}/a/f", f"{world.remote}/b/f", world.home / "to", on_conflict="overwrite"
    )
    assert (report.summary.verified, report.summary.failed) == (1, 1)
    verified = next(line for line in report.lines() if line.status == "verified")
    assert md5((world.home / "to/f").read_bytes()) == verified.digests["md5"]
    assert not part_files(world.home / "to")


async def test_rows_named_twice_are_one_transfer(world: World) -> None:
    fill(world, {"f": b"1"})
    manifest = world.home / "m.csv"
    manifest.write_text("source\nf\nf\n")
    report = await world.copy(f"{world.remote}/", world.home / "to", manifest=manifest)
    assert report.summary.verified == 1


async def test_a_file_another_state_writes_is_not_written_into(world: World) -> None:
    import anyio

    fill(world, {"big": RANDOM}, part_size=8 * MIB)

    async def one(state: str) -> None:
        await world.copy(f"{world.remote}/big", f"{world.home}/to/", state=world.home / state)

    async with anyio.create_task_group() as group:
        group.start_soon(one, "one")
        group.start_soon(one, "two")
    assert (world.home / "to/big").read_bytes() == RANDOM
    assert not part_files(world.home / "to")


async def test_storage_that_refuses_everything_stops_the_run(world: World) -> None:
    fill(world, {f"f{n:03}": b"x" for n in range(100)})
    world.sim.faults.add(Fault(kind="status", host="storage", status=403, times=None))
    with pytest.raises(penstock.RunStopped, match="failed alike"):
        await world.copy(f"{world.remote}/", world.home / "to", concurrency=4)
    assert not part_files(world.home / "to")


async def test_a_folder_that_goes_while_it_is_listed_is_said(world: World) -> None:
    from penstock.core.events import Note

    fill(world, {"a/f": b"1", "b/f": b"2", "c": b"3"})
    notes: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.message)

    world.sim.faults.add(Fault(kind="status", path=r"/v2/files\?.*parent=", status=404, code=5002))
    report = await world.copy(f"{world.remote}/", world.home / "to", on_event=note)
    assert report.summary.verified == 2
    assert len(notes) == 1


async def test_urls_of_a_short_life_are_used_while_they_last(
    make_world: Callable[..., Any],
) -> None:
    world: World = await make_world(download_url_lifetime_s=20.0)
    fill(world, {"big": RANDOM}, part_size=8 * MIB)
    report = await world.copy(f"{world.remote}/big", f"{world.home}/to/")
    assert report.exit_code == 0
    assert world.calls("GET", "/download_info") == 1


async def test_what_was_fetched_outlives_trouble_before_the_next_range(world: World) -> None:
    fill(world, {"big": RANDOM}, part_size=8 * MIB)
    world.sim.faults.add(Fault(kind="status", host="storage", status=400, skip=2))
    await world.copy(f"{world.remote}/big", f"{world.home}/to/", concurrency=1)
    (partial,) = part_files(world.home / "to")
    armed = world.sim.faults.add(Fault(kind="status", path="/download_info", status=403, code=5001))
    await world.copy(f"{world.remote}/big", f"{world.home}/to/")
    assert armed.hits
    assert part_files(world.home / "to") == [partial]
