"""Files by plain URL: one file, one URL, nothing to list and no quota; downloads only.

A URL may be presigned, so it lives in leases alone, which are never written down: a file's id is
its URL without the query, and a digest of the query where there is one. One HEAD tells size, ETag
and time of change; a server that refuses HEAD is asked for one byte. Ranges and If-Range are as
for any presigned URL (`ranged_get`); a server that ignores Range is fetched from in one go.

What a server promises of the bytes is `Repr-Digest` (RFC 9530), asked for by `Want-Repr-Digest`,
and, from storages, the ETag. Many web servers make ETags of 32 hex digits out of name and time, so
one that differs from the MD5 proves nothing here (`Traits.etag_is_digest`); one that is the MD5
proves the bytes.

Sources: RFC 9110 (HEAD 9.3.2, Range 14, validators 8.8, conditional requests 13); RFC 9530.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit

from penstock.core.errors import ExchangeError, LocationError, Refused, redacted
from penstock.core.model import (
    NO_AUTH,
    Flow,
    Found,
    Headers,
    Lease,
    Origin,
    Page,
    Part,
    Place,
    Rank,
    RemoteFile,
    Request,
    Response,
)
from penstock.core.traits import Traits
from penstock.core.units import whole_number
from penstock.platforms.base import (
    TRANSIENT,
    DownloadOnly,
    Prepared,
    following,
    ranged_get,
    retry_after_s,
)
from penstock.platforms.beginning import all_begin_again

TRAITS = Traits(
    platform="web",
    # No server's quota is known, and no request to one is counted (`cost` 0). A guess that binds
    # nothing.
    quota=1_000_000,
    window_s=1.0,
    page_size=1,
    requests_per_download=0,
    quota_headers=False,
    needs_token=False,
    etag_is_digest=False,
    rationed=False,
)

# Source: RFC 9530, section 4: digests wanted, by weight.
_WANTED = ("Want-Repr-Digest", "sha-256=10, sha-512=9, md5=1")
# What a server answers that has no HEAD, or whose URL is good for GET alone.
# Source: RFC 9110, 15.5.6, 15.6.2; Amazon S3: a presigned URL is bound to its method (403).
_NO_HEAD = frozenset((400, 401, 403, 405, 406, 500, 501))
_MISSING = frozenset((404, 410))
# A name for what has none. A choice.
_NAMELESS = "index.html"
# A URL of which nothing is hidden and nothing encoded: its origin, and its path.
_PLAIN = re.compile(r"(https?://[A-Za-z0-9.-]+(?::[0-9]+)?)(/[!$&-;=@-\[\]-~]*)?")


@all_begin_again
class Web(DownloadOnly):
    """Flows over plain URLs; `endpoint` is only what the ledger calls the web as a whole."""

    name = "a plain URL"

    def __init__(self, endpoint: str = "https:", traits: Traits = TRAITS) -> None:
        self._endpoint = endpoint
        self._traits = traits

    @property
    def traits(self) -> Traits:
        """The numbers."""
        return self._traits

    @property
    def endpoint(self) -> str:
        """No API root: a name for all URLs."""
        return self._endpoint

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """Nothing: no request to a plain URL carries a token."""
        return ()

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """What a status means; a 403 included, there being no other URL to ask for."""
        status = response.status
        what = f"{redacted(request.url)} was answered with {status}"
        return Refused(
            what,
            status=status,
            retry=status in TRANSIENT,
            retry_after_s=retry_after_s(response.headers),
        )

    def place(self, path: str) -> Place:
        """A URL as a place: its host (and a digest of its query), its path, and itself as the id.

        Raises `LocationError` for what is no URL.
        """
        plain = _PLAIN.fullmatch(path)
        if plain is not None:
            return Place(plain[1], (plain[2] or "").strip("/"), path)
        try:
            parts = urlsplit(path)
        except ValueError:
            parts = None
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise LocationError(f"{redacted(path)} is no URL of a file")
        container = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{_mark(parts.query)}"
        return Place(container, parts.path.strip("/"), path)

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:  # noqa: ARG002
        """The file a URL names, as its server describes it: one HEAD, or one byte."""
        url = place.id or ""
        known = file_at(url)
        here = replace(place, id=None)
        try:
            head = yield from self._head(url)
        except Refused as refused:
            if refused.status in _MISSING:
                return Found(here, missing=(known.name,))
            raise
        file = described(known, head)
        if file.size is None and head.status == 200 and file.lease is not None:  # noqa: PLR2004
            # It was asked for one byte, and neither gave that nor told a size: asking again for
            # a range would tell no more.
            file = replace(file, lease=replace(file.lease, whole=True))
        return Found(here, file=file)

    def _head(self, url: str) -> Flow[Response]:
        asking = Request(
            "HEAD",
            url,
            headers=(("Accept", "*/*"), _WANTED),
            accept=frozenset((200,)) | _NO_HEAD,
            cost=0,
            auth=NO_AUTH,
            rank=Rank.START,
        )
        head = yield from following(asking)
        if head.status == 200 and _size(head) is not None:  # noqa: PLR2004
            return head
        return (yield from self.probe(Lease(url, Origin("url", redacted(url)))))

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:  # noqa: ARG002
        """Nothing is known beforehand."""
        yield from ()
        return Prepared()

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:  # noqa: ARG002
        """Refused: a web server lists nothing that can be relied on."""
        yield from ()
        raise LocationError(f"{place.container}/{place.path}: a URL names one file, no folder")

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:  # noqa: ARG002
        """An empty page."""
        yield from ()
        return Page()

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        """Refused: a file by URL always comes with its URL."""
        yield from ()
        raise LocationError(f"{file.id} came without its URL; name it again")

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:  # noqa: ARG002
        """No others: a URL that was refused is the only one there is."""
        yield from ()
        return {}

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """What its id tells, its name: only a URL can be asked about, and an id is none."""
        yield from ()
        return file_at(file_id)

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:  # noqa: ARG002
        """None: URLs are not looked up by id."""
        yield from ()
        return {}

    def probe(self, lease: Lease) -> Flow[Response]:
        """One byte of a file, for its head: a server that ignores Range answers 200, unread."""
        request = Request(
            "GET",
            lease.url,
            headers=(("Range", "bytes=0-0"), ("Accept", "*/*"), _WANTED),
            accept=frozenset((200, 206, 416)),
            cost=0,
            auth=NO_AUTH,
            rank=Rank.FINISH,
        )
        return (yield from following(request))

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
        """One range, or the file."""
        request = ranged_get(lease, part, sink, total=total, validator=validator, digests=digests)
        return (yield from following(replace(request, headers=(*request.headers, _WANTED))))


def file_at(url: str) -> RemoteFile:
    """The file a URL names, as far as the URL itself says; asks nothing.

    Its name is the path's last segment, percent-decoded.
    """
    plain = _PLAIN.fullmatch(url)
    if plain is not None:
        name = (plain[2] or "").rpartition("/")[2] or _NAMELESS
        return RemoteFile(url, name, None, lease=Lease(url, Origin("url", url)))
    parts = urlsplit(url)
    shown = redacted(url).removesuffix("?…") + _mark(parts.query)
    name = unquote(parts.path.rpartition("/")[2]) or _NAMELESS
    return RemoteFile(shown, name, None, lease=Lease(url, Origin("url", shown)))


def described(file: RemoteFile, head: Response) -> RemoteFile:
    """The file with what an answer's head says of it."""
    headers = head.headers
    return replace(
        file,
        size=_size(head),
        modified=_when(headers),
        etag=headers.get("etag"),
    )


def _size(head: Response) -> int | None:
    """Bytes of the whole file. An encoded body's length is none of the file's."""
    if head.headers.get("content-encoding", "identity") not in {"identity", ""}:
        return None
    text = head.headers.get("content-length", "")
    if head.status in {206, 416}:
        text = head.headers.get("content-range", "").rpartition("/")[2]
    return whole_number(text)


def _when(headers: Headers) -> str | None:
    """`Last-Modified` in the form other platforms have (ISO 8601)."""
    try:
        return parsedate_to_datetime(headers["last-modified"]).isoformat()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _mark(query: str) -> str:
    """What tells URLs apart that differ in their queries alone, without showing one."""
    return f"#{hashlib.sha256(query.encode()).hexdigest()[:16]}" if query else ""
