"""What a run says of itself: a line a transfer, and a summary. Field names are a contract."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from penstock.core.lifecycle import State

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Line:
    """How one transfer ended. `attempts` counts whole tries at the file; sizes are bytes."""

    run: str
    source: str
    destination: str
    id: str | None
    size: int | None
    status: str
    reason: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    verified_by: str | None = None
    metadata: str | None = None
    parts: int = 0
    attempts: int = 0
    api_requests: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    seconds: float = 0.0
    finished_at: float = 0.0
    error: Mapping[str, str] | None = None

    def json(self) -> str:
        """The line as it stands in a report file, without a line end."""
        text = _encode({name: getattr(self, name) for name in _LINE})
        if text.isascii():
            return text
        return _SURROGATE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


_LINE = tuple(each.name for each in fields(Line))
_encode = json.JSONEncoder(ensure_ascii=False, default=dict).encode


@dataclass(slots=True)
class Summary:
    """A run, added up."""

    run: str
    verified: int = 0
    unverified: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0
    seconds: float = 0.0
    api_requests: dict[str, int] = field(default_factory=dict)
    rejected_by_quota: dict[str, int] = field(default_factory=dict)
    waited_for_quota_s: float = 0.0
    submission: dict[str, Any] | None = None

    @property
    def is_left(self) -> bool:
        """Whether rows that were to be submitted were not."""
        return self.submission is not None and bool(self.submission["left"])

    def add(self, line: Line) -> None:
        """The line counts."""
        name = State(line.status).value
        setattr(self, name, getattr(self, name) + 1)
        if line.status in {"verified", "unverified"}:
            self.bytes += line.size or 0

    def json(self) -> str:
        """The summary as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)
