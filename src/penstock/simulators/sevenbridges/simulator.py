"""A Seven Bridges platform on loopback: its API, its quota and its storage host.

Every call passes one gate in this order: maintenance, token, quota. Then a table of routes decides.
`GET /` needs no token and `GET /rate_limit` costs nothing; all else counts, also what is then
refused. Nothing here is a double of penstock's own code: it imports none of it.

Source: API overview, "Authentication", "Rate limits".
"""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from penstock.simulators.content import Content, content_of
from penstock.simulators.host import Call, Reply, json_reply
from penstock.simulators.local import LocalPlatform
from penstock.simulators.quota import FixedWindow
from penstock.simulators.routes import Route, Router, UnroutedError
from penstock.simulators.sevenbridges.answers import (
    page,
    page_offset,
    page_size,
    project_object,
    refusal,
)
from penstock.simulators.sevenbridges.files import Bulk, Files
from penstock.simulators.sevenbridges.settings import SevenBridgesSettings
from penstock.simulators.sevenbridges.state import Node, RefusedError, StoredFile, World
from penstock.simulators.sevenbridges.uploads import Upload, Uploads
from penstock.simulators.storage import Storage, Violation

_TOKEN = "5e7e0b41d9e5c0ffee00112233445566"
_PROJECT = "demo/project"


class SevenBridges(LocalPlatform):
    """A platform with one empty writable project; an async context manager.

    clock: the time, epoch seconds; the only clock there is.
    """

    def __init__(
        self,
        settings: SevenBridgesSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        settings = settings or SevenBridgesSettings()
        super().__init__(_TOKEN, "/v2", clock=clock, port=port)
        self._set_pace(clock_skew_s=settings.clock_skew_s, latency_s=settings.api_latency_s)
        self.project = _PROJECT
        self.quota = FixedWindow(
            limit=settings.quota,
            window_s=settings.window_s,
            clock=clock,
            start=settings.window_start,
            count_refused=settings.count_refused,
        )
        self.storage = Storage(settings, clock=clock, faults=self.faults, log=self.log)
        self._world = World(settings, self.storage)
        self._uploads = Uploads(self._world)
        self._request_ids = itertools.count(1)
        files = Files(self._world)
        projects = Projects(self._world, self.quota)
        bulk = Bulk(self._world, files)
        groups = (files, bulk, self._uploads, projects)
        routes = [route for group in groups for route in group.routes()]
        self._router = Router(routes, base="/v2")
        self.add_project(self.project)

    async def _open(self) -> None:
        await self.storage.start()

    def _serving(self) -> None:
        self._world.endpoint = self.endpoint

    async def _close(self) -> None:
        await self.storage.stop()

    @property
    def settings(self) -> SevenBridgesSettings:
        """The settings in force."""
        return self._world.settings

    @property
    def violations(self) -> list[Violation]:
        """What clients did that they must never do."""
        return self.storage.violations

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of the settings
        """Change settings while serving; quota and window are changed on `quota`."""
        settings = replace(self._world.settings, **changes)
        self._world.settings = self.storage.settings = settings
        self.storage.bodies.keep = settings.keep_bodies
        self.storage.host.bandwidth = settings.bandwidth
        self.storage.host.latency_s = settings.latency_s
        self.storage.host.clock_skew_s = settings.clock_skew_s
        self._set_pace(clock_skew_s=settings.clock_skew_s, latency_s=settings.api_latency_s)

    def describe(self) -> dict[str, str]:
        """Return what a person needs to use it, by name, in order."""
        return {"endpoint": self.endpoint, "token": self.token, "project": self.project}

    # Seeding and inspecting.

    def add_project(self, project: str, permissions: dict[str, bool] | None = None) -> None:
        """Make an empty project; permissions not given are granted."""
        self._world.tree.add_project(project, permissions)

    def add_folder(self, project: str, path: str) -> str:
        """Make a folder, and those above it, where missing; return its id."""
        return self._world.tree.make_folders(project, path).id

    def add_file(
        self,
        project: str,
        path: str,
        content: bytes | Content,
        *,
        part_size: int | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> str:
        """Make a file, and the folders above it; return its id. One that is there is replaced.

        part_size: gives the ETag of an upload in such parts (``hex-N``), else it is the MD5.
        """
        tree = self._world.tree
        parent, _, name = path.rpartition("/")
        folder = tree.make_folders(project, parent)
        there = tree.children(folder).get(name)
        if there is not None:
            self._forget(there)
        stored = self.storage.put(self._world.new_key(), content_of(content), part_size=part_size)
        node = tree.add("FILE", folder, name, stored)
        node.metadata = dict(metadata or {})
        return node.id

    def remove_file(self, project: str, path: str) -> None:
        """Remove a file."""
        self._forget(dict(self._world.tree.files(project))[path])

    def files(self, project: str | None = None) -> dict[str, StoredFile]:
        """Return all files of a project, by path."""
        found = {}
        for path, node in self._world.tree.files(project or self.project):
            assert node.stored is not None
            found[path] = StoredFile(
                node.id,
                path,
                node.stored.content,
                node.stored.etag,
                dict(node.metadata),
                tuple(node.tags),
            )
        return found

    def folders(self, project: str | None = None) -> dict[str, str]:
        """Return the ids of all folders of a project, by path."""
        found = self._world.tree.folders(project or self.project)
        return {path: node.id for path, node in found}

    def open_uploads(self) -> list[Upload]:
        """Return the uploads begun, and neither completed nor aborted."""
        return list(self._uploads.open.values())

    def _forget(self, node: Node) -> None:
        self._world.tree.remove(node)
        self._world.release(node)

    # Serving.

    def _gate(self, call: Call) -> Reply | None:
        if self.settings.maintenance:
            return refusal(RefusedError(503, 0, "The service is down for maintenance."))
        if call.path in ("/v2", "/v2/") and call.method == "GET":
            return None
        if not self._knows(call.request):
            return refusal(RefusedError(401, 90001, "Unauthorized."))
        if call.path == "/v2/rate_limit":
            return None
        if not self.quota.admit():
            message = "Rate limit exceeded! Check response headers."
            return refusal(RefusedError(429, 1000, message))
        call.counted = True
        return None

    def _knows(self, request: web.Request) -> bool:
        headers = request.headers
        return self.token in (
            headers.get("X-SBG-Auth-Token"),
            headers.get("Authorization", "").removeprefix("Bearer "),
        )

    async def _answer(self, call: Call) -> Reply:
        try:
            return await self._router.answer(call)
        except RefusedError as error:
            return refusal(error)
        except UnroutedError as error:
            if error.known:
                return refusal(RefusedError(405, 90006, "Method not allowed."))
            return refusal(RefusedError(404, 90003, "Resource not found."))

    def _headers(self, _call: Call, reply: Reply) -> dict[str, str]:
        headers = {"X-Request-Id": f"{next(self._request_ids):032x}"}
        settings = self.settings
        if (
            reply.status == web.HTTPTooManyRequests.status_code
            and not settings.quota_headers_on_429
        ):
            return headers
        skew = settings.clock_skew_s
        return headers | self.quota.headers(settings.quota_headers, clock_skew_s=skew)


class Projects:
    """Calls about the user, projects and the quota itself."""

    def __init__(self, world: World, quota: FixedWindow) -> None:
        self._world = world
        self._quota = quota

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/?", self.paths),
            Route("GET", "/rate_limit", self.rate_limit),
            Route("GET", "/user", self.user),
            Route("GET", "/users/([^/]+)", self.user),
            Route("GET", "/projects/?", self.query),
            Route("GET", "/projects/([^/]+)/?", self.query),
            Route("GET", "/projects/([^/]+/[^/]+)", self.details),
            Route("GET", "/projects/([^/]+/[^/]+)/files", self.to_files),
        ]

    async def paths(self, _call: Call) -> Reply:
        """Return where things are. Source: the official Python client, `Endpoints`."""
        names = ("rate_limit", "user", "users", "projects", "files")
        urls = {f"{name}_url": f"{self._world.endpoint}/{name}" for name in names}
        return json_reply(urls | {"upload_url": f"{self._world.endpoint}/upload/multipart"})

    async def rate_limit(self, _call: Call) -> Reply:
        """Return the state of the quota; -1 is unlimited.

        Source: API reference, "Get your current rate limit status".
        """
        reset = int(self._quota.reset_at + self._world.settings.clock_skew_s)
        rate = {"limit": self._quota.limit, "remaining": self._quota.remaining, "reset": reset}
        instances = {"limit": -1, "remaining": 9_223_372_036_854_775_807}
        return json_reply({"rate": rate, "instance_limit": instances})

    async def user(self, _call: Call, name: str | None = None) -> Reply:
        """Return the owner of the token."""
        user = self._world.settings.user
        if name not in (None, user):
            raise RefusedError(404, 90003, "Requested user does not exist.")
        shown = {
            "href": f"{self._world.endpoint}/users/{user}",
            "username": user,
            "email": f"{user}@example.org",
            "first_name": "Demo",
            "last_name": "User",
        }
        return json_reply(shown)

    async def query(self, call: Call, owner: str | None = None) -> Reply:
        """Return a page of the projects, of one owner if given."""
        query = call.request.query
        limit, offset = page_size(self._world, query), page_offset(query)
        projects = [
            project
            for project in self._world.tree.projects.values()
            if owner in (None, project.id.partition("/")[0])
            and query.get("name", "").lower() in project.name.lower()
        ]
        whole = query.get("fields") == "_all"
        return page(
            self._world,
            f"{self._world.endpoint}/projects/",
            list(query.items()),
            [
                project_object(self._world, p, whole=whole)
                for p in projects[offset : offset + limit]
            ],
            total=len(projects),
            offset=offset,
            limit=limit,
        )

    async def details(self, _call: Call, project: str) -> Reply:
        """Return a project with its permissions."""
        return json_reply(
            project_object(self._world, self._world.tree.project(project), whole=True)
        )

    async def to_files(self, call: Call, project: str) -> Reply:
        """Redirect to the listing: reported of the platform, undocumented; 302 is a guess."""
        self._world.tree.project(project)
        query = urlencode([("project", project), *call.request.query.items()])
        location = f"{self._world.endpoint}/files?{query}"
        return Reply(status=302, headers={"Location": location})
