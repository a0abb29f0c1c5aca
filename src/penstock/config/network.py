"""How hosts are reached: whose certificates are believed besides the system's, and by which proxy.

Values, read from a profile and the environment. A proxy is for `https:` alone, where it is asked
to connect (CONNECT) and sees neither token nor bytes; what is plain http goes straight, so that no
token passes a proxy in the clear. This machine's own hosts are never reached by a proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from urllib.parse import urlsplit

from penstock.core.errors import ProfileError
from penstock.core.values import quick_value

_STRAIGHT = "none"
# Source: curl(1), "ENVIRONMENT": small letters win, and a proxy for all is the last to be asked.
_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


@quick_value(frozen=True, slots=True)
class Network:
    """`ca` is a file of certificates (PEM), `proxy` a URL that may hold a password.

    `straight` is what `NO_PROXY` says: hosts, by their ends, that are reached without a proxy.
    """

    ca: str | None = None
    proxy: str | None = field(default=None, repr=False)
    straight: str = ""


def from_environment(environ: Mapping[str, str], warnings: list[str]) -> Network:
    """What the environment says: `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case.

    A proxy penstock cannot use is a warning: other programs may want it.
    """
    straight = next((environ[name] for name in _EXCEPTIONS if environ.get(name)), "")
    for name in _VARIABLES:
        text = environ.get(name, "").strip()
        if not text:
            continue
        try:
            return Network(None, check_proxy(text, name), straight)
        except ProfileError as error:
            warnings.append(f"{error}; it is not used")
            break
    return Network(None, None, straight)


def of_profile(
    table: Mapping[str, object],
    key: Callable[[str], str],
    around: Network,
    expanded: Callable[[str], str],
) -> Network:
    """A profile's `ca` and `proxy` over what the environment says.

    `key` names a setting in messages, `expanded` makes a path of what was written. Raises
    `ProfileError`.
    """
    ca, proxy = table.get("ca"), table.get("proxy")
    for name, value in (("ca", ca), ("proxy", proxy)):
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise ProfileError(f"{key(name)} must be a text in quotes, and not empty")
    chosen, straight = around.proxy, around.straight
    if isinstance(proxy, str):
        chosen = None if proxy.strip() == _STRAIGHT else check_proxy(proxy, key("proxy"))
        straight = ""
    return Network(expanded(ca) if isinstance(ca, str) else around.ca, chosen, straight)


def check_proxy(text: str, where: str) -> str:
    """A proxy's URL, `http://` where it names no scheme. Raises `ProfileError`; quotes nothing."""
    url = text.strip()
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018 - read for its ValueError
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or parts.scheme not in {"http", "https"} or not url.isprintable() or " " in url:
        raise ProfileError(f"{where} is no proxy that can be used; write http://HOST:PORT")
    return url
