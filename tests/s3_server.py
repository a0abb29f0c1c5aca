"""A real S3 server on loopback for tests: moto's, with the keys and the log of our own before it.

moto itself takes every key and every signature. Here a request is let through only where its AWS
Signature V4, in headers or in the URL, is right for a key that may do it, as on a real storage.
"""

from __future__ import annotations

import functools
import hmac
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from urllib.request import Request, urlopen

import boto3
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from penstock.simulators import S3Place

BUCKET = "penstock-tests"
REGION = "us-east-1"
READ = ("READ-KEY", "read-secret")
WRITE = ("WRITE-KEY", "write-secret")
_OWN = "the-test-itself"

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class S3Request:
    """One request as the server saw it; `query` without what signs it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    key: str | None
    status: int


class S3Server:
    """A server with one empty bucket; `client` looks into it, `requests` tells what was asked.

    What `client` does is not told. `refuse` gives a status in place of an answer. `spoil` is given
    the body of an answer that was made, and gives what goes out: None loses the answer. `more` is
    header fields that answers have besides.
    """

    def __init__(self) -> None:
        self.requests: list[S3Request] = []
        self.refuse: Callable[[S3Request], int | None] = lambda _request: None
        self.spoil: Callable[[S3Request, bytes], bytes | None] = lambda _request, body: body
        self.more: list[tuple[str, str]] = []
        self._keys = dict((READ, WRITE))
        self._moto: Application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        self.bucket = BUCKET
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=WRITE[0],
            aws_secret_access_key=WRITE[1],
            region_name=REGION,
            config=Config(
                s3={"addressing_style": "path"},
                user_agent=_OWN,
                request_checksum_calculation="when_required",
            ),
        )
        self.reset()

    @property
    def place(self) -> S3Place:
        """What a Coscine simulator is told of it."""
        return S3Place(
            endpoint=self.url,
            bucket=self.bucket,
            access_key_read=READ[0],
            secret_key_read=READ[1],
            access_key_write=WRITE[0],
            secret_key_write=WRITE[1],
            region=REGION,
        )

    def reset(self) -> None:
        """Forget everything but an empty bucket."""
        with urlopen(Request(f"{self.url}/moto-api/reset", method="POST")):  # noqa: S310 - http
            pass
        self.client.create_bucket(Bucket=self.bucket)
        self.refuse, self.more = lambda _request: None, []
        self.spoil = lambda _request, body: body
        self.requests.clear()

    def put(self, path: str, content: bytes) -> str:
        """Store an object; return its ETag."""
        stored = self.client.put_object(Bucket=self.bucket, Key=path, Body=content)
        return str(stored["ETag"]).strip('"')

    def read(self, path: str) -> bytes:
        """Return what an object holds."""
        got = self.client.get_object(Bucket=self.bucket, Key=path)
        content: bytes = got["Body"].read()
        return content

    def paths(self) -> list[str]:
        """Return the keys of all objects (at most a thousand)."""
        listed = self.client.list_objects_v2(Bucket=self.bucket)
        return [each["Key"] for each in listed.get("Contents", ())]

    def open_uploads(self) -> list[str]:
        """Return the ids of multipart uploads neither completed nor aborted."""
        listed = self.client.list_multipart_uploads(Bucket=self.bucket)
        return [each["UploadId"] for each in listed.get("Uploads", ())]

    def close(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # Serving.

    def _serve(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/moto-api/"):
            return self._moto(environ, start_response)
        denial, key = self._judged(environ)
        seen = _seen(environ, key, 0)
        status = None if _is_own(environ) else self.refuse(seen)
        status = 403 if denial is not None else status
        if status is not None:
            self._tell(environ, key, status)
            # what is sent is read first, else the client sees a broken connection
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = denial or {403: "AccessDenied", 404: "NoSuchKey"}.get(status, "SlowDown")
            body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
            start_response(f"{status} {code}", headers)
            return [body]

        head: list[Any] = []

        def answered(line: str, fields: list[tuple[str, str]], *rest: Any) -> None:  # noqa: ANN401 - WSGI
            head[:] = [line, [*fields, *self.more], *rest]

        body = b"".join(self._moto(environ, answered))
        self._tell(environ, key, int(head[0].split(maxsplit=1)[0]))
        sent = body if _is_own(environ) else self.spoil(seen, body)
        if sent is None:
            start_response("502 lost", [("Content-Length", "0")])
            return []
        start_response(*head)
        return [sent]

    def _tell(self, environ: Environ, key: str | None, status: int) -> None:
        if not _is_own(environ):
            self.requests.append(_seen(environ, key, status))

    def _judged(self, environ: Environ) -> tuple[str | None, str | None]:
        """Why a request is denied, if it is, and by which key it was signed."""
        try:
            key, right = _signature(environ, self._keys)
        except (KeyError, ValueError):
            return "AccessDenied", None
        if not right:
            return "SignatureDoesNotMatch", key
        if key == READ[0] and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "AccessDenied", key
        return None, key


@functools.cache
def running() -> S3Server:
    """The one server of a test session, started when it is first asked for."""
    return S3Server()


def _is_own(environ: Environ) -> bool:
    return str(environ.get("HTTP_USER_AGENT", "")).startswith(_OWN)


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *args: object) -> None:
        """Nothing."""


def _seen(environ: Environ, key: str | None, status: int) -> S3Request:
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    return S3Request(
        environ["REQUEST_METHOD"],
        environ["PATH_INFO"].encode("latin-1").decode(),
        {name: value for name, value in query.items() if not name.startswith("X-Amz-")},
        _headers(environ),
        key,
        status,
    )


def _headers(environ: Environ) -> dict[str, str]:
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return headers


def _signature(environ: Environ, keys: Mapping[str, str]) -> tuple[str, bool]:
    """The key that signed a request, and whether it did so rightly.

    Source: AWS S3 API reference, "Authenticating requests (AWS Signature Version 4)".
    """
    headers = _headers(environ)
    raw = urlsplit(environ["REQUEST_URI"])
    query = parse_qs(raw.query, keep_blank_values=True)
    if "authorization" in headers:
        fields = dict(
            field.strip().split("=", 1)
            for field in headers["authorization"].removeprefix("AWS4-HMAC-SHA256").split(",")
        )
        given, names = fields["Signature"], fields["SignedHeaders"]
        scope, stamp = fields["Credential"], headers["x-amz-date"]
        left = raw.query
        maker = S3SigV4Auth
    else:
        given, names = query["X-Amz-Signature"][0], query["X-Amz-SignedHeaders"][0]
        scope, stamp = query["X-Amz-Credential"][0], query["X-Amz-Date"][0]
        pairs = parse_qsl(raw.query, keep_blank_values=True)
        left = urlencode([pair for pair in pairs if pair[0] != "X-Amz-Signature"])
        start = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if (datetime.now(UTC) - start).total_seconds() >= int(query["X-Amz-Expires"][0]):
            raise ValueError("Request has expired")
        maker = S3SigV4QueryAuth
    key, _day, region, service, _ = scope.split("/")
    auth = maker(Credentials(key, keys[key]), service, region)
    request = AWSRequest(environ["REQUEST_METHOD"], f"http://{headers['host']}{raw.path}?{left}")
    for name in names.split(";"):
        request.headers[name] = headers[name]
    request.context["timestamp"] = stamp
    canonical = auth.canonical_request(request)
    text = auth.string_to_sign(request, canonical)
    return key, hmac.compare_digest(auth.signature(text, request), given)


logging.getLogger("werkzeug").setLevel(logging.ERROR)
