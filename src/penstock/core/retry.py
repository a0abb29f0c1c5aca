"""Whether a request is sent again. Pure: how long to wait is the exchange's, when is the limiter's.

    what came                                   SAFE                ASK
    never sent (no connection)                  again               again
    never sent (a certificate nobody signed)    thrown              thrown
    refused: the quota is spent                 again, no try spent again, no try spent
    refused: a work queue is full               again               thrown: fewer are to be sent
    refused: later (5xx, 408, 425)              again               again if the platform said no
    refused: too many at once                   as for later, and fewer are in flight from then on
    refused: anything else                      thrown              thrown
    answer lost                                 again               thrown
    answer unusable                             again               thrown (it may have been done)
    lease expired, remote changed               thrown              thrown

A 5xx from a gateway may hide a request that was done, so with ASK only statuses that say "not
done" (425, 429, and what the platform itself calls undone) are sent again; the others are asked
about, as a lost answer is.
"""

from __future__ import annotations

import enum

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    Effect,
    NotSent,
    PenstockError,
    Refused,
    Untrusted,
)
from penstock.core.model import Repeat, Request


class Verdict(enum.Enum):
    """What follows a failed send."""

    AGAIN = "again"
    AGAIN_FREE = "again, and no try is spent"
    THROW = "throw"
    THROW_LOST = "throw as a lost answer"


# Source: RFC 8470, section 5.2, and RFC 6585, section 4: the server did not process the request.
_NOT_DONE = frozenset((425, 429))


def decide(error: PenstockError, request: Request) -> Verdict:
    """What to do about `error`, which came in place of an answer to `request`."""
    safe = request.repeat is Repeat.SAFE
    if isinstance(error, Untrusted):
        return Verdict.THROW
    if isinstance(error, NotSent):
        return Verdict.AGAIN
    if isinstance(error, Refused):
        if error.quota:
            return Verdict.AGAIN_FREE
        if error.effect is not Effect.RETRY:
            return Verdict.THROW
        if error.queue_full and not safe:
            return Verdict.THROW
        if safe or error.undone or error.status in _NOT_DONE:
            return Verdict.AGAIN
        return Verdict.THROW_LOST
    if isinstance(error, AnswerLost):
        return Verdict.AGAIN if safe else Verdict.THROW
    if isinstance(error, AnswerUnusable):
        return Verdict.AGAIN if safe else Verdict.THROW_LOST
    return Verdict.THROW
