"""A Coscine on loopback: its API, its quota and its storage host.

Every call passes one gate in this order: maintenance, token, quota (or quota, token where it is
counted by address). Then a table of routes decides. Nothing here is a double of penstock's own
code: it imports none of it.

Source: Coscine documentation, "API"; coscine 0.12.2 and its OpenAPI client.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from aiohttp import ClientSession

from penstock.simulators.content import Content, content_of
from penstock.simulators.coscine.answers import refusal, when
from penstock.simulators.coscine.catalogue import BASE_PROFILE, Profile, Term
from penstock.simulators.coscine.files import Files
from penstock.simulators.coscine.graphs import Graphs
from penstock.simulators.coscine.places import Places
from penstock.simulators.coscine.profiles_api import Profiles
from penstock.simulators.coscine.quota import Throttle
from penstock.simulators.coscine.rdf import Checker
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.s3 import S3Shelf
from penstock.simulators.coscine.settings import CoscineSettings
from penstock.simulators.coscine.shelves import OwnShelf
from penstock.simulators.coscine.state import (
    S3_TYPES,
    Entry,
    Metadata,
    Project,
    Resource,
    Role,
    Shelf,
    World,
    new_id,
)
from penstock.simulators.host import Call, Reply
from penstock.simulators.local import LocalPlatform
from penstock.simulators.routes import Router, UnroutedError
from penstock.simulators.storage import Storage, Violation

BASE = "/coscine/api/v2"

_TOKEN = "eyJhbGciOiJIUzI1NiJ9.c2ltdWxhdGVk.bm90LWEtcmVhbC10b2tlbg"
_PROJECT = "demo"
_RESOURCE = "data"


@dataclass(frozen=True)
class CoscineFile:
    """A file as tests see it; `metadata` is the newest, as it was sent, or nothing."""

    path: str
    content: Content
    etag: str | None
    metadata: str | None

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


class Coscine(LocalPlatform):
    """A platform with one project and one empty writable resource; an async context manager.

    clock: the time, epoch seconds; the only clock there is.
    project, resource: ids of what there is to begin with.
    project_name, resource_name: what they are called.
    """

    def __init__(
        self,
        settings: CoscineSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        settings = settings or CoscineSettings()
        super().__init__(_TOKEN, BASE, clock=clock, port=port)
        self._set_pace(clock_skew_s=settings.clock_skew_s, latency_s=settings.api_latency_s)
        self.quota = Throttle(settings, clock)
        self.storage = Storage(settings, clock=clock, faults=self.faults, log=self.log)
        self._world = World(settings, self.storage)
        self._session: ClientSession | None = None
        groups = (
            Places(self._world),
            Files(self._world),
            Graphs(self._world, Checker(self._world)),
            Profiles(self._world),
        )
        routes = [route for group in groups for route in group.routes()]
        self._router = Router(routes, base=BASE, raw=True)
        self.project_name, self.resource_name = _PROJECT, _RESOURCE
        self.project = self.add_project(_PROJECT)
        self.resource = self.add_resource(_RESOURCE)

    async def _open(self) -> None:
        await self.storage.start()

    def _serving(self) -> None:
        self._world.endpoint = self.endpoint

    async def _close(self) -> None:
        await self.storage.stop()
        if self._session is not None:
            await self._session.close()

    @property
    def settings(self) -> CoscineSettings:
        """The settings in force."""
        return self._world.settings

    @property
    def violations(self) -> list[Violation]:
        """What clients did that they must never do."""
        return self.storage.violations

    @property
    def encodings(self) -> Mapping[str, str]:
        """How the paths that needed it were last encoded in URLs: "once" or "twice"."""
        return self._world.encodings

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of the settings
        """Change settings while serving; quota, window and penalty are changed on `quota`."""
        settings = replace(self._world.settings, **changes)
        self._world.settings = self.storage.settings = settings
        self.quota.settings = settings
        self.storage.bodies.keep = settings.keep_bodies
        self.storage.host.bandwidth = settings.bandwidth
        self.storage.host.latency_s = settings.latency_s
        self.storage.host.clock_skew_s = settings.clock_skew_s
        self._set_pace(clock_skew_s=settings.clock_skew_s, latency_s=settings.api_latency_s)

    def describe(self) -> dict[str, str]:
        """Return what a person needs to use it, by name, in order."""
        return {
            "endpoint": self.endpoint,
            "token": self.token,
            "project": self.project_name,
            "resource": self.resource_name,
        }

    # Seeding and inspecting.

    def add_project(self, name: str, *, parent: str | None = None, role: Role = "owner") -> str:
        """Make a project without resources; return its id. Its slug is its name with dashes."""
        number = len(self._world.projects)
        project_id = new_id("project", str(number), name)
        slug = name.lower().replace(" ", "-")
        taken = {project.slug for project in self._world.projects.values()}
        if slug in taken:
            slug = f"{slug}-{number}"
        above = None if parent is None else self._world.project(parent)
        made = Project(project_id, slug, name, role, above, self._world.now())
        self._world.projects[project_id] = made
        return project_id

    def add_resource(
        self,
        name: str,
        *,
        project: str | None = None,
        general_type: str = "rds",
        profile: str | None = None,
        reserved: int = 25 * 1024**3,
        fixed_values: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]] | None = None,
        bucket: str | None = None,
    ) -> str:
        """Make an empty resource; return its id.

        general_type: `rds`, `rdss3`, `dsnrwweb`, `linked`, …
        profile: its application profile's IRI, else that of one where nothing is mandatory.
        reserved: bytes there is room for.
        bucket: of a resource on S3, else that of the settings.
        """
        owner = self._world.project(project or self.project)
        resource_id = new_id("resource", owner.id, str(len(owner.resources)), name)
        shelf: Shelf = OwnShelf(resource_id, self.storage, lambda: self.settings.stored_part_size)
        place = self.settings.s3
        if place is not None and general_type in S3_TYPES:
            bucket = bucket or place.bucket
            shelf = S3Shelf(
                place,
                bucket,
                session=self._s3_session,
                bodies=self.storage.bodies,
                lifetime_s=lambda: self.settings.download_url_lifetime_s,
            )
        owner.resources[resource_id] = Resource(
            resource_id,
            name,
            owner,
            shelf,
            general_type=general_type,
            profile=profile or BASE_PROFILE,
            reserved=reserved,
            fixed_values=fixed_values or {},
            bucket=bucket or resource_id,
            created_at=self._world.now(),
        )
        return resource_id

    def at(self, resource: str | None = None) -> Resource:
        """Return a resource, to be looked at or changed (`archived`, `maintenance`, …)."""
        for project in self._world.projects.values():
            if (resource or self.resource) in project.resources:
                return project.resources[resource or self.resource]
        raise KeyError(resource)

    def project_at(self, project: str | None = None) -> Project:
        """Return a project, to be looked at or changed (`role`)."""
        return self._world.project(project or self.project)

    def add_file(
        self,
        path: str,
        content: bytes | Content,
        *,
        resource: str | None = None,
        part_size: int | None = None,
        metadata: str | None = None,
    ) -> None:
        """Make a file, and the folders above it. One that is there is replaced.

        part_size: gives the ETag of an upload in such parts (``hex-N``), else it is the MD5.
        metadata: in Turtle.
        """
        found = self.at(resource)
        self._shelf(found).store(path, content_of(content), part_size=part_size)
        if metadata is not None:
            self.add_metadata(path, metadata, resource=resource)

    def add_metadata(self, path: str, turtle: str, *, resource: str | None = None) -> None:
        """Add a version of a file's metadata, unchecked."""
        version = Metadata(self._world.next_version(), turtle, "text/turtle")
        self.at(resource).metadata.setdefault(path, []).append(version)

    def remove_file(self, path: str, *, resource: str | None = None) -> None:
        """Remove a file."""
        self._shelf(self.at(resource)).drop(path)

    def files(self, resource: str | None = None) -> dict[str, CoscineFile]:
        """Return all files of a resource, by path."""
        found = self.at(resource)
        shelf = self._shelf(found)
        return {entry.path: self._file(found, shelf, entry) for entry in shelf.files()}

    def metadata(self, resource: str | None = None) -> dict[str, str]:
        """Return the newest metadata of all paths that have some, as it was sent."""
        return {path: v[-1].content for path, v in self.at(resource).metadata.items()}

    def add_profile(self, uri: str, turtle: str, name_en: str, name_de: str | None = None) -> None:
        """Add an application profile, in SHACL, or replace one."""
        made = Profile(uri, turtle, name_en, name_de or name_en)
        self._world.catalogue.profiles[uri] = made

    def add_vocabulary(self, class_uri: str, terms: Sequence[Term]) -> None:
        """Add a vocabulary, or replace one."""
        self._world.catalogue.vocabularies[class_uri] = tuple(terms)

    def announce(
        self,
        title: str,
        *,
        kind: Literal["Maintenance", "PartialMaintenance", "Disturbance", "Hint"] = "Maintenance",
        starts_at: float | None = None,
        ends_at: float | None = None,
    ) -> None:
        """Add a notice to those the platform tells of."""
        now = self._world.now()
        self._world.notices.append(
            {
                "id": new_id("notice", str(len(self._world.notices))),
                "body": {"en": title, "de": title},
                "type": kind,
                "title": title,
                "href": "https://example.org/status",
                "startDate": when(now if starts_at is None else starts_at),
                "endDate": when(now + 3600 if ends_at is None else ends_at),
            }
        )

    def _s3_session(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession()
        return self._session

    def _shelf(self, resource: Resource) -> OwnShelf:
        if not isinstance(resource.shelf, OwnShelf):
            raise TypeError(f"the files of {resource.name} lie on an S3 server: look there")
        return resource.shelf

    def _file(self, resource: Resource, shelf: OwnShelf, entry: Entry) -> CoscineFile:
        stored = self.storage.objects[shelf.key(entry.path)]
        versions = resource.metadata.get(entry.path)
        metadata = versions[-1].content if versions else None
        return CoscineFile(entry.path, stored.content, stored.etag, metadata)

    # Serving.

    def _gate(self, call: Call) -> Reply | None:
        settings = self.settings
        if settings.maintenance:
            return refusal(RefusedError(503, "Coscine is under maintenance."), settings)
        by_address = settings.quota_key == "ip"
        known = call.request.headers.get("Authorization") == f"Bearer {self.token}"
        if not known and not by_address:
            return self._unknown()
        if not self.quota.admit(call.request.remote or "" if by_address else self.token):
            return self._too_many()
        call.counted = True
        return None if known else self._unknown()

    def _unknown(self) -> Reply:
        reply = refusal(RefusedError(401, "The token is not valid."), self.settings)
        headers = {**reply.headers, "WWW-Authenticate": 'Bearer error="invalid_token"'}
        return Reply(status=401, headers=headers, body=reply.body)

    def _too_many(self) -> Reply:
        reaction = self.settings.over_quota
        if reaction in ("429", "503"):
            return Reply(status=int(reaction))
        return Reply(silence_s=self.settings.hang_s if reaction == "hang" else 0.0)

    async def _answer(self, call: Call) -> Reply:
        try:
            return await self._router.answer(call)
        except RefusedError as error:
            return refusal(error, self.settings)
        except UnroutedError as error:
            status = 405 if error.known else 404
            return refusal(RefusedError(status, "There is no such endpoint."), self.settings)
