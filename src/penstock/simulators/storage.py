"""A storage host as platforms use them behind presigned URLs: S3, or Google as it differs.

It knows objects, multipart uploads and signatures, and no platform: a platform asks for leases and
tells when an upload is finished. A platform's token has no business here, so each one that comes is
refused and recorded in `violations`.

Source, unless said otherwise: AWS S3 API reference, "GetObject", "UploadPart",
"CompleteMultipartUpload", "Error responses".
"""

import base64
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cached_property
from typing import Any, Literal
from urllib.parse import quote

import google_crc32c

from penstock.simulators.content import (
    Bodies,
    BodyDiscardedError,
    Bytes,
    Content,
    Joined,
    KeepBodies,
    digests_of_parts,
    multipart_etag,
)
from penstock.simulators.faults import Faults
from penstock.simulators.host import Call, Exchange, Host, Reply
from penstock.simulators.objects import error_reply, ranged_reply, still_same
from penstock.simulators.presign import Lease, SignatureStyle, Signer

WrongEtags = Literal["random", "fixed"]

BUCKET = "penstock-simulator"

# One PUT takes no more. Source: AWS S3 User Guide, "Amazon S3 multipart upload limits".
LARGEST_PART = 5 * 1024**3


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """How the storage host behaves.

    upload_url_lifetime_s, download_url_lifetime_s: a guess; no platform says.
    signature: the look of presigned URLs; "google" also with `google`.
    sse_kms: ETags are no digests, and answers say why.
    wrong_etags: ETags look like MD5s and are not: another each time, or the same for equal bytes.
    etags: whether there are any.
    google: signed as Google does, with `x-goog-hash`: an MD5, or with `goog_md5` off the CRC32C
        that composed objects have alone.
    expired_status: of the answer to an expired URL; Google's 400 is a guess.
    part_headers: what a part's PUT must carry, signed.
    keep_bodies: "auto" keeps up to 1 MiB in memory and more on disk.
    bandwidth: bytes a second of one connection, either way.
    latency_s: waited before a request is handled.
    """

    upload_url_lifetime_s: float = 3600.0
    download_url_lifetime_s: float = 3600.0
    signature: SignatureStyle = "sigv4"
    sse_kms: bool = False
    wrong_etags: WrongEtags | None = None
    etags: bool = True
    google: bool = False
    goog_md5: bool = True
    expired_status: int = 403
    part_headers: Mapping[str, str] = field(default_factory=dict)
    keep_bodies: KeepBodies = "auto"
    bandwidth: float | None = None
    latency_s: float = 0.0
    clock_skew_s: float = 0.0


@dataclass(frozen=True)
class Violation:
    """Something a client must never do: what, and where."""

    what: str
    method: str
    path: str


@dataclass(frozen=True)
class Part:
    """A part as stored: the last copy sent of its number."""

    content: Content
    etag: str | None

    @cached_property
    def md5(self) -> str:
        """The MD5 of what was stored."""
        return self.content.md5()


@dataclass
class Multipart:
    """An unfinished upload: its parts by number, and whether they must come in order."""

    id: str
    key: str
    in_order: bool = False
    parts: dict[int, Part] = field(default_factory=dict)


class StoredObject:
    """One object: its content, the ETag it was given, and how many files it is the content of."""

    def __init__(
        self, key: str, content: Content, modified_at: float, etag: Callable[[], str | None]
    ) -> None:
        self.key = key
        self.content = content
        self.modified_at = modified_at
        self.links = 1
        self._etag = etag

    @cached_property
    def etag(self) -> str | None:
        """The ETag without quotes; computed when first asked for, as contents may be large."""
        return self._etag()

    @cached_property
    def md5(self) -> str:
        """The MD5 of the content."""
        return self.content.md5()


class Storage:
    """A storage host: leases, objects and multipart uploads, served on a port of its own."""

    def __init__(
        self,
        settings: StorageSettings,
        *,
        clock: Callable[[], float],
        faults: Faults,
        log: list[Exchange],
        secret: bytes = b"simulated",
    ) -> None:
        self.settings = settings
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, Multipart] = {}
        self.violations: list[Violation] = []
        self.bodies = Bodies(settings.keep_bodies)
        self._clock = clock
        self._numbers = itertools.count(1)
        style: SignatureStyle = "google" if settings.google else settings.signature
        self.signer = Signer(secret, style)
        self.host = Host(
            "storage",
            handler=self._handle,
            gate=self._gate,
            clock=clock,
            faults=faults,
            log=log,
            clock_skew_s=settings.clock_skew_s,
            latency_s=settings.latency_s,
            bandwidth=settings.bandwidth,
            decorate=lambda call, _reply: {"x-amz-request-id": f"{id(call):016X}"},
        )

    @property
    def url(self) -> str:
        """Scheme, address and port."""
        return self.host.url

    def now(self) -> float:
        """Return the server's time, epoch seconds."""
        return self._clock() + self.settings.clock_skew_s

    async def start(self, port: int = 0) -> None:
        """Serve; `port` 0 is any free one."""
        await self.host.start(port)

    async def stop(self) -> None:
        """Close the server and remove every stored body."""
        await self.host.stop()
        self.bodies.close()

    # What a platform asks for.

    def put(self, key: str, content: Content, *, part_size: int | None = None) -> StoredObject:
        """Return a new object; with `part_size`, its ETag is that of such a multipart upload."""
        if part_size is None and content.size > LARGEST_PART:
            part_size = 32 * 1024 * 1024

        def etag() -> str | None:
            if part_size is None:
                return self._etag_of(content)
            try:
                return self._etag_of_many(digests_of_parts(content, part_size))
            except BodyDiscardedError:  # only the MD5 of the whole was kept
                return self._etag_of(content)

        self.objects[key] = StoredObject(key, content, self.now(), etag)
        return self.objects[key]

    def begin(self, key: str, *, in_order: bool = False) -> Multipart:
        """Return a new multipart upload."""
        upload = Multipart(f"upload{next(self._numbers):08d}", key, in_order)
        self.uploads[upload.id] = upload
        return upload

    def finish(self, upload: Multipart, numbers: Sequence[int]) -> StoredObject:
        """Return the object made of these parts, which must all be there."""
        parts = [upload.parts[number] for number in numbers]
        etag = self._etag_of_many([part.md5 for part in parts])
        content = Joined([part.content for part in parts])
        self.objects[upload.key] = StoredObject(upload.key, content, self.now(), lambda: etag)
        del self.uploads[upload.id]
        return self.objects[upload.key]

    def abort(self, upload: Multipart) -> None:
        """Forget an upload and its parts."""
        self.uploads.pop(upload.id, None)

    def lease_get(self, key: str) -> Lease:
        """Return a URL to fetch an object."""
        return self._lease("GET", key, self.settings.download_url_lifetime_s)

    def lease_put(self, key: str) -> Lease:
        """Return a URL to put a whole object."""
        return self._lease("PUT", key, self.settings.upload_url_lifetime_s)

    def lease_part(self, upload: Multipart, number: int) -> Lease:
        """Return a URL to put one part."""
        query = {"partNumber": str(number), "uploadId": upload.id}
        return self._lease("PUT", upload.key, self.settings.upload_url_lifetime_s, query)

    def _lease(
        self, method: str, key: str, lifetime_s: float, query: Mapping[str, str] | None = None
    ) -> Lease:
        return self.signer.sign(
            base=self.url,
            method=method,
            path=quote(f"/{BUCKET}/{key}"),
            now=self.now(),
            lifetime_s=lifetime_s,
            query=query,
            headers=self.settings.part_headers if query else None,
        )

    # What a client asks for.

    def _gate(self, call: Call) -> Reply | None:
        headers = call.request.headers
        for name in ("X-SBG-Auth-Token", "Authorization"):
            if name in headers:
                self.violations.append(Violation(f"{name} sent", call.method, call.path))
                return error_reply(400, "InvalidArgument", "Only one auth mechanism allowed")
        denial = self.signer.judge(
            method=call.method,
            # what is signed is the path encoded anew, as S3 does it, however a client wrote it
            path=quote(call.path),
            query=call.request.query,
            headers=headers,
            now=self.now(),
        )
        if denial is None:
            return None
        expired = denial.message == "Request has expired"
        status = self.settings.expired_status if expired else 403
        return error_reply(status, denial.code, denial.message)

    async def _handle(self, call: Call) -> Reply:
        key = call.path.removeprefix(f"/{BUCKET}/")
        if call.method == "PUT":
            return await self._put(call, key)
        if call.method in ("GET", "HEAD"):
            return self._get(call, key)
        return error_reply(405, "MethodNotAllowed", "The specified method is not allowed")

    async def _put(self, call: Call, key: str) -> Reply:
        length = call.request.content_length
        if length is None:
            return error_reply(411, "MissingContentLength", "You must provide Content-Length")
        if length > LARGEST_PART:
            return error_reply(400, "EntityTooLarge", "Your proposed upload is too large")
        upload = None
        number = 0
        if "uploadId" in call.request.query:
            upload = self.uploads.get(call.request.query["uploadId"])
            number = int(call.request.query.get("partNumber", "0"))
            if upload is None:
                return error_reply(404, "NoSuchUpload", "The specified upload does not exist")
            if upload.in_order and number > len(upload.parts) + 1:
                return error_reply(400, "InvalidPartOrder", "Parts must come in ascending order")
        content = await self._take(call)
        claimed = call.request.headers.get("Content-MD5")
        if claimed is not None and _base64_md5(content.md5()) != claimed:
            return error_reply(400, "BadDigest", "The Content-MD5 you specified did not match")
        if upload is None:
            stored = self.put(key, content)
            return Reply(headers=self._proof(stored.etag, content))
        part = Part(content, self._etag_of(content))
        upload.parts[number] = part
        return Reply(headers=self._proof(part.etag, content))

    async def _take(self, call: Call) -> Content:
        intake = self.bodies.intake(corrupt=call.fails("corrupt upload"))
        try:
            async for piece in call.pieces():
                intake.write(piece)
        except BaseException:
            intake.abandon()
            raise
        return intake.finish()

    def _get(self, call: Call, key: str) -> Reply:
        stored = self.objects.get(key)
        if stored is None:
            return error_reply(404, "NoSuchKey", "The specified key does not exist.")
        try:
            stored.content.read(0, 1)
        except BodyDiscardedError as gone:
            return error_reply(501, "NotImplemented", str(gone))
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "Last-Modified": formatdate(stored.modified_at, usegmt=True),
            **self._proof(stored.etag, stored.content),
        }
        etag = headers.get("ETag")
        if_match = call.request.headers.get("If-Match")
        if if_match not in (None, "*") and if_match != etag:
            return error_reply(412, "PreconditionFailed", "A precondition did not hold")
        if etag is not None and call.request.headers.get("If-None-Match") == etag:
            return Reply(status=304, headers=headers)
        if_range = call.request.headers.get("If-Range")
        wanted = call.request.headers.get("Range")
        if (
            wanted is None
            or call.fails("ignore range")
            or not still_same(if_range, etag, stored.modified_at)
        ):
            return Reply(headers=headers, body=stored.content)
        shift = 1 if call.fails("wrong range") else 0
        return ranged_reply(stored.content, wanted, headers, shift=shift)

    # What an ETag is.

    def _etag_of(self, content: Content) -> str | None:
        return self._etag(content.md5)

    def _etag_of_many(self, digests: Sequence[str]) -> str | None:
        etag = self._etag(lambda: multipart_etag(digests).partition("-")[0])
        return None if etag is None else f"{etag}-{len(digests)}"

    def _etag(self, right: Callable[[], str]) -> str | None:
        if not self.settings.etags:
            return None
        if self.settings.sse_kms or self.settings.wrong_etags == "random":
            return Bytes(f"opaque {next(self._numbers)}".encode()).md5()
        if self.settings.wrong_etags == "fixed":
            return Bytes(f"wrong {right()}".encode()).md5()
        return right()

    def _proof(self, etag: str | None, content: Content) -> dict[str, str]:
        headers = {} if etag is None else {"ETag": f'"{etag}"'}
        if self.settings.sse_kms:
            headers["x-amz-server-side-encryption"] = "aws:kms"
        if self.settings.google and self.settings.goog_md5:
            headers["x-goog-hash"] = f"md5={_base64_md5(content.md5())}"
        elif self.settings.google:
            headers["x-goog-hash"] = f"crc32c={_base64_crc32c(content)}"
        return headers


def _base64_crc32c(content: Content) -> str:
    """Return a content's CRC32C, big-endian. Source: Google Cloud Storage, "x-goog-hash"."""
    running: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    for piece in content.pieces():
        running.update(piece)
    return base64.b64encode(running.digest()).decode()


def _base64_md5(md5: str) -> str:
    return base64.b64encode(bytes.fromhex(md5)).decode()
