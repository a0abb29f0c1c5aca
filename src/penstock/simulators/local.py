"""What the local platforms have in common: one API host, its log, its faults, its life.

A platform says what its gate lets pass, how it answers and, where it has them, which headers it
adds and what else it serves; the rest is here once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

from penstock.simulators.faults import Faults
from penstock.simulators.host import Call, Exchange, Host, Reply


class LocalPlatform(ABC):
    """A platform on loopback; an async context manager.

    token: one that is good. base: what all paths of the API begin with.
    log: every exchange, in order. faults: what is to go wrong.
    on_request: called with each API request before it is handled, so that a test can change what
        is there between two pages.
    """

    def __init__(self, token: str, base: str, *, clock: Callable[[], float], port: int) -> None:
        self.token = token
        self.log: list[Exchange] = []
        self.faults = Faults()
        self.on_request: Callable[[web.Request], None] | None = None
        self._base = base
        self._port = port
        self._host = Host(
            "api",
            handler=self._answer,
            gate=self._enter,
            clock=clock,
            faults=self.faults,
            log=self.log,
            decorate=self._headers,
        )

    async def __aenter__(self) -> Self:
        await self._open()
        await self._host.start(self._port)
        self._serving()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._host.stop()
        await self._close()

    @property
    def endpoint(self) -> str:
        """The base of all calls."""
        return f"{self._host.url}{self._base}"

    def calls(self, method: str | None = None, path: str = "") -> list[Exchange]:
        """Return the counted API calls, of one method and with this in the path if given."""
        return [
            each
            for each in self.log
            if each.counted and method in (None, each.method) and path in each.path
        ]

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Return what a person needs to use it, by name, in order."""

    def _set_pace(self, *, clock_skew_s: float, latency_s: float) -> None:
        self._host.clock_skew_s = clock_skew_s
        self._host.latency_s = latency_s

    def _enter(self, call: Call) -> Reply | None:
        if self.on_request is not None:
            self.on_request(call.request)
        return self._gate(call)

    @abstractmethod
    def _gate(self, call: Call) -> Reply | None:
        """Return the answer to what is not let in: no token, no quota left, maintenance."""

    @abstractmethod
    async def _answer(self, call: Call) -> Reply:
        """Return the answer to what was let in."""

    def _headers(self, _call: Call, _reply: Reply) -> Mapping[str, str]:
        """Return what is added to an answer's headers."""
        return {}

    async def _open(self) -> None:  # noqa: B027 - most need none
        """Start what is served beside the API."""

    def _serving(self) -> None:  # noqa: B027 - most need none
        """Note what is only known while the API is served: its port."""

    async def _close(self) -> None:  # noqa: B027 - most need none
        """Stop what is served beside the API."""
