"""Holds a remote file against what it should be: by what listing and storage state, or read back.

Nothing is believed that was not stated by the other side or read from it. What cannot be compared
is said to be unproved, never the same.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from penstock.core.errors import RemoteChanged
from penstock.core.model import MIB, Part, RemoteFile, validator_of
from penstock.core.plan import Cost, cut, upload_part_size
from penstock.core.proof import (
    TagKind,
    Weight,
    candidate_part_sizes,
    disagreement,
    multipart_tag,
    promised_digests,
    read_tag,
    weigh,
)
from penstock.core.values import quick_value
from penstock.engine import files
from penstock.engine.digests import can_digest, new_digest
from penstock.engine.exchange import Exchange, Tally
from penstock.engine.files import hop
from penstock.engine.leases import Leases, Renewals
from penstock.engine.reserving import open_partial

# Bytes read back at once: what one file needs on the local disk while it is read.
_PIECE = 64 * MIB


class Outcome(enum.Enum):
    """What a comparison found."""

    SAME = "same"
    DIFFERENT = "different"
    UNPROVED = "cannot be proved"


@quick_value(frozen=True, slots=True)
class Claim:
    """What a file should be. `path` is a local file with the same bytes, where there is one.

    `file` is the remote file the claim is made by, where the other side is a platform.
    """

    size: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None
    part_size: int | None = None
    file: RemoteFile | None = None


@quick_value(frozen=True, slots=True)
class Compared:
    """A comparison's end, and why it is not `SAME`."""

    outcome: Outcome
    why: str = ""


SAME = Compared(Outcome.SAME)


def by_digests(claimed: Mapping[str, str], actual: Mapping[str, str]) -> Compared | None:
    """What two sets of digests say of each other; None where they share no name."""
    differs = disagreement(claimed, actual)
    if differs is not None:
        name, expected, found = differs
        return Compared(Outcome.DIFFERENT, f"{name} {found} in place of {expected}")
    return SAME if claimed.keys() & actual.keys() else None


async def local_against(path: str, claim: Claim) -> Compared:
    """A local file, digested, against a claim."""
    found = await hop(files.fingerprint, path)
    if claim.size is not None and found.size != claim.size:
        return Compared(Outcome.DIFFERENT, f"{found.size} bytes in place of {claim.size}")
    if claim.path is not None:
        digests = await files.digest_file(claim.path, found.size, ("sha256",))
        claim = Claim(claim.size, digests)
    known = {name for name in claim.digests if can_digest(name)}
    if not known:
        return Compared(Outcome.UNPROVED, "no digest was recorded")
    actual = await files.digest_file(path, found.size, known)
    return by_digests(claim.digests, actual) or SAME


class RemoteComparer:
    """Compares files of one platform, for one run."""

    def __init__(self, exchange: Exchange, folder: Path, *, read_back: bool) -> None:
        self._exchange = exchange
        self._folder = folder
        self._read_back = read_back
        self._renewals = Renewals()

    def needs_requests(self, file: RemoteFile, claim: Claim) -> int:
        """API requests the comparison of one file takes."""
        told, traits = self.told(file, claim), self._exchange.platform.traits
        if told is not None and (told.outcome is Outcome.DIFFERENT or not self._read_back):
            return 0
        if traits.digest_first is not None and not self._read_back:
            return int(traits.digest_first not in file.digests)
        cost = Cost()
        if file.lease is None:
            cost.add_download(file.size, traits, _PIECE if self._read_back else None)
        return cost.api_requests

    def told(self, file: RemoteFile, claim: Claim) -> Compared | None:
        """What the listing alone says; None where more must be asked."""
        if file.size is not None and claim.size is not None and file.size != claim.size:
            return Compared(Outcome.DIFFERENT, f"{file.size} bytes in place of {claim.size}")
        if file.size == claim.size == 0:
            return SAME  # There is one sequence of no bytes.
        return by_digests(claim.digests, file.digests)

    async def compare(self, file: RemoteFile, claim: Claim) -> Compared:
        """The file against the claim; at most one presigned URL is asked for."""
        told = self.told(file, claim)
        if told is not None and (told.outcome is Outcome.DIFFERENT or not self._read_back):
            return told
        if self._exchange.platform.traits.digest_first is not None and not self._read_back:
            return await self._by_description(file, claim)
        leases = Leases(self._exchange, self._renewals, file, Tally())
        if self._read_back:
            return await self._by_reading(leases, file, claim)
        answer = await leases.ask(self._exchange.platform.probe)
        tag, stated = read_tag(answer.headers), promised_digests(answer.headers)
        stated = {name: value for name, value in stated.items() if can_digest(name)}
        size = file.size if file.size is not None else claim.size
        actual, multipart = dict(claim.digests), None
        if claim.path is not None and size is not None:
            local = await hop(files.fingerprint, claim.path)
            if local.size != size:
                return Compared(Outcome.DIFFERENT, f"{size} bytes in place of {local.size}")
            actual = await files.digest_file(claim.path, size, {"md5", *stated})
            if tag.kind is TagKind.MULTIPART:
                traits = self._exchange.platform.traits
                own = (claim.part_size,) if claim.part_size else ()
                usual = (*own, upload_part_size(size, traits), *traits.etag_part_sizes)
                for candidate in candidate_part_sizes(size, tag.parts, usual):
                    multipart = multipart_tag(await files.block_md5s(claim.path, size, candidate))
                    if multipart == tag.text:
                        break
        finding = weigh(manifest={}, stated=stated, tag=tag, actual=actual, multipart=multipart)
        trusted = finding.by != "etag" or self._exchange.platform.traits.etag_is_digest
        if finding.weight is Weight.PROVED:
            return SAME
        if finding.weight is Weight.DIFFERS and finding.hard and trusted:
            return Compared(
                Outcome.DIFFERENT, f"{finding.expected} there, {finding.actual} expected"
            )
        return Compared(Outcome.UNPROVED, "the storage states no digest that can be compared")

    async def _by_description(self, file: RemoteFile, claim: Claim) -> Compared:
        """By the digest the platform proved the file with; its bytes are not asked for."""
        platform = self._exchange.platform
        name = platform.traits.digest_first
        if name not in file.digests:
            file = await self._exchange.run(platform.stat(file.id))
            told = self.told(file, claim)
            if told is not None:
                return told
        known = {name for name in file.digests if can_digest(name)}
        if claim.path is None or file.size is None or not known:
            return Compared(Outcome.UNPROVED, "the platform states no digest that can be compared")
        actual = await files.digest_file(claim.path, file.size, known)
        return by_digests(actual, file.digests) or SAME

    async def _by_reading(self, leases: Leases, file: RemoteFile, claim: Claim) -> Compared:
        size = file.size if file.size is not None else claim.size
        if size is None:
            return Compared(Outcome.UNPROVED, "its size is not known")
        names = {name for name in claim.digests if can_digest(name)} or {"sha256"}
        wanted = dict(claim.digests)
        if claim.path is not None:
            wanted = await files.digest_file(claim.path, size, names)
        if not wanted:
            return Compared(Outcome.UNPROVED, "no digest was recorded")
        try:
            actual = await self._digests(leases, size, names)
        except RemoteChanged as changed:
            return Compared(Outcome.DIFFERENT, str(changed))
        return by_digests(wanted, actual) or Compared(Outcome.UNPROVED, "no digest was recorded")

    async def _digests(self, leases: Leases, size: int, names: set[str]) -> dict[str, str]:
        """The digests of a remote file's bytes, a piece of it on the disk at a time."""
        running = {name: new_digest(name) for name in names}
        validator: str | None = None
        for part in cut(size, _PIECE):
            partial = f"{self._folder}/.penstock-verify-{id(leases)}-{part.number}.part"
            await hop(open_partial, partial, part.offset + part.length)
            ask = functools.partial(
                self._exchange.platform.get_part,
                part=part,
                sink=partial,
                total=size,
                validator=validator,
                digests=frozenset(),
            )
            try:
                validator = validator_of((await leases.ask(ask)).headers)
                await hop(_take, partial, part, running)
            finally:
                await files.remove(partial)
        return {name: digest.hexdigest() for name, digest in running.items()}


def _take(partial: str, part: Part, running: Mapping[str, Any]) -> None:
    """The part's bytes go through the digests. Blocks."""
    with Path(partial).open("rb") as file:
        file.seek(part.offset)
        left = part.length
        while left and (data := file.read(min(left, MIB))):
            left -= len(data)
            for digest in running.values():
                digest.update(data)
