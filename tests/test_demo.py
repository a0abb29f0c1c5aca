"""The demo, as a person runs it, with fewer files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.cli import demo

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(os.name != "posix", reason="the demo sends SIGKILL")


def start(tmp_path: Path) -> subprocess.Popen[str]:
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("XDG_")},
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(ROOT / "src"),
        # What the user has configured concerns the demo as little as their proxy does.
        "PENSTOCK_CAVATICA_ENDPOINT": "http://127.0.0.1:9/v2",
        "PENSTOCK_CONFIG": str(tmp_path / "no such file"),
        "http_proxy": "http://127.0.0.1:9",
    }
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "penstock", "demo", "--small"],
        env=environ,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_behind(tmp_path: Path) -> list[str]:
    return [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/**/*")]


def value(output: str, row: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith(f"{row}  ")]
    return line.removeprefix(row).strip()


@pytest.mark.slow
def test_the_demo_is_killed_carries_on_and_proves_every_byte(tmp_path: Path) -> None:
    process = start(tmp_path)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert value(output, "equal, by SHA-256") == "31 of 31 files"
    assert value(output, "proved by ETags") == "all, both ways"
    assert value(output, "refused (429)") == "0"
    assert value(output, "uploads left open") == "0"
    assert "SIGKILL" in output
    assert "\x1b" not in output + errors
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_a_demo_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    process = start(tmp_path)
    until = time.monotonic() + 30
    while not list((tmp_path / "tmp").glob("penstock-demo-*/state")):
        assert time.monotonic() < until, "the demo does not begin"
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert left_behind(tmp_path) == []


def test_the_official_pattern_is_counted_as_its_client_asks() -> None:
    # Measured with the client itself in tests/simulators: a file of P parts is 2 + 2 P.
    sizes = {"a/empty": 0, "a/whole": 32 * demo.MIB, "b/two": 32 * demo.MIB + 1}
    folders = 3
    assert demo.official_requests(sizes) == (4 + 4 + 6 + folders, 3 + folders)


def test_time_at_the_real_quota_counts_the_windows_waited_for() -> None:
    assert [demo.quota_time_s(count) for count in (0, 1, 1000, 1001, 2001)] == [0, 0, 0, 300, 600]


def test_made_files_are_of_all_sizes_and_the_same_each_time(tmp_path: Path) -> None:
    sizes = demo.make_tree(tmp_path / "a", demo.SMALL)
    demo.make_tree(tmp_path / "b", demo.SMALL)
    assert min(sizes.values()) == 0
    assert max(sizes.values()) > 64 * demo.MIB
    assert demo.digests(tmp_path / "a") == demo.digests(tmp_path / "b")
    assert {
        path.relative_to(tmp_path / "a").as_posix(): path.stat().st_size
        for path in (tmp_path / "a").rglob("*.*")
    } == sizes
