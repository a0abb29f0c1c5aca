"""Neither a token nor the query of a presigned URL is anywhere but on the wire."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock
from penstock.core.errors import PenstockError
from penstock.core.events import Event
from penstock.simulators import Fault, SevenBridges, SevenBridgesSettings
from penstock.simulators.presign import Lease, Signer

MIB = 1 << 20


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every signature the simulator gives out, as it gives it. Its own log leaves them out."""
    given: list[str] = []
    sign = Signer.sign

    def noted(self: Signer, **named: object) -> Lease:
        lease = sign(self, **named)  # type: ignore[arg-type]
        given.append(lease.url.partition("X-Amz-Signature=")[2])
        return lease

    monkeypatch.setattr(Signer, "sign", noted)
    return given


FAULTS = [
    Fault(kind="drop after", host="storage", method="PUT", times=2),
    Fault(kind="drop before", host="storage", method="GET", times=1),
    Fault(kind="truncate", host="storage", method="GET", skip=2, times=2),
    Fault(kind="status", host="storage", status=500, skip=1, times=1),
    Fault(kind="status", host="storage", status=403, skip=2, times=2),
    Fault(kind="wrong range", host="storage", method="GET", skip=3, times=1),
    Fault(kind="corrupt upload", host="storage", method="PUT", skip=3, times=1),
    Fault(kind="status", host="api", status=503, skip=5, times=1),
    Fault(kind="html", host="api", skip=7, times=1),
    Fault(kind="drop after", host="api", method="POST", skip=1, times=1),
    Fault(
        kind="redirect", host="storage", method="GET", skip=5, times=2, url="http://127.0.0.1:9/"
    ),
]


def shown(error: BaseException) -> Iterator[str]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield f"{link} {link!r} {link.args!r}"
        pending += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            pending += link.exceptions
    yield "".join(traceback.format_exception(error))


async def test_a_run_through_all_kinds_of_trouble_tells_no_secret(
    tmp_path: Path,
    secrets: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    errors: list[BaseException] = []
    init = PenstockError.__init__

    def noted(self: PenstockError, *args: object, **named: object) -> None:
        init(self, *args, **named)
        errors.append(self)

    # Most errors are caught and repeated: only where they are made are they all to be seen.
    monkeypatch.setattr(PenstockError, "__init__", noted)
    source, state = tmp_path / "source", tmp_path / "state"
    source.mkdir()
    for number in range(12):
        (source / f"f{number}").write_bytes(os.urandom(1000 * number))
    (source / "large").write_bytes(os.urandom(21 * MIB))
    events: list[Event] = []
    reports = []
    async with SevenBridges(SevenBridgesSettings()) as sim:
        environ = {
            "PENSTOCK_CAVATICA_ENDPOINT": sim.endpoint,
            "PENSTOCK_CAVATICA_TOKEN": sim.token,
            "HOME": str(tmp_path / "home"),
            "XDG_STATE_HOME": str(tmp_path / "home" / "state"),
        }
        remote = f"cavatica:{sim.project}/up"

        async def copy(*places: str) -> None:
            report = await penstock.copy(
                *places,
                state=state,
                report=tmp_path / "report.jsonl",
                part_size="8MiB",
                environ=environ,
                on_event=events.append,
            )
            reports.append(report)

        for way in ((str(source), f"{remote}/"), (f"{remote}/", f"{tmp_path}/down/")):
            for fault in FAULTS:
                sim.faults.add(fault)
            try:
                await copy(*way)
            except PenstockError as error:
                errors.append(error)
            sim.faults.clear()
            await copy(*way)
        assert reports[-1].ok
        assert sim.violations == []
        hidden = {sim.token, *secrets}
    assert len(hidden) > 30
    assert errors

    texts = {
        "logs": caplog.text + "".join(map(repr, caplog.records)),
        "events": "".join(map(repr, events)),
        "errors": "".join(text for error in errors for text in shown(error)),
        "reports": "".join(f"{report!r} {list(report.lines())!r}" for report in reports),
    }
    for path in (*state.rglob("*"), *(tmp_path / "home").rglob("*"), tmp_path / "report.jsonl"):
        if path.is_file():
            texts[str(path.relative_to(tmp_path))] = path.read_bytes().decode("latin-1")
    assert any("ledger" in name for name in texts)
    assert any("quota" in name for name in texts)
    told = {name for name, text in texts.items() for secret in hidden if secret in text}
    assert told == set()


async def test_a_refused_token_is_named_by_its_profile_alone(tmp_path: Path) -> None:
    async with SevenBridges(SevenBridgesSettings()) as sim:
        environ = {
            "PENSTOCK_CAVATICA_ENDPOINT": sim.endpoint,
            "PENSTOCK_CAVATICA_TOKEN": "a-wrong-token",
            "HOME": str(tmp_path / "home"),
            "XDG_STATE_HOME": str(tmp_path / "home" / "state"),
        }
        for _ in range(2):
            with pytest.raises(penstock.TokenRefused) as caught:
                await penstock.copy(f"cavatica:{sim.project}", f"{tmp_path}/down/", environ=environ)
            assert "cavatica" in str(caught.value)
            assert not [text for text in shown(caught.value) if "a-wrong-token" in text]
        assert len(sim.log) == 1
    stored = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if b"a-wrong-token" in path.read_bytes()]
