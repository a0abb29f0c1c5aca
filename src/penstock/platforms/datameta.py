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
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from penstock.core.errors import (
    ExchangeError,
    LeaseExpired,
    LocationError,
    Refused,
)
from penstock.core.model import (
    MIB,
    NO_AUTH,
    TIB,
    Flow,
    Found,
    Lease,
    Origin,
    Page,
    Part,
    Place,
    RemoteFile,
    RemoteFolder,
    Request,
    Response,
)
from penstock.core.times import when
from penstock.core.traits import Attaches, Traits
from penstock.platforms.base import (
    TRANSIENT,
    JsonObject,
    Prepared,
    ranged_get,
)
from penstock.platforms.beginning import all_begin_again
from penstock.platforms.datameta_records import RecordFlows
from penstock.platforms.datameta_requests import id_in, objects_in, remote_file
from penstock.platforms.datameta_uploads import UploadFlows, check_name

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
    # Five uses of an expired key within an hour disable its owner's account. Source: [SRV]
    # security, `register_failed_login_attempt`, `security_max_failed_login_attempts`.
    refusals_lock=True,
    # Four threads serve ([SRV], production.ini), and at 4 cycles at once of small files 5 of 200
    # met a conflict of transactions (*observed*); more at once gives more of them, not more files.
    bodies_at_once=4,
    files_at_once=8,
    digest_first="md5",
    unique_names=False,
    uploads_resume=False,
    # The URL is asked for, and leads to the server itself ([SRV]: its only storage that works).
    requests_per_download=1,
    # Source: [SRV] rpc/get-file-url: the URL, and the file's MD5 (*observed*).
    leases_prove=True,
    counts_ranges=True,
    sends_empty=False,
    attaches=Attaches.SUBMITTED,
    # All records come in two answers, whichever files are asked about.
    described_at_once=100_000,
)


_SUBMISSIONS = "submissions"
# What a download URL must outlive at the least; 1 minute is the server's default. A running
# download is not cut ([SRV]), so only its beginning, and its resuming, must fall into the time.
_SHORTEST_URL_MIN = 15
_LONGEST_URL_MIN = 1440
# A slow link's bytes a minute, by which a URL's life is reckoned. A guess.
_SLOW_A_MINUTE = 60 * MIB


@all_begin_again
class DataMeta(RecordFlows, UploadFlows):
    """The flows of one DataMeta server, named by its API root or by its own root.

    The one thing remembered between flows is where the API is, and the group of the key's owner.
    """

    def __init__(self, endpoint: str, traits: Traits = TRAITS) -> None:
        super().__init__(endpoint)
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
        return tuple(remote_file(item) for item in answer.objects("files"))

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
        """Nothing, or `NameRefused`: see `datameta_uploads.check_name`."""
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
        """A URL for a file's bytes that lasts as long as its size asks for, or could."""
        if file.size is None:
            return (yield from self._lease(file.id, _LONGEST_URL_MIN))
        wanted = _SHORTEST_URL_MIN + file.size // _SLOW_A_MINUTE
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
        md5 = answer.text_or_none("checksum")
        return Lease(
            answer.url("fileUrl"),
            origin,
            when(answer.get("expires")),
            digests={"md5": md5.lower()} if md5 else {},
        )

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """A file's name, size and MD5. Throws `Refused` (404) for one that was never confirmed."""
        item = yield from self._details(file_id)
        if item.get("contentUploaded") is not True:
            raise Refused(f"the file {file_id} was announced and never confirmed", status=404)
        return remote_file(item)

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
