"""Calls on files: listings with presigned URLs, content up and down; new endpoints and legacy ones.

Source: coscine 0.12.2's OpenAPI client (`StorageApi`, `StorageContentApi`, `TreeApi`, `BlobApi`):
paths, parameters, declared answers. Where they declare nothing, settings say what is guessed.
"""

from penstock.simulators.content import Bodies, Content
from penstock.simulators.coscine.answers import Page, file_object
from penstock.simulators.coscine.paths import checked, decoded
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.state import Entry, Resource, World
from penstock.simulators.host import Call, Reply
from penstock.simulators.routes import Route

# What a form is longer than the file in it, at most; as much more than the limit may be announced.
_FORM = 64 * 1024
_NOT_FOUND = "The file '{}' was not found."


class Files:
    """Listings, content, deletion."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._receiving: dict[str, int] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        resource = "/projects/([^/]+)/resources/([^/]+)"
        stored, blob = f"{resource}/storage/([^/]+)", f"{resource}/blobs/([^/]+)"
        return [
            Route("GET", f"{resource}/storage", self.list_storage),
            Route("GET", f"{resource}/trees/files", self.list_tree),
            Route("HEAD", stored, self.exists),
            Route("DELETE", stored, self.delete),
            Route("GET", f"{stored}/content", self.fetch),
            Route("POST", f"{stored}/content", self.create),
            Route("PUT", f"{stored}/content", self.replace),
            Route("GET", blob, self.fetch),
            Route("POST", blob, self.create),
            Route("PUT", blob, self.replace),
            Route("DELETE", blob, self.delete),
        ]

    # Listings: one level; a folder's path ends in a slash.

    async def list_storage(self, call: Call, project: str, resource_id: str) -> Reply:
        """Return a page of a folder. Source: `StorageApi.list_files_from_storage`."""
        resource = self._world.resource(project, resource_id)
        prefix = call.request.query.get("Prefix", "")
        return await self._page(call, resource, prefix)

    async def list_tree(self, call: Call, project: str, resource_id: str) -> Reply:
        """Return a page of a folder, or of a single file (coscine 0.11.13, `Resource.file`)."""
        resource = self._world.resource(project, resource_id)
        return await self._page(call, resource, call.request.query.get("Path", ""))

    async def _page(self, call: Call, resource: Resource, prefix: str) -> Reply:
        page = Page(call.request.query, self._world.settings)
        folder, slash, start = prefix.rpartition("/")
        found = await resource.shelf.level(f"{folder}{slash}")
        if start:
            # A prefix that does not end in a slash stays on its level. Source: its docstring.
            exact = self._world.settings.prefix == "exact"
            found = [
                entry
                for entry in found
                if entry.path.startswith(prefix) and (not exact or _named(entry) == prefix)
            ]
        return page.reply([self._shown(resource, entry) for entry in page.of(found)], len(found))

    def _shown(self, resource: Resource, entry: Entry) -> dict[str, object]:
        bare = entry.is_folder or resource.general_type in self._world.settings.url_less
        return file_object(entry, None if bare else resource.shelf.url(entry.path))

    # One file.

    async def exists(self, _call: Call, project: str, resource_id: str, encoded: str) -> Reply:
        """Say whether there is a file."""
        resource = self._world.resource(project, resource_id)
        await self._found(resource, self._path(encoded))
        return Reply(status=200)

    async def delete(self, _call: Call, project: str, resource_id: str, encoded: str) -> Reply:
        """Remove a file; its metadata stays, which is a guess."""
        resource = self._world.writable(project, resource_id)
        entry = await self._found(resource, self._path(encoded))
        _keep_what_is_written_once(resource)
        await resource.shelf.remove(entry.path)
        return Reply(status=204)

    async def fetch(self, call: Call, project: str, resource_id: str, encoded: str) -> Reply:
        """Return a file's bytes, or send to where they are. Ranges are not declared: ignored."""
        resource = self._world.resource(project, resource_id)
        entry = await self._found(resource, self._path(encoded))
        if self._world.settings.content == "redirect" and not call.path.partition("/blobs/")[2]:
            location = resource.shelf.url(entry.path)
            return Reply(status=302, headers={"Location": location})
        content = await resource.shelf.read(entry.path)
        return Reply(headers={"Content-Type": "application/octet-stream"}, body=content)

    async def create(self, call: Call, project: str, resource_id: str, encoded: str) -> Reply:
        """Take the bytes of a new file."""
        resource = self._world.writable(project, resource_id)
        path = checked(self._path(encoded), self._world.settings)
        there = await resource.shelf.find(path)
        if there is not None and self._world.settings.post_existing == "refuse":
            raise RefusedError(400, f"The file '{path}' already exists.")
        return await self._receive(call, resource, path, there)

    async def replace(self, call: Call, project: str, resource_id: str, encoded: str) -> Reply:
        """Take other bytes for a file."""
        resource = self._world.writable(project, resource_id)
        path = checked(self._path(encoded), self._world.settings)
        there = await resource.shelf.find(path)
        if there is None and self._world.settings.put_missing == "refuse":
            raise RefusedError(400, _NOT_FOUND.format(path))
        if there is not None:
            _keep_what_is_written_once(resource)
        return await self._receive(call, resource, path, there)

    async def _receive(
        self, call: Call, resource: Resource, path: str, there: Entry | None
    ) -> Reply:
        if call.request.content_type != "multipart/form-data":
            raise RefusedError(415, "The content type must be multipart/form-data.")
        settings = self._world.settings
        announced = call.request.content_length or 0
        _refuse_too_many(path, announced - _FORM, largest=settings.largest_file, room=announced)
        if settings.metadata_first and not resource.on_s3 and path not in resource.metadata:
            raise RefusedError(400, f"The file '{path}' has no metadata.")
        room = resource.reserved - resource.old_versions - await resource.shelf.used()
        room -= self._receiving.get(resource.id, 0)
        if there is not None:
            room += there.size or 0
        try:
            content = await self._take(call, resource, path, room)
        except ValueError as error:
            raise RefusedError(400, str(error)) from None
        await resource.shelf.put(path, content)
        return Reply(status=201)

    async def _take(self, call: Call, resource: Resource, path: str, room: int) -> Content:
        """Return the bytes sent, unless they are too many. What runs beside it takes room, too.

        Source: coscine 0.12.2, "StorageContentApi": 413 is declared. Coscine documentation, "S3
        clients": 100 GB a file. That a full resource answers 413 as well is a guess.
        """
        largest = self._world.settings.largest_file
        bodies: Bodies = self._world.storage.bodies
        intake = bodies.intake(corrupt=call.fails("corrupt upload"))
        try:
            async for piece in call.field("file"):
                intake.write(piece)
                self._receiving[resource.id] = self._receiving.get(resource.id, 0) + len(piece)
                _refuse_too_many(path, intake.size, largest=largest, room=room)
        except BaseException:
            intake.abandon()
            raise
        finally:
            self._receiving[resource.id] = self._receiving.get(resource.id, 0) - intake.size
        return intake.finish()

    async def _found(self, resource: Resource, path: str) -> Entry:
        entry = await resource.shelf.find(path)
        if entry is None:
            raise RefusedError(404, _NOT_FOUND.format(path))
        return entry

    def _path(self, encoded: str) -> str:
        path, encoding = decoded(encoded, self._world.settings)
        if encoding != "plain":
            self._world.encodings[path] = encoding
        return path


def _named(entry: Entry) -> str:
    return entry.path.rstrip("/")


def _keep_what_is_written_once(resource: Resource) -> None:
    """Refuse to change what is there in a resource of a WORM type; the status is a guess."""
    if resource.general_type.endswith("worm"):
        raise RefusedError(403, "What is written here once cannot be changed.")


def _refuse_too_many(path: str, size: int, *, largest: int, room: int) -> None:
    if size > largest:
        raise RefusedError(413, f"'{path}' is larger than {largest} bytes.")
    if size > room:
        raise RefusedError(413, f"There is no room for '{path}' in the resource.")
