"""What is told while a run goes on: frozen values, handed to `on_event` as they happen."""

from __future__ import annotations

from typing import TypeAlias

from penstock.core.actionreport import ActionLine
from penstock.core.report import Line
from penstock.core.values import quick_value


@quick_value(frozen=True, slots=True)
class RunStarted:
    """A run began."""

    run: str
    sources: tuple[str, ...]
    destination: str


@quick_value(frozen=True, slots=True)
class Planned:
    """One more transfer is known. `size` is in bytes, None where the platform did not say."""

    source: str
    destination: str
    size: int | None


@quick_value(frozen=True, slots=True)
class PlanComplete:
    """Everything is listed: totals do not grow from here on."""

    files: int
    bytes: int


@quick_value(frozen=True, slots=True)
class TransferStarted:
    """A worker took a transfer."""

    source: str
    destination: str
    size: int | None


@quick_value(frozen=True, slots=True)
class BytesMoved:
    """File bytes passed; negative where what had moved must move again."""

    source: str
    size: int


@quick_value(frozen=True, slots=True)
class TransferEnded:
    """A transfer ended, in whatever way."""

    line: Line


@quick_value(frozen=True, slots=True)
class ActionsStarted:
    """A run of one action on many things began."""

    run: str
    action: str
    profile: str


@quick_value(frozen=True, slots=True)
class ActionsListed:
    """How many things the run is about."""

    things: int


@quick_value(frozen=True, slots=True)
class ActionAccepted:
    """The platform has taken an action, and has yet to do it."""

    id: str
    name: str


@quick_value(frozen=True, slots=True)
class ActionEnded:
    """An action ended, in whatever way."""

    line: ActionLine


@quick_value(frozen=True, slots=True)
class QuotaWait:
    """The quota is spent: the next slot comes free in about `seconds`."""

    profile: str
    seconds: float


@quick_value(frozen=True, slots=True)
class Note:
    """Something a person should know that is no failure of one file."""

    message: str


@quick_value(frozen=True, slots=True)
class RunEnded:
    """The run is over; `summary` is the JSON object of the contract."""

    summary: str


Event: TypeAlias = (
    RunStarted
    | Planned
    | PlanComplete
    | TransferStarted
    | BytesMoved
    | TransferEnded
    | ActionsStarted
    | ActionsListed
    | ActionAccepted
    | ActionEnded
    | QuotaWait
    | Note
    | RunEnded
)
