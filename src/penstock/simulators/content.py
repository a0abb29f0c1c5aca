"""What simulated files hold: bytes, zeros nobody stores, parts on disk, or only a digest.

A simulator must serve and accept files larger than memory, so contents are read by offset and
length and never whole. Disk is read and written without threads: with a virtual clock a loop that
waits for a thread has nothing ready, and would jump ahead in time.
"""

import hashlib
import itertools
import tempfile
import weakref
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal

KeepBodies = Literal["auto", "memory", "disk", "discard"]

STEP = 256 * 1024
_KEPT_IN_MEMORY = 1024 * 1024


class BodyDiscardedError(Exception):
    """Bytes were asked for that a simulator told to discard bodies no longer has."""


class Content(ABC):
    """The bytes of one file or part: a size, and reads by position."""

    size: int

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of ``[offset, offset + length)``, fewer where the content ends."""

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return the bytes of a range in order, at most `STEP` at a time."""
        end = self.size if length is None else min(self.size, offset + length)
        while offset < end:
            piece = self.read(offset, min(STEP, end - offset))
            yield piece
            offset += len(piece)

    def md5(self, offset: int = 0, length: int | None = None) -> str:
        """Return the MD5 of a range, as hex."""
        digest = hashlib.md5()
        for piece in self.pieces(offset, length):
            digest.update(piece)
        return digest.hexdigest()


class Bytes(Content):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        """Return a slice."""
        return self._data[offset : offset + length]


class Zeros(Content):
    """As many zero bytes as wanted, stored nowhere."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Return zeros."""
        return bytes(max(0, min(length, self.size - offset)))

    def md5(self, offset: int = 0, length: int | None = None) -> str:
        """Return the MD5 of that many zeros, computed once per length."""
        rest = self.size - offset
        return _md5_of_zeros(max(0, rest if length is None else min(length, rest)))


@lru_cache(maxsize=256)
def _md5_of_zeros(size: int) -> str:
    digest = hashlib.md5()
    step = bytes(1024 * 1024)
    for _ in range(size // len(step)):
        digest.update(step)
    digest.update(bytes(size % len(step)))
    return digest.hexdigest()


class Spooled(Content):
    """A file on disk, removed when nothing refers to it any longer."""

    def __init__(self, path: Path, size: int, md5: str) -> None:
        self.size = size
        self._path = path
        self._md5 = md5
        weakref.finalize(self, path.unlink, missing_ok=True)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes from the disk."""
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def md5(self, offset: int = 0, length: int | None = None) -> str:
        """Return the digest known from the intake, or compute that of a range."""
        if offset == 0 and (length is None or length >= self.size):
            return self._md5
        return super().md5(offset, length)


class Discarded(Content):
    """A body of which only size and MD5 were kept."""

    def __init__(self, size: int, md5: str) -> None:
        self.size = size
        self._md5 = md5

    def read(self, offset: int, length: int) -> bytes:
        """Refuse, unless nothing is asked for.

        Raises:
            BodyDiscardedError: the bytes are gone.
        """
        if length <= 0 or offset >= self.size:
            return b""
        raise BodyDiscardedError("this simulator was told to discard what is uploaded")

    def md5(self, offset: int = 0, length: int | None = None) -> str:
        """Return the digest known from the intake; no range has one."""
        if offset == 0 and (length is None or length >= self.size):
            return self._md5
        return super().md5(offset, length)


class Joined(Content):
    """Several contents, one after another."""

    def __init__(self, parts: Sequence[Content]) -> None:
        self.parts = tuple(part for part in parts if part.size)
        self._ends = list(itertools.accumulate(part.size for part in self.parts))
        self.size = self._ends[-1] if self._ends else 0

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the part that holds the offset, and of those after it."""
        got = bytearray()
        position = bisect_right(self._ends, offset)
        while length > 0 and position < len(self.parts):
            part = self.parts[position]
            piece = part.read(offset - (self._ends[position] - part.size), length)
            got += piece
            offset += len(piece)
            length -= len(piece)
            position = bisect_right(self._ends, offset)
        return bytes(got)


def content_of(data: "bytes | Content") -> Content:
    """Return bytes as a content; a content as it is."""
    return data if isinstance(data, Content) else Bytes(data)


def multipart_etag(digests: Sequence[str]) -> str:
    """Return ``hex-N``: the MD5 of the parts' MD5s, and how many.

    Source: AWS S3 User Guide, "Checking object integrity" (multipart uploads and ETags).
    """
    joined = b"".join(bytes.fromhex(digest) for digest in digests)
    return f"{hashlib.md5(joined).hexdigest()}-{len(digests)}"


def digests_of_parts(content: Content, part_size: int) -> list[str]:
    """Return the MD5 of each part, in order; one of an empty part for an empty content."""
    return [content.md5(offset, part_size) for offset in range(0, max(content.size, 1), part_size)]


class Bodies:
    """Where uploaded bodies are kept; `close` removes what is on disk."""

    def __init__(self, keep: KeepBodies) -> None:
        self.keep = keep
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._names = itertools.count(1)

    def intake(self, *, corrupt: bool = False) -> "Intake":
        """Return an empty body to be written to.

        corrupt: flip a bit of its first byte, as a broken storage would.
        """
        return Intake(self, corrupt=corrupt)

    def new_path(self) -> Path:
        """Return the path of a file not yet there."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="penstock-simulator-")
        return Path(self._folder.name, str(next(self._names)))

    def close(self) -> None:
        """Remove every body on disk."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class Intake:
    """One body as it arrives: digested, and kept as `Bodies` says."""

    def __init__(self, bodies: Bodies, *, corrupt: bool) -> None:
        self._bodies = bodies
        self._corrupt = corrupt
        self._digest = hashlib.md5()
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._corrupt and self.size == 0 and piece:
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        self._digest.update(piece)
        self.size += len(piece)
        keep = self._bodies.keep
        if keep == "discard":
            return
        if self._file is not None:
            self._file.write(piece)
            return
        self._memory += piece
        if keep == "disk" or (keep == "auto" and self.size > _KEPT_IN_MEMORY):
            self._path = self._bodies.new_path()
            self._file = self._path.open("wb")
            self._file.write(self._memory)
            self._memory.clear()

    def finish(self) -> Content:
        """Return what arrived as a content."""
        md5 = self._digest.hexdigest()
        if self._bodies.keep == "discard":
            return Discarded(self.size, md5)
        if self._file is None or self._path is None:
            return Bytes(bytes(self._memory))
        self._file.close()
        return Spooled(self._path, self.size, md5)

    def abandon(self) -> None:
        """Forget what arrived."""
        self._memory.clear()
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
