"""One bucket of an S3 storage, asked with key pairs of its own: no API, no quota.

A file up to 64 MiB is one PutObject whose MD5 goes ahead, so that the storage keeps no other bytes;
a larger one is a multipart upload, its parts numbered from 1. Downloads are ranged gets. Addresses
are path-style. Read keys read, write keys write. Requests name their key and cost nothing; nothing
here sends `x-amz-checksum-*`, which some storages behind the platforms refuse.

An id is `s3://BUCKET/KEY`, a folder's ends in `/`; an upload's has the upload's own id before the
key, or `-` where the file goes whole.

Sources, by short name: [API] Amazon S3 API reference; [UG] Amazon S3 user guide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from urllib.parse import quote, unquote, unquote_plus, urlencode
from xml.sax.saxutils import escape

from penstock.core.errors import AnswerLost, AnswerUnusable, ExchangeError, Refused
from penstock.core.model import (
    MIB,
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
    sigv4,
)
from penstock.core.proof import TagKind, multipart_tag, read_tag, tag_of
from penstock.core.times import when
from penstock.core.traits import Traits
from penstock.core.values import quick_value
from penstock.platforms.base import TRANSIENT, Prepared, ranged_get, refuse_name, retry_after_s
from penstock.platforms.beginning import all_begin_again
from penstock.platforms.xmlreading import XmlElement

TRAITS = Traits(
    platform="s3",
    # No quota is known: nothing here takes a slot.
    quota=1_000_000,
    window_s=1.0,
    # Source: [API] ListObjectsV2: "returns up to 1,000 key names".
    page_size=1000,
    # Source: [UG] "Amazon S3 multipart upload limits": parts of 5 MiB to 5 GiB, 10,000 of them.
    requests_per_upload=0,
    requests_per_part=0,
    requests_per_download=0,
    requests_per_folder=0,
    puts_whole=True,
    listing_leases=True,
    quota_headers=False,
    needs_token=False,
    # 8 MiB is boto3's part size, and so the official Coscine client's, doubled while a file has
    # more than 10,000 parts; 64 MiB is ours; the others are usual elsewhere.
    etag_part_sizes=tuple(n * MIB for n in (8, 16, 64, 5, 32, 128, 10, 100)),
)

# Source: [UG] "Object key naming guidelines": at most 1,024 bytes of UTF-8.
LONGEST_KEY = 1024

# Source: [API] "Error responses": what is worth another try though its status does not say so.
_LATER = frozenset(("RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"))
# Source: [API] "Error responses": the body did not arrive as it was sent.
_DAMAGED = frozenset(("BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"))
_HINTS = {
    "AccessDenied": "these keys may not do that",
    "InvalidAccessKeyId": "the storage does not know the keys",
    "SignatureDoesNotMatch": "the storage does not accept the keys",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "NoSuchBucket": "there is no such bucket",
    "PermanentRedirect": "the bucket is served elsewhere",
}
_LONGEST_CODE = 64
_HOW_OFTEN_TO_ASK = 3
_WHOLE = "-"
_GONE = 404


@quick_value(frozen=True, slots=True)
@all_begin_again
class S3:
    """The flows of one bucket. `read` and `write` are names of keys; without `write` none may."""

    endpoint: str
    bucket: str
    read: str
    write: str | None = None
    traits: Traits = TRAITS

    @property
    def ids(self) -> str:
        """What the bucket's ids begin with."""
        return f"s3://{self.bucket}/"

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """Nothing: requests are signed by the key they name."""
        return ()

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """What the storage means. Of its body only the code is told: the rest may name keys.

        Source: [API] "Error responses": `<Error><Code>…`; a HEAD is answered without a body.
        """
        code = _code(response)
        said = f" ({code}: {_HINTS[code]})" if code in _HINTS else f" ({code})" if code else ""
        return Refused(
            f"{request.shown} was refused with {response.status}{said}",
            status=response.status,
            code=code,
            retry=response.status in TRANSIENT or code in _LATER or code in _DAMAGED,
            undone=code == "SlowDown" or code in _DAMAGED,
            retry_after_s=retry_after_s(response.headers),
        )

    # -- places -----------------------------------------------------------------------------

    def place(self, path: str) -> Place:
        """The bucket, and the path in it."""
        return Place(self.bucket, path.strip("/"))

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:  # noqa: ARG002
        """What stands at a path, by the first keys that begin with it.

        An object comes before a "folder" of the same name. A "folder" is what keys begin with.
        """
        path = place.path
        if not path:
            return Found(self._folder(place, ""))
        above, _, name = path.rpartition("/")
        first = yield from self._first(path)
        if first is not None and first.id == self.ids + path:
            return Found(self._folder(place, above), file=replace(first, name=name))
        if first is not None and not first.id.startswith(f"{self.ids}{path}/"):
            first = yield from self._first(f"{path}/")
        if first is not None:
            return Found(self._folder(place, path))
        segments = path.split("/")
        depth = len(segments) - 1
        while depth and (yield from self._first("/".join(segments[:depth]) + "/")) is None:
            depth -= 1
        return Found(
            self._folder(place, "/".join(segments[:depth])), missing=tuple(segments[depth:])
        )

    def _folder(self, place: Place, path: str) -> Place:
        return Place(place.container, path, self.ids + (f"{path}/" if path else ""))

    def _first(self, prefix: str) -> Flow[RemoteFile | None]:
        """The first object whose key begins so."""
        page = yield from self._list(prefix, None, delimiter="", most=1)
        return page.files[0] if page.files else None

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:  # noqa: ARG002
        """Whether there are keys for it."""
        yield from ()
        if writing and self.write is None:
            return Prepared("your role has no keys to write to its storage")
        return Prepared()

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:
        """1,000 entries of one "folder"; what others made to stand for a folder is left out."""
        if place.id is not None:
            prefix = place.id.removeprefix(self.ids)
        else:
            prefix = f"{place.path}/" if place.path else ""
        return (yield from self._list(prefix, cursor, delimiter="/", most=self.traits.page_size))

    def _list(self, prefix: str, cursor: str | None, *, delimiter: str, most: int) -> Flow[Page]:
        """Source: [API] ListObjectsV2. Keys come URL-encoded: XML cannot carry every character."""
        query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(most))]
        query += [("prefix", prefix)] if prefix else []
        query += [("delimiter", delimiter)] if delimiter else []
        query += [("continuation-token", cursor)] if cursor is not None else []
        response = yield self._ask("GET", "", query)
        listed = XmlElement.of(response, "object listing").expect("ListBucketResult")
        read = unquote_plus if listed.text_or_none("EncodingType") == "url" else str
        files = []
        for entry in listed.children("Contents"):
            key = read(entry.text("Key"))
            if key == prefix and delimiter:
                continue
            files.append(self._file(key, key.removeprefix(prefix), entry))
        folders = []
        for entry in listed.children("CommonPrefixes"):
            path = read(entry.text("Prefix"))
            name = path.removeprefix(prefix).removesuffix("/")
            folders.append(RemoteFolder(self.ids + path, name))
        more = listed.text_or_none("IsTruncated") == "true"
        after = listed.text("NextContinuationToken") if more else None
        return Page(tuple(files), tuple(folders), after)

    def _file(self, key: str, name: str, entry: XmlElement) -> RemoteFile:
        return RemoteFile(
            self.ids + key,
            name,
            entry.whole("Size"),
            modified=entry.text_or_none("LastModified"),
            etag=_quoted(entry.text_or_none("ETag")),
            lease=self._lease(self.ids + key),
        )

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:  # noqa: ARG002
        """The bucket itself: its keys are for no other."""
        yield from ()
        return Page(folders=(RemoteFolder(self.ids, self.bucket, "bucket"),))

    def make_folder(self, parent: Place, name: str) -> Flow[Place]:
        """The "folder", which needs no making."""
        yield from ()
        return self._folder(parent, f"{parent.path}/{name}" if parent.path else name)

    # -- downloads --------------------------------------------------------------------------

    def _lease(self, file_id: str) -> Lease:
        """An object's address, good for as long as the keys are."""
        return Lease(self._url(self._key(file_id)), Origin("object", file_id))

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        """The address of an object: nothing is asked."""
        yield from ()
        return self._lease(file.id)

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:
        """The same address: it does not end."""
        yield from ()
        return {origin.place: self._lease(origin.place)}

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """An object as a listing shows it."""
        found = yield from self._stat(file_id)
        if found is None:
            raise Refused(f"{file_id} is not there", status=_GONE)
        return found

    def _stat(self, file_id: str) -> Flow[RemoteFile | None]:
        first = yield from self._first(self._key(file_id))
        if first is None or first.id != file_id:
            return None
        return replace(first, name=file_id.rpartition("/")[2])

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:
        """Objects by id, a request each: no request names several."""
        found = {}
        for file_id in file_ids:
            file = yield from self._stat(file_id)
            if file is not None:
                found[file_id] = file
        return found

    def delete_file(self, file_id: str) -> Flow[None]:
        """An object is gone. Source: [API] DeleteObject: 204 also where there is none."""
        yield self._send("DELETE", self._key(file_id), accept=(200, 204, _GONE))

    def probe(self, lease: Lease) -> Flow[Response]:
        """The head of an object; of an empty one, which has no first byte, by HEAD."""
        asked = Request(
            "GET",
            lease.url,
            headers=(("Range", "bytes=0-0"),),
            accept=frozenset((200, 206, 416)),
            cost=0,
            auth=sigv4(self.read),
            rank=Rank.FINISH,
        )
        response = yield asked
        if response.status != 416:  # noqa: PLR2004
            return response
        return (yield replace(asked, method="HEAD", headers=(), accept=frozenset((200,))))

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
        """One range. A storage that redirects is not followed: its keys are for one host."""
        request = ranged_get(lease, part, sink, total=total, validator=validator, digests=digests)
        return (yield replace(request, auth=sigv4(self.read)))

    # -- uploads ----------------------------------------------------------------------------

    def create_upload(self, target: Target, part_size: int, *, overwrite: bool) -> Flow[Upload]:  # noqa: ARG002
        """An upload begun; one of a single part is none: the file goes whole, and nothing is asked.

        Where its answer was lost, what was begun unseen holds no bytes, and nothing would tell it
        from what somebody else is just beginning with the same keys: whoever asks for it again
        finds it by `open_uploads`, and may name it. Source: [API] CreateMultipartUpload.
        """
        key = self._key_of(target)
        if target.size <= part_size:
            yield from ()
            return Upload(self._upload_id(_WHOLE, key), part_size)
        asked = self._send("POST", key, [("uploads", "")], rank=Rank.START)
        response = yield replace(asked, repeat=Repeat.ASK)
        begun = XmlElement.of(response, "new upload")
        return Upload(self._upload_id(begun.text("UploadId"), key), part_size)

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        """One part sent, the last copy of a number counting; or the whole file, its MD5 ahead.

        Source: [API] UploadPart; [API] PutObject, `Content-MD5`.
        """
        number, key = self._upload(upload.id)
        query = [] if number == _WHOLE else [("partNumber", str(part.number)), ("uploadId", number)]
        sent = yield replace(
            self._send("PUT", key, query, rank=Rank.FINISH),
            body=(FileSlice(path, part.offset, part.length),),
            headers=(("Content-Type", "application/octet-stream"),),
            digests=frozenset(("md5",)),
            announces_md5=number == _WHOLE,
        )
        tag = sent.headers.get("etag")
        return Receipt(
            part.number,
            part.offset,
            part.length,
            md5=sent.digests["md5"],
            etag=tag.strip('"') if tag is not None else None,
            proves=read_tag(sent.headers).kind is TagKind.MD5,
        )

    def complete_upload(
        self,
        upload: Upload,
        target: Target,
        receipts: Sequence[Receipt],
        *,
        reports: bool,  # noqa: ARG002
    ) -> Flow[Completed | None]:
        """The object. What went whole stands already; parts are put together by one request.

        An answer 200 may hold an error. Source: [API] CompleteMultipartUpload, "Error handling".
        """
        number, key = self._upload(upload.id)
        file = RemoteFile(
            self.ids + key, target.name, target.size, lease=self._lease(self.ids + key)
        )
        if number == _WHOLE:
            return Completed(replace(file, etag=_quoted(receipts[0].etag)))
        body = "".join(
            f"<Part><PartNumber>{receipt.number}</PartNumber>"
            f'<ETag>"{escape(receipt.etag or receipt.md5)}"</ETag></Part>'
            for receipt in receipts
        )
        request = replace(
            self._send("POST", key, [("uploadId", number)], rank=Rank.FINISH),
            headers=(("Content-Type", "application/xml"),),
            body=(f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode(),),
            repeat=Repeat.ASK,
        )
        expected = multipart_tag([receipt.md5 for receipt in receipts])
        for _ in range(_HOW_OFTEN_TO_ASK):
            try:
                response = yield request
                done = XmlElement.of(response, "completed upload")
                if done.name != "Error":
                    tag = done.text("ETag")
                    surprising = tag_of(tag).text != expected
                    return Completed(replace(file, etag=_quoted(tag)), asked=surprising)
            except Refused as refused:
                if refused.status != _GONE:
                    raise
                return (yield from self._find_completed(file, expected))
            except (AnswerLost, AnswerUnusable):
                pass
            if (yield from self.describe_upload(upload.id)) is None:
                return (yield from self._find_completed(file, expected))
        raise AnswerLost(f"completing the upload of {target.name!r} was never answered")

    def _find_completed(self, file: RemoteFile, expected: str) -> Flow[Completed | None]:
        """The object an upload that is gone has become.

        Known by its ETag; where that is no such digest, by its size, and then in need of a proof.
        """
        found = yield from self._stat(file.id)
        if found is None or found.size != file.size:
            return None
        tag = tag_of(found.etag)
        if tag.kind is TagKind.MULTIPART and tag.text == expected:
            return Completed(replace(found, name=file.name))
        return Completed(replace(found, name=file.name), asked=True)

    def abort_upload(self, upload_id: str) -> Flow[None]:
        """Nothing left of an upload. Source: [API] AbortMultipartUpload."""
        number, key = self._upload(upload_id)
        if number != _WHOLE:
            query = [("uploadId", number)]
            yield self._send("DELETE", key, query, accept=(200, 204, _GONE))

    def open_uploads(self, cursor: str | None) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:
        """1,000 of the bucket's unfinished uploads, whoever began them.

        Source: [API] ListMultipartUploads; it does not say how large they are to become, so none
        of them is ever taken for ours: those we own are known by their id.
        """
        query = [("uploads", ""), ("encoding-type", "url"), ("max-uploads", "1000")]
        if cursor is not None:
            after, _, upload = cursor.partition(" ")
            query += [("key-marker", unquote(after)), ("upload-id-marker", unquote(upload))]
        response = yield self._send("GET", "", query)
        listed = XmlElement.of(response, "upload listing").expect("ListMultipartUploadsResult")
        read = unquote_plus if listed.text_or_none("EncodingType") == "url" else str
        found = []
        for entry in listed.children("Upload"):
            key = read(entry.text("Key"))
            upload_id = self._upload_id(entry.text("UploadId"), key)
            found.append(self._open(upload_id, entry.text_or_none("Initiated")))
        if listed.text_or_none("IsTruncated") != "true":
            return tuple(found), None
        marker = read(listed.text("NextKeyMarker"))
        upload = listed.text_or_none("NextUploadIdMarker") or ""
        return tuple(found), f"{quote(marker, safe='')} {quote(upload, safe='')}"

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:
        """An unfinished upload, if it is there. Source: [API] ListParts."""
        number, key = self._upload(upload_id)
        query = [("max-parts", "1"), ("uploadId", number)]
        answer = yield self._send("GET", key, query, accept=(200, _GONE))
        if answer.status == _GONE:
            return None
        # Its name differs between servers: `ListPartsResult`, and moto's `ListPartsResponse`.
        XmlElement.of(answer, "part listing").text("UploadId")
        return self._open(upload_id, None)

    def _open(self, upload_id: str, began: str | None) -> OpenUpload:
        _, key = self._upload(upload_id)
        above, _, name = key.rpartition("/")
        folder = self.ids + (f"{above}/" if above else "")
        return OpenUpload(upload_id, name, None, folder, None, None, when(began))

    # -- requests ---------------------------------------------------------------------------

    def _key_of(self, target: Target) -> str:
        """The key of a file that is to be."""
        name, path = target.name, target.place.path
        if not name or "/" in name:
            raise refuse_name(name, "cannot stand in an S3 storage")
        key = f"{path}/{name}" if path else name
        if any(segment in {".", ".."} for segment in key.split("/")):
            raise refuse_name(key, "has a segment that clients read as another path")
        if len(key.encode("utf-8", "surrogatepass")) > LONGEST_KEY:
            raise refuse_name(name, f"makes a key of more than {LONGEST_KEY} bytes")
        return key

    def _key(self, file_id: str) -> str:
        return file_id.removeprefix(self.ids)

    def _upload_id(self, number: str, key: str) -> str:
        return f"{self.ids}{quote(number, safe='')}/{key}"

    def _upload(self, upload_id: str) -> tuple[str, str]:
        number, _, key = upload_id.removeprefix(self.ids).partition("/")
        return unquote(number), key

    def _url(self, key: str, query: Sequence[tuple[str, str]] = ()) -> str:
        """Source: [UG] "Virtual hosting", path-style; every byte encoded that may be."""
        path = quote(key, safe="/~", errors="surrogatepass")
        asked = "?" + urlencode(query, quote_via=quote) if query else ""
        return f"{self.endpoint}/{quote(self.bucket, safe='')}{'/' if key else ''}{path}{asked}"

    def _ask(self, method: str, key: str, query: Sequence[tuple[str, str]] = ()) -> Request:
        return Request(method, self._url(key, query), cost=0, auth=sigv4(self.read))

    def _send(
        self,
        method: str,
        key: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        accept: Sequence[int] = (200, 201, 204),
        rank: Rank = Rank.CONTINUE,
    ) -> Request:
        """A request with the write keys, which the caller has seen to be there."""
        if self.write is None:
            raise Refused("your role has no keys to write to the storage", status=403)
        url, key_name = self._url(key, query), sigv4(self.write)
        return Request(method, url, cost=0, auth=key_name, accept=frozenset(accept), rank=rank)


def _quoted(tag: str | None) -> str | None:
    """An ETag as it stands in a header; some answers leave its quotes out."""
    return f'"{tag.strip(chr(34))}"' if tag else None


def _code(response: Response) -> str | None:
    """The storage's own word for a refusal."""
    try:
        code = XmlElement.of(response, "refusal").text_or_none("Code")
    except AnswerUnusable:
        return None
    plain = code is not None and code.replace(".", "").isalnum() and code.isascii()
    return code if plain and len(code or "") <= _LONGEST_CODE else None
