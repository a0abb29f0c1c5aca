"""Flows that begin again where an answer made no sense: a page of HTML, JSON cut short, no fields.

Only the flow can tell that an answer lacks what it needs, and a flow that has raised is over. So
every flow of a platform is made by one of these, which makes it anew: a few times, and only while
nothing was asked of which a lost answer has to be asked about. The first request of another try
says that it is one (`Request.again`), and the exchange pauses before it is sent.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from penstock.core.errors import AnswerUnusable, Effect, PenstockError
from penstock.core.model import Flow, Repeat

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type[Any])

# Times a flow is begun in all. A choice: with the pauses between them, some seconds of nonsense.
BEGINNINGS = 4


def begins_again(make: Callable[P, Flow[T]]) -> Callable[P, Flow[T]]:
    """What `make` makes, begun again where an answer made no sense.

    An error that the exchange threw has had its tries and is passed on. An `AnswerUnusable` thrown
    at the first request of another try ends them: there shall be none.
    """

    @functools.wraps(make)
    def flow(*args: P.args, **kwargs: P.kwargs) -> Flow[T]:
        failed: AnswerUnusable | None = None
        for again in range(BEGINNINGS):
            inner, safe, thrown = make(*args, **kwargs), True, None
            try:
                request = next(inner)
                if again:
                    request = replace(request, again=again)
                while True:
                    safe = safe and request.repeat is Repeat.SAFE
                    try:
                        response = yield request
                    except PenstockError as error:
                        if request.again and isinstance(error, AnswerUnusable):
                            # It is not asked again: what it was to be asked for is what matters.
                            raise failed or error from None
                        thrown = error
                        request = inner.throw(error)
                    else:
                        request = inner.send(response)
            except StopIteration as stop:
                result: T = stop.value
                return result
            except AnswerUnusable as error:
                if (
                    error is thrown
                    or error is failed
                    or not safe
                    or error.effect is not Effect.RETRY
                ):
                    raise
                failed = error
                if again == BEGINNINGS - 1:
                    told = AnswerUnusable(f"{error} (asked {BEGINNINGS} times)")
                    # A flow that this one is part of does not begin again because of it.
                    told.effect = Effect.FAIL_TRANSFER
                    raise told from error
            finally:
                inner.close()
        raise AssertionError("the last beginning returns or raises")

    return flow


def all_begin_again(platform: C) -> C:
    """The class, its public flows beginning again where an answer made no sense."""
    for name in dir(platform):
        made = inspect.getattr_static(platform, name)
        if not name.startswith("_") and inspect.isgeneratorfunction(made):
            setattr(platform, name, begins_again(made))
    return platform
