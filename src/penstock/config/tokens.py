"""Tokens: where they come from, and a value that does not let itself be printed.

A `TokenSource` says where a token is; `read` fetches it when a profile is used, and may fetch
another one later where the source can change under a run (`rereadable`). A `Token` shows itself to
`reveal` alone: not to `repr`, `str`, `format`, pickle or an exception's message.

The key ring is asked in a process of its own, without a terminal or standard input, and ended
after 4 s: back ends differ in how they ask for a password and none can be told not to. Nothing
here may raise with a foreign exception's text, which could quote what was read.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias, final

from penstock.core.errors import ProfileError
from penstock.core.values import quick_value

# The contract gives the key ring 5 s in all; the rest is for starting and saying so.
KEYRING_TIMEOUT_S = 4.0
# No token of a platform is longer (JSON web tokens stay below the 8 KiB most servers take).
_LONGEST_TOKEN = 16_384
_FINGERPRINT = b"penstock token fingerprint 1\0"
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_FORM = re.compile(r"(env|keyring|file):(.*)", re.DOTALL)
_ODD_FORM = re.compile(r"[A-Za-z]{2,12}:")

# Its only output is one JSON object. Exceptions are told apart by class, never quoted.
_ASK_KEYRING = """
import json, sys
try:
    import keyring, keyring.errors as e
except ImportError:
    answer = {"fault": "missing"}
else:
    try:
        answer = {"token": keyring.get_password(sys.argv[1], sys.argv[2])}
    except e.NoKeyringError:
        answer = {"fault": "absent"}
    except (e.KeyringLocked, e.InitError):
        answer = {"fault": "locked"}
    except BaseException:
        answer = {"fault": "failed"}
sys.stdout.write("\\n" + json.dumps(answer))
"""
_KEYRING_FAULTS = {
    "missing": "the package keyring is not installed: pip install 'penstock[keyring]'",
    "absent": "there is no key ring on this machine; use file: or env: instead",
    "locked": "the key ring is locked; unlock it and run the command again, or use file: or env:",
    "failed": "the key ring could not be read; unlock it, or use file: or env: instead",
}

Kind: TypeAlias = Literal["none", "literal", "env", "credentials", "file", "keyring"]


@final
class Token:
    """A secret. Equal to a token of the same text; compared in constant time."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for a request's header field, and for nothing else."""
        return self._text

    def fingerprint(self) -> str:
        """64 hex digits that tell tokens apart and cannot be turned back: what may be stored."""
        return hashlib.sha256(_FINGERPRINT + self._bytes()).hexdigest()

    def _bytes(self) -> bytes:
        return self._text.encode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return hmac.compare_digest(self._bytes(), other._bytes())

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        return "<Token, hidden>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a token is not pickled or copied")


@quick_value(frozen=True, slots=True)
class TokenSource:
    """Where a profile's token comes from. `where` is a variable, a path, SERVICE/USER; no secret.

    `missing` is what to say where there is none; `label` what messages call the token.
    """

    kind: Kind = "none"
    where: str = ""
    label: str = "the token"
    missing: str = "there is no token"
    _token: Token | None = field(default=None, repr=False)
    _environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def rereadable(self) -> bool:
        """Whether it may hold another token later, so that it is worth reading after a 401."""
        return self.kind in ("file", "keyring")

    def read(self) -> Token:
        """The token, as it is now. Blocks: on a file, or up to 4 s on a key ring.

        Raises `ProfileError` with what to do where there is none, where it cannot be read, or
        where what was read cannot stand in a header field.
        """
        match self.kind:
            case "file":
                text = self._read_file()
            case "keyring":
                text = self._read_keyring()
            case _:
                if self._token is None:
                    raise ProfileError(self.missing)
                text = self._token.reveal()
        text = text.strip()
        if not text:
            raise ProfileError(f"{self.label} ({self._origin()}) is empty")
        if not _VISIBLE.fullmatch(text) or len(text) > _LONGEST_TOKEN:
            raise ProfileError(
                f"{self.label} ({self._origin()}) holds spaces or characters that no token has;"
                " it should be the token alone, on one line"
            )
        return Token(text)

    def _origin(self) -> str:
        if self.kind == "literal":
            return "in the configuration"
        return self.where if self.kind == "credentials" else f"{self.kind}:{self.where}"

    def _read_file(self) -> str:
        try:
            with Path(self.where).open("rb") as stream:
                return stream.read(_LONGEST_TOKEN + 64).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ProfileError(
            f"{self.label} cannot be read from file:{self.where}: {why}; write the token there, or"
            " change the profile's token"
        )

    def _read_keyring(self) -> str:
        service, _, user = self.where.rpartition("/")
        paths = os.pathsep.join(path for path in sys.path if path)
        # -P: a keyring.py in the current folder is not the package.
        command = [sys.executable, "-P", "-c", _ASK_KEYRING, service, user]
        try:
            asked = subprocess.run(  # noqa: S603 - our own interpreter and program
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**self._environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"},
                # A session of its own has no terminal to prompt on.
                start_new_session=True,
                timeout=KEYRING_TIMEOUT_S,
                check=False,
            )
            answer = json.loads(asked.stdout.rpartition(b"\n")[2])
        except subprocess.TimeoutExpired:
            answer = {"fault": "locked"}
        except (OSError, ValueError):
            answer = {"fault": "failed"}
        fault = answer.get("fault")
        if fault is not None:
            raise ProfileError(f"{self.label} (keyring:{self.where}): {_KEYRING_FAULTS[fault]}")
        token = answer.get("token")
        if not token:
            raise ProfileError(
                f"{self.label}: the key ring holds nothing for service {service!r} and user"
                f" {user!r}; store it with: keyring set {service} {user}"
            )
        return str(token)


def parse_source(
    text: str, *, label: str, environ: Mapping[str, str], home: Path, folder: Path
) -> TokenSource:
    """The source that `env:NAME`, `keyring:SERVICE/USER`, `file:PATH` or a literal token names.

    A relative PATH is below `folder`, `~` is `home`. `label` is what messages call it. Raises
    `ProfileError` for another form, without quoting it: it may be a token.
    """
    form = _FORM.fullmatch(text.strip())
    if form is None:
        if _ODD_FORM.match(text.strip()):
            raise ProfileError(
                f"{label} has a form nobody knows; the forms are env:NAME, keyring:SERVICE/USER and"
                " file:PATH"
            )
        return TokenSource("literal", "", label, _token=Token(text))
    kind, where = form.groups()
    if kind == "env":
        missing = f"{label} should stand in the environment variable {where}, which is not set"
        value = environ.get(where) or None
        return TokenSource("env", where, label, missing, None if value is None else Token(value))
    if kind == "keyring":
        service, _, user = where.rpartition("/")
        if not service or not user or "\0" in where:
            raise ProfileError(f"{label} should be keyring:SERVICE/USER")
        return TokenSource("keyring", where, label, _environ=environ)
    if not where or "\0" in where:
        raise ProfileError(f"{label} should be file:PATH")
    return TokenSource("file", str(expanded(where, home=home, folder=folder)), label)


def given(text: str, *, variable: str, label: str) -> TokenSource:
    """The source of a token that stands itself in the environment variable `variable`."""
    return TokenSource("env", variable, label, _token=Token(text))


def credential(text: str, *, place: str, label: str) -> TokenSource:
    """The source of a token that another program's file holds; `place` names it."""
    return TokenSource("credentials", place, label, _token=Token(text))


def lacking(missing: str, *, label: str) -> TokenSource:
    """The source of no token; `missing` is the sentence that `read` raises with."""
    return TokenSource("none", "", label, missing)


def relabelled(source: TokenSource, label: str) -> TokenSource:
    """The same source under another name for messages."""
    return replace(source, label=label)


def expanded(path: str, *, home: Path, folder: Path) -> Path:
    """A path with `~` as `home`, relative ones below `folder`."""
    if path == "~" or path.startswith("~/"):
        return home / path[2:]
    return folder / path
