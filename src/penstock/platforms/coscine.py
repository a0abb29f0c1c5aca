"""Coscine API v2: 500 requests a minute, told nowhere, and silence for who sends more.

Pages are everything: a listing of 50 entries brings a presigned URL for each file, so a download
costs no request, an URL is renewed by listing its page again, and an upload is proved by the page
that shows it. An upload is one multipart form for the whole file; POST makes a file, PUT writes
one over, and which of the two is known from the listing. Nothing here asks for a file what a page
already said; no flow resends a POST that may have been done before a listing was asked.

Folders are beginnings of paths: they are there with their first file, and gone with their last.
A folder's id is `PROJECT/RESOURCE/path/`, a file's `PROJECT/RESOURCE/path`.

Sources, by short name: [API] docs.coscine.de "API"; [S3DOC] docs.coscine.de "S3 clients"; [UPDOC]
docs.coscine.de "Uploading"; [SDK] the clients coscine 0.12.2 and 0.11.13 on PyPI and the OpenAPI
models of the former. What none of them says is marked, and the code survives being wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from urllib.parse import quote, urljoin, urlsplit

from penstock.core.errors import (
    AnswerLost,
    Conflict,
    ExchangeError,
    LedAstray,
    Refused,
)
from penstock.core.model import (
    MIB,
    NO_AUTH,
    Completed,
    FileSlice,
    Flow,
    Head,
    Lease,
    OpenUpload,
    Origin,
    Page,
    Part,
    Place,
    Rank,
    Receipt,
    RemoteFile,
    Repeat,
    Request,
    Response,
    Target,
    Upload,
)
from penstock.core.plan import WHOLE_DOWNLOAD
from penstock.core.times import url_expires_at
from penstock.core.traits import Attaches, Traits
from penstock.platforms.base import (
    REDIRECTS,
    Prepared,
    following,
    no_page,
    ranged_get,
)
from penstock.platforms.beginning import all_begin_again
from penstock.platforms.coscine_answers import refusal
from penstock.platforms.coscine_listings import Listings
from penstock.platforms.coscine_metadata import Metadata
from penstock.platforms.coscine_places import (
    S3_CARRIED,
    Settings,
    check_path,
    split_id,
    storage_url,
)
from penstock.platforms.handing import Handed, Key
from penstock.platforms.s3 import S3

# Source: [S3DOC]: 100 GB a file through the API. Whether GB are powers of 1000, whether the form
# around the file counts, and whether the limit itself is still allowed is not said: the least of
# all readings is taken.
_FORM = 4096
LARGEST_FILE = 100 * 10**9 - _FORM

TRAITS = Traits(
    platform="coscine",
    # Source: [API], "Rate limiting": 500 requests in one minute, else "ignored for some time".
    quota=500,
    window_s=60.0,
    # Source: [API], "Page Size".
    page_size=50,
    smallest_part=1,
    largest_part=LARGEST_FILE,
    most_parts=1,
    largest_file=LARGEST_FILE,
    requests_per_upload=0,
    requests_per_part=1,
    requests_per_download=0,
    requests_per_folder=0,
    listing_leases=True,
    # Source: [SDK] reads none, [API] names none.
    quota_headers=False,
    silent=True,
    # 8 MiB: the official client's (boto3's); 5 MiB: that of the AWS SDK for .NET, which Coscine's
    # server may use. A guess; the others are usual elsewhere.
    etag_part_sizes=tuple(n * MIB for n in (8, 5, 16, 64, 32, 128, 10, 100)),
    names_containers=True,
    container_levels=2,
    proves_by_listing=True,
    escapes_names=True,
    attaches=Attaches.BEFORE,
)

_MOST_LOST = 3
# How a server may refuse to make what is there, or to write over what is not. Undocumented.
_MAY_BE_THERE = frozenset((400, 404, 409, 422))


@all_begin_again
class Coscine(Metadata, Listings):
    """The flows of Coscine at one endpoint (the API root, with `/coscine/api/v2`)."""

    def __init__(
        self, endpoint: str, settings: Mapping[str, str] | None = None, traits: Traits = TRAITS
    ) -> None:
        super().__init__(endpoint, Settings.of(settings or {}), traits.page_size)
        self._traits = traits

    @property
    def traits(self) -> Traits:
        """The numbers."""
        return self._traits

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:
        """The token's header. Source: [SDK]."""
        return (("Authorization", f"Bearer {token}"),)

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """What Coscine, or its storage, means by a status and a body."""
        return refusal(request, response)

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:
        """Whether the resource may be written to, and what fits: one request each."""
        if not writing:
            return Prepared()
        resource = yield from self.resource(place.container)
        why = yield from self.why_not(resource)
        if why is not None:
            return Prepared(refusal=why)
        return Prepared(room=(yield from self.room(resource)))

    def through(self, place: Place) -> Flow[Handed | None]:
        """The bucket of a resource that is kept in an S3 storage, and the keys for it.

        A resource found by a listing that left its keys out is asked for itself.
        Source: [S3DOC]; the official client does so for the type rdss3. Its write keys are seen by
        owners and members alone. The region is a guess: the storages named there have none.
        """
        resource = yield from self.seen(place.container)
        if resource.type not in S3_CARRIED:
            return None
        if resource.keys is None or resource.keys.read is None:
            self.forget(place.container)
        resource = yield from self.resource(place.container)
        keys = resource.keys
        if keys is None or keys.read is None:
            return None
        host = storage_url(keys.endpoint)
        read, write = f"{place.container} read", f"{place.container} write"
        pairs = [Key(read, host, *keys.read)]
        pairs += [Key(write, host, *keys.write)] if keys.write is not None else []
        carrier = S3(host, keys.bucket, read, write if keys.write is not None else None)
        return Handed(carrier, tuple(pairs))

    # -- downloads --------------------------------------------------------------------------

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        """A URL for a file whose listing brought none: the content endpoint, or where it leads.

        A small file is fetched from the endpoint itself. For a large one its first byte is asked
        for, to find out whether the endpoint leads to the storage, and whether it takes ranges:
        neither is documented. Source: [SDK] storage content API: 200, or 302.
        """
        url, origin = self._content_url(file.id), Origin("content", file.id)
        if file.size is not None and file.size <= WHOLE_DOWNLOAD:
            return Lease(url, origin)
        response = yield self._first_byte(url)
        if response.status in REDIRECTS:
            there = self._location(url, response)
            return Lease(there, Origin("file", file.id), url_expires_at(there))
        return Lease(url, origin, whole=response.status == 200)  # noqa: PLR2004

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:
        """Fresh URLs for all files of a page by listing it again; for one, where it has no page."""
        if origin.kind == "page":
            project, resource, prefix = origin.place.split("/", 2)
            container = f"{project}/{resource}"
            try:
                page = yield from self.page(container, prefix, origin.cursor or "1", origin)
            except Refused as refused:
                if refused.status not in {400, 404}:
                    raise
                page = Page()  # The folder is shorter now: what has moved is looked for.
            return {file.id: file.lease for file in page.files if file.lease is not None}
        file = yield from self.one_file(origin.place)
        if file is None:
            return {}
        return {file.id: file.lease or (yield from self.lease(file))}

    def delete_file(self, file_id: str) -> Flow[None]:
        """A file is gone. Source: [SDK]: DELETE, answered 204 or 404."""
        url = self._content_url(file_id).removesuffix("/content")
        try:
            yield self._request("DELETE", url, rank=Rank.FINISH)
        except Refused as refused:
            if refused.status not in {404, 410}:
                raise

    def probe(self, lease: Lease) -> Flow[Response]:
        """The head of a file, from the storage, or from the endpoint that leads there."""
        if lease.origin.kind == "content":
            response = yield self._first_byte(lease.url)
            if response.status not in REDIRECTS:
                return response
            there = self._location(lease.url, response)
            lease = Lease(there, lease.origin)
        request = Request(
            "GET",
            lease.url,
            headers=(*lease.headers, ("Range", "bytes=0-0")),
            accept=frozenset((200, 206, 416)),
            cost=0,
            auth=NO_AUTH,
            rank=Rank.FINISH,
            enough=1,
        )
        return no_page(request, (yield from following(request)))

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
        """One range, from the storage; or from the content endpoint, wherever that leads."""
        if lease.origin.kind == "content":
            request = self._content(lease.url, part, sink, total, digests)
            response = yield request
            if response.status not in REDIRECTS:
                return response
            lease = Lease(self._location(lease.url, response), lease.origin)
        request = ranged_get(lease, part, sink, total=total, validator=validator, digests=digests)
        return (yield from following(request))

    def _content(self, url: str, part: Part, sink: str, total: int, digests: Set[str]) -> Request:
        """A part of a file through the API; the whole file is asked for without a range."""
        last = part.offset + part.length - 1
        ranged = part.length < total
        return self._request(
            "GET",
            url,
            headers=(("Range", f"bytes={part.offset}-{last}"),) if ranged else (),
            sink=FileSlice(sink, part.offset, part.length),
            head=Head(part.offset, part.length, total),
            accept=frozenset((200, 206)) | REDIRECTS,
            rank=Rank.FINISH,
            digests=frozenset(digests),
        )

    def _first_byte(self, url: str) -> Request:
        return self._request(
            "GET",
            url,
            headers=(("Range", "bytes=0-0"),),
            accept=frozenset((200, 206, 416)) | REDIRECTS,
            rank=Rank.FINISH,
            enough=1,
        )

    def _location(self, url: str, response: Response) -> str:
        """Where a redirect leads: an address asked without a token, under TLS where ours is."""
        try:
            there = urljoin(url, response.headers["location"])
            old, new = urlsplit(url), urlsplit(there)
        except (KeyError, ValueError):
            raise LedAstray(f"GET {urlsplit(url).path} was redirected to nowhere") from None
        if new.scheme not in {"http", "https"} or (old.scheme, new.scheme) == ("https", "http"):
            raise LedAstray(f"GET {old.path} was redirected to a host without TLS")
        return there

    # -- uploads ----------------------------------------------------------------------------

    def create_upload(self, target: Target, part_size: int, *, overwrite: bool) -> Flow[Upload]:
        """An upload named by what will be sent: no request. The listing said which method it is.

        Source: [SDK]: POST makes a file, PUT writes one over.
        """
        yield from ()
        path = f"{target.place.path}/{target.name}" if target.place.path else target.name
        check_path(path)
        method = "PUT" if overwrite else "POST"
        return Upload(f"{method} {target.place.container}/{path}", part_size, parallel=False)

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        """The whole file in one form, field `file`. Source: [SDK] storage content API.

        A PUT may be repeated. Whether a POST whose answer is lost was done, the listing says: the
        receipt then has no MD5. Throws `Conflict` where something else has taken the name.
        """
        method, _, file_id = upload.id.partition(" ")
        request = self._form(method, file_id, part, path)
        lost: AnswerLost | None = None
        for _ in range(_MOST_LOST):
            try:
                sent = yield request
            except AnswerLost as error:
                if method == "PUT":
                    raise  # What stands there may be what was to be written over.
                lost = error
                there = yield from self.one_file(file_id)
            except Refused as refused:
                if refused.status not in _MAY_BE_THERE:
                    raise
                there = yield from self.one_file(file_id)
                if method == "PUT" and there is None:
                    # Gone since it was listed, so there is nothing to write over.
                    method = "POST"
                    request = self._form(method, file_id, part, path)
                    continue
                if method == "PUT" or there is None:
                    raise
                if lost is None:
                    raise _taken(file_id, refused) from refused
            else:
                md5 = sent.digests["md5"]
                return Receipt(part.number, part.offset, part.length, md5, proves=False)
            if there is not None and there.size in {None, part.length}:
                return Receipt(part.number, part.offset, part.length, "", proves=False)
            if there is not None:
                raise Conflict(
                    f"{file_id} appeared with {there.size} bytes while {part.length} were sent to "
                    "that name; use --on-conflict to skip, overwrite or rename"
                )
        raise lost or AnswerLost(f"sending {file_id} was never answered")

    def _form(self, method: str, file_id: str, part: Part, path: str) -> Request:
        """A form of one field `file`, streamed from the local file."""
        # No chance in here: the name of the file and its size make the boundary.
        named = f"{file_id}\0{path}\0{part.length}".encode("utf-8", "surrogateescape")
        boundary = f"penstock-{hashlib.sha256(named).hexdigest()[:40]}"
        opening = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        return self._request(
            method,
            self._content_url(file_id, writing=True),
            headers=(("Content-Type", f"multipart/form-data; boundary={boundary}"),),
            body=(
                opening.encode(),
                FileSlice(path, part.offset, part.length),
                f"\r\n--{boundary}--\r\n".encode(),
            ),
            repeat=Repeat.SAFE if method == "PUT" else Repeat.ASK,
            rank=Rank.FINISH,
            digests=frozenset(("md5",)),
        )

    def complete_upload(
        self,
        upload: Upload,
        target: Target,
        receipts: Sequence[Receipt],  # noqa: ARG002
        *,
        reports: bool,  # noqa: ARG002
    ) -> Flow[Completed | None]:
        """The file as it is listed: it was complete with its only part."""
        file = yield from self.one_file(upload.id.partition(" ")[2])
        if file is not None and file.size in {None, target.size}:
            return Completed(file, asked=True)
        return None

    def abort_upload(self, upload_id: str) -> Flow[None]:  # noqa: ARG002
        """Nothing: what was not sent whole is nowhere."""
        yield from ()

    def open_uploads(
        self,
        cursor: str | None,  # noqa: ARG002
    ) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:
        """None: Coscine keeps no unfinished upload that could be carried on."""
        yield from ()
        return (), None

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:  # noqa: ARG002
        """None, as above."""
        yield from ()
        return None

    # -- addresses --------------------------------------------------------------------------

    def _content_url(self, file_id: str, *, writing: bool = False) -> str:
        """The address of a file's bytes.

        A path is encoded once, its slashes too. Source: [SDK] 0.11 always, 0.12 for GET and
        DELETE; 0.12 encodes uploads twice, which a setting asks for.
        """
        container, path = split_id(file_id)
        named = quote(path) if writing and self._settings.double else path
        where = self._endpoint + self._resource_path(container)
        if self._settings.legacy:
            return f"{where}/blobs/{quote(named, safe='')}"
        return f"{where}/storage/{quote(named, safe='')}/content"


def _taken(file_id: str, refused: Refused) -> Conflict:
    return Conflict(
        f"{file_id} exists at the destination; use --on-conflict to skip, overwrite or rename "
        f"({refused})"
    )
