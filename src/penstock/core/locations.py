"""Where files are, as people write it: `PROFILE:PATH`, a local path, or a URL.

`parse` decides by the text alone; nothing is looked up. What stands before the first `:` is

* a known profile: the location is remote;
* one letter: a Windows drive, so the location is local;
* `http` or `https` before `//`: a URL;
* anything with a `/`, a dot or a space: no profile can be called so, the location is local;
* else a profile that is not known. That is an error, never a local file: a slip in a profile's
  name must not fill a local folder. `./NAME` writes such a local name.

`str()` of a location reads back as the same location. A path on a platform is kept as written
(`%2F` included) but for empty names between slashes, so that a location has one spelling; what
`%2F` means is the platform's to say, by `unescape`. A URL may be presigned: show `redacted`, never
`str()`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from penstock.core.errors import LocationError, ProfileError, redacted
from penstock.core.values import quick_value

# What a profile may be called; one letter is a Windows drive.
PROFILE_NAME = re.compile(r"[A-Za-z0-9_-]{2,64}")
_HEAD = re.compile(rf"({PROFILE_NAME.pattern}):")
_URL = re.compile(r"https?://", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What may stand behind `id=`.
ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@quick_value(frozen=True, slots=True)
class Remote:
    """A place on a platform. `path` has no slash at either end; '' is all the token can see.

    With `id` set, the place is the platform's file or folder of that id and `path` is ''.
    `folder_like`: it was written with a slash at its end, or is a profile alone.
    """

    profile: str
    path: str = ""
    id: str | None = None
    folder_like: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The path's names from the top, as written."""
        return tuple(self.path.split("/")) if self.path else ()

    def __str__(self) -> str:
        slash = "/" if self.folder_like and (self.path or self.id) else ""
        return f"{self.profile}:{self.path if self.id is None else f'id={self.id}'}{slash}"


@quick_value(frozen=True, slots=True)
class Local:
    """A local path, as written."""

    path: str

    @property
    def folder_like(self) -> bool:
        """Whether the text alone says that a folder is meant: `data/`, `.`, `..`."""
        return self.path in (".", "..") or self.path.endswith(("/", "/.", "/.."))

    def __str__(self) -> str:
        if _HEAD.match(self.path) or _URL.match(self.path):
            return f"./{self.path}"
        return self.path


@quick_value(frozen=True, slots=True)
class Url:
    """One file by its URL. Its query may be a credential: only `str()` gives it."""

    url: str

    @property
    def redacted(self) -> str:
        """The URL without its query: what may be shown."""
        return redacted(self.url)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Url({self.redacted!r})"


Location: TypeAlias = Remote | Local | Url


def shown(location: Location) -> str:
    """A location as it may be shown and kept: a URL without its query."""
    return location.redacted if isinstance(location, Url) else str(location)


def parse(text: str, profiles: Collection[str]) -> Location:
    """The location that `text` names, where `profiles` are the known ones.

    Raises `ProfileError` for what looks like a profile and is not known, and `LocationError` for
    what can name nothing: an empty text, a NUL, control characters outside local paths (where
    they are legal), `..` on a platform, a URL with a password or without a host.
    """
    if not text:
        raise LocationError("an empty location names nothing; '.' is the current folder")
    if "\0" in text:
        raise LocationError(f"the location {text!r} holds a NUL character")
    if _URL.match(text):
        return _parse_url(text)
    head = _HEAD.match(text)
    if head is None:
        return Local(text)
    profile, rest = head[1], text[head.end() :]
    if profile in profiles:
        return _parse_remote(text, profile, rest)
    if rest.startswith("//"):
        raise LocationError(
            f"{profile}:// is not a kind of URL penstock reads (https:// is); {_known(profiles)}"
        )
    raise ProfileError(
        f"unknown profile {profile!r} in the location {text!r}; {_known(profiles)}"
        f"{suggestion(profile, profiles)}; for a local file of that name write './{text}'"
    )


def is_url(text: str) -> bool:
    """Whether a location is meant as a URL; `parse` tells whether it is a sound one."""
    return _URL.match(text) is not None


def suggestion(word: str, known: Collection[str]) -> str:
    """`; did you mean 'cavatica'?` where one of `known` is close to `word`, else ''."""
    import difflib  # noqa: PLC0415 - for slips alone

    near = difflib.get_close_matches(word.lower(), [k.lower() for k in sorted(known)], n=1)
    named = [k for k in sorted(known) if near and k.lower() == near[0]]
    return f"; did you mean {named[0]!r}?" if named else ""


def unescape(name: str) -> str:
    """A name with `%2F` read as `/` and `%25` as `%`; other `%` stand for themselves."""
    return re.sub("%(2[Ff]|25)", lambda m: "%" if m[1] == "25" else "/", name)


def escape(name: str) -> str:
    """A name as it stands in a location of a platform that reads `%2F`: undone by `unescape`."""
    return name.replace("%", "%25").replace("/", "%2F")


def _known(profiles: Collection[str]) -> str:
    return f"known: {', '.join(sorted(profiles)) or 'none'}"


def _parse_remote(text: str, profile: str, rest: str) -> Remote:
    if _CONTROL.search(rest):
        raise LocationError(
            f"the location {text!r} holds a control character; name the file by id, or copy"
            " its folder"
        )
    if _SURROGATE.search(rest):
        raise LocationError(f"the location {text!r} is not UTF-8, so no platform can be told it")
    names = [name for name in rest.split("/") if name]
    folder_like = not names or rest.endswith("/")
    if names and names[0].startswith("id="):
        number = names[0].removeprefix("id=")
        if len(names) > 1 or not ID.fullmatch(number):
            raise LocationError(
                f"the location {text!r} should be {profile}:id=ID, the id of one file or folder"
                " and nothing below it"
            )
        return Remote(profile, "", number, folder_like)
    if "." in names or ".." in names:
        raise LocationError(f"the location {text!r} holds '.' or '..', which no platform knows")
    return Remote(profile, "/".join(names), None, folder_like)


# What most URLs of a manifest are: nothing in one of these can be wrong.
_USUAL = re.compile(r"https?://[A-Za-z0-9.-]+(?::(?:[0-9]{1,4}|[1-5][0-9]{4}))?(?:[/?#][!-~]*)?")


def _parse_url(text: str) -> Url:
    if _USUAL.fullmatch(text):
        return Url(text)
    if _CONTROL.search(text) or " " in text or _SURROGATE.search(text):
        raise LocationError("a URL holds a space or a control character; percent-encode it")
    parts = _split(text)
    if parts is None or not parts.hostname:
        raise LocationError("a URL has no host that can be read; write https://HOST/PATH")
    if "@" in parts.netloc:
        raise LocationError(
            f"the URL of {parts.hostname} holds a user or a password, which others would log; leave"
            " it out"
        )
    return Url(text)


def _split(url: str) -> SplitResult | None:
    """The URL's parts, or None where its host or port cannot be read."""
    try:
        parts = urlsplit(url)
        # Both are parsed on access, and raise.
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return parts
