"""Workspaces, and the queue of what is to be done with them. No task, no thread: time is asked.

When a task is accepted it is known when the queue comes to it and when it ends, for nothing
overtakes; what holds now is worked out whenever somebody looks.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from penstock.simulators.surf.settings import SurfSettings

# Where an action may begin, what the status is meanwhile, and after.
WAYS = {
    "pause": (("running",), "pausing", "paused"),
    "resume": (("paused",), "resuming", "running"),
    "reboot": (("running",), "rebooting", "running"),
    "delete": (("running", "paused", "failed"), "deleting", "deleted"),
}
ME = "owner-0001"


class Accepted(NamedTuple):
    """An action that was accepted: when (epoch s), on which workspace, what."""

    at: float
    workspace: str
    action: str


@dataclass
class Task:
    """An action in the queue, or under way; times are epoch s."""

    action: str
    made_at: float
    begins_at: float
    ends_at: float
    error: str | None = None
    ended: bool = False


@dataclass
class Workspace:
    """A workspace; `status` is as of the last look."""

    id: str
    name: str
    status: str
    owner: str
    group: str
    wallet: str
    application: str
    kind: str
    made_at: float
    deleted_at: float | None = None
    task: Task | None = None
    past: list[Task] = field(default_factory=list)


class Cloud:
    """All workspaces and the one queue."""

    def __init__(self, settings: SurfSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.clock = clock
        self.workspaces: dict[str, Workspace] = {}
        self.accepted: list[Accepted] = []
        self.repeated: list[Accepted] = []
        self.full = 0
        self.longest = 0
        self.failing: dict[tuple[str, str], tuple[str, str]] = {}
        self._waiting: deque[Task] = deque()
        self._free_at = float("-inf")
        self._chance = random.Random(1)  # noqa: S311 - the same each time

    def add(
        self,
        name: str,
        status: str = "running",
        *,
        owner: str = ME,
        group: str = "co-1",
        wallet: str = "wallet-1",
        application: str = "Ubuntu 24.04",
        kind: str = "Compute",
    ) -> Workspace:
        """Return a new workspace, listed after those there are."""
        number = len(self.workspaces) + 1
        made = Workspace(
            str(UUID(int=(0x5EC0DE << 100) | (4 << 76) | (8 << 60) | number)),
            name,
            status,
            owner,
            group,
            wallet,
            application,
            kind,
            self.clock(),
        )
        self.workspaces[made.id] = made
        return made

    def look(self, workspace: Workspace) -> Workspace:
        """Return the workspace as it is now."""
        task, now = workspace.task, self.clock()
        if task is None:
            return workspace
        begins, passing, ends = WAYS[task.action]
        if now >= task.ends_at:
            workspace.task, task.ended = None, True
            workspace.status = ends
            if task.error is not None:
                workspace.status = self.failing[workspace.id, task.action][1]
            if workspace.status == "deleted":
                workspace.deleted_at = task.ends_at
        elif now >= task.begins_at or self.settings.status_changes == "accepted":
            workspace.status = passing
        assert begins
        return workspace

    def queued(self) -> int:
        """Return how many tasks wait, not counting those under way."""
        now = self.clock()
        while self._waiting and self._waiting[0].begins_at <= now:
            self._waiting.popleft()
        return len(self._waiting)

    def allowed(self, workspace: Workspace) -> list[str]:
        """Return the actions the workspace's state allows, `delete` apart."""
        if workspace.task is not None:
            return []
        return [
            name
            for name, (begins, _, _) in WAYS.items()
            if workspace.status in begins and name != "delete"
        ]

    def deletable(self, workspace: Workspace) -> bool:
        """Return whether it may be deleted now."""
        return workspace.task is None and workspace.status in WAYS["delete"][0]

    def begin(self, workspace: Workspace, action: str) -> bool:
        """Put an action into the queue; return False where the queue is full."""
        now, settings = self.clock(), self.settings
        if self.queued() >= settings.queue_capacity:
            self.full += 1
            return False
        begins_at = max(now, self._free_at)
        self._free_at = begins_at + 1 / settings.served_per_s
        lasts = getattr(settings, f"{action}_s")
        lasts *= 1 + settings.spread * self._chance.uniform(-1, 1)
        failing = self.failing.get((workspace.id, action))
        error = failing[0] if failing is not None else None
        task = Task(action, now, begins_at, begins_at + lasts, error)
        self._waiting.append(task)
        self.longest = max(self.longest, len(self._waiting))
        workspace.task = task
        workspace.past.append(task)
        self.accepted.append(Accepted(now, workspace.id, action))
        self.look(workspace)
        return True


def instant(at: float) -> str:
    """Return an instant as the platform writes it: ISO 8601, UTC, microseconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def workspace_object(cloud: Cloud, workspace: Workspace) -> dict[str, Any]:
    """Return a workspace as the API shows it. Source: fields that public clients read."""
    cloud.look(workspace)
    settings = cloud.settings
    shown: dict[str, Any] = {
        "id": workspace.id,
        "name": workspace.name,
        "description": "",
        "status": workspace.status,
        "active": workspace.status == "running",
        "deletable": cloud.deletable(workspace),
        "editable": True,
        "application_type": workspace.kind,
        "meta": {
            "application_name": workspace.application,
            "host_name": workspace.name,
            "flavours": [{"name": "1 Core - 8 GB RAM", "category": "cpu"}],
        },
        "resource_meta": {"ip": "192.0.2.1", "instance_user": "demo"},
        "end_time": instant(workspace.made_at + 90 * 86400),
        "time_created": instant(workspace.made_at),
        "time_deleted": None if workspace.deleted_at is None else instant(workspace.deleted_at),
        "wallet_id": workspace.wallet,
        "owner_id": workspace.owner,
        "co_id": workspace.group,
    }
    if settings.shows != "none":
        shown[settings.shows] = cloud.allowed(workspace)
    if settings.remembers:
        shown["workspace_actions"] = [_action_object(cloud, task) for task in workspace.past]
    return shown


def _action_object(cloud: Cloud, task: Task) -> dict[str, Any]:
    now = cloud.clock()
    if task.ended:
        status = "failed" if task.error is not None else "success"
    else:
        status = "pending" if now < task.begins_at else "in_progress"
    result = {"error": task.error} if task.ended and task.error is not None else {}
    return {
        "type": task.action,
        "status": status,
        "reason": None,
        "time_created": instant(task.made_at),
        "result": result,
    }
