"""What a run says of itself: a line a transfer, and a summary. Field names are a contract."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from penstock.core.jsontext import names_written, quoted, written_or_null
from penstock.core.values import quick_value

_SURROGATE = re.compile("[\ud800-\udfff]")


@quick_value(frozen=True, slots=True)
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
        error = "null" if self.error is None else names_written(self.error)
        text = (
            f'{{"run": {quoted(self.run)}, "source": {quoted(self.source)},'
            f' "destination": {quoted(self.destination)}, "id": {written_or_null(self.id)},'
            f' "size": {"null" if self.size is None else self.size},'
            f' "status": {quoted(self.status)}, "reason": {written_or_null(self.reason)},'
            f' "digests": {names_written(self.digests)},'
            f' "verified_by": {written_or_null(self.verified_by)},'
            f' "metadata": {written_or_null(self.metadata)}, "parts": {self.parts},'
            f' "attempts": {self.attempts}, "api_requests": {self.api_requests},'
            f' "bytes_sent": {self.bytes_sent}, "bytes_received": {self.bytes_received},'
            f' "seconds": {self.seconds!r}, "finished_at": {self.finished_at!r},'
            f' "error": {error}}}'
        )
        if text.isascii():
            return text
        return _SURROGATE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


# What a line's fields hold, `error` and `digests` apart.
_TEXTS = ("run", "source", "destination", "status")
_TEXTS_OR_NOT = ("id", "reason", "verified_by", "metadata")
_NUMBERS = (
    "parts",
    "attempts",
    "api_requests",
    "bytes_sent",
    "bytes_received",
    "seconds",
    "finished_at",
)


def read_line(told: Mapping[str, Any]) -> Line:
    """A report's line out of its JSON. Raises TypeError or LookupError where no run wrote it so."""
    line = Line(**told)
    values: dict[str, Any] = {each.name: getattr(line, each.name) for each in fields(Line)}
    error, size, digests = values["error"], values["size"], values["digests"]
    if not (
        all(isinstance(values[name], str) for name in _TEXTS)
        and all(isinstance(values[name], str | None) for name in _TEXTS_OR_NOT)
        and all(isinstance(values[name], int | float) for name in _NUMBERS)
        and isinstance(size, int | None)
        and isinstance(digests, dict)
        and all(isinstance(digest, str) for digest in digests.values())
        and (error is None or isinstance(error["message"], str))
    ):
        raise TypeError("a field holds what it cannot")
    return line


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
        match line.status:
            case "verified":
                self.verified += 1
                self.bytes += line.size or 0
            case "skipped":
                self.skipped += 1
            case "failed":
                self.failed += 1
            case "unverified":
                self.unverified += 1
                self.bytes += line.size or 0
            case status:
                raise ValueError(f"no transfer ends as {status!r}")

    def json(self) -> str:
        """The summary as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)
