from __future__ import annotations

import shlex
import signal
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from serving import Shell


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_simulator_says_how_to_use_it_serves_and_ends_well(
    bare: Shell, number: signal.Signals
) -> None:
    process = bare.start("simulate", "sevenbridges", "--quota", "500/20s")
    assert process.stdout is not None
    told = dict(process.stdout.readline().rstrip("\n").split(": ", 1) for _ in range(4))
    assert list(told) == ["endpoint", "token", "project", "use"]
    export = shlex.split(told["use"].partition(";")[0])
    assert export[0] == "export"
    environ = dict(setting.split("=", 1) for setting in export[1:])
    assert environ["PENSTOCK_CAVATICA_QUOTA"] == "500/20s"
    ended = bare.run("list", "cavatica:", **environ)
    assert told["project"] in ended.stdout
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_that_is_taken_is_exit_2(bare: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = bare.run("simulate", "sevenbridges", "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 2
    assert ended.stderr.startswith("penstock: port ")
    assert ended.stdout == ""


def test_a_coscine_names_a_project_and_a_resource_to_write_to(bare: Shell) -> None:
    process = bare.start("simulate", "coscine", "--quota", "500/60s")
    assert process.stdout is not None
    told = dict(process.stdout.readline().rstrip("\n").split(": ", 1) for _ in range(5))
    assert list(told) == ["endpoint", "token", "project", "resource", "use"]
    settings, _, command = told["use"].partition("; ")
    environ = dict(setting.split("=", 1) for setting in shlex.split(settings)[1:])
    assert environ["PENSTOCK_COSCINE_ENDPOINT"].endswith("/coscine/api/v2")
    assert command == f"penstock copy FOLDER coscine:{told['project']}/{told['resource']}/"
    ended = bare.run("list", "coscine:", **environ)
    assert f"coscine:{told['project']}" in ended.stdout
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_datameta_server_takes_files_and_has_no_quota(bare: Shell, tmp_path: Path) -> None:
    refused = bare.run("simulate", "datameta", "--quota", "5/1s")
    assert (refused.returncode, "no quota" in refused.stderr) == (2, True)
    process = bare.start("simulate", "datameta")
    assert process.stdout is not None
    told = dict(process.stdout.readline().rstrip("\n").split(": ", 1) for _ in range(3))
    assert list(told) == ["endpoint", "token", "use"]
    settings, _, command = told["use"].partition("; ")
    environ = dict(setting.split("=", 1) for setting in shlex.split(settings)[1:])
    assert command == "penstock copy FOLDER datameta:"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"a")
    ended = bare.run("copy", str(folder), "datameta:", **environ)
    assert ended.returncode == 0, ended.stderr
    submissions, file = bare.run("list", "datameta:", **environ).stdout.splitlines()
    assert submissions == "datameta:submissions/"
    assert bare.run("copy", file, f"{tmp_path}/back/", **environ).returncode == 0
    assert (tmp_path / "back/a.bin").read_bytes() == b"a"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")
