"""What digests and ETags prove, and what they do not."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.model import GIB, MIB, Headers
from penstock.core.proof import (
    Tag,
    TagKind,
    Weight,
    candidate_part_sizes,
    disagreement,
    multipart_tag,
    promised_digests,
    read_tag,
    tag_of,
    weigh,
)

HELLO = "5d41402abc4b2a76b9719d911017c592"  # MD5 of b"hello"
OTHER = "0" * 32
OPAQUE = Tag(TagKind.OPAQUE)


# -- tags -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("etag", "tag"),
    [
        (f'"{HELLO}"', Tag(TagKind.MD5, HELLO)),
        (HELLO, Tag(TagKind.MD5, HELLO)),
        (f'"{HELLO.upper()}"', Tag(TagKind.MD5, HELLO)),
        (f'"{HELLO}-1"', Tag(TagKind.MULTIPART, HELLO, 1)),
        (f'"{HELLO}-10000"', Tag(TagKind.MULTIPART, HELLO, 10_000)),
        (None, OPAQUE),
        ("", OPAQUE),
        ('""', OPAQUE),
        (f'W/"{HELLO}"', OPAQUE),
        (f' W/"{HELLO}"', OPAQUE),
        (f'"{HELLO}-0"', OPAQUE),
        (f'"{HELLO}-"', OPAQUE),
        (f'"{HELLO}-1-1"', OPAQUE),
        (f'"{HELLO[:-1]}"', OPAQUE),
        (f'"{HELLO}\n"', OPAQUE),
        ('"v1"', OPAQUE),
        ('"' + "g" * 32 + '"', OPAQUE),
        ('"' + "\u0660" * 32 + '"', OPAQUE),
    ],
)
def test_an_etag_is_an_md5_an_md5_of_parts_or_nothing(etag: str | None, tag: Tag) -> None:
    assert tag_of(etag) == tag


@given(st.text(max_size=50))
def test_any_text_can_be_read_as_an_etag(text: str) -> None:
    tag = tag_of(text)
    assert (tag.kind is TagKind.OPAQUE) == (tag.text == "")


@pytest.mark.parametrize(
    "extra",
    [
        {"x-amz-server-side-encryption": "aws:kms"},
        {"X-Amz-Server-Side-Encryption": "aws:kms:dsse"},
        {"X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256"},
        {"x-amz-server-side-encryption-customer-key-MD5": "abc"},
    ],
)
def test_an_etag_of_bytes_encrypted_with_a_key_proves_nothing(extra: dict[str, str]) -> None:
    assert read_tag(Headers({"ETag": f'"{HELLO}"', **extra})) == OPAQUE


@pytest.mark.parametrize("extra", [{}, {"x-amz-server-side-encryption": "AES256"}])
def test_an_etag_of_bytes_encrypted_by_the_storages_own_key_proves(extra: dict[str, str]) -> None:
    assert read_tag(Headers({"etag": f'"{HELLO}"', **extra})) == Tag(TagKind.MD5, HELLO)


def test_an_answer_without_an_etag_proves_nothing() -> None:
    assert read_tag(Headers()) == OPAQUE


# -- stated digests ---------------------------------------------------------------------------

# Base64 of the MD5 of b"hello", and of its CRC32C 9a71bb4c.
GOOG_MD5, GOOG_CRC = "md5=XUFAKrxLKna5cZ2REBfFkg==", "crc32c=mnG7TA=="


@pytest.mark.parametrize(
    "headers",
    [
        Headers({"x-goog-hash": f"{GOOG_CRC},{GOOG_MD5}"}),
        Headers({"X-Goog-Hash": f"{GOOG_MD5}, {GOOG_CRC}"}),
        Headers([("x-goog-hash", GOOG_CRC), ("x-goog-hash", GOOG_MD5)]),
    ],
)
def test_google_states_md5_and_crc32c_in_base64(headers: Headers) -> None:
    assert promised_digests(headers) == {"md5": HELLO, "crc32c": "9a71bb4c"}


@pytest.mark.parametrize("value", ["", "md5", "md5=", "md5=?", "md5=YWJj", "sha1=YWJj", ",,"])
def test_what_is_no_digest_is_not_promised(value: str) -> None:
    assert promised_digests(Headers({"x-goog-hash": value})) == {}


@given(st.text(max_size=40))
def test_any_text_can_be_read_as_a_google_hash(text: str) -> None:
    promised_digests(Headers({"x-goog-hash": f"md5={text}"}))


# -- multipart --------------------------------------------------------------------------------


def test_a_multipart_tag_is_the_md5_of_the_parts_md5s() -> None:
    # By hand: (openssl md5 -binary of 'hello ' and of 'world') | md5sum.
    hello, world = "f814893777bcc2295fff05f00e508da6", "7d793037a0760186574b0282f2f435e7"
    assert multipart_tag([hello, world]) == "e09e4fd6265b36115fe3db32df945d84-2"
    assert multipart_tag([world, hello]) != multipart_tag([hello, world])


def test_the_tag_of_one_empty_part_is_the_one_s3_gives() -> None:
    empty = "d41d8cd98f00b204e9800998ecf8427e"
    assert multipart_tag([empty]) == "59adb24ef3cdbe0297f05b395827453f-1"


@given(st.binary(max_size=200), st.integers(1, 50))
def test_a_multipart_tag_reads_back_as_one(content: bytes, part_size: int) -> None:
    pieces = [content[i : i + part_size] for i in range(0, max(len(content), 1), part_size)]
    md5s = [hashlib.md5(piece, usedforsecurity=False).hexdigest() for piece in pieces]
    tag = tag_of(f'"{multipart_tag(md5s)}"')
    assert (tag.kind, tag.parts, tag.text) == (
        TagKind.MULTIPART,
        len(pieces),
        multipart_tag(md5s),
    )


@given(
    size=st.integers(0, 5 << 40),
    parts=st.integers(0, 10_000),
    usual=st.lists(st.integers(-1, 5 * GIB), max_size=20),
)
def test_candidates_are_at_most_eight_distinct_and_each_fits(
    size: int, parts: int, usual: list[int]
) -> None:
    found = candidate_part_sizes(size, parts, usual)
    assert len(found) <= 8
    assert len(set(found)) == len(found)
    for part_size in found:
        assert part_size > 0
        assert max(-(-size // part_size), 1) == parts


@given(
    size=st.integers(2, 1 << 43),
    power=st.integers(20, 32),
    usual=st.lists(st.integers(1, 5 * 1024).map(lambda n: n * MIB), max_size=4),
)
def test_a_file_cut_by_a_power_of_two_has_that_among_its_candidates(
    size: int, power: int, usual: list[int]
) -> None:
    parts = -(-size // (1 << power))
    if 1 < parts <= 10_000:
        assert 1 << power in candidate_part_sizes(size, parts, usual)


@given(size=st.integers(2 * MIB, 1 << 42), parts=st.integers(2, 10_000))
def test_a_file_cut_evenly_to_whole_mib_has_that_among_its_candidates(
    size: int, parts: int
) -> None:
    even = -(-size // parts)
    rounded = -(-even // MIB) * MIB
    if -(-size // rounded) == parts:
        assert rounded in candidate_part_sizes(size, parts)


def test_the_platforms_own_part_size_is_tried_first() -> None:
    # 100 MB in 3 parts: 34, 40 or 48 MiB would all do.
    assert candidate_part_sizes(100 * 10**6, 3, (32 * MIB, 40 * MIB))[:2] == (32 * MIB, 40 * MIB)


def test_a_tag_that_no_part_size_can_have_made_has_no_candidate() -> None:
    assert candidate_part_sizes(5, 6) == ()


def test_one_part_is_read_once_for_every_size_that_holds_it_gives_the_same_tag() -> None:
    # Each candidate costs one reading of the file.
    assert len(candidate_part_sizes(10 * MIB, 1, (32 * MIB, 64 * MIB))) == 1


# -- disagreement -----------------------------------------------------------------------------


def test_digests_are_compared_without_case() -> None:
    assert disagreement({"md5": HELLO.upper()}, {"md5": HELLO}) is None


def test_a_digest_nobody_took_disagrees_with_nothing() -> None:
    assert disagreement({"sha256": "a"}, {"md5": HELLO}) is None


def test_a_digest_that_differs_is_named_with_both_sides() -> None:
    assert disagreement({"md5": OTHER, "sha1": "s"}, {"md5": HELLO, "sha1": "s"}) == (
        "md5",
        OTHER,
        HELLO,
    )


# -- weighing ---------------------------------------------------------------------------------

ACTUAL = {"md5": HELLO, "sha256": "5" * 64}
GOOD_TAG, BAD_TAG = Tag(TagKind.MD5, HELLO), Tag(TagKind.MD5, OTHER)
PARTS_TAG = Tag(TagKind.MULTIPART, OTHER, 3)
FITS, FITS_NOT = f"{OTHER}-3", f"{HELLO}-3"


@pytest.mark.parametrize(
    ("manifest", "stated", "tag", "multipart", "weight", "by"),
    [
        # Nothing to hold against.
        ({}, {}, OPAQUE, None, Weight.OPEN, None),
        ({"sha512": "x"}, {}, OPAQUE, None, Weight.OPEN, None),
        ({}, {"crc32c": "x"}, OPAQUE, None, Weight.OPEN, None),
        # One witness.
        ({"md5": HELLO}, {}, OPAQUE, None, Weight.PROVED, "manifest"),
        ({}, {"md5": HELLO}, OPAQUE, None, Weight.PROVED, "platform-digest"),
        ({}, {}, GOOD_TAG, None, Weight.PROVED, "etag"),
        ({}, {}, PARTS_TAG, FITS, Weight.PROVED, "etag"),
        ({"md5": OTHER}, {}, OPAQUE, None, Weight.DIFFERS, "manifest"),
        ({}, {"md5": OTHER}, OPAQUE, None, Weight.DIFFERS, "platform-digest"),
        ({}, {}, BAD_TAG, None, Weight.DIFFERS, "etag"),
        ({}, {}, PARTS_TAG, FITS_NOT, Weight.DIFFERS, "etag"),
        ({}, {}, PARTS_TAG, None, Weight.DIFFERS, "etag"),
        # Two that conflict: what differs wins, whatever else agrees.
        ({"md5": OTHER}, {"md5": HELLO}, GOOD_TAG, None, Weight.DIFFERS, "manifest"),
        ({"sha256": "6" * 64}, {}, GOOD_TAG, None, Weight.DIFFERS, "manifest"),
        ({"md5": HELLO, "sha256": "6" * 64}, {}, GOOD_TAG, None, Weight.DIFFERS, "manifest"),
        ({"md5": HELLO}, {"md5": OTHER}, GOOD_TAG, None, Weight.DIFFERS, "platform-digest"),
        ({"md5": HELLO}, {}, BAD_TAG, None, Weight.DIFFERS, "etag"),
        ({}, {"md5": HELLO}, BAD_TAG, None, Weight.DIFFERS, "etag"),
        ({"md5": OTHER}, {}, PARTS_TAG, FITS, Weight.DIFFERS, "manifest"),
        # A tag of parts whose size can only be supposed yields to a digest that was stated.
        ({"md5": HELLO}, {}, PARTS_TAG, FITS_NOT, Weight.PROVED, "manifest"),
        ({"md5": HELLO}, {}, PARTS_TAG, None, Weight.PROVED, "manifest"),
        ({}, {"md5": HELLO}, PARTS_TAG, FITS_NOT, Weight.PROVED, "platform-digest"),
        ({}, {"crc32c": "x"}, PARTS_TAG, FITS_NOT, Weight.DIFFERS, "etag"),
        # A manifest nobody can check does not take away what the ETag proves.
        ({"sha512": "x"}, {}, GOOD_TAG, None, Weight.PROVED, "etag"),
        ({"sha512": "x"}, {}, PARTS_TAG, FITS, Weight.PROVED, "etag"),
    ],
)
def test_evidence_is_weighed_as_the_table_says(
    manifest: dict[str, str],
    stated: dict[str, str],
    tag: Tag,
    multipart: str | None,
    weight: Weight,
    by: str | None,
) -> None:
    found = weigh(manifest=manifest, stated=stated, tag=tag, actual=ACTUAL, multipart=multipart)
    assert (found.weight, found.by) == (weight, by)


@pytest.mark.parametrize(
    ("manifest", "tag", "hard"),
    [({"md5": OTHER}, OPAQUE, True), ({}, BAD_TAG, True), ({}, PARTS_TAG, False)],
)
def test_only_a_tag_of_parts_is_excused_by_equal_bytes_fetched_twice(
    manifest: dict[str, str],
    tag: Tag,
    hard: bool,  # noqa: FBT001 - a table's column
) -> None:
    found = weigh(manifest=manifest, stated={}, tag=tag, actual=ACTUAL, multipart=None)
    assert found.hard is hard


def test_a_difference_names_both_digests() -> None:
    found = weigh(manifest={"md5": OTHER}, stated={}, tag=OPAQUE, actual=ACTUAL, multipart=None)
    assert OTHER in found.expected
    assert HELLO in found.actual


def test_an_md5_tag_with_no_md5_to_hold_against_it_differs_from_nothing() -> None:
    found = weigh(manifest={}, stated={}, tag=GOOD_TAG, actual={"sha256": "5" * 64}, multipart=None)
    assert found.weight is Weight.OPEN


digests = st.dictionaries(
    st.sampled_from(["md5", "sha256", "crc32c"]), st.sampled_from([HELLO, OTHER])
)
tags = st.sampled_from([OPAQUE, GOOD_TAG, BAD_TAG, PARTS_TAG])


@given(
    manifest=digests,
    stated=digests,
    tag=tags,
    actual=digests,
    multipart=st.sampled_from([None, FITS, FITS_NOT]),
)
def test_a_stated_digest_that_differs_always_wins(
    manifest: dict[str, str],
    stated: dict[str, str],
    tag: Tag,
    actual: dict[str, str],
    multipart: str | None,
) -> None:
    found = weigh(manifest=manifest, stated=stated, tag=tag, actual=actual, multipart=multipart)
    differs = any(
        name in actual and actual[name] != value
        for name, value in (*manifest.items(), *stated.items())
    )
    if differs:
        assert found.weight is Weight.DIFFERS
        assert found.hard
    if found.weight is Weight.PROVED:
        assert found.by in {"manifest", "platform-digest", "etag"}
        assert not differs
