"""Calls on metadata: one graph a file and version; new endpoints and legacy ones.

Source: coscine 0.12.2's OpenAPI client (`GraphMetadataContentApi`, `ResourceGraphContentApi`,
`GraphApi`, `TreeApi`): paths, parameters, types. That the graph of a whole resource is N-Quads is
declared there; how its graphs are named is what `FileMetadata.fixed_graph` makes up, a guess.
"""

from penstock.simulators.content import Bytes
from penstock.simulators.coscine.answers import (
    Page,
    graph_name,
    metadata_object,
    node_object,
    single,
)
from penstock.simulators.coscine.paths import checked, decoded
from penstock.simulators.coscine.rdf import FORMATS, Checker, as_nquads
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.state import Metadata, Resource, World
from penstock.simulators.host import Call, Reply, expect_object
from penstock.simulators.routes import Route

_NEW_TYPES = ("text/turtle", "application/ld+json")


class Graphs:
    """Metadata of files."""

    def __init__(self, world: World, checker: Checker) -> None:
        self._world = world
        self._checker = checker

    def routes(self) -> list[Route]:
        """Return the routes."""
        resource = "/projects/([^/]+)/resources/([^/]+)"
        return [
            Route("GET", f"{resource}/graphs/metadata/content", self.whole),
            Route("PUT", f"{resource}/graphs/([^/]+)/metadata/content", self.store),
            Route("GET", f"{resource}/graphs/([^/]+)/metadata/content", self.content),
            Route("GET", f"{resource}/graphs", self.nodes),
            Route("GET", f"{resource}/trees/metadata", self.list_tree),
            Route("POST", f"{resource}/trees/metadata", self.create_tree),
            Route("PUT", f"{resource}/trees/metadata", self.update_tree),
        ]

    async def store(self, call: Call, project: str, resource_id: str, encoded: str) -> Reply:
        """Keep a new version of a file's metadata, whether or not there is a file yet."""
        resource = self._world.writable(project, resource_id)
        path = checked(self._path(encoded), self._world.settings)
        kind = call.request.content_type
        if kind not in _NEW_TYPES:
            raise RefusedError(415, f"The content type must be one of {', '.join(_NEW_TYPES)}.")
        self._keep(resource, path, await call.body(), kind)
        return Reply(status=201)

    async def content(self, _call: Call, project: str, resource_id: str, encoded: str) -> Reply:
        """Return a file's newest metadata, as it was sent."""
        resource = self._world.resource(project, resource_id)
        path = self._path(encoded)
        if path not in resource.metadata:
            raise RefusedError(404, f"There is no metadata of '{path}'.")
        newest = resource.metadata[path][-1]
        headers = {"Content-Type": newest.type}
        return Reply(headers=headers, body=Bytes(newest.content.encode()))

    async def whole(self, _call: Call, project: str, resource_id: str) -> Reply:
        """Return the newest metadata of every file, or all versions, in one graph each."""
        resource = self._world.resource(project, resource_id)
        lines = []
        settings = self._world.settings
        rooted = settings.metadata_subject == "graph"
        for path, versions in resource.metadata.items():
            for each in versions if settings.old_graphs else versions[-1:]:
                name = graph_name(resource, path, each.version)
                lines.append(as_nquads(each.content, each.type, name, rooted=rooted))
        headers = {"Content-Type": "application/n-quads"}
        return Reply(headers=headers, body=Bytes("".join(lines).encode()))

    async def nodes(self, call: Call, project: str, resource_id: str) -> Reply:
        """Return a page of all that has metadata. Source: `GraphApi.get_all_graphs`."""
        resource = self._world.resource(project, resource_id)
        page = Page(call.request.query, self._world.settings)
        items = []
        for path in page.of(list(resource.metadata)):
            has_data = await resource.shelf.find(path) is not None
            items.append(node_object(resource, path, has_metadata=True, has_data=has_data))
        return page.reply(items, len(resource.metadata))

    # The legacy endpoints.

    async def list_tree(self, call: Call, project: str, resource_id: str) -> Reply:
        """Return a page of the metadata below a path."""
        resource = self._world.resource(project, resource_id)
        page = Page(call.request.query, self._world.settings)
        below = call.request.query.get("Path", "")
        found = [path for path in resource.metadata if path.startswith(below)]
        items = [metadata_object(resource, p, resource.metadata[p]) for p in page.of(found)]
        return page.reply(items, len(found))

    async def create_tree(self, call: Call, project: str, resource_id: str) -> Reply:
        """Keep the first metadata of a file; that a second is refused is a guess (400)."""
        return await self._tree(call, project, resource_id, first=True)

    async def update_tree(self, call: Call, project: str, resource_id: str) -> Reply:
        """Keep a new version of metadata that is there; else refused (404, a guess)."""
        return await self._tree(call, project, resource_id, first=False)

    async def _tree(self, call: Call, project: str, resource_id: str, *, first: bool) -> Reply:
        resource = self._world.writable(project, resource_id)
        try:
            sent = expect_object(await call.body())
            path, definition = sent["path"], sent["definition"]
            content, kind = definition["content"], definition["type"]
        except (ValueError, KeyError, TypeError):
            raise RefusedError(400, "The body must have a path and a definition.") from None
        if not isinstance(path, str) or not isinstance(content, str) or kind not in FORMATS:
            raise RefusedError(400, "The definition must have content and a known type.")
        checked(path, self._world.settings)
        if first and path in resource.metadata:
            raise RefusedError(400, f"There is metadata of '{path}' already.")
        if not first and path not in resource.metadata:
            raise RefusedError(404, f"There is no metadata of '{path}'.")
        self._keep(resource, path, content.encode(), kind)
        if not first:
            return Reply(status=204)
        return single(metadata_object(resource, path, resource.metadata[path]), 201)

    def _keep(self, resource: Resource, path: str, body: bytes, kind: str) -> None:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise RefusedError(400, "The metadata is not UTF-8.") from None
        self._checker.check(resource, text, kind)
        version = self._world.next_version()
        resource.metadata.setdefault(path, []).append(Metadata(version, text, kind))

    def _path(self, encoded: str) -> str:
        path, encoding = decoded(encoded, self._world.settings)
        if encoding != "plain":
            self._world.encodings[path] = encoding
        return path
