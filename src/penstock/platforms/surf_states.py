"""What the states of a SURF workspace mean for an action on it: a table, and how it is read.

An action settles in its last state, or in the word of the platform's own memory of it
(`workspace_actions`). Where before and after are one state (reboot), the state alone says nothing
until the action was seen under way.

Source: the statuses are those that third-party clients list (surf-controller 1.2.2 and a public
browser extension, seen 2026-10-07); the live schema was not reachable, so unknown words must do no
harm: an unknown status is no evidence, and an unknown word of an entry is "under way".
"""

from __future__ import annotations

from penstock.core.values import quick_value
from penstock.platforms.control import Evidence, Mark, Past, Sign, Thing


@quick_value(frozen=True, slots=True)
class Way:
    """How an action goes: from which states (None: any), by which, to which."""

    begins: frozenset[str] | None
    passing: str
    ends: str
    participle: str


WAYS = {
    "pause": Way(frozenset(("running",)), "pausing", "paused", "paused"),
    "resume": Way(frozenset(("paused",)), "resuming", "running", "running"),
    "reboot": Way(frozenset(("running",)), "rebooting", "running", "rebooted"),
    "delete": Way(None, "deleting", "deleted", "deleted"),
}
PASSING = frozenset(("creating", "pausing", "resuming", "rebooting", "updating", "deleting"))

# How an entry of `workspace_actions` may say that it ended. No document names the words: a guess,
# and whatever is in neither set decides nothing.
_WENT_WELL = frozenset(("success", "succeeded", "successful", "completed", "done", "finished"))
_WENT_WRONG = frozenset(
    ("failed", "failure", "error", "errored", "timeout", "timed_out", "cancelled", "rejected")
)


def forbids(action: str, thing: Thing) -> str | None:
    """Why the state of a workspace forbids an action; None where it does not."""
    way, status = WAYS[action], thing.status
    if status == way.ends and way.begins is not None and status not in way.begins:
        return f"already {way.participle}"
    if status == way.ends == "deleted":
        return "already deleted"
    if status == way.passing:
        return f"already {way.passing}"
    if action == "delete":
        return "the platform says it may not be deleted" if thing.deletable is False else None
    if thing.allowed is not None:
        if action in thing.allowed:
            return None
        return f"the platform allows no {action} while it is {status or 'in no known state'}"
    if way.begins is not None and status not in way.begins:
        return f"no {action} while it is {status or 'in no known state'}"
    return None


def evidence(action: str, mark: Mark, now: Thing | None, *, begun: bool) -> Evidence:
    """What a workspace as it is now says of an action that was asked for after `mark`."""
    way = WAYS[action]
    if now is None or now.status == "deleted":
        if action == "delete":
            return Evidence(Sign.SETTLED, stands=True)
        return Evidence(Sign.FAILED, "the workspace is gone")
    entry = _newest(action, mark, now)
    wrong = None if entry is None else _went_wrong(entry)
    if wrong is not None:
        return Evidence(Sign.FAILED, wrong)
    # Its own word that it went well counts even where the state is one that nobody knows.
    ended = entry is not None and entry.status in _WENT_WELL and now.status not in PASSING
    if ended or (now.status == way.ends and (mark.status != way.ends or begun)):
        return Evidence(Sign.SETTLED, stands=now.status == way.ends)
    if entry is not None or now.status == way.passing:
        if now.status == "failed":
            return Evidence(Sign.FAILED, "the workspace failed")
        return Evidence(Sign.UNDER_WAY, begun=now.status == way.passing)
    if now.status == mark.status:
        return Evidence(Sign.NOTHING if now.past is not None else Sign.SILENT)
    if now.status == "failed":
        return Evidence(Sign.FAILED, "the workspace failed")
    if begun or now.status in PASSING:
        return Evidence(Sign.UNDER_WAY)
    return Evidence(Sign.SILENT)


def _newest(action: str, mark: Mark, now: Thing) -> Past | None:
    """The newest entry for the action that was not there at the mark; None: there is none.

    Told by its time where entries have one, else by there being more of them than there were.
    """
    past = now.past or ()
    if any(entry.made_at is not None for entry in past):
        new = [
            entry
            for entry in past
            if entry.made_at is not None and (mark.made_at is None or entry.made_at > mark.made_at)
        ]
    else:
        new = list(past[mark.count :])
    own = [entry for entry in new if entry.action == action]
    return own[-1] if own else None


def _went_wrong(entry: Past) -> str | None:
    if entry.status in _WENT_WRONG or entry.error is not None:
        return entry.error or f"the platform says: {entry.status}"
    return None
