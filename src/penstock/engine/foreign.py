"""What foreign exceptions at the wire mean: the one place where one becomes an error of ours.

Nothing of a foreign exception's text is passed on that could quote a URL or a header field.
"""

from __future__ import annotations

import aiohttp

from penstock.core.errors import AnswerLost, AnswerUnusable, NotSent, PenstockError, Untrusted
from penstock.core.model import Request


def translated(error: BaseException, request: Request) -> PenstockError:
    """The error of ours that a foreign one means."""
    what = request.shown
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Untrusted(
            f"{what}: the certificate of {error.host} was refused"
            f" ({_why_untrusted(error.certificate_error)}). Where it is your institution's own, set"
            ' ca = "FILE" in the profile, or SSL_CERT_FILE'
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return NotSent(f"{what}: the TLS connection was refused ({type(error).__name__})")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return NotSent(
            f"{what}: the proxy refused to connect (status {error.status}); check HTTPS_PROXY,"
            " NO_PROXY, or proxy in the profile"
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return NotSent(
            f"{what}: no connection to the proxy ({error.strerror or type(error).__name__}); check"
            " HTTPS_PROXY, NO_PROXY, or proxy in the profile"
        )
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        reason = getattr(error, "strerror", None) or type(error).__name__
        return NotSent(f"{what}: no connection ({reason}); check the network and the endpoint")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | ValueError):
        return AnswerUnusable(f"{what}: it cannot be asked as it was described")
    if isinstance(error, TimeoutError):
        return AnswerLost(f"{what}: nothing came for too long", timed_out=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        return AnswerLost(f"{what}: the answer broke off")
    return AnswerLost(f"{what}: the connection broke ({type(error).__name__})")


def _why_untrusted(error: Exception) -> str:
    """What is wrong with a certificate, in OpenSSL's words."""
    return str(getattr(error, "verify_message", "") or type(error).__name__)
