"""Calls about files and folders: listing, details, changing, copying, deleting, downloading."""

from collections.abc import Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from penstock.simulators.host import Call, Reply, json_reply
from penstock.simulators.routes import Route
from penstock.simulators.sevenbridges.answers import (
    chosen,
    error_object,
    file_object,
    page,
    page_offset,
    page_size,
)
from penstock.simulators.sevenbridges.routes import json_of
from penstock.simulators.sevenbridges.state import Node, RefusedError, World


class Files:
    """Everything under /files, and /bulk/files in `Bulk`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tree = world.tree

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = "/files/([^/]+)"
        return [
            Route("GET", "/files/?", self.query),
            Route("POST", "/files/?", self.create_folder),
            Route("GET", "/files/scroll", self.scroll),
            Route("GET", f"{one}/list", self.list_folder),
            Route("GET", f"{one}/scroll", self.scroll_folder),
            Route("GET", one, self.details),
            Route("PATCH", one, self.edit),
            Route("DELETE", one, self.delete),
            Route("GET", f"{one}/download_info", self.download_info),
            Route("GET", f"{one}/metadata", self.metadata),
            Route("PUT", f"{one}/metadata", self.replace_metadata),
            Route("PATCH", f"{one}/metadata", self.merge_metadata),
            Route("PUT", f"{one}/tags", self.replace_tags),
            Route("POST", f"{one}/actions/copy", self.copy),
            Route("POST", f"{one}/actions/move", self.move),
        ]

    # Listing. Source: API overview, "Response pagination"; the official Python client, `File`.

    async def query(self, call: Call) -> Reply:
        """Return a page of a project's root or of a folder, folders among the files."""
        query = call.request.query
        folder = self._world.place(project=query.get("project"), parent=query.get("parent"))
        return self._page(call, folder, f"{self._world.endpoint}/files")

    async def list_folder(self, call: Call, folder_id: str) -> Reply:
        """Return a page of a folder."""
        folder = self._tree.folder(folder_id)
        return self._page(call, folder, f"{self._world.endpoint}/files/{folder_id}/list")

    async def scroll(self, call: Call) -> Reply:
        """Return what follows a continuation token in a project or folder."""
        query = call.request.query
        folder = self._world.place(project=query.get("project"), parent=query.get("parent"))
        return self._scrolled(call, folder, f"{self._world.endpoint}/files/scroll")

    async def scroll_folder(self, call: Call, folder_id: str) -> Reply:
        """Return what follows a continuation token in a folder."""
        folder = self._tree.folder(folder_id)
        return self._scrolled(call, folder, f"{self._world.endpoint}/files/{folder_id}/scroll")

    def _page(self, call: Call, folder: Node, url: str) -> Reply:
        self._world.allow(folder.project, "read")
        query = call.request.query
        limit, offset = page_size(self._world, query), page_offset(query)
        found = self._found(call, folder)
        items = self._listed(list(islice(found, offset, offset + limit)), call)
        return page(
            self._world,
            url,
            list(query.items()),
            items,
            total=len(found),
            offset=offset,
            limit=limit,
        )

    def _scrolled(self, call: Call, folder: Node, url: str) -> Reply:
        """Return a page by token; the token names the item after which it starts.

        Source: the official Python client, `cont_token`: not together with `offset` or metadata.
        The shape of tokens is a guess.
        """
        self._world.allow(folder.project, "read")
        query = call.request.query
        if "offset" in query or any(name.startswith("metadata.") for name in query):
            raise RefusedError(400, 90000, "A token cannot be combined with offset or metadata.")
        limit = page_size(self._world, query)
        found = self._found(call, folder)
        token = query.get("token", "")
        rest = found
        if token != self._world.settings.first_scroll_token:
            if not token.startswith("after-"):
                raise RefusedError(400, 90000, "Malformed continuation token.")
            rest = [node for node in found if node.id > token.removeprefix("after-")]
        nodes = rest[:limit]
        links = []
        if len(rest) > limit:
            pairs = [pair for pair in query.items() if pair[0] != "token"]
            pairs.append(("token", f"after-{nodes[-1].id}"))
            links.append({"href": f"{url}?{urlencode(pairs)}", "rel": "next", "method": "GET"})
        href = f"{url}?{urlencode(list(query.items()))}"
        reply = json_reply({"href": href, "items": self._listed(nodes, call), "links": links})
        headers = {**reply.headers, "X-Total-Matching-Query": str(len(found))}
        return Reply(headers=headers, body=reply.body)

    def _found(self, call: Call, folder: Node) -> Sequence[Node]:
        """Return what a listing's filters let through. Source: API overview, "Filtering"."""
        query = call.request.query
        children = self._tree.children(folder)
        names = query.getall("name", [])
        # dict keys in insertion order: a name asked for twice is found once
        found = [children[n] for n in dict.fromkeys(names) if n in children] if names else None
        nodes: Sequence[Node] = list(children.values()) if found is None else found
        tags = query.getall("tag", [])
        tasks = query.getall("origin.task", [])
        wanted = [(n[9:], value) for n, value in query.items() if n.startswith("metadata.")]
        if not (tags or tasks or wanted):
            return nodes
        return [
            node
            for node in nodes
            if (not tags or set(tags) & set(node.tags))
            and (not tasks or node.task in tasks)
            and all(str(node.metadata.get(name)) == value for name, value in wanted)
        ]

    def _listed(self, nodes: Sequence[Node], call: Call) -> list[dict[str, Any]]:
        fields = call.request.query.get("fields")
        items = [chosen(file_object(self._world, node), fields) for node in nodes]
        has_size = self._world.settings.listing_has_size
        if has_size == "never" or (not has_size and "size" not in (fields or "").split(",")):
            for item in items:
                item.pop("size", None)
        return items

    # One file or folder.

    async def create_folder(self, call: Call) -> Reply:
        """Make a folder and return it. Source: the official client, `create_folder`."""
        wanted = await json_of(call)
        if str(wanted.get("type", "")).upper() != "FOLDER":
            raise RefusedError(400, 90000, "Only folders are made by this call.")
        folder = self._world.place(project=wanted.get("project"), parent=wanted.get("parent"))
        self._world.allow(folder.project, "write")
        self._tree.check_name(wanted.get("name"))
        node = self._tree.add("FOLDER", folder, str(wanted["name"]))
        return json_reply(file_object(self._world, node), 201)

    async def details(self, call: Call, node_id: str) -> Reply:
        """Return a file or folder, with the fields asked for."""
        node = self._readable(node_id)
        fields = call.request.query.get("fields")
        shown = file_object(self._world, node)
        return json_reply(chosen(shown, fields) if fields else shown)

    async def edit(self, call: Call, node_id: str) -> Reply:
        """Change name, tags and metadata, each only if given. Source: the official client."""
        node = self._writable(node_id)
        self.change(node, await json_of(call), replace=False)
        return json_reply(file_object(self._world, node))

    async def delete(self, _call: Call, node_id: str) -> Reply:
        """Remove a file or an empty folder; 204 as the official client takes it."""
        self.remove(self._writable(node_id))
        return Reply(status=204)

    async def download_info(self, _call: Call, node_id: str) -> Reply:
        """Return a URL. Source: API reference, "Get download URL for a file"."""
        node = self._readable(node_id)
        if node.stored is None:
            raise RefusedError(400, 5017, "A folder cannot be downloaded.")
        return json_reply({"url": self._world.storage.lease_get(node.stored.key).url})

    async def metadata(self, _call: Call, node_id: str) -> Reply:
        """Return the metadata."""
        return json_reply(self._readable(node_id).metadata)

    async def replace_metadata(self, call: Call, node_id: str) -> Reply:
        """Set the metadata as given. Source: the official Python client, `File.save`."""
        node = self._writable(node_id)
        self.change(node, {"metadata": await json_of(call)}, replace=True)
        return json_reply(node.metadata)

    async def merge_metadata(self, call: Call, node_id: str) -> Reply:
        """Add to the metadata; that a null removes a key is a guess."""
        node = self._writable(node_id)
        self.change(node, {"metadata": await json_of(call)}, replace=False)
        return json_reply(node.metadata)

    async def replace_tags(self, call: Call, node_id: str) -> Reply:
        """Set the tags: the body is a list."""
        node = self._writable(node_id)
        tags = await call.request.json()
        self.change(node, {"tags": tags}, replace=False)
        return json_reply(node.tags)

    async def copy(self, call: Call, node_id: str) -> Reply:
        """Return a copy in a project or folder; a taken name is refused, which is a guess."""
        node = self._readable(node_id)
        if node.type == "FOLDER":
            raise RefusedError(400, 5017, "Copying folders is not supported.")
        wanted = await json_of(call)
        folder = self._world.place(project=wanted.get("project"), parent=wanted.get("parent"))
        self._world.allow(folder.project, "write")
        name = str(wanted.get("name") or node.name)
        copied = self._tree.add("FILE", folder, name, node.stored)
        if node.stored is not None:
            node.stored.links += 1
        copied.metadata, copied.tags = dict(node.metadata), list(node.tags)
        return json_reply(file_object(self._world, copied), 201)

    async def move(self, call: Call, node_id: str) -> Reply:
        """Move a file to a folder and return it."""
        node = self._writable(node_id)
        wanted = await json_of(call)
        folder = self._world.place(project=wanted.get("project"), parent=wanted.get("parent"))
        self._tree.move(node, folder, str(wanted.get("name") or node.name))
        return json_reply(file_object(self._world, node))

    def remove(self, node: Node) -> None:
        """Remove a file or an empty folder; that a full one is refused is a guess."""
        if node.parent is None:
            raise RefusedError(403, 5001, "The root of a project cannot be deleted.")
        if node.type == "FOLDER" and self._tree.children(node):
            raise RefusedError(409, 90007, "The folder is not empty.")
        self._tree.remove(node)
        self._world.release(node)

    def change(self, node: Node, wanted: dict[str, Any], *, replace: bool) -> None:
        """Change what is given; with `replace`, metadata and tags not given are emptied."""
        name = wanted.get("name")
        metadata, tags = wanted.get("metadata"), wanted.get("tags")
        if not isinstance(metadata, dict | None) or not isinstance(tags, list | None):
            raise RefusedError(400, 90000, "Metadata is an object, tags are a list.")
        if name is not None:
            self._tree.check_name(name)
            assert node.parent is not None
            self._tree.move(node, self._tree.folder(node.parent), name)
        merged = dict(metadata or {}) if replace else {**node.metadata, **(metadata or {})}
        node.metadata = {key: value for key, value in merged.items() if value is not None}
        if tags is not None or replace:
            node.tags = list(tags or [])
        node.modified_at = self._world.storage.now()

    def _readable(self, node_id: str) -> Node:
        node = self._tree.node(node_id)
        self._world.allow(node.project, "read")
        return node

    def _writable(self, node_id: str) -> Node:
        node = self._tree.node(node_id)
        self._world.allow(node.project, "write")
        return node


class Bulk:
    """Calls on up to 100 files at once. Source: API reference, "Get details of multiple files".

    Each answers 200 with one entry a file: `{"resource": …}` or `{"error": …}`.
    """

    def __init__(self, world: World, files: Files) -> None:
        self._world = world
        self._files = files

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("POST", "/bulk/files/get", self.get),
            Route("POST", "/bulk/files/delete", self.delete),
            Route("POST", "/bulk/files/update", self.update),
            Route("POST", "/bulk/files/edit", self.edit),
        ]

    async def get(self, call: Call) -> Reply:
        """Return files by id."""
        ids = self._few((await json_of(call)).get("file_ids"))
        return self._each(ids, lambda node: node)

    async def delete(self, call: Call) -> Reply:
        """Remove files by id."""
        ids = self._few((await json_of(call)).get("file_ids"))

        def remove(node: Node) -> None:
            self._world.allow(node.project, "write")
            self._files.remove(node)

        return self._each(ids, remove)

    async def update(self, call: Call) -> Reply:
        """Set names, tags and metadata; what is not given is emptied."""
        return await self._changed(call, replace=True)

    async def edit(self, call: Call) -> Reply:
        """Change names, tags and metadata; what is not given stays."""
        return await self._changed(call, replace=False)

    async def _changed(self, call: Call, *, replace: bool) -> Reply:
        items = self._few((await json_of(call)).get("items"))
        by_id = {str(item.get("id")): item for item in items if isinstance(item, dict)}

        def change(node: Node) -> Node:
            self._world.allow(node.project, "write")
            self._files.change(node, by_id[node.id], replace=replace)
            return node

        return self._each(list(by_id), change)

    def _few(self, given: object) -> list[Any]:
        if not isinstance(given, list) or len(given) > self._world.settings.most_in_bulk:
            raise RefusedError(
                400, 90000, f"Give a list of at most {self._world.settings.most_in_bulk} files."
            )
        return given

    def _each(self, ids: list[Any], action: Any) -> Reply:  # noqa: ANN401 - returns node or None
        items: list[dict[str, Any]] = []
        for node_id in ids:
            try:
                node = self._world.tree.node(str(node_id))
                self._world.allow(node.project, "read")
                changed = action(node)
                shown = {} if changed is None else file_object(self._world, changed)
                items.append({"resource": shown})
            except RefusedError as error:
                items.append({"error": error_object(error)})
        return json_reply({"items": items})
