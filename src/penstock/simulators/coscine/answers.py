"""The shapes of answers: envelopes, pages, errors, items. Pure functions of state.

Source, unless said otherwise: coscine 0.12.2's OpenAPI models (`…Dto`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.settings import CoscineSettings, S3Place
from penstock.simulators.coscine.state import (
    GIB,
    SPECIFIC_TYPES,
    Entry,
    Metadata,
    Project,
    Resource,
    World,
    new_id,
)
from penstock.simulators.host import Reply, json_reply

TRACE = "00-5d3c0b7a9e1f4d2c8b6a7f0e1d2c3b4a-a1b2c3d4e5f60718-00"

_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    503: "Service Unavailable",
}

# The names of the options of a type. Of DataStorage.nrw's there are two readings: coscine's models
# say `dataStorageNrwS3`, its `ResourceType.options` looks for `dsNrwS3`.
_OPTIONS = {
    "rds": "rds",
    "rdss3": "rdsS3",
    "rdss3worm": "rdsS3Worm",
    "dsnrwweb": "dataStorageNrwWeb",
    "dsnrws3": "dataStorageNrwS3",
    "dsnrws3worm": "dataStorageNrwS3Worm",
    "gitlab": "gitLab",
    "linked": "linkedData",
}

ROLES = {
    "owner": ("be294c5e-4e42-49b3-bec4-4b15f49df9a5", "Owner of the project."),
    "member": ("508b6d4e-c6ac-4aa5-8a8d-caa31dd39527", "Member of the project."),
    "guest": ("9184a442-4419-4e30-9fe6-0cfe32c9a81f", "Guest of the project."),
}
PUBLIC = {"id": new_id("visibility", "public"), "displayName": "Public"}
MEMBERS_ONLY = {"id": new_id("visibility", "members"), "displayName": "Project Members"}
DISCIPLINES = [
    {
        "id": new_id("discipline", "201"),
        "uri": "http://www.dfg.de/dfg_profil/gremien/fachkollegien/liste/index.jsp?id=201",
        "displayNameDe": "Grundlagen der Biologie und Medizin 201",
        "displayNameEn": "Basic Biological and Medical Research 201",
    }
]
ORGANIZATION = {"uri": "https://ror.org/04xfq0f34", "displayName": "RWTH Aachen University"}


def when(at: float) -> str:
    """Return an instant as Coscine writes it: ISO 8601, UTC."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def single(data: object, status: int = 200) -> Reply:
    """Return the envelope of one thing, or of a list that has no pages."""
    return json_reply(
        {"data": data, "isSuccess": True, "statusCode": status, "traceId": TRACE}, status
    )


def refusal(error: RefusedError, settings: CoscineSettings) -> Reply:
    """Return an error answer; what its body is, is a switch."""
    if settings.failures == "empty":
        return Reply(status=error.status)
    if settings.failures == "envelope":
        body = {"data": None, "isSuccess": False, "statusCode": error.status, "traceId": TRACE}
        return json_reply(body, error.status)
    body = {
        "type": f"https://httpstatuses.com/{error.status}",
        "title": _TITLES.get(error.status, "Error"),
        "status": error.status,
        "detail": error.detail,
        "traceId": TRACE,
    }
    reply = json_reply(body, error.status)
    headers = {"Content-Type": "application/problem+json"}
    return Reply(status=error.status, headers=headers, body=reply.body)


class Page:
    """Which page of a listing is asked for.

    Source: coscine 0.12.2: `PageNumber` from 1, `PageSize` 1 to 50. What happens above is a guess
    and a switch.

    Raises:
        RefusedError: no such numbers (400).
    """

    def __init__(self, query: Mapping[str, str], settings: CoscineSettings) -> None:
        self.number = _whole(query, "PageNumber", 1)
        self.size = _whole(query, "PageSize", settings.default_page_size)
        if self.size > settings.most_per_page:
            if settings.too_high_page_size == "refuse":
                raise RefusedError(400, f"PageSize must be at most {settings.most_per_page}.")
            self.size = settings.most_per_page

    def of(self, things: Sequence[Any]) -> Sequence[Any]:
        """Return the things on this page."""
        return things[(self.number - 1) * self.size : self.number * self.size]

    def reply(self, items: Iterable[object], total: int) -> Reply:
        """Return the envelope of a page."""
        pages = math.ceil(total / self.size)
        return json_reply(
            {
                "data": list(items),
                "isSuccess": True,
                "statusCode": 200,
                "traceId": TRACE,
                "pagination": {
                    "currentPage": self.number,
                    "totalPages": pages,
                    "pageSize": self.size,
                    "totalCount": total,
                    "hasPrevious": self.number > 1,
                    "hasNext": self.number < pages,
                },
            }
        )


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise RefusedError(400, f"The value '{text}' is not valid for {name}.")
    return int(text)


def project_object(world: World, project: Project) -> dict[str, Any]:
    """Return a project. Source: `ProjectDto`."""
    shown = {
        "id": project.id,
        "pid": f"21.11102/{project.id}",
        "name": project.name,
        "description": f"The project {project.name}",
        "startDate": when(project.created_at),
        "endDate": when(project.created_at + 3 * 365 * 86_400),
        "keywords": [],
        "displayName": project.name[:25],
        "principleInvestigators": world.settings.user,
        "grantId": "",
        "visibility": MEMBERS_ONLY,
        "disciplines": DISCIPLINES,
        "organizations": [{**ORGANIZATION, "responsible": True}],
        "slug": project.slug,
        "creator": {"id": world.user_id},
        "creationDate": when(project.created_at),
    }
    if project.parent is not None:
        shown["parent"] = {"id": project.parent.id}
    return shown


def resource_object(world: World, resource: Resource) -> dict[str, Any]:
    """Return a resource. Source: `ResourceDto`."""
    kind = resource.general_type
    return {
        "id": resource.id,
        "pid": f"21.11102/{resource.id}",
        "type": {
            "id": new_id("type", kind),
            "generalType": kind,
            "specificType": SPECIFIC_TYPES.get(kind, kind),
            "options": _options(world, resource),
        },
        "name": resource.name,
        "displayName": resource.name[:25],
        "description": f"The resource {resource.name}",
        "keywords": [],
        "usageRights": "",
        "metadataLocalCopy": False,
        "metadataExtraction": False,
        "applicationProfile": {"uri": resource.profile},
        "fixedValues": resource.fixed_values,
        "disciplines": DISCIPLINES,
        "visibility": MEMBERS_ONLY,
        "dateCreated": when(resource.created_at),
        "creator": {"id": world.user_id},
        "archived": resource.archived,
        "maintenanceMode": resource.maintenance,
        "projects": [{"id": resource.project.id}],
    }


def _options(world: World, resource: Resource) -> dict[str, Any]:
    kind = resource.general_type
    name = _OPTIONS.get(kind, kind)
    if world.settings.option_names == "dsNrwS3":
        name = name.replace("dataStorageNrw", "dsNrw")
    options: dict[str, Any] = {}
    if kind not in ("gitlab", "linked"):
        size = {"value": resource.reserved / GIB, "unit": unit("GibiBYTE")}
        options = {"bucketName": resource.bucket, "size": size}
    if resource.on_s3:
        options |= _keys(world.settings.s3, may_write=resource.project.role != "guest")
    return {name: options}


def _keys(place: S3Place | None, *, may_write: bool) -> dict[str, str]:
    """Return the keys of a bucket. Only those who may write see the write keys.

    Source: Coscine documentation, "S3 clients"; that the others see empty texts is a guess.
    """
    place = place or S3Place(endpoint="", bucket="")
    return {
        "accessKeyRead": place.access_key_read,
        "secretKeyRead": place.secret_key_read,
        "accessKeyWrite": place.access_key_write if may_write else "",
        "secretKeyWrite": place.secret_key_write if may_write else "",
        "endpoint": place.endpoint,
    }


def unit(name: str) -> str:
    """Return the IRI of a unit. Source: `QuotaUnit`."""
    return f"https://qudt.org/vocab/unit/{name}"


def quota_object(resource: Resource, used: int) -> dict[str, Any]:
    """Return how full a resource is.

    Source: `ResourceQuotaDto`; that `used` is in bytes and `reserved` in GiB is how coscine 0.12.2
    (`ResourceQuota`) reads them.
    """
    whole = used + resource.old_versions
    share = 100 * whole / resource.reserved if resource.reserved else 0.0
    return {
        "resource": {"id": resource.id},
        "usedPercentage": round(share, 2),
        "used": {"value": used, "unit": unit("BYTE")},
        "versions": {"value": resource.old_versions, "unit": unit("BYTE")},
        "reserved": {"value": resource.reserved / GIB, "unit": unit("GibiBYTE")},
    }


def file_object(entry: Entry, url: str | None) -> dict[str, Any]:
    """Return a file or folder of a listing. Source: `FileTreeDto`."""
    trimmed = entry.path.rstrip("/")
    directory, slash, name = trimmed.rpartition("/")
    shown: dict[str, Any] = {
        "path": entry.path,
        "type": "Tree" if entry.is_folder else "Leaf",
        "directory": f"{directory}{slash}",
        "name": name,
        "extension": "" if entry.is_folder or "." not in name else name.rpartition(".")[2],
        "size": entry.size or 0,
        "creationDate": when(entry.created_at),
        "changeDate": when(entry.changed_at),
        "actions": None,
        "hidden": False,
    }
    if url is not None:
        shown["actions"] = {"download": {"url": url, "method": "GET"}}
    return shown


def graph_name(resource: Resource, path: str, version: int) -> str:
    """Return the IRI of a file's metadata. Source: coscine 0.12.2, `FileMetadata.fixed_graph`."""
    return f"{subject_of(resource, path)}/@type=metadata&version={version}"


def subject_of(resource: Resource, path: str) -> str:
    """Return the IRI of a file."""
    return f"https://purl.org/coscine/resources/{resource.id}/{path}"


def metadata_object(resource: Resource, path: str, versions: Sequence[Metadata]) -> dict[str, Any]:
    """Return a file's newest metadata, as the legacy endpoints do. Source: `MetadataTreeDto`."""
    newest = versions[-1]
    return {
        "path": path,
        "type": "Leaf",
        "id": graph_name(resource, path, newest.version),
        "version": str(newest.version),
        "availableVersions": [str(each.version) for each in versions],
        "definition": {"content": newest.content, "type": newest.type},
    }


def node_object(
    resource: Resource, path: str, *, has_metadata: bool, has_data: bool
) -> dict[str, Any]:
    """Return a node of a resource's graphs. Source: `StorageNodeDto`."""
    prefix, slash, name = path.rpartition("/")
    return {
        "subject": subject_of(resource, path),
        "path": path,
        "prefix": f"{prefix}{slash}",
        "name": name,
        "hasMetadata": has_metadata,
        "hasData": has_data,
        "hasChildren": False,
    }
