"""Files: announced, sent as a form, confirmed; fetched by URLs that expire.

Source, unless said otherwise: *observed*, a real DataMeta 1.1.1 server, 2026-11-21.
"""

from collections.abc import Callable
from email.utils import formatdate, parsedate_to_datetime

from penstock.simulators.content import Bytes
from penstock.simulators.datameta.answers import (
    RefusedError,
    announced_object,
    body_of,
    error,
    failure,
    file_object,
    id_object,
    invalid,
    null,
    page,
    texts,
    unmodifiable,
    utc_time,
)
from penstock.simulators.datameta.state import File, User, World, named
from penstock.simulators.host import Call, Reply, json_reply
from penstock.simulators.objects import ranged_reply, still_same
from penstock.simulators.routes import Route


class Files:
    """The calls about files. user: who a call comes from, or a refusal raised."""

    def __init__(self, world: World, user: Callable[[Call], User]) -> None:
        self._world = world
        self._user = user

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = "/api/v1/files/([^/]+)"
        return [
            Route("POST", "/api/v1/files", self.announce),
            Route("POST", "/api/v1/upload/([^/]+)", self.upload),
            Route("PUT", one, self.change),
            Route("GET", one, self.details),
            Route("DELETE", one, self.delete),
            Route("POST", "/api/v1/rpc/delete-files", self.delete_many),
            Route("GET", "/api/v1/rpc/get-file-url/([^/]+)", self.lease),
            Route("GET", "/api/v1/download/([^/]+)", self.download),
            Route("HEAD", "/api/v1/download/([^/]+)", self.download),
        ]

    async def announce(self, call: Call) -> Reply:
        """Make an empty file; the same name and checksum again make another one."""
        user = self._user(call)
        wanted = await body_of(call, {"name": str, "checksum": str})
        if not wanted["name"]:
            message = "File names cannot be empty."
            raise invalid([error("ValidationError", message)])
        if "/" in wanted["checksum"]:  # it is part of the name the bytes are stored under
            raise failure()
        file = self._world.announce(user, wanted["name"], wanted["checksum"])
        return json_reply(announced_object(self._world, file))

    async def upload(self, call: Call, file_id: str) -> Reply:
        """Take a form's field `file`, until the file is confirmed; what came before is replaced.

        One answer for all that is wrong with token, id and time, after the whole body was read.
        """
        file = self._world.files.get(file_id)
        if (
            file is None
            or call.request.headers.get("Access-Token") != file.access_token
            or self._world.now() >= file.expires_at
        ):
            async for _ in call.pieces():
                pass
            raise null(404)
        if file.confirmed:
            async for _ in call.pieces():
                pass
            raise null(409)
        intake = self._world.bodies.intake(corrupt=call.fails("corrupt upload"))
        try:
            async for piece in call.field("file", with_filename=True):
                intake.write(piece)
        except ValueError:
            intake.abandon()
            raise null(400) from None
        except BaseException:
            intake.abandon()
            raise
        now = self._world.files.get(file_id)  # another call may have changed it meanwhile
        if now is None or now.confirmed:
            intake.abandon()
            raise null(404 if now is None else 409)
        file.content = intake.finish()
        file.modified_at = self._world.now()
        return Reply(status=204, headers={"Connection": "close"})

    async def change(self, call: Call, file_id: str) -> Reply:
        """Confirm a file, and change name and checksum until then."""
        user = self._user(call)
        optional = {"name": str, "checksum": str, "contentUploaded": bool}
        wanted = await body_of(call, {}, optional)
        file = named(self._world.files, file_id)
        if file is None:
            raise null(404)
        if file.user is not user:  # a fault in how the server answers 403
            raise failure()
        if file.confirmed:
            raise unmodifiable()
        checksum = wanted.get("checksum") or file.checksum
        if wanted.get("contentUploaded") and file.content.md5() != checksum:
            raise null(409)
        file.name, file.checksum = wanted.get("name") or file.name, checksum
        file.confirmed = bool(wanted.get("contentUploaded"))
        return json_reply(file_object(self._world, file))

    async def details(self, call: Call, file_id: str) -> Reply:
        """Return a file."""
        return json_reply(file_object(self._world, self._seen(call, file_id)))

    async def delete(self, call: Call, file_id: str) -> Reply:
        """Forget a file that is not submitted."""
        self._delete(self._deletable(self._user(call), file_id))
        return Reply(status=204, headers={"Connection": "close"})

    async def delete_many(self, call: Call) -> Reply:
        """Forget files: all or none."""
        user = self._user(call)
        wanted = texts((await body_of(call, {"fileIds": list}))["fileIds"], "fileIds")
        files = [self._deletable(user, file_id) for file_id in sorted(set(wanted))]
        if len({file.id for file in files}) < len(files):
            raise null(404)
        for file in files:
            self._delete(file)
        return Reply(status=204, headers={"Connection": "close"})

    async def lease(self, call: Call, file_id: str) -> Reply:
        """Return a download URL; `expires` counts minutes. Unconfirmed files have them as well."""
        file = self._seen(call, file_id)
        query = call.request.query
        asked = query.get("expires", "1")
        try:
            minutes = int(asked)
        except ValueError:
            message = f"Failed to cast value {asked} to type integer"
            raise invalid([error("CastError", message)]) from None
        token, expires_at = self._world.lease(file, minutes)
        path = f"/api/v1/download/{token}"
        shown = {
            "fileId": id_object(file.id),
            "fileUrl": f"{self._world.url}{path}",
            "expires": utc_time(expires_at),
            "checksum": file.checksum,
        }
        reply = json_reply(shown)
        if query.get("redirect", "").lower() != "true":
            return reply
        headers = {**reply.headers, "Location": path}
        return Reply(status=307, headers=headers, body=reply.body)

    async def download(self, call: Call, token: str) -> Reply:
        """Return a file's bytes, or a range; the URL's token is the only right that counts."""
        file, expires_at = self._world.downloads.get(token, (None, 0.0))
        if file is None or self._world.now() >= expires_at:
            raise page(404)
        try:
            file.name.encode("latin-1")
        except UnicodeEncodeError:
            raise failure() from None
        if "\n" in file.name or "\r" in file.name:
            raise failure()
        modified = int(file.modified_at)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{file.name}"',
            "Last-Modified": formatdate(modified, usegmt=True),
        }
        given = call.request.headers
        if _unchanged(given.get("If-Modified-Since"), modified):
            return Reply(status=304, headers=headers)
        wanted = given.get("Range")
        if (
            wanted is None
            or call.fails("ignore range")
            or not still_same(given.get("If-Range"), None, modified)
        ):
            return Reply(headers=headers, body=file.content)
        shift = 1 if call.fails("wrong range") else 0
        reply = ranged_reply(file.content, wanted, headers, shift=shift)
        if reply.status == 416:  # noqa: PLR2004
            told = {
                **headers,
                "Content-Type": "text/plain; charset=UTF-8",
                "Content-Range": reply.headers["Content-Range"],
            }
            return Reply(status=416, headers=told, body=Bytes(b"Requested range not satisfiable"))
        return reply

    def _seen(self, call: Call, file_id: str) -> File:
        user = self._user(call)
        file = named(self._world.files, file_id)
        if file is None:
            raise page(404)
        in_group = file.submission is not None and file.submission.group == user.group
        if file.user is not user and not in_group and not (file.submission and user.admin):
            raise RefusedError(json_reply([], 403))
        return file

    def _deletable(self, user: User, file_id: str) -> File:
        file = named(self._world.files, file_id)
        if file is None:
            raise null(404)
        if file.user is not user:
            raise null(403)
        if file.submission is not None:
            raise unmodifiable()
        if file.url_given:  # its download tokens keep it
            raise failure()
        return file

    def _delete(self, file: File) -> None:
        del self._world.files[file.id.uuid]


def _unchanged(since: str | None, modified: int) -> bool:
    if since is None:
        return False
    try:
        return parsedate_to_datetime(since).timestamp() >= modified
    except ValueError:
        return False
