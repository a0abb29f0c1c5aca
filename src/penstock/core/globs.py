r"""Which files of a tree are meant: `--include` and `--exclude`, where the last match wins.

A pattern is held against a file's path below SOURCE, with `/` on every system, case and all:

* `*` any characters but `/`, `?` one, `[a-z]` `[!a-z]` one of a set, `\` takes the next literally;
* `**` any characters, `/` included; between slashes also none, so `a/**/b` matches `a/b`;
* without a `/`, the pattern matches the last name at any depth; with one, the whole path; a
  leading `/` only says the latter;
* with a trailing `/`, it matches a folder: everything below it.

Where no pattern matches, a file is taken if the first rule is an exclude (or there is none), and
left if it is an include.

Patterns come from strangers' scripts and names from strangers' platforms, so matching must stay
polynomial of a low degree. A star is therefore compiled with what follows it into an atomic group
that takes the first fit: for globs, unlike for regular expressions, the first fit is never worse
than a later one. Do not add alternatives or nesting here, for which that does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field

from penstock.core.errors import UsageError
from penstock.core.values import quick_value

# A path is at most 4,096 bytes on Linux (PATH_MAX, limits.h); a longer pattern matches nothing.
LONGEST_PATTERN = 4096
# Each `**` inside a name doubles the expressions tried.
_MOST_INNER_DOUBLE_STARS = 4
_STAR = "*"


@quick_value(frozen=True, slots=True)
class Rule:
    """One `--include` (`include=True`) or `--exclude`, in the order of the command line."""

    include: bool
    pattern: str


@quick_value(frozen=True, slots=True)
class Selection:
    """The rules of one command, compiled. Raises `UsageError` for a pattern that means nothing."""

    rules: tuple[Rule, ...] = ()
    _compiled: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        compiled = tuple(compile_pattern(rule.pattern) for rule in self.rules)
        object.__setattr__(self, "_compiled", compiled)

    def takes(self, path: str) -> bool:
        """Whether the file at `path`, relative and with `/`, is meant."""
        for rule, pattern in zip(reversed(self.rules), reversed(self._compiled), strict=True):
            if pattern.fullmatch(path):
                return rule.include
        return not self.rules or not self.rules[0].include

    def prunes(self, folder: str) -> bool:
        """Whether nothing below `folder` can be meant, so that it need not be listed.

        May say False where True would hold; the reverse never. `folder` has no trailing slash.
        """
        for rule, pattern in zip(reversed(self.rules), reversed(self._compiled), strict=True):
            if rule.include:
                return False
            # Only what ends in `/` or `/**` covers all below; a probe name stands for "all".
            if _covers_folders(rule.pattern) and pattern.fullmatch(f"{folder}/x"):
                return True
        return False


def select(rules: Iterable[Rule]) -> Selection:
    """The selection that `rules`, in order, make. Raises `UsageError`."""
    return Selection(tuple(rules))


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """An expression whose `fullmatch` says whether a relative path fits. Raises `UsageError`."""
    if len(pattern) > LONGEST_PATTERN:
        raise UsageError(f"a pattern of {len(pattern)} characters is longer than any path")
    segments = _segments(pattern)
    variants = [segments]
    inner = sum(1 for segment in segments for run in _double_stars(segment) if run)
    if inner > _MOST_INNER_DOUBLE_STARS:
        raise UsageError(f"the pattern {pattern!r} has too many '**' inside names")
    for _ in range(inner):
        variants = [variant for before in variants for variant in _without_inner_star(before)]
    return re.compile("|".join(f"(?:{_path_expression(v)})" for v in variants), re.DOTALL)


def _covers_folders(pattern: str) -> bool:
    plain = pattern.endswith(("/", "/**")) and not pattern.endswith(("\\/", "\\/**"))
    return plain or pattern == "**"


def _segments(pattern: str) -> tuple[str, ...]:
    """The names of a pattern; `**` goes before one that fits at any depth, behind a folder."""
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    if not names:
        raise UsageError(f"the pattern {pattern!r} names nothing")
    if ".." in names:
        raise UsageError(f"the pattern {pattern!r} leaves the folder: '..' matches nothing")
    folder = pattern.endswith("/")
    anchored = "/" in pattern.removesuffix("/")
    if not anchored:
        names.insert(0, "**")
    if folder:
        names.append("**")
    return tuple(re.sub(r"\A\*{3,}\Z", "**", name) for name in names)


def _double_stars(segment: str) -> list[str]:
    """The runs of two stars and more inside a name; none where the name is nothing else."""
    if segment == "**":
        return []
    return re.findall(r"\*{2,}", re.sub(r"\\.", "..", segment, flags=re.DOTALL))


def _without_inner_star(segments: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The two readings of the first `**` inside a name: within this name, or over several."""
    for position, segment in enumerate(segments):
        if _double_stars(segment):
            blanked = re.sub(r"\\.", "..", segment, flags=re.DOTALL)
            run = re.search(r"\*{2,}", blanked)
            assert run is not None
            head, tail = segment[: run.start()] + _STAR, _STAR + segment[run.end() :]
            before, after = segments[:position], segments[position + 1 :]
            return [(*before, head + tail[1:], *after), (*before, head, "**", tail, *after)]
    return [segments]


def _path_expression(segments: tuple[str, ...]) -> str:
    """An expression for whole paths.

    Between two `**` stand names in a fixed number: the first place they fit is taken for good
    (atomic); those after the last `**` are tried at the path's end only.
    """
    runs: list[list[str]] = [[]]
    for segment in segments:
        if segment == "**":
            runs.append([])
        else:
            runs[-1].append(_name_expression(segment))
    if len(runs) == 1:
        return "/".join(runs[0])
    expression = "".join(f"{name}/" for name in runs[0])
    for run in runs[1:-1]:
        if run:
            expression += f"(?>(?:[^/]*/)*?{''.join(f'{name}/' for name in run)})"
    last = "/".join(runs[-1])
    return expression + (f"(?:[^/]*/)*{last}" if last else ".+")


def _name_expression(segment: str) -> str:
    """An expression for one name; each star goes with the fixed text after it, first fit."""
    pieces: list[str] = [""]
    position = 0
    while position < len(segment):
        character = segment[position]
        position += 1
        if character == _STAR:
            if pieces[-1] or len(pieces) == 1:
                pieces.append("")
        elif character == "?":
            pieces[-1] += "[^/]"
        elif character == "[":
            token, position = _set_expression(segment, position)
            pieces[-1] += token
        else:
            if character == "\\" and position < len(segment):
                character = segment[position]
                position += 1
            pieces[-1] += re.escape(character)
    if len(pieces) == 1:
        return pieces[0]
    middle = "".join(f"(?>[^/]*?{piece})" for piece in pieces[1:-1])
    # The last piece must end the name, so here the last fit is the one that counts.
    return f"{pieces[0]}{middle}[^/]*{pieces[-1]}(?![^/])"


def _set_expression(segment: str, start: int) -> tuple[str, int]:
    """The expression of a `[…]` opened before `start`, and where it ends; unclosed: a plain '['."""
    negated = segment[start : start + 1] in ("!", "^")
    first = start + negated
    # A ']' in first place is a member. Source: POSIX.1-2017, XBD 9.3.5 and XCU 2.13.1.
    end = segment.find("]", first + 1)
    if end < 0:
        return re.escape("["), start
    members = segment[first:end]
    ranges: list[str] = []
    position = 0
    while position < len(members):
        low = high = members[position]
        if members[position + 1 : position + 2] == "-" and position + 2 < len(members):
            high = members[position + 2]
            position += 2
        position += 1
        if low <= high:
            ranges.append(re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}")
    if not ranges:
        return ("[^/]" if negated else "(?!)"), end + 1
    return f"(?!/)[{'^' if negated else ''}{''.join(ranges)}]", end + 1
