from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from penstock.api.listing import Entry
from penstock.cli.listing import as_line

if TYPE_CHECKING:
    from serving import Served, Shell

PLACE = "cavatica:demo/project"


def test_projects_then_folders_then_files_each_line_a_location(
    served: Served, shell: Shell
) -> None:
    served.sim.add_file("demo/project", "raw/a file.txt", b"12345")
    where, seen = "cavatica:", []
    for _ in range(4):
        ended = shell.run("list", where)
        assert ended.returncode == 0, ended.stderr
        (where,) = ended.stdout.splitlines()
        seen.append(where)
    assert seen == [PLACE, f"{PLACE}/raw/", *[f"{PLACE}/raw/a file.txt"] * 2]


def test_json_is_an_object_a_line(served: Served, shell: Shell) -> None:
    served.sim.add_file("demo/project", "raw/x", b"12345")
    ended = shell.run("list", PLACE, "--recursive", "--json")
    folder, file = (json.loads(line) for line in ended.stdout.splitlines())
    assert list(file) == ["id", "kind", "location", "name", "size", "modified"]
    assert (folder["kind"], folder["location"]) == ("folder", f"{PLACE}/raw/")
    assert (file["kind"], file["location"], file["size"]) == ("file", f"{PLACE}/raw/x", 5)


def test_a_name_that_cannot_be_pasted_is_listed_by_id(served: Served, shell: Shell) -> None:
    number = served.sim.add_file("demo/project", "bad\x1b[2J", b"12345")
    ended = shell.run("list", PLACE)
    assert ended.stdout == f"cavatica:id={number}\n"
    again = shell.run("list", f"cavatica:id={number}")
    assert again.returncode == 0


def test_a_place_that_is_not_there_is_exit_2(shell: Shell) -> None:
    for where in (f"{PLACE}/nothing", "cavatica:no/project", "nobody:x", "here"):
        ended = shell.run("list", where)
        assert (ended.returncode, ended.stdout) == (2, ""), where
        assert ended.stderr.startswith("penstock: ")


def test_a_reader_that_has_seen_enough_is_no_error(served: Served, shell: Shell) -> None:
    for number in range(300):
        served.sim.add_file("demo/project", f"{number:03} {'x' * 200}", b"")
    ended = shell.shell(f"PENSTOCK list {shlex.quote(PLACE)} | head -n 1")
    assert ended.returncode == 0
    assert ended.stderr == ""


def test_a_host_that_is_not_there_is_exit_3(shell: Shell) -> None:
    ended = shell.run(
        "copy",
        shell.files(1),
        f"{PLACE}/",
        "--retries",
        "0",
        "--json",
        PENSTOCK_CAVATICA_ENDPOINT="http://127.0.0.1:9/v2",
    )
    assert ended.returncode == 3
    assert json.loads(ended.stdout)["verified"] == 0
    assert ended.stderr.splitlines()[-1].startswith("penstock: ")


def test_on_a_screen_a_file_shows_its_name_where_its_location_does_not() -> None:
    by_id = Entry("file", "datameta:3470c67d", "f1.bin", "3470c67d", 5, None)
    assert as_line(by_id).endswith("datameta:3470c67d  # f1.bin")
    by_path = Entry("folder", "coscine:p/r/f1/", "f1", "x", None, None)
    assert as_line(by_path).endswith("coscine:p/r/f1/")
