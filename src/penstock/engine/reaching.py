"""What a connection is made with: the certificates that are believed, and the proxy, if any.

Certificates are always verified; there is no setting that says otherwise.
"""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit

from penstock.config import Network, is_loopback
from penstock.core.errors import ProfileError


def trusting(network: Network) -> ssl.SSLContext | bool:
    """The system's certificates and those of `ca`; True: the system's alone. Blocks.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` of the process are OpenSSL's own to read, and name what takes
    the place of the system's. Raises `ProfileError` for a file that holds no certificate.
    """
    if network.ca is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=network.ca)
    except ssl.SSLError:
        raise ProfileError(f"ca names {network.ca}, which holds no certificate (PEM)") from None
    except OSError as error:
        raise ProfileError(
            f"ca names {network.ca}, which cannot be read: {error.strerror}"
        ) from None
    return context


def proxy_for(network: Network, url: str) -> str | None:
    """The proxy a URL is asked by: for https alone, and never for this machine itself."""
    if network.proxy is None:
        return None
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme != "https" or not host or is_loopback(host):
        return None
    # For proxies alone, and slow to import. Not in typeshed.
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # noqa: PLC0415

    named = host if parts.port is None else f"{host}:{parts.port}"
    if network.straight and (
        proxy_bypass_environment(named, {"no": network.straight}) or _within(host, network.straight)
    ):
        return None
    return network.proxy


def _within(host: str, straight: str) -> bool:
    """Whether a host is an address of one of the networks, as in `10.0.0.0/8`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in straight.split(","):
        try:
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False
