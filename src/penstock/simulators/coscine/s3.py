"""Files of a resource on a real S3 server: the simulator reaches into the bucket as Coscine does.

Requests are signed by botocore, which is asked for only here and is optional otherwise, and sent by
aiohttp. They go past the simulator's hosts: nothing of them is counted or logged.

Source: AWS S3 API reference, "ListObjectsV2", "HeadObject", "PutObject", "DeleteObject".
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

import aiohttp
from yarl import URL

from penstock.simulators.content import Bodies, Content
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.settings import S3Place
from penstock.simulators.coscine.state import Entry

_SPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_NOT_FOUND = 404


class S3Shelf:
    """Files in a bucket.

    session: gives the client to send by, made when first asked for.
    lifetime_s: of presigned URLs.
    """

    def __init__(
        self,
        place: S3Place,
        bucket: str,
        *,
        session: Callable[[], aiohttp.ClientSession],
        bodies: Bodies,
        lifetime_s: Callable[[], float],
    ) -> None:
        self._place = place
        self._bucket = bucket
        self._session = session
        self._bodies = bodies
        self._lifetime_s = lifetime_s

    async def level(self, prefix: str) -> Sequence[Entry]:
        """Return the files and folders right below a folder."""
        return [entry async for entry in self._listed(prefix, "/")]

    async def find(self, path: str) -> Entry | None:
        """Return a file."""
        method, url, headers = self._signed("HEAD", path)
        async with self._session().request(method, url, headers=headers) as answer:
            if answer.status == _NOT_FOUND:
                return None
            self._demand(answer)
            changed = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
            return Entry(path, int(answer.headers["Content-Length"]), changed, changed)

    async def put(self, path: str, content: Content) -> None:
        """Make a file, or replace one."""

        async def pieces() -> AsyncIterator[bytes]:
            for piece in content.pieces():
                yield piece

        method, url, headers = self._signed("PUT", path)
        headers = {**headers, "Content-Length": str(content.size)}
        data = pieces() if content.size else b""
        async with self._session().request(method, url, headers=headers, data=data) as answer:
            self._demand(answer)

    async def remove(self, path: str) -> None:
        """Remove a file that is there."""
        method, url, headers = self._signed("DELETE", path)
        async with self._session().request(method, url, headers=headers) as answer:
            self._demand(answer)

    async def used(self) -> int:
        """Return how many bytes there are."""
        return sum([entry.size or 0 async for entry in self._listed("", "")])

    def url(self, path: str) -> str:
        """Return a URL to fetch a file, presigned with the read key."""
        from botocore.auth import S3SigV4QueryAuth  # noqa: PLC0415 - optional
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - optional
        from botocore.credentials import Credentials  # noqa: PLC0415 - optional

        keys = Credentials(self._place.access_key_read, self._place.secret_key_read)
        request = AWSRequest("GET", self._url(path))
        lifetime_s = int(self._lifetime_s())
        S3SigV4QueryAuth(keys, "s3", self._place.region, lifetime_s).add_auth(request)
        return str(request.url)

    async def read(self, path: str) -> Content:
        """Return what a file holds, fetched whole."""
        intake = self._bodies.intake()
        method, url, headers = self._signed("GET", path)
        async with self._session().request(method, url, headers=headers) as answer:
            self._demand(answer)
            async for piece in answer.content.iter_chunked(256 * 1024):
                intake.write(piece)
        return intake.finish()

    async def _listed(self, prefix: str, delimiter: str) -> AsyncIterator[Entry]:
        query = {"list-type": "2", "prefix": prefix, "delimiter": delimiter}
        token: str | None = ""
        while token is not None:
            if token:
                query["continuation-token"] = token
            wanted = {name: value for name, value in query.items() if value}
            method, url, headers = self._signed("GET", "", wanted)
            async with self._session().request(method, url, headers=headers) as answer:
                self._demand(answer)
                root = ET.fromstring(await answer.text())  # noqa: S314 - our own server's
            for each in root.iter(f"{_SPACE}Contents"):
                changed = _time_of(_text(each, "LastModified"))
                if _text(each, "Key").endswith("/"):
                    continue  # what some clients leave to mark a folder
                yield Entry(_text(each, "Key"), int(_text(each, "Size")), changed, changed)
            for each in root.iter(f"{_SPACE}CommonPrefixes"):
                yield Entry(_text(each, "Prefix"), None, 0.0, 0.0)
            token = root.findtext(f"{_SPACE}NextContinuationToken") or None

    def _url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        base = f"{self._place.endpoint.rstrip('/')}/{quote(f'{self._bucket}/{path}'.rstrip('/'))}"
        return f"{base}?{urlencode(query, quote_via=quote)}" if query else base

    def _signed(
        self, method: str, path: str, query: Mapping[str, str] | None = None
    ) -> tuple[str, URL, dict[str, str]]:
        from botocore.auth import S3SigV4Auth  # noqa: PLC0415 - optional
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - optional
        from botocore.credentials import Credentials  # noqa: PLC0415 - optional

        keys = Credentials(self._place.access_key_write, self._place.secret_key_write)
        url = self._url(path, query)
        request = AWSRequest(method, url)
        request.context["payload_signing_enabled"] = False
        request.headers["X-Amz-Content-SHA256"] = _UNSIGNED
        S3SigV4Auth(keys, "s3", self._place.region).add_auth(request)
        return method, URL(url, encoded=True), dict(request.headers.items())

    @staticmethod
    def _demand(answer: aiohttp.ClientResponse) -> None:
        if not answer.ok:
            raise RefusedError(502, f"The storage answered {answer.status}.")


def _text(element: Any, name: str) -> str:  # noqa: ANN401 - an element
    return str(element.findtext(f"{_SPACE}{name}") or "")


def _time_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
