"""What ends a run early: a stop that is asked for, too many failures, failures all alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import anyio

from penstock.core.errors import (
    ExchangeError,
    MetadataRefused,
    PenstockError,
    Refused,
    RunStopped,
)

# Files under way at once. Small files spend their time waiting for answers, not moving bytes.
FILES_AT_ONCE = 96
# Transfers that must fail alike, with none succeeding, before the cause is taken for a shared one.
ALIKE = 20


class TooManyFailures(RunStopped):
    """As many transfers failed as `max_failures` allows."""


class Stop:
    """Asks a run to stop: nothing new begins. `reason` says who asked."""

    def __init__(self) -> None:
        self._asked = anyio.Event()
        self.reason: str | None = None

    def ask(self, reason: str) -> None:
        """From now on nothing new begins."""
        if self.reason is None:
            self.reason = reason
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Returns when a stop is asked for."""
        await self._asked.wait()


@dataclass(slots=True)
class Limits:
    """When a run gives up, and how wide it works."""

    max_failures: int | None = None
    files_at_once: int = FILES_AT_ONCE


@dataclass(slots=True)
class Alike:
    """Counts failures of one kind, until something succeeds. `what` says so in a sentence.

    A kind is what an answer said, or that none came, whatever the file: each has had all its tries.
    """

    what: str = "transfers failed alike and none succeeded"
    kinds: Counter[tuple[str, object]] = field(default_factory=Counter)
    succeeded: bool = False

    def add(self, error: PenstockError) -> None:
        """Raises `RunStopped` where the first `ALIKE` failed on one cause."""
        if self.succeeded or not isinstance(error, ExchangeError | MetadataRefused):
            return
        kind: tuple[str, object] = (type(error).__name__, None)
        if isinstance(error, Refused):
            kind = (str(error.status), error.code)
        self.kinds[kind] += 1
        if self.kinds[kind] >= ALIKE:
            raise RunStopped(f"the first {ALIKE} {self.what}: {error}") from error
