"""One tree of errors; each class says what it means for the run.

    PenstockError
    ├── UsageError                 the command or its settings are wrong: nothing moved, exit 2
    │   ├── LocationError          a location that cannot be read, or names nothing
    │   ├── ProfileError           unknown profile, no token, a bad setting
    │   └── TableError             a table that cannot be read, or whose rows have faults
    ├── RunStopped                 a cause every transfer shares: the run stops once, exit 3
    │   ├── Interrupted            asked to stop (exit 130)
    │   ├── TokenRefused           401, or remembered as refused
    │   ├── DestinationFull        the local disk is full
    │   ├── LedgerError            the ledger is corrupt, too new, or cannot be written
    │   └── QuotaStoreError        the shared quota cannot be counted
    ├── ExchangeError              thrown into a flow by the exchange
    │   ├── Refused                the platform answered, with something else than was accepted
    │   ├── AnswerLost             it was sent; whether it was done is not known
    │   ├── NotSent                it never left: the host could not be reached
    │   │   └── Untrusted          the host is not who it says, as far as can be told
    │   ├── LeaseExpired           a presigned URL is too old
    │   └── AnswerUnusable         an answer came and breaks its own contract
    │       └── LedAstray          a redirect that must not be followed
    ├── ActionsFailed              things did not come to the state they were asked to
    └── TransferError              one file's failure: a line in the report
        ├── SourceMissing · SourceUnreadable · SourceChanged
        ├── RemoteChanged · DigestMismatch · Unproved
        └── Conflict · NameRefused · DestinationRefused · MetadataRefused

`effect` answers the only two questions a caller has: may it be tried again, and whom does it
concern. A message says what was tried, on what, what came back and what to do. Neither a token
nor the query of a presigned URL may ever be part of one: pass URLs through `redacted`.
"""

from __future__ import annotations

import enum
import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit


class Effect(enum.Enum):
    """What an error means for the run."""

    RETRY = "retry"
    FAIL_TRANSFER = "fail transfer"
    STOP_RUN = "stop run"


# A URL that has neither user, query nor fragment, nor anything else that reading it would change:
# taking most apart and putting them together again took longer than sending a request's head.
_PLAIN = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[^?#@\\\x00-\x20\x7f]*)?")


def redacted(url: str) -> str:
    """The URL without user, query and fragment: what may be shown to a person or kept."""
    if _PLAIN.fullmatch(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL at all: nothing of it may be shown
        return "(an unreadable URL)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))


class PenstockError(Exception):
    """Anything penstock raises on purpose."""

    effect = Effect.FAIL_TRANSFER


class UsageError(PenstockError):
    """The command, its arguments or the configuration are wrong; nothing was moved."""

    effect = Effect.STOP_RUN


class LocationError(UsageError):
    """A location that cannot be read, or that names nothing."""


class ProfileError(UsageError):
    """A profile that is not known, has no token, or carries a setting that makes no sense."""


class TableError(UsageError):
    """A table that cannot be read; says the row."""


class RunStopped(PenstockError):
    """A cause that every transfer shares; the run ends once, not a file at a time.

    `report` is what became of each transfer until then (a `penstock.Report`), None where the run
    had not begun.
    """

    effect = Effect.STOP_RUN
    report: Any = None


class Interrupted(RunStopped):
    """The run was asked to stop; what was proved is kept, and the same command carries on."""


class TokenRefused(RunStopped):
    """The platform refused the token. Never tried a second time with the same token."""


class DestinationFull(RunStopped):
    """The local file system has no room left."""


class LedgerError(RunStopped):
    """The ledger cannot be read or written."""


class QuotaStoreError(RunStopped):
    """The store in which a quota is shared cannot be used, so nothing may be spent from it."""


class ExchangeError(PenstockError):
    """What the exchange throws into a flow in place of an answer."""


class Refused(ExchangeError):
    """The platform answered with something the flow does not accept.

    `status` is the HTTP status, `code` the platform's own code where it gave one. `retry` says
    that the platform's meaning is "later", which holds only where the request may be repeated.
    `quota` says that the quota is spent, `queue_full` that the platform's work queue is, `crowded`
    that too much is asked of it at once (fewer are then in flight, and this one goes again),
    `outage` that the whole platform is closed for a while, `undone` that whatever was asked was
    certainly not done, `retry_after_s` how long the server asks to be left alone.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: int | str | None = None,
        retry: bool = False,
        stop: bool = False,
        outage: bool = False,
        quota: bool = False,
        queue_full: bool = False,
        crowded: bool = False,
        undone: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status = status
        self.code = code
        self.outage = outage
        self.quota = quota
        self.queue_full = queue_full
        self.crowded = crowded
        self.undone = undone
        self.effect = Effect.STOP_RUN if stop else Effect.RETRY if retry else Effect.FAIL_TRANSFER


class AnswerLost(ExchangeError):
    """The request was sent and no answer came: it may have been done, or not.

    `timed_out`: nothing came for too long, which on some platforms is how they refuse.
    """

    effect = Effect.RETRY

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class NotSent(ExchangeError):
    """The host could not be reached, so nothing was asked of it."""

    effect = Effect.RETRY


class Untrusted(NotSent):
    """The host's certificate is not to be believed, so nothing was asked of it, nor will be."""

    effect = Effect.FAIL_TRANSFER


class LeaseExpired(ExchangeError):
    """The presigned URL is too old; ask where it came from for another."""

    effect = Effect.RETRY


class AnswerUnusable(ExchangeError):
    """An answer that breaks what it, or the request, promises: cut short, or not JSON."""

    effect = Effect.RETRY


class LedAstray(AnswerUnusable):
    """A redirect to nowhere, in a circle, or out of TLS; asking again leads there again."""

    effect = Effect.FAIL_TRANSFER


class ActionsFailed(PenstockError):
    """Things did not come to the state that was asked for.

    `report` is what became of each of them (a `penstock.ActionReport`).
    """

    report: Any = None


class TransferError(PenstockError):
    """One file's failure."""


class SourceMissing(TransferError):
    """The source does not exist."""


class SourceUnreadable(TransferError):
    """The source exists and cannot be read."""


class SourceChanged(TransferError):
    """The local source changed while it was sent."""


class RemoteChanged(TransferError):
    """The remote source changed while it was fetched; nothing of the mix was published."""

    effect = Effect.RETRY


class DigestMismatch(TransferError):
    """The bytes that arrived are not those that were promised."""

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class Unproved(TransferError):
    """Nothing the platform offers proves these bytes, and `strict` was asked for."""


class Conflict(TransferError):
    """The destination has a file that is not the same."""


class MetadataRefused(TransferError):
    """The platform did not take the metadata of a file. Its content may well be there."""


class NameRefused(TransferError):
    """The name cannot stand at the destination."""


class DestinationRefused(TransferError):
    """The destination cannot be written (a file where a folder is needed, no permission)."""
