from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving import Served, Shell

PLACE = "cavatica:demo/project"


def test_runs_are_remembered_with_what_is_left_and_how_to_go_on(
    served: Served, shell: Shell
) -> None:
    assert "no run is remembered" in shell.run("status").stderr
    served.sim.add_file("demo/project", "a", b"12345")
    shell.run("copy", f"{PLACE}/", "here/")
    (shell.folder / "wanted.csv").write_text(f"source\n{PLACE}/a\n{PLACE}/gone\n")
    shell.run("copy", "there/", "--manifest", "wanted.csv")
    newest, oldest = shell.run("status").stdout.splitlines()
    assert "1 verified, 1 failed" in newest
    assert "1 verified" in oldest
    run = newest.split()[0]
    whole = shell.run("status", run).stdout
    assert f"left         {PLACE}/gone" in whole
    assert "run the same command again" in whole
    told = json.loads(shell.run("status", run, "--json").stdout)
    assert (told["run"], told["summary"]["failed"]) == (run, 1)
    assert shell.run("status", "nonsense").returncode == 2
    assert shell.run("status", "2").returncode == 2


def test_a_report_comes_again_as_lines_as_a_page_and_as_checksums(
    served: Served, shell: Shell
) -> None:
    served.sim.add_file("demo/project", "a <b>", b"12345")
    served.sim.add_file("demo/project", "line\nend", b"1")
    shell.run("copy", f"{PLACE}/", "here/", "--report", "r.jsonl", "--checksum", "sha256")
    run = shell.run("status").stdout.split()[0]
    assert shell.run("report", run).stdout == (shell.folder / "r.jsonl").read_text()
    assert shell.run("report", run, "--html", "page.html").returncode == 0
    page = (shell.folder / "page.html").read_text()
    assert "a &lt;b&gt;" in page
    assert "<script" not in page
    assert shell.run("report", run, "--checksums", "sha256", "-o", "SUMS").returncode == 0
    command = ["sha256sum", "--check", "--strict", "SUMS"]
    checked = subprocess.run(command, cwd=shell.folder, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    nothing = shell.run("report", run, "--checksums", "sha1")
    assert nothing.stdout == ""
    assert "--checksum sha1" in nothing.stderr
    assert shell.run("report", run, "--html", "x", "--checksums", "md5").returncode == 2
