"""No token and no presigned query in anything a run prints, logs, keeps or dies with."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.simulators import DataMeta, Fault, SevenBridges, SevenBridgesSettings
from penstock.simulators.coscine import Coscine, CoscineSettings
from penstock.simulators.presign import Lease, Signer
from serving import SOURCES
from storm import KINDS

# Between them they bring every kind of error of the exchange, and many of its sentences.
FAULTS = [
    Fault(kind="drop before", skip=4),
    Fault(kind="drop after", skip=7),
    Fault(kind="status", status=500, skip=9, times=2),
    Fault(kind="status", status=403, host="storage", times=3),
    Fault(kind="html", skip=12),
    Fault(kind="malformed json", host="api", skip=6),
    Fault(kind="truncate", method="GET", skip=8),
    Fault(kind="wrong range", host="storage", method="GET", skip=2),
    Fault(kind="encoded", method="GET", skip=10),
    Fault(kind="flip", method="GET", skip=11),
    Fault(kind="corrupt upload", skip=3),
    Fault(kind="redirect", method="GET", skip=13, url="http://127.0.0.1:9/?leads=nowhere"),
]


# asyncio then tells what its tasks and handles are, too.
ALOUD = {"PYTHONASYNCIODEBUG": "1"}


@dataclass(frozen=True)
class Secretive:
    make: Callable[[], Any]
    hidden: Callable[[Any], set[str]]


MADE: dict[str, Secretive] = {
    "sevenbridges": Secretive(
        lambda: SevenBridges(SevenBridgesSettings(quota=10_000)), lambda _: set()
    ),
    "coscine": Secretive(
        lambda: Coscine(CoscineSettings(quota=10_000, metadata_first=False)), lambda _: set()
    ),
    "datameta": Secretive(
        DataMeta,
        lambda sim: {
            *sim._world.downloads,
            *(file.access_token for file in sim._world.files.values()),
        },
    ),
}


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every signature the simulator gives out: its own log leaves them out."""
    given: set[str] = set()
    sign = Signer.sign

    def noted(self: Signer, **named: Any) -> Lease:  # noqa: ANN401 - the signer's
        lease = sign(self, **named)
        given.add(lease.url.partition("Signature=")[2].partition("&")[0])
        return lease

    monkeypatch.setattr(Signer, "sign", noted)
    return given


async def penstock(
    home: Path, environ: Mapping[str, str], *args: str, kill_after_s: float | None = None
) -> tuple[int, str]:
    """The exit code, and all it printed, with everything told that can be told."""
    code = (
        "import logging, runpy, sys; logging.basicConfig(level=logging.DEBUG); "
        "sys.argv[0] = 'penstock'; runpy.run_module('penstock', run_name='__main__')"
    )
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "faulthandler",
        "-c",
        code,
        *args,
        cwd=home,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), **ALOUD, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
        preexec_fn=lambda: os.umask(0o022) and None,
    )
    if kill_after_s is not None:
        await asyncio.sleep(kill_after_s)
        if running.returncode is None:
            running.send_signal(6)  # faulthandler prints every thread's stack
    out, _ = await asyncio.wait_for(running.communicate(), 60)
    assert running.returncode is not None
    return running.returncode, out.decode(errors="replace")


@pytest.mark.parametrize("platform", MADE)
async def test_nothing_tells_a_token_or_a_presigned_query(
    tmp_path: Path, platform: str, signatures: set[str]
) -> None:
    kind, made = KINDS[platform], MADE[platform]
    said: dict[str, str] = {}
    source = tmp_path / "src"
    source.mkdir()
    for number in range(10):
        (source / f"f{number}").write_bytes(os.urandom(3000 * number))
    (source / "large").write_bytes(os.urandom(1_500_000))
    async with made.make() as sim:
        environ = {
            "HOME": str(tmp_path / "home"),
            "XDG_STATE_HOME": str(tmp_path / "home/state"),
            **kind.environ(sim),
        }
        remote = f"{kind.remote(sim)}{'' if kind.flat else '/'}"
        told = ("--debug", "-v", "--progress", "json", "--retries", "1")
        up, down = (f"{source}/", remote), (remote, f"{tmp_path}/to/")
        for name, places in (("up", up), ("down", down)):
            for fault in FAULTS:
                sim.faults.add(fault)
            files = ("--log", f"{name}.log", "--report", f"{name}.jsonl")
            code, said[name] = await penstock(tmp_path, environ, "copy", *places, *told, *files)
            assert code in {0, 1, 3}, said[name][-2000:]
            assert "DEBUG" in said[name]
            sim.faults.clear()
        # And what is printed where it crashes: the stack of every thread, and no values.
        again = (*down, *told, "--on-conflict", "overwrite")
        _, said["killed"] = await penstock(tmp_path, environ, "copy", *again, kill_after_s=0.8)
        # A token that is refused, which is a secret all the same.
        wrong = {**environ, next(name for name in environ if name.endswith("_TOKEN")): "w" * 40}
        code, said["refused"] = await penstock(tmp_path, wrong, "copy", *down, "--debug")
        assert code in {2, 3}
        hidden = {sim.token, "w" * 40, *signatures, *made.hidden(sim)}
    assert len(hidden) > 5
    assert all(len(secret) > 15 for secret in hidden)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and source not in path.parents]
    for path in kept:
        if (tmp_path / "to") not in path.parents:
            said[str(path.relative_to(tmp_path))] = path.read_bytes().decode("latin-1")
    assert any(name.endswith(".log") for name in said)
    assert any("ledger" in name for name in said)
    found = {name for name, text in said.items() for secret in hidden if secret in text}
    assert found == set()
    state = tmp_path / "home/state/penstock"
    for path in (state, *state.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))
