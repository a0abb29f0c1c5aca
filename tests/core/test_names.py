from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import names
from penstock.core.errors import NameRefused

# Surrogates too: JSON can carry them.
ANY = st.text(st.characters(exclude_categories=()), max_size=60)
TRICKY = st.text(alphabet="%2F05eEmptyCDAB8~./\\ :\0\n\x85\ud800é", max_size=40)
HOSTILE = [
    "",
    ".",
    "..",
    "../../x",
    "/etc/passwd",
    "a/b",
    "a\0b",
    "a\nb",
    "a\x1b[31m",
    "a\x85b",
    "a\x7f",
    "\ud800",
    "\ud83d\ude00",
    ".penstock-x.part",
    ".PENSTOCK-x.PART",
    "%empty",
    "%25empty",
    "%2F",
    "%252F",
    "%00",
    "%C2%85",
    "%ED%A0%80",
    "x%~" + "0" * 32,
    "x%~" + "0" * 32 + ".txt",
]


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    "name", [*HOSTILE, "CON", "con.txt", "nul", "a.", "a ", "C:\\x", "a?b", "..."]
)
def test_a_hostile_name_is_written_safely_and_read_back(name: str, windows: bool) -> None:  # noqa: FBT001
    local = names.encode(name, windows=windows)
    assert_safe(local, windows=windows)
    assert names.decode(local, windows=windows) == name


def assert_safe(local: str, *, windows: bool) -> None:
    assert local not in ("", ".", "..")
    assert "/" not in local
    assert "\0" not in local
    assert all(ord(c) >= 32 and not 127 <= ord(c) < 160 for c in local)
    assert len(local.encode("utf-8")) <= 255
    folded = local.casefold()
    assert not (folded.startswith(".penstock-") and folded.endswith(".part"))
    if windows:
        assert not set(local) & set('<>:"|?*\\')
        assert local[-1] not in ". "
        assert local.partition(".")[0].rstrip().upper() not in ("CON", "NUL", "AUX", "PRN", "COM1")


@given(ANY | TRICKY, st.booleans())
def test_every_name_is_safe_and_reversible(name: str, windows: bool) -> None:  # noqa: FBT001
    local = names.encode(name, windows=windows)
    assert_safe(local, windows=windows)
    if not names.is_shortened(local):
        assert names.decode(local, windows=windows) == name


@given(TRICKY, TRICKY)
def test_different_names_never_meet(one: str, other: str) -> None:
    assert (names.encode(one) == names.encode(other)) == (one == other)


@given(st.text("abcXYZ0189 ._-()+,=@#é中", min_size=1, max_size=60))
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    if name not in (".", "..") and not name.startswith(".penstock-"):
        assert names.encode(name) == name
        assert names.encode(names.encode(name)) == name


@pytest.mark.parametrize(
    "name", ["100%.txt", "a%20b.txt", "%", "%%", "a%2fb", "caf%C3%A9", "CON", "a."]
)
def test_a_percent_that_is_none_of_our_escapes_stays(name: str) -> None:
    assert names.encode(name) == name


@pytest.mark.parametrize("name", ["x" * 300 + ".fastq.gz", "é" * 200, "/" * 100, "\ud800" * 60])
def test_a_name_too_long_is_cut_keeps_its_ending_and_says_so(name: str) -> None:
    local = names.encode(name)
    assert_safe(local, windows=False)
    assert names.is_shortened(local)
    assert local != names.encode("y" + name[1:])
    if name.endswith(".gz"):
        assert local.endswith(".fastq.gz")
    with pytest.raises(NameRefused, match="longer than 255"):
        names.decode(local)


def test_255_bytes_are_not_too_many() -> None:
    assert names.encode("x" * 255) == "x" * 255
    assert names.is_shortened(names.encode("x" * 256))


def test_a_path_keeps_its_folders_apart() -> None:
    assert names.to_local(["..", "a/b", "c"]) == ("%2E%2E", "a%2Fb", "c")


def test_a_local_name_goes_to_the_platform_as_it_is() -> None:
    assert names.to_remote("a%2Fb é") == "a%2Fb é"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\0", b"caf\xe9".decode("utf-8", "surrogateescape")]
)
def test_a_local_name_no_platform_can_take_is_refused(name: str) -> None:
    with pytest.raises(NameRefused):
        names.to_remote(name)
