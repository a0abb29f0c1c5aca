"""Running digests over a file's bytes, by name, and which of them a body is to be given.

Those `hashlib` has, CRC32C as Google's storage states it, and BLAKE3. Nothing here opens a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Set
from typing import Any

import blake3

from penstock.core.model import Headers
from penstock.core.proof import TagKind, promised_digests, read_tag

# What Google's storage states of every object, of composed ones alone.
CRC32C = "crc32c"
BLAKE3 = "blake3"
# Among the digests asked for: and those the answer's head states, to be held against the bytes.
STATED = "stated"


class Digests:
    """Running digests over the bytes that pass, in order."""

    def __init__(self, names: Iterable[str]) -> None:
        self._running = {name: new_digest(name) for name in sorted(names)}

    def __bool__(self) -> bool:
        return bool(self._running)

    def copy(self) -> Digests:
        """Digests of the same bytes, which go their own way from here."""
        twin = Digests(())
        twin._running = {name: running.copy() for name, running in self._running.items()}
        return twin

    def update(self, data: bytes | memoryview) -> None:
        """The digests include `data` from now on."""
        for running in self._running.values():
            running.update(data)

    def hex(self) -> dict[str, str]:
        """Each digest so far, in hex, by name."""
        return {name: running.hexdigest() for name, running in self._running.items()}


class _Crc32c:
    """CRC32C with the face of a `hashlib` digest."""

    digest_size = 4

    def __init__(self, running: Any = None) -> None:  # noqa: ANN401 - the library has no types
        if running is None:
            import google_crc32c  # noqa: PLC0415 - few storages have one

            running = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
        self._running: Any = running

    def copy(self) -> _Crc32c:
        """A running digest of the same bytes."""
        return _Crc32c(self._running.copy())

    def update(self, data: bytes | memoryview) -> None:
        self._running.update(bytes(data))

    def hexdigest(self) -> str:
        hex_digits: bytes = self._running.hexdigest()
        return hex_digits.decode()


def can_digest(name: str) -> bool:
    """Whether a digest of that name can be taken here."""
    return name in {CRC32C, BLAKE3} or name in hashlib.algorithms_available


def new_digest(name: str) -> Any:  # noqa: ANN401 - hashlib's type has no public name
    """A running digest by its `hashlib` name, 'crc32c' or 'blake3'. ValueError for another."""
    if name == BLAKE3:
        return blake3.blake3()
    return _Crc32c() if name == CRC32C else hashlib.new(name, usedforsecurity=False)


def stated_too(names: Set[str], head: Headers) -> set[str]:
    """The digests to take of a body with this head; MD5 where there would be none."""
    if STATED not in names:
        return set(names)
    taken = set(names) - {STATED}
    taken |= {name for name in promised_digests(head) if can_digest(name)}
    if not taken or read_tag(head).kind is TagKind.MD5:
        taken.add("md5")
    return taken
