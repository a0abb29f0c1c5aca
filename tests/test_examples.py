"""Each example does what it says, as a stranger runs it: without an account, without arguments."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(name: str, home: Path) -> subprocess.CompletedProcess[str]:
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PENSTOCK_", "SB_", "XDG_"))
    }
    environ |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        env=environ,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_example_is_tested() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "upload_folder.py",
        "download_with_manifest.py",
        "pipeline_step.py",
        "running_workspaces.py",
    }


def test_an_uploaded_folder_is_reported_file_by_file(tmp_path: Path) -> None:
    done = run("upload_folder.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("verified  ") == 5
    assert done.stdout.count("(etag)") == 5
    assert "5 verified, 0 skipped, 0 failed" in done.stdout


def test_a_file_with_another_digest_than_its_manifest_says_is_not_kept(tmp_path: Path) -> None:
    done = run("download_with_manifest.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("proved by manifest") == 2
    assert "failed     cavatica:demo/project/calls/b.vcf" in done.stdout
    assert "in the folder: a.vcf, c.vcf\n" in done.stdout


def test_a_pipeline_stops_at_a_failure_and_carries_on_when_it_is_mended(tmp_path: Path) -> None:
    done = run("pipeline_step.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "FAILED cavatica:demo/project/run/reads-4.fastq" in done.stdout
    assert "exit code 1: the pipeline stops here" in done.stdout
    assert done.stdout.count("skipped") == 6
    assert done.stdout.endswith("go on\n")


def test_workspaces_are_paused_after_a_step_that_failed_too(tmp_path: Path) -> None:
    done = run("running_workspaces.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "computing: node-1 running, node-2 running" in done.stdout
    assert "the step failed (division by zero)" in done.stdout
    assert done.stdout.endswith("afterwards: node-1 paused, node-2 paused\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["upload_folder.py", "download_with_manifest.py", "pipeline_step.py"]
)
def test_an_example_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    run(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
