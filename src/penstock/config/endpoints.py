"""An endpoint as configured → one spelling of an API root, or a sentence that says what is wrong.

Tokens go to what stands here, so it is checked before any is read: TLS unless the host is this
machine or the user insists, no password in it, and the version in the path where the platform's
API root has one.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit

from penstock.core.errors import ProfileError, UsageError
from penstock.core.locations import Url

_UNREADABLE = re.compile("[\x00-\x20\x7f-\x9f\ud800-\udfff\\\\]")
# A URL's host where nothing can stand before it.
_HOST_OF_HTTP = re.compile(r"[Hh][Tt][Tt][Pp]://([A-Za-z0-9.-]+)(?::[0-9]+)?(?=[/?#]|\Z)")
_VERSIONED = re.compile(r"/v[0-9]+\Z")

# What the API root of each platform ends in; DataMeta's may be found from the server's root.
# Source: Seven Bridges "API overview" (…/v2); Coscine "API" (…/coscine/api/v2); SURF Research
# Cloud "API" (…/v1); DataMeta REST documentation, "Versioning" (GET /api leads to /api/v1).
_VERSION_PATH = {"sevenbridges": "/v2", "coscine": "/coscine/api/v2", "surf": "/v1"}


def check_endpoint(text: str, *, platform: str, insecure: bool, where: str) -> str:
    """The API root without a trailing slash, scheme and host in lower case.

    `where` is what messages call the setting. Raises `ProfileError` for what is no http(s) URL of
    a host, for a user, password, query or fragment in it, for plain http beyond loopback without
    `insecure`, and for a missing version where the platform has one in its root.
    """
    example = f"https://HOST{_VERSION_PATH.get(platform, '/api/v1')}"
    url = text.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or _UNREADABLE.search(url) or parts.scheme not in ("http", "https"):
        raise ProfileError(f"{where} is no URL of an API root; write {example}")
    if "@" in parts.netloc:
        raise ProfileError(f"{where} holds a user or a password; leave it out, tokens go apart")
    if parts.query or parts.fragment:
        raise ProfileError(f"{where} holds a query or a fragment, which no API root has")
    if parts.scheme == "http" and not (insecure or is_loopback(host)):
        raise ProfileError(
            f"{where} is plain http to {host}: the token would travel in the clear; write https,"
            " or set insecure = true in the profile if that is meant"
        )
    path = parts.path.rstrip("/")
    if platform in _VERSION_PATH and not _VERSIONED.search(path):
        raise ProfileError(
            f"{where} lacks the version of the API, which the root of {platform} has: it ends in"
            f" {_VERSION_PATH[platform]}, as in {example}"
        )
    name = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, name if port is None else f"{name}:{port}", path, "", ""))


def check_url(location: Url) -> None:
    """Nothing, or `UsageError` for plain http to another machine: it proves nothing of itself."""
    if location.url.startswith("https://"):
        return
    usual = _HOST_OF_HTTP.match(location.url)
    if usual is not None and is_loopback(usual[1]):
        return
    parts = urlsplit(location.url)
    if parts.scheme.lower() == "http" and not is_loopback(parts.hostname or ""):
        raise UsageError(f"{location.redacted} is plain http to another machine; write https")


@lru_cache
def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name alone: `localhost`, 127.0.0.0/8, ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
