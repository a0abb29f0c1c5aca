"""A platform that is all in memory: what planning, ledger and report cost, and nothing else.

`Catalogue` is a platform of flows like any other; what its requests are answered with is made up in
this process, so that a million files need no server, no network and no disk but the ledger's.
"""

# ruff: noqa: ARG002 - what it is asked with is the protocol's

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from penstock.core.model import (
    FileSlice,
    Flow,
    Found,
    Headers,
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
from penstock.core.traits import Traits
from penstock.engine.lean import Ask
from penstock.platforms.base import DownloadOnly, Prepared, ranged_get, storage_refusal

PAGE = 100
IN_A_FOLDER = 10_000
ENDPOINT = "http://catalogue.invalid"


_TRAITS = Traits(
    "catalogue", 100_000_000, 300.0, PAGE, requests_per_download=0, listing_leases=True
)


def body_of(size: int) -> bytes:
    """What every file of a size holds."""
    return (b"penstock" * (size // 8 + 1))[:size]


def id_of(name: str) -> str:
    """The id of a file, by its name."""
    return f"f{name[5:13]}"


@dataclass(frozen=True)
class Catalogue(DownloadOnly):
    """`count` files of `size` bytes, 10,000 to a folder; pages of 100 that bring URLs."""

    count: int
    size: int = 1024
    name = "the catalogue"

    @property
    def endpoint(self) -> str:
        return ENDPOINT

    @property
    def traits(self) -> Traits:
        return _TRAITS

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:
        return (("X-Token", token),)

    def refusal(self, request: Request, response: Response) -> Any:  # noqa: ANN401
        return storage_refusal(request, response)

    def place(self, path: str) -> Place:
        return Place(path, "", "root")

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:
        yield from ()
        return Found(start or place)

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:
        yield from ()
        return Prepared()

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:
        yield Request("GET", f"{ENDPOINT}/list?cursor={cursor or 0}")
        folders = -(-self.count // IN_A_FOLDER)
        if place.id == "root" and folders > 1:
            names = [f"{number:04}" for number in range(folders)]
            return Page(folders=tuple(RemoteFolder(f"d{n}", n) for n in names), total=folders)
        base = 0 if place.id == "root" else int((place.id or "d0")[1:]) * IN_A_FOLDER
        inside = min(IN_A_FOLDER, self.count - base)
        first = int(cursor or 0)
        last = min(first + PAGE, inside)
        origin = Origin("page", place.id or "", cursor)
        files = tuple(
            RemoteFile(
                id_of(f"file-{base + number:08}.dat"),
                f"file-{base + number:08}.dat",
                self.size,
                modified="2026-11-01T00:00:00Z",
                lease=Lease(f"{ENDPOINT}/bytes/{base + number}?sig=made-up", origin),
            )
            for number in range(first, last)
        )
        return Page(files=files, next=str(last) if last < inside else None, total=inside)

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:
        yield from ()
        return Page()

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        yield from ()
        assert file.lease is not None
        return file.lease

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:
        yield from ()
        return {}

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        yield from ()
        return RemoteFile(file_id, file_id, self.size)

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:
        yield from ()
        return {file_id: RemoteFile(file_id, file_id, self.size) for file_id in file_ids}

    def probe(self, lease: Lease) -> Flow[Response]:
        yield from ()
        return Response(206, Headers({"content-range": f"bytes 0-0/{self.size}"}))

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
        return (
            yield ranged_get(lease, part, sink, total=total, validator=validator, digests=digests)
        )


class Answers:
    """In a transport's place: answers at once, with bytes written where they are wanted."""

    def __init__(self, size: int) -> None:
        body = body_of(size)
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self._body = body
        self._response = Response(
            200, Headers({"etag": f'"{md5}"'}), digests={"md5": md5}, received=size
        )
        self._listed = Response(200)
        self._whole = Response(200, Headers({"etag": f'"{md5}"'}), body=body)

    async def send(
        self,
        request: Request,
        *,
        signed: Iterable[tuple[str, str]] = (),
        on_leave: Callable[[], None] = lambda: None,
        progress: Callable[[int], None] = lambda _: None,
        beside: object = None,
        landed: object = None,
    ) -> Response:
        on_leave()
        sink = request.sink
        if sink is None:
            return self._listed
        if request.held:
            progress(len(self._body))
            return self._whole
        _write(sink, self._body)
        progress(len(self._body))
        return self._response

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        return ()

    def is_plain(self, url: str) -> bool:
        return True

    async def burst(
        self,
        host: str,
        asks: Iterable[Ask],
        *,
        leaving: Callable[[Ask], None],
        going: Callable[[int], bool],
    ) -> None:
        came = 0
        for ask in asks:
            if not going(came):
                break
            ask.left = True
            leaving(ask)
            ask.status, ask.headers, ask.body = 200, self._whole.headers, self._whole.body
            came += len(ask.body)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def _write(sink: FileSlice, body: bytes) -> None:
    descriptor = os.open(sink.path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, body, sink.offset)
    finally:
        os.close(descriptor)
