"""How an object store answers: errors in XML, ranges, conditions. Pure.

Source, unless said otherwise: AWS S3 API reference, "Error responses" and "GetObject".
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from xml.sax.saxutils import escape

from penstock.simulators.content import Bytes, Content
from penstock.simulators.host import Reply


def error_reply(status: int, code: str, message: str) -> Reply:
    """Return an error as S3 writes it, in XML."""
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>"
        "<RequestId>0A49CE4060975EAC</RequestId></Error>"
    )
    headers = {"Content-Type": "application/xml"}
    return Reply(status=status, headers=headers, body=Bytes(text.encode()))


def still_same(if_range: str | None, etag: str | None, modified_at: float) -> bool:
    """Return whether an If-Range holds: absent, this ETag, or no older than this object."""
    if if_range is None or if_range == etag:
        return True
    if if_range.startswith(('"', "W/")):
        return False
    try:
        return parsedate_to_datetime(if_range).timestamp() >= int(modified_at)
    except ValueError:
        return False


def ranged_reply(
    content: Content, wanted: str, headers: Mapping[str, str], *, shift: int = 0
) -> Reply:
    """Return the part of a content a Range header asks for; all of it for what is no one range.

    shift: by how many bytes to be wrong.

    Source: RFC 9110, section 14.2 "Range" and 15.5.17 "416 Range Not Satisfiable".
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted.strip())
    if match is None or match[0].endswith("=-"):
        return Reply(headers=headers, body=content)
    size = content.size
    if match[1]:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        nonsense = bool(match[2]) and int(match[2]) < first
        if nonsense:
            return Reply(headers=headers, body=content)
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first > last:
        refusal = error_reply(416, "InvalidRange", "The requested range is not satisfiable")
        return Reply(
            status=416,
            headers={**refusal.headers, "Content-Range": f"bytes */{size}"},
            body=refusal.body,
        )
    if shift and last + shift < size:
        first, last = first + shift, last + shift
    elif shift:
        first, last = max(0, first - shift), max(0, last - shift)
    return Reply(
        status=206,
        headers={**headers, "Content-Range": f"bytes {first}-{last}/{size}"},
        body=content,
        offset=first,
        length=last - first + 1,
    )
