"""Times as platforms write them, as epoch seconds. What cannot be read is None, never a guess."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import parse_qs, urlsplit


def url_expires_at(url: str) -> float | None:
    """When a presigned URL ends, by the signing server's clock (epoch seconds); None: unsaid.

    Source: Amazon S3, "Authenticating requests: query parameters" (X-Amz-Date, X-Amz-Expires) and
    its predecessor (Expires); Google Cloud Storage, "Signed URLs" (X-Goog-Date, X-Goog-Expires).
    """
    try:
        query = {name.lower(): values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    except ValueError:
        return None
    for vendor in ("amz", "goog"):
        began, lasts = query.get(f"x-{vendor}-date"), query.get(f"x-{vendor}-expires")
        if began and lasts and re.fullmatch("[0-9]{1,12}", lasts):
            try:
                start = datetime.strptime(began, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            except ValueError:
                continue
            return start.timestamp() + int(lasts)
    plain = query.get("expires", "")
    return float(plain) if re.fullmatch("[0-9]{1,12}", plain) else None


# "Sun, 06 Nov 1994 08:49:37 GMT", its two older forms, and what clients have been seen to send.
_BEGINS_AS_A_DATE = re.compile(r"\s*[A-Za-z]{3,9},? ")


@lru_cache(maxsize=64)
def http_date(text: str) -> float | None:
    """A date of a header field as epoch seconds; None where it is none.

    All answers of a second carry the same. Source: RFC 9110, section 5.6.7.
    """
    if not _BEGINS_AS_A_DATE.match(text):
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def when(value: object) -> float | None:
    """An ISO 8601 time as epoch seconds; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
