"""What a run of actions says of itself: a line a thing, a summary. Field names are a contract."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from penstock.core.values import quick_value

STATUSES = ("settled", "accepted", "skipped", "unknown", "failed")


@quick_value(frozen=True, slots=True)
class ActionLine:
    """How one action ended.

    `status` is one of `STATUSES`: `accepted` was taken by the platform and not seen to its end,
    `unknown` may or may not have been taken. `before` and `after` are the platform's words for
    the thing's state, `after` None where nothing was done or it was not seen.
    """

    id: str
    name: str | None
    action: str
    before: str | None
    after: str | None
    status: str
    reason: str | None = None
    finished_at: float = 0.0

    def json(self) -> str:
        """The line as it stands in a report file, without a line end."""
        return json.dumps(asdict(self))


def read_action(told: Mapping[str, Any]) -> ActionLine:
    """A report's line out of its JSON. Raises TypeError where no run wrote it so."""
    line = ActionLine(**told)
    words = (line.name, line.before, line.after, line.reason)
    texts = (line.id, line.action, line.status)
    if not all(isinstance(each, str | None) for each in words):
        raise TypeError("a field holds what it cannot")
    if not all(isinstance(each, str) for each in texts):
        raise TypeError("a field holds what it cannot")
    return line


@dataclass(slots=True)
class ActionSummary:
    """A run of actions, added up. `queue_full` counts refusals because a work queue was full."""

    run: str
    action: str = ""
    settled: int = 0
    accepted: int = 0
    skipped: int = 0
    unknown: int = 0
    failed: int = 0
    seconds: float = 0.0
    api_requests: dict[str, int] = field(default_factory=dict)
    rejected_by_quota: dict[str, int] = field(default_factory=dict)
    waited_for_quota_s: float = 0.0
    queue_full: int = 0

    def add(self, line: ActionLine) -> None:
        """The line counts."""
        assert line.status in STATUSES
        setattr(self, line.status, getattr(self, line.status) + 1)

    def json(self) -> str:
        """The summary as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)
