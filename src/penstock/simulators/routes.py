"""A table of routes, and which handler a method and path belong to. Knows no platform."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from penstock.simulators.host import Call, Reply

Action = Callable[..., Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """A method, a pattern of the path below the API's root, and who answers.

    The pattern's groups become arguments.
    """

    method: str
    pattern: str
    action: Action


class UnroutedError(Exception):
    """No route leads there. known: the path is one, with another method."""

    def __init__(self, *, known: bool) -> None:
        super().__init__("method not allowed" if known else "no such path")
        self.known = known


class Router:
    """Finds the action for a call.

    base: the API's root, taken off the front of a path.
    raw: patterns are matched against the path as it was sent, percent-encoded.
    """

    def __init__(self, routes: Sequence[Route], *, base: str, raw: bool = False) -> None:
        self._routes = [(route, re.compile(route.pattern)) for route in routes]
        self._base = base
        self._raw = raw

    async def answer(self, call: Call) -> Reply:
        """Return what the first route that fits answers.

        Raises:
            UnroutedError: none does.
        """
        path = (call.raw_path if self._raw else call.path).removeprefix(self._base)
        known = False
        for route, pattern in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            known = True
            if route.method == call.method:
                return await route.action(call, *match.groups())
        raise UnroutedError(known=known)
