"""The flows of an S3 bucket, by scripts: what is asked, and what is made of foreign answers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    ExchangeError,
    NameRefused,
    PenstockError,
    Refused,
)
from penstock.core.model import (
    Lease,
    Origin,
    Part,
    Place,
    Receipt,
    Repeat,
    Request,
    Response,
    Target,
    Upload,
    sigv4,
)
from penstock.core.proof import multipart_tag
from penstock.platforms.s3 import S3
from penstock.platforms.xmlreading import XmlElement
from scripted import Asked, Line, answer, play

BUCKET = S3("https://s3.example", "b", "read", "write")
ROOT = Place("b", "", "s3://b/")
MD5 = "0cc175b9c0f1b6a831c399e269772661"
RECEIPTS = [Receipt(1, 0, 5, MD5, MD5), Receipt(2, 5, 3, MD5, MD5)]
TAG = multipart_tag([MD5, MD5])
UPLOAD = Upload("s3://b/u%2F1/d/a", 5)
TARGET = Target(Place("b", "d", "s3://b/d/"), "a", 8)
COMPLETE = Asked(
    "POST", "/b/d/a", query={"uploadId": "u/1"}, repeat=Repeat.ASK, auth=sigv4("write")
)
PARTS = Asked("GET", "/b/d/a", query={"uploadId": "u/1", "max-parts": "1"}, auth=sigv4("write"))
OBJECT = Asked("GET", "/b", query={"prefix": "d/a", "max-keys": "1"}, auth=sigv4("read"))


def xml(root: str, inner: str = "", status: int = 200) -> Response:
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return answer(status=status, body=f'<{root} xmlns="{space}">{inner}</{root}>'.encode())


def listing(*keys: str, folders: tuple[str, ...] = (), after: str | None = None) -> Response:
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(key)}</Size><ETag>&quot;{MD5}&quot;</ETag>"
        f"<LastModified>2026-11-25T12:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    prefixes = "".join(
        f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders
    )
    more = (
        f"<IsTruncated>true</IsTruncated><NextContinuationToken>{after}</NextContinuationToken>"
        if after
        else "<IsTruncated>false</IsTruncated>"
    )
    inner = f"<EncodingType>url</EncodingType>{more}{contents}{prefixes}"
    return xml("ListBucketResult", inner)


def completed(tag: str = TAG) -> Response:
    return xml("CompleteMultipartUploadResult", f"<ETag>&quot;{tag}&quot;</ETag>")


def refused(code: str, status: int) -> Response:
    return xml("Error", f"<Code>{code}</Code><Message>AKIA-SECRET</Message>", status)


# -- listings ------------------------------------------------------------------------------


def test_a_page_brings_files_folders_and_the_next_cursor() -> None:
    asked = Asked(
        "GET",
        "/b",
        host="s3.example",
        query={"list-type": "2", "delimiter": "/", "prefix": "d/", "max-keys": "1000"},
        without=frozenset(("continuation-token",)),
        cost=0,
        auth=sigv4("read"),
    )
    came = listing("d/", "d/a%2Bb+c", folders=("d/e/", "d//"), after="t/1=")
    page = play(BUCKET.list_page(Place("x", "d"), None), [(asked, came)])
    (file,) = page.files
    assert (file.id, file.name, file.etag) == ("s3://b/d/a+b c", "a+b c", f'"{MD5}"')
    assert file.lease is not None
    assert file.lease.url == "https://s3.example/b/d/a%2Bb%20c"
    assert [(f.id, f.name) for f in page.folders] == [("s3://b/d/e/", "e"), ("s3://b/d//", "")]
    following = Asked("GET", "/b", query={"continuation-token": "t/1="})
    play(BUCKET.list_page(Place("x", "d"), page.next), [(following, listing())])


def test_a_folder_is_listed_by_its_id_so_that_none_is_listed_twice() -> None:
    """A folder without a name, from a key such as `/d`, has the path of what it is in."""
    asked = Asked("GET", "/b", query={"prefix": "/"})
    page = play(BUCKET.list_page(Place("x", "", "s3://b//"), None), [(asked, listing("/d"))])
    assert [file.name for file in page.files] == ["d"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"<Other/>",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<!DOCTYPE x><ListBucketResult/>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><ListBucketResult/>',
    ],
)
def test_a_listing_that_is_none_is_unusable(body: bytes) -> None:
    with pytest.raises(AnswerUnusable):
        play(BUCKET.list_page(ROOT, None), [(Asked("GET", "/b"), answer(body=body))])


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_comes_is_read_or_unusable(body: bytes) -> None:
    for root in (b"", b"<ListBucketResult>"):
        end = root.replace(b"<", b"</")
        with contextlib.suppress(AnswerUnusable):
            play(
                BUCKET.list_page(ROOT, None),
                [(Asked("GET", "/b"), answer(body=root + body + end))],
            )


def test_a_document_with_a_type_is_refused_in_any_encoding() -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'
    with pytest.raises(AnswerUnusable, match="declares a document type"):
        XmlElement.of(answer(body=text.encode("utf-16")), "test")


# -- places --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("d/a", None, "file"),
        ("d/a/x", None, "folder"),
        ("d/a-b", "d/a/x", "folder"),
        ("d/a-b", None, "missing"),
        (None, None, "missing"),
    ],
)
def test_what_stands_at_a_path_is_told_by_the_first_keys(
    first: str | None, second: str | None, kind: str
) -> None:
    script: list[Line] = [(OBJECT, listing(*[first] if first else []))]
    if first == "d/a-b" or first is None:
        query = {"prefix": "d/a/", "max-keys": "1"}
        if first is not None:
            script.append((Asked("GET", "/b", query=query), listing(*[second] if second else [])))
    if kind == "missing":
        there = listing("d/z")
        script.append((Asked("GET", "/b", query={"prefix": "d/", "max-keys": "1"}), there))
    found = play(BUCKET.find(Place("x", "d/a")), script)
    if kind == "file":
        assert found.file is not None
        assert (found.file.name, found.place.path) == ("a", "d")
    elif kind == "folder":
        assert (found.place.id, found.missing) == ("s3://b/d/a/", ())
    else:
        assert (found.place.path, found.missing) == ("d", ("a",))


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "ü" * 600])
def test_names_that_cannot_stand_there_are_refused_before_anything_is_asked(name: str) -> None:
    with pytest.raises(NameRefused):
        play(BUCKET.create_upload(Target(ROOT, name, 1), 5, overwrite=False), [])


# -- uploads -------------------------------------------------------------------------------


def test_a_small_file_is_one_request() -> None:
    target = Target(ROOT, "ä b", 3)
    upload = play(BUCKET.create_upload(target, 5, overwrite=False), [])
    put = Asked(
        "PUT", "/b/%C3%A4%20b", query={}, without=frozenset(("uploadId",)), auth=sigv4("write")
    )
    receipt = play(
        BUCKET.put_part(upload, Part(1, 0, 3), "f"),
        [(put, answer(headers={"ETag": f'"{MD5}"'}, md5=MD5))],
    )
    assert (receipt.etag, receipt.proves) == (MD5, True)
    done = play(BUCKET.complete_upload(upload, target, [receipt], reports=False), [])
    assert done is not None
    assert (done.file.id, done.asked) == ("s3://b/ä b", False)
    play(BUCKET.abort_upload(upload.id), [])


def test_a_small_file_announces_its_md5_and_a_part_does_not() -> None:
    whole = next(BUCKET.put_part(Upload("s3://b/-/a", 5), Part(1, 0, 3), "f"))
    assert whole.announces_md5
    assert not next(BUCKET.put_part(UPLOAD, Part(1, 0, 5), "f")).announces_md5


def test_an_upload_id_of_any_kind_comes_back_as_it_was() -> None:
    begin = Asked("POST", "/b/d/a", query={"uploads": ""}, auth=sigv4("write"))
    begun = xml("InitiateMultipartUploadResult", "<UploadId>u/1</UploadId>")
    assert play(BUCKET.create_upload(TARGET, 5, overwrite=False), [(begin, begun)]) == UPLOAD
    put = Asked("PUT", "/b/d/a", query={"uploadId": "u/1", "partNumber": "2"})
    play(BUCKET.put_part(UPLOAD, Part(2, 5, 3), "f"), [(put, answer(md5=MD5))])
    abort = Asked("DELETE", "/b/d/a", query={"uploadId": "u/1"})
    play(BUCKET.abort_upload(UPLOAD.id), [(abort, refused("NoSuchUpload", 404))])


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        ([(COMPLETE, completed())], False),
        ([(COMPLETE, completed("f" * 32 + "-2"))], True),
        (
            [
                (COMPLETE, refused("InternalError", 200)),
                (PARTS, xml("ListPartsResult", "<UploadId>u/1</UploadId>")),
                (COMPLETE, completed()),
            ],
            False,
        ),
        (
            [
                (COMPLETE, AnswerLost("lost")),
                (PARTS, xml("ListPartsResult", "<UploadId>u/1</UploadId>")),
                (COMPLETE, completed()),
            ],
            False,
        ),
    ],
)
def test_parts_are_put_together_and_an_error_inside_an_answer_is_one(
    script: list[Line],
    *,
    asked: bool,
) -> None:
    done = play(
        BUCKET.complete_upload(UPLOAD, TARGET, RECEIPTS, reports=False),
        script,
        refusal=BUCKET.refusal,
    )
    assert done is not None
    assert (done.file.id, done.asked) == ("s3://b/d/a", asked)


def found(size: int, tag: str) -> Response:
    return xml(
        "ListBucketResult",
        f"<Contents><Key>d/a</Key><Size>{size}</Size><ETag>&quot;{tag}&quot;</ETag></Contents>",
    )


@pytest.mark.parametrize("gone", ["asked", "told"])
@pytest.mark.parametrize(
    ("size", "tag", "outcome"),
    [(8, TAG, "ours"), (8, MD5, "to prove"), (9, TAG, "nothing"), (None, TAG, "nothing")],
)
def test_an_upload_that_is_gone_has_become_what_its_etag_says(
    gone: str, size: int | None, tag: str, outcome: str
) -> None:
    script: list[Line] = (
        [(COMPLETE, AnswerLost("lost")), (PARTS, refused("NoSuchUpload", 404))]
        if gone == "asked"
        else [(COMPLETE, refused("NoSuchUpload", 404))]
    )
    script.append((OBJECT, found(size, tag) if size is not None else listing()))
    done = play(
        BUCKET.complete_upload(UPLOAD, TARGET, RECEIPTS, reports=False),
        script,
        refusal=BUCKET.refusal,
    )
    assert ("nothing" if done is None else "to prove" if done.asked else "ours") == outcome


def test_nobodys_upload_is_ever_taken_for_ours() -> None:
    """A listing does not tell how large an upload is to become; without that, none matches."""
    upload = (
        "<Upload><Key>d/a</Key><UploadId>u</UploadId><Initiated>2026-11-25T12:00:00Z</Initiated>"
    )
    first = xml(
        "ListMultipartUploadsResult",
        f"{upload}</Upload><IsTruncated>true</IsTruncated><NextKeyMarker>d/a b</NextKeyMarker>"
        "<NextUploadIdMarker>u</NextUploadIdMarker>",
    )
    uploads, cursor = play(BUCKET.open_uploads(None), [(Asked("GET", "/b"), first)])
    assert [(u.name, u.folder, u.size, u.part_size) for u in uploads] == [
        ("a", "s3://b/d/", None, None)
    ]
    following = Asked("GET", "/b", query={"key-marker": "d/a b", "upload-id-marker": "u"})
    last = xml("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>")
    assert play(BUCKET.open_uploads(cursor), [(following, last)]) == ((), None)


def test_without_write_keys_nothing_is_sent() -> None:
    reader = S3("https://s3.example", "b", "read")
    assert play(reader.prepare(ROOT, writing=True), []).refusal is not None
    assert play(reader.prepare(ROOT, writing=False), []).refusal is None
    with pytest.raises(Refused):
        play(reader.delete_file("s3://b/a"), [])


# -- downloads -----------------------------------------------------------------------------


def test_the_head_of_an_empty_object_is_had_without_a_byte() -> None:
    lease = Lease("https://s3.example/b/a", Origin("object", "s3://b/a"))
    script: list[Line] = [
        (Asked("GET", "/b/a"), refused("InvalidRange", 416)),
        (Asked("HEAD", "/b/a", auth=sigv4("read")), answer(headers={"ETag": f'"{MD5}"'})),
    ]
    assert "etag" in play(BUCKET.probe(lease), script).headers


def test_a_redirect_is_not_followed() -> None:
    """The keys are for one host."""
    lease = Lease("https://s3.example/b/a", Origin("object", "s3://b/a"))
    flow = BUCKET.get_part(lease, Part(1, 0, 3), "f", total=3, validator=None, digests=set())
    with pytest.raises(Refused):
        play(
            flow,
            [(Asked("GET", "/b/a"), answer(status=307, headers={"Location": "https://x.example"}))],
            refusal=BUCKET.refusal,
        )


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "retry"),
    [
        (503, "SlowDown", True),
        (500, "InternalError", True),
        (400, "RequestTimeout", True),
        (400, "BadDigest", True),
        (403, "AccessDenied", False),
        (403, "SignatureDoesNotMatch", False),
        (404, "NoSuchKey", False),
    ],
)
def test_a_refusal_is_read_by_its_code_and_tells_nothing_but_that(
    status: int, code: str, *, retry: bool
) -> None:
    request = Request("GET", "https://s3.example/b/a", cost=0, auth=sigv4("read"))
    error = BUCKET.refusal(request, refused(code, status))
    assert isinstance(error, Refused)
    assert (error.code, error.effect.name == "RETRY", error.quota) == (code, retry, False)
    assert code in str(error)
    assert "SECRET" not in str(error)


@given(st.binary(max_size=100), st.sampled_from((400, 403, 404, 500)))
def test_every_refusal_means_something(body: bytes, status: int) -> None:
    request = Request("GET", "https://s3.example/b/a", cost=0, auth=sigv4("read"))
    error: PenstockError = BUCKET.refusal(request, answer(status=status, body=body))
    assert isinstance(error, ExchangeError)
