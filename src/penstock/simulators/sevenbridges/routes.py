"""A table of routes, and which handler a method and path belong to."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from penstock.simulators.host import Call, Reply, expect_object
from penstock.simulators.sevenbridges.state import RefusedError

Action = Callable[..., Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """A method, a pattern of the path under /v2, and who answers; groups become arguments."""

    method: str
    pattern: str
    action: Action


class Router:
    """Finds the action for a call."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(route, re.compile(route.pattern)) for route in routes]

    async def answer(self, call: Call) -> Reply:
        """Return what the route's action answers.

        Raises:
            RefusedError: no such path (90003), or none with this method (90006).
        """
        path = call.path.removeprefix("/v2")
        known = False
        for route, pattern in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            known = True
            if route.method == call.method:
                return await route.action(call, *match.groups())
        if known:
            raise RefusedError(405, 90006, "Method not allowed.")
        raise RefusedError(404, 90003, "Resource not found.")


async def json_of(call: Call) -> dict[str, object]:
    """Return the JSON object of a request, empty where it has none.

    Raises:
        RefusedError: it is not JSON (90009).
    """
    try:
        return expect_object(await call.body())
    except ValueError:
        raise RefusedError(400, 90009, "The request body could not be decoded.") from None
