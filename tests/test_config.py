from __future__ import annotations

import contextlib
import copy
import pickle
import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import (
    BUILT_IN,
    Profile,
    Settings,
    Token,
    TokenSource,
    check_endpoint,
    check_url,
    load,
    state_dir,
)
from penstock.core.errors import PenstockError, ProfileError, UsageError
from penstock.core.locations import Url

SECRET = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"


class Machine:
    """A home folder, a configuration folder and an environment that nothing else shares."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.folder = root / "config"
        self.environ: dict[str, str] = {}
        self.home.mkdir()
        self.folder.mkdir()

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def configure(self, text: str) -> None:
        self.config.write_text(text, encoding="utf-8")
        self.config.chmod(0o600)

    def credentials(self, text: str) -> None:
        folder = self.home / ".sevenbridges"
        folder.mkdir(exist_ok=True)
        (folder / "credentials").write_text(text, encoding="utf-8")

    def load(self, config_file: Path | None = None) -> Settings:
        return load(self.environ, config_file=config_file, home=self.home, config_dir=self.folder)

    def profile(self, name: str) -> Profile:
        return self.load().profile(name)

    def token(self, name: str) -> str:
        return self.profile(name).token.read().reveal()

    def fault(self) -> str:
        with pytest.raises(ProfileError) as caught:
            self.load()
        return str(caught.value)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# What there is


def test_with_nothing_configured_the_built_in_profiles_are_there(machine: Machine) -> None:
    settings = machine.load()
    assert settings.names == tuple(sorted(BUILT_IN))
    assert settings.warnings == ()
    bdc = settings.profile("bdc")
    assert bdc.endpoint == "https://api.sb.biodatacatalyst.nhlbi.nih.gov/v2"
    assert bdc.quota == (1000, 300.0)
    assert settings.profile("coscine").quota == (500, 60.0)
    assert settings.profile("surf").endpoint == "https://gw.live.surfresearchcloud.nl/v1"


def test_a_built_in_endpoint_is_one_that_would_be_accepted() -> None:
    for platform, endpoint in BUILT_IN.values():
        if endpoint:
            where, insecure = "it", False
            assert endpoint == check_endpoint(
                endpoint, platform=platform, insecure=insecure, where=where
            )


def test_an_unknown_profile_names_the_known_and_the_nearest(machine: Machine) -> None:
    with pytest.raises(ProfileError, match=r"known: bdc, cavatica.*did you mean 'cavatica'"):
        machine.profile("cavatcia")


def test_datameta_needs_an_endpoint_and_says_where_to_set_it(machine: Machine) -> None:
    with pytest.raises(ProfileError, match=r"PENSTOCK_DATAMETA_ENDPOINT.*\[profiles.datameta\]"):
        machine.profile("datameta")
    machine.environ["PENSTOCK_DATAMETA_ENDPOINT"] = "https://data.example.org/"
    assert machine.profile("datameta").endpoint == "https://data.example.org"
    assert machine.profile("datameta").quota is None


def test_a_further_profile_comes_from_the_file(machine: Machine) -> None:
    machine.environ["MY_TOKEN"] = SECRET
    machine.configure(
        """
        [profiles.my-coscine]
        platform = "coscine"
        endpoint = "https://Host.example.org/coscine/api/v2/"
        token = "env:MY_TOKEN"
        quota = "100/1m"
        quota_group = "me"
        share = "1/20"
        weight = 3
        token_expires = "2027-03-31"
        [profiles.my-coscine.settings]
        language = "de"
        """
    )
    profile = machine.profile("my-coscine")
    assert profile == Profile(
        name="my-coscine",
        platform="coscine",
        endpoint="https://host.example.org/coscine/api/v2",
        quota=(100, 60.0),
        quota_group="me",
        share=0.05,
        weight=3.0,
        token=profile.token,
        token_expires=date(2027, 3, 31),
        settings={"language": "de"},
    )
    assert profile.token.read().reveal() == SECRET
    assert machine.load().warnings == ()


def test_a_further_profile_comes_from_the_environment(machine: Machine) -> None:
    machine.environ |= {
        "PENSTOCK_MY_CAV_ENDPOINT": "http://127.0.0.1:8080/v2",
        "PENSTOCK_MY_CAV_TOKEN": SECRET,
        "PENSTOCK_LAB_ENDPOINT": "https://lab.example.org/api/v1",
        "PENSTOCK_LAB_PLATFORM": "datameta",
    }
    assert machine.profile("my-cav").platform == "sevenbridges"
    assert machine.profile("my-cav").quota == (1000, 300.0)
    assert machine.token("my-cav") == SECRET
    assert machine.profile("lab").platform == "datameta"


def test_the_environment_wins_over_the_file(machine: Machine) -> None:
    machine.configure(
        """
        [profiles.sbg-eu]
        endpoint = "https://file.example.org/v2"
        token = "env:FILE_TOKEN"
        quota = "1/1s"
        """
    )
    machine.environ |= {
        "FILE_TOKEN": OTHER,
        "PENSTOCK_SBG_EU_ENDPOINT": "https://env.example.org/v2",
        "PENSTOCK_SBG_EU_TOKEN": SECRET,
        "PENSTOCK_SBG_EU_QUOTA": "20/2s",
    }
    profile = machine.profile("sbg-eu")
    assert (profile.endpoint, profile.quota) == ("https://env.example.org/v2", (20, 2.0))
    assert machine.token("sbg-eu") == SECRET


def test_an_empty_variable_is_not_set(machine: Machine) -> None:
    machine.environ |= {"PENSTOCK_CGC_ENDPOINT": "", "PENSTOCK_CGC_TOKEN": " "}
    assert machine.profile("cgc").endpoint == BUILT_IN["cgc"][1]
    assert machine.profile("cgc").token.kind == "none"


def test_a_variable_of_no_profile_is_warned_about(machine: Machine) -> None:
    machine.environ["PENSTOCK_CAVATCIA_TOKEN"] = SECRET
    (warning,) = machine.load().warnings
    assert "PENSTOCK_CAVATCIA_TOKEN" in warning
    assert "did you mean 'CAVATICA'" in warning
    assert SECRET not in warning


# Which file


def test_the_option_comes_before_the_variable_and_that_before_the_folder(machine: Machine) -> None:
    machine.configure("[profiles.in-folder]\nplatform = 'coscine'\n")
    other, option = machine.home / "other.toml", machine.home / "option.toml"
    other.write_text("[profiles.in-variable]\nplatform = 'coscine'\n", encoding="utf-8")
    option.write_text("[profiles.in-option]\nplatform = 'coscine'\n", encoding="utf-8")
    assert "in-folder" in machine.load().names
    machine.environ["PENSTOCK_CONFIG"] = "~/other.toml"
    assert "in-variable" in machine.load().names
    assert "in-folder" not in machine.load().names
    assert "in-option" in machine.load(option).names


def test_a_named_file_must_exist(machine: Machine) -> None:
    machine.environ["PENSTOCK_CONFIG"] = str(machine.home / "absent.toml")
    assert "absent.toml does not exist" in machine.fault()


def test_folders_follow_the_environment_that_was_given() -> None:
    assert state_dir({"XDG_STATE_HOME": "/somewhere"}) == Path("/somewhere/penstock")
    assert state_dir({"XDG_STATE_HOME": "relative"}).is_absolute()
    assert state_dir({}).name == "penstock"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[profiles.cgc\n", "is not TOML"),
        ("x = 1\n[profiles.cgc]\ny = = 2\n", "line 3"),
        ("[profile.cgc]\n", "unknown key 'profile'; did you mean 'profiles'"),
        ("profiles = 3\n", "must be tables"),
        ("[profiles]\ncgc = 3\n", "must be a table"),
        ("[profiles.cgc]\nendpiont = 'x'\n", "unknown key 'endpiont'.*did you mean 'endpoint'"),
        ("[profiles.cgc]\nendpoint = 3\n", "endpoint under .*must be a text"),
        ("[profiles.cgc]\ninsecure = 'yes'\n", "insecure .*true or false"),
        ("[profiles.cgc]\nquota = 'many'\n", "quota under .*500/60s"),
        ("[profiles.cgc]\nshare = 2\n", "share under .*at most 1"),
        ("[profiles.cgc]\nshare = true\n", "share under"),
        ("[profiles.cgc]\nweight = 0\n", "weight under .*above 0"),
        ("[profiles.cgc]\nweight = true\n", "weight under"),
        ("[profiles.cgc]\ntoken_expires = 'soon'\n", "must be a day"),
        ("[profiles.cgc]\nplatform = 'coscine'\n", "built in as sevenbridges"),
        ("[profiles.cgc]\nsettings = 1\n", "settings .*table"),
        ("[profiles.mine]\nendpoint = 'https://h/v2'\n", "platform .*is missing"),
        ("[profiles.mine]\nplatform = 'sevenbridge'\n", "did you mean 'sevenbridges'"),
        ("[profiles.c]\nplatform = 'coscine'\n", "cannot name a profile"),
        ("[profiles.sbg_eu]\nplatform = 'coscine'\n", "would share their environment"),
        ("[profiles.a-b]\nplatform='surf'\n[profiles.a_b]\nplatform='surf'\n", "would share"),
        ("a = " + "[" * 50_000, "TOML"),
    ],
)
def test_a_slip_in_the_file_is_a_sentence(machine: Machine, text: str, said: str) -> None:
    machine.configure(text)
    with pytest.raises(ProfileError, match=said) as caught:
        machine.load()
    assert str(machine.config) in str(caught.value)


def test_a_file_that_is_not_text_or_is_a_folder_is_a_sentence(machine: Machine) -> None:
    machine.config.write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in machine.fault()
    machine.config.unlink()
    machine.config.mkdir()
    assert "cannot be read" in machine.fault()


# Endpoints


def checked(text: str, *, platform: str = "sevenbridges", insecure: bool = False) -> str:
    return check_endpoint(text, platform=platform, insecure=insecure, where="endpoint")


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("https://API.example.org/v2/", "https://api.example.org/v2"),
        ("http://localhost:8080/v2", "http://localhost:8080/v2"),
        ("http://127.0.0.2/v2", "http://127.0.0.2/v2"),
        ("http://[::1]:99/v2", "http://[::1]:99/v2"),
        (" https://h/proxy/v2// ", "https://h/proxy/v2"),
    ],
)
def test_an_endpoint_has_one_spelling(text: str, root: str) -> None:
    assert checked(text) == root


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://api.example.org/v2", "plain http"),
        ("http://localhost.example.org/v2", "plain http"),
        ("http://128.0.0.1/v2", "plain http"),
        ("https://api.example.org", "version"),
        ("https://me:hunter2@api.example.org/v2", "user or a password"),
        ("https://api.example.org/v2?x=1", "query"),
        ("https://api.example.org/v2#x", "fragment"),
        ("api.example.org/v2", "no URL"),
        ("ftp://api.example.org/v2", "no URL"),
        ("https://", "no URL"),
        ("https://[::1/v2", "no URL"),
        ("https://h:99999/v2", "no URL"),
        ("https://a b/v2", "no URL"),
        ("https://h\\@evil/v2", "no URL"),
        ("", "no URL"),
    ],
)
def test_an_endpoint_that_makes_no_sense_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ProfileError, match=said) as caught:
        checked(text)
    assert "hunter2" not in str(caught.value)


def test_plain_http_goes_where_the_user_insists(machine: Machine) -> None:
    assert checked("http://h/v2", insecure=True) == "http://h/v2"
    machine.configure('[profiles.cgc]\nendpoint = "http://h.example/v2"\ninsecure = true\n')
    assert machine.profile("cgc").endpoint == "http://h.example/v2"


def test_datameta_may_be_named_by_its_servers_root() -> None:
    assert checked("https://h/", platform="datameta") == "https://h"


# Tokens


def test_a_missing_token_says_exactly_what_to_set(machine: Machine) -> None:
    with pytest.raises(ProfileError) as caught:
        machine.token("sbg-eu")
    assert "PENSTOCK_SBG_EU_TOKEN" in str(caught.value)
    assert "[profiles.sbg-eu]" in str(caught.value)
    assert str(machine.config) in str(caught.value)


def test_a_token_is_read_only_when_it_is_used(machine: Machine) -> None:
    machine.configure(
        '[profiles.cgc]\ntoken = "env:ABSENT"\n[profiles.bdc]\ntoken = "file:/absent"'
    )
    settings = machine.load()
    with pytest.raises(ProfileError, match="ABSENT, which is not set"):
        settings.profile("cgc").token.read()
    with pytest.raises(ProfileError, match=r"file:/absent: No such file"):
        settings.profile("bdc").token.read()


def test_a_token_file_is_stripped_and_read_anew_each_time(machine: Machine) -> None:
    (machine.home / "token").write_text(f"\n {SECRET} \r\n", encoding="utf-8")
    machine.configure('[profiles.cgc]\ntoken = "file:~/token"\n')
    source = machine.profile("cgc").token
    assert source.rereadable
    first = source.read()
    (machine.home / "token").write_text(OTHER, encoding="utf-8")
    assert (first.reveal(), source.read().reveal()) == (SECRET, OTHER)


def test_a_relative_token_file_lies_beside_the_configuration(machine: Machine) -> None:
    (machine.folder / "token").write_text(SECRET, encoding="utf-8")
    machine.configure('[profiles.cgc]\ntoken = "file:token"\n')
    assert machine.token("cgc") == SECRET


@pytest.mark.parametrize(
    "text", [b"", b" \n", b"two words", b"caf\xc3\xa9", b"\xff", b"x" * 20_000]
)
def test_a_token_file_that_holds_no_token_is_a_sentence(machine: Machine, text: bytes) -> None:
    (machine.home / "token").write_bytes(text)
    machine.configure('[profiles.cgc]\ntoken = "file:~/token"\n')
    with pytest.raises(ProfileError) as caught:
        machine.token("cgc")
    assert "words" not in str(caught.value)


def test_a_variable_may_hold_a_form_instead_of_a_token(machine: Machine) -> None:
    (machine.home / "token").write_text(SECRET, encoding="utf-8")
    machine.environ["PENSTOCK_CGC_TOKEN"] = "file:~/token"
    assert machine.token("cgc") == SECRET
    assert machine.load().warnings == ()


def test_a_literal_token_works_and_is_warned_about(machine: Machine) -> None:
    machine.configure(f'[profiles.cgc]\ntoken = "{SECRET}"\n')
    assert machine.token("cgc") == SECRET
    (warning,) = machine.load().warnings
    assert "'cgc' stands in" in warning
    machine.config.chmod(0o640)
    assert any("chmod 600" in warning for warning in machine.load().warnings)
    assert SECRET not in "".join(machine.load().warnings)


def test_an_unknown_form_is_not_sent_as_a_token_and_not_repeated(machine: Machine) -> None:
    machine.configure('[profiles.cgc]\ntoken = "enc:hunter2"\n')
    assert "form nobody knows" in machine.fault()
    assert "hunter2" not in machine.fault()


def test_a_token_shows_itself_to_nothing_but_reveal() -> None:
    token = Token(SECRET)
    source = TokenSource("literal", _token=token)
    profile = Profile("cgc", "sevenbridges", "https://h/v2", token=source)
    for shown in (repr(token), str(token), f"{token}", repr(source), repr(profile), f"{profile!s}"):
        assert SECRET not in shown
    assert SECRET not in token.fingerprint()
    with pytest.raises(TypeError):
        pickle.dumps(profile)
    with pytest.raises(TypeError):
        copy.copy(token)


def test_equal_tokens_have_equal_fingerprints_and_others_not() -> None:
    assert Token(SECRET) == Token(SECRET)
    assert hash(Token(SECRET)) == hash(Token(SECRET))
    assert Token(SECRET).fingerprint() == Token(SECRET).fingerprint()
    assert Token(SECRET) != Token(OTHER)
    assert Token(SECRET).fingerprint() != Token(OTHER).fingerprint()
    assert len(Token("\ud800").fingerprint()) == 64


def test_settings_show_no_token(machine: Machine) -> None:
    machine.environ |= {"PENSTOCK_CGC_TOKEN": SECRET, "SB_AUTH_TOKEN": SECRET, "MINE": SECRET}
    machine.configure(f'[profiles.bdc]\ntoken="env:MINE"\n[profiles.surf]\ntoken="{SECRET}"\n')
    machine.credentials(f"[sbg-eu]\nauth_token = {SECRET}\n")
    settings = machine.load()
    assert settings.profile("sbg-eu").token.read().reveal() == SECRET
    assert SECRET not in repr(settings)


# The key ring, a real one of our own in another process

BACKEND = """
import sys, time
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

class Ring(KeyringBackend):
    priority = 1

    def get_password(self, service, user):
        if user == "locked":
            raise KeyringLocked("hunter2")
        if user == "broken":
            raise ValueError("hunter2")
        if user == "prompt":
            import getpass
            return getpass.getpass()
        if user == "slow":
            time.sleep(60)
        print("noise on standard output")
        return {"me": "TOKEN"}.get(user)

    def set_password(self, service, user, password):
        raise NotImplementedError
"""


@pytest.fixture
def ring(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "our_ring.py").write_text(BACKEND.replace("TOKEN", SECRET), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    machine.environ["PYTHON_KEYRING_BACKEND"] = "our_ring.Ring"
    machine.environ["HOME"] = str(machine.home)
    return machine


def test_a_token_comes_from_the_key_ring(ring: Machine) -> None:
    ring.configure('[profiles.cgc]\ntoken = "keyring:penstock/me"\n')
    assert ring.token("cgc") == SECRET
    assert ring.profile("cgc").token.rereadable


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("locked", "is locked"),
        ("broken", "could not be read"),
        ("prompt", "could not be read"),
        ("nobody", "keyring set penstock nobody"),
        ("slow", "is locked"),
    ],
)
def test_a_key_ring_that_gives_nothing_is_a_sentence_in_time(
    ring: Machine, user: str, said: str
) -> None:
    ring.configure(f'[profiles.cgc]\ntoken = "keyring:penstock/{user}"\n')
    began = time.monotonic()
    with pytest.raises(ProfileError, match=said) as caught:
        ring.token("cgc")
    assert time.monotonic() - began < 5
    assert "hunter2" not in str(caught.value)


def test_no_key_ring_at_all_is_a_sentence(ring: Machine) -> None:
    ring.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    ring.configure('[profiles.cgc]\ntoken = "keyring:penstock/me"\n')
    with pytest.raises(ProfileError, match="there is no key ring"):
        ring.token("cgc")


@pytest.mark.parametrize("text", ["keyring:", "keyring:service", "keyring:/me", "keyring:service/"])
def test_a_key_ring_without_service_or_user_is_a_sentence(machine: Machine, text: str) -> None:
    machine.configure(f'[profiles.cgc]\ntoken = "{text}"\n')
    assert "keyring:SERVICE/USER" in machine.fault()


# What Seven Bridges' own client reads


def test_the_official_variables_serve_the_profile_of_that_endpoint(machine: Machine) -> None:
    machine.environ |= {"SB_API_ENDPOINT": BUILT_IN["cavatica"][1] + "/", "SB_AUTH_TOKEN": SECRET}
    assert machine.token("cavatica") == SECRET
    with pytest.raises(ProfileError, match="SB_AUTH_TOKEN is set, but not for this endpoint"):
        machine.token("sbg")


def test_the_official_variables_with_an_endpoint_of_no_profile_serve_sbg(machine: Machine) -> None:
    machine.environ |= {"SB_API_ENDPOINT": "http://127.0.0.1:1/v2", "SB_AUTH_TOKEN": SECRET}
    assert machine.profile("sbg").endpoint == "http://127.0.0.1:1/v2"
    assert machine.token("sbg") == SECRET
    assert machine.profile("cavatica").endpoint == BUILT_IN["cavatica"][1]


def test_the_official_token_alone_serves_sbg(machine: Machine) -> None:
    machine.environ["SB_AUTH_TOKEN"] = SECRET
    assert machine.token("sbg") == SECRET


def test_the_official_variables_never_move_an_endpoint_that_was_set(machine: Machine) -> None:
    machine.environ |= {
        "SB_API_ENDPOINT": "http://127.0.0.1:1/v2",
        "SB_AUTH_TOKEN": SECRET,
        "PENSTOCK_SBG_ENDPOINT": "http://127.0.0.1:2/v2",
    }
    assert machine.profile("sbg").endpoint == "http://127.0.0.1:2/v2"
    with pytest.raises(ProfileError, match="no token"):
        machine.token("sbg")


def test_what_is_set_nearer_wins_over_the_official_values(machine: Machine) -> None:
    machine.environ |= {
        "SB_API_ENDPOINT": BUILT_IN["cgc"][1],
        "SB_AUTH_TOKEN": OTHER,
        "PENSTOCK_CGC_TOKEN": SECRET,
    }
    machine.credentials(f"[cgc]\nauth_token = {OTHER}\n")
    assert machine.token("cgc") == SECRET


def test_a_section_serves_the_profile_of_its_name_or_of_its_endpoint(machine: Machine) -> None:
    machine.credentials(
        f"""
[default]
api_endpoint = {BUILT_IN["cavatica"][1]}
auth_token = {SECRET}
[cgc]
auth_token = {OTHER}%x
[bdc]
api_endpoint
"""
    )
    assert machine.token("cavatica") == SECRET
    assert machine.token("cgc") == f"{OTHER}%x"
    with pytest.raises(ProfileError, match="no token"):
        machine.token("bdc")


def test_a_token_never_goes_to_another_endpoint_than_it_was_written_beside(
    machine: Machine,
) -> None:
    machine.credentials(f"[cgc]\napi_endpoint = {BUILT_IN['cgc'][1]}\nauth_token = {SECRET}\n")
    assert machine.token("cgc") == SECRET
    machine.environ["PENSTOCK_CGC_ENDPOINT"] = "https://elsewhere.example.org/v2"
    with pytest.raises(ProfileError, match="no token"):
        machine.token("cgc")


def test_a_section_gives_the_endpoint_of_a_profile_that_has_none(machine: Machine) -> None:
    machine.configure('[profiles.mine]\nplatform = "sevenbridges"\n')
    machine.credentials(f"[mine]\napi_endpoint = https://h.example/v2\nauth_token = {SECRET}\n")
    assert machine.profile("mine").endpoint == "https://h.example/v2"
    assert machine.token("mine") == SECRET


def test_two_sections_that_disagree_are_not_guessed_between(machine: Machine) -> None:
    endpoint = BUILT_IN["cavatica"][1]
    machine.credentials(
        f"[a]\napi_endpoint={endpoint}\nauth_token={SECRET}\n"
        f"[b]\napi_endpoint={endpoint}\nauth_token={OTHER}\n"
    )
    with pytest.raises(ProfileError, match="no token"):
        machine.token("cavatica")


@pytest.mark.parametrize(
    "text",
    [
        f"auth_token = {SECRET}\n",
        f"[a]\nauth_token = {SECRET}\n[a]\n",
        f"[a\n{SECRET}",
        f"[cgc]\napi_endpoint = http://h.example/{SECRET}\nauth_token = {SECRET}\n",
    ],
)
def test_broken_official_files_are_a_warning_without_secrets(machine: Machine, text: str) -> None:
    machine.credentials(text)
    (warning,) = machine.load().warnings
    assert "credentials" in warning
    assert SECRET not in warning


def test_an_official_endpoint_that_makes_no_sense_is_a_warning(machine: Machine) -> None:
    machine.environ |= {"SB_API_ENDPOINT": "http://h.example/v2", "SB_AUTH_TOKEN": SECRET}
    (warning,) = machine.load().warnings
    assert "SB_API_ENDPOINT" in warning
    with pytest.raises(ProfileError):
        machine.token("sbg")


# Whatever stands there

TOML_LIKE = st.text() | st.builds(
    "[profiles.{}]\n{} = {}\n".format,
    st.sampled_from(["cgc", "mine", "a", "'x y'"]),
    st.sampled_from(
        ["platform", "endpoint", "token", "quota", "share", "weight", "token_expires", "insecure"]
    ),
    st.sampled_from(["1", "-1.5", "true", "[]", "{}", "nan", "2027-01-01", "2027-01-01T00:00:00Z"])
    | st.text("abc:/.@[]{}01", max_size=12).map(lambda text: f'"{text}"'),
)


@given(TOML_LIKE)
def test_any_configuration_gives_settings_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "config.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(PenstockError):
        load({}, home=folder, config_dir=folder)


SETTINGS = st.sampled_from(["ENDPOINT", "TOKEN", "QUOTA", "PLATFORM"])
NAMES = st.sampled_from(["PENSTOCK_CGC_", "PENSTOCK_X_Y_", "PENSTOCK___", "PENSTOCK_DATAMETA_"])


@given(
    st.dictionaries(
        st.builds("{}{}".format, NAMES, SETTINGS)
        | st.sampled_from(["SB_API_ENDPOINT", "SB_AUTH_TOKEN"]),
        st.text(st.characters(exclude_categories=(), exclude_characters="\0"))
        | st.sampled_from(["file:x", "env:", "keyring:a", "https://h/v2", "5/1s", "coscine"]),
    )
)
def test_any_environment_gives_settings_or_a_sentence(environ: dict[str, str]) -> None:
    nowhere = Path("/nonexistent")
    try:
        settings = load(environ, home=nowhere, config_dir=nowhere)
    except PenstockError:
        return
    for name in settings.names:
        source = settings.profiles[name].token
        if source.kind != "keyring":
            with contextlib.suppress(PenstockError):
                source.read()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80@elsewhere.example/f",
        "http://127.0.0.1\\@elsewhere.example/f",
        "http://localhost.example/f",
        "http://elsewhere.example:80/127.0.0.1",
        "HTTP://elsewhere.example",
    ],
)
def test_plain_http_to_another_machine_is_refused_however_it_is_written(url: str) -> None:
    with pytest.raises(UsageError, match="plain http to another machine"):
        check_url(Url(url))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80/f", "http://LOCALHOST?f", "https://h.example/"]
)
def test_plain_http_to_this_machine_and_tls_to_any_are_taken(url: str) -> None:
    check_url(Url(url))
