from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import PenstockError, UsageError
from penstock.core.globs import Rule, compile_pattern, select


def fits(pattern: str, path: str) -> bool:
    return compile_pattern(pattern).fullmatch(path) is not None


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.txt", "a.txt"),
        ("*.txt", "deep/er/a.txt"),
        ("*.txt", ".hidden.txt"),
        ("a.txt", "x/a.txt"),
        ("/a.txt", "a.txt"),
        ("./a.txt", "a.txt"),
        ("x/*.txt", "x/a.txt"),
        ("x/**", "x/y/z"),
        ("**/z", "z"),
        ("**/z", "x/y/z"),
        ("x/**/z", "x/z"),
        ("x/**/z", "x/a/b/z"),
        ("**", "a/b"),
        ("cache/", "cache/a"),
        ("cache/", "x/cache/y/a"),
        ("x/cache/", "x/cache/a"),
        ("**.txt", "x/a.txt"),
        ("x/a**b", "x/a1/2b"),
        ("x/a**b", "x/ab"),
        ("data?.csv", "data1.csv"),
        ("[a-c].txt", "b.txt"),
        ("[!a-c].txt", "d.txt"),
        ("[]].txt", "].txt"),
        (r"\*.txt", "*.txt"),
        ("a[.txt", "a[.txt"),
        ("*a*a*", "aa"),
        ("*ab", "aab"),
        ("*", "line\nbreak"),
        ("***", "x/y"),
    ],
)
def test_a_pattern_fits(pattern: str, path: str) -> None:
    assert fits(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.txt", "a.txt.gz"),
        ("*.txt", "a.txt/b"),
        ("/a.txt", "x/a.txt"),
        ("x/*.txt", "x/y/a.txt"),
        ("x/*.txt", "y/x/a.txt"),
        ("x/**", "x"),
        ("x/**", "xy/z"),
        ("x/**/z", "xz"),
        ("cache/", "cache"),
        ("cache/", "mycache/a"),
        ("x/cache/", "y/x/cache/a"),
        ("*.TXT", "a.txt"),
        ("[a-c].txt", "/.txt"),
        ("[!a].txt", "x/.txt"),
        ("[z-a]", "z"),
        ("?", "ab"),
        (r"\*.txt", "a.txt"),
        ("a.txt", "abtxt"),
    ],
)
def test_a_pattern_does_not_fit(pattern: str, path: str) -> None:
    assert not fits(pattern, path)


def test_without_rules_everything_is_taken() -> None:
    assert select([]).takes("a/b")


def test_the_last_match_wins() -> None:
    rules = [Rule(False, "*.tmp"), Rule(True, "keep.tmp")]
    assert select(rules).takes("x/keep.tmp")
    assert not select(rules).takes("x/a.tmp")
    assert not select(reversed(rules)).takes("x/keep.tmp")


def test_a_first_include_leaves_the_rest_and_a_first_exclude_takes_it() -> None:
    assert not select([Rule(True, "*.bam")]).takes("a.txt")
    assert select([Rule(False, "*.bam")]).takes("a.txt")


def test_a_folder_that_is_excluded_whole_need_not_be_listed() -> None:
    assert select([Rule(False, "cache/")]).prunes("x/cache")
    assert select([Rule(False, "cache/")]).prunes("x/cache/deeper")
    assert select([Rule(False, "x/**")]).prunes("x")
    assert not select([Rule(False, "x/**"), Rule(True, "a.txt")]).prunes("x")
    assert not select([Rule(False, "*.txt")]).prunes("x")
    assert not select([Rule(True, "*.txt")]).prunes("x")


@pytest.mark.parametrize("pattern", ["", "/", "//", ".", "a/../b", "x" * 5000, "**a" * 9])
def test_a_pattern_that_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 40 + "b", "/**/a" * 40 + "/b", "**a" * 4 + "b", "[a]*" * 40 + "b", "*/" * 40 + "b"],
)
def test_matching_stays_quick_whatever_the_pattern(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    began = time.process_time()
    for path in ("a" * 255, "a/" * 1000 + "a", "/".join(["a" * 250] * 8)):
        compiled.fullmatch(path)
    assert time.process_time() - began < 2


def plain_fits(pattern: list[str], path: list[str]) -> bool:
    """The meaning of a pattern, name by name and without any wit."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return any(plain_fits(pattern[1:], path[i:]) for i in range(len(path) + 1))
    name = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern[0])
    return bool(path) and bool(re.fullmatch(name, path[0])) and plain_fits(pattern[1:], path[1:])


@given(
    st.lists(
        st.text("ab*?", min_size=1, max_size=4).filter(lambda s: "**" not in s) | st.just("**"),
        min_size=2,
        max_size=5,
    ),
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5),
)
def test_a_compiled_pattern_means_what_the_plain_reading_means(
    pattern: list[str], path: list[str]
) -> None:
    assert fits("/".join(pattern), "/".join(path)) == plain_fits(pattern, path)


@given(st.text("ab*", min_size=1, max_size=6), st.text("ab/", min_size=1, max_size=6))
def test_two_stars_inside_a_name_cross_slashes(pattern: str, path: str) -> None:
    path = "/".join(name for name in path.split("/") if name) or "a"
    anchored = f"/{pattern}"
    if set(pattern) == {"*"}:
        return
    plain = re.sub(r"\*{2,}", "\0", pattern).replace("*", "[^/]*").replace("\0", ".*")
    assert fits(anchored, path) == bool(re.fullmatch(plain, path))


@given(st.text() | st.text("[]!^-*?\\/ab."), st.text() | st.text("ab/.[]\\"))
def test_any_pattern_gives_an_answer_or_a_sentence(pattern: str, path: str) -> None:
    try:
        selection = select([Rule(True, pattern)])
    except PenstockError:
        return
    selection.takes(path)
    selection.prunes(path)
