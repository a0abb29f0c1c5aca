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
from urllib.parse import quote

from penstock.core.errors import (
    AnswerLost,
    DestinationRefused,
    LocationError,
    Refused,
)
from penstock.core.metadata import Values
from penstock.core.model import (
    MIB,
    NO_AUTH,
    Flow,
    Found,
    Lease,
    Origin,
    Page,
    Part,
    Place,
    Rank,
    RemoteFile,
    RemoteFolder,
    Repeat,
    Request,
    Response,
)
from penstock.core.times import url_expires_at
from penstock.core.traits import Attaches, Traits
from penstock.core.units import whole_number
from penstock.platforms.base import (
    JsonObject,
    Prepared,
    following,
    no_page,
    ranged_get,
)
from penstock.platforms.beginning import all_begin_again
from penstock.platforms.describing import Attachment, SchemaFound, StoredPage
from penstock.platforms.sevenbridges_metadata import (
    SevenBridgesSchema,
    edit_body,
    edit_outcome,
    stored_values,
)
from penstock.platforms.sevenbridges_requests import (
    EXISTS_CODES,
    FIELDS,
    check_name,
    is_folder,
    is_gone,
    remote_file,
)
from penstock.platforms.sevenbridges_uploads import UploadFlows

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


@all_begin_again
class SevenBridges(UploadFlows):
    """The flows of a Seven Bridges platform at one endpoint (the API root, with `/v2`)."""

    def __init__(self, endpoint: str, traits: Traits = TRAITS) -> None:
        super().__init__(endpoint, traits)

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
                if is_folder(item):
                    folder = item.text("id")
                else:
                    file = remote_file(item)
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
        if is_folder(item):
            return Found(Place(place.container, "", item.text("id")))
        return Found(place, file=remote_file(item))

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
            ("fields", FIELDS),
        ]
        response = yield self._api("GET", "/files", query)
        items = list(JsonObject.of(response, "file listing").objects("items"))
        folders = tuple(
            RemoteFolder(item.text("id"), item.name()) for item in items if is_folder(item)
        )
        files = [remote_file(item) for item in items if not is_folder(item)]
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
                file = remote_file(resource)
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
            if refused.code not in EXISTS_CODES and refused.status != 409:  # noqa: PLR2004
                raise
            taken = True
        for item in (yield from self._named(parent, name)):
            if is_folder(item):
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

    def delete_file(self, file_id: str) -> Flow[None]:
        """A file is gone. Source: [REF] "Delete a file"."""
        try:
            yield self._api("DELETE", f"/files/{quote(file_id, safe='')}", rank=Rank.FINISH)
        except Refused as refused:
            if not is_gone(refused):
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
            tuple((item.name(), stored_values(item)) for item in items if not is_folder(item)),
            tuple(RemoteFolder(item.text("id"), item.name()) for item in items if is_folder(item)),
            str(offset + len(items)) if more and items else None,
        )
