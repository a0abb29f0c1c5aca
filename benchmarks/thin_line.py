"""A long thin line on loopback: 80 ms round trip, 20 MB/s a connection, each way.

It is a proxy before a server, in a process of its own: what it is sent leaves it half a round trip
later, and no connection carries more than its rate. It counts the connections that were open at
once. A connection takes a round trip to be made, as it would.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

ROUND_TRIP_S = 0.08
RATE = 20_000_000
_PIECE = 64 * 1024


class Line:
    """The line: carries each connection to the server behind it, late and at its rate each way."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._open = 0
        self.most = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            await asyncio.sleep(ROUND_TRIP_S)  # as long as it takes to be made
            inner, outer = await asyncio.open_connection("127.0.0.1", self._behind)
            await asyncio.gather(self._pass(reader, outer), self._pass(inner, writer))
        except (OSError, asyncio.CancelledError):
            pass  # Whoever hung up is asked nothing; at the end of all everybody has.
        finally:
            self._open -= 1
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each piece leaves half a round trip after it came, and after those before it."""
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        now_s = asyncio.get_running_loop().time

        async def leave() -> None:
            free_s = 0.0
            while True:
                due_s, data = await late.get()
                if not data:
                    break
                free_s = max(free_s, due_s) + len(data) / RATE
                if free_s - now_s() > 0.002:
                    await asyncio.sleep(free_s - now_s())
                with contextlib.suppress(ConnectionError):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        leaving = asyncio.ensure_future(leave())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_PIECE):
                await late.put((now_s() + ROUND_TRIP_S / 2, data))
        with contextlib.suppress(ConnectionError):
            await late.put((now_s(), b""))
            await leaving


def _serve(pipe: Connection, port: int, behind: int) -> None:
    async def serve() -> None:
        line = Line(behind)
        server = await asyncio.start_server(line.carry, "127.0.0.1", port, limit=4 * _PIECE)
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(pipe.fileno(), asked.set)
        pipe.send("ready")
        while True:
            await asked.wait()
            asked.clear()
            if pipe.poll():
                if pipe.recv() == "end":
                    break
                pipe.send(line.most)
                line.most = 0
        server.close()

    asyncio.run(serve())


@contextlib.contextmanager
def line(port: int, behind: int) -> Iterator[Connection]:
    """The proxy; what is sent to it is answered with the most connections since it was asked."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(theirs, port, behind), daemon=True)
    process.start()
    ours.recv()
    try:
        yield ours
    finally:
        ours.send("end")
        process.join(10)
