"""What DataMeta's flows ask with: where the API is, its requests, and what its answers name.

Sources, by short name, as in `datameta`. No flow about a whole task belongs here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from penstock.core.errors import AnswerUnusable
from penstock.core.model import (
    NO_AUTH,
    FileSlice,
    Flow,
    Rank,
    RemoteFile,
    Repeat,
    Request,
    Response,
)
from penstock.platforms.base import REDIRECTS, JsonObject

_VERSIONED = re.compile(r"(.*)/api/v[0-9]+\Z")


class Requests:
    """Requests to one server, named by its API root or by its own root."""

    def __init__(self, endpoint: str) -> None:
        stripped = endpoint.rstrip("/")
        versioned = _VERSIONED.fullmatch(stripped)
        self._root = versioned[1] if versioned else stripped.removesuffix("/api")
        self._api = stripped if versioned else None

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

    def _details(self, file_id: str) -> Flow[JsonObject]:
        yield from self._rooted()
        response = yield self._call("GET", f"/files/{quote(file_id, safe='')}")
        return JsonObject.of(response, "file details")


def objects_in(response: Response, what: str) -> Iterator[JsonObject]:
    """The objects of an answer that is a list. Raises `AnswerUnusable` for another."""
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise AnswerUnusable(f"{what}: the answer is no list of objects")
    return (JsonObject(entry, what) for entry in value)


def id_in(value: Any) -> str:  # noqa: ANN401 - foreign JSON
    """The uuid a thing is named by. Raises `AnswerUnusable` where there is none."""
    found = value.get("uuid") if isinstance(value, dict) else None
    if not isinstance(found, str) or not found:
        raise AnswerUnusable("an answer names a thing without its uuid")
    return found


def remote_file(item: JsonObject) -> RemoteFile:
    """A file as the server describes it; its size is told once it is confirmed."""
    checksum = item.text_or_none("checksum")
    digests = {"md5": checksum.lower()} if checksum is not None else {}
    size = item.whole_or_none("filesize")
    return RemoteFile(id_in(item.get("id")), item.name(), size, digests=digests)
