"""What the bytes of a download are worth: all that is promised of them, held against what came.

A manifest promises, the platform describes, the storage states, an ETag may be a digest. Nothing
here fetches or publishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.core.model import UNKNOWN_SIZE, Headers
from penstock.core.proof import (
    OPAQUE,
    Finding,
    Tag,
    TagKind,
    Weight,
    candidate_part_sizes,
    multipart_tag,
    promised_digests,
    read_tag,
    weigh,
)
from penstock.core.traits import Traits
from penstock.core.transfers import Choices, DownTransfer
from penstock.engine import files
from penstock.engine.digests import can_digest

# Why a file that came is `unverified`, as its line says.
UNPROVED = "nothing the platform offers proves it"


@dataclass(slots=True)
class Fetched:
    """One whole fetch: the digests of the bytes, and what the storage said of them."""

    digests: dict[str, str]
    headers: Headers
    size: int = UNKNOWN_SIZE
    block: int | None = None
    block_md5s: list[str] = field(default_factory=list)

    @property
    def may_be_short(self) -> bool:
        """Whether a server that hung up is all that says it was the end (RFC 9112, 6.3)."""
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        return not chunked and "content-length" not in self.headers


@dataclass(slots=True)
class Weighing:
    """One file's promises."""

    transfer: DownTransfer
    choices: Choices
    traits: Traits

    def names(self) -> set[str]:
        """Digests to take of the whole file: what was promised or asked for, else MD5.

        What the storage states comes to that (`STATED`).
        """
        promised = (*self.transfer.promised, *self.transfer.file.digests)
        known = {name for name in promised if can_digest(name)}
        return {*(known or {"md5"}), *self.choices.checksums}

    def stated(self, headers: Headers) -> dict[str, str]:
        """Digests the storage states, and those the platform's description of the file does."""
        stated = {**promised_digests(headers), **self.transfer.file.digests}
        return {name: value for name, value in stated.items() if can_digest(name)}

    def block(self, headers: Headers, size: int) -> int | None:
        """The part size the file was likely uploaded with, where its ETag is of parts."""
        tag = read_tag(headers)
        if tag.kind is not TagKind.MULTIPART:
            return None
        fitting = candidate_part_sizes(size, tag.parts, self.traits.etag_part_sizes)
        return fitting[0] if fitting else None

    def is_promised(self, names: set[str]) -> bool:
        """Whether a manifest promises one of these digests: stronger than an ETag `hex-N`."""
        return any(name in names for name in self.transfer.promised)

    def are_promised(self, actual: Mapping[str, str], known: Mapping[str, str]) -> bool:
        """Whether digests are those of an earlier run, and what a manifest promises of them."""
        promised = {n: d for n, d in self.transfer.promised.items() if can_digest(n)}
        return actual.items() >= {**known, **promised}.items()

    async def weigh(self, path: str, size: int, fetched: Fetched) -> Finding:
        """What the bytes in `path`, fetched just now, are worth. Digests missed are added."""
        tag = read_tag(fetched.headers)
        stated = self.stated(fetched.headers)
        missing = stated.keys() - fetched.digests.keys()
        if tag.kind is TagKind.MD5 and "md5" not in fetched.digests:
            missing = {"md5", *missing}
        if missing:
            fetched.digests.update(await files.digest_file(path, size, missing))
        stronger = any(name in fetched.digests for name in (*self.transfer.promised, *stated))
        multipart = None
        if not stronger:
            multipart = await self._fitting_tag(path, size, tag, fetched)
        return self._found(stated, tag, fetched.digests, multipart)

    def said(self, headers: Headers) -> tuple[Tag, dict[str, str], set[str]]:
        """A small file's ETag, what is stated of it, and the digests to take of it for that."""
        tag, stated = read_tag(headers), self.stated(headers)
        names = self.names() | stated.keys()
        if tag.kind is TagKind.MD5:
            names.add("md5")
        return tag, stated, names

    def weigh_known(
        self, tag: Tag, stated: Mapping[str, str], digests: Mapping[str, str]
    ) -> Finding | None:
        """As `weigh`, after `said`; None where the bytes have to be read again for it."""
        multipart = None
        if tag.kind is TagKind.MULTIPART and not any(
            name in digests for name in (*self.transfer.promised, *stated)
        ):
            if tag.parts != 1 or "md5" not in digests:
                return None
            multipart = multipart_tag([digests["md5"]])
        return self._found(stated, tag, digests, multipart)

    async def weigh_existing(
        self, path: str, size: int, headers: Headers
    ) -> tuple[Finding, dict[str, str]]:
        """What manifest and storage say of a local file we did not fetch, and its digests."""
        tag, stated = read_tag(headers), self.stated(headers)
        if not self.transfer.promised and not stated and tag.kind is TagKind.OPAQUE:
            return Finding(Weight.OPEN), {}
        actual = await files.digest_file(path, size, self.names() | stated.keys())
        multipart = await self._fitting_tag(path, size, tag, Fetched({}, headers))
        return self._found(stated, tag, actual, multipart), actual

    def _found(
        self,
        stated: Mapping[str, str],
        tag: Tag,
        actual: Mapping[str, str],
        multipart: str | None,
    ) -> Finding:
        """The finding, unless all it rests on is an ETag that need not be a digest here."""
        promised = self.transfer.promised
        finding = weigh(
            manifest=promised, stated=stated, tag=tag, actual=actual, multipart=multipart
        )
        differs = finding.weight is Weight.DIFFERS and finding.by == "etag"
        if differs and not self.traits.etag_is_digest:
            return weigh(
                manifest=promised, stated=stated, tag=OPAQUE, actual=actual, multipart=None
            )
        return finding

    async def _fitting_tag(self, path: str, size: int, tag: Tag, fetched: Fetched) -> str | None:
        """The ETag `hex-N` of the bytes: the one that fits if any part size makes it fit."""
        if tag.kind is not TagKind.MULTIPART:
            return None
        found = None
        if fetched.block is not None and fetched.block_md5s:
            found = multipart_tag(fetched.block_md5s)
            if found == tag.text:
                return found
        for candidate in candidate_part_sizes(size, tag.parts, self.traits.etag_part_sizes):
            if candidate == fetched.block:
                continue
            found = multipart_tag(await files.block_md5s(path, size, candidate))
            if found == tag.text:
                return found
        return found
