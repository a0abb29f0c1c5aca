"""Projects, folders and files of a simulated platform, as a tree; no HTTP.

Children are kept by name in the order they were made, which is the order of listings. Names are
unique in a folder. Nothing here knows how things are asked for or answered, save for the refusals,
which carry the platform's status and code.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from penstock.simulators.content import Content
from penstock.simulators.sevenbridges.settings import SevenBridgesSettings
from penstock.simulators.storage import Storage, StoredObject

NodeType = Literal["FILE", "FOLDER"]
LONGEST_NAME = 255

DEFAULT_PERMISSIONS = {"write": True, "read": True, "copy": True, "execute": True, "admin": True}


class RefusedError(Exception):
    """A call is refused with an HTTP status, a platform code and a sentence.

    Source: API reference, "API status codes", for codes up to 3013; the HTTP status of codes of
    5000 and more is inferred from what they mean, a guess.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass
class Node:
    """A file or a folder. `stored` is a file's object; the root of a project has no parent."""

    id: str
    name: str
    type: NodeType
    project: str
    parent: str | None
    created_at: float
    modified_at: float
    stored: StoredObject | None = None
    metadata: dict[str, object] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    task: str | None = None

    @property
    def size(self) -> int:
        """Bytes of a file; 0 for a folder."""
        return self.stored.content.size if self.stored is not None else 0


@dataclass
class Project:
    """A project: its root folder, and what the user may do in it."""

    id: str
    name: str
    root: str
    created_at: float
    permissions: dict[str, bool]


@dataclass(frozen=True)
class StoredFile:
    """A file as tests see it."""

    id: str
    path: str
    content: Content
    etag: str | None
    metadata: dict[str, object]
    tags: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.content.size

    @property
    def md5(self) -> str:
        """The MD5 of its content."""
        return self.content.md5()

    def read(self) -> bytes:
        """Return its bytes."""
        return b"".join(self.content.pieces())


class Tree:
    """All projects of the platform and what is in them."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.projects: dict[str, Project] = {}
        self.nodes: dict[str, Node] = {}
        self._children: dict[str, dict[str, Node]] = {}
        self._now = now
        self._numbers = itertools.count(1)

    def add_project(self, project_id: str, permissions: dict[str, bool] | None = None) -> Project:
        """Return a new, empty project."""
        if project_id in self.projects:
            raise ValueError(f"there is a project {project_id}")
        root = self._new("FOLDER", "", project_id, None)
        allowed = {**DEFAULT_PERMISSIONS, **(permissions or {})}
        name = project_id.partition("/")[2]
        project = Project(project_id, name, root.id, self._now(), allowed)
        self.projects[project_id] = project
        return project

    def project(self, project_id: str) -> Project:
        """Return a project.

        Raises:
            RefusedError: malformed id (3012) or no such project (3002).
        """
        if len([word for word in project_id.split("/") if word]) != 2:  # noqa: PLR2004
            raise RefusedError(400, 3012, f"Malformed project id {project_id!r}")
        try:
            return self.projects[project_id]
        except KeyError:
            raise RefusedError(404, 3002, "Requested project does not exist.") from None

    def node(self, node_id: str) -> Node:
        """Return a file or folder.

        Raises:
            RefusedError: there is none (5002).
        """
        try:
            return self.nodes[node_id]
        except KeyError:
            raise RefusedError(404, 5002, "Requested file does not exist.") from None

    def folder(self, node_id: str) -> Node:
        """Return a folder.

        Raises:
            RefusedError: there is none, or it is a file.
        """
        node = self.node(node_id)
        if node.type != "FOLDER":
            raise RefusedError(400, 5031, "The parent is not a folder.")
        return node

    def children(self, folder: Node) -> dict[str, Node]:
        """Return what is in a folder, by name, in order of making."""
        return self._children[folder.id]

    def add(
        self, node_type: NodeType, folder: Node, name: str, stored: StoredObject | None = None
    ) -> Node:
        """Return a new file or folder.

        Raises:
            RefusedError: a bad name (90000), or one that is taken (5003, 5030 for a folder).
        """
        self.check_name(name)
        self.check_free(folder, name, node_type)
        node = self._new(node_type, name, folder.project, folder.id, stored)
        self._children[folder.id][name] = node
        return node

    def remove(self, node: Node) -> None:
        """Remove a file, or a folder and all that is in it."""
        if node.parent is not None:
            del self._children[node.parent][node.name]
        for child in list(self._children.get(node.id, {}).values()):
            self.remove(child)
        self._children.pop(node.id, None)
        self.nodes.pop(node.id, None)

    def move(self, node: Node, folder: Node, name: str) -> None:
        """Give a node another name or folder."""
        assert node.parent is not None
        if (folder.id, name) == (node.parent, node.name):
            return
        self.check_name(name)
        self.check_free(folder, name, node.type)
        del self._children[node.parent][node.name]
        node.name, node.parent, node.project = name, folder.id, folder.project
        node.modified_at = self._now()
        self._children[folder.id][name] = node

    def make_folders(self, project_id: str, path: str) -> Node:
        """Return the folder at a path, made with those above it where missing."""
        folder = self.nodes[self.projects[project_id].root]
        for name in [name for name in path.split("/") if name]:
            folder = self.children(folder).get(name) or self.add("FOLDER", folder, name)
        return folder

    def files(self, project_id: str) -> Iterator[tuple[str, Node]]:
        """Return path and node of every file of a project."""
        return self._walk("", self.nodes[self.projects[project_id].root])

    def folders(self, project_id: str) -> Iterator[tuple[str, Node]]:
        """Return path and node of every folder of a project, its root not among them."""
        return self._walk("", self.nodes[self.projects[project_id].root], "FOLDER")

    @staticmethod
    def check_name(name: object) -> None:
        """Refuse a name with a slash, without letters or too long.

        Source: API reference, "Initialize a multipart upload".
        """
        if not isinstance(name, str) or not name or "/" in name or len(name) > LONGEST_NAME:
            raise RefusedError(400, 90000, "The name must have 1 to 255 characters and no '/'.")

    def check_free(self, folder: Node, name: str, node_type: NodeType) -> None:
        """Refuse a name that is taken in this folder."""
        if name in self._children[folder.id]:
            code = 5030 if node_type == "FOLDER" else 5003
            raise RefusedError(409, code, f"{name!r} already exists here.")

    def _walk(
        self, prefix: str, folder: Node, wanted: NodeType = "FILE"
    ) -> Iterator[tuple[str, Node]]:
        for name, node in self._children[folder.id].items():
            path = f"{prefix}{name}"
            if node.type == wanted:
                yield path, node
            if node.type == "FOLDER":
                yield from self._walk(f"{path}/", node, wanted)

    def _new(
        self,
        node_type: NodeType,
        name: str,
        project: str,
        parent: str | None,
        stored: StoredObject | None = None,
    ) -> Node:
        now = self._now()
        node_id = f"5f1e2d3c{next(self._numbers):016x}"
        node = Node(node_id, name, node_type, project, parent, now, now, stored)
        self.nodes[node_id] = node
        if node_type == "FOLDER":
            self._children[node_id] = {}
        return node


class World:
    """What every group of calls works on: settings, tree, storage, and where the API is."""

    def __init__(self, settings: SevenBridgesSettings, storage: Storage) -> None:
        self.settings = settings
        self.storage = storage
        self.tree = Tree(storage.now)
        self.endpoint = ""
        self._numbers = itertools.count(1)

    def new_key(self) -> str:
        """Return a storage key nothing has yet."""
        return f"{next(self._numbers):032x}"

    def allow(self, project_id: str, right: str, code: int = 5001) -> None:
        """Refuse what the user may not do in a project (403)."""
        if not self.tree.project(project_id).permissions.get(right, False):
            raise RefusedError(403, code, f"You have no {right} permission in this project.")

    def place(self, *, project: object, parent: object) -> Node:
        """Return the folder meant by exactly one of a project and a parent.

        Source: the official Python client, `File.query` and `File.create_folder`.

        Raises:
            RefusedError: both given (5031), neither (90000), or what is given is not there.
        """
        if project and parent:
            raise RefusedError(400, 5031, "Give either project or parent.")
        if parent:
            return self.tree.folder(str(parent))
        if project:
            return self.tree.node(self.tree.project(str(project)).root)
        raise RefusedError(400, 90000, "Give a project or a parent.")

    def release(self, node: Node) -> None:
        """Forget the stored object of a removed file, unless a copy shares it."""
        if node.stored is not None:
            node.stored.links -= 1
            if node.stored.links == 0:
                self.storage.objects.pop(node.stored.key, None)
