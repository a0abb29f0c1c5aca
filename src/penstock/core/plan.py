"""Which parts, and what they cost: requests first, then bytes, then time.

On a rationed platform an upload costs a fixed number of requests and one for each part, so fewer
parts are cheaper; a part that fails is sent again whole, so smaller parts lose less. The rule:
one part up to 64 MiB; above, at most 32 and one for each GiB. Downloads range over a presigned
URL, where parts cost no request, so they are small: what a kill costs is a few ranges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from penstock.core.errors import UsageError
from penstock.core.model import GIB, MIB, Part
from penstock.core.traits import Traits
from penstock.core.values import quick_value

# A single part is cheapest, and 64 MiB take some seconds on the slowest link people complain of.
WHOLE_UPLOAD = 64 * MIB
# Above: the number of parts that bounds both the requests and what one lost part costs (3 %).
FEW_PARTS = 32

# At 20 MB/s a connection, a round trip of 80 ms between two ranges is a tenth of 16 MiB's time.
SMALLEST_RANGE = 16 * MIB
LARGEST_RANGE = 64 * MIB
# What a range may be where only that lets a block hold whole ranges.
_SMALLEST_PIECE = 8 * MIB
# A file up to this size is fetched in one go: what a kill costs is little, and so is its time.
WHOLE_DOWNLOAD = 16 * MIB
# Ranges a large file is cut into, where they are then neither too small nor too large.
_RANGES = 32
# What a download may have ahead of the byte its digest stands at.
MOST_AHEAD = 512 * MIB


def upload_part_size(size: int, traits: Traits, asked: int | None = None) -> int:
    """The part size that spends few requests, within the platform's limits. Bytes.

    Raises `UsageError` where `asked` is outside the limits, or would need more parts than the
    platform takes. A platform of one part takes a file whole, whatever is asked.
    """
    if traits.most_parts == 1:
        return max(size, traits.smallest_part, 1)
    if asked is not None:
        check_part_size(asked, traits)
        if -(-size // asked) > traits.most_parts:
            least = -(-size // traits.most_parts)
            raise UsageError(
                f"a part size of {asked} bytes cuts {size} bytes into more than "
                f"{traits.most_parts} parts; use at least {-(-least // MIB)}MiB"
            )
        return asked
    if size <= WHOLE_UPLOAD:
        return min(max(size, traits.smallest_part), traits.largest_part)
    parts = min(FEW_PARTS + math.ceil(size / GIB), traits.most_parts)
    even = -(-size // parts)
    return min(max(-(-even // MIB) * MIB, WHOLE_UPLOAD, traits.smallest_part), traits.largest_part)


def check_part_size(asked: int, traits: Traits) -> None:
    """Nothing, or `UsageError` where the platform takes no parts of `asked` bytes."""
    if traits.most_parts == 1:
        return
    if not traits.smallest_part <= asked <= traits.largest_part:
        raise UsageError(
            f"a part size of {asked} bytes is outside what {traits.platform} takes: "
            f"{traits.smallest_part} to {traits.largest_part} bytes"
        )


def range_size(size: int, block: int | None = None, asked: int | None = None) -> int:
    """Bytes a download's range has: 16 to 64 MiB, and aligned to `block` where that can be.

    `block` is the part size the file was likely uploaded with. Ranges then hold whole blocks, or
    a block holds whole ranges, so that every block's digest can be told.
    """
    if asked is not None:
        return max(asked, 1)
    if size <= WHOLE_DOWNLOAD:
        return max(size, 1)
    fair = min(max(SMALLEST_RANGE, -(-(size // _RANGES) // MIB) * MIB), LARGEST_RANGE)
    if block is None:
        return fair
    if block <= LARGEST_RANGE:
        return block * max(
            1, fair // block, -(-SMALLEST_RANGE // block) if block < SMALLEST_RANGE else 1
        )
    for pieces in range(-(-block // fair), block // _SMALLEST_PIECE + 1):
        if block % pieces == 0:
            return block // pieces
    return fair


def cut(size: int, part_size: int) -> tuple[Part, ...]:
    """The parts of `size` bytes: in order, contiguous, covering [0, size). One empty part for 0."""
    return tuple(_cut(size, part_size))


def _cut(size: int, part_size: int) -> Iterator[Part]:
    if size == 0:
        yield Part(1, 0, 0)
    for number, offset in enumerate(range(0, size, part_size), start=1):
        yield Part(number, offset, min(part_size, size - offset))


@dataclass(slots=True)
class Cost:
    """What a plan will spend, added up: counts, and bytes."""

    files: int = 0
    bytes: int = 0
    skipped: int = 0
    failed: int = 0
    api_requests: int = 0
    folders: int = 0

    def add_upload(self, size: int, traits: Traits, asked: int | None = None) -> None:
        """One file to send."""
        parts = max(int(traits.sends_empty), -(-size // upload_part_size(size, traits, asked)))
        self.files += 1
        self.bytes += size
        self.api_requests += traits.requests_per_upload + parts * traits.requests_per_part

    def add_download(self, size: int | None, traits: Traits, asked: int | None = None) -> None:
        """One file to fetch; None: its size is not known, and may have to be asked for."""
        self.files += 1
        self.bytes += size or 0
        if traits.listing_leases:
            return
        self.api_requests += traits.requests_per_download
        if traits.counts_ranges:
            ranges = max(1, -(-(size or 0) // range_size(size or 0, None, asked)))
            # A file of several is looked at before; one of unknown size is described first,
            # unless its digest comes with its URL.
            told = size is not None or traits.leases_prove
            self.api_requests += ranges + (ranges > 1) + (not told)


@quick_value(frozen=True, slots=True)
class Estimate:
    """How long a cost takes, and what binds it. Seconds."""

    windows: int
    quota_s: float
    bandwidth_s: float
    binds: str = field(default="")

    @property
    def seconds(self) -> float:
        """The longer of the two."""
        return max(self.quota_s, self.bandwidth_s)


def estimate(
    requests: int, size: int, *, quota: int, window_s: float, rate: float, answer_s: float = 0.2
) -> Estimate:
    """When `requests` requests and `size` bytes are through, at `rate` bytes a second.

    What is free is spent at once, so M requests need floor((M - 1)/N) windows of waiting.
    """
    full = max(requests - 1, 0) // quota
    quota_s = full * window_s + (answer_s if requests else 0.0)
    bandwidth_s = size / rate
    return Estimate(
        windows=-(-requests // quota),
        quota_s=quota_s,
        bandwidth_s=bandwidth_s,
        binds="quota" if quota_s >= bandwidth_s and full else "bandwidth",
    )
