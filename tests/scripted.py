"""Plays a flow against a script: what must be asked, line by line, and what comes back.

The rules are the exchange's, without its waiting: an answer that is not accepted becomes what the
platform's `refusal` says, `retry.decide` says whether the same request is sent again (the script's
next line must then expect it again), and only exchange errors reach the flow. A script that is
longer than the flow, or shorter, fails the test.
"""

import json as jsonlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    ExchangeError,
    PenstockError,
    RemoteChanged,
    TokenRefused,
)
from penstock.core.model import Auth, AuthKind, Flow, Headers, Rank, Repeat, Request, Response
from penstock.core.retry import Verdict, decide

T = TypeVar("T")

Refusal: TypeAlias = Callable[[Request, Response], ExchangeError]


@dataclass(frozen=True)
class Asked:
    """What a request must be. None: not looked at."""

    method: str
    path: str
    host: str | None = None
    query: Mapping[str, str] | None = None
    without: frozenset[str] = frozenset()
    json: Any = None
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] | None = None
    cost: int | None = None
    auth: Auth | None = None
    repeat: Repeat | None = None
    accept: frozenset[int] | None = None
    rank: Rank | None = None

    def check(self, request: Request) -> None:
        """Raises `AssertionError` where the request is another one."""
        url = urlsplit(request.url)
        asked = dict(parse_qsl(url.query, keep_blank_values=True))
        wrong = []

        def differs(what: str, wanted: object, found: object) -> None:
            if wanted is not None and wanted != found:
                wrong.append(f"{what} is {found!r}, not {wanted!r}")

        differs("method", self.method, request.method)
        differs("path", self.path, url.path)
        differs("host", self.host, url.hostname)
        for name, value in (self.query or {}).items():
            differs(f"query {name}", value, asked.get(name))
        wrong.extend(f"query has {name!r}" for name in self.without & asked.keys())
        if self.json is not None:
            differs("body", self.json, jsonlib.loads(_bytes(request)))
        if self.body is not None:
            differs("body", self.body, _bytes(request))
        differs("headers", self.headers, request.headers)
        differs("cost", self.cost, request.cost)
        differs("auth", self.auth, request.auth)
        differs("repeat", self.repeat, request.repeat)
        differs("accept", self.accept, request.accept)
        differs("rank", self.rank, request.rank)
        assert not wrong, f"{request!r}: {'; '.join(wrong)}"


@dataclass(frozen=True)
class LastTry:
    """What came of the last try the exchange gives a request: it is thrown, not tried again."""

    came: Response | PenstockError


Line: TypeAlias = tuple[Asked, Response | PenstockError | LastTry]


def answer(
    json: object = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    md5: str | None = None,
) -> Response:
    """A response with a JSON body, or with `body`; `md5` is that of the file bytes that passed."""
    return Response(
        status,
        Headers(headers or {}),
        jsonlib.dumps(json).encode() if json is not None else body,
        {"md5": md5} if md5 is not None else {},
    )


def no_refusal(request: Request, response: Response) -> ExchangeError:
    """For scripts in which everything is accepted."""
    raise AssertionError(f"{request!r} does not accept {response.status}")


def play(
    flow: Flow[T],
    script: Sequence[Line],
    *,
    refusal: Refusal = no_refusal,
    endpoint: str | None = None,
) -> T:
    """What the flow returns, or what it raises, once the script is played to its end.

    With `endpoint`, a request that carries the platform's credential must go to its host.
    """
    lines = iter(script)
    try:
        request = next(flow)
        while True:
            try:
                if request.again:  # once is enough to see what it makes of an answer
                    raise AnswerUnusable("it is not asked again")
                response = _accepted(request, lines, refusal, endpoint)
            except (ExchangeError, RemoteChanged) as error:
                request = flow.throw(error)
            else:
                request = flow.send(response)
    except StopIteration as stop:
        _played(lines)
        result: T = stop.value
        return result
    except PenstockError:
        _played(lines)
        raise
    finally:
        flow.close()


def _accepted(
    request: Request, lines: Iterator[Line], refusal: Refusal, endpoint: str | None
) -> Response:
    copy = pickle.loads(pickle.dumps(request))  # noqa: S301 - our own
    assert copy == request
    if endpoint is not None and request.auth.kind is AuthKind.PLATFORM:
        assert _origin(request.url) == _origin(endpoint), "a token for another host"
    while True:
        asked, came = next(lines, (None, None))
        assert asked is not None, f"{request!r} is not in the script"
        assert came is not None
        asked.check(request)
        last = isinstance(came, LastTry)
        try:
            return _judged(request, came.came if isinstance(came, LastTry) else came, refusal)
        except PenstockError as error:
            verdict = decide(error, request)
            if verdict is Verdict.THROW_LOST:
                raise AnswerLost(f"{error} (whether it was done is not known)") from error
            if verdict is Verdict.THROW or last:
                raise


def _judged(request: Request, came: Response | PenstockError, refusal: Refusal) -> Response:
    if isinstance(came, PenstockError):
        raise came
    if came.status in request.accept:
        return came
    error = refusal(request, came)
    if request.auth.kind is AuthKind.PLATFORM and came.status == 401:
        raise TokenRefused(str(error))
    raise error


def _played(lines: Iterator[Line]) -> None:
    left = [f"{asked.method} {asked.path}" for asked, _ in lines]
    assert not left, f"the flow ended before it asked {left}"


def _bytes(request: Request) -> bytes:
    assert all(isinstance(piece, bytes) for piece in request.body), "the body is from a file"
    return b"".join(piece for piece in request.body if isinstance(piece, bytes))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
