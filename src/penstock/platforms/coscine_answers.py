"""What Coscine answers: envelopes, pages, quotas in units, and what its errors mean.

Everything foreign is read here and in `coscine_places`, field by field. What the server may say in
several ways (an envelope that failed, ProblemDetails, an empty body, a gateway's HTML) means what
its status means; its `traceId`, by which Coscine's support finds a request, is kept in messages.

Source of all shapes: the OpenAPI models of the official client, coscine 0.12.2 on PyPI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from penstock.core.errors import AnswerUnusable, ExchangeError, Refused
from penstock.core.model import NO_AUTH, Request, Response
from penstock.core.values import quick_value
from penstock.platforms.base import TRANSIENT, JsonObject, storage_refusal

# How a request over the quota is refused is not documented ("may be ignored for some time"): 429
# is the likeliest, and a gateway in front says 503. Source: Coscine "API", "Rate limiting".
_OVER_QUOTA = frozenset((429, 503))

# Source: `QuotaUnit` in the OpenAPI models: QUDT units, powers of 1024. Their decimal siblings are
# read as well, in case a server counts so.
_UNIT = re.compile(
    r"(?:^|.*/)(?:(kibi|mebi|gibi|tebi|pebi|kilo|mega|giga|tera|peta)?)byte\Z", re.IGNORECASE
)
_POWERS = "kmgtp"


@quick_value(frozen=True, slots=True)
class Paged:
    """The entries of one page, the next page's number where there is one, and the whole count."""

    entries: tuple[JsonObject, ...]
    next: str | None
    total: int | None


def envelope(response: Response, what: str) -> JsonObject:
    """The outer object of an answer.

    Raises `Refused` where it says itself that it failed, whatever its HTTP status was, and
    `AnswerUnusable` where it is no object.
    """
    outer = JsonObject.of(response, what)
    if outer.get("isSuccess") is False:
        status = outer.whole_or_none("statusCode") or response.status
        raise Refused(
            f"{what}: {status}{_told(response)}", status=status, retry=status in TRANSIENT
        )
    return outer


def content(response: Response, what: str) -> JsonObject:
    """The object in an answer's `data`. Raises as `envelope` does."""
    inner = envelope(response, what).object_or_none("data")
    if inner is None:
        raise AnswerUnusable(f"{what}: the answer has no object 'data'")
    return inner


def paged(response: Response, number: int, what: str) -> Paged:
    """Page `number` of a listing; what follows it is the server's to say.

    A server that gives fewer entries a page than asked for counts its pages by its own size, and
    is asked alike for each, so its page numbers stay whole.
    """
    outer = envelope(response, what)
    entries = tuple(outer.objects("data"))
    pages = outer.object_or_none("pagination") or JsonObject({}, what)
    total = pages.whole_or_none("totalCount")
    current = pages.whole_or_none("currentPage") or number
    more = pages.get("hasNext")
    if not isinstance(more, bool):
        last, size = pages.whole_or_none("totalPages"), pages.whole_or_none("pageSize")
        if last is not None:
            more = current < last
        else:
            more = total is not None and current * (size or len(entries)) < total
    return Paged(entries, str(number + 1) if more and entries else None, total)


def quota_bytes(value: JsonObject | None) -> int | None:
    """A quota `{"value", "unit"}` in bytes; None where it is not there, or in no unit known."""
    if value is None:
        return None
    amount, unit = value.get("value"), value.get("unit")
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount >= 0:
        return None
    found = _UNIT.match(unit) if isinstance(unit, str) else None
    if found is None or amount == float("inf"):
        return None
    prefix = (found[1] or "").lower()
    if not prefix:
        return int(amount)
    base = 1024 if prefix.endswith("bi") else 1000
    return int(amount * base ** (_POWERS.index(prefix[0]) + 1))


def room_left(quota: JsonObject) -> int | None:
    """Bytes that fit into a resource, by its quota: what is reserved for it, less what is used.

    None where the quota does not say. Source: `ResourceQuotaDto`: used, reserved, versions (old
    versions of files on DataStorage.nrw, which use quota too; Coscine "Versioning").
    """
    reserved = quota_bytes(quota.object_or_none("reserved"))
    if not reserved:
        return None
    used = quota_bytes(quota.object_or_none("used")) or 0
    share = quota.get("usedPercentage")
    if isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 100:  # noqa: PLR2004
        # Where old versions are not in `used`, they are in the percentage. It is rounded, so only
        # what rounding to whole percent does not explain is believed.
        by_share = int(reserved * (share - 1) / 100)
        used = max(used, by_share)
    return max(reserved - used, 0)


def refusal(request: Request, response: Response) -> ExchangeError:
    """What Coscine, or its storage, means by a status and a body."""
    if request.auth == NO_AUTH:
        return storage_refusal(request, response)
    status = response.status
    # A long upload that a gateway answers with 503 may have been done: its flow asks.
    quota = status in _OVER_QUOTA and not (status == 503 and request.carries_body)  # noqa: PLR2004
    return Refused(
        f"{request.method} {urlsplit(request.url).path} was refused with {status}"
        + _told(response),
        status=status,
        retry=quota or status in TRANSIENT,
        quota=quota,
        undone=quota,
    )


def _told(response: Response) -> str:
    """What an error's body says, as the end of a sentence; '' where it says nothing."""
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict):
        return ""
    said = list(dict.fromkeys(_sentences(body)))
    trace = body.get("traceId")
    if isinstance(trace, str) and trace:
        said.append(f"traceId {_line(trace)}")
    return f" ({'; '.join(said)})" if said else ""


def _sentences(body: dict[str, object]) -> Iterator[str]:
    """Source: RFC 7807 (title, detail), and ASP.NET Core's `errors` by field."""
    for name in ("title", "detail", "message"):
        value = body.get(name)
        if isinstance(value, str) and value.strip():
            yield _line(value)
    errors = body.get("errors")
    if isinstance(errors, dict):
        for field, told in list(errors.items())[:5]:
            first = told[0] if isinstance(told, list) and told else told
            if isinstance(first, str):
                yield _line(f"{field}: {first}")


def _line(message: str) -> str:
    """A foreign sentence as it may be printed: one line, of bounded length."""
    return " ".join(message.split())[:300].rstrip(".")
