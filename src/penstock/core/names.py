"""Names from a platform as names that can be written here, and local names for a platform.

A platform may send any text as a name: `..`, `a/b`, a NUL, 300 bytes, one of our own part files.
`encode` maps each *one* name to *one* local name, which never leaves its folder; what cannot be
written is percent-encoded, everything else stays as it is. The map is injective: `decode` gives
back the very name, because a `%` that would read as one of our escapes is escaped itself (the `%20`
of `a%20b.txt` is none of ours and stays: ordinary names must not change). The one exception is a
name too long for a file system: it is cut, carries a digest that keeps it distinct, and `decode`
refuses it; the report has both names.

Whether two names meet on a file system that folds case or composition is a question for the file
system, not for this module.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from penstock.core.errors import NameRefused

# Bytes in one name on ext4, XFS, btrfs, NFS and (in UTF-16 units) APFS, NTFS.
# Source: NAME_MAX in Linux limits.h; Microsoft Learn, "Maximum Path Length Limitation".
LONGEST_NAME = 255

# What unfinished downloads are called: `.penstock-*.part`, next to where they will stand.
PART_PREFIX = ".penstock-"
PART_SUFFIX = ".part"

# '' has no character that could be escaped.
_EMPTY = "%empty"
_SHORTENED = re.compile(r"%~[0-9a-f]{32}(?:\.[0-9A-Za-z]{1,10}){0,2}\Z")
_EXTENSION = re.compile(r"(?:\.[0-9A-Za-z]{1,10}){1,2}\Z")

# Names that nothing need be done to, as most are; found in a fifth of the time of looking closer.
_ORDINARY = re.compile(rf"[0-9A-Za-z_][0-9A-Za-z_. +@=,~-]{{0,{LONGEST_NAME - 1}}}")

# Control characters (C0, DEL, C1), '/' and lone surrogates, which no UTF-8 can carry.
_UNWRITABLE = re.compile("[\x00-\x1f/\x7f-\x9f\ud800-\udfff]")
# Source: Microsoft Learn, "Naming Files, Paths, and Namespaces", section "Naming conventions".
_UNWRITABLE_WINDOWS = re.compile('[\x00-\x1f/\x7f-\x9f\ud800-\udfff<>:"|?*\\\\]')
_RESERVED_WINDOWS = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])[ ]*(?:\..*)?\Z",
    re.IGNORECASE | re.DOTALL,
)

# The escapes `encode` can write, and thus the only ones `decode` reads: C0, '%', '.', '/', DEL;
# in two UTF-8 bytes C1; in three, surrogates.
_MULTIBYTE = r"C2%[89][0-9A-F]|ED%[AB][0-9A-F]%[89AB][0-9A-F]"
_ESCAPE = re.compile(rf"%(?:[01][0-9A-F]|25|2E|2F|7F|{_MULTIBYTE})")
_ESCAPE_WINDOWS = re.compile(rf"%(?:[0-7][0-9A-F]|{_MULTIBYTE})")


def encode(name: str, *, windows: bool = False) -> str:
    """The local name of a remote one: never '', '.', '..', no '/', no control, ≤ 255 bytes.

    An ordinary name is returned as it is. Different names give different local names (of names
    longer than 255 bytes: but for a collision in 128 bits of SHA-256). `windows` adds what only
    Windows refuses.
    """
    if not windows and _ORDINARY.fullmatch(name):
        return name
    if not name:
        return _EMPTY
    escapes = _ESCAPE_WINDOWS if windows else _ESCAPE
    if name == _EMPTY or _SHORTENED.search(name):
        start = 0 if name == _EMPTY else name.rindex("%~")
        local = _encode_percents(name[:start], escapes) + "%25" + name[start + 1 :]
    else:
        local = _encode_percents(name, escapes)
    local = (_UNWRITABLE_WINDOWS if windows else _UNWRITABLE).sub(_escaped, local)
    if local in (".", ".."):
        local = local.replace(".", "%2E")
    elif _is_part_name(local):
        local = f"%2E{local[1:]}"
    if windows:
        local = _encode_for_windows(local)
    if len(local.encode()) > LONGEST_NAME:
        return _shortened(name, local)
    return local


def decode(local: str, *, windows: bool = False) -> str:
    """The remote name that `encode` turned into `local`; other names come back as they are.

    Raises `NameRefused` for a name that was cut: the digest in it does not give it back.
    """
    if local == _EMPTY:
        return ""
    if is_shortened(local):
        raise NameRefused(
            f"{local!r} stands for a name longer than {LONGEST_NAME} bytes and does not hold it;"
            " the report of the run that wrote it does"
        )
    return (_ESCAPE_WINDOWS if windows else _ESCAPE).sub(_unescaped, local)


def is_shortened(local: str) -> bool:
    """Whether `local` stands for a name that was too long, so that `decode` cannot give it back."""
    return _SHORTENED.search(local) is not None


def to_local(names: Iterable[str], *, windows: bool = False) -> tuple[str, ...]:
    """The parts of a relative local path for a file's remote folders and name, in that order."""
    return tuple(encode(name, windows=windows) for name in names)


def to_remote(name: str) -> str:
    """A local name as a platform is told it: the same text.

    Nothing is decoded: a local `a%2Fb` may have been called so by its owner. Raises `NameRefused`
    for what no platform can take: bytes that are not UTF-8 (surrogates, as `os.fsdecode` gives
    them), a NUL, and names that are no names.
    """
    if name in ("", ".", ".."):
        raise NameRefused(f"{name!r} is not the name of a file")
    if "\0" in name or "/" in name:
        raise NameRefused(f"the name {name!r} holds a character that no file name can")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise NameRefused(
            f"the name {name!r} is not UTF-8, so no platform can be told it; rename the file"
        ) from None
    return name


def is_part_file(local: str) -> bool:
    """Whether a local name is that of an unfinished download of ours."""
    return _is_part_name(local)


def _is_part_name(local: str) -> bool:
    # Folded: on macOS and Windows '.PENSTOCK-x.PART' is the same file.
    folded = local.casefold()
    return folded.startswith(PART_PREFIX) and folded.endswith(PART_SUFFIX)


def _encode_percents(text: str, escapes: re.Pattern[str]) -> str:
    """`text` with every '%' that begins an escape turned into '%25'."""
    # A look-ahead, so that escapes which overlap are all found.
    return re.sub(f"(?={escapes.pattern})%", "%25", text)


def _encode_for_windows(local: str) -> str:
    if _RESERVED_WINDOWS.match(local):
        local = f"%{ord(local[0]):02X}{local[1:]}"
    if local[-1] in ". ":
        local = f"{local[:-1]}%{ord(local[-1]):02X}"
    return local


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _unescaped(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "surrogatepass")


def _shortened(name: str, local: str) -> str:
    """As much of `local` as fits, a digest of `name`, and the extension, which tools go by."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    extension = _EXTENSION.search(local)
    tail = f"%~{digest}{extension[0] if extension else ''}"
    head = local.encode()[: LONGEST_NAME - len(tail)].decode("utf-8", "ignore")
    # An escape cut in two would read as a plain '%'; harmless, for nothing decodes this name.
    return head + tail
