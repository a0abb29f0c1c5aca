from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

import penstock
from penstock.cli import options
from penstock.cli.app import cli
from penstock.cli.copying import copy
from penstock.core.globs import Rule

if TYPE_CHECKING:
    from serving import Shell

# What `penstock --help` has no use for, and what would make it slow.
HEAVY = {"aiohttp", "rich", "anyio", "asyncio", "sqlite3", "penstock.api", "penstock.simulators"}


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args))


def test_the_version_is_told() -> None:
    assert invoke("--version").output == f"penstock {penstock.__version__}\n"


def test_help_imports_nothing_heavy(bare: Shell) -> None:
    program = (
        "import sys, json, contextlib, io\n"
        "from penstock.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    try: main(['--help'])\n"
        "    except SystemExit as ended: assert not ended.code\n"
        "assert 'copy' in out.getvalue() and 'demo' in out.getvalue()\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env=bare.environ, capture_output=True, check=True
    )
    assert HEAVY.isdisjoint(json.loads(ended.stdout))


def test_include_and_exclude_keep_their_common_order() -> None:
    args = [
        "--include",
        "a",
        "--exclude=b",
        "--strict",
        "--include",
        "c",
        "x",
        "y",
        "--exclude",
        "d",
    ]
    context = copy.make_context("copy", args)
    assert options.rules_of(context) == (
        Rule(True, "a"),
        Rule(False, "b"),
        Rule(True, "c"),
        Rule(False, "d"),
    )


def test_an_option_value_that_looks_like_a_rule_is_none() -> None:
    context = copy.make_context("copy", ["--log", "--include", "--", "--exclude", "y"])
    assert options.rules_of(context) == ()
    assert context.params["locations"] == ("--exclude", "y")


@pytest.mark.parametrize(
    "option",
    ["--cluster=x", "--metrics-port=1", "--nonsense=x"],
)
@pytest.mark.parametrize("command", ["copy", "plan"])
def test_options_of_later_issues_are_unknown(command: str, option: str) -> None:
    ended = invoke(command, option, "a", "cavatica:b")
    assert ended.exit_code == 2
    assert ended.stderr.startswith("penstock: no such option")
    assert ended.stdout == ""


@pytest.mark.parametrize("command", ["x", "sync"])
def test_commands_of_later_issues_are_unknown(command: str) -> None:
    ended = invoke(command)
    assert ended.exit_code == 2
    assert ended.stderr.startswith(f"penstock: no such command '{command}'")


@pytest.mark.parametrize(
    ("typed", "meant"), [("cpoy", "copy"), ("plam", "plan"), ("profile", "profiles")]
)
def test_a_mistyped_command_is_answered_with_the_one_meant(typed: str, meant: str) -> None:
    assert f"did you mean '{meant}'" in invoke(typed).stderr


def test_a_mistyped_option_is_answered_with_the_one_meant() -> None:
    ended = invoke("copy", "--partsize", "1", "a", "b")
    assert ended.exit_code == 2
    assert "--part-size" in ended.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("copy",),
        ("copy", "only-one"),
        ("copy", "a", "b"),
        ("copy", "a", "cavatic:x/y/"),
        ("copy", "cavatica:a/b", "cavatica:c/d"),
        ("copy", "--part-size", "many", "a", "cavatica:x/y/"),
        ("copy", "--part-size", "-1", "a", "cavatica:x/y/"),
        ("copy", "--deadline", "soon", "a", "cavatica:x/y/"),
        ("copy", "--min-age", "old", "a", "cavatica:x/y/"),
        ("copy", "--concurrency", "0", "a", "cavatica:x/y/"),
        ("copy", "--compare", "looks", "a", "cavatica:x/y/"),
        ("copy", "--progress", "maybe", "a", "cavatica:x/y/"),
        ("copy", "--checksum", "crc0", "a", "cavatica:x/y/"),
        ("copy", "--only", "failed", "a", "cavatica:x/y/"),
        ("copy", "--encoding", "cp1252", "a", "cavatica:x/y/"),
        ("copy", "--include", "../x", "a", "cavatica:x/y/"),
        ("copy", "--config", "no-such-file", "a", "cavatica:x/y/"),
        ("copy", "--log", "no/such/folder/log", "a", "cavatica:x/y/"),
        ("plan", "a", "b"),
        ("list",),
        ("list", "here/"),
        ("list", "cavatica:a", "cavatica:b"),
        ("profiles",),
        ("profiles", "add"),
        ("profiles", "show", "nobody"),
        ("simulate",),
        ("simulate", "nothing"),
        ("simulate", "sevenbridges", "--quota", "many"),
        ("simulate", "sevenbridges", "--port", "70000"),
        ("",),
        ("--unknown",),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_exit_2(bare: Shell, args: tuple[str, ...]) -> None:
    ended = CliRunner(env=_only(bare)).invoke(cli, list(args))
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("penstock: ")
    assert "Traceback" not in ended.stderr


def _only(shell: Shell) -> dict[str, str | None]:
    names = ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
    return {name: shell.environ[name] for name in names}


def test_nothing_given_is_answered_with_help_and_exit_2() -> None:
    ended = invoke()
    assert ended.exit_code == 2
    assert "Commands:" in ended.stderr
    assert ended.stdout == ""


def test_every_command_has_help() -> None:
    for name in ("copy", "plan", "list", "profiles", "simulate", "demo"):
        ended = invoke(name, "--help")
        assert ended.exit_code == 0
        assert f"penstock {name}" in ended.stdout or f"cli {name}" in ended.stdout


def test_what_is_no_error_of_ours_is_a_sentence_and_a_traceback_only_with_debug(
    bare: Shell,
) -> None:
    # A state folder that is a file is not foreseen by anybody below.
    program = (
        "import sys, click\n"
        "from penstock.cli import options\n"
        "from penstock.cli.app import cli\n"
        "@cli.command()\n"
        "@options.debug\n"
        "def broken(debug): raise ValueError('https://host/path?X-Amz-Signature=hidden')\n"
        "cli.main(sys.argv[1:])"
    )
    for args in (["broken"], ["broken", "--debug"]):
        ended = subprocess.run(
            [sys.executable, "-c", program, *args],
            env=bare.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1].startswith("penstock: ValueError")
        assert ("Traceback" in ended.stderr) is ("--debug" in args)
        assert "hidden" not in ended.stderr


def test_ctrl_c_before_anything_is_loaded_is_a_sentence_too(bare: Shell) -> None:
    program = (
        "import os, signal, sys\n"
        "class Early:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "from penstock.cli import main\n"
        "sys.meta_path.insert(0, Early())\n"
        "main(['status'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=bare.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 130
    assert ended.stderr == "penstock: interrupted; run the same command to carry on\n"
