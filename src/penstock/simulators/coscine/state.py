"""Projects, resources and what is in them; no HTTP.

Where a resource's files lie is its shelf's business: the simulator's storage host, or a real S3
bucket. Nothing here knows how things are asked for or answered, save for the refusals, which carry
an HTTP status.
"""

import itertools
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from penstock.simulators.content import Content
from penstock.simulators.coscine.catalogue import Catalogue
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.settings import CoscineSettings
from penstock.simulators.storage import Storage

Role = Literal["owner", "member", "guest"]

GIB = 1024**3

# Of which general type a resource is; what is not listed is its own.
# Source: coscine 0.12.2, `ApiClient.resource_type`.
SPECIFIC_TYPES = {
    "rds": "rdsrwth",
    "rdss3": "rdss3rwth",
    "rdss3worm": "rdss3wormrwth",
    "dsnrwweb": "dsnrwweb",
    "dsnrws3": "dsnrws3",
    "dsnrws3worm": "dsnrws3worm",
    "gitlab": "gitlab",
    "linked": "linked",
}
# They hold no files of their own, and have no quota. That they cannot be written to is a guess.
READ_ONLY = ("linked", "gitlab")
S3_TYPES = ("rdss3", "rdss3worm", "dsnrws3", "dsnrws3worm")

# Every id is made of a name, so that a simulator makes the same ones each time.
_IDS = uuid.UUID("0d1c5c1e-5f0c-4d5e-9d5a-7c0516e00000")


@dataclass(frozen=True)
class Entry:
    """A file, or a folder where it has no size; its path is whole, a folder's ends in a slash."""

    path: str
    size: int | None
    created_at: float
    changed_at: float

    @property
    def is_folder(self) -> bool:
        """Whether it is one."""
        return self.size is None


class Shelf(Protocol):
    """Where the files of a resource lie."""

    async def level(self, prefix: str) -> Sequence[Entry]:
        """Return the files and folders right below a folder ("" or with a slash at its end)."""

    async def find(self, path: str) -> Entry | None:
        """Return a file."""

    async def put(self, path: str, content: Content) -> None:
        """Make a file, or replace one."""

    async def remove(self, path: str) -> None:
        """Remove a file that is there."""

    async def used(self) -> int:
        """Return how many bytes there are."""

    def url(self, path: str) -> str:
        """Return a presigned URL to fetch a file."""

    async def read(self, path: str) -> Content:
        """Return what a file holds."""


@dataclass(frozen=True)
class Metadata:
    """A version of a file's metadata, as it was sent."""

    version: int
    content: str
    type: str


@dataclass
class Resource:
    """A resource. `metadata` has all versions by path, the newest last.

    reserved: bytes there is room for. Source: `ResourceQuotaDto`, "reserved".
    fixed_values: as `fixedValues` of a resource shows them.
    """

    id: str
    name: str
    project: "Project"
    shelf: Shelf
    general_type: str = "rds"
    profile: str = ""
    reserved: int = 25 * GIB
    archived: bool = False
    maintenance: bool = False
    fixed_values: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]] = field(
        default_factory=dict
    )
    bucket: str = ""
    created_at: float = 0.0
    metadata: dict[str, list[Metadata]] = field(default_factory=dict)
    old_versions: int = 0

    @property
    def on_s3(self) -> bool:
        """Whether its type is one of those with keys of their own."""
        return self.general_type in S3_TYPES


@dataclass
class Project:
    """A project, and the role of the token's owner in it."""

    id: str
    slug: str
    name: str
    role: Role = "owner"
    parent: "Project | None" = None
    created_at: float = 0.0
    resources: dict[str, Resource] = field(default_factory=dict)


class World:
    """What every group of calls works on: settings, storage, projects, and where the API is."""

    def __init__(self, settings: CoscineSettings, storage: Storage) -> None:
        self.settings = settings
        self.storage = storage
        self.catalogue = Catalogue()
        self.endpoint = ""
        self.projects: dict[str, Project] = {}
        self.user_id = new_id("user", settings.user)
        self.encodings: dict[str, str] = {}
        self.notices: list[dict[str, object]] = []
        self.now: Callable[[], float] = storage.now
        self._versions = itertools.count(1)

    def project(self, key: str) -> Project:
        """Return a project by id or slug.

        Raises:
            RefusedError: there is none (404).
        """
        for project in self.projects.values():
            if key.lower() in (project.id, project.slug):
                return project
        raise RefusedError(404, f"The project {key} was not found.")

    def resource(self, project_key: str, resource_id: str) -> Resource:
        """Return a resource of a project, by id.

        Raises:
            RefusedError: no such project or resource (404), or no GUID (400).
        """
        project = self.project(project_key)
        try:
            key = str(uuid.UUID(resource_id))
        except ValueError:
            raise RefusedError(400, f"The value '{resource_id}' is not valid.") from None
        if key not in project.resources:
            raise RefusedError(404, f"The resource {resource_id} was not found.")
        return project.resources[key]

    def writable(self, project_key: str, resource_id: str) -> Resource:
        """Return a resource that may be written to.

        Raises:
            RefusedError: as `resource`; archived, under maintenance, or no right to write (403).
        """
        resource = self.resource(project_key, resource_id)
        if resource.project.role == "guest":
            raise RefusedError(403, "You have no right to write to this resource.")
        if resource.general_type in READ_ONLY:
            raise RefusedError(403, "A resource of this type takes no files.")
        if resource.archived:
            raise RefusedError(403, "The resource is archived and can only be read.")
        if resource.maintenance:
            raise RefusedError(403, "The resource is in maintenance mode.")
        return resource

    def next_version(self) -> int:
        """Return a new metadata version: Unix seconds, and later than all before.

        Source: coscine 0.12.2, `FileMetadata.version`.
        """
        return max(int(self.now()), 1) + next(self._versions)


def new_id(*names: str) -> str:
    """Return a GUID made of names."""
    return str(uuid.uuid5(_IDS, "/".join(names)))
