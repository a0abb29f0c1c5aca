"""Seven Bridges' uploads: begun, a URL for each part, completed with the reports of all parts.

Sources, by short name, as in `sevenbridges`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from penstock.core.errors import (
    AnswerLost,
    LeaseExpired,
    Refused,
)
from penstock.core.model import (
    NO_AUTH,
    Completed,
    FileSlice,
    Flow,
    OpenUpload,
    Part,
    Rank,
    Receipt,
    Repeat,
    Request,
    Target,
    Upload,
)
from penstock.core.proof import TagKind, read_tag
from penstock.core.times import when
from penstock.core.units import whole_number
from penstock.platforms.base import (
    JsonObject,
    following,
)
from penstock.platforms.sevenbridges_requests import (
    EXISTS_CODES,
    Requests,
    check_name,
    is_folder,
    is_gone,
    remote_file,
    taken,
)

_HOW_OFTEN_TO_ASK = 3


class UploadFlows(Requests):
    """The flows of an upload; `SevenBridges` has the rest."""

    def create_upload(self, target: Target, part_size: int, *, overwrite: bool) -> Flow[Upload]:
        """An upload begun; the part size that comes back is the server's choice and is obeyed.

        Source: [REF] "Initialize a multipart upload".
        """
        check_name(target.name)
        where, which = self._of(target.place)[0]
        body = {where: which, "name": target.name, "size": target.size, "part_size": part_size}
        query = [("overwrite", "true")] if overwrite else []
        request = self._api(
            "POST",
            "/upload/multipart",
            query,
            body=json.dumps(body).encode(),
            repeat=Repeat.ASK,
            rank=Rank.START,
        )
        try:
            answer = JsonObject.of((yield request), "new upload")
        except Refused as refused:
            if refused.code in EXISTS_CODES or (refused.status == 409 and refused.code != 8006):  # noqa: PLR2004
                raise taken(target.name, refused) from refused
            raise
        size = answer.whole_or_none("part_size") or part_size
        return Upload(answer.text("upload_id"), size, answer.get("parallel_uploads") is not False)

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:
        """An unfinished upload's own state. Source: [REF] "Get details of a multipart upload"."""
        path = f"/upload/multipart/{quote(upload_id, safe='')}"
        try:
            answer = JsonObject.of((yield self._api("GET", path)), "upload details")
        except Refused as refused:
            if is_gone(refused):
                return None
            raise
        return _open_upload(answer)

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        """One part sent; the storage keeps the last copy of a part number.

        Source: [REF] "Get the upload URL for a file part": method, url, headers to send,
        success_codes (at top level, or inside `report`), and the headers to report.
        """
        for last_try in (False, True):
            where = f"/upload/multipart/{quote(upload.id, safe='')}/part/{part.number}"
            place = JsonObject.of((yield self._api("GET", where)), "part URL")
            report = place.object_or_none("report") or JsonObject({}, "part URL")
            sending = Request(
                place.text_or_none("method") or "PUT",
                place.url("url"),
                headers=_pairs(place.get("headers")),
                body=(FileSlice(path, part.offset, part.length),),
                cost=0,
                auth=NO_AUTH,
                accept=_codes(place.get("success_codes") or report.get("success_codes")),
                rank=Rank.FINISH,
                digests=frozenset(("md5",)),
            )
            try:
                sent = yield from following(sending)
            except LeaseExpired:
                if last_try:
                    raise
                continue
            names = report.get("headers")
            wanted = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
            tag = sent.headers.get("ETag")
            return Receipt(
                part.number,
                part.offset,
                part.length,
                md5=sent.digests["md5"],
                etag=tag.strip('"') if tag is not None else None,
                proves=read_tag(sent.headers).kind is TagKind.MD5,
                report=tuple(
                    (name, sent.headers[name].strip('"'))
                    for name in (wanted or ["ETag"])
                    if name in sent.headers
                ),
            )
        raise AssertionError("a loop over two tries ends in a return or a raise")

    def complete_upload(
        self, upload: Upload, target: Target, receipts: Sequence[Receipt], *, reports: bool
    ) -> Flow[Completed | None]:
        """The finished file: one request that carries all reports, where the platform takes them.

        Source: [CGC] "Complete a multipart upload": optional body `{"parts": […]}`, answer 201
        with the file. Where the body is refused, the parts are reported in bulk once ([REF]
        "Report uploaded parts"), then completed without one.
        """
        root = f"/upload/multipart/{quote(upload.id, safe='')}"
        parts = json.dumps(
            {
                "parts": [
                    {"part_number": r.number, "response": {"headers": dict(r.report)}}
                    for r in receipts
                ]
            }
        ).encode()
        bulk = reports
        asked = False
        lost = 0
        while lost < _HOW_OFTEN_TO_ASK:
            try:
                if bulk:
                    yield self._api("POST", root, body=parts, rank=Rank.FINISH)
                request = self._api(
                    "POST",
                    f"{root}/complete",
                    body=b"" if bulk else parts,
                    repeat=Repeat.ASK,
                    rank=Rank.FINISH,
                )
                done = JsonObject.of((yield request), "completed upload")
                return Completed(remote_file(done), asked=asked, reported=bulk and not reports)
            except Refused as refused:
                if is_gone(refused):
                    return (yield from self._find_completed(target, reported=bulk and not reports))
                if refused.code in EXISTS_CODES or refused.status == 409:  # noqa: PLR2004
                    raise taken(target.name, refused) from refused
                if bulk or refused.status not in {400, 415, 422} or refused.effect.name == "RETRY":
                    raise
                bulk = True
            except AnswerLost:
                asked = True
                lost += 1
                if (yield from self.describe_upload(upload.id)) is None:
                    return (yield from self._find_completed(target, reported=bulk and not reports))
        raise AnswerLost(f"completing the upload of {target.name!r} was never answered")

    def _find_completed(self, target: Target, *, reported: bool) -> Flow[Completed | None]:
        """The file an upload that is gone has become, by name and size."""
        for item in (yield from self._named(target.place, target.name)):
            if not is_folder(item):
                file = remote_file(item)
                if file.size is None:
                    file = yield from self.stat(file.id)
                if file.size == target.size:
                    return Completed(file, asked=True, reported=reported)
        return None

    def abort_upload(self, upload_id: str) -> Flow[None]:
        """Nothing left of an upload. Source: [REF] "Abort a multipart upload"."""
        try:
            yield self._api("DELETE", f"/upload/multipart/{quote(upload_id, safe='')}")
        except Refused as refused:
            if not is_gone(refused):
                raise

    def open_uploads(self, cursor: str | None) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:
        """100 of the caller's unfinished uploads. Source: [R] list_ongoing_uploads."""
        offset = int(cursor) if cursor is not None else 0
        size = self._traits.page_size
        query = [("limit", str(size)), ("offset", str(offset))]
        response = yield self._api("GET", "/upload/multipart", query)
        items = list(JsonObject.of(response, "upload listing").objects("items"))
        found = tuple(_open_upload(item) for item in items)
        total = whole_number(response.headers.get("X-Total-Matching-Query"))
        more = offset + len(items) < total if total is not None else len(items) == size
        return found, str(offset + len(items)) if more and items else None


def _open_upload(item: JsonObject) -> OpenUpload:
    return OpenUpload(
        item.text("upload_id"),
        item.text_or_none("name") or "",
        item.text_or_none("project"),
        item.text_or_none("parent"),
        item.whole_or_none("size"),
        item.whole_or_none("part_size"),
        when(item.get("initiated")),
        item.get("parallel_uploads") is not False,
    )


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:  # noqa: ANN401 - foreign JSON
    if not isinstance(value, dict):
        return ()
    return tuple((str(name), str(text)) for name, text in value.items())


def _codes(value: Any) -> frozenset[int]:  # noqa: ANN401 - foreign JSON
    codes = [c for c in value if isinstance(c, int)] if isinstance(value, list) else []
    return frozenset(codes or (200, 201, 204))
