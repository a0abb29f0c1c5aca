"""Faults a test arms: which requests they hit, and what then goes wrong.

A fault is data; the host that serves a request asks `Faults.take` once for each, and carries out
what it says. The first armed fault that matches and is not used up is the one that happens.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

HostName = Literal["api", "storage"]

FaultKind = Literal[
    "status",  # answer `status` with `body` and `headers`; the request is not performed
    "drop before",  # close the connection; the request is not performed
    "drop during",  # close the connection after `after` bytes of the request's body (half of it)
    "drop after",  # perform the request, then close the connection without an answer
    "reset",  # as "truncate", but what is on its way is lost as well
    "truncate",  # close the connection after `after` bytes of the answer's body
    "overlong",  # send more bytes than there are, of no announced length
    "flip",  # flip a bit of byte `after` of the answer's body (the middle one if not given)
    "ignore range",  # answer 200 and the whole body to a Range request
    "wrong range",  # answer a Range request with a range one byte further on
    "wrong etag",  # answer with an ETag that looks like an MD5 and is another
    "encoded",  # answer with a body in gzip, which nobody asked for
    "corrupt upload",  # store a flipped bit; the ETag is that of what was stored
    "html",  # answer 200 with a page of HTML; the request is not performed
    "malformed json",  # answer 200 with JSON cut short; the request is not performed
    "missing fields",  # answer 200 with a JSON object that holds nothing; not performed
    "delay",  # wait `seconds`, then go on as usual
    "stall",  # send the headers and half of the body (or `after` bytes), then nothing more
    "trickle",  # send the body a byte every `seconds`
    "redirect",  # answer 307 (or `status`) to `url`; the request is not performed
]

_HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing to go wrong: ``Fault(kind="status", host="api", path="/complete$", status=503)``.

    host, method: any if not given.
    path: a regular expression searched for in the path, and in path and query together.
    times: how many matching requests it hits; `None` is all of them.
    skip: how many matching requests go through unharmed first.
    code: for "status", makes the body a platform error of that code.
    """

    kind: FaultKind
    host: HostName | None = None
    method: str | None = None
    path: str = ""
    times: int | None = 1
    skip: int = 0
    status: int | None = None
    code: int | None = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int | None = None
    seconds: float = 0.0
    url: str = ""

    def matches(self, host: HostName, method: str, path: str, path_and_query: str) -> bool:
        """Return whether a request is of those this fault is about."""
        return (
            self.host in (None, host)
            and self.method in (None, method)
            and bool(re.search(self.path, path) or re.search(self.path, path_and_query))
        )

    def answer(self) -> "tuple[int, dict[str, str], bytes] | None":
        """Return status, headers and body where this fault answers instead of the platform."""
        if self.kind == "status":
            status = 500 if self.status is None else self.status
            if self.code is None:
                return status, dict(self.headers), self.body
            text = {"status": status, "code": self.code, "message": "A fault", "more_info": ""}
            body = json.dumps(text).encode()
            return status, {"Content-Type": "application/json", **self.headers}, body
        if self.kind == "html":
            headers = {"Content-Type": "text/html; charset=utf-8", **self.headers}
            return self.status or 200, headers, self.body or _HTML
        if self.kind == "malformed json":
            headers = {"Content-Type": "application/json", **self.headers}
            return self.status or 200, headers, self.body or b'{"items": [{"id": "5f'
        if self.kind == "missing fields":
            return self.status or 200, {"Content-Type": "application/json", **self.headers}, b"{}"
        if self.kind == "redirect":
            return self.status or 307, {"Location": self.url, **self.headers}, b""
        return None


@dataclass
class Armed:
    """A fault in place, and how often it was seen and has happened."""

    fault: Fault
    matched: int = 0
    hits: int = 0


class Faults:
    """The faults armed on one simulator, in the order they were added.

    chance: asked about each request that no armed fault hits; what it returns happens to it.
    """

    def __init__(self) -> None:
        self.armed: list[Armed] = []
        self.chance: Callable[[HostName, str, str], Fault | None] | None = None

    def add(self, fault: Fault) -> Armed:
        """Return the fault, armed; its `hits` count how often it happened."""
        armed = Armed(fault)
        self.armed.append(armed)
        return armed

    def clear(self) -> None:
        """Disarm all."""
        self.armed.clear()

    def take(self, host: HostName, method: str, path: str, path_and_query: str) -> "Fault | None":
        """Return the fault that happens to this request, if any, and count it."""
        taken: Fault | None = None
        for armed in self.armed:
            fault = armed.fault
            if not fault.matches(host, method, path, path_and_query):
                continue
            armed.matched += 1
            spent = fault.times is not None and armed.hits >= fault.times
            if taken is None and not spent and armed.matched > fault.skip:
                armed.hits += 1
                taken = fault
        if taken is None and self.chance is not None:
            taken = self.chance(host, method, path)
        return taken
