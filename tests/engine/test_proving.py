"""Uploads that only a listing shows: Seven Bridges, made to be a platform of that kind."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import penstock
from penstock.core.errors import RunStopped
from penstock.core.model import (
    Completed,
    Flow,
    Origin,
    Page,
    Part,
    Place,
    Receipt,
    RemoteFile,
    Target,
    Upload,
)
from penstock.platforms.base import Prepared
from penstock.platforms.sevenbridges import TRAITS, SevenBridges
from penstock.session import PLATFORMS
from penstock.simulators import Fault
from worlds import World, by_name

# Everything in one part, and nothing asked to complete it.
LISTED = replace(TRAITS, proves_by_listing=True, most_parts=1, listing_leases=True)


class Listed(SevenBridges):
    """A file stands there once its part is sent; pages bring URLs; a container may be full."""

    told = Prepared()
    loses = ""
    _targets: dict[str, Target] = {}  # noqa: RUF012 - one for each test

    def __init__(self, endpoint: str, _: object = None) -> None:
        super().__init__(endpoint, LISTED)

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:  # noqa: ARG002
        yield from ()
        return self.told

    def create_upload(self, target: Target, part_size: int, *, overwrite: bool) -> Flow[Upload]:
        upload = yield from super().create_upload(target, part_size, overwrite=overwrite)
        self._targets[upload.id] = target
        return upload

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        receipt = yield from super().put_part(upload, part, path)
        target = self._targets[upload.id]
        if target.name != self.loses:
            yield from super().complete_upload(upload, target, [receipt], reports=False)
        return replace(receipt, etag=None, proves=False)

    def complete_upload(
        self,
        upload: Upload,  # noqa: ARG002
        target: Target,  # noqa: ARG002
        receipts: Sequence[Receipt],  # noqa: ARG002
        *,
        reports: bool,  # noqa: ARG002
    ) -> Flow[Completed | None]:
        raise AssertionError("nothing is to be completed")

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:
        page = yield from super().list_page(place, cursor)
        files: list[RemoteFile] = []
        for file in page.files:
            lease = yield from self.lease(file)
            origin = Origin("page", place.id or place.container, cursor)
            files.append(replace(file, lease=replace(lease, origin=origin)))
        return replace(page, files=tuple(files))


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> type[Listed]:
    class Own(Listed):
        _targets: dict[str, Target] = {}  # noqa: RUF012

    monkeypatch.setattr(sys.modules[__name__], "Own", Own, raising=False)
    monkeypatch.setitem(PLATFORMS, "sevenbridges", (__name__, "Own", False))
    return Own


FILES = {"a": b"a", "empty": b"", "x/y/b": b"b" * 70_000, "x/c": b"c"}


async def test_what_a_listing_shows_is_proved_by_its_own_url(
    world: World, listed: type[Listed]
) -> None:
    del listed
    root = world.tree(FILES)
    report = await world.copy(root, f"{world.remote}/")
    assert report.exit_code == 0
    assert {line.status for line in report.lines()} == {"verified"}
    proofs = {line.verified_by for line in report.lines() if line.size}
    assert proofs == {"etag"}
    assert all(line.id for line in report.lines())
    assert set(world.remote_md5s()) == set(FILES)
    again = await world.copy(root, f"{world.remote}/")
    assert {line.reason for line in again.lines()} == {"already verified"}


async def test_another_digest_in_the_storage_is_read_back_and_withdrawn_where_it_differs(
    world: World, listed: type[Listed]
) -> None:
    del listed
    root = world.tree({"a": b"a" * 5000, "b": b"b"})
    world.sim.faults.add(Fault(host="storage", method="PUT", kind="corrupt upload"))
    report = await world.copy(root, f"{world.remote}/", concurrency=1)
    statuses = sorted(line.status for line in report.lines())
    assert statuses == ["failed", "verified"]
    (failed,) = [line for line in report.lines() if line.status == "failed"]
    assert failed.error is not None
    assert failed.error["type"] == "DigestMismatch"
    assert len(world.remote_md5s()) == 1
    again = await world.copy(root, f"{world.remote}/")
    assert again.exit_code == 0
    assert len(world.remote_md5s()) == 2


async def test_what_no_listing_shows_fails_and_goes_again(
    world: World, listed: type[Listed]
) -> None:
    listed.loses = "b"
    root = world.tree({"a": b"a", "b": b"b"})
    report = await world.copy(root, f"{world.remote}/")
    lines = by_name(report)
    assert (lines["a"].status, lines["b"].status) == ("verified", "failed")
    assert lines["b"].error is not None
    assert "does not list" in lines["b"].error["message"]
    listed.loses = ""
    again = by_name(await world.copy(root, f"{world.remote}/"))
    assert (again["a"].reason, again["b"].status) == ("already verified", "verified")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Prepared(refusal="it is archived"), "archived"),
        (Prepared(room=3), "room for 3 bytes, and 4 are to be sent"),
    ],
)
async def test_nothing_moves_where_the_platform_says_that_nothing_may_or_fits(
    world: World, listed: type[Listed], told: Prepared, said: str
) -> None:
    listed.told = told
    root = world.tree({"a": b"aa", "b": b"bb"})
    with pytest.raises(RunStopped, match=said):
        await world.copy(root, f"{world.remote}/")
    assert not world.sim.files()


async def test_what_is_there_already_needs_no_room(world: World, listed: type[Listed]) -> None:
    root = world.tree({"a": b"aa", "b": b"bb"})
    await world.copy(root, f"{world.remote}/")
    (root / "c").write_bytes(b"c")
    listed.told = Prepared(room=1)
    report: Any = await penstock.copy(str(root), f"{world.remote}/", environ=world.environ)
    assert report.exit_code == 0
    assert len(world.sim.files()) == 3
