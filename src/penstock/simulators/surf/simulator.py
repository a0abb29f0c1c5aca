"""SURF Research Cloud on loopback: a gateway that counts, a queue that fills, workspaces.

Every call passes one gate: token, then rate. What the gateway refuses has the gateway's shape of
error, what is behind it Django REST framework's. Paths end in a slash; without it a GET is
redirected and all else is not found, as Django does.

Sources: SURF Service Desk, "SRC API"; Tyk's gateway at 31e219beb; surf-controller 1.2.2.
"""

import itertools
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from penstock.simulators.content import Bytes
from penstock.simulators.host import Call, Reply, json_reply
from penstock.simulators.local import LocalPlatform
from penstock.simulators.surf.limiters import headers_of, limiter_of
from penstock.simulators.surf.settings import SurfSettings
from penstock.simulators.surf.state import (
    ME,
    WAYS,
    Accepted,
    Cloud,
    Workspace,
    workspace_object,
)

_TOKEN = "5e0f5u4f5e0f5u4f5e0f5u4f5e0f5u4f"
_WORKSPACES = "/v1/workspace/workspaces/"
_HTML = b"<html><head><title>503</title></head><body>Service Unavailable</body></html>"
_AT_FIRST = ("analysis", "notebook", "viewer", "archive")


class Surf(LocalPlatform):
    """A cloud with a few workspaces of ours; an async context manager.

    clock: the time, epoch seconds; the only clock there is.
    """

    def __init__(
        self,
        settings: SurfSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        settings = settings or SurfSettings()
        super().__init__(_TOKEN, "/v1", clock=clock, port=port)
        self._set_pace(clock_skew_s=settings.clock_skew_s, latency_s=settings.api_latency_s)
        self.quota = limiter_of(settings, clock)
        self._cloud = Cloud(settings, clock)
        names = itertools.chain(_AT_FIRST, (f"workspace-{n}" for n in itertools.count(5)))
        for name in itertools.islice(names, settings.workspaces):
            self.add_workspace(name, "paused" if name == "archive" else "running")

    @property
    def settings(self) -> SurfSettings:
        """The settings in force."""
        return self._cloud.settings

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of the settings
        """Change settings while serving; not those of the limiter."""
        settings = self._cloud.settings = replace(self._cloud.settings, **changes)
        self._set_pace(clock_skew_s=settings.clock_skew_s, latency_s=settings.api_latency_s)

    def describe(self) -> dict[str, str]:
        """Return what a user needs: endpoint, token, and the workspaces there are."""
        shown = ", ".join(f"{w.name} ({w.status})" for w in self.workspaces().values())
        return {"endpoint": self.endpoint, "token": self.token, "workspaces": shown}

    # For tests.

    def add_workspace(self, name: str, status: str = "running", **more: str) -> Workspace:
        """Return a new workspace: `owner`, `group`, `wallet`, `application`, `kind` if given."""
        return self._cloud.add(name, status, **more)

    def remove_workspace(self, workspace: str) -> None:
        """Forget a workspace altogether."""
        del self._cloud.workspaces[workspace]

    def workspaces(self) -> dict[str, Workspace]:
        """Return every workspace by id, as it is now, the deleted among them."""
        return {id_: self._cloud.look(each) for id_, each in self._cloud.workspaces.items()}

    def fail(self, workspace: str, action: str, message: str, status: str = "failed") -> None:
        """Make an action on a workspace end with an error, and in this status."""
        self._cloud.failing[workspace, action] = (message, status)

    @property
    def accepted(self) -> list[Accepted]:
        """Every action that was accepted, in order."""
        return self._cloud.accepted

    @property
    def repeated(self) -> list[Accepted]:
        """Actions that were asked for once more while the same one was not settled yet."""
        return self._cloud.repeated

    @property
    def refused_full(self) -> int:
        """How many actions were refused because the queue was full."""
        return self._cloud.full

    @property
    def longest_queue(self) -> int:
        """The most that ever waited."""
        return self._cloud.longest

    # Serving.

    def _gate(self, call: Call) -> Reply | None:
        given = call.request.headers.get("Authorization", "")
        if not given:
            return json_reply({"error": "Authorization field missing"}, 401)
        forms = {"bare": (self.token,), "token": (f"Token {self.token}",)}
        good = forms.get(
            self.settings.token_form, (self.token, f"Token {self.token}", f"Bearer {self.token}")
        )
        if given not in good:
            if self.settings.bad_token == 403:  # noqa: PLR2004
                return json_reply({"error": "Access to this API has been disallowed"}, 403)
            return json_reply({"detail": "Invalid token."}, self.settings.bad_token)
        if not self.quota.admit():
            return json_reply({"error": "Rate Limit Exceeded"}, 429)
        call.counted = True
        return None

    def _headers(self, _call: Call, reply: Reply) -> dict[str, str]:
        refused = reply.status in (401, 403, 429)
        settings = self.settings
        told = headers_of(
            self.quota, settings.headers, refused=refused, skew_s=settings.clock_skew_s
        )
        return told | ({"X-Generator": "tyk.io"} if refused else {})

    async def _answer(self, call: Call) -> Reply:
        path = call.path
        if not path.endswith("/"):
            if call.method == "GET":
                return Reply(status=301, headers={"Location": f"{path}/"})
            return _not_found()
        if path == "/v1/user/users/self/" and call.method == "GET":
            return json_reply({"id": ME, "COs": [{"id": "co-1", "co_name": "demo"}]})
        if path == _WORKSPACES:
            return self._list(call) if call.method == "GET" else _not_allowed(call)
        match = re.fullmatch(_WORKSPACES + r"([^/]+)/(?:(logs)/|actions/([^/]+)/)?", path)
        workspace = self._cloud.workspaces.get(match[1]) if match is not None else None
        if match is None or workspace is None:
            return json_reply({"message": ["Not found."]}, 404)
        self._cloud.look(workspace)
        if match[3]:
            return await self._act(call, workspace, match[3])
        if match[2]:
            return Reply(headers={"Content-Type": "text/plain"}, body=Bytes(b"all is well\n"))
        if call.method == "GET":
            return json_reply(workspace_object(self._cloud, workspace))
        if call.method == "DELETE":
            return self._begin(workspace, "delete", Reply(status=204))
        return _not_allowed(call)

    def _list(self, call: Call) -> Reply:
        query = {
            name: value
            for name, value in call.request.query.items()
            if name not in self.settings.ignored_filters
        }
        try:
            limit = min(
                int(query.get("limit", self.settings.default_limit)), self.settings.most_per_page
            )
            offset = int(query.get("offset", 0))
        except ValueError:
            return json_reply({"detail": "Malformed limit or offset."}, 400)
        found = [each for each in self.workspaces().values() if _matches(each, query)]
        page = found[offset : offset + limit]
        return json_reply(
            {
                "count": len(found),
                "next": self._link(query, limit, offset + limit, len(found)),
                "previous": self._link(query, limit, offset - limit, len(found)),
                "results": [workspace_object(self._cloud, each) for each in page],
            }
        )

    def _link(self, query: dict[str, str], limit: int, offset: int, count: int) -> str | None:
        if not -limit < offset < count:
            return None
        asked = query | {"limit": str(limit), "offset": str(max(0, offset))}
        return f"{self._host.url}{_WORKSPACES}?{urlencode(asked)}"

    async def _act(self, call: Call, workspace: Workspace, action: str) -> Reply:
        if call.method != "POST":
            return _not_allowed(call)
        if not call.request.content_type.startswith("application/json"):
            return json_reply({"detail": "Unsupported media type in request."}, 415)
        try:
            body = json.loads(await call.body())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return json_reply({"detail": "JSON parse error"}, 400)
        if action not in WAYS or action == "delete":
            return json_reply({"message": ["Not found."]}, 404)
        return self._begin(workspace, action, json_reply({"id": workspace.id, "action": action}))

    def _begin(self, workspace: Workspace, action: str, reply: Reply) -> Reply:
        cloud = self._cloud
        if workspace.task is not None and workspace.task.action == action:
            cloud.repeated.append(Accepted(cloud.clock(), workspace.id, action))
        allowed = cloud.deletable(workspace) if action == "delete" else None
        if not (allowed if allowed is not None else action in cloud.allowed(workspace)):
            text = f"Action {action} is not allowed while the workspace is {workspace.status}."
            if self.settings.refuses_with == "body":
                return json_reply({"code": 400, "message": text})
            return json_reply({"detail": text}, 400)
        return reply if cloud.begin(workspace, action) else self._full()

    def _full(self) -> Reply:
        settings = self.settings
        headers = dict([settings.full_header]) if settings.full_header is not None else {}
        if settings.full_retry_after_s is not None:
            headers["Retry-After"] = f"{settings.full_retry_after_s:g}"
        if settings.full_html:
            headers["Content-Type"] = "text/html"
            return Reply(status=503, headers=headers, body=Bytes(_HTML))
        reply = json_reply({"detail": "The queue is full, try again later."}, 503)
        return replace(reply, headers={**reply.headers, **headers})


def _matches(workspace: Workspace, query: dict[str, str]) -> bool:
    wanted = {
        "application_type": workspace.kind,
        "co_id": workspace.group,
        "wallet_id": workspace.wallet,
        "status": workspace.status,
    }
    if any(query.get(name, value) != value for name, value in wanted.items()):
        return False
    if query.get("by_owner") == "true" and workspace.owner != ME:
        return False
    if query.get("name", "").lower() not in workspace.name.lower():
        return False
    return query.get("deleted") != "false" or workspace.deleted_at is None


def _not_found() -> Reply:
    return json_reply({"detail": "Not found."}, 404)


def _not_allowed(call: Call) -> Reply:
    return json_reply({"detail": f'Method "{call.method}" not allowed.'}, 405)
