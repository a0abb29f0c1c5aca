"""DataMeta's uploads: a file is announced by its MD5, sent as a form, and confirmed.

Sources, by short name, as in `datameta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from penstock.core.errors import AnswerLost, DigestMismatch, Refused
from penstock.core.model import (
    Completed,
    FileSlice,
    Flow,
    Lease,
    OpenUpload,
    Origin,
    Part,
    Rank,
    Receipt,
    Repeat,
    Target,
    Upload,
)
from penstock.platforms.base import JsonObject, refuse_name
from penstock.platforms.datameta_requests import Requests, id_in, remote_file

# Source: RFC 1321, the MD5 of no bytes.
MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
_BOUNDARY = "penstock-form-7f3c1b9e5d2a4860"
_HOW_OFTEN_TO_ASK = 3


class UploadFlows(Requests):
    """The flows of an upload; `DataMeta` has the rest."""

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
        file_id = id_in(answer.get("id"))
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
                return Completed(remote_file(JsonObject.of(response, "confirmed file")))
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
                return Completed(remote_file(item), asked=True)
        raise AnswerLost(f"confirming {target.name!r} was never answered")

    def delete_file(self, file_id: str) -> Flow[None]:
        """A file that is not submitted is gone. Source: [DOC] DELETE /files/{id}."""
        yield from self._rooted()
        path = f"/files/{quote(file_id, safe='')}"
        yield self._call("DELETE", path, accept=(204, 404), rank=Rank.FINISH)

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
        return OpenUpload(upload_id, item.name(), "", None, None, None, None)


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
