"""Calls about the user, projects, resources and how full they are; and small tables.

Source: coscine 0.12.2's OpenAPI client: paths, parameters and models.
"""

from penstock.simulators.coscine.answers import (
    DISCIPLINES,
    MEMBERS_ONLY,
    ORGANIZATION,
    PUBLIC,
    ROLES,
    Page,
    project_object,
    quota_object,
    resource_object,
    single,
    when,
)
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.state import (
    READ_ONLY,
    SPECIFIC_TYPES,
    Project,
    World,
    new_id,
)
from penstock.simulators.host import Call, Reply
from penstock.simulators.routes import Route


class Places:
    """Users, projects, resources."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes."""
        project = "/projects/([^/]+)"
        resource = f"{project}/resources/([^/]+)"
        return [
            Route("GET", "/self", self.user),
            Route("GET", "/self/api-tokens", self.tokens),
            Route("GET", "/projects", self.projects),
            Route("GET", project, self.project),
            Route("GET", f"{project}/subprojects", self.subprojects),
            Route("GET", f"{project}/members", self.members),
            Route("GET", f"{project}/members/me", self.me),
            Route("GET", f"{project}/resources", self.resources),
            Route("GET", resource, self.resource),
            Route("GET", f"{resource}/quota", self.quota),
            Route("GET", f"{project}/quotas", self.project_quotas),
            Route("GET", f"{project}/quotas/([^/]+)", self.project_quota),
            Route("GET", "/system/status/noc/active", self.notices),
            Route("GET", "/maintenances", self.maintenances),
            Route("GET", "/roles", self.roles),
            Route("GET", "/visibilities", self.visibilities),
            Route("GET", "/disciplines", self.disciplines),
            Route("GET", "/resource-types/types", self.types),
            Route("GET", "/resource-types/types/([^/]+)", self.type),
        ]

    async def user(self, _call: Call) -> Reply:
        """Return the owner of the token. Source: `UserDto`."""
        given, _, family = self._world.settings.user.rpartition(" ")
        return single(
            {
                "id": self._world.user_id,
                "displayName": self._world.settings.user,
                "givenName": given,
                "familyName": family,
                "emails": [{"email": "demo@example.org", "isConfirmed": True, "isPrimary": True}],
                "language": {
                    "id": new_id("language", "en"),
                    "displayName": "English",
                    "abbreviation": "en",
                },
                "areToSAccepted": True,
                "disciplines": DISCIPLINES,
                "organizations": [{**ORGANIZATION, "readOnly": True}],
                "identities": [],
            }
        )

    async def tokens(self, call: Call) -> Reply:
        """Return a page of the user's tokens, without the tokens. Source: `ApiTokenDto`."""
        page = Page(call.request.query, self._world.settings)
        now = self._world.now()
        token = {
            "id": new_id("token"),
            "name": "demo",
            "creationDate": when(now),
            "expiryDate": when(now + self._world.settings.token_lifetime_s),
            "owner": {"id": self._world.user_id},
        }
        return page.reply(page.of([token]), 1)

    async def projects(self, call: Call) -> Reply:
        """Return a page of the projects, those without a parent only if asked for."""
        query = call.request.query
        page = Page(query, self._world.settings)
        top = query.get("TopLevel", "false").lower() == "true"
        found = [p for p in self._world.projects.values() if p.parent is None or not top]
        return page.reply([project_object(self._world, p) for p in page.of(found)], len(found))

    async def project(self, call: Call, key: str) -> Reply:
        """Return a project by id or slug, with its sub-projects if asked for."""
        project = self._world.project(key)
        shown = project_object(self._world, project)
        if call.request.query.get("IncludeSubProjects", "false").lower() == "true":
            below = [p for p in self._world.projects.values() if p.parent is project]
            shown["subProjects"] = [project_object(self._world, p) for p in below]
        return single(shown)

    async def subprojects(self, call: Call, key: str) -> Reply:
        """Return a page of the projects right below one."""
        project = self._world.project(key)
        page = Page(call.request.query, self._world.settings)
        found = [p for p in self._world.projects.values() if p.parent is project]
        return page.reply([project_object(self._world, p) for p in page.of(found)], len(found))

    async def members(self, call: Call, key: str) -> Reply:
        """Return a page of a project's members: the user. Source: `ProjectRoleDto`."""
        page = Page(call.request.query, self._world.settings)
        return page.reply(page.of([self._membership(key)]), 1)

    async def me(self, _call: Call, key: str) -> Reply:
        """Return the user's membership in a project."""
        return single(self._membership(key))

    def _membership(self, key: str) -> dict[str, object]:
        project = self._world.project(key)
        role, description = ROLES[project.role]
        return {
            "id": new_id("membership", project.id),
            "project": {"id": project.id},
            "role": {
                "id": role,
                "displayName": project.role.capitalize(),
                "description": description,
            },
            "user": {"id": self._world.user_id, "displayName": self._world.settings.user},
        }

    async def resources(self, call: Call, key: str) -> Reply:
        """Return a page of the resources of a project."""
        project = self._world.project(key)
        page = Page(call.request.query, self._world.settings)
        found = list(project.resources.values())
        return page.reply([resource_object(self._world, r) for r in page.of(found)], len(found))

    async def resource(self, _call: Call, key: str, resource_id: str) -> Reply:
        """Return a resource."""
        return single(resource_object(self._world, self._world.resource(key, resource_id)))

    async def quota(self, _call: Call, key: str, resource_id: str) -> Reply:
        """Return how full a resource is; linked data and GitLab have no quota, which is a guess."""
        resource = self._world.resource(key, resource_id)
        if resource.general_type in READ_ONLY:
            raise RefusedError(400, "This resource type has no quota.")
        return single(quota_object(resource, await resource.shelf.used()))

    async def project_quotas(self, call: Call, key: str) -> Reply:
        """Return a page of a project's quotas, by resource type. Source: `ProjectQuotaDto`."""
        told = self._world.settings.project_quotas
        project = self._world.project(key)
        if told == "missing":
            raise RefusedError(404, "There is no such endpoint.")
        page = Page(call.request.query, self._world.settings)
        kinds = list(dict.fromkeys(r.general_type for r in project.resources.values()))
        kinds = [kind for kind in kinds if kind not in READ_ONLY]
        shown = [
            await self._project_quota(project, kind, whole=told == "resources")
            for kind in page.of(kinds)
        ]
        return page.reply(shown, len(kinds))

    async def project_quota(self, _call: Call, key: str, type_id: str) -> Reply:
        """Return a project's quota of one resource type, that of each resource in it."""
        project = self._world.project(key)
        for kind in SPECIFIC_TYPES:
            if new_id("type", kind) == type_id and kind not in READ_ONLY:
                return single(await self._project_quota(project, kind, whole=True))
        raise RefusedError(404, f"The resource type {type_id} was not found.")

    async def _project_quota(
        self, project: Project, kind: str, *, whole: bool
    ) -> dict[str, object]:
        resources = [r for r in project.resources.values() if r.general_type == kind]
        quotas = [quota_object(r, await r.shelf.used()) for r in resources]
        return {
            "projectId": project.id,
            "resourceType": {"id": new_id("type", kind), "specificType": SPECIFIC_TYPES[kind]},
            "resourceQuotas": quotas if whole else None,
        }

    async def notices(self, call: Call) -> Reply:
        """Return a page of the current notices. Source: `MessageDto`."""
        page = Page(call.request.query, self._world.settings)
        return page.reply(page.of(self._world.notices), len(self._world.notices))

    async def maintenances(self, call: Call) -> Reply:
        """Return the same in the older form. Source: `MaintenanceDto`."""
        page = Page(call.request.query, self._world.settings)
        found = [
            {
                "displayName": notice["title"],
                "href": notice["href"],
                "type": notice["type"],
                "body": notice["title"],
                "startsDate": notice["startDate"],
                "endsDate": notice["endDate"],
            }
            for notice in self._world.notices
        ]
        return page.reply(page.of(found), len(found))

    async def roles(self, call: Call) -> Reply:
        """Return the roles there are."""
        page = Page(call.request.query, self._world.settings)
        found = [
            {"id": role, "displayName": name.capitalize(), "description": description}
            for name, (role, description) in ROLES.items()
        ]
        return page.reply(page.of(found), len(found))

    async def visibilities(self, call: Call) -> Reply:
        """Return the visibilities there are."""
        page = Page(call.request.query, self._world.settings)
        return page.reply(page.of([PUBLIC, MEMBERS_ONLY]), 2)

    async def disciplines(self, call: Call) -> Reply:
        """Return the disciplines there are."""
        page = Page(call.request.query, self._world.settings)
        return page.reply(page.of(DISCIPLINES), len(DISCIPLINES))

    async def types(self, _call: Call) -> Reply:
        """Return what types of resources there are. Source: `ResourceTypeInformationDto`."""
        return single(_types())

    async def type(self, _call: Call, type_id: str) -> Reply:
        """Return one of them."""
        for found in _types():
            if found["id"] == type_id:
                return single(found)
        raise RefusedError(404, f"The resource type {type_id} was not found.")


def _types() -> list[dict[str, object]]:
    found = []
    for general, specific in SPECIFIC_TYPES.items():
        own = general not in READ_ONLY
        able = ("Create", "Read", "Update", "Delete", "List")
        found.append(
            {
                "id": new_id("type", general),
                "generalType": general,
                "specificType": specific,
                "status": "active",
                **{f"can{what}": own or what in ("Read", "List") for what in able},
                "canCreateLinks": own,
                "isQuotaAvailable": own,
                "supportsVersioning": general.startswith("dsnrw"),
                "isEnabled": True,
            }
        )
    return found
