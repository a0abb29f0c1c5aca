"""What Seven Bridges' flows ask with: requests, refusals, and what answers name.

Sources, by short name, as in `sevenbridges`. No flow about a whole task belongs here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote, urlencode, urlsplit

from penstock.core.errors import (
    Conflict,
    ExchangeError,
    LocationError,
    Refused,
)
from penstock.core.model import (
    NO_AUTH,
    Flow,
    Place,
    Rank,
    RemoteFile,
    Repeat,
    Request,
    Response,
)
from penstock.core.traits import Traits
from penstock.platforms.base import (
    TRANSIENT,
    JsonObject,
    refuse_name,
    storage_refusal,
)

# Source: [REF] "Initialize a multipart upload": a name of at most 255 characters without "/".
LONGEST_NAME = 255

FIELDS = "id,name,type,size,modified_on"

# Meaning of the platform's own codes, which decide before the HTTP status does.
# Source: [REF] "API status codes"; 5xxx and 8xxx from the R client's table.
_MAINTENANCE = 0
_RATE_LIMIT = 1000
_RETRYABLE_CODES = frozenset((5000, 8000, 8008))
EXISTS_CODES = frozenset((5003, 5030, 8004))


class Requests:
    """Requests to one endpoint (the API root, with `/v2`)."""

    def __init__(self, endpoint: str, traits: Traits) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._traits = traits

    @property
    def traits(self) -> Traits:
        """The numbers."""
        return self._traits

    @property
    def endpoint(self) -> str:
        """The API root."""
        return self._endpoint

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:
        """The token's header. Source: [REF] "API overview", authentication."""
        return (("X-SBG-Auth-Token", token),)

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """What the platform, or its storage, means by a status and a body.

        Source: [REF] "API status codes": `{"status", "code", "message", "more_info"}`. Bodies
        that are not JSON occur ([PY] NonJSONResponseError) and mean what the status means.
        """
        if request.auth == NO_AUTH:
            return storage_refusal(request, response)
        status, code, said = response.status, None, ""
        try:
            body = json.loads(response.body)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict):
            number = body.get("code")
            code = number if isinstance(number, int) and not isinstance(number, bool) else None
            message = body.get("message")
            said = f": {_shown(message)}" if isinstance(message, str) and message else ""
        quota = status == 429 or code == _RATE_LIMIT  # noqa: PLR2004
        maintenance = status == 503 and code == _MAINTENANCE  # noqa: PLR2004
        return Refused(
            f"{request.method} {urlsplit(request.url).path} was refused with {status}"
            + (f" (code {code})" if code is not None else "")
            + said,
            status=status,
            code=code,
            retry=quota or maintenance or status in TRANSIENT or code in _RETRYABLE_CODES,
            quota=quota,
            outage=maintenance,
            undone=quota or maintenance or code in _RETRYABLE_CODES,
        )

    def _named(self, folder: Place, name: str) -> Flow[list[JsonObject]]:
        """A folder's entries that have exactly this name. Source: [REF] "List files", `name`."""
        query = [*self._of(folder), ("name", name), ("limit", "100"), ("fields", FIELDS)]
        answer = JsonObject.of((yield self._api("GET", "/files", query)), "file listing")
        return [item for item in answer.objects("items") if item.name() == name]

    def _details(self, file_id: str) -> Flow[JsonObject]:
        path = f"/files/{quote(file_id, safe='')}"
        return JsonObject.of((yield self._api("GET", path)), "file details")

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """One file's details. Source: [REF] "Get file details"."""
        return remote_file((yield from self._details(file_id)))

    def _of(self, place: Place) -> list[tuple[str, str]]:
        """How a request says which folder it is about: `parent` or `project`, never both."""
        if place.id is not None:
            return [("parent", place.id)]
        if place.path or place.container.startswith("id="):
            raise LocationError(
                f"the folder {place.path!r} of {place.container!r} was not looked up"
            )
        return [("project", place.container)]

    def _api(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        body: bytes = b"",
        repeat: Repeat = Repeat.SAFE,
        rank: Rank = Rank.CONTINUE,
    ) -> Request:
        url = self._endpoint + path + ("?" + urlencode(query, quote_via=quote) if query else "")
        return Request(
            method,
            url,
            headers=(("Accept", "application/json"), ("Content-Type", "application/json")),
            body=(body,) if body else (),
            repeat=repeat,
            rank=rank,
        )


def check_name(name: str) -> None:
    """Nothing, or `NameRefused` where the platform takes no file of that name."""
    if not name or name in {".", ".."} or "/" in name:
        raise refuse_name(name, "cannot stand on Seven Bridges")
    if len(name) > LONGEST_NAME:
        raise refuse_name(name, f"has more than the {LONGEST_NAME} characters Seven Bridges takes")


def is_folder(item: JsonObject) -> bool:
    """Whether an entry is a folder; what says nothing of itself is a file."""
    kind = item.get("type")
    return isinstance(kind, str) and kind.lower() == "folder"


def remote_file(item: JsonObject) -> RemoteFile:
    """An entry as a file; its size is unknown in listings that leave it out."""
    return RemoteFile(
        item.text("id"),
        item.name(),
        item.whole_or_none("size"),
        modified=item.text_or_none("modified_on"),
    )


def is_gone(refused: Refused) -> bool:
    """Whether a refusal means that there is no such thing (any more)."""
    return refused.status in {404, 410} or refused.code == 8003  # noqa: PLR2004


def taken(name: str, refused: Refused) -> Conflict:
    """What a refusal means that says that the name is in use."""
    return Conflict(
        f"{name!r} exists at the destination; use --on-conflict to skip, overwrite or rename "
        f"({refused})"
    )


def _shown(message: str) -> str:
    """A foreign sentence as it may be printed: one line, of bounded length."""
    return " ".join(message.split())[:300].rstrip(".")
