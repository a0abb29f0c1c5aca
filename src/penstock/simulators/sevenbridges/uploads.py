"""Multipart uploads, the only way to upload: begin, parts' URLs, reports, complete, abort.

Reports are not judged until `complete`, where every part must be there, of the right size, and
under the ETag the storage gave it. Source of the steps: API reference, "Initialize a multipart
upload", "Get the upload URL for a file part", "Report an uploaded part", "Report uploaded parts",
"Complete a multipart upload", "Get details of a multipart upload".
"""

import math
from dataclasses import dataclass, field
from typing import Any

from penstock.simulators.host import Call, Reply, json_reply
from penstock.simulators.routes import Route
from penstock.simulators.sevenbridges.answers import (
    file_object,
    page,
    page_offset,
    page_size,
    when,
)
from penstock.simulators.sevenbridges.routes import json_of
from penstock.simulators.sevenbridges.state import Node, RefusedError, World
from penstock.simulators.storage import Multipart


@dataclass
class Upload:
    """An unfinished upload: where it goes, what was promised, what was reported (ETag by part)."""

    id: str
    folder: Node
    name: str
    size: int | None
    part_size: int
    md5: str | None
    overwrite: bool
    parallel: bool
    began_at: float
    multipart: Multipart
    reported: dict[int, str | None] = field(default_factory=dict)

    @property
    def parts(self) -> int | None:
        """How many parts there must be, if the size is known; an empty file has one."""
        return None if self.size is None else max(1, math.ceil(self.size / self.part_size))


class Uploads:
    """Everything under /upload/multipart."""

    def __init__(self, world: World) -> None:
        self.open: dict[str, Upload] = {}
        self._world = world
        self._done: dict[str, str] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        root, one = "/upload/multipart", "/upload/multipart/([^/]+)"
        return [
            Route("POST", f"{root}/?", self.begin),
            Route("GET", f"{root}/?", self.list_open),
            Route("GET", one, self.details),
            Route("POST", one, self.report_many),
            Route("DELETE", one, self.abort),
            Route("GET", f"{one}/part/([^/]+)", self.part_url),
            Route("POST", f"{one}/part/?", self.report_one),
            Route("POST", f"{one}/complete", self.complete),
        ]

    async def begin(self, call: Call) -> Reply:
        """Begin an upload; the part size answered is the one that holds."""
        wanted = await json_of(call)
        overwrite = call.request.query.get("overwrite", "").lower() == "true"
        folder = self._world.place(project=wanted.get("project"), parent=wanted.get("parent"))
        self._world.allow(folder.project, "write", 8001)
        name = wanted.get("name")
        self._world.tree.check_name(name)
        name = str(name)
        size = _count(wanted, "size", self._world.settings.largest_file)
        part_size = self._part_size(wanted, size)
        self._check_name_free(folder, name, overwrite=overwrite)
        there = self._world.tree.children(folder).get(name)
        if there is not None and self._world.settings.overwrite_deletes_at == "init":
            self._replace(there)
        parallel = self._world.settings.parallel_uploads
        multipart = self._world.storage.begin(self._world.new_key(), in_order=not parallel)
        upload = Upload(
            id=f"f1e2d3c4-{multipart.id}",
            folder=folder,
            name=name,
            size=size,
            part_size=part_size,
            md5=str(wanted["md5"]) if wanted.get("md5") else None,
            overwrite=overwrite,
            parallel=parallel,
            began_at=self._world.storage.now(),
            multipart=multipart,
        )
        self.open[upload.id] = upload
        return json_reply(self._shown(upload))

    async def list_open(self, call: Call) -> Reply:
        """Return a page of the user's own unfinished uploads."""
        query = call.request.query
        limit, offset = page_size(self._world, query), page_offset(query)
        uploads = list(self.open.values())
        return page(
            self._world,
            f"{self._world.endpoint}/upload/multipart",
            list(query.items()),
            [self._shown(upload) for upload in uploads[offset : offset + limit]],
            total=len(uploads),
            offset=offset,
            limit=limit,
        )

    async def details(self, call: Call, upload_id: str) -> Reply:
        """Return an unfinished upload, with `list_parts` also what was reported."""
        upload = self._upload(upload_id)
        shown = self._shown(upload)
        shown["uploaded_parts_count"] = len(upload.reported)
        if call.request.query.get("list_parts", "").lower() == "true":
            shown["parts"] = [
                {
                    "part_number": number,
                    "response": {"headers": {} if etag is None else {"ETag": etag}},
                }
                for number, etag in sorted(upload.reported.items())
            ]
        return json_reply(shown)

    async def part_url(self, _call: Call, upload_id: str, number: str) -> Reply:
        """Return where and how to send a part, and what to report of the answer."""
        upload = self._upload(upload_id)
        part = self._part_number(upload, number)
        settings = self._world.settings
        lease = self._world.storage.lease_part(upload.multipart, part)
        report: dict[str, Any] = {"headers": ["ETag"] if settings.etags else [], "body": {}}
        shown: dict[str, Any] = {
            "method": "PUT",
            "url": lease.url,
            "expires": when(lease.expires_at),
            "headers": dict(settings.part_headers),
            "report": report,
        }
        (shown if settings.success_codes_in == "top" else report)["success_codes"] = list(
            settings.success_codes
        )
        return json_reply(shown)

    async def report_one(self, call: Call, upload_id: str) -> Reply:
        """Note that a part arrived."""
        upload = self._upload(upload_id)
        self._report(upload, [await json_of(call)])
        return Reply()

    async def report_many(self, call: Call, upload_id: str) -> Reply:
        """Note that parts arrived."""
        upload = self._upload(upload_id)
        parts = (await json_of(call)).get("parts")
        if not isinstance(parts, list):
            raise RefusedError(400, 8015, "Malformed list of parts.")
        self._report(upload, parts)
        return Reply()

    async def complete(self, call: Call, upload_id: str) -> Reply:
        """Make a file of the parts; the body may report those not reported yet."""
        if upload_id in self._done and self._world.settings.complete_again == "repeat":
            done = self._world.tree.node(self._done[upload_id])
            return json_reply(file_object(self._world, done), 201)
        upload = self._upload(upload_id)
        parts = (await json_of(call)).get("parts")
        if parts is not None:
            if not self._world.settings.complete_takes_parts:
                raise RefusedError(400, 8015, "This call takes no parts.")
            if not isinstance(parts, list):
                raise RefusedError(400, 8015, "Malformed list of parts.")
            self._report(upload, parts)
        numbers = self._check_parts(upload)
        there = self._world.tree.children(upload.folder).get(upload.name)
        if there is not None:
            if not upload.overwrite:
                raise RefusedError(409, 8004, "A file with this name exists.")
            self._replace(there)
        stored = self._world.storage.finish(upload.multipart, numbers)
        node = self._world.tree.add("FILE", upload.folder, upload.name, stored)
        del self.open[upload_id]
        self._done[upload_id] = node.id
        return json_reply(file_object(self._world, node), 201)

    async def abort(self, _call: Call, upload_id: str) -> Reply:
        """Forget an upload and its parts; 204 is a guess."""
        upload = self._upload(upload_id)
        self._world.storage.abort(upload.multipart)
        del self.open[upload_id]
        return Reply(status=204)

    def _upload(self, upload_id: str) -> Upload:
        try:
            return self.open[upload_id]
        except KeyError:
            raise RefusedError(404, 8003, "Requested upload does not exist.") from None

    def _replace(self, node: Node) -> None:
        self._world.tree.remove(node)
        self._world.release(node)

    def _check_name_free(self, folder: Node, name: str, *, overwrite: bool) -> None:
        there = self._world.tree.children(folder).get(name)
        if there is not None and (there.type == "FOLDER" or not overwrite):
            raise RefusedError(409, 8004, "A file with this name exists.")
        if not self._world.settings.same_name_uploads and any(
            (upload.folder.id, upload.name) == (folder.id, name) for upload in self.open.values()
        ):
            raise RefusedError(409, 8006, "An upload with this name exists.")

    def _part_size(self, wanted: dict[str, object], size: int | None) -> int:
        """Return the part size that holds: the one asked for if it is allowed, or our own."""
        settings = self._world.settings
        asked = _count(wanted, "part_size", settings.largest_part)
        if asked is not None and asked < settings.smallest_part:
            raise RefusedError(400, 8013, "The part size is too small.")
        if settings.insist_part_size is not None:
            return settings.insist_part_size
        needed = math.ceil((size or 0) / settings.most_parts)
        if asked is None:
            return max(settings.default_part, needed)
        if asked < needed:
            raise RefusedError(400, 8013, f"There would be more than {settings.most_parts} parts.")
        return asked

    def _part_number(self, upload: Upload, given: object) -> int:
        most = upload.parts or self._world.settings.most_parts
        text = str(given)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise RefusedError(400, 8012, f"There is no part {text!r} in this upload.")
        return int(text)

    def _report(self, upload: Upload, parts: list[Any]) -> None:
        """Take reports, all or none.

        Raises:
            RefusedError: one is malformed (8014), or of a part that cannot be (8012).
        """
        reported: dict[int, str | None] = {}
        for part in parts:
            try:
                number, etag = part["part_number"], part["response"]["headers"].get("ETag")
            except (KeyError, TypeError, AttributeError):
                raise RefusedError(400, 8014, "Malformed report of a part.") from None
            if etag is None and self._world.settings.etags:
                raise RefusedError(400, 8014, "The report lacks the ETag.")
            reported[self._part_number(upload, number)] = None if etag is None else str(etag)
        upload.reported |= reported

    def _check_parts(self, upload: Upload) -> list[int]:
        """Return the part numbers, in order, if every part is as it must be.

        Raises:
            RefusedError: one is missing, of a wrong size, or has another ETag (8007).
        """
        numbers = sorted(upload.reported)
        if numbers != list(range(1, (upload.parts or max(1, len(numbers))) + 1)):
            raise RefusedError(400, 8007, "Unable to complete the upload: parts are missing.")
        for number in numbers:
            part = upload.multipart.parts.get(number)
            if part is None:
                raise RefusedError(400, 8007, f"Unable to complete: no part {number} was stored.")
            reported = upload.reported[number]
            if reported is not None and reported.strip('"') != part.etag:
                raise RefusedError(400, 8007, f"Unable to complete: ETag of part {number}.")
            last = number == numbers[-1]
            if part.content.size > upload.part_size or (
                not last and part.content.size < upload.part_size
            ):
                raise RefusedError(400, 8007, f"Unable to complete: size of part {number}.")
        size = sum(upload.multipart.parts[number].content.size for number in numbers)
        if upload.size is not None and size != upload.size:
            raise RefusedError(400, 8007, "Unable to complete the upload: the size differs.")
        return numbers

    def _shown(self, upload: Upload) -> dict[str, Any]:
        return {
            "href": f"{self._world.endpoint}/upload/multipart/{upload.id}",
            "upload_id": upload.id,
            "project": upload.folder.project,
            "parent": upload.folder.id,
            "name": upload.name,
            "size": upload.size,
            "part_size": upload.part_size,
            "parallel_uploads": upload.parallel,
            "initiated": when(upload.began_at),
        }


def _count(wanted: dict[str, object], name: str, most: int) -> int | None:
    value = wanted.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise RefusedError(400, 8013, f"Malformed {name}.")
    return value
