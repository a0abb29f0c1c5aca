"""Files of the real DataMeta server, fetched by `copy`."""

from __future__ import annotations

from pathlib import Path

import pytest

import penstock
from datameta_server import DataMetaServer
from penstock.core.errors import LocationError


@pytest.fixture
def environ(datameta_server: DataMetaServer, tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PENSTOCK_DATAMETA_ENDPOINT": datameta_server.root,
        "PENSTOCK_DATAMETA_TOKEN": datameta_server.token,
    }


async def test_a_file_fetched_by_its_id_is_verified_by_the_platforms_md5(
    datameta_server: DataMetaServer, environ: dict[str, str], tmp_path: Path
) -> None:
    content = bytes(range(256)) * 1000
    file_id = datameta_server.store("down.bin", content)
    plan = await penstock.plan(f"datameta:{file_id}", f"{tmp_path}/here/", environ=environ)
    report = await penstock.copy(f"datameta:{file_id}", f"{tmp_path}/here/", environ=environ)
    assert report.summary.api_requests["datameta"] == plan.api_requests
    (line,) = report.lines()
    assert line.api_requests == 2
    assert (line.status, line.verified_by) == ("verified", "platform-digest")
    assert (tmp_path / "here" / "down.bin").read_bytes() == content
    again = await penstock.copy(f"datameta:{file_id}", f"{tmp_path}/here/", environ=environ)
    assert again.summary.skipped == 1


async def test_nothing_is_sent_to_an_id_or_to_submissions(
    datameta_server: DataMetaServer, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    file_id = datameta_server.store("there.bin", b"there")
    with pytest.raises(LocationError, match="send to the profile alone"):
        await penstock.copy(str(tmp_path / "a"), "datameta:submissions", environ=environ)
    with pytest.raises(penstock.UsageError):
        await penstock.copy(str(tmp_path / "a"), f"datameta:{file_id}", environ=environ)
