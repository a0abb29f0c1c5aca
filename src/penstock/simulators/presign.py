"""Presigned URLs that look like S3's or Google's: bound to method, path, headers and expiry.

The query has the names a client may parse; the signature itself is an HMAC of our own, because no
client checks it. Nothing here knows what lies behind a path.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from urllib.parse import quote, urlencode

SignatureStyle = Literal["sigv4", "sigv2", "google"]

_STAMP = "%Y%m%dT%H%M%SZ"


class Lease(NamedTuple):
    """A presigned URL and when it expires, epoch seconds of the server's clock."""

    url: str
    expires_at: int


class Denial(NamedTuple):
    """Why a storage does not accept a signature: S3's code and message."""

    code: str
    message: str


class Signer:
    """Makes and judges presigned URLs.

    Source: AWS S3 API reference, "Authenticating requests: using query parameters"; Google Cloud
    Storage, "Signed URLs". SigV2 (`Expires` as epoch seconds) is what the Seven Bridges API
    reference shows under "Get download URL for a file".
    """

    def __init__(self, secret: bytes, style: SignatureStyle) -> None:
        self.style = style
        self._secret = secret

    def sign(
        self,
        *,
        base: str,
        method: str,
        path: str,
        now: float,
        lifetime_s: float,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Lease:
        """Return a URL for one method and path that expires `lifetime_s` after `now`."""
        start, lasts = int(now), int(lifetime_s)
        values = dict(query or {})
        names = ";".join(sorted({"host", *(name.lower() for name in headers or {})}))
        if self.style == "sigv2":
            values |= {"AWSAccessKeyId": "AKIASIMULATOR", "Expires": str(start + lasts)}
            values["Signature"] = self._signature(method, path, values, names, headers or {})
        else:
            x = "X-Amz" if self.style == "sigv4" else "X-Goog"
            algorithm = "AWS4-HMAC-SHA256" if self.style == "sigv4" else "GOOG4-RSA-SHA256"
            stamp = datetime.fromtimestamp(start, UTC).strftime(_STAMP)
            values |= {
                f"{x}-Algorithm": algorithm,
                f"{x}-Credential": f"AKIASIMULATOR/{stamp[:8]}/us-east-1/s3/aws4_request",
                f"{x}-Date": stamp,
                f"{x}-Expires": str(lasts),
                f"{x}-SignedHeaders": names,
            }
            values[f"{x}-Signature"] = self._signature(method, path, values, names, headers or {})
        return Lease(f"{base}{path}?{urlencode(values, quote_via=quote)}", start + lasts)

    def judge(
        self,
        *,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        now: float,
    ) -> Denial | None:
        """Return why a request is denied, or nothing where its signature holds."""
        values = dict(query)
        x = "X-Amz" if self.style == "sigv4" else "X-Goog"
        given = values.pop("Signature" if self.style == "sigv2" else f"{x}-Signature", None)
        if given is None:
            return Denial("AccessDenied", "Access Denied")
        names = "host" if self.style == "sigv2" else values.get(f"{x}-SignedHeaders", "")
        try:
            expires_at = self._expiry(values)
        except ValueError:
            return Denial("AuthorizationQueryParametersError", "A query parameter is malformed")
        if not hmac.compare_digest(given, self._signature(method, path, values, names, headers)):
            return Denial(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            )
        if now >= expires_at:
            return Denial("AccessDenied", "Request has expired")
        return None

    def _expiry(self, query: Mapping[str, str]) -> int:
        if self.style == "sigv2":
            return int(query.get("Expires", ""))
        x = "X-Amz" if self.style == "sigv4" else "X-Goog"
        start = datetime.strptime(query.get(f"{x}-Date", ""), _STAMP).replace(tzinfo=UTC)
        return int(start.timestamp()) + int(query.get(f"{x}-Expires", ""))

    def _signature(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        names: str,
        headers: Mapping[str, str],
    ) -> str:
        by_lower = {name.lower(): value for name, value in headers.items()}
        signed = [f"{n}:{by_lower.get(n, '')}" for n in names.split(";") if n != "host"]
        text = "\n".join(
            [method, path, urlencode(sorted(query.items()), quote_via=quote), names, *signed]
        )
        digest = hmac.digest(self._secret, text.encode(), hashlib.sha256)
        return base64.b64encode(digest[:20]).decode() if self.style == "sigv2" else digest.hex()
