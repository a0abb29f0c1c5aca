"""A Coscine resource kept in a real S3 server, as the conformance suite and other tests see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from moto.s3.models import s3_backends

from benches import Bench, md5
from penstock.simulators import Coscine, CoscineSettings
from s3_server import READ, WRITE, S3Request, S3Server

# moto's own, where a request names none.
ACCOUNT = "123456789012"


def names(request: S3Request) -> str:
    """What a request is, in a word."""
    words = {"partNumber": "part", "uploads": "uploads", "uploadId": "upload", "list-type": "list"}
    return " ".join([request.method, *[words[name] for name in words if name in request.query][:1]])


class S3Bench(Bench):
    """The resource: `server` has its files, `sim` hands out its keys."""

    profile = "coscine"

    def __init__(self, home: Path, sim: Coscine, server: S3Server) -> None:
        super().__init__(home)
        self.sim = sim
        self.server = server
        self.resource = sim.add_resource("in-s3", general_type="rdss3", reserved=1 << 40)
        sim.at(self.resource).bucket = server.bucket
        self.remote = f"coscine:{sim.project}/{self.resource}"

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PENSTOCK_COSCINE_ENDPOINT": self.sim.endpoint,
            "PENSTOCK_COSCINE_TOKEN": self.sim.token,
        }

    def seed(self, path: str, content: bytes) -> None:
        self.server.put(path, content)

    def seed_many(self, *paths: str) -> None:
        """Empty files, without a request for each."""
        backend = s3_backends[ACCOUNT]["aws"]
        for path in paths:
            backend.put_object(self.server.bucket, path, b"")

    def seed_parts(self, path: str, *parts: bytes) -> None:
        """A file as other clients send it."""
        where = {"Bucket": self.server.bucket, "Key": path}
        where["UploadId"] = self.server.client.create_multipart_upload(**where)["UploadId"]
        done = []
        for number, part in enumerate(parts, 1):
            sent = self.server.client.upload_part(**where, PartNumber=number, Body=part)
            done.append({"PartNumber": number, "ETag": sent["ETag"]})
        self.server.client.complete_multipart_upload(**where, MultipartUpload={"Parts": done})

    def begin(self, path: str) -> str:
        """Somebody else begins an upload there."""
        where = {"Bucket": self.server.bucket, "Key": path}
        return str(self.server.client.create_multipart_upload(**where)["UploadId"])

    def remove(self, path: str) -> None:
        self.server.client.delete_object(Bucket=self.server.bucket, Key=path)

    def there(self) -> dict[str, str]:
        return {path: md5(self.server.read(path)) for path in self.server.paths()}

    def requests(self) -> int:
        return sum(each.counted for each in self.sim.log)

    def asked(self) -> list[str]:
        """What was asked of the storage, in a word each."""
        return [names(each) for each in self.stored()]

    def stored(self) -> list[S3Request]:
        """What penstock asked of the storage; the simulator asks there too."""
        asked = tuple(self.server.requests)
        return [each for each in asked if each.headers.get("user-agent") == "penstock"]

    def violations(self) -> list[object]:
        found: list[object] = [*self.sim.violations]
        for each in self.stored():
            reads = each.method in {"GET", "HEAD"} and not {"uploads", "uploadId"} & set(each.query)
            if each.key != (READ if reads else WRITE)[0]:
                found.append(("signed with another key", each))
            if any(name.startswith(("x-amz-checksum", "x-amz-trailer")) for name in each.headers):
                found.append(("sent a checksum the storage refuses", each))
            if self.sim.token in str(each):
                found.append(("the token went to the storage", each))
        return found

    def refused(self) -> int:
        return sum(each.status == 401 for each in self.sim.log)

    def flip_a_bit(self) -> None:
        left = [1]

        def flip(request: S3Request, body: bytes) -> bytes:
            if names(request) != "GET" or not left:
                return body
            left.clear()
            return bytes([body[0] ^ 1]) + body[1:]

        self.server.spoil = flip


@asynccontextmanager
async def s3_resource(home: Path, server: S3Server, **settings: Any) -> AsyncIterator[S3Bench]:  # noqa: ANN401
    async with Coscine(CoscineSettings(s3=server.place, **settings)) as sim:
        yield S3Bench(home, sim, server)
