"""Whether the head of an answer is of what was asked for. Pure: decided before a byte is kept."""

from __future__ import annotations

import re

from penstock.core.errors import AnswerUnusable, RemoteChanged
from penstock.core.model import Head, Headers, Request, validator_field
from penstock.core.units import whole_number

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})\Z")


def check_head(request: Request, status: int, headers: Headers) -> None:
    """Nothing, or the error that keeps a body away from its sink.

    Raises `RemoteChanged` where the file is not the one that was planned, `AnswerUnusable` where
    the answer is not what was asked for. Source: RFC 9110, section 15.3.7 (206 needs
    Content-Range) and 13.1.5 (If-Range that fails is answered with 200).
    """
    wanted = request.head
    if wanted is None:
        return
    what = f"{request.shown}"
    if headers.get("content-encoding", "identity") not in {"identity", ""}:
        raise AnswerUnusable(f"{what} came encoded as {headers['content-encoding']!r}, unasked")
    validator = headers.get(validator_field(wanted.validator))
    if wanted.validator is not None and validator is not None and validator != wanted.validator:
        raise RemoteChanged(f"{what}: the file changed while it was fetched (its ETag is another)")
    _check_extent(request, wanted, status, headers)


def _check_extent(request: Request, wanted: Head, status: int, headers: Headers) -> None:
    """Nothing, or the error where an answer is of another range, or another length."""
    what, validator = f"{request.shown}", headers.get(validator_field(wanted.validator))
    if request.is_unbounded:
        if status != 200:  # noqa: PLR2004
            raise AnswerUnusable(f"{what} is a part where the whole file was asked for")
        return
    whole = wanted.offset == 0 and wanted.length == wanted.total
    if status == 206:  # noqa: PLR2004
        match = _CONTENT_RANGE.match(headers.get("content-range", ""))
        if match is None:
            raise AnswerUnusable(f"{what} is a part without a readable Content-Range")
        first, last, total = (int(group) for group in match.groups())
        if total != wanted.total:
            raise RemoteChanged(f"{what}: the file has {total} bytes, not {wanted.total}")
        if first != wanted.offset or last != wanted.offset + wanted.length - 1:
            raise AnswerUnusable(f"{what} is another range: {first}-{last}")
    elif not whole:
        if wanted.validator is not None and validator is None:
            raise RemoteChanged(f"{what}: the file changed while it was fetched")
        raise AnswerUnusable(f"{what}: the storage sent the whole file where a range was asked for")
    length = whole_number(headers.get("content-length"))
    if length is not None and length != wanted.length:
        if whole and status == 200:  # noqa: PLR2004
            raise RemoteChanged(f"{what}: the file has {length} bytes, not {wanted.length}")
        raise AnswerUnusable(f"{what} announces {length} bytes in place of {wanted.length}")
