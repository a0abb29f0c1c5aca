"""Coscine's projects and resources, asked for: by page, each once, and what may be done there.

The flows here are those that concern no file. A resource found or looked up is remembered for the
session, so that rights, keys and profile are read from one answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from penstock.core.errors import LocationError, Refused
from penstock.core.locations import escape, unescape
from penstock.core.model import Flow, Page, RemoteFolder, Request
from penstock.platforms.base import JsonObject
from penstock.platforms.coscine_answers import content, paged, room_left
from penstock.platforms.coscine_places import (
    HOLDS_FILES,
    Named,
    Resource,
    Settings,
    chosen,
    is_id,
    may_be_slug,
    named_resource,
    own_id,
    project_of,
    resource_of,
)

_NOT_HERE = frozenset((400, 403, 404))
# Statuses by which a server says that it has no such question. What it would have told is then
# not known, and nothing is refused for it.
_NOT_TOLD = frozenset((400, 403, 404, 405, 501))
# Source: Coscine "Project roles": owners and members write, guests read.
_READS_ONLY = frozenset(("guest", "gast"))


class Catalogue:
    """What of Coscine is above files."""

    def __init__(self, endpoint: str, settings: Settings, page_size: int) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._settings = settings
        self._page_size = page_size
        self._resources: dict[str, Resource] = {}
        self._projects: dict[str, Named] = {}
        self._listed_in: dict[tuple[str, str], Resource] = {}
        self._looked_up: set[str] = set()
        self._spared: set[str] = set()

    @property
    def endpoint(self) -> str:
        """The API root."""
        return self._endpoint

    # -- resources --------------------------------------------------------------------------

    def resource(self, container: str) -> Flow[Resource]:
        """The resource that is a container, by its ids: asked for once a session."""
        known = self._resources.get(container)
        if known is None:
            project = container.partition("/")[0]
            request = self._api("GET", self._resource_path(container))
            known = resource_of(content((yield request), "resource"), project)
            self._resources[container] = known
        elif container in self._looked_up:
            self._spared.add(container)
        return known

    def seen(self, container: str) -> Flow[Resource]:
        """As `resource`, for what is remembered between runs: a later one need not ask."""
        known = self._resources.get(container)
        return known if known is not None else (yield from self.resource(container))

    @property
    def spared(self) -> int:
        """Requests saved by what looking for places has shown: a run that need not look asks."""
        return len(self._spared)

    def forget(self, container: str) -> None:
        """The resource is asked for again when it is next needed."""
        self._resources.pop(container, None)
        self._looked_up.discard(container)

    def find_resource(self, written: str) -> Flow[Resource]:
        """The resource a location names: by ids, slug or display names.

        Raises `LocationError` where a name fits none, or several.
        """
        project_name, _, name = written.partition("/")
        project = yield from self.find_project(project_name)
        wanted = unescape(name)
        listed = self._listed_in.get((project.id, own_id(wanted)))
        if listed is not None:
            self._resources.setdefault(listed.container, listed)
            self._looked_up.add(listed.container)
            return listed
        if is_id(wanted):
            try:
                found = yield from self.resource(f"{project.id}/{own_id(wanted)}")
            except Refused as refused:
                if refused.status not in _NOT_HERE:
                    raise
                raise LocationError(
                    f"{written} is not there, or not for this token ({refused})"
                ) from refused
            self._looked_up.add(found.container)
            return found
        known: dict[str, JsonObject] = {}
        number: str | None = "1"
        while number is not None:
            path = f"/projects/{quote(project.id, safe='')}/resources"
            try:
                page = yield from self._listed(path, number, [], "resource listing")
            except Refused as refused:
                if refused.status not in _NOT_HERE:
                    raise
                raise LocationError(
                    f"{unescape(project_name)!r} is no project for this token ({refused})"
                ) from refused
            for entry in page[0]:
                known.setdefault(named_resource(entry).id, entry)
            number = page[1]
        meant = chosen([named_resource(entry) for entry in known.values()], name, "resource")
        resource = resource_of(known[meant.id], project.id)
        self._resources[resource.container] = resource
        self._looked_up.add(resource.container)
        return resource

    def find_project(self, written: str) -> Flow[Named]:
        """The project a segment of a location names: looked for once a session."""
        if written not in self._projects:
            self._projects[written] = yield from self._find_project(written)
        return self._projects[written]

    def _find_project(self, written: str) -> Flow[Named]:
        """The project a segment of a location names.

        A GUID is taken as an id. Else what may be a slug is asked for, for a slug stands in paths
        as an id does ([SDK] `projectId`: "The Id or slug"); what is none is looked for by name.
        """
        wanted = unescape(written)
        if is_id(wanted):
            return Named(own_id(wanted), wanted)
        if may_be_slug(wanted):
            try:
                request = self._api("GET", f"/projects/{quote(wanted, safe='')}")
                found = project_of(content((yield request), "project"))
            except Refused as refused:
                if refused.status not in _NOT_HERE:
                    raise
            else:
                return found
        known: dict[str, Named] = {}
        number: str | None = "1"
        while number is not None:
            entries, number = yield from self._listed(
                "/projects", number, [("TopLevel", "false")], "project listing"
            )
            for entry in entries:
                project = project_of(entry)
                known.setdefault(project.id, project)
        return chosen(list(known.values()), written, "project")

    # -- what may be done -------------------------------------------------------------------

    def why_not(self, resource: Resource) -> Flow[str | None]:
        """Why nothing may be written to a resource; None where nothing speaks against it."""
        if resource.archived:
            return f"the resource {resource.name!r} is archived, so it cannot be written to"
        if resource.maintenance:
            return f"the resource {resource.name!r} is under maintenance; try again later"
        if resource.keys is not None and resource.keys.write is not None:
            return None  # Who may not write sees no keys to write with.
        role = yield from self.role(resource.project)
        if role is not None and role.lower() in _READS_ONLY:
            return f"this token's owner is a {role.lower()} in the project, and may read only"
        if resource.type and resource.type not in HOLDS_FILES and resource.type_id is not None:
            path = f"/resource-types/types/{quote(resource.type_id, safe='')}"
            kind = yield from self._asked(path, "resource type")
            if kind is not None and kind.get("canCreate") is False:
                return f"a resource of the type {resource.type} takes no files"
        return None

    def role(self, project: str) -> Flow[str | None]:
        """What the token's owner is in a project; None where that is not told.

        Source: [SDK] project member API, `members/me`.
        """
        path = f"/projects/{quote(project, safe='')}/members/me"
        found = yield from self._asked(path, "project role")
        role = found.object_or_none("role") if found is not None else None
        return role.text_or_none("displayName") if role is not None else None

    def room(self, resource: Resource) -> Flow[int | None]:
        """Bytes that still fit into a resource; None where that is not told."""
        quota = yield from self._asked(f"{self._resource_path(resource.container)}/quota", "quota")
        return room_left(quota) if quota is not None else None

    def _asked(self, path: str, what: str) -> Flow[JsonObject | None]:
        try:
            return content((yield self._api("GET", path)), what)
        except Refused as refused:
            if refused.status not in _NOT_TOLD:
                raise
            return None

    # -- listings ---------------------------------------------------------------------------

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:
        """50 of the projects the token can see; or of what is in one: sub-projects, resources."""
        if not above:
            entries, after = yield from self._listed(
                "/projects", cursor or "1", [("TopLevel", "false")], "project listing"
            )
            projects = [project_of(entry) for entry in entries]
            self._remember(projects)
            return Page((), tuple(map(_as_folder, projects)), after)
        stage, _, number = (cursor or "subprojects:1").partition(":")
        project = yield from self.find_project(above)
        path = f"/projects/{quote(project.id, safe='')}"
        if stage == "subprojects":
            try:
                entries, after = yield from self._listed(
                    f"{path}/subprojects", number, [], "sub-project listing"
                )
            except Refused as refused:
                if refused.status not in _NOT_TOLD:
                    raise
                entries, after = [], None
            below = [replace(project_of(entry), is_below=True) for entry in entries]
            self._remember(below)
            following = f"subprojects:{after}" if after is not None else "resources:1"
            return Page((), tuple(_as_folder(one) for one in below), following)
        try:
            entries, after = yield from self._listed(
                f"{path}/resources", number, [], "resource listing"
            )
        except Refused as refused:
            if refused.status not in _NOT_HERE:
                raise
            raise LocationError(
                f"{unescape(above)!r} is no project for this token ({refused})"
            ) from refused
        resources = [resource_of(entry, project.id) for entry in entries]
        for one in resources:
            # An id names no other. Names may, on a page that is still to come.
            self._listed_in[project.id, one.id] = one
        role = yield from self.role(project.id) if resources else _nothing()
        rooms = yield from self._rooms(project.id, resources)
        shown = tuple(_shown(one, role, rooms.get(one.id)) for one in resources)
        return Page((), shown, f"resources:{after}" if after is not None else None)

    def _remember(self, projects: Sequence[Named]) -> None:
        """Projects that a listing shows need not be looked for by their ids and slugs."""
        for one in projects:
            for name in (one.id, one.slug or one.id):
                self._projects.setdefault(escape(name), one)

    def _rooms(self, project: str, resources: Sequence[Resource]) -> Flow[Mapping[str, int]]:
        """What fits into resources, by id: from the pages of their project's quotas.

        Where the pages leave a type's resources out, the type is asked for; no resource is.
        Source: [SDK] project quota API, `ProjectQuotaDto.resourceQuotas`.
        """
        rooms: dict[str, int] = {}
        wanted = {one.id: one for one in resources if one.type in HOLDS_FILES}
        path = f"/projects/{quote(project, safe='')}/quotas"
        number: str | None = "1" if wanted else None
        while number is not None and not wanted.keys() <= rooms.keys():
            try:
                entries, number = yield from self._listed(path, number, [], "project quotas")
            except Refused as refused:
                if refused.status not in _NOT_TOLD:
                    raise
                return rooms
            for entry in entries:
                rooms.update(_rooms_in(entry))
        left = (one.type_id for one in wanted.values() if one.id not in rooms)
        for kind in dict.fromkeys(kind for kind in left if kind is not None):
            told = yield from self._asked(f"{path}/{quote(kind, safe='')}", "project quota")
            rooms.update(_rooms_in(told) if told is not None else ())
        return rooms

    def _listed(
        self, path: str, number: str, query: Sequence[tuple[str, str]], what: str
    ) -> Flow[tuple[list[JsonObject], str | None]]:
        """One page's entries, and the next page's number."""
        request = self._api("GET", path, [*query, *self._paging(number)])
        page = paged((yield request), int(number), what)
        return list(page.entries), page.next

    # -- requests ---------------------------------------------------------------------------

    def _paging(self, number: str) -> list[tuple[str, str]]:
        """Source: docs.coscine.de "API", "Page Size": 50 at most; 10 where nothing is said."""
        return [("PageNumber", number), ("PageSize", str(self._page_size))]

    def _resource_path(self, container: str) -> str:
        project, _, resource = container.partition("/")
        return f"/projects/{quote(project, safe='')}/resources/{quote(resource, safe='')}"

    def _api(self, method: str, path: str, query: Sequence[tuple[str, str]] = ()) -> Request:
        tail = "?" + urlencode(query, quote_via=quote) if query else ""
        return self._request(method, self._endpoint + path + tail)

    def _request(
        self,
        method: str,
        url: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        **fields: Any,  # noqa: ANN401 - the other fields of a request
    ) -> Request:
        return Request(method, url, headers=(("Accept", "application/json"), *headers), **fields)


def _rooms_in(entry: JsonObject) -> Iterator[tuple[str, int]]:
    """Resources by their ids, with what fits into each, as a project's quota of a type tells."""
    if not isinstance(entry.get("resourceQuotas"), list):
        return
    for quota in entry.objects("resourceQuotas"):
        whose, room = quota.object_or_none("resource"), room_left(quota)
        if whose is not None and room is not None:
            yield own_id(whose.text("id")), room


def _nothing() -> Flow[None]:
    yield from ()


def _as_folder(project: Named) -> RemoteFolder:
    """A project as a listing shows it, written by its slug, which names no other."""
    return RemoteFolder(
        project.id,
        project.name,
        "project",
        written=escape(project.slug or project.id),
        about={"parent": True} if project.is_below else {},
    )


def _shown(resource: Resource, role: str | None, room: int | None) -> RemoteFolder:
    """A resource as a listing shows it."""
    about: dict[str, str | int | bool | None] = {
        "type": resource.specific_type or resource.type or None,
        "room": room,
        "archived": resource.archived,
        "role": role,
    }
    if resource.maintenance:
        about["maintenance"] = True
    return RemoteFolder(
        resource.id, resource.name, "resource", written=escape(resource.name), about=about
    )
