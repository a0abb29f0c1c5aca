"""Digests of a file that arrives in ranges: they follow its contiguous front.

The range at the front is digested as its bytes are written, from the buffer they came in. A range
that arrived ahead of it is digested from the page cache, where it was just written. Nothing is
read twice from the disk. A range that is fetched again is digested again, from its start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio

from penstock.core.errors import TransferError
from penstock.core.model import MIB, Part
from penstock.core.plan import MOST_AHEAD
from penstock.engine import files
from penstock.engine.files import hop

_DIGEST_AT_ONCE = 8 * MIB


@dataclass(slots=True)
class _Mark:
    """How things stood at the start of the range at the front."""

    position: int
    whole: files.Digests
    block: Any
    blocks: int


class Front:
    """Digests of a file's contiguous front, as ranges arrive.

    `block_md5s` are the MD5s of its blocks, for an ETag `hex-N`.
    """

    def __init__(
        self, path: str, size: int, part_size: int, names: set[str], block: int | None
    ) -> None:
        self._path = path
        self._size = size
        self._part_size = part_size
        self._whole = files.Digests(names)
        self.block = block
        self._block_digest = files.new_digest("md5")
        self.block_md5s: list[str] = []
        self._arrived: set[int] = set()
        self._position = 0
        self._mark: _Mark | None = None
        self._moved = anyio.Event()

    def beside(self, part: Part) -> files.Beside:
        """What digests a range's bytes as they are written, if it is the one at the front.

        Called in the one thread that writes the range. The front is that thread's until the range
        has arrived, for `follow` goes no further than ranges that have.
        """

        def look(offset: int, data: bytes | memoryview) -> None:
            if offset == part.offset:
                self._begin(part)
            if offset == self._position and self._mark is not None:
                self._take(data, offset)
                self._position += len(data)

        return look

    def _begin(self, part: Part) -> None:
        """The range begins, anew perhaps: what was digested of it before is taken back."""
        mark = self._mark
        if self._position == part.offset:
            self._mark = _Mark(
                part.offset, self._whole.copy(), self._block_digest.copy(), len(self.block_md5s)
            )
        elif mark is not None and mark.position == part.offset:
            self._position, self._whole = mark.position, mark.whole.copy()
            self._block_digest = mark.block.copy()
            del self.block_md5s[mark.blocks :]

    def arrived(self, number: int) -> None:
        """A range's bytes are on the disk."""
        self._arrived.add(number)
        self._stir()

    async def near(self, offset: int) -> None:
        """Waits until `offset` is not too far ahead of what is digested."""
        while offset >= self._position + MOST_AHEAD:
            await self._moved.wait()

    async def follow(self) -> None:
        """Returns when the whole file is digested."""
        while self._position < self._size:
            number = self._position // self._part_size + 1
            if number not in self._arrived:
                await self._moved.wait()
                continue
            self._mark = None
            end = min(number * self._part_size, self._size)
            length = min(_DIGEST_AT_ONCE, end - self._position)
            await hop(self._digest, self._position, length)
            self._position += length
            self._stir()
        if self.block is not None and len(self.block_md5s) < -(-self._size // self.block):
            self.block_md5s.append(self._block_digest.hexdigest())

    def digests(self) -> dict[str, str]:
        """Digests of the whole file, in hex."""
        return self._whole.hex()

    def _stir(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    def _digest(self, offset: int, length: int) -> None:
        with files.opened(self._path) as descriptor:
            for data in files.read_through(descriptor, offset, length):
                self._take(data, offset)
                offset += len(data)
                length -= len(data)
        if length:
            raise TransferError(f"{self._path} was made shorter by another program")

    def _take(self, data: bytes | memoryview, offset: int) -> None:
        self._whole.update(data)
        self._digest_block(data, offset)

    def _digest_block(self, data: bytes | memoryview, offset: int) -> None:
        if self.block is None:
            return
        view = memoryview(data)
        while view:
            room = self.block - offset % self.block
            piece = view[:room]
            self._block_digest.update(piece)
            offset += len(piece)
            view = view[room:]
            if offset % self.block == 0:
                self.block_md5s.append(self._block_digest.hexdigest())
                self._block_digest = files.new_digest("md5")
