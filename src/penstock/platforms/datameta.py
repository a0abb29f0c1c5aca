"""DataMeta API v1: no quota, few threads. A file is announced by its MD5, sent, and confirmed.

An upload is POST /files, the form to the URL that answers it, PUT /files/{id}: three requests, two
for an empty file. The key to an announced file (`Access-Token`) stands in the announce's answer
alone and is held in memory: what a dead run announced can be confirmed or deleted, never sent to.
Names are not unique; a file is known by its id, and the same as another by name and MD5. There is
no listing of files: those one has sent and not submitted are in the web interface's own list,
those submitted in the group's submissions. Confirming proves the MD5, so nothing is probed: a
download URL, once given, keeps its file from ever being deleted.

Sources, by short name: [DOC] "Using the REST API" of CoGDat's DataMeta; [SRV] DataMeta 1.1.1,
source; *observed*: a real DataMeta 1.1.1 server on loopback, 2026-11-21.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    DigestMismatch,
    ExchangeError,
    LeaseExpired,
    LocationError,
    Refused,
)
from penstock.core.model import (
    MIB,
    NO_AUTH,
    TIB,
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
from penstock.core.times import when
from penstock.core.traits import Attaches, Traits
from penstock.platforms.base import (
    REDIRECTS,
    TRANSIENT,
    JsonObject,
    Prepared,
    ranged_get,
    refuse_name,
)
from penstock.platforms.beginning import all_begin_again
from penstock.platforms.datameta_records import RecordFlows, id_in, objects_in

TRAITS = Traits(
    platform="datameta",
    # No quota is documented and none is in [SRV]. This many are never reached, so they bind
    # nothing; that the first request goes alone and that a refused key is remembered stays.
    quota=1_000_000,
    window_s=1.0,
    page_size=1,
    # One form carries the whole file; [SRV] has no other way. The largest is what the shipped
    # configuration lets through (10 GiB); a server may be told otherwise, so it is not enforced.
    smallest_part=1,
    largest_part=5 * TIB,
    most_parts=1,
    quota_headers=False,
    requests_per_upload=2,
    requests_per_part=1,
    # The profile alone is where the caller's own files are.
    container_levels=0,
    rationed=False,
    # Four threads serve ([SRV], production.ini), and at 4 cycles at once of small files 5 of 200
    # met a conflict of transactions (*observed*); more at once gives more of them, not more files.
    bodies_at_once=4,
    files_at_once=8,
    digest_first="md5",
    unique_names=False,
    uploads_resume=False,
    # The URL is asked for, and leads to the server itself ([SRV]: its only storage that works).
    requests_per_download=1,
    counts_ranges=True,
    sends_empty=False,
    attaches=Attaches.SUBMITTED,
    # All records come in two answers, whichever files are asked about.
    described_at_once=100_000,
)

# Source: RFC 1321, the MD5 of no bytes.
MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"

_SUBMISSIONS = "submissions"
_VERSIONED = re.compile(r"(.*)/api/v[0-9]+\Z")
_BOUNDARY = "penstock-form-7f3c1b9e5d2a4860"
# What a download URL must outlive at the least; 1 minute is the server's default. A running
# download is not cut ([SRV]), so only its beginning, and its resuming, must fall into the time.
_SHORTEST_URL_MIN = 15
_LONGEST_URL_MIN = 1440
# A slow link's bytes a minute, by which a URL's life is reckoned. A guess.
_SLOW_A_MINUTE = 60 * MIB
_HOW_OFTEN_TO_ASK = 3


@all_begin_again
class DataMeta(RecordFlows):
    """The flows of one DataMeta server, named by its API root or by its own root.

    The one thing remembered between flows is where the API is, and the group of the key's owner.
    """

    def __init__(self, endpoint: str, traits: Traits = TRAITS) -> None:
        stripped = endpoint.rstrip("/")
        versioned = _VERSIONED.fullmatch(stripped)
        self._root = versioned[1] if versioned else stripped.removesuffix("/api")
        self._api = stripped if versioned else None
        self._group: str | None = None
        self._traits = traits

    @property
    def traits(self) -> Traits:
        """The numbers."""
        return self._traits

    @property
    def endpoint(self) -> str:
        """The server's root: the same for both spellings of an endpoint."""
        return self._root

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:
        """The key's header. Source: [DOC] "Authentication to the API"; case and space matter."""
        return (("Authorization", f"Bearer {token}"),)

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """What a status and a body mean. Bodies are lists of errors, `null`, or HTML pages.

        A 500 of the server's own is a transaction that was rolled back ([SRV]: SERIALIZABLE,
        conflicts are retried ten times, then answered so), thus certainly not done, and a sign of
        too many at once; one of a gateway before it may hide a request that was.
        """
        status = response.status
        what = f"{request.shown} was refused with {status}" + _said(response.body)
        if status == 413:  # noqa: PLR2004 - [SRV]: waitress, max_request_body_size
            what += ": the server takes no file this large (its operator can allow it)"
        if request.auth == NO_AUTH and status == 404 and request.method == "GET":  # noqa: PLR2004
            return LeaseExpired(f"{request.shown}: the download URL is no longer accepted")
        own = response.headers.get("content-type", "").startswith("text/plain")
        return Refused(
            what,
            status=status,
            retry=status in TRANSIENT,
            crowded=status in {500, 503},
            undone=status == 500 and own,  # noqa: PLR2004
        )

    # -- places -----------------------------------------------------------------------------

    def place(self, path: str) -> Place:
        """'' (to send to), `submissions[/ID[/NAME]]`, or a file's id. Asks nothing."""
        if not path:
            return Place("")
        first, _, rest = path.partition("/")
        if first == _SUBMISSIONS:
            return Place(_SUBMISSIONS, rest)
        if rest:
            raise LocationError(
                f"{path!r} is no place on DataMeta: write a file's id, {_SUBMISSIONS}, or "
                f"{_SUBMISSIONS}/ID"
            )
        return Place(path if path.startswith("id=") else f"id={path}")

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:  # noqa: ARG002
        """A file by its id; a submission by either id, or the file of a name in it."""
        if place.container != _SUBMISSIONS:
            wanted = place.container.removeprefix("id=")
            try:
                return Found(place, file=(yield from self.stat(wanted)))
            except Refused as refused:
                if refused.status not in {403, 404}:
                    raise
                raise LocationError(
                    f"there is no file with the id {wanted}, or not for this key; files are sent "
                    "to the profile alone, as in datameta:, and keep their own names"
                ) from refused
        wanted, _, name = place.path.partition("/")
        for submission in (yield from self._submissions()):
            if wanted in _ids(submission.get("id")):
                here = Place(_SUBMISSIONS, wanted, _uuid(submission, "id"))
                if not name:
                    return Found(here)
                page = yield from self.list_page(here, None)
                for file in page.files:
                    if file.name == name:
                        return Found(here, file=file)
                return Found(here, missing=(name,))
        return Found(Place(_SUBMISSIONS), missing=(wanted,))

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:
        """Whether the key is good: one request, alone, before anything else is asked."""
        if writing and (place.container or place.path):
            raise LocationError(
                "DataMeta has no folders, and a file there is never written over: send to the "
                "profile alone, as in datameta:"
            )
        yield from self._own_group()
        return Prepared()

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:  # noqa: ARG002
        """The pending files and `submissions`; the group's submissions; the files of one.

        Names and ids of submitted files come with the metadata of all submissions ([SRV]: GET
        /metadatasets), so that no request is made for a file. Sizes are not in it.
        """
        if place.container != _SUBMISSIONS and not place.path:
            return Page((yield from self.pending()), (RemoteFolder(_SUBMISSIONS, _SUBMISSIONS),))
        submissions = yield from self._submissions()
        if place.id in {None, _SUBMISSIONS}:
            return Page((), tuple(_folder(each) for each in submissions))
        wanted = [
            id_in(entry)
            for each in submissions
            if _uuid(each, "id") == place.id
            for entry in _list(each.get("fileIds"))
        ]
        names = yield from self.submitted_names()
        files = []
        for file_id in dict.fromkeys(wanted):
            if file_id in names:
                files.append(RemoteFile(file_id, names[file_id], None))
            else:
                files.append((yield from self.stat(file_id)))
        return Page(tuple(files))

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:  # noqa: ARG002
        """`submissions` alone; asked after the key, so that a bad one is found out."""
        yield from self._own_group()
        return Page((), (RemoteFolder(_SUBMISSIONS, _SUBMISSIONS),))

    def make_folder(self, parent: Place, name: str) -> Flow[Place]:
        """The same place: DataMeta has no folders, a file's name is its last component."""
        yield from ()
        return Place(parent.container, f"{parent.path}/{name}" if parent.path else name, "")

    def pending(self) -> Flow[tuple[RemoteFile, ...]]:
        """The caller's own files that are confirmed and not submitted, newest first.

        Source: [SRV] `api/ui/pending`, a route of the web interface that takes the key as well.
        """
        answer = yield from self._pending()
        return tuple(_remote_file(item) for item in answer.objects("files"))

    def _pending(self) -> Flow[JsonObject]:
        yield from self._rooted()
        response = yield self._request("GET", f"{self._root}/api/ui/pending")
        return JsonObject.of(response, "what is pending")

    def submitted_names(self) -> Flow[Mapping[str, str]]:
        """The names of files by id, in all submissions the key may see. 404 means: none."""
        yield from self._rooted()
        response = yield self._call("GET", "/metadatasets", accept=(200, 404))
        names: dict[str, str] = {}
        if response.status == 404:  # noqa: PLR2004
            return names
        for item in objects_in(response, "metadatasets"):
            record = item.get("record")
            files = item.get("fileIds")
            if isinstance(record, dict) and isinstance(files, dict):
                for column, file_id in files.items():
                    if isinstance(file_id, dict) and isinstance(record.get(column), str):
                        names[id_in(file_id)] = record[column]
        return names

    def standing(self) -> Flow[tuple[RemoteFile, ...]]:
        """The caller's pending files, and what the group has submitted: four requests.

        Of submitted files neither size nor MD5 is told here; one that is in no metadata has no
        name here, and none gets so far ([SRV]: refused as "without reference in metadata").
        """
        pending = yield from self.pending()
        submissions = yield from self._submissions()
        ids = [id_in(entry) for each in submissions for entry in _list(each.get("fileIds"))]
        names = (yield from self.submitted_names()) if ids else {}
        own = dict.fromkeys(file_id for file_id in ids if file_id in names)
        return (*pending, *(RemoteFile(file_id, names[file_id], None) for file_id in own))

    def check_name(self, name: str) -> None:
        """Nothing, or `NameRefused`: see `check_name` below."""
        check_name(name)

    def _submissions(self) -> Flow[list[JsonObject]]:
        group = yield from self._own_group()
        response = yield self._call("GET", f"/groups/{quote(group, safe='')}/submissions")
        return list(objects_in(response, "submissions"))

    def _own_group(self) -> Flow[str]:
        """The group of the key's owner, by its site id where it has one. Source: [SRV] rpc/whoami.

        By its uuid only those who may read all groups get their own's submissions: the server
        compares the text with a UUID, and answers 403 (*observed*).
        """
        if self._group is None:
            yield from self._rooted()
            answer = JsonObject.of((yield self._call("GET", "/rpc/whoami")), "whoami")
            group = answer.object_or_none("group")
            named = (group or answer).get("id" if group is not None else "groupId")
            site = named.get("site") if isinstance(named, dict) else None
            self._group = site if isinstance(site, str) and site else id_in(named)
        return self._group

    # -- downloads --------------------------------------------------------------------------

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        """A URL for a file's bytes that lasts as long as its size asks for."""
        wanted = _SHORTEST_URL_MIN + (file.size or 0) // _SLOW_A_MINUTE
        return (yield from self._lease(file.id, min(wanted, _LONGEST_URL_MIN)))

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:
        """Another URL for the one file, as long-lived as the first."""
        minutes = int(origin.cursor or _SHORTEST_URL_MIN)
        return {origin.place: (yield from self._lease(origin.place, minutes))}

    def _lease(self, file_id: str, minutes: int) -> Flow[Lease]:
        yield from self._rooted()
        path = f"/rpc/get-file-url/{quote(file_id, safe='')}?expires={minutes}&redirect=false"
        answer = JsonObject.of((yield self._call("GET", path)), "download URL")
        origin = Origin("file", file_id, str(minutes))
        return Lease(answer.url("fileUrl"), origin, when(answer.get("expires")))

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """A file's name, size and MD5. Throws `Refused` (404) for one that was never confirmed."""
        item = yield from self._details(file_id)
        if item.get("contentUploaded") is not True:
            raise Refused(f"the file {file_id} was announced and never confirmed", status=404)
        return _remote_file(item)

    def _details(self, file_id: str) -> Flow[JsonObject]:
        yield from self._rooted()
        response = yield self._call("GET", f"/files/{quote(file_id, safe='')}")
        return JsonObject.of(response, "file details")

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:
        """Files by id, one request each: there is no other way to ask."""
        found = {}
        for file_id in file_ids:
            try:
                found[file_id] = yield from self.stat(file_id)
            except Refused as refused:
                if refused.status not in {403, 404}:
                    raise
        return found

    def delete_file(self, file_id: str) -> Flow[None]:
        """A file that is not submitted is gone. Source: [DOC] DELETE /files/{id}."""
        yield from self._rooted()
        path = f"/files/{quote(file_id, safe='')}"
        yield self._call("DELETE", path, accept=(204, 404), rank=Rank.FINISH)

    def probe(self, lease: Lease) -> Flow[Response]:
        """The head of a file, by its first byte."""
        headers = (*lease.headers, ("Range", "bytes=0-0"))
        return (yield self._storage("GET", lease.url, headers, accept=(200, 206, 416)))

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
        """One range, from the download URL. There are no ETags (*observed*)."""
        request = ranged_get(lease, part, sink, total=total, validator=validator, digests=digests)
        return (yield replace(request, cost=self._cost(lease.url)))

    # -- uploads ----------------------------------------------------------------------------

    def create_upload(
        self,
        target: Target,
        part_size: int,
        *,
        overwrite: bool,  # noqa: ARG002 - names are not unique: nothing is written over
    ) -> Flow[Upload]:
        """The file announced by name and MD5; its URL and key are the upload's lease.

        A lost answer is thrown: an announced file is in no list, so nobody can be asked.
        """
        check_name(target.name)
        yield from self._rooted()
        body = {"name": target.name, "checksum": target.digests["md5"]}
        request = self._call("POST", "/files", body, repeat=Repeat.ASK, rank=Rank.START)
        answer = JsonObject.of((yield request), "announced file")
        file_id = _uuid(answer, "id")
        headers = answer.get("requestHeaders")
        pairs = headers.items() if isinstance(headers, dict) else ()
        lease = Lease(
            answer.url("urlToUpload"),
            Origin("upload", file_id),
            headers=tuple((str(name), str(value)) for name, value in pairs),
        )
        return Upload(file_id, max(part_size, target.size), parallel=False, lease=lease)

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        """The whole file sent as a form; it may be sent again until it is confirmed.

        An empty file needs none: announcing makes an empty one (*observed*). 409 says that it was
        confirmed before, which `complete_upload` finds out.
        """
        if part.length == 0:
            yield from ()
            return Receipt(part.number, 0, 0, MD5_OF_NOTHING)
        if upload.lease is None:
            raise Refused(f"the key to the announced file {upload.id} is lost", status=404)
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        form = ("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
        slice_ = FileSlice(path, part.offset, part.length)
        body = (head.encode(), slice_, f"\r\n--{_BOUNDARY}--\r\n".encode())
        headers = (*upload.lease.headers, form)
        sent = yield self._storage(
            "POST", upload.lease.url, headers, accept=(200, 201, 204, 409), body=body
        )
        return Receipt(part.number, part.offset, part.length, sent.digests["md5"])

    def complete_upload(
        self,
        upload: Upload,
        target: Target,
        receipts: Sequence[Receipt],
        *,
        reports: bool,  # noqa: ARG002 - there are none
    ) -> Flow[Completed | None]:
        """The confirmed file, its MD5 proved by the platform; None where it is gone.

        Throws `DigestMismatch` where the platform has other bytes (409): sending again mends
        that. A lost answer, and the 403 of a file that is confirmed already, are asked about.
        """
        yield from self._rooted()
        path = f"/files/{quote(upload.id, safe='')}"
        request = self._call(
            "PUT",
            path,
            {"contentUploaded": True},
            accept=(200, 403, 404, 409),
            repeat=Repeat.ASK,
            rank=Rank.FINISH,
        )
        for _ in range(_HOW_OFTEN_TO_ASK):
            try:
                response = yield request
            except AnswerLost:
                response = None
            if response is not None and response.status == 200:  # noqa: PLR2004
                return Completed(_remote_file(JsonObject.of(response, "confirmed file")))
            if response is not None and response.status == 404:  # noqa: PLR2004
                return None
            if response is not None and response.status == 409:  # noqa: PLR2004
                announced, sent = target.digests["md5"], receipts[0].md5
                raise DigestMismatch(
                    f"{target.name!r} was announced with md5 {announced}, bytes with md5 {sent} "
                    "were sent, and the platform says that what arrived is not what was announced",
                    expected=announced,
                    actual=sent,
                )
            try:
                item = yield from self._details(upload.id)
            except Refused as refused:
                if refused.status != 404:  # noqa: PLR2004
                    raise
                return None
            if item.get("contentUploaded") is True:
                return Completed(_remote_file(item), asked=True)
        raise AnswerLost(f"confirming {target.name!r} was never answered")

    def abort_upload(self, upload_id: str) -> Flow[None]:
        """Nothing is left of an announced file. One that was confirmed is no upload, and stays."""
        if (yield from self.describe_upload(upload_id)) is not None:
            yield from self.delete_file(upload_id)

    def open_uploads(self, cursor: str | None) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:  # noqa: ARG002
        """None: what was announced and not confirmed is in no list. Source: [SRV]."""
        yield from ()
        return (), None

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:
        """An announced file; None where it is gone, or confirmed and thus no upload any more."""
        try:
            item = yield from self._details(upload_id)
        except Refused as refused:
            if refused.status != 404:  # noqa: PLR2004
                raise
            return None
        if item.get("contentUploaded") is True:
            return None
        return OpenUpload(upload_id, item.text("name"), "", None, None, None, None)

    # -- requests ---------------------------------------------------------------------------

    def _rooted(self) -> Flow[None]:
        """Where the API is, asked for once. Source: [DOC] "API URL": GET /api, 302, Location."""
        if self._api is not None:
            return
        request = Request("GET", f"{self._root}/api", auth=NO_AUTH, accept=REDIRECTS)
        answer = yield request
        url = urljoin(f"{self._root}/api", answer.headers.get("location", "")).rstrip("/")
        said, own = urlsplit(url), urlsplit(self._root)
        if (said.scheme, said.netloc) != (own.scheme, own.netloc) or not _VERSIONED.match(url):
            raise AnswerUnusable(
                f"{self._root}/api does not lead to an API root on the same server; write the "
                "endpoint with its version, as in https://HOST/api/v1"
            )
        self._api = url

    def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        accept: tuple[int, ...] = (200, 204),
        repeat: Repeat = Repeat.SAFE,
        rank: Rank = Rank.CONTINUE,
    ) -> Request:
        assert self._api is not None, "a flow asks for the API root first"
        sent = (json.dumps(body).encode(),) if body is not None else ()
        request = self._request(method, self._api + path, sent, accept=accept)
        return Request(
            request.method,
            request.url,
            headers=request.headers,
            body=sent,
            accept=request.accept,
            repeat=repeat,
            rank=rank,
        )

    def _request(
        self,
        method: str,
        url: str,
        body: tuple[bytes, ...] = (),
        *,
        accept: tuple[int, ...] = (200,),
    ) -> Request:
        headers = (("Accept", "application/json"), ("Content-Type", "application/json"))
        return Request(
            method, url, headers=headers[: 2 if body else 1], body=body, accept=frozenset(accept)
        )

    def _cost(self, url: str) -> int:
        """What a URL that carries its own right counts: it does where the server is its host."""
        return int(urlsplit(url).netloc == urlsplit(self._root).netloc)

    def _storage(
        self,
        method: str,
        url: str,
        headers: tuple[tuple[str, str], ...],
        *,
        accept: tuple[int, ...],
        body: tuple[bytes | FileSlice, ...] = (),
    ) -> Request:
        """A request to a URL that carries its own right."""
        return Request(
            method,
            url,
            headers=headers,
            body=body,
            cost=self._cost(url),
            auth=NO_AUTH,
            accept=frozenset(accept),
            rank=Rank.FINISH,
            digests=frozenset(("md5",)) if body else frozenset(),
        )


def check_name(name: str) -> None:
    """Nothing, or `NameRefused` for a name the server takes and can never serve again.

    A name outside latin-1, or with a line end, makes every download of it a 500 (*observed*).
    """
    try:
        name.encode("latin-1")
    except UnicodeEncodeError:
        raise refuse_name(name, "is not latin-1, and DataMeta cannot serve such files") from None
    if not name or "\n" in name or "\r" in name:
        raise refuse_name(name, "is empty or holds a line end, which DataMeta cannot serve")


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - foreign JSON
    return value if isinstance(value, list) else []


def _ids(value: Any) -> set[str]:  # noqa: ANN401 - foreign JSON
    """Both names of a thing."""
    if not isinstance(value, dict):
        return set()
    return {each for each in (value.get("uuid"), value.get("site")) if isinstance(each, str)}


def _uuid(item: JsonObject, name: str) -> str:
    return id_in(item.get(name))


def _folder(submission: JsonObject) -> RemoteFolder:
    named = submission.get("id")
    site = named.get("site") if isinstance(named, dict) else None
    own = id_in(named)
    return RemoteFolder(own, site if isinstance(site, str) and site else own, "submission")


def _remote_file(item: JsonObject) -> RemoteFile:
    checksum = item.text_or_none("checksum")
    digests = {"md5": checksum.lower()} if checksum is not None else {}
    size = item.whole_or_none("filesize")
    return RemoteFile(_uuid(item, "id"), item.text("name"), size, digests=digests)


def _said(body: bytes) -> str:
    """The server's own sentences, where it says any: one line, of bounded length."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    told = [
        f"{entry['field']}: {entry['message']}" if entry.get("field") else str(entry["message"])
        for entry in _list(value)
        if isinstance(entry, dict) and entry.get("message")
    ]
    return f": {' '.join('; '.join(told).split())[:300].rstrip('.')}" if told else ""
