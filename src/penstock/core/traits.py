"""How platforms differ in numbers: data, so that nothing else need branch on a platform's name."""

from __future__ import annotations

import enum

from penstock.core.model import GIB, MIB, TIB
from penstock.core.values import quick_value


class Attaches(enum.Enum):
    """When a file's metadata is stored, as seen from its content."""

    NEVER = "never"
    BEFORE = "before"
    """Each file's with a request of its own, before its content is sent."""
    AFTER = "after"
    """Many files' at once, after their content is there."""
    SUBMITTED = "submitted"
    """All at once, after every transfer of the run has ended."""


@quick_value(frozen=True, slots=True)
class Traits:
    """How a platform differs in numbers. Sizes in bytes, times in seconds."""

    platform: str
    quota: int
    """Requests the platform allows in `window_s`."""
    window_s: float
    page_size: int
    smallest_part: int = 5 * MIB
    largest_part: int = 5 * GIB
    most_parts: int = 10_000
    largest_file: int = 5 * TIB
    requests_per_upload: int = 2
    """Besides those for its parts."""
    requests_per_part: int = 1
    requests_per_download: int = 1
    """Besides those for its ranges, where these count."""
    counts_ranges: bool = False
    """Whether the API's own host serves the bytes, so that each range is a request that counts."""
    sends_empty: bool = True
    """Whether the content of an empty file is sent at all."""
    requests_per_folder: int = 1
    listing_leases: bool = False
    """Whether listing pages bring presigned URLs, so that a download costs no request."""
    puts_whole: bool = False
    """Whether a file of one part is sent whole, under its name, with nothing to complete."""
    quota_headers: bool = True
    needs_token: bool = True
    leases_prove: bool = False
    """Whether a download URL is given together with the file's digest, so that the size alone is
    not known where a listing tells neither: the first range tells it."""
    keeps_files: bool = True
    """Whether there are files at all; where not, the profile's things are listed, by their ids."""
    refusals_lock: bool = False
    """Whether the platform locks an account out whose expired token is used a few times."""
    etag_is_digest: bool = True
    """Whether an ETag that looks like a digest is one, so that another one disproves the bytes."""
    silent: bool = False
    """Whether requests over the quota may simply not be answered: left waiting, or hung up on."""
    longest_delay_s: float = 60.0
    """How long after it was given up a request may still reach the server's counter."""
    etag_part_sizes: tuple[int, ...] = ()
    """Part sizes the platform's usual clients upload with, likeliest first: what an ETag
    'hex-N' is held against."""
    names_containers: bool = False
    """Whether a container has names besides its id, so that its id must be looked for."""
    container_levels: int = 1
    """Levels of names above files: projects alone, or projects and what is in them."""
    proves_by_listing: bool = False
    """Whether what an upload became is seen only in its folder's listing, whose URLs prove it."""
    escapes_names: bool = False
    """Whether a location writes `/` in a name as `%2F`, and `%` as `%25`."""
    rationed: bool = True
    """Whether the platform has a quota; where not, `quota` is a number nothing reaches."""
    bodies_at_once: int | None = None
    """Bodies in flight that the platform bears, over all files; None: as many as others."""
    files_at_once: int | None = None
    """Files under way that it bears; None: as many as others."""
    digest_first: str | None = None
    """The digest an upload is begun with, and held against before it is completed: a completed
    file is proved by it."""
    unique_names: bool = True
    """Whether a name in a place means one file. Where not, files stand in no folders, are known
    by their ids, and are the same where name and digest are (`platforms.namesakes`)."""
    uploads_resume: bool = True
    """Whether unfinished uploads are listed and taken up again. Where not, what a dead run began
    can be completed or aborted, and never sent to."""
    attaches: Attaches = Attaches.NEVER
    """When metadata is stored."""
    attached_at_once: int = 1
    """Files whose metadata one request takes."""
    described_at_once: int = 0
    """Files whose metadata one request gives by their ids; 0: only that of whole folders."""
