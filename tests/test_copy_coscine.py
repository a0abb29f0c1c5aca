"""Whole runs against a simulated Coscine: what they cost, what they survive, what they refuse."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import penstock
from benches import md5
from coscine_place import Place, by_name, settings, virtually
from penstock.core.errors import LocationError, RunStopped
from penstock.core.events import BytesMoved
from penstock.core.model import MIB
from penstock.simulators import Coscine, Fault


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def made(**changed: Any) -> Place:  # noqa: ANN401
            sim = await stack.enter_async_context(Coscine(settings(**changed)))
            return Place(sim, tmp_path)

        yield made


# -- what it costs ----------------------------------------------------------------------------


async def test_a_download_costs_pages_and_no_request_a_file(make: Callable[..., Any]) -> None:
    place = await make()
    for number in range(230):
        place.sim.add_file(f"{'deep/er/' if number % 2 else ''}{number:03}", b"x" * number)
    report = await place.copy(f"{place.remote}/", place.home / "to")
    assert report.summary.verified == 230
    assert {line.verified_by for line in report.lines()} == {"etag"}
    # Two folders of 115 files on three pages each, one on the way; project and resource.
    assert place.asked() <= 3 + 3 + 1 + 2
    asked = place.asked()
    again = await place.copy(f"{place.remote}/", place.home / "to")
    assert again.summary.skipped == 230
    assert place.asked() - asked <= 7


async def test_an_upload_costs_two_requests_a_file_and_the_pages_that_prove_it(
    make: Callable[..., Any],
) -> None:
    place = await make()
    files = {f"in/{number:03}": b"x" * number for number in range(120)}
    report = await place.copy(f"{place.tree(files)}/", f"{place.remote}/")
    assert report.summary.verified == 120
    assert place.there() == {path: md5(content) for path, content in files.items()}
    assert place.asked("POST") == 120
    assert place.asked("HEAD") == 0
    assert place.asked("PUT") == place.asked("PUT", "/graphs/") <= 120
    # Looked for (2), prepared (2), what is there (1), what came of it (3 pages); the rest is the
    # profile and its vocabularies, once.
    assert place.asked("GET", "/storage") <= 4
    assert place.asked("GET") <= 16


async def test_pages_of_a_server_that_gives_fewer_are_followed_to_the_end(
    make: Callable[..., Any],
) -> None:
    place = await make(most_per_page=7)
    for number in range(40):
        place.sim.add_file(f"f{number:02}", b"x")
    report = await place.copy(f"{place.remote}/", place.home / "to")
    assert (report.summary.verified, report.exit_code) == (40, 0)
    assert place.asked("GET", "/storage") == 6


@pytest.mark.parametrize(("life_s", "latency_s"), [(60.0, 10.0), (25.0, 4.0)])
async def test_urls_that_ended_are_renewed_by_their_page_and_not_one_by_one(
    tmp_path: Path, life_s: float, latency_s: float
) -> None:
    async def main(place: Place) -> tuple[int, int]:
        for number in range(120):
            place.sim.add_file(f"f{number:03}", b"x" * 100)
        report = await place.copy(f"{place.remote}/", place.home / "to", concurrency=2)
        return report.summary.verified, place.asked("GET", "/storage")

    # 120 files at two in 10 s: each of three pages is some twenty lives old before its last file.
    verified, listings = await virtually(
        main, tmp_path, download_url_lifetime_s=life_s, latency_s=latency_s
    )
    assert verified == 120
    assert 6 <= listings <= 40


async def test_a_source_that_changes_while_it_is_sent_gets_no_name(
    make: Callable[..., Any],
) -> None:
    place = await make()
    source = place.tree({"big": os.urandom(12 * MIB)}) / "big"

    def change(event: object) -> None:
        if isinstance(event, BytesMoved) and source.stat().st_mtime_ns != 1:
            with source.open("r+b") as file:
                file.seek(11 * MIB)
                file.write(b"other")
            os.utime(source, ns=(1, 1))

    report = await place.copy(source, f"{place.remote}/", on_event=change)
    (line,) = report.lines()
    assert (line.status, line.error["type"]) == ("failed", "SourceChanged")
    assert not place.there()
    again = await place.copy(source, f"{place.remote}/")
    assert again.summary.verified == 1
    assert place.there() == {"big": md5(source.read_bytes())}


# -- other ways to answer ---------------------------------------------------------------------


@pytest.mark.parametrize("content", ["body", "redirect"])
async def test_a_file_without_a_url_is_fetched_from_its_content(
    make: Callable[..., Any], content: str
) -> None:
    place = await make(url_less=("rds",), content=content)
    large = os.urandom(20 * MIB)
    place.sim.add_file("small", b"small")
    place.sim.add_file("large", large)
    report = await place.copy(f"{place.remote}/", place.home / "to")
    assert report.exit_code == 0
    assert (place.home / "to/large").read_bytes() == large
    assert (place.home / "to/small").read_bytes() == b"small"
    assert not place.sim.violations


async def test_legacy_endpoints_move_files_both_ways(make: Callable[..., Any]) -> None:
    place = await make()
    place.config = '[profiles.coscine.settings]\nendpoints = "legacy"\n'
    files = {"a": b"1", "dir/b c": b"2"}
    report = await place.copy(f"{place.tree(files)}/", f"{place.remote}/")
    assert report.summary.verified == 2
    report = await place.copy(f"{place.remote}/", place.home / "to")
    assert report.summary.verified == 2
    assert place.asked("POST", "/blobs/") == 2
    assert place.asked(None, "/storage") == 0


async def test_paths_encoded_twice_arrive_under_the_same_names(make: Callable[..., Any]) -> None:
    place = await make()
    place.config = '[profiles.coscine.settings]\npath_encoding = "double"\n'
    files = {"dir/ä b.txt": b"1"}
    report = await place.copy(f"{place.tree(files)}/", f"{place.remote}/")
    assert report.summary.verified == 1
    assert place.sim.encodings == {"dir/ä b.txt": "twice"}
    assert list(place.there()) == ["dir/ä b.txt"]


async def test_a_storage_that_cut_the_file_into_parts_proves_it_too(
    make: Callable[..., Any],
) -> None:
    place = await make(stored_part_size=5 * MIB)
    report = await place.copy(
        place.tree({"a": os.urandom(12 * MIB)}) / "a", f"{place.remote}/", strict=True
    )
    assert [line.verified_by for line in report.lines()] == ["etag"]


# -- answers that are lost --------------------------------------------------------------------


async def test_an_upload_whose_answer_is_lost_is_found_and_sent_once(
    make: Callable[..., Any],
) -> None:
    place = await make()
    place.sim.faults.add(Fault(kind="drop after", host="api", method="POST", path="/content"))
    report = await place.copy(f"{place.tree({'a': b'1', 'b': b'2'})}/", f"{place.remote}/")
    assert report.summary.verified == 2
    assert sum(each.method == "POST" for each in place.sim.log) == 2


async def test_an_upload_that_was_lost_on_the_way_is_sent_again(make: Callable[..., Any]) -> None:
    place = await make()
    place.sim.faults.add(Fault(kind="drop before", host="api", method="POST", path="/content"))
    report = await place.copy(f"{place.tree({'a': b'1'})}/", f"{place.remote}/")
    assert report.summary.verified == 1
    assert place.there() == {"a": md5(b"1")}


@pytest.mark.parametrize("failures", ["problem", "envelope", "empty"])
async def test_what_a_server_refuses_fails_the_file_with_its_trace(
    make: Callable[..., Any], failures: str
) -> None:
    place = await make(failures=failures)
    report = await place.copy(f"{place.tree({'a?b': b'1'})}/", f"{place.remote}/")
    (line,) = report.lines()
    assert line.error is not None
    assert "400" in line.error["message"]
    assert ("traceId" in line.error["message"]) == (failures != "empty")


# -- before anything is sent ------------------------------------------------------------------


@pytest.mark.parametrize("why", ["archived", "maintenance", "guest", "room", "type linked"])
async def test_nothing_is_sent_where_nothing_may_or_fits(
    make: Callable[..., Any], why: str
) -> None:
    place = await make()
    at = place.sim.at()
    if why == "archived":
        at.archived = True
    elif why == "maintenance":
        at.maintenance = True
    elif why == "guest":
        place.sim.project_at().role = "guest"
    elif why == "type linked":
        at.general_type = "linked"
    else:
        place.sim.add_file("there", b"x" * 600)
        at.reserved = 1024
    with pytest.raises(RunStopped, match=why):
        await place.copy(f"{place.tree({'a': b'1' * 500})}/", f"{place.remote}/")
    assert place.asked("POST") == place.asked("PUT") == 0


async def test_a_file_of_more_than_100_gb_fails_and_the_others_go(
    make: Callable[..., Any],
) -> None:
    place = await make()
    place.sim.at().reserved = 1 << 50
    root = place.tree({"a": b"1"})
    with (root / "huge").open("wb") as file:
        os.truncate(file.fileno(), 100 * 10**9)
    lines = by_name(await place.copy(f"{root}/", f"{place.remote}/"))
    assert (lines["a"].status, lines["huge"].status) == ("verified", "failed")
    assert place.asked("POST") == 1


# -- listings ---------------------------------------------------------------------------------


async def test_projects_and_resources_are_listed_and_their_lines_can_be_pasted(
    make: Callable[..., Any],
) -> None:
    place = await make()
    sub = place.sim.add_project("Sub Project", parent=place.sim.project)
    place.sim.add_resource("A/B 100%", project=sub, general_type="rdss3")
    place.sim.add_resource("twin", project=sub)
    place.sim.add_resource("twin", project=sub)
    projects = await penstock.list_("coscine:", environ=place.environ)
    assert {entry.kind for entry in projects} == {"project"}
    found = [e for p in projects for e in await penstock.list_(p.location, environ=place.environ)]
    resources = [entry for entry in found if entry.kind == "resource"]
    assert len(resources) == 4
    assert len({entry.location for entry in resources}) == 4
    for entry in resources:
        await penstock.list_(entry.location, environ=place.environ)
        assert entry.about["role"] == "Owner"
        assert entry.about["archived"] is False
    (special,) = [entry for entry in resources if entry.name == "A/B 100%"]
    assert special.location.endswith("/A%2FB 100%25")
    (own,) = [entry for entry in resources if entry.name == "data"]
    assert own.about["room"] == 25 * 1024**3
    assert str(own.about["type"]).startswith("rds")


async def test_what_a_listing_has_shown_is_not_looked_for_again_when_it_goes_on_below(
    make: Callable[..., Any],
) -> None:
    place = await make()
    for number in range(3):
        project = place.sim.add_project(f"P {number}")
        for name in ("a", "b", "c"):
            place.sim.add_file("f", b"x", resource=place.sim.add_resource(name, project=project))
    for _ in range(2):
        before = place.asked()
        found = await penstock.list_("coscine:", recursive=True, environ=place.environ)
        assert [entry.kind for entry in found].count("file") == 9
        # Projects; of each its sub-projects, resources, role and room; a page of each resource.
        assert place.asked() - before == 1 + 4 * 4 + 10


async def test_names_that_no_terminal_shows_are_listed_by_ids_that_can_be_pasted(
    make: Callable[..., Any],
) -> None:
    place = await make()
    project = place.sim.add_project("red\x1b[31m\nname")
    resource = place.sim.add_resource("ev\x07il", project=project)
    found = await penstock.list_("coscine:", recursive=True, environ=place.environ)
    assert f"coscine:{project}/{resource}" in [entry.location for entry in found]
    assert await penstock.list_(f"coscine:{project}", environ=place.environ)


@pytest.mark.parametrize(("told", "asked"), [("resources", 1), ("types", 1 + 2), ("missing", 1)])
async def test_room_is_listed_for_no_request_a_resource(
    make: Callable[..., Any], told: str, asked: int
) -> None:
    place = await make(project_quotas=told)
    for number in range(60):
        place.sim.add_resource(f"r{number}", general_type="rds" if number % 2 else "rdss3")
    place.sim.add_resource("elsewhere", general_type="linked")
    found = await penstock.list_(f"coscine:{place.sim.project_name}", environ=place.environ)
    rooms = [entry.about["room"] for entry in found if entry.about["type"] != "linked"]
    assert rooms == [None if told == "missing" else 25 * 1024**3] * 61
    # Two pages of resources; quotas, and whatever a page leaves out, for each of them.
    assert place.asked("GET", "/quotas") <= 2 * asked
    assert place.asked("GET", "/quota") == place.asked("GET", "/quotas")


async def test_a_remembered_folder_that_is_gone_is_said_to_be_gone(
    make: Callable[..., Any],
) -> None:
    place = await make()
    place.sim.add_file("d/a", b"1")
    await place.copy(f"{place.remote}/d/", place.home / "to")
    place.sim.remove_file("d/a")
    with pytest.raises(LocationError):
        await place.copy(f"{place.remote}/d/", place.home / "to")


# -- the quota, and silence -------------------------------------------------------------------


async def test_what_is_over_quota_is_never_provoked(tmp_path: Path) -> None:
    async def main(place: Place) -> tuple[int, int]:
        root = place.tree({f"{n:03}": b"x" for n in range(90)})
        report = await place.copy(f"{root}/", f"{place.remote}/")
        return report.summary.verified, place.sim.quota.refused

    assert await virtually(main, tmp_path, quota=20) == (90, 0)


async def test_long_uploads_hold_a_slot_each_and_starve_nothing(tmp_path: Path) -> None:
    """Six of eight bodies at once take 100 s each; the others go on, and so does the window."""

    async def main(place: Place) -> tuple[int, int, list[float], list[float]]:
        place.sim.faults.add(
            Fault(kind="delay", method="POST", path="/a-slow", seconds=100.0, times=None)
        )
        names = [f"a-slow{n}" for n in range(6)] + [f"b{n:02}" for n in range(60)]
        root = place.tree(dict.fromkeys(names, b"x"))
        report = await place.copy(f"{root}/", f"{place.remote}/", concurrency=8)
        asked = place.sim.calls()
        began_at = asked[0].at
        return (
            report.summary.verified,
            place.sim.quota.refused,
            [each.at - began_at for each in asked],
            [each.at - began_at for each in place.sim.calls("POST", "/a-slow")],
        )

    verified, refused, asked, slow = await virtually(main, tmp_path, quota=40)
    assert (verified, refused) == (66, 0)
    assert max(slow) < 5
    # All slots are spent at once, and a window later all that the long ones do not hold still.
    assert sum(at < 30 for at in asked) == 40
    assert sum(at < 95 for at in asked) == 40 + 40 - 6


@pytest.mark.parametrize("over_quota", ["drop", "hang", "429", "503"])
@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_silence_somebody_else_provoked_is_waited_out_and_survived(
    tmp_path: Path, over_quota: str, way: str
) -> None:
    async def main(place: Place) -> tuple[int, int, int]:
        seen = 0

        def others(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == 8:
                place.sim.quota.spend(1000)

        place.sim.on_request = others
        if way == "up":
            root = place.tree({f"{n:03}": b"x" for n in range(60)})
            report = await place.copy(f"{root}/", f"{place.remote}/")
        else:
            for number in range(450):
                place.sim.add_file(f"{number:03}", b"x")
            report = await place.copy(f"{place.remote}/", place.home / "to")
        return report.summary.verified, report.summary.failed, place.sim.quota.refused

    verified, failed, refused = await virtually(
        main, tmp_path, quota=100, over_quota=over_quota, hang_s=300.0, penalty_s=90.0
    )
    assert (verified, failed) == (60 if way == "up" else 450, 0)
    # What was in flight when it began (a quarter of the quota at most), one question for each lost
    # answer, and probes a window apart; a listing's pages go a few at a time.
    assert refused <= (2 * (100 // 4) + 5 if way == "up" else 12)
