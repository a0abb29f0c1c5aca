"""The shapes of answers: errors, file objects, pages. Pure functions of state."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from penstock.simulators.host import Reply, json_reply
from penstock.simulators.sevenbridges.state import Node, Project, RefusedError, World

# The fields of an item where none are asked for; which they are was not seen in a document.
DEFAULT_FIELDS = ("href", "id", "name", "project", "parent", "type")


def when(at: float) -> str:
    """Return an instant as the platform writes it: ISO 8601, UTC, whole seconds."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def refusal(error: RefusedError) -> Reply:
    """Return an error answer. Source: API reference, "API status codes"."""
    return json_reply(error_object(error), error.status)


def error_object(error: RefusedError) -> dict[str, object]:
    """Return an error as it stands in a body."""
    return {
        "status": error.status,
        "code": error.code,
        "message": error.message,
        "more_info": f"http://docs.sevenbridges.com/docs/api-status-codes#{error.code}",
    }


def file_object(world: World, node: Node) -> dict[str, Any]:
    """Return a file or folder with every field. Source: the official Python client, `File`."""
    shown: dict[str, Any] = {
        "href": f"{world.endpoint}/files/{node.id}",
        "id": node.id,
        "name": node.name,
        "project": node.project,
        "parent": node.parent,
        "type": node.type,
        "created_on": when(node.created_at),
        "modified_on": when(node.modified_at),
    }
    if node.type == "FOLDER":
        return shown
    return shown | {
        "size": node.size,
        "storage": {"type": "PLATFORM"},
        "origin": {"task": node.task} if node.task else {},
        "tags": list(node.tags),
        "metadata": dict(node.metadata),
    }


def chosen(whole: dict[str, Any], fields: str | None) -> dict[str, Any]:
    """Return the fields asked for of a file object, or the default ones.

    Source: API overview, "Generic query parameters": `_all`, names, `!name` for all but that, and
    `name.inner` for a nested field. That `!name` alone starts from all fields also in a listing is
    a guess.
    """
    names = [name for name in (fields or "").split(",") if name] or list(DEFAULT_FIELDS)
    without = [name[1:] for name in names if name.startswith("!")]
    wanted = [name for name in names if not name.startswith("!")] or ["_all"]
    shown: dict[str, Any] = {}
    for name in wanted:
        outer, _, inner = name.partition(".")
        if name == "_all":
            shown |= whole
        elif inner and inner in (whole.get(outer) or {}):
            shown.setdefault(outer, {})[inner] = whole[outer][inner]
        elif not inner and outer in whole:
            shown[outer] = whole[outer]
    for name in without:
        outer, _, inner = name.partition(".")
        if inner and isinstance(shown.get(outer), dict):
            shown[outer].pop(inner, None)
        elif not inner:
            shown.pop(outer, None)
    return shown


def project_object(world: World, project: Project, *, whole: bool) -> dict[str, Any]:
    """Return a project. Source: the official Python client, `Project`."""
    shown: dict[str, Any] = {
        "href": f"{world.endpoint}/projects/{project.id}",
        "id": project.id,
        "name": project.name,
    }
    if not whole:
        return shown
    return shown | {
        "type": "v2",
        "description": "",
        "tags": [],
        "settings": {"locked": False, "controlled": False, "location": "us-east-1"},
        "root_folder": project.root,
        "created_by": world.settings.user,
        "created_on": when(project.created_at),
        "modified_on": when(project.created_at),
        "permissions": dict(project.permissions),
        "category": "PRIVATE",
    }


def page_size(world: World, query: Mapping[str, str]) -> int:
    """Return how many items a page has.

    Source: API overview, "Response pagination": 50 if not given, at most 100. What happens above
    is a guess and a switch.
    """
    limit = _whole_number(query, "limit", world.settings.default_limit, least=1)
    if limit <= world.settings.most_per_page:
        return limit
    if world.settings.too_high_limit == "refuse":
        raise RefusedError(400, 90000, "The limit is too high.")
    return world.settings.most_per_page


def page_offset(query: Mapping[str, str]) -> int:
    """Return where a page starts, from 0."""
    return _whole_number(query, "offset", 0, least=0)


def _whole_number(query: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise RefusedError(400, 90000, f"Malformed {name}: {text!r}")
    return int(text)


def page(
    world: World,
    url: str,
    query: Iterable[tuple[str, str]],
    items: list[dict[str, Any]],
    *,
    total: int,
    offset: int,
    limit: int,
) -> Reply:
    """Return an envelope of items with its links, and the total in a header.

    Source: API overview, "Response pagination". The example there has links that cannot be
    followed (`?offset=4?limit=2`, and the query is lost); so have these, unless switched off.
    """
    pairs = [(name, value) for name, value in query if name not in ("offset", "limit")]
    links = []
    starts = [("next", offset + limit)] if offset + limit < total else []
    if offset > 0:
        starts.append(("prev", max(0, offset - limit)))
    for rel, start in starts:
        links.append({"href": _link(world, url, pairs, start, limit), "rel": rel, "method": "GET"})
    reply = json_reply({"href": _joined(url, list(query)), "items": items, "links": links})
    given = any(name == "offset" for name, _value in query)
    header = world.settings.total_header
    if header == "never" or (header == "with offset" and not given):
        return reply
    headers = {**reply.headers, "X-Total-Matching-Query": str(total)}
    return Reply(status=reply.status, headers=headers, body=reply.body)


def _link(world: World, url: str, pairs: list[tuple[str, str]], offset: int, limit: int) -> str:
    if world.settings.malformed_links:
        return f"{url}?offset={offset}?limit={limit}"
    return _joined(url, [*pairs, ("offset", str(offset)), ("limit", str(limit))])


def _joined(url: str, pairs: list[tuple[str, str]]) -> str:
    return f"{url}?{urlencode(pairs)}" if pairs else url
