"""What digests and ETags prove.

An ETag of 32 hex digits is the MD5 of the bytes; `hex-N` is the MD5 of the N parts' MD5s, and is
held against the part sizes it could have been made with. Either is a proof only where the storage
did not encrypt with a key of its own. `x-goog-hash`, where present, is better than both.

Source: Amazon S3 API reference, "Object" (ETag); Google Cloud Storage, "XML API headers"
(x-goog-hash). That storages of the platforms hold to it is not promised by the platforms, so a
mismatch is met by fetching again (or sending again), never by believing one side.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import re
from collections.abc import Mapping, Sequence

from penstock.core.model import MIB, Headers
from penstock.core.values import quick_value

# The digest of nothing, and how many candidate part sizes an ETag is held against: each costs one
# reading of the file.
MOST_CANDIDATES = 8

_MD5 = re.compile(r"[0-9a-f]{32}\Z")
_MULTIPART = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,4})\Z")


_HEX_DIGITS = {"md5": 32, "crc32c": 8, "sha1": 40, "sha256": 64, "sha512": 128}
# Source: RFC 9530, section 5, and the IANA registry "Hash Algorithms for HTTP Digest Fields".
_REPR_NAMES = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}


class TagKind(enum.Enum):
    """What sort of thing an ETag is."""

    MD5 = "md5"
    MULTIPART = "multipart"
    OPAQUE = "opaque"


@quick_value(frozen=True, slots=True)
class Tag:
    """An ETag, read: `hex` is its digest part, `parts` the number of parts it was made of."""

    kind: TagKind
    hex: str = ""
    parts: int = 0

    @property
    def text(self) -> str:
        """The ETag as it is compared: lower case, without quotes."""
        return f"{self.hex}-{self.parts}" if self.kind is TagKind.MULTIPART else self.hex


# The ETag of what says nothing of its bytes.
OPAQUE = Tag(TagKind.OPAQUE)


def read_tag(headers: Headers) -> Tag:
    """What the ETag of an answer says; OPAQUE where there is none, or it proves nothing."""
    encryption = headers.get("x-amz-server-side-encryption", "")
    # No field's name holds a line end: one search in place of one a name, for each small file.
    names = "\n".join(("", *headers))
    if encryption.startswith("aws:kms") or "\nx-amz-server-side-encryption-customer-" in names:
        return OPAQUE
    return tag_of(headers.get("etag"))


def tag_of(etag: str | None) -> Tag:
    """What an ETag's text says. Weak ones (`W/`) say nothing of the bytes."""
    if etag is None or etag.startswith("W/"):
        return OPAQUE
    text = etag.strip().strip('"').lower()
    if _MD5.match(text):
        return Tag(TagKind.MD5, text)
    match = _MULTIPART.match(text)
    if match:
        return Tag(TagKind.MULTIPART, match[1], int(match[2]))
    return OPAQUE


def promised_digests(headers: Headers) -> dict[str, str]:
    """Digests the storage itself states beside the ETag, by name, in hex.

    Source: Google Cloud Storage, "x-goog-hash": base64 of the MD5 and of the big-endian CRC32C;
    RFC 9530, section 3, `Repr-Digest`: a dictionary of structured fields, `sha-256=:BASE64:`, of
    the whole file also where the answer is a range of it.
    """
    found = _repr_digests(headers.get("repr-digest", ""))
    for entry in headers.get("x-goog-hash", "").split(","):
        name, _, value = entry.strip().partition("=")
        if name not in {"md5", "crc32c"}:
            continue
        try:
            found[name] = base64.b64decode(value, validate=True).hex()
        except (binascii.Error, ValueError):
            continue
    return {name: value for name, value in found.items() if len(value) == _HEX_DIGITS[name]}


def _repr_digests(field: str) -> dict[str, str]:
    found = {}
    for entry in field.split(","):
        name, _, value = entry.partition(";")[0].strip().partition("=")
        known = _REPR_NAMES.get(name.lower())
        if known is None or len(value) < 2 or value[0] != ":" or value[-1] != ":":  # noqa: PLR2004
            continue
        try:
            found[known] = base64.b64decode(value[1:-1], validate=True).hex()
        except (binascii.Error, ValueError):
            continue
    return found


def multipart_tag(part_md5s: Sequence[str]) -> str:
    """The ETag `hex-N` of parts with these MD5s, in part order."""
    joined = hashlib.md5(b"".join(bytes.fromhex(md5) for md5 in part_md5s), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(part_md5s)}"


def candidate_part_sizes(size: int, parts: int, usual: Sequence[int] = ()) -> tuple[int, ...]:
    """Part sizes that cut `size` bytes into `parts` parts, likeliest first, at most eight.

    Tried: the sizes usual on the platform, powers of two, and size/parts rounded up to MiB.
    """
    if parts == 1:
        return (max(size, 1),)
    if parts < 1 or size < parts:
        return ()
    even = -(-size // parts)
    tried = [
        *usual,
        *(1 << n for n in range(20, 34)),
        -(-even // MIB) * MIB,
        even,
    ]
    fitting = dict.fromkeys(p for p in tried if p > 0 and -(-size // p) == parts)
    return tuple(fitting)[:MOST_CANDIDATES]


def disagreement(
    promised: Mapping[str, str], actual: Mapping[str, str]
) -> tuple[str, str, str] | None:
    """The first digest (name, promised, actual) in which two sets differ; None where they agree."""
    for name in sorted(promised):
        if name in actual and promised[name].lower() != actual[name].lower():
            return name, promised[name], actual[name]
    return None


class Weight(enum.Enum):
    """What the evidence amounts to."""

    PROVED = "proved"
    DIFFERS = "differs"
    OPEN = "nothing proves or disproves it"


@quick_value(frozen=True, slots=True)
class Finding:
    """A weight, and what it rests on: `by` as the report names it, the digests where they differ.

    `hard`: a difference that equal bytes, fetched twice, do not excuse (a digest stated by a
    manifest or as 32 hex), as against an ETag `hex-N` whose part sizes can only be supposed.
    """

    weight: Weight
    by: str | None = None
    expected: str = ""
    actual: str = ""
    hard: bool = True


def weigh(
    *,
    manifest: Mapping[str, str],
    stated: Mapping[str, str],
    tag: Tag,
    actual: Mapping[str, str],
    multipart: str | None,
) -> Finding:
    """What all that is offered says of the bytes whose digests are `actual`.

    `multipart` is the ETag `hex-N` the bytes have under a part size that fits, or None where no
    such size is left to try. Everything that can be compared is compared: one difference outweighs
    every agreement.
    """
    for source, by in ((manifest, "manifest"), (stated, "platform-digest")):
        differs = disagreement(source, actual)
        if differs is not None:
            name, expected, found = differs
            return Finding(Weight.DIFFERS, by, f"{name} {expected}", f"{name} {found}")
    if tag.kind is TagKind.MD5 and "md5" in actual and tag.hex != actual["md5"]:
        return Finding(Weight.DIFFERS, "etag", f"md5 {tag.hex}", f"md5 {actual.get('md5')}")
    if tag.kind is TagKind.MULTIPART and multipart != tag.text:
        if not any(name in actual for name in (*manifest, *stated)):
            return Finding(
                Weight.DIFFERS, "etag", f"etag {tag.text}", f"etag {multipart}", hard=False
            )
    elif (
        tag.kind is not TagKind.OPAQUE
        and not manifest
        and (tag.kind is not TagKind.MD5 or "md5" in actual)
    ):
        return Finding(Weight.PROVED, "etag")
    if any(name in actual for name in manifest):
        return Finding(Weight.PROVED, "manifest")
    if any(name in actual for name in stated):
        return Finding(Weight.PROVED, "platform-digest")
    if tag.kind is not TagKind.OPAQUE and (
        (tag.kind is TagKind.MD5 and "md5" in actual) or multipart == tag.text
    ):
        return Finding(Weight.PROVED, "etag")
    return Finding(Weight.OPEN)
