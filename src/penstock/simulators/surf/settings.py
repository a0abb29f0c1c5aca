"""What a SURF simulator can be told: documented defaults, and guesses as switches."""

from dataclasses import dataclass, field
from typing import Literal

Limiter = Literal["A", "B", "C", "D"]
HeaderMode = Literal["quotas", "rate_limits", "none"]


@dataclass(frozen=True, kw_only=True)
class SurfSettings:
    """How gateway, queue and workspaces behave. Times in seconds.

    Sources: SURF Service Desk, "SRC API" (`quota`, `window_s`, a queue that is served first come
    first served and refuses with 503 when full); Tyk's gateway at 31e219beb (`limiter`,
    `headers`). The rest is not documented and therefore a guess that can be switched:

    limiter: Tyk's four: A anchored window that refusals cost nothing, B sliding log that counts
        refusals, C the same and a sentinel that refuses everything for a whole window after an
        overrun, D window aligned to the clock.
    headers: `X-RateLimit-*` from the quota (-1, -1, 0; absent on 429), from the rate, or none.
    queue_capacity, served_per_s: how many tasks may wait, and how many are begun a second.
    full_retry_after_s, full_header, full_html: what a 503 brings along.
    pause_s, resume_s, reboot_s, delete_s, spread: how long a task takes once begun, and by which
        part of that it may be longer or shorter.
    status_changes: when a status shows the action: at once, or when the queue came to it.
    shows: which field lists the allowed actions. remembers: whether there are `workspace_actions`.
    refuses_with: a forbidden action is 400, or 200 with an error in its body.
    token_form: what the Authorization field must look like. bad_token: the status for another one.
    ignored_filters: query parameters that the server does not know.
    workspaces: how many there are at the start.
    """

    quota: int = 1000
    window_s: float = 60.0
    limiter: Limiter = "A"
    headers: HeaderMode = "quotas"

    queue_capacity: int = 500
    served_per_s: float = 25.0
    full_retry_after_s: float | None = None
    full_header: tuple[str, str] | None = None
    full_html: bool = False

    pause_s: float = 2.0
    resume_s: float = 3.0
    reboot_s: float = 2.0
    delete_s: float = 2.0
    spread: float = 0.0
    status_changes: Literal["accepted", "begun"] = "begun"
    shows: Literal["allowed_actions", "actions", "none"] = "allowed_actions"
    remembers: bool = True
    refuses_with: Literal["status", "body"] = "status"

    token_form: Literal["any", "bare", "token"] = "any"
    bad_token: int = 401
    ignored_filters: frozenset[str] = field(default_factory=frozenset)
    default_limit: int = 20
    most_per_page: int = 100
    workspaces: int = 4
    api_latency_s: float = 0.0
    clock_skew_s: float = 0.0
