from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving import Served, Shell

PLACE = "cavatica:demo/project"


def test_differences_are_lines_and_an_exit_code(served: Served, shell: Shell) -> None:
    served.sim.add_file("demo/project", "a", b"12345")
    served.sim.add_file("demo/project", "b", b"1")
    assert shell.run("copy", f"{PLACE}/", "here/", "--report", "r.jsonl").returncode == 0
    ended = shell.run("verify", "here/", "--report", "r.jsonl")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("2 files the same")
    (shell.folder / "here/a").write_bytes(b"54321")
    (shell.folder / "here/b").unlink()
    ended = shell.run("verify", "here/", PLACE)
    assert ended.returncode == 1
    assert [line.split()[:2] for line in ended.stdout.splitlines()[:2]] == [
        ["missing", "b"],
        ["different", "a:"],
    ]
    assert "1 API request" in ended.stderr
    told = json.loads(shell.run("verify", "here/", "--json").stdout)
    assert (told["same"], told["missing"][0]["path"]) == (0, "b")


def test_what_makes_no_sense_is_exit_2(shell: Shell) -> None:
    ended = shell.run("verify", "nowhere/", PLACE)
    assert ended.returncode == 2
    assert ended.stderr.startswith("penstock: ")
