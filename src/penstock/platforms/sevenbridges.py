"""Seven Bridges API v2 (CAVATICA, BioData Catalyst, CGC, SB Platform): 1000 requests in 5 minutes.

An upload is `POST /upload/multipart`, one URL for each part, and `complete` carrying the reports
of all parts: 2 + P requests. A download is one `download_info` for each file; its ranges go to the
storage and cost nothing. Listings bring neither digests nor URLs. Nothing here asks for a file
what a page already said.

Sources, by short name: [REF] docs.sevenbridges.com/reference; [CGC] docs.cancergenomicscloud.org;
[PY] sevenbridges-python 2.11.2; [R] sevenbridges2 for R; [RL] docs.sevenbridges.com, "API rate
limit".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from penstock.core.errors import (
    AnswerLost,
    Conflict,
    DestinationRefused,
    ExchangeError,
    LeaseExpired,
    LocationError,
    Refused,
)
from penstock.core.metadata import Values
from penstock.core.model import (
    MIB,
    NO_AUTH,
    Completed,
    FileSlice,
    Flow,
    Found,
    Lease,
    OpenUpload,
    Origin,
    Page,
    Part,
    Place,
    Rank,
    Receipt,
    RemoteFile,
    RemoteFolder,
    Repeat,
    Request,
    Response,
    Target,
    Upload,
)
from penstock.core.proof import TagKind, read_tag
from penstock.core.times import url_expires_at, when
from penstock.core.traits import Attaches, Traits
from penstock.core.units import whole_number
from penstock.platforms.base import (
    TRANSIENT,
    JsonObject,
    Prepared,
    following,
    no_page,
    ranged_get,
    refuse_name,
    storage_refusal,
)
from penstock.platforms.beginning import all_begin_again
from penstock.platforms.describing import Attachment, SchemaFound, StoredPage
from penstock.platforms.sevenbridges_metadata import (
    SevenBridgesSchema,
    edit_body,
    edit_outcome,
    stored_values,
)

TRAITS = Traits(
    platform="sevenbridges",
    # Source: [RL]: "1000 requests per five minutes".
    quota=1000,
    window_s=300.0,
    # Source: [REF] "API overview", pagination: limit at most 100.
    page_size=100,
    # Source: [PY] PartSize and [R] validations: 5 MiB to 5 GiB, 10,000 parts, 5 TiB a file.
    requests_per_upload=2,
    requests_per_part=1,
    requests_per_download=1,
    # 32 MiB is the part size recommended by [REF] and sent by [PY]; 64 MiB is ours; 5 MiB the
    # least the platform takes; the others are usual elsewhere.
    etag_part_sizes=tuple(n * MIB for n in (32, 64, 5, 128, 16, 8, 10, 100)),
    attaches=Attaches.AFTER,
    # Source: [CGC] "Edit details of multiple files": at most 100 a call.
    attached_at_once=100,
    described_at_once=100,
)

# Source: [REF] "Initialize a multipart upload": a name of at most 255 characters without "/".
LONGEST_NAME = 255

_FIELDS = "id,name,type,size,modified_on"
_HOW_OFTEN_TO_ASK = 3

# Meaning of the platform's own codes, which decide before the HTTP status does.
# Source: [REF] "API status codes"; 5xxx and 8xxx from the R client's table.
_MAINTENANCE = 0
_RATE_LIMIT = 1000
_RETRYABLE_CODES = frozenset((5000, 8000, 8008))
_EXISTS_CODES = frozenset((5003, 5030, 8004))


@all_begin_again
class SevenBridges:
    """The flows of a Seven Bridges platform at one endpoint (the API root, with `/v2`)."""

    def __init__(self, endpoint: str, traits: Traits = TRAITS) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._traits = traits

    @property
    def traits(self) -> Traits:
        """The numbers."""
        return self._traits

    @property
    def endpoint(self) -> str:
        """The API root."""
        return self._endpoint

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:
        """The token's header. Source: [REF] "API overview", authentication."""
        return (("X-SBG-Auth-Token", token),)

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """What the platform, or its storage, means by a status and a body.

        Source: [REF] "API status codes": `{"status", "code", "message", "more_info"}`. Bodies
        that are not JSON occur ([PY] NonJSONResponseError) and mean what the status means.
        """
        if request.auth == NO_AUTH:
            return storage_refusal(request, response)
        status, code, said = response.status, None, ""
        try:
            body = json.loads(response.body)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict):
            number = body.get("code")
            code = number if isinstance(number, int) and not isinstance(number, bool) else None
            message = body.get("message")
            said = f": {_shown(message)}" if isinstance(message, str) and message else ""
        quota = status == 429 or code == _RATE_LIMIT  # noqa: PLR2004
        maintenance = status == 503 and code == _MAINTENANCE  # noqa: PLR2004
        return Refused(
            f"{request.method} {urlsplit(request.url).path} was refused with {status}"
            + (f" (code {code})" if code is not None else "")
            + said,
            status=status,
            code=code,
            retry=quota or maintenance or status in TRANSIENT or code in _RETRYABLE_CODES,
            quota=quota,
            outage=maintenance,
            undone=quota or maintenance or code in _RETRYABLE_CODES,
        )

    # -- places -----------------------------------------------------------------------------

    def place(self, path: str) -> Place:
        """`OWNER/PROJECT[/FOLDER…]` or `id=ID` as a place. Asks nothing."""
        if path.startswith("id=") and path != "id=":
            return Place(path)
        segments = [segment for segment in path.split("/") if segment]
        if len(segments) < 2:  # noqa: PLR2004
            raise LocationError(
                f"{path!r} names no project: write OWNER/PROJECT, then folders (or id=ID)"
            )
        return Place("/".join(segments[:2]), "/".join(segments[2:]))

    @property
    def spared(self) -> int:
        """None: what is found by looking is where it is, and no more."""
        return 0

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:
        """What stands at a path: asked by exact name, one request a path segment."""
        if place.container.startswith("id="):
            return (yield from self._find_id(place))
        here = start if start is not None else Place(place.container)
        segments = tuple(segment for segment in place.path.split("/") if segment)
        known = len([segment for segment in here.path.split("/") if segment])
        for depth, segment in enumerate(segments[known:], start=known + 1):
            folder = file = None
            for item in (yield from self._named(here, segment)):
                if _is_folder(item):
                    folder = item.text("id")
                else:
                    file = _remote_file(item)
            if file is not None and depth == len(segments):
                return Found(here, file=file)
            if folder is None:
                return Found(here, missing=segments[depth - 1 :])
            here = Place(place.container, "/".join(segments[:depth]), folder)
        return Found(here)

    def _find_id(self, place: Place) -> Flow[Found]:
        wanted = place.container.removeprefix("id=")
        try:
            item = yield from self._details(wanted)
        except Refused as refused:
            if refused.status == 404:  # noqa: PLR2004
                raise LocationError(f"there is no file or folder with the id {wanted}") from refused
            raise
        if _is_folder(item):
            return Found(Place(place.container, "", item.text("id")))
        return Found(place, file=_remote_file(item))

    def _named(self, folder: Place, name: str) -> Flow[list[JsonObject]]:
        """A folder's entries that have exactly this name. Source: [REF] "List files", `name`."""
        query = [*self._of(folder), ("name", name), ("limit", "100"), ("fields", _FIELDS)]
        answer = JsonObject.of((yield self._api("GET", "/files", query)), "file listing")
        return [item for item in answer.objects("items") if item.name() == name]

    def _details(self, file_id: str) -> Flow[JsonObject]:
        path = f"/files/{quote(file_id, safe='')}"
        return JsonObject.of((yield self._api("GET", path)), "file details")

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:  # noqa: ARG002
        """Nothing: what the platform refuses, its first answer says."""
        yield from ()
        return Prepared()

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:
        """100 entries of one folder.

        The server's own next links are known to be malformed, so offsets are built here.
        Source: [REF] "List files"; [PY] for `X-Total-Matching-Query`.
        """
        offset = int(cursor) if cursor is not None else 0
        size = self._traits.page_size
        query = [
            *self._of(place),
            ("limit", str(size)),
            ("offset", str(offset)),
            ("fields", _FIELDS),
        ]
        response = yield self._api("GET", "/files", query)
        items = list(JsonObject.of(response, "file listing").objects("items"))
        folders = tuple(
            RemoteFolder(item.text("id"), item.name()) for item in items if _is_folder(item)
        )
        files = [_remote_file(item) for item in items if not _is_folder(item)]
        unsized = [file.id for file in files if file.size is None]
        if unsized:
            sizes = yield from self.describe(unsized)
            files = [sizes.get(file.id, file) if file.size is None else file for file in files]
        total = whole_number(response.headers.get("X-Total-Matching-Query"))
        more = offset + len(items) < total if total is not None else len(items) == size
        return Page(
            tuple(files), folders, str(offset + len(items)) if more and items else None, total
        )

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:
        """Files as they are described in bulk, by id.

        Source: [CGC] "Get details of multiple files": at most 100 ids, each answered with
        a resource or an error.
        """
        body = json.dumps({"file_ids": list(file_ids)}).encode()
        answer = JsonObject.of(
            (yield self._api("POST", "/bulk/files/get", body=body)), "bulk file details"
        )
        found = {}
        for item in answer.objects("items"):
            resource = item.object_or_none("resource")
            if resource is not None:
                file = _remote_file(resource)
                found[file.id] = file
        return found

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:  # noqa: ARG002
        """100 of the projects the token can see, as folders. Source: [REF] "List all projects"."""
        offset = int(cursor) if cursor is not None else 0
        size = self._traits.page_size
        query = [("limit", str(size)), ("offset", str(offset)), ("fields", "id,name")]
        response = yield self._api("GET", "/projects", query)
        items = list(JsonObject.of(response, "project listing").objects("items"))
        folders = tuple(RemoteFolder(item.text("id"), item.text("id"), "project") for item in items)
        total = whole_number(response.headers.get("X-Total-Matching-Query"))
        more = offset + len(items) < total if total is not None else len(items) == size
        return Page((), folders, str(offset + len(items)) if more and items else None, total)

    def make_folder(self, parent: Place, name: str) -> Flow[Place]:
        """The folder, made or found made. Source: [PY] File.create_folder; code 5030: it exists."""
        check_name(name)
        path = f"{parent.path}/{name}" if parent.path else name
        where = self._of(parent)[0]
        body = json.dumps({"name": name, "type": "folder", where[0]: where[1]}).encode()
        request = self._api("POST", "/files", body=body, repeat=Repeat.ASK)
        taken = False
        try:
            made = JsonObject.of((yield request), "new folder")
            return Place(parent.container, path, made.text("id"))
        except AnswerLost:
            pass
        except Refused as refused:
            if refused.code not in _EXISTS_CODES and refused.status != 409:  # noqa: PLR2004
                raise
            taken = True
        for item in (yield from self._named(parent, name)):
            if _is_folder(item):
                return Place(parent.container, path, item.text("id"))
        if taken:
            raise DestinationRefused(f"{path!r} is a file, and a folder is needed there")
        made = JsonObject.of((yield request), "new folder")
        return Place(parent.container, path, made.text("id"))

    # -- downloads --------------------------------------------------------------------------

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        """A file's presigned URL: one request. Source: [REF] "Get download URL for a file"."""
        return (yield from self._lease(file.id))

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:
        """A fresh URL for the one file the old one was for."""
        return {origin.place: (yield from self._lease(origin.place))}

    def _lease(self, file_id: str) -> Flow[Lease]:
        path = f"/files/{quote(file_id, safe='')}/download_info"
        answer = JsonObject.of((yield self._api("GET", path)), "download URL")
        url = answer.url("url")
        return Lease(url, Origin("file", file_id), url_expires_at(url))

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """One file's details. Source: [REF] "Get file details"."""
        return _remote_file((yield from self._details(file_id)))

    def delete_file(self, file_id: str) -> Flow[None]:
        """A file is gone. Source: [REF] "Delete a file"."""
        try:
            yield self._api("DELETE", f"/files/{quote(file_id, safe='')}", rank=Rank.FINISH)
        except Refused as refused:
            if not _is_gone(refused):
                raise

    def probe(self, lease: Lease) -> Flow[Response]:
        """The head of a file. A HEAD would not do: a presigned URL is good for one method."""
        request = Request(
            "GET",
            lease.url,
            headers=(*lease.headers, ("Range", "bytes=0-0")),
            accept=frozenset((200, 206, 416)),
            cost=0,
            auth=NO_AUTH,
            rank=Rank.FINISH,
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
        """One range, from the storage."""
        request = ranged_get(lease, part, sink, total=total, validator=validator, digests=digests)
        return (yield from following(request))

    # -- uploads ----------------------------------------------------------------------------

    def create_upload(self, target: Target, part_size: int, *, overwrite: bool) -> Flow[Upload]:
        """An upload begun; the part size that comes back is the server's choice and is obeyed.

        Source: [REF] "Initialize a multipart upload".
        """
        check_name(target.name)
        where, which = self._of(target.place)[0]
        body = {where: which, "name": target.name, "size": target.size, "part_size": part_size}
        query = [("overwrite", "true")] if overwrite else []
        request = self._api(
            "POST",
            "/upload/multipart",
            query,
            body=json.dumps(body).encode(),
            repeat=Repeat.ASK,
            rank=Rank.START,
        )
        try:
            answer = JsonObject.of((yield request), "new upload")
        except Refused as refused:
            if refused.code in _EXISTS_CODES or (refused.status == 409 and refused.code != 8006):  # noqa: PLR2004
                raise _taken(target.name, refused) from refused
            raise
        size = answer.whole_or_none("part_size") or part_size
        return Upload(answer.text("upload_id"), size, answer.get("parallel_uploads") is not False)

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:
        """An unfinished upload's own state. Source: [REF] "Get details of a multipart upload"."""
        path = f"/upload/multipart/{quote(upload_id, safe='')}"
        try:
            answer = JsonObject.of((yield self._api("GET", path)), "upload details")
        except Refused as refused:
            if _is_gone(refused):
                return None
            raise
        return _open_upload(answer)

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        """One part sent; the storage keeps the last copy of a part number.

        Source: [REF] "Get the upload URL for a file part": method, url, headers to send,
        success_codes (at top level, or inside `report`), and the headers to report.
        """
        for last_try in (False, True):
            where = f"/upload/multipart/{quote(upload.id, safe='')}/part/{part.number}"
            place = JsonObject.of((yield self._api("GET", where)), "part URL")
            report = place.object_or_none("report") or JsonObject({}, "part URL")
            sending = Request(
                place.text_or_none("method") or "PUT",
                place.url("url"),
                headers=_pairs(place.get("headers")),
                body=(FileSlice(path, part.offset, part.length),),
                cost=0,
                auth=NO_AUTH,
                accept=_codes(place.get("success_codes") or report.get("success_codes")),
                rank=Rank.FINISH,
                digests=frozenset(("md5",)),
            )
            try:
                sent = yield from following(sending)
            except LeaseExpired:
                if last_try:
                    raise
                continue
            names = report.get("headers")
            wanted = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
            tag = sent.headers.get("ETag")
            return Receipt(
                part.number,
                part.offset,
                part.length,
                md5=sent.digests["md5"],
                etag=tag.strip('"') if tag is not None else None,
                proves=read_tag(sent.headers).kind is TagKind.MD5,
                report=tuple(
                    (name, sent.headers[name].strip('"'))
                    for name in (wanted or ["ETag"])
                    if name in sent.headers
                ),
            )
        raise AssertionError("a loop over two tries ends in a return or a raise")

    def complete_upload(
        self, upload: Upload, target: Target, receipts: Sequence[Receipt], *, reports: bool
    ) -> Flow[Completed | None]:
        """The finished file: one request that carries all reports, where the platform takes them.

        Source: [CGC] "Complete a multipart upload": optional body `{"parts": […]}`, answer 201
        with the file. Where the body is refused, the parts are reported in bulk once ([REF]
        "Report uploaded parts"), then completed without one.
        """
        root = f"/upload/multipart/{quote(upload.id, safe='')}"
        parts = json.dumps(
            {
                "parts": [
                    {"part_number": r.number, "response": {"headers": dict(r.report)}}
                    for r in receipts
                ]
            }
        ).encode()
        bulk = reports
        asked = False
        lost = 0
        while lost < _HOW_OFTEN_TO_ASK:
            try:
                if bulk:
                    yield self._api("POST", root, body=parts, rank=Rank.FINISH)
                request = self._api(
                    "POST",
                    f"{root}/complete",
                    body=b"" if bulk else parts,
                    repeat=Repeat.ASK,
                    rank=Rank.FINISH,
                )
                done = JsonObject.of((yield request), "completed upload")
                return Completed(_remote_file(done), asked=asked, reported=bulk and not reports)
            except Refused as refused:
                if _is_gone(refused):
                    return (yield from self._find_completed(target, reported=bulk and not reports))
                if refused.code in _EXISTS_CODES or refused.status == 409:  # noqa: PLR2004
                    raise _taken(target.name, refused) from refused
                if bulk or refused.status not in {400, 415, 422} or refused.effect.name == "RETRY":
                    raise
                bulk = True
            except AnswerLost:
                asked = True
                lost += 1
                if (yield from self.describe_upload(upload.id)) is None:
                    return (yield from self._find_completed(target, reported=bulk and not reports))
        raise AnswerLost(f"completing the upload of {target.name!r} was never answered")

    def _find_completed(self, target: Target, *, reported: bool) -> Flow[Completed | None]:
        """The file an upload that is gone has become, by name and size."""
        for item in (yield from self._named(target.place, target.name)):
            if not _is_folder(item):
                file = _remote_file(item)
                if file.size is None:
                    file = yield from self.stat(file.id)
                if file.size == target.size:
                    return Completed(file, asked=True, reported=reported)
        return None

    def abort_upload(self, upload_id: str) -> Flow[None]:
        """Nothing left of an upload. Source: [REF] "Abort a multipart upload"."""
        try:
            yield self._api("DELETE", f"/upload/multipart/{quote(upload_id, safe='')}")
        except Refused as refused:
            if not _is_gone(refused):
                raise

    def open_uploads(self, cursor: str | None) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:
        """100 of the caller's unfinished uploads. Source: [R] list_ongoing_uploads."""
        offset = int(cursor) if cursor is not None else 0
        size = self._traits.page_size
        query = [("limit", str(size)), ("offset", str(offset))]
        response = yield self._api("GET", "/upload/multipart", query)
        items = list(JsonObject.of(response, "upload listing").objects("items"))
        found = tuple(_open_upload(item) for item in items)
        total = whole_number(response.headers.get("X-Total-Matching-Query"))
        more = offset + len(items) < total if total is not None else len(items) == size
        return found, str(offset + len(items)) if more and items else None

    # -- metadata ---------------------------------------------------------------------------

    def schema(self, place: Place) -> Flow[SchemaFound]:  # noqa: ARG002
        """Any field: nothing is asked."""
        yield from ()
        return SchemaFound(SevenBridgesSchema())

    def demands_metadata(self, place: Place) -> Flow[bool]:  # noqa: ARG002
        """No."""
        yield from ()
        return False

    def attach(self, attachments: Sequence[Attachment]) -> Flow[Sequence[str | None]]:
        """Fields and tags of up to 100 files. Source: [CGC] "Edit details of multiple files"."""
        request = self._api("POST", "/bulk/files/edit", body=edit_body(attachments))
        return edit_outcome(JsonObject.of((yield request), "bulk edit"), attachments)

    def stored_with(self, file_ids: Sequence[str]) -> Flow[Mapping[str, Values]]:
        """Metadata and tags of up to 100 files. Source: [CGC] "Get details of multiple files"."""
        body = json.dumps({"file_ids": list(file_ids)}).encode()
        answer = JsonObject.of(
            (yield self._api("POST", "/bulk/files/get", body=body)), "bulk file details"
        )
        resources = (item.object_or_none("resource") for item in answer.objects("items"))
        return {one.text("id"): stored_values(one) for one in resources if one is not None}

    def stored_in(self, place: Place, cursor: str | None) -> Flow[StoredPage]:
        """A folder's page with the metadata of its files. Source: [REF] "List files", `fields`."""
        offset = int(cursor) if cursor is not None else 0
        size = self._traits.page_size
        fields = "id,name,type,metadata,tags"
        query = [
            *self._of(place),
            ("limit", str(size)),
            ("offset", str(offset)),
            ("fields", fields),
        ]
        response = yield self._api("GET", "/files", query)
        items = list(JsonObject.of(response, "file listing").objects("items"))
        total = whole_number(response.headers.get("X-Total-Matching-Query"))
        more = offset + len(items) < total if total is not None else len(items) == size
        return StoredPage(
            tuple((item.name(), stored_values(item)) for item in items if not _is_folder(item)),
            tuple(RemoteFolder(item.text("id"), item.name()) for item in items if _is_folder(item)),
            str(offset + len(items)) if more and items else None,
        )

    # -- requests ---------------------------------------------------------------------------

    def _of(self, place: Place) -> list[tuple[str, str]]:
        """How a request says which folder it is about: `parent` or `project`, never both."""
        if place.id is not None:
            return [("parent", place.id)]
        if place.path or place.container.startswith("id="):
            raise LocationError(
                f"the folder {place.path!r} of {place.container!r} was not looked up"
            )
        return [("project", place.container)]

    def _api(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        body: bytes = b"",
        repeat: Repeat = Repeat.SAFE,
        rank: Rank = Rank.CONTINUE,
    ) -> Request:
        url = self._endpoint + path + ("?" + urlencode(query, quote_via=quote) if query else "")
        return Request(
            method,
            url,
            headers=(("Accept", "application/json"), ("Content-Type", "application/json")),
            body=(body,) if body else (),
            repeat=repeat,
            rank=rank,
        )


def check_name(name: str) -> None:
    """Nothing, or `NameRefused` where the platform takes no file of that name."""
    if not name or name in {".", ".."} or "/" in name:
        raise refuse_name(name, "cannot stand on Seven Bridges")
    if len(name) > LONGEST_NAME:
        raise refuse_name(name, f"has more than the {LONGEST_NAME} characters Seven Bridges takes")


def _is_folder(item: JsonObject) -> bool:
    kind = item.get("type")
    return isinstance(kind, str) and kind.lower() == "folder"


def _remote_file(item: JsonObject) -> RemoteFile:
    return RemoteFile(
        item.text("id"),
        item.name(),
        item.whole_or_none("size"),
        modified=item.text_or_none("modified_on"),
    )


def _open_upload(item: JsonObject) -> OpenUpload:
    return OpenUpload(
        item.text("upload_id"),
        item.text_or_none("name") or "",
        item.text_or_none("project"),
        item.text_or_none("parent"),
        item.whole_or_none("size"),
        item.whole_or_none("part_size"),
        when(item.get("initiated")),
        item.get("parallel_uploads") is not False,
    )


def _is_gone(refused: Refused) -> bool:
    return refused.status in {404, 410} or refused.code == 8003  # noqa: PLR2004


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:  # noqa: ANN401 - foreign JSON
    if not isinstance(value, dict):
        return ()
    return tuple((str(name), str(text)) for name, text in value.items())


def _codes(value: Any) -> frozenset[int]:  # noqa: ANN401 - foreign JSON
    codes = [c for c in value if isinstance(c, int)] if isinstance(value, list) else []
    return frozenset(codes or (200, 201, 204))


def _taken(name: str, refused: Refused) -> Conflict:
    return Conflict(
        f"{name!r} exists at the destination; use --on-conflict to skip, overwrite or rename "
        f"({refused})"
    )


def _shown(message: str) -> str:
    """A foreign sentence as it may be printed: one line, of bounded length."""
    return " ".join(message.split())[:300].rstrip(".")
