"""Digests of a file that arrives in ranges: they follow its contiguous front.

The range at the front is digested as its bytes are written, from the buffer they came in. A range
that arrived ahead of it is digested from the page cache, where it was just written. Nothing is
read twice from the disk. A range that is fetched again is digested again, from its start.

What the front is known by at a range's end is the range's proof on resume, so that bytes which
came in order are digested once. A range that came ahead of the front is known by its own BLAKE3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anyio

from penstock.core.errors import TransferError
from penstock.core.model import KIB, MIB, Part, Receipt
from penstock.core.plan import MOST_AHEAD
from penstock.engine import files
from penstock.engine.digests import BLAKE3, Digests, new_digest
from penstock.engine.files import hop
from penstock.engine.machine import CORES

_DIGEST_AT_ONCE = 8 * MIB
# Digesting this takes several times what handing it to another thread does.
_WORTH_A_TURN = 512 * KIB

# What a front may be known by, the strongest first. A checksum is none of them.
_KNOWN_BY = ("sha512", "sha384", "sha256", "blake3", "sha1", "md5")


@dataclass(slots=True)
class _Mark:
    """How things stood at the start of the range at the front."""

    position: int
    whole: Digests
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
        self._whole = Digests(names)
        self.block = block
        self._block_digest = new_digest("md5")
        self.block_md5s: list[str] = []
        self._arrived: set[int] = set()
        self._position = 0
        self._mark: _Mark | None = None
        self._known_by = next((name for name in _KNOWN_BY if name in names), None)
        self._proofs: dict[int, tuple[str | None, str | None]] = {}
        self._moved = anyio.Event()
        # Where there is a core for it, blocks are digested while the whole is: two MD5s of the
        # same bytes are most of what a file costs whose ETag is of parts. Its thread ends with it.
        self._twin: ThreadPoolExecutor | None = None
        if block is not None and CORES > 1:
            self._twin = ThreadPoolExecutor(1, "penstock-blocks")

    def beside(self, part: Part) -> Callable[[int, bytes | memoryview], None]:
        """What digests a range's bytes as they pass, if it is the one at the front.

        Called with its bytes in order, by one thread at a time. The front is that thread's until
        the range has arrived, for `follow` goes no further than ranges that have.
        """
        own: Any = None
        is_front, end = False, part.offset + part.length

        def look(offset: int, data: bytes | memoryview) -> None:
            nonlocal own, is_front
            if offset == part.offset:
                is_front = self._begin(part)
                own = None if is_front and self._known_by else new_digest(BLAKE3)
            is_last, front = offset + len(data) == end, None
            if own is not None:
                own.update(data)
            if is_front and offset == self._position:
                self._take(data, offset)
                if is_last and own is None:
                    front = self._front()
                # From here on the front may be the next range's thread's.
                self._position += len(data)
            if is_last:
                blake3 = own.hexdigest() if own is not None else None
                self._proofs[part.number] = blake3, front

        return look

    async def proof(self, part: Part) -> tuple[str | None, str | None]:
        """The `blake3` and the `front` of a range that came; one of them is None."""
        blake3, front = self._proofs.pop(part.number)
        if blake3 is None and front is None:
            # What passed does not tell it.
            told = await hop(files.digest_slice, self._path, part.offset, part.length, (BLAKE3,))
            blake3 = told[BLAKE3]
        return blake3, front

    def proves(self, receipt: Receipt) -> bool:
        """Whether the bytes of a receipt are on the disk; those at the front are digested so.

        Asked in part order, before anything else arrives. What stands behind a range that is not
        there cannot be known by its front. Blocks.
        """
        is_front = receipt.offset == self._position
        if receipt.front is not None and not is_front:
            return False
        name = BLAKE3 if receipt.blake3 else "md5"
        own = Digests(() if receipt.front else (name,))
        before, offset = self._marked(), receipt.offset
        with files.opened(self._path) as descriptor:
            for data in files.read_through(descriptor, offset, receipt.length):
                own.update(data)
                if is_front:
                    self._take(data, offset)
                offset += len(data)
        holds = offset == receipt.offset + receipt.length and (
            self._whole.hex().get(receipt.front.partition(":")[0])
            == receipt.front.partition(":")[2]
            if receipt.front
            else own.hex()[name] == (receipt.blake3 or receipt.md5)
        )
        if is_front and holds:
            self._position = offset
        elif is_front:
            self._return_to(before)
        return holds

    def _front(self) -> str:
        """What the front is known by as it stands."""
        assert self._known_by is not None
        return f"{self._known_by}:{self._whole.hex()[self._known_by]}"

    def _begin(self, part: Part) -> bool:
        """Whether the range that begins, anew perhaps, is at the front.

        What was digested of it before is taken back.
        """
        mark = self._mark
        if self._position == part.offset:
            self._mark = self._marked()
        elif mark is not None and mark.position == part.offset:
            self._return_to(mark)
        else:
            return False
        return True

    def _marked(self) -> _Mark:
        return _Mark(
            self._position, self._whole.copy(), self._block_digest.copy(), len(self.block_md5s)
        )

    def _return_to(self, mark: _Mark) -> None:
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
        if self._twin is None or len(data) < _WORTH_A_TURN:
            self._whole.update(data)
            self._digest_block(data, offset)
            return
        beside = self._twin.submit(self._digest_block, data, offset)
        try:
            self._whole.update(data)
        finally:
            beside.result()

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
                self._block_digest = new_digest("md5")


def known_by(receipts: Iterable[Receipt]) -> set[str]:
    """The digests that a file's front is needed of for its receipts to be held against."""
    names = {receipt.front.partition(":")[0] for receipt in receipts if receipt.front}
    return names & set(_KNOWN_BY)
