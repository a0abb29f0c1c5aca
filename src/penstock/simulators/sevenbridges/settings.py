"""What a Seven Bridges simulator can be told: documented defaults, and guesses as switches."""

from dataclasses import dataclass
from typing import Literal

from penstock.simulators.quota import QuotaHeaders, WindowStart
from penstock.simulators.storage import StorageSettings

MIB = 1024 * 1024
GIB = 1024 * MIB
TIB = 1024 * GIB


@dataclass(frozen=True, kw_only=True)
class SevenBridgesSettings(StorageSettings):
    """How the API behaves; the storage's settings are inherited.

    Sources: API overview, "Rate limits" (`quota`, `window_s`), "Response pagination"
    (`default_limit`, `most_per_page`); API reference, "Initialize a multipart upload" (part and
    file limits, `insist_part_size`, `parallel_uploads`), "Complete a multipart upload"
    (`complete_takes_parts`). What follows is not documented and therefore a guess that can be
    switched:

    window_start, count_refused: when a window begins; whether refused calls use it up.
    quota_headers, quota_headers_on_429: style of `X-RateLimit-*` (documented: "epoch_s"), and
        whether a refusal has them.
    too_high_limit: `limit` above `most_per_page` is clamped, or refused with 400.
    first_scroll_token: what to scroll from.
    total_header: when `X-Total-Matching-Query` comes (the overview: with `offset`).
    malformed_links: next links as in the overview's example, unusable.
    listing_has_size: `True`, in listings with `fields=_all` or a field named so; `False`, only
        where named; "never".
    success_codes_in: where a part's URL answer has them (clients differ).
    success_codes: those of the storage; another that stands in its place may have its own.
    overwrite_deletes_at: when an existing file goes.
    same_name_uploads: whether two unfinished uploads may have one name; else 409, code 8006.
    complete_again: a second `complete` is refused (404, code 8003) or answered as the first.
    smallest_part: 5 MiB as documented; less lets tests use tiny parts.
    api_latency_s: waited before a call is handled. maintenance: everything is 503, code 0.
    """

    quota: int = 1000
    window_s: float = 300.0
    window_start: WindowStart = "first call"
    count_refused: bool = False
    quota_headers: QuotaHeaders = "epoch_s"
    quota_headers_on_429: bool = True

    default_limit: int = 50
    most_per_page: int = 100
    too_high_limit: Literal["clamp", "refuse"] = "clamp"
    first_scroll_token: str = "init"
    total_header: Literal["always", "with offset", "never"] = "always"
    malformed_links: bool = True
    listing_has_size: bool | Literal["never"] = True

    smallest_part: int = 5 * MIB
    largest_part: int = 5 * GIB
    default_part: int = 32 * MIB
    most_parts: int = 10_000
    largest_file: int = 5 * TIB
    insist_part_size: int | None = None
    parallel_uploads: bool = True
    success_codes_in: Literal["top", "report"] = "top"
    success_codes: tuple[int, ...] = (200,)
    complete_takes_parts: bool = True
    complete_again: Literal["refuse", "repeat"] = "refuse"
    overwrite_deletes_at: Literal["init", "complete"] = "init"
    same_name_uploads: bool = True

    most_in_bulk: int = 100
    api_latency_s: float = 0.0
    maintenance: bool = False
    user: str = "demo"
