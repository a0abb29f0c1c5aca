"""Values are frozen, picklable, and show no secret."""

import ast
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import model
from penstock.core.model import (
    NO_AUTH,
    PLATFORM,
    AuthKind,
    Completed,
    Direction,
    FileSlice,
    Fingerprint,
    Head,
    Headers,
    Identity,
    Lease,
    OpenUpload,
    Origin,
    Page,
    Part,
    Place,
    Rank,
    Receipt,
    RemoteFile,
    RemoteFolder,
    Repeat,
    Request,
    Response,
    Target,
    Upload,
    sigv4,
)

URL = "https://user:SECRET@bucket.example/a/b.bam?X-Amz-Signature=SECRET#SECRET"
LEASE = Lease(URL, Origin("page", "p1/r1/data/", "2"), 1_794_000_000.0, (("Token", "SECRET"),))
REQUEST = Request(
    "PUT",
    URL,
    headers=(("Access-Token", "SECRET"),),
    body=(b"SECRET", FileSlice("/data/a", 5, 7), b"--"),
    sink=FileSlice("/data/b", 0, 3),
    cost=0,
    auth=sigv4("write"),
    accept=frozenset((200, 409)),
    head=Head(0, 3, 3, '"v1"'),
    repeat=Repeat.ASK,
    rank=Rank.FINISH,
    digests=frozenset(("md5", "sha256")),
)
RESPONSE = Response(
    206, Headers({"ETag": "SECRET"}), b'{"url": "https://h/?Signature=SECRET"}', {"md5": "0" * 32}
)
FILE = RemoteFile("f1", "a", 7, "2026-11-21", '"v1"', {"md5": "0" * 32}, LEASE)
VALUES = [
    REQUEST,
    RESPONSE,
    LEASE,
    FILE,
    Headers({"A": "b"}),
    PLATFORM,
    NO_AUTH,
    Place("me/project", "raw", "fo1"),
    RemoteFolder("fo1", "raw"),
    Page((FILE,), (RemoteFolder("fo1", "raw"),), "100", 300),
    Part(1, 0, 5),
    Receipt(1, 0, 5, "0" * 32, "0" * 32, proves=False, report=(("ETag", "0" * 32),)),
    Upload("u1", 5, parallel=False),
    Target(Place("me/project"), "a", 7),
    Completed(FILE, asked=True, reported=True),
    OpenUpload("u1", "a", "me/project", "fo1", 7, 5, 1.5, parallel=False),
    Identity(Direction.UP, "https://api", "me/project", "raw/a", "/data/a"),
    Fingerprint(7, mtime_ns=1, inode=2, remote_id="f1", modified="then", etag='"v1"'),
]


def kind(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("value", VALUES, ids=kind)
def test_a_value_survives_pickling(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own


def test_every_value_is_declared_frozen() -> None:
    """Those of `quick_value` are so to mypy alone, which reads all of this package."""
    tree = ast.parse(Path(model.__file__).read_text(encoding="utf-8"))
    for each in tree.body:
        if isinstance(each, ast.ClassDef) and not each.bases:
            (made,) = each.decorator_list
            assert ast.unparse(made).endswith("(frozen=True, slots=True)"), each.name


@pytest.mark.parametrize("value", VALUES, ids=kind)
def test_a_value_takes_no_field_that_it_has_not(value: object) -> None:
    with pytest.raises((AttributeError, FrozenInstanceError, TypeError)):
        value.nonsense = None  # type: ignore[attr-defined]


def test_header_fields_cannot_be_assigned() -> None:
    with pytest.raises(TypeError):
        Headers({"A": "b"})["A"] = "c"  # type: ignore[index]


@pytest.mark.parametrize("value", VALUES, ids=kind)
def test_no_value_shows_a_query_a_user_a_token_or_a_body(value: object) -> None:
    assert "SECRET" not in repr(value)
    assert "SECRET" not in str(value)


def test_a_request_shows_what_a_person_needs_to_find_it() -> None:
    shown = repr(REQUEST)
    assert "PUT" in shown
    assert "bucket.example" in shown


def test_a_request_carries_a_body_only_where_file_bytes_move() -> None:
    assert not Request("POST", URL, body=(b"{}",)).carries_body
    assert Request("PUT", URL, body=(b"", FileSlice("/data/a", 0, 0))).carries_body
    assert Request("GET", URL, sink=FileSlice("/data/a", 0, 5)).carries_body


def test_a_body_is_as_long_as_its_bytes_and_slices_together() -> None:
    assert REQUEST.body_length == 6 + 7 + 2
    assert Request("GET", URL).body_length == 0


def test_a_request_counts_carries_the_token_and_may_be_repeated_unless_it_says_otherwise() -> None:
    plain = Request("GET", URL)
    assert (plain.cost, plain.auth.kind, plain.repeat) == (1, AuthKind.PLATFORM, Repeat.SAFE)
    assert plain.rank is Rank.CONTINUE


def test_finishing_goes_before_continuing_and_continuing_before_starting() -> None:
    assert sorted(Rank) == [Rank.FINISH, Rank.CONTINUE, Rank.START]


def test_signing_names_a_key_and_holds_none() -> None:
    auth = sigv4("rdss3:write")
    assert (auth.kind, auth.key) == (AuthKind.SIGV4, "rdss3:write")


# -- headers ----------------------------------------------------------------------------------

tokens = st.text("abcXYZ-", min_size=1, max_size=8)


@given(st.dictionaries(tokens, st.text(max_size=5)))
def test_header_names_have_no_case(fields: dict[str, str]) -> None:
    headers = Headers(fields)
    for name in fields:
        assert headers[name.upper()] == headers[name.lower()] == headers.get(name.swapcase())
        assert name.title() in headers


def test_a_repeated_field_is_joined_in_order() -> None:
    headers = Headers([("x-goog-hash", "crc32c=n03x6A=="), ("X-Goog-Hash", "md5=Ojk9c3d=")])
    assert headers["x-goog-hash"] == "crc32c=n03x6A==, md5=Ojk9c3d="
    assert len(headers) == 1


def test_headers_that_differ_only_in_case_are_equal_and_hash_alike() -> None:
    one, other = Headers({"ETag": "v"}), Headers({"etag": "v"})
    assert one == other
    assert hash(one) == hash(other)


def test_a_missing_field_is_missing() -> None:
    assert Headers().get("etag") is None
    assert "etag" not in Headers()
