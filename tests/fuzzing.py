"""What foreign input may look like: nonsense, and what is nearly right.

Nearly right is what finds faults. So names of fields and header fields are those the code reads:
they are taken from its own text.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from hypothesis import strategies as st

from penstock.core.errors import AnswerLost, ExchangeError, LeaseExpired, PenstockError
from penstock.core.model import (
    FileSlice,
    Flow,
    Headers,
    Lease,
    Origin,
    Part,
    Place,
    Receipt,
    RemoteFile,
    Repeat,
    Request,
    Response,
    Target,
    Upload,
)
from penstock.platforms.describing import Attachment

# More answers than any flow has need of that is not led round in a circle.
MOST_ANSWERS = 60


def words_of(*modules: ModuleType) -> list[str]:
    """The short texts that stand in the code: names of fields, states, kinds."""
    found: set[str] = set()
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                if 0 < len(text) <= 40 and "\n" not in text and " " not in text:
                    found.add(text)
    return sorted(found)


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "1.5",
            "²",
            "٣",
            "9" * 5000,
            "1e999",
            "nan",
            "infinity",
            "2026-11-25T10:00:00Z",
            "2026-11-25T10:00:00.123456789+99:99",
            "0001-01-01",
            "Wed, 25 Nov 2026 10:00:00 GMT",
            "Wed, 99 Nov 99999 10:00:00 GMT",
            "https://storage.example/a?X-Amz-Date=20261125T100000Z&X-Amz-Expires=60",
            "https://[::1",
            "http://h:99999/",
            "ftp://h/x",
            "https://h/\ud800",
            "../../x",
            "bytes 0-4/5",
            "bytes ²-²/²",
            f"bytes 0-{'9' * 5000}/{'9' * 5000}",
            "md5=AAAA",
            "crc32c=====,md5=\x00",
            "sha-256=:AAAA:",
            '"0123456789abcdef0123456789abcdef"',
            '"0123456789abcdef0123456789abcdef-3"',
            f'"0123456789abcdef0123456789abcdef-{"9" * 5000}"',
            "00000000-0000-4000-8000-000000000000",
            "2026-11-25T10:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
        ]
    ),
)


def jsons(words: list[str]) -> st.SearchStrategy[Any]:
    """JSON values with the words as keys and values."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, 1, -1, 1 << 63, 1 << 70, 1e308, float("inf"), float("nan"), 10**400]),
        TEXTS,
        st.sampled_from(words),
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.one_of(st.sampled_from(words), TEXTS), inner, max_size=8),
        ),
        max_leaves=12,
    )


HEADER_NAMES = (
    "etag",
    "location",
    "content-range",
    "content-length",
    "content-type",
    "content-encoding",
    "date",
    "last-modified",
    "retry-after",
    "x-total-matching-query",
    "x-goog-hash",
    "repr-digest",
    "digest",
    "link",
    "x-pagination",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
)
HEADERS = st.dictionaries(st.sampled_from(HEADER_NAMES), TEXTS, max_size=6).map(Headers)


def bodies(words: list[str]) -> st.SearchStrategy[bytes]:
    def dumped(value: object) -> bytes:
        return json.dumps(value).encode("utf-8", "surrogatepass")

    xml = st.lists(st.tuples(st.sampled_from(words), TEXTS), max_size=6).map(_xml)
    return st.one_of(
        jsons(words).map(dumped),
        jsons(words).map(lambda value: dumped(value)[:-1]),
        st.binary(max_size=30),
        xml,
        st.just(b"<!DOCTYPE html><html></html>"),
        st.just(b"[" * 100_000),
    )


def _xml(pairs: list[tuple[str, str]]) -> bytes:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in pairs)
    text = f"<ListBucketResult><Contents>{inner}</Contents>{inner}</ListBucketResult>"
    return text.encode("utf-8", "replace")


LEASE = Lease("https://s.example/a?sig=1", Origin("file", "p", None))
DIGEST = "0" * 32
FILE = RemoteFile("container/x/a", "name", 5, lease=LEASE)
# Ids are what flows have made: Coscine's have a word and a path.
UPLOAD = "put container/x/a"
PLACE = Place("container/x", "a/b", "container/x/a/b")

ARGUMENTS: dict[str, list[Any]] = {
    "place": [PLACE, Place("container/x"), Place("id=x", "", "container/x/")],
    "folder": [PLACE],
    "parent": [PLACE],
    "start": [None, PLACE],
    "cursor": [None],
    "above": ["", "container"],
    "name": ["n"],
    "file": [FILE],
    "file_id": ["container/x/a"],
    "file_ids": [["container/x/a", "container/x/b"]],
    "thing": ["id"],
    "action": ["pause"],
    "origin": [
        Origin("file", "container/x/a"),
        Origin("page", "container/x/a"),
        Origin("file", "container/x/a", "5"),
    ],
    "lease": [LEASE, Lease(LEASE.url, LEASE.origin, whole=True)],
    "part": [Part(1, 0, 5)],
    "sink": ["sink"],
    "path": ["path"],
    "total": [5],
    "validator": [None, '"e"'],
    "digests": [frozenset({"md5"})],
    "target": [Target(PLACE, "n", 5, {"md5": DIGEST})],
    "part_size": [5],
    "overwrite": [False, True],
    "upload": [Upload(UPLOAD, 5, lease=LEASE), Upload(UPLOAD, 5)],
    "upload_id": [UPLOAD],
    "receipts": [(Receipt(1, 0, 5, DIGEST, '"e"'),)],
    "reports": [False, True],
    "writing": [False, True],
    "attachments": [[Attachment(PLACE, "n", "id", "{}")]],
    "container": ["container/x"],
    "text": ["{}"],
    "label": ["l"],
    "records": [["r"]],
    "files": [["f"]],
    "record": ["r"],
    "offset": [0],
}


def flows_of(platform: object) -> dict[str, Callable[..., Flow[Any]]]:
    """A platform's public flows whose arguments are known here, by name."""
    found = {}
    for name in dir(platform):
        if name.startswith("_"):
            continue
        made = inspect.getattr_static(type(platform), name, None)
        inner = inspect.unwrap(made) if callable(made) else None
        if inner is None or not inspect.isgeneratorfunction(inner):
            continue
        parameters = list(inspect.signature(inner).parameters)[1:]
        if all(parameter in ARGUMENTS for parameter in parameters):
            found[name] = getattr(platform, name)
    return found


def arguments(data: st.DataObject, flow: Callable[..., Flow[Any]]) -> Mapping[str, Any]:
    names = inspect.signature(flow).parameters
    return {name: data.draw(st.sampled_from(ARGUMENTS[name]), label=name) for name in names}


def play(
    data: st.DataObject,
    flow: Flow[Any],
    answers: st.SearchStrategy[bytes],
    refusal: Callable[[Request, Response], ExchangeError],
) -> None:
    """The flow is sent nonsense until it ends. Raises what it raises, if it is no error of ours."""
    try:
        request = next(flow)
        for _ in range(MOST_ANSWERS):
            assert isinstance(request, Request)
            repr(request)
            assert request.body_length >= 0
            assert request.sink is None or isinstance(request.sink, FileSlice)
            chance = data.draw(st.integers(0, 9))
            status = data.draw(
                st.sampled_from(sorted(request.accept))
                if chance > 1
                else st.sampled_from([301, 400, 401, 403, 404, 409, 412, 413, 429, 500, 503])
            )
            response = Response(
                status,
                data.draw(HEADERS),
                data.draw(answers) if request.sink is None else b"",
                {"md5": DIGEST},
                received=5,
                sent=5,
            )
            if chance == 0 and request.repeat is Repeat.ASK:
                request = flow.throw(AnswerLost("lost"))
            elif status in request.accept:
                request = flow.send(response)
            else:
                error = refusal(request, response)
                assert isinstance(error, ExchangeError | LeaseExpired)
                request = flow.throw(error)
    except (StopIteration, PenstockError):
        return
    finally:
        flow.close()
