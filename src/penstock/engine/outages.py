"""Hosts that are closed for a while: no network, or maintenance they announce. One place waits.

A host that answered in this run and then cannot be connected to, several times in a row, is
closed; so is one that says it is under maintenance. A closed host is asked by one request at a
time, at growing intervals; all others wait here, hold nothing meanwhile and lose none of their
tries. The first answer opens it. How long that may go on is the run's deadline to say.

A host that never answered is not closed: a wrong endpoint must fail, not wait. But one that a
platform names, met first while the platform's own cannot be connected to either, is as good as
known: the network is away, and says nothing of that host (`vouched`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

Origin: TypeAlias = tuple[str, str | None, int | None]

# Connections refused in a row before a host counts as closed: one may be an accident. A choice.
_IN_A_ROW = 3
_FIRST_PROBE_S = 5.0
_LONGEST_S = 300.0


@dataclass(slots=True)
class _Host:
    known: bool = False
    in_a_row: int = 0
    closed: bool = False
    since_s: float = 0.0
    interval_s: float = _FIRST_PROBE_S
    next_s: float = 0.0
    probing: bool = False
    opened: anyio.Event = field(default_factory=anyio.Event)


class Outages:
    """The hosts of one run. `tell` is given a sentence when one closes, and when it opens."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell
        self._hosts: dict[Origin, _Host] = {}

    def _host(self, origin: Origin) -> _Host:
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = _Host()
        return host

    async def passed(self, origin: Origin) -> bool:
        """Returns when the host may be asked: True for the one request that probes a closed one."""
        host = self._host(origin)
        while host.closed:
            wait_s = host.next_s - anyio.current_time()
            if not host.probing and wait_s <= 0:
                host.probing = True
                return True
            # The probe that is under way opens the host, or sets when the next one goes.
            with anyio.move_on_after(wait_s if wait_s > 0 else host.interval_s):
                await host.opened.wait()
        return False

    def answered(self, origin: Origin) -> None:
        """The host answered, whatever it said."""
        host = self._host(origin)
        host.known, host.in_a_row = True, 0
        if host.closed:
            away_s = anyio.current_time() - host.since_s
            host.closed, host.probing, host.interval_s = False, False, _FIRST_PROBE_S
            host.opened.set()
            self._tell(f"{_name(origin)} answers again, after {away_s:.0f} s; going on")

    def unreachable(self, origin: Origin, why: str) -> bool:
        """No connection was had. Whether the host has answered before, so that no try is spent."""
        host = self._host(origin)
        host.in_a_row += 1
        if host.closed or (host.known and host.in_a_row >= _IN_A_ROW):
            self._close(origin, host, why)
        return host.closed or host.known

    def is_known(self, origin: Origin) -> bool:
        """Whether the host has answered in this run, or is as good as known."""
        return self._host(origin).known

    def vouched(self, origin: Origin) -> None:
        """The host is as good as known: what cannot be reached is not it alone."""
        self._host(origin).known = True

    def is_closed(self, origin: Origin) -> bool:
        """Whether requests to the host wait."""
        return self._host(origin).closed

    def maintained(self, origin: Origin, why: str) -> None:
        """The platform says that it is closed."""
        self._close(origin, self._host(origin), why)

    def gave_up(self, origin: Origin) -> None:
        """The probe ended without an answer, or was cancelled: another request may probe."""
        host = self._hosts[origin]
        if host.closed and host.probing:
            self._later(host)

    def _close(self, origin: Origin, host: _Host, why: str) -> None:
        if not host.closed:
            host.closed, host.since_s = True, anyio.current_time()
            host.opened = anyio.Event()
            host.next_s = host.since_s + host.interval_s
            self._tell(
                f"{_name(origin)} is closed ({why}); it is asked again until it answers, and no "
                "transfer fails of it"
            )
        elif host.probing:
            self._later(host)

    def _later(self, host: _Host) -> None:
        host.probing = False
        host.interval_s = min(2 * host.interval_s, _LONGEST_S)
        host.next_s = anyio.current_time() + host.interval_s


def _name(origin: Origin) -> str:
    return origin[1] or "the host"
