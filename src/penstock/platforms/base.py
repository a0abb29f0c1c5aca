"""What a platform must offer the engine: traits, flows, and one function that reads refusals.

The contract, for whoever implements it:

* A flow is a generator: it *yields* a `Request` and is *sent* the `Response`. Statuses in
  `Request.accept` come back as answers; everything else is *thrown* at the `yield`: `Refused`,
  `AnswerLost` (only where `repeat` is ASK), `LeaseExpired`. What a flow does not catch ends it.
* A flow may be run again from its start at any time, and must then do no harm: whatever must not
  happen twice is sent with `Repeat.ASK`, and its `AnswerLost` is answered by a question.
* What differs between platforms and is not a step is data, in `Traits`. The engine reads traits
  and never branches on a platform's name.
* Foreign answers are read through `JsonObject`, which turns whatever is missing or ill-typed into
  `AnswerUnusable`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, Protocol
from urllib.parse import urljoin, urlsplit

from penstock.core.errors import (
    AnswerUnusable,
    ExchangeError,
    LeaseExpired,
    LedAstray,
    NameRefused,
    Refused,
    UsageError,
)
from penstock.core.model import (
    NO_AUTH,
    Completed,
    FileSlice,
    Flow,
    Found,
    Head,
    Headers,
    Lease,
    OpenUpload,
    Origin,
    Page,
    Part,
    Place,
    Rank,
    Receipt,
    RemoteFile,
    Request,
    Response,
    Target,
    Upload,
    validator_of,
)
from penstock.core.traits import Traits
from penstock.core.values import changed, quick_value


@quick_value(frozen=True, slots=True)
class Prepared:
    """What a platform says of a container before anything moves. None: it does not say.

    `refusal` says why nothing may be written there (no right, archived, under maintenance);
    `room` is how many bytes fit.
    """

    refusal: str | None = None
    room: int | None = None


class Platform(Protocol):
    """The flows of one platform. `container` and ids are the platform's own."""

    @property
    def traits(self) -> Traits:
        """The numbers."""
        ...

    @property
    def endpoint(self) -> str:
        """The API root, without a trailing slash."""
        ...

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:
        """Header fields that carry the token, for this platform's own host only."""
        ...

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """The one place where a status and a body become a meaning: `Refused` or `LeaseExpired`."""
        ...

    def place(self, path: str) -> Place:
        """The container and the path in it that a location's path names; asks nothing.

        Raises `LocationError` where the path cannot name a place.
        """
        ...

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:
        """What stands at a path: a file, or the deepest folder there is and what is missing.

        `start` is a folder on the way whose id is known, so that the way to it is not asked for.
        A file's `Found.place` is the folder it is in.
        """
        ...

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:
        """What the platform says of a place's container; as few requests as it takes, or none."""
        ...

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:
        """One page of a folder, from `cursor` (None: the first)."""
        ...

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:
        """One page of the projects the token can see, or of what is in the one named `above`."""
        ...

    def make_folder(self, parent: Place, name: str) -> Flow[Place]:
        """The folder `name` in `parent`, made now or found made."""
        ...

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        """A presigned URL for a file's bytes."""
        ...

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:
        """Fresh leases, by file id, from where old ones came."""
        ...

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """One file as the platform now describes it."""
        ...

    def delete_file(self, file_id: str) -> Flow[None]:
        """A file is gone from the platform; only ever one that this run has just made."""
        ...

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:
        """Files by id, as many as one page has; those that are not there are left out."""
        ...

    def create_upload(self, target: Target, part_size: int, *, overwrite: bool) -> Flow[Upload]:
        """An upload begun. A lost answer is thrown: the caller settles it by `open_uploads`.

        Throws `Conflict` where the name is taken and `overwrite` is off.
        """
        ...

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        """One part of the local file `path` sent; safe to repeat."""
        ...

    def complete_upload(
        self, upload: Upload, target: Target, receipts: Sequence[Receipt], *, reports: bool
    ) -> Flow[Completed | None]:
        """The finished file; None where upload and file are both gone.

        `reports`: the platform is known to want its parts reported apart. A lost answer is settled
        by asking.
        """
        ...

    def abort_upload(self, upload_id: str) -> Flow[None]:
        """Nothing is left of an upload; succeeds where it is gone already."""
        ...

    def open_uploads(self, cursor: str | None) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:
        """One page of the caller's own unfinished uploads, and the next cursor."""
        ...

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:
        """An unfinished upload as the platform knows it; None where it is gone."""
        ...

    def probe(self, lease: Lease) -> Flow[Response]:
        """One byte of a file, for the sake of its head: ETag and whole size."""
        ...

    def get_part(
        self,
        lease: Lease,
        part: Part,
        sink: str,
        *,
        total: int,
        validator: str | None,
        digests: Set[str],
    ) -> Flow[Response]:
        """The bytes of one part, written into the part's slice of the local file `sink`.

        `total` is the file's size; where it is `UNKNOWN_SIZE`, the part is empty and stands for
        all that comes.
        """
        ...


class DownloadOnly:
    """The flows of a platform that nothing can be sent to, each refused before it asks.

    A command that would send there is refused when it is read; these say so once more.
    """

    name = "this platform"

    def _refuse(self) -> NoReturn:
        raise UsageError(f"nothing can be sent to {self.name}, or changed there")

    def make_folder(self, parent: Place, name: str) -> Flow[Place]:  # noqa: ARG002
        """Refused."""
        yield from ()
        self._refuse()

    def delete_file(self, file_id: str) -> Flow[None]:  # noqa: ARG002
        """Refused."""
        yield from ()
        self._refuse()

    def create_upload(
        self,
        target: Target,  # noqa: ARG002
        part_size: int,  # noqa: ARG002
        *,
        overwrite: bool,  # noqa: ARG002
    ) -> Flow[Upload]:
        """Refused."""
        yield from ()
        self._refuse()

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:  # noqa: ARG002
        """Refused."""
        yield from ()
        self._refuse()

    def complete_upload(
        self,
        upload: Upload,  # noqa: ARG002
        target: Target,  # noqa: ARG002
        receipts: Sequence[Receipt],  # noqa: ARG002
        *,
        reports: bool,  # noqa: ARG002
    ) -> Flow[Completed | None]:
        """Refused."""
        yield from ()
        self._refuse()

    def abort_upload(self, upload_id: str) -> Flow[None]:  # noqa: ARG002
        """Refused."""
        yield from ()
        self._refuse()

    def open_uploads(
        self,
        cursor: str | None,  # noqa: ARG002
    ) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:
        """Refused."""
        yield from ()
        self._refuse()

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:  # noqa: ARG002
        """Refused."""
        yield from ()
        self._refuse()


_NO_JSON = object()


def _json(body: bytes) -> Any:  # noqa: ANN401 - foreign JSON is anything
    """A body's value, or `_NO_JSON`. The decoder's error is dropped: it holds the whole body."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NO_JSON


class JsonObject:
    """A foreign JSON object, read field by field; what is not as promised is `AnswerUnusable`."""

    __slots__ = ("_fields", "_what")

    def __init__(self, fields: Mapping[str, Any], what: str) -> None:
        self._fields = fields
        self._what = what

    @classmethod
    def of(cls, response: Response, what: str) -> JsonObject:
        """The object in a response's body.

        Raises `AnswerUnusable` where the body is no JSON object.
        """
        value = _json(response.body)
        if value is _NO_JSON:
            raise AnswerUnusable(f"{what}: the answer (status {response.status}) is not JSON")
        if not isinstance(value, dict):
            raise AnswerUnusable(f"{what}: the answer is JSON, but no object")
        return cls(value, what)

    def get(self, name: str) -> Any:  # noqa: ANN401 - foreign JSON is anything
        """The raw field, or None."""
        return self._fields.get(name)

    def text(self, name: str) -> str:
        """A field that must be a text that is not empty."""
        value = self._fields.get(name)
        if not isinstance(value, str) or not value:
            raise AnswerUnusable(f"{self._what}: the answer has no text '{name}'")
        return value

    def name(self) -> str:
        """The field `name`, which must be a text, and may be an empty one: nothing is left out."""
        value = self._fields.get("name")
        if not isinstance(value, str):
            raise AnswerUnusable(f"{self._what}: the answer has no text 'name'")
        return value

    def url(self, name: str) -> str:
        """A field that must be an http(s) URL."""
        value = self.text(name)
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018
        except ValueError:
            parts = None
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise AnswerUnusable(f"{self._what}: '{name}' is no URL")
        return value

    def text_or_none(self, name: str) -> str | None:
        """A field that may be missing."""
        value = self._fields.get(name)
        return value if isinstance(value, str) and value else None

    def whole(self, name: str) -> int:
        """A field that must be a whole number, not negative."""
        value = self.whole_or_none(name)
        if value is None:
            raise AnswerUnusable(f"{self._what}: the answer has no whole number '{name}'")
        return value

    def whole_or_none(self, name: str) -> int | None:
        """A whole number, not negative; None where missing or something else."""
        value = self._fields.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            return None
        return value

    def object_or_none(self, name: str) -> JsonObject | None:
        """A field that is an object."""
        value = self._fields.get(name)
        return JsonObject(value, self._what) if isinstance(value, dict) else None

    def objects(self, name: str) -> Iterator[JsonObject]:
        """The objects in a list that must be there."""
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise AnswerUnusable(f"{self._what}: the answer has no list '{name}'")
        for entry in value:
            if not isinstance(entry, dict):
                raise AnswerUnusable(f"{self._what}: an entry of '{name}' is no object")
            yield JsonObject(entry, self._what)


# Worth another try on any host: RFC 9110 and 6585 call them the server's, or the moment's, fault.
TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))


# A server that asks for longer is tried sooner all the same: the run's tries are few, and a file
# that fails is sent again by the next run. A choice.
_LONGEST_RETRY_AFTER_S = 300.0


def retry_after_s(headers: Headers) -> float | None:
    """Seconds a `Retry-After` asks for, five minutes at most; None where it says nothing.

    Source: RFC 9110, section 10.2.3; dates are held against the same answer's `Date`.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_RETRY_AFTER_S)
    try:
        until, now = (parsedate_to_datetime(headers[n]) for n in ("retry-after", "date"))
        seconds = (until - now).total_seconds()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return min(seconds, _LONGEST_RETRY_AFTER_S) if seconds > 0 else None


def storage_refusal(request: Request, response: Response) -> ExchangeError:
    """What a storage host means by refusing a presigned URL.

    A 403 is a lease that ended, until a fresh one is refused as well: storages answer alike for
    "expired" and for "denied". Source: Amazon S3 API reference, "Error responses".
    """
    body = response.body[:2000].decode("utf-8", "replace")
    expired = response.status == 403 or "ExpiredToken" in body or "has expired" in body  # noqa: PLR2004
    what = f"{request.shown} was answered with {response.status}"
    if expired and response.status < 500:  # noqa: PLR2004
        return LeaseExpired(f"{what}: the presigned URL is no longer accepted")
    return Refused(
        what,
        status=response.status,
        retry=response.status in TRANSIENT,
        retry_after_s=retry_after_s(response.headers),
    )


def no_page(request: Request, response: Response) -> Response:
    """The answer to a probe. Raises `AnswerUnusable` for a page that something between has sent.

    A storage names a file's state (ETag, date) with whatever it sends of it; such pages do not.
    """
    page = response.headers.get("content-type", "").lower().startswith("text/html")
    if response.status == 200 and page and validator_of(response.headers) is None:  # noqa: PLR2004
        raise AnswerUnusable(f"{request.shown} was answered with a page of HTML")
    return response


# Source: RFC 9110, section 15.4; 303 is left out, for it asks for another method.
REDIRECTS = frozenset((301, 302, 307, 308))
_MOST_HOPS = 5
_HEADERS_FOR_ANY_HOST = frozenset(("accept", "content-type", "if-range", "range"))


def following(request: Request) -> Flow[Response]:
    """The answer at the end of redirects, each hop a new request that carries no credential.

    Throws `LedAstray` for a hop that leads nowhere, from TLS to none, or round in a circle.
    Source: Amazon S3, "Making requests: redirects" (307 while a bucket's name settles).
    """
    for _ in range(_MOST_HOPS):
        response = yield changed(request, accept=request.accept | REDIRECTS)
        if response.status not in REDIRECTS or response.status in request.accept:
            return response
        try:
            url = urljoin(request.url, response.headers["location"])
            old, new = urlsplit(request.url).scheme, urlsplit(url).scheme
        except (KeyError, ValueError):
            raise LedAstray(f"{request.shown} was redirected to nowhere") from None
        if new not in {"http", "https"} or (old == "https" and new != "https"):
            raise LedAstray(f"{request.shown} was redirected to a host without TLS")
        if urlsplit(url).netloc != urlsplit(request.url).netloc:
            # What was meant for one host, a key among it, is not told another.
            kept = tuple(f for f in request.headers if f[0].lower() in _HEADERS_FOR_ANY_HOST)
            request = replace(request, headers=kept)
        request = replace(request, url=url, auth=NO_AUTH)
    raise LedAstray(f"{request.shown} was redirected {_MOST_HOPS} times")


def ranged_get(
    lease: Lease,
    part: Part,
    sink: str,
    *,
    total: int,
    validator: str | None,
    digests: Set[str],
) -> Request:
    """A request for one part of a presigned file, whose head is checked before a byte is kept.

    Source: RFC 9110, sections 13.1.5 (If-Range) and 14 (Range). A weak validator must not be
    sent in If-Range; it is compared in the answer all the same.
    """
    headers = list(lease.headers)
    if total > 0:
        headers.append(("Range", f"bytes={part.offset}-{part.offset + part.length - 1}"))
        if validator is not None and not validator.startswith("W/"):
            headers.append(("If-Range", validator))
    return Request(
        "GET",
        lease.url,
        headers=tuple(headers),
        sink=FileSlice(sink, part.offset, part.length),
        head=Head(part.offset, part.length, total, validator),
        accept=frozenset((200, 206)),
        cost=0,
        auth=NO_AUTH,
        rank=Rank.FINISH,
        digests=frozenset(digests),
    )


def refuse_name(name: str, why: str) -> NameRefused:
    """The error for a name a platform does not take."""
    return NameRefused(
        f"the name {name!r} {why}; rename the file, or give it a destination in a manifest"
    )
