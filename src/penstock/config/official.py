"""What Seven Bridges' own client would use: `SB_*` variables and `~/.sevenbridges/credentials`.

Read only where nothing nearer is set. A token is never sent to another endpoint than the one it
was written beside: that, not the profile's name, decides who may use it. A broken file is a
warning, since it is not ours and most runs do not need it.

Source: sevenbridges-python 2.11.2, `sevenbridges/config.py` (the file, its two keys, `[DEFAULT]`,
keys without values; the variables are read as a pair).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from penstock.config.endpoints import check_endpoint
from penstock.core.errors import ProfileError
from penstock.core.values import quick_value

_LARGEST_FILE = 1 << 20


@quick_value(frozen=True, slots=True)
class Credentials:
    """One section of the file, or the pair of variables. Either value may be ''."""

    name: str
    endpoint: str
    token: str

    def __repr__(self) -> str:
        return f"Credentials({self.name!r}, {self.endpoint!r}, token hidden)"


def from_environment(environ: Mapping[str, str], warnings: list[str]) -> Credentials:
    """`SB_API_ENDPOINT` and `SB_AUTH_TOKEN`; both '' where the endpoint makes no sense."""
    endpoint, token = environ.get("SB_API_ENDPOINT", ""), environ.get("SB_AUTH_TOKEN", "")
    if endpoint:
        try:
            endpoint = _endpoint(endpoint, "SB_API_ENDPOINT")
        except ProfileError as error:
            warnings.append(f"{error}; SB_API_ENDPOINT and SB_AUTH_TOKEN are not used")
            return Credentials("SB_*", "", "")
    return Credentials("SB_AUTH_TOKEN", endpoint, token)


def from_file(home: Path, warnings: list[str]) -> tuple[Credentials, ...]:
    """The sections of `~/.sevenbridges/credentials`, in order; none where there is no file."""
    path = home / ".sevenbridges" / "credentials"
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST_FILE).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError):
        warnings.append(f"{path} cannot be read, and is not used")
        return ()
    import configparser  # noqa: PLC0415 - few have such a file

    # Without interpolation, which would read a '%' in a token.
    parser = configparser.ConfigParser(allow_no_value=True, interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        # The error quotes the line, and the line may hold the token.
        warnings.append(f"{path} is no INI file (a section, then key = value), and is not used")
        return ()
    found = []
    for name in parser.sections():
        endpoint = parser.get(name, "api_endpoint", fallback=None) or ""
        token = parser.get(name, "auth_token", fallback=None) or ""
        if endpoint:
            try:
                endpoint = _endpoint(endpoint, f"api_endpoint under [{name}] in {path}")
            except ProfileError as error:
                warnings.append(f"{error}; [{name}] is not used")
                continue
        found.append(Credentials(name, endpoint, token))
    return tuple(found)


def choose(
    name: str, endpoint: str, environment: Credentials, sections: tuple[Credentials, ...]
) -> Credentials | None:
    """Whose token the profile `name` at `endpoint` may use; None where there is none.

    The variables first, then the section of the profile's name, then `[default]` and the others
    whose endpoint is this one, if they agree on the token.
    """
    usual = "https://api.sbgenomics.com/v2"
    if environment.token and (environment.endpoint or usual) == endpoint:
        return environment
    named = [c for c in sections if c.name == name and c.token and c.endpoint in ("", endpoint)]
    if named:
        return named[0]
    same = [c for c in sections if c.token and c.endpoint == endpoint]
    default = [c for c in same if c.name.lower() == "default"]
    if default:
        return default[0]
    return same[0] if len({c.token for c in same}) == 1 else None


def _endpoint(text: str, where: str) -> str:
    return check_endpoint(text, platform="sevenbridges", insecure=False, where=where)
