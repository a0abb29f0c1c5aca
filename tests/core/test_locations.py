from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import locations
from penstock.core.errors import LocationError, PenstockError, ProfileError
from penstock.core.locations import Local, Location, Remote, Url

KNOWN = ("bdc", "cavatica", "coscine", "datameta", "sbg-eu")


def parse(text: str) -> Location:
    return locations.parse(text, KNOWN)


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("cavatica:me/project", Remote("cavatica", "me/project")),
        ("cavatica:me/project/", Remote("cavatica", "me/project", None, True)),
        ("cavatica:me/project/sub dir/a:b.txt", Remote("cavatica", "me/project/sub dir/a:b.txt")),
        ("cavatica:", Remote("cavatica", "", None, True)),
        ("cavatica:id=5f3c", Remote("cavatica", "", "5f3c")),
        ("cavatica:id=5f3c/", Remote("cavatica", "", "5f3c", True)),
        ("sbg-eu:me//project", Remote("sbg-eu", "me/project")),
        ("coscine:p%2Fq/r", Remote("coscine", "p%2Fq/r")),
        ("datameta:submissions/ID", Remote("datameta", "submissions/ID")),
        ("./cavatica:x", Local("./cavatica:x")),
        ("data/a:b", Local("data/a:b")),
        ("C:\\data", Local("C:\\data")),
        ("c:/data", Local("c:/data")),
        ("plain.txt", Local("plain.txt")),
        ("a b:c", Local("a b:c")),
        ("reads.1:x", Local("reads.1:x")),
        ("caf\udce9", Local("caf\udce9")),
        ("new\nline", Local("new\nline")),
        ("https://host/f?X=1", Url("https://host/f?X=1")),
        ("HTTP://host/f", Url("HTTP://host/f")),
    ],
)
def test_a_location_is_what_its_text_says(text: str, location: Location) -> None:
    assert parse(text) == location


@pytest.mark.parametrize("text", ["data/", ".", "..", "a/.", "a/..", "/"])
def test_a_local_path_can_say_that_it_is_a_folder(text: str) -> None:
    location = parse(text)
    assert isinstance(location, Local)
    assert location.folder_like
    assert not Local("data").folder_like


def test_the_names_of_a_remote_path_are_from_the_top() -> None:
    assert Remote("bdc", "me/project/a").names == ("me", "project", "a")
    assert Remote("bdc").names == ()


def test_an_unknown_profile_names_the_known_and_the_nearest() -> None:
    with pytest.raises(ProfileError) as caught:
        parse("cavatcia:me/project")
    sentence = str(caught.value)
    assert "unknown profile 'cavatcia'" in sentence
    assert "bdc, cavatica, coscine" in sentence
    assert "did you mean 'cavatica'" in sentence
    assert "'./cavatcia:me/project'" in sentence


def test_a_profile_in_capitals_is_unknown_and_suggested_in_lower_case() -> None:
    with pytest.raises(ProfileError, match="did you mean 'cavatica'"):
        parse("CAVATICA:me/project")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\0b",
        "cavatica:a\0b",
        "cavatica:a\nb",
        "cavatica:a\x1b[0m",
        "cavatica:caf\udce9",
        "cavatica:me/../other",
        "cavatica:./x",
        "cavatica:id=",
        "cavatica:id=a/b",
        "cavatica:id=a b",
        "https://",
        "https:///path",
        "https://[::1",
        "https://host:port/x",
        "https://a b/c",
        "https://host/\n",
        "s3://bucket/key",
    ],
)
def test_a_malformed_location_is_a_sentence(text: str) -> None:
    with pytest.raises(LocationError):
        parse(text)


def test_the_password_of_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(LocationError) as caught:
        parse("https://me:hunter2@host/f")
    assert "hunter2" not in str(caught.value)


def test_the_query_of_a_url_is_shown_by_str_alone() -> None:
    url = Url("https://host/f?X-Amz-Signature=secret")
    assert "secret" not in repr(url) + url.redacted
    assert "secret" in str(url)


def test_a_name_with_a_slash_is_escaped_and_read_back() -> None:
    assert locations.escape("a/b%2F") == "a%2Fb%252F"
    assert locations.unescape("a%2Fb%252F") == "a/b%2F"
    assert locations.unescape("50%") == "50%"


@given(st.text(st.characters(exclude_categories=())))
def test_escaping_is_exact(name: str) -> None:
    assert "/" not in locations.escape(name)
    assert locations.unescape(locations.escape(name)) == name


HEADS = st.sampled_from(["cavatica", "x", "https", "./bdc", "id"])
JOINTS = st.sampled_from([":", "://", ":id="])
TEXTS = (
    st.text(st.characters(exclude_categories=()))
    | st.text("cav:/.%=id \n[]@?#")
    | st.builds("{}{}{}".format, HEADS, JOINTS, st.text("ab/.:%=@[]?#\0 "))
)


@given(TEXTS)
def test_any_text_gives_a_location_that_can_be_pasted_back_or_a_sentence(text: str) -> None:
    try:
        location = parse(text)
    except PenstockError:
        return
    assert parse(str(location)) == location


@given(st.text("abcv:/.hts", min_size=1).filter(lambda path: "\0" not in path))
def test_a_local_path_is_never_pasted_as_something_else(path: str) -> None:
    pasted = parse(str(Local(path)))
    assert isinstance(pasted, Local)
    assert pasted.path.removeprefix("./") == path.removeprefix("./")


@given(st.text("ah.:@/?#[]0165\x00 é-", max_size=12))
def test_a_url_that_is_read_has_a_host_a_port_that_may_be_and_no_user(rest: str) -> None:
    try:
        found = parse(f"https://{rest}")
    except PenstockError:
        return
    assert isinstance(found, Url)
    parts = urlsplit(found.url)
    assert parts.hostname
    assert parts.port is None or parts.port >= 0
    assert "@" not in parts.netloc
