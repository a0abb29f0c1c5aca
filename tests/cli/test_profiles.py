from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving import Served, Shell

SECRET = "5ecre7-5ecre7-5ecre7"


def test_every_profile_is_listed_with_where_its_token_is(bare: Shell) -> None:
    (bare.folder / "token").write_text(SECRET)
    (bare.folder / "config.toml").write_text(
        "[profiles.mine]\n"
        'platform = "sevenbridges"\n'
        'endpoint = "https://example.org/v2"\n'
        f'token = "file:{bare.folder}/token"\n'
        'quota = "50/10s"\n'
        "[profiles.other]\n"
        'platform = "sevenbridges"\n'
        'endpoint = "https://example.net/v2"\n'
        'token = "env:NOT_SET_ANYWHERE"\n'
    )
    ended = bare.run("profiles", "list", "--config", "config.toml", PENSTOCK_CGC_TOKEN=SECRET)
    assert ended.returncode == 0
    lines = {line.split()[0]: line for line in ended.stdout.splitlines()}
    assert {"cavatica", "bdc", "cgc", "sbg", "sbg-eu", "mine", "other"} <= set(lines)
    assert "not set" in lines["cavatica"]
    assert "set, env:PENSTOCK_CGC_TOKEN" in lines["cgc"]
    assert "set, file:" in lines["mine"]
    assert "50 per 10 s" in lines["mine"]
    assert "not set: env:NOT_SET_ANYWHERE" in lines["other"]
    assert SECRET not in ended.stdout + ended.stderr


def test_one_profile_is_shown_without_its_token(shell: Shell, served: Served) -> None:
    ended = shell.run("profiles", "show", "cavatica")
    assert ended.returncode == 0
    assert served.sim.endpoint in ended.stdout
    assert "PENSTOCK_CAVATICA_QUOTA" in ended.stdout
    assert served.sim.token not in ended.stdout


def test_an_unknown_profile_is_exit_2_with_the_one_meant(bare: Shell) -> None:
    for action in ("show", "check"):
        ended = bare.run("profiles", action, "cavatca")
        assert ended.returncode == 2
        assert "did you mean 'cavatica'" in ended.stderr


def test_a_good_token_is_said_to_be_by_one_request(shell: Shell, served: Served) -> None:
    ended = shell.run("profiles", "check", "cavatica")
    assert ended.returncode == 0
    assert ended.stdout.startswith("cavatica: ok")
    assert served.requests() == 1


def test_a_missing_token_is_exit_2(bare: Shell) -> None:
    ended = bare.run("profiles", "check", "cavatica")
    assert ended.returncode == 2
    assert ended.stdout == ""


def test_a_profile_is_added_changed_and_removed_and_comments_stay(bare: Shell) -> None:
    config = bare.folder / "my.toml"
    config.write_text("# mine\n[profiles.other]\nplatform = 'surf' # kept\n")
    more = ("--config", "my.toml")
    ended = bare.run("profiles", "add", "lab", "--platform", "coscine", "--token", "env:T", *more)
    assert ended.returncode == 0, ended.stderr
    assert bare.run("profiles", "add", "lab", "--quota", "100/60s", *more).returncode == 0
    shown = bare.run("profiles", "show", "lab", *more).stdout
    assert "100 per 1 min" in shown
    assert "env:T" in shown
    assert bare.run("profiles", "remove", "lab", *more).returncode == 0
    text = config.read_text()
    assert "# mine" in text
    assert "# kept" in text
    assert "lab" not in text
    assert bare.run("profiles", "remove", "lab", *more).returncode == 2


def test_a_profile_may_be_the_first_thing_in_a_new_file(bare: Shell) -> None:
    more = ("--config", "new/my.toml")
    ended = bare.run("profiles", "add", "lab", "--platform", "surf", *more)
    assert ended.returncode == 0, ended.stderr
    assert bare.run("profiles", "show", "lab", *more).returncode == 0
    assert bare.run("profiles", "remove", "lab", "--config", "other.toml").returncode == 2


def test_a_profile_that_makes_no_sense_changes_nothing(bare: Shell) -> None:
    config = bare.folder / "my.toml"
    more = ("--config", "my.toml")
    config.write_text("")
    for wrong in (
        ("lab", "--endpoint", "http://example.org/v2", "--platform", "sevenbridges"),
        ("lab", "--endpoint", "https://example.org/v2"),
        ("lab", "--platform", "surf", "--quota", "many"),
        ("lab", "--platform", "surf", "--token", "secret-itself"),
        ("l/b", "--platform", "surf"),
        ("lab",),
    ):
        ended = bare.run("profiles", "add", *wrong, *more)
        assert ended.returncode == 2, ended.stdout
        assert "secret-itself" not in ended.stderr
        assert config.read_text() == ""
    assert sorted(path.name for path in bare.folder.iterdir()) == ["my.toml"]
