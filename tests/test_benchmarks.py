"""The benchmarks run, and what they count is what the platform's clients are known to ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="children are measured by wait4"),
]


def rows(script: str, tmp_path: Path) -> dict[str, list[str]]:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, "--smoke"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    lines = [line.strip("|").split(" | ") for line in done.stdout.splitlines()[2:]]
    return {first.strip(): [cell.strip(" |") for cell in rest] for first, *rest in lines}


def test_requests_are_compared_with_the_official_client(tmp_path: Path) -> None:
    found = {name: row[0] for name, row in rows("requests_seven_bridges.py", tmp_path).items()}
    # A listing of the destination, 2 and a part for each file; the official client 2 and 2 a part.
    assert found["5 x 1 KiB up"] == "16 / 20"
    assert found["5 x 1 KiB down"] == "6 / 7"
    assert found["1 x 70 MiB up"] == "5 / 8"
    assert found["1 x 70 MiB down"] == "2 / 3"


def test_quotas_are_spent_in_virtual_time(tmp_path: Path) -> None:
    found = rows("quota_hours.py", tmp_path)
    # 3 a file beside 4; a part for each GiB or so beside each 32 MiB; a page for 50 beside a file.
    assert found["Seven Bridges, 20 x 1 MB up"][0] == "61 / 80"
    planned = found["Seven Bridges, 1 x 100 GB up, planned"]
    assert planned[0] == "129 / 5,964"
    assert planned[2].endswith(" / 1,500")
    assert found["Coscine, 20 x 1 MB down"][0] == "3 / 26"


def test_every_measure_is_taken(tmp_path: Path) -> None:
    found = rows("measures.py", tmp_path)
    # Two listings (one finds the folder missing), the folder made, 3 a file.
    assert found["12 files of 1 KiB up"][0].startswith("38 requests")
    assert found["one file of 0.0684 GiB up"][0] == "5 requests"
    assert found["one file of 0.0684 GiB down"][1].endswith("1.00 times its size fetched, verified")
    assert found["10 uploads at 20 in 1 s"][1].startswith("0 refused")
    (up,) = (row for name, row in found.items() if name.endswith("MiB up"))
    assert up[1] == "201 of 201 proved, 0 uploads left open"


@pytest.mark.parametrize("name", ["downloads", "uploads", "link", "s3"])
def test_clients_are_measured_and_what_they_moved_is_compared(name: str, tmp_path: Path) -> None:
    results, environ = tmp_path / "results.md", {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    script = str(ROOT / "benchmarks" / "run_all.py")
    command = [sys.executable, script, "--smoke", "--only", name, "--results", str(results)]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    text = results.read_text()
    assert f"\n## {name}\n" in text
    assert "It failed" not in text
    assert "| penstock " in text or " penstock " in text or "all left out" in text


def test_files_in_an_s3_storage_take_no_api_request(tmp_path: Path) -> None:
    found = {name: row[0] for name, row in rows("requests_coscine_s3.py", tmp_path).items()}
    assert found == {
        "5 x 1 KiB up": "2",
        "5 x 1 KiB up again": "2",
        "5 x 1 KiB down": "1",
        "5 x 1 KiB down again": "1",
    }


def test_requests_on_coscine_are_compared_with_the_official_client(tmp_path: Path) -> None:
    found = rows("requests_coscine.py", tmp_path)
    # Two a file, two pages that prove 60, and what is looked at first; 3 a file and its sessions.
    assert 122 <= int(found["60 files up"][0]) <= 140
    assert int(found["60 files up"][2]) >= 180
    assert int(found["60 files down"][0]) <= 6
    assert int(found["60 files down"][2]) >= 60
    assert [row[0] for name, row in found.items() if name.startswith("one file")][1] == "1"


def test_metadata_tables_are_checked(tmp_path: Path) -> None:
    faults = {name: row[1] for name, row in rows("metadata_rows.py", tmp_path).items()}
    assert faults == {
        "Coscine": "0",
        "Coscine, a fault a row": "20",
        "Coscine, turtle files": "0",
        "Seven Bridges": "0",
        "names with brackets": "0",
    }


def test_workspaces_are_paused_for_little_more_than_a_request_each(tmp_path: Path) -> None:
    found = rows("workspaces.py", tmp_path)
    assert len(found) == 2
    for requests, _, over_quota, full, beside in found.values():
        assert 200 < int(requests.split()[0]) <= 200 + 40 + 2 * int(full)
        assert over_quota == "0"
        assert beside.startswith("200 settled, 0 repeated")


def test_stores_are_measured(tmp_path: Path) -> None:
    found = rows("quota_stores.py", tmp_path)
    admitted = {name: row for name, row in found.items() if "each" in name}
    assert len(admitted) == 4
    assert all(float(row[0].replace(",", "")) > 17 for row in admitted.values())


def test_policies_are_judged(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "quota_policies.py", "--smoke"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    head, _, fixed = done.stdout.splitlines()[:3]
    column = [cell.strip() for cell in head.split("|")].index("penstock")
    assert fixed.split("|")[column].strip() == "1.000 / 0"


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    plot = tmp_path / "growth.png"
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "growth.py", "--smoke", "--plot", plot],
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:3]] for line in done.stdout.splitlines()]
    kinds = ("plan", "plan, ledger, report", "again")
    assert lines[2:] == [
        *(["100 files", f"{way}{what}"] for way in ("", "up: ") for what in kinds),
        ["100 files", "moved"],
        ["1.0 KiB", "up"],
        ["1.0 KiB", "down"],
    ]
    assert plot.read_bytes().startswith(b"\x89PNG")
    plot.unlink()
    assert list(tmp_path.iterdir()) == []
