"""A range that comes in several sends: each asks for what is missing, from where the last stood.

A line that breaks every minute, or stalls, would else never bring a range that takes longer. What
came is only kept where the storage named the file's state (an ETag or a date) with it: the rest is
asked for on that condition, so that no mix of two states is ever taken for a file. What an answer
that broke its own promise brought is never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from penstock.core.errors import AnswerUnusable, PenstockError, RemoteChanged
from penstock.core.model import MIB, FileSlice, Head, Request, Response
from penstock.engine.files import Beside
from penstock.engine.passing import Landed

# A send that brought this much has got on: it costs none of the request's tries. A choice.
GOT_ON = MIB


class Coming:
    """One request and what of its body is there. For a request without a range it is the request.

    `progress` is told of what is dropped again. What stands by the word of `beside` is never
    dropped: it is asked for by this request only because what follows it was.
    """

    def __init__(
        self, request: Request, progress: Callable[[int], None], beside: Beside | None = None
    ) -> None:
        self.whole = request
        self._progress = progress
        self._beside = beside if not request.digests else None
        ranged = request.sink is not None and request.head is not None
        ranged = ranged and any(name.lower() == "range" for name, _ in request.headers)
        self.landed = Landed() if ranged else None
        self._before = 0
        self._is_continued = False

    def rest(self) -> Request:
        """What is still to be asked for."""
        landed, head, sink = self.landed, self.whole.head, self.whole.sink
        self._before, self._is_continued = self.size, False
        if landed is None or head is None or sink is None or not landed.size:
            return self.whole
        first, left = head.offset + landed.size, head.length - landed.size
        validator, dropped = head.validator, {"range"}
        headers = [("Range", f"bytes={first}-{head.offset + head.length - 1}")]
        if landed.validator is not None:
            self._is_continued = True
            validator = landed.validator
            dropped.add("if-range")
            if not validator.startswith("W/"):
                headers.append(("If-Range", validator))
        kept = [field for field in self.whole.headers if field[0].lower() not in dropped]
        return replace(
            self.whole,
            headers=(*kept, *headers),
            sink=FileSlice(sink.path, sink.offset + landed.size, left),
            head=Head(first, left, head.total, validator),
        )

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.landed.size if self.landed is not None else 0

    @property
    def gained(self) -> int:
        """Bytes the last send brought that are kept."""
        return self.size - self._before

    def broke(self, error: PenstockError) -> bool:
        """After a send failed: whether the range must be asked for anew because it was continued.

        What is not to be kept is dropped.
        """
        continued, landed = self._is_continued, self.landed
        if landed is None:
            return False
        spoilt = isinstance(error, AnswerUnusable | RemoteChanged)
        if spoilt or landed.validator is None:
            self.drop()
        if isinstance(error, RemoteChanged):
            return continued and self.whole.head is not None and self.whole.head.validator is None
        return continued and spoilt

    def drop(self) -> None:
        """Nothing of the body counts any more, but for what stands."""
        if self.landed is None:
            return
        stands = self._stands
        if self.landed.size > stands:
            self._progress(stands - self.landed.size)
        self.landed = Landed(stands)

    @property
    def _stands(self) -> int:
        head = self.whole.head
        if self._beside is None or head is None:
            return 0
        return max(self._beside.stood - head.offset, 0)

    def ended(self, response: Response) -> Response:
        """The answer to the whole request."""
        if self._before and self.landed is not None:
            return replace(response, received=self.landed.size)
        return response
