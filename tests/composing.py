"""What the engine's tests share: a server that says exactly what it is told, and the engine itself.

The raw server writes bytes, so that it can break every promise HTTP makes. `compose` puts
transport, limiter and exchange together as `penstock.session` does, without waiting between tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from penstock.config import Token
from penstock.engine.clock import Clock
from penstock.engine.exchange import Credentials, Exchange
from penstock.engine.limiter import Limiter
from penstock.engine.permits import Permits
from penstock.engine.slots import MemorySlotStore
from penstock.engine.transport import Transport
from penstock.platforms.sevenbridges import SevenBridges as Platform
from penstock.simulators import SevenBridges, SevenBridgesSettings

Connection: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer: TypeAlias = bytes | Connection


@dataclass
class Asked:
    """One request as it came in."""

    head: str
    body: bytes

    @property
    def line(self) -> str:
        return self.head.partition("\r\n")[0]

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


@dataclass
class RawServer:
    """Answers requests in order, the last answer for ever; counts and keeps what came."""

    answers: list[Answer]
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while not writer.is_closing():
                    await self._one(reader, writer)
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        asked = Asked(head, b"")
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(asked)
        if not isinstance(answer, bytes):
            await answer(reader, writer)
            writer.close()
            return
        asked.body = await reader.readexactly(int(asked.header("Content-Length") or 0))
        writer.write(answer)
        await writer.drain()
        if b"connection: close" in answer.lower():
            writer.close()


Raw: TypeAlias = Callable[..., Awaitable[RawServer]]


@dataclass
class World:
    """The engine's lower half over a simulated platform."""

    sim: SevenBridges
    platform: Platform
    exchange: Exchange
    limiter: Limiter
    transport: Transport
    credentials: Credentials
    permits: Permits
    clock: Clock


Compose: TypeAlias = Callable[..., AbstractAsyncContextManager[World]]


@asynccontextmanager
async def composed(
    sim: SevenBridges | None = None,
    *,
    tries: int = 3,
    token: str | None = None,
    reread: Callable[[], Awaitable[Token | None]] | None = None,
    stall_timeout_s: float = 5.0,
    permits: int = 4,
    pause: Callable[[int], float] = lambda _: 0.0,
    quota: int = 1000,
    window_s: float = 300.0,
    **settings: Any,  # noqa: ANN401 - the settings' fields
) -> AsyncIterator[World]:
    if sim is None:
        async with SevenBridges(SevenBridgesSettings(smallest_part=1, **settings)) as own:  # noqa: SIM117 - the inner is called, not entered beside
            async with composed(
                own,
                tries=tries,
                token=token,
                reread=reread,
                stall_timeout_s=stall_timeout_s,
                permits=permits,
                pause=pause,
                quota=quota,
                window_s=window_s,
            ) as world:
                yield world
        return

    async def none() -> Token | None:
        return None

    platform, clock = Platform(sim.endpoint), Clock.running()
    held = Token(token or sim.token)
    bodies = Permits.fixed(permits)
    async with (
        Transport(stall_timeout_s=stall_timeout_s) as transport,
        Limiter(
            key="k",
            quota=quota,
            window_s=window_s,
            store=MemorySlotStore(),
            clock=clock,
            token=held.fingerprint(),
        ) as limiter,
    ):
        credentials = Credentials("sim", held, reread or none)
        exchange = Exchange(
            platform,
            credentials=credentials,
            limiter=limiter,
            transport=transport,
            permits=bodies,
            clock=clock,
            tries=tries,
            pause=pause,
        )
        yield World(sim, platform, exchange, limiter, transport, credentials, bodies, clock)
