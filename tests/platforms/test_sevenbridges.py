"""Seven Bridges by scripted answers: every fact of its sheet that the adapter obeys has a test."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    Conflict,
    DestinationRefused,
    Effect,
    ExchangeError,
    LeaseExpired,
    LocationError,
    NameRefused,
    PenstockError,
    Refused,
    TokenRefused,
)
from penstock.core.model import (
    GIB,
    MIB,
    NO_AUTH,
    PLATFORM,
    TIB,
    Completed,
    FileSlice,
    Flow,
    Found,
    Headers,
    Lease,
    Origin,
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
)
from penstock.platforms.base import REDIRECTS, storage_refusal
from penstock.platforms.sevenbridges import SevenBridges
from penstock.platforms.sevenbridges_requests import check_name
from scripted import Asked, LastTry, Line, answer, play

API = "https://cavatica-api.sbgenomics.com/v2"
BUCKET = "https://bucket.s3.amazonaws.com"
PROJECT = Place("me/project")
FOLDER = Place("me/project", "raw", "fo1")
TARGET = Target(PROJECT, "a.bam", 11)
MD5 = "5eb63bbbe01eeed093cb22bb8f5acdc3"  # of b"hello world"
LEASE = Lease(f"{BUCKET}/a?Signature=SECRET&Expires=1794000000", Origin("file", "f1"))

sb = SevenBridges(API)


def refused(status: int, code: int | None = None) -> Response:
    """The platform's error body."""
    if code is None:
        return answer(status=status, body=b"<html>no JSON here</html>")
    return answer(
        {"status": status, "code": code, "message": "in words", "more_info": "https://docs"},
        status=status,
    )


def file(number: int | str = 1, **other: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    item = {"id": f"f{number}", "name": f"{number}.bam", "type": "FILE", "size": 7}
    return {key: value for key, value in {**item, **other}.items() if value is not None}


def folder(name: str, identity: str) -> dict[str, Any]:
    return {"id": identity, "name": name, "type": "FOLDER"}


def listing(*items: Mapping[str, Any], total: int | str | None = None) -> Response:
    # The docs' own next links are malformed: '?offset=4?limit=2', and http.
    broken = {"href": "http://api/v2/files?offset=4?limit=2", "rel": "next", "method": "GET"}
    body = {"href": "https://api", "items": list(items), "links": [broken]}
    return answer(body, headers={} if total is None else {"X-Total-Matching-Query": str(total)})


def asks(method: str, path: str, **other: Any) -> Asked:  # noqa: ANN401 - Asked's own fields
    """A request to the API, which always takes a slot and the token."""
    return Asked(
        method,
        f"/v2{path}",
        host="cavatica-api.sbgenomics.com",
        cost=1,
        auth=PLATFORM,
        **other,
    )


def run(flow: Flow[Any], *script: Line) -> Any:  # noqa: ANN401 - what the flow returns
    return play(flow, script, refusal=sb.refusal, endpoint=API)


# -- numbers ----------------------------------------------------------------------------------


def test_the_quota_is_a_thousand_requests_in_five_minutes() -> None:
    assert (sb.traits.quota, sb.traits.window_s) == (1000, 5 * 60)


def test_parts_are_from_5_mib_to_5_gib_and_ten_thousand_at_most() -> None:
    traits = sb.traits
    assert (traits.smallest_part, traits.largest_part) == (5 * MIB, 5 * GIB)
    assert (traits.most_parts, traits.largest_file) == (10_000, 5 * TIB)


def test_an_upload_costs_two_requests_besides_its_parts_and_a_download_one() -> None:
    traits = sb.traits
    assert (traits.requests_per_upload, traits.requests_per_part) == (2, 1)
    assert traits.requests_per_download == 1
    assert not traits.listing_leases


# -- the token --------------------------------------------------------------------------------


def test_the_token_goes_in_its_own_header_and_only_sign_knows_it() -> None:
    assert sb.sign("0123456789abcdef") == (("X-SBG-Auth-Token", "0123456789abcdef"),)
    assert next(sb.stat("f1")).headers == (
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
    )


def test_a_401_ends_the_run_after_one_request() -> None:
    with pytest.raises(TokenRefused):
        run(sb.list_page(PROJECT, None), (asks("GET", "/files"), refused(401, 90001)))


def test_the_endpoint_has_no_trailing_slash() -> None:
    assert SevenBridges(f"{API}/").endpoint == API


# -- refusals ---------------------------------------------------------------------------------

RETRY, FAIL = Effect.RETRY, Effect.FAIL_TRANSFER


def meaning(status: int, code: int | None) -> Refused:
    error = sb.refusal(next(sb.stat("f1")), refused(status, code))
    assert isinstance(error, Refused)
    assert (error.status, error.code) == (status, code)
    return error


@pytest.mark.parametrize(
    ("status", "effect"),
    [
        (400, FAIL),
        (401, FAIL),
        (403, FAIL),
        (404, FAIL),
        (405, FAIL),
        (408, RETRY),
        (409, FAIL),
        (413, FAIL),
        (415, FAIL),
        (429, RETRY),
        (500, RETRY),
        (502, RETRY),
        (503, RETRY),
        (504, RETRY),
    ],
)
def test_a_status_without_json_means_what_the_status_means(status: int, effect: Effect) -> None:
    assert meaning(status, None).effect is effect


@pytest.mark.parametrize(
    ("status", "code", "effect"),
    [
        (503, 0, RETRY),
        (429, 1000, RETRY),
        (404, 3002, FAIL),
        (400, 3012, FAIL),
        (503, 5000, RETRY),
        (403, 5001, FAIL),
        (404, 5002, FAIL),
        (409, 5003, FAIL),
        (400, 5017, FAIL),
        (409, 5030, FAIL),
        (400, 5031, FAIL),
        (503, 8000, RETRY),
        (403, 8001, FAIL),
        (404, 8003, FAIL),
        (409, 8004, FAIL),
        (409, 8006, FAIL),
        (400, 8014, FAIL),
        # The codes' own statuses are not documented: the code decides first.
        (400, 5000, RETRY),
        (400, 8000, RETRY),
        (400, 8008, RETRY),
        (409, 8008, RETRY),
        (403, 1000, RETRY),
    ],
)
def test_a_code_decides_before_the_status_does(status: int, code: int, effect: Effect) -> None:
    assert meaning(status, code).effect is effect


@pytest.mark.parametrize(("status", "code"), [(429, 1000), (429, None), (403, 1000)])
def test_a_429_or_code_1000_says_that_the_quota_is_spent(status: int, code: int | None) -> None:
    error = meaning(status, code)
    assert error.quota
    assert error.undone


def test_503_with_code_0_is_maintenance_and_closes_the_platform() -> None:
    error = meaning(503, 0)
    assert error.outage
    assert error.undone
    assert not error.quota


@pytest.mark.parametrize(("status", "code"), [(503, None), (503, 8000), (500, 0), (400, 0)])
def test_nothing_but_503_with_code_0_is_maintenance(status: int, code: int | None) -> None:
    assert not meaning(status, code).outage


@pytest.mark.parametrize("code", [5000, 8000, 8008])
def test_a_service_that_is_down_did_nothing(code: int) -> None:
    assert meaning(503, code).undone


def test_a_bare_503_may_hide_a_request_that_was_done() -> None:
    assert not meaning(503, None).undone


def test_a_refusal_says_what_was_tried_and_what_came_back() -> None:
    message = str(meaning(403, 8001))
    assert "GET /v2/files/f1" in message
    assert "403" in message
    assert "8001" in message
    assert "in words" in message


def test_a_refusal_shows_neither_query_nor_line_breaks_nor_endless_text() -> None:
    request = Request("GET", f"{API}/files?name=SECRET")
    said = {"status": 400, "code": 90000, "message": "a\n\x1b" + "b" * 5000}
    message = str(sb.refusal(request, answer(said, status=400)))
    assert "SECRET" not in message
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize("status", [400, 403])
def test_a_storage_that_says_expired_means_a_lease_that_ended(status: int) -> None:
    body = b"<Error><Code>ExpiredToken</Code><Message>Request has expired</Message></Error>"
    error = sb.refusal(next(sb.probe(LEASE)), answer(status=status, body=body))
    assert isinstance(error, LeaseExpired)
    assert "SECRET" not in str(error)


@pytest.mark.parametrize(("status", "effect"), [(404, FAIL), (500, RETRY), (503, RETRY)])
def test_a_storage_that_refuses_otherwise_is_refused(status: int, effect: Effect) -> None:
    error = storage_refusal(next(sb.probe(LEASE)), answer(status=status))
    assert isinstance(error, Refused)
    assert error.effect is effect
    assert "SECRET" not in str(error)


@given(
    status=st.integers(100, 599),
    body=st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["code", "message", "status"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode()),
    storage=st.booleans(),
)
def test_any_body_becomes_a_refusal_and_never_a_foreign_error(
    status: int,
    body: bytes,
    storage: bool,  # noqa: FBT001 - a fuzzed value
) -> None:
    request = next(sb.probe(LEASE)) if storage else next(sb.stat("f1"))
    error = sb.refusal(request, Response(status, Headers(), body))
    assert isinstance(error, ExchangeError)
    assert "SECRET" not in str(error)


# -- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("me/project", Place("me/project")),
        ("me/project/", Place("me/project")),
        ("me/project/raw/2026", Place("me/project", "raw/2026")),
        ("me/project//raw/", Place("me/project", "raw")),
        ("id=5f0c", Place("id=5f0c")),
    ],
)
def test_a_path_names_a_project_and_folders_or_an_id(path: str, place: Place) -> None:
    assert sb.place(path) == place


@pytest.mark.parametrize("path", ["", "/", "me", "me/", "id="])
def test_a_path_that_names_no_project_is_a_location_error(path: str) -> None:
    with pytest.raises(LocationError):
        sb.place(path)


def test_a_folder_that_was_never_looked_up_cannot_be_listed() -> None:
    with pytest.raises(LocationError):
        next(sb.list_page(Place("me/project", "raw"), None))
    with pytest.raises(LocationError):
        next(sb.list_page(Place("id=5f0c"), None))


def test_a_project_root_is_found_without_a_request() -> None:
    assert run(sb.find(PROJECT)) == Found(PROJECT)


def test_a_path_is_found_segment_by_segment_by_exact_name() -> None:
    found = run(
        sb.find(Place("me/project", "raw/a.bam")),
        (
            asks(
                "GET",
                "/files",
                query={"project": "me/project", "name": "raw"},
                without=frozenset(("parent",)),
            ),
            listing(folder("raw", "fo1")),
        ),
        (
            asks(
                "GET",
                "/files",
                query={"parent": "fo1", "name": "a.bam"},
                without=frozenset(("project",)),
            ),
            listing(file("a", name="a.bam", modified_on="2026-11-21T08:00:00Z")),
        ),
    )
    there = RemoteFile("fa", "a.bam", 7, modified="2026-11-21T08:00:00Z")
    assert found == Found(FOLDER, file=there)


def test_a_folder_is_found_with_its_id() -> None:
    found = run(
        sb.find(Place("me/project", "raw")), (asks("GET", "/files"), listing(folder("raw", "fo1")))
    )
    assert found == Found(FOLDER)


def test_a_name_that_only_looks_alike_is_not_found() -> None:
    script = (asks("GET", "/files"), listing(folder("RAW", "fo1"), file(name="raw.bam")))
    assert run(sb.find(Place("me/project", "raw")), script) == Found(PROJECT, ("raw",))


def test_a_file_in_the_middle_of_a_path_leads_nowhere() -> None:
    script = (asks("GET", "/files"), listing(file(name="raw")))
    found = run(sb.find(Place("me/project", "raw/a.bam")), script)
    assert found == Found(PROJECT, ("raw", "a.bam"))


def test_a_name_goes_into_the_query_escaped() -> None:
    asked = asks("GET", "/files", query={"name": "a & b?+ü.bam"})
    found = run(sb.find(Place("me/project", "a & b?+ü.bam")), (asked, listing()))
    assert found.missing == ("a & b?+ü.bam",)


def test_an_id_is_found_by_one_request() -> None:
    script = (asks("GET", "/files/f1"), answer(file()))
    found = run(sb.find(Place("id=f1")), script)
    assert found.file == RemoteFile("f1", "1.bam", 7)


def test_an_id_may_be_a_folder() -> None:
    script = (asks("GET", "/files/fo1"), answer(folder("raw", "fo1")))
    assert run(sb.find(Place("id=fo1")), script) == Found(Place("id=fo1", "", "fo1"))


def test_an_id_that_is_not_there_is_a_location_error() -> None:
    with pytest.raises(LocationError):
        run(sb.find(Place("id=f1")), (asks("GET", "/files/f1"), refused(404, 5002)))


def test_an_id_that_may_not_be_read_is_refused() -> None:
    with pytest.raises(Refused):
        run(sb.find(Place("id=f1")), (asks("GET", "/files/f1"), refused(403, 5001)))


# -- listing ----------------------------------------------------------------------------------


def test_a_page_has_a_hundred_entries_and_asks_for_size_and_time() -> None:
    request = next(sb.list_page(PROJECT, None))
    assert "limit=100" in request.url
    assert "offset=0" in request.url
    for name in ("size", "modified_on"):
        assert name in request.url


def test_offsets_are_built_here_whatever_the_next_link_says() -> None:
    first = run(
        sb.list_page(PROJECT, None),
        (
            asks("GET", "/files", query={"offset": "0", "limit": "100"}),
            listing(*(file(n) for n in range(100)), total=102),
        ),
    )
    assert first.total == 102
    second = run(
        sb.list_page(PROJECT, first.next),
        (
            asks("GET", "/files", query={"offset": "100", "limit": "100"}),
            listing(file(100), file(101), total=102),
        ),
    )
    assert second.next is None


def test_the_total_is_what_the_server_counts() -> None:
    page = run(sb.list_page(PROJECT, None), (asks("GET", "/files"), listing(file(), total=1)))
    assert (page.total, page.next) == (1, None)


@pytest.mark.parametrize(("entries", "more"), [(100, True), (99, False), (0, False)])
def test_without_a_total_only_a_full_page_has_a_next_one(
    entries: int,
    more: bool,  # noqa: FBT001 - a table's column
) -> None:
    items = [file(n) for n in range(entries)]
    page = run(sb.list_page(PROJECT, None), (asks("GET", "/files"), listing(*items)))
    assert page.total is None
    assert (page.next is not None) is more


@pytest.mark.parametrize("total", ["many", "-1", "1.5", "²", "9" * 5000])
def test_a_total_that_is_no_number_is_unsaid(total: str) -> None:
    page = run(sb.list_page(PROJECT, None), (asks("GET", "/files"), listing(file(), total=total)))
    assert page.total is None


def test_an_empty_page_ends_a_listing_that_claims_more() -> None:
    page = run(sb.list_page(PROJECT, "100"), (asks("GET", "/files"), listing(total=200)))
    assert page.next is None


def test_folders_and_files_are_told_apart() -> None:
    script = (
        asks("GET", "/files", query={"parent": "fo1"}, without=frozenset(("project",))),
        listing(folder("sub", "fo2"), file(), total=2),
    )
    page = run(sb.list_page(FOLDER, None), script)
    assert page.folders == (RemoteFolder("fo2", "sub"),)
    assert page.files == (RemoteFile("f1", "1.bam", 7),)


def test_a_root_is_listed_by_project_and_a_folder_by_parent_never_both() -> None:
    asked = asks("GET", "/files", query={"project": "me/project"}, without=frozenset(("parent",)))
    assert run(sb.list_page(PROJECT, None), (asked, listing())).files == ()


def test_missing_sizes_cost_one_bulk_request_for_the_whole_page() -> None:
    items = [file(n, size=None) for n in range(99)]
    resources = [{"resource": file(n, size=n)} for n in range(98)]
    gone = {"error": {"status": 404, "code": 5002, "message": "gone"}}
    page = run(
        sb.list_page(PROJECT, None),
        (asks("GET", "/files"), listing(*items, file(99, size=3), total=100)),
        (
            asks("POST", "/bulk/files/get", json={"file_ids": [f"f{n}" for n in range(99)]}),
            answer({"items": [*resources, gone]}),
        ),
    )
    assert [f.size for f in page.files] == [*range(98), None, 3]


def test_sizes_that_are_there_are_not_asked_for() -> None:
    page = run(
        sb.list_page(PROJECT, None),
        (asks("GET", "/files"), listing(file(size=0), folder("sub", "fo2"))),
    )
    assert page.files[0].size == 0


def test_projects_are_listed_by_the_hundred_as_folders() -> None:
    page = run(
        sb.list_containers("100"),
        (
            asks("GET", "/projects", query={"limit": "100", "offset": "100"}),
            listing({"id": "me/project", "name": "Project"}, total=300),
        ),
    )
    assert page.folders == (RemoteFolder("me/project", "me/project", "project"),)
    assert (page.next, page.total) == ("101", 300)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"items": 1}', b'{"items": [1]}', b'{"items": [{}]}']
)
def test_a_listing_that_breaks_its_contract_is_unusable(body: bytes) -> None:
    with pytest.raises(AnswerUnusable):
        run(sb.list_page(PROJECT, None), (asks("GET", "/files"), answer(body=body)))


# -- folders ----------------------------------------------------------------------------------

MAKE = asks(
    "POST",
    "/files",
    json={"name": "raw", "type": "folder", "project": "me/project"},
    repeat=Repeat.ASK,
)
LOOK = asks("GET", "/files", query={"project": "me/project", "name": "raw"})


def test_a_folder_is_made_by_one_request() -> None:
    script = (MAKE, answer(folder("raw", "fo1"), status=201))
    assert run(sb.make_folder(PROJECT, "raw"), script) == FOLDER


def test_a_folder_in_a_folder_names_its_parent_and_no_project() -> None:
    asked = asks("POST", "/files", json={"name": "sub", "type": "folder", "parent": "fo1"})
    made = run(sb.make_folder(FOLDER, "sub"), (asked, answer(folder("sub", "fo2"))))
    assert made == Place("me/project", "raw/sub", "fo2")


@pytest.mark.parametrize(("status", "code"), [(409, 5030), (400, 5030), (409, None)])
def test_a_folder_that_exists_is_found_by_name(status: int, code: int | None) -> None:
    found = run(
        sb.make_folder(PROJECT, "raw"),
        (MAKE, refused(status, code)),
        (LOOK, listing(folder("raw", "fo1"))),
    )
    assert found == FOLDER


def test_a_lost_folder_is_asked_for() -> None:
    found = run(
        sb.make_folder(PROJECT, "raw"),
        (MAKE, AnswerLost("cut off")),
        (LOOK, listing(folder("raw", "fo1"))),
    )
    assert found == FOLDER


def test_a_lost_folder_that_was_not_made_is_made() -> None:
    found = run(
        sb.make_folder(PROJECT, "raw"),
        (MAKE, AnswerLost("cut off")),
        (LOOK, listing()),
        (MAKE, answer(folder("raw", "fo1"))),
    )
    assert found == FOLDER


def test_a_folder_that_may_not_be_made_is_refused() -> None:
    with pytest.raises(Refused):
        run(sb.make_folder(PROJECT, "raw"), (MAKE, refused(403, 5001)))


def test_a_file_where_a_folder_is_needed_is_said_so_without_asking_again() -> None:
    with pytest.raises(DestinationRefused):
        run(
            sb.make_folder(PROJECT, "raw"),
            (MAKE, refused(409, 5003)),
            (LOOK, listing(file(name="raw"))),
        )


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "x" * 256])
def test_a_name_the_platform_cannot_take_is_refused_before_anything_is_asked(name: str) -> None:
    with pytest.raises(NameRefused):
        check_name(name)
    with pytest.raises(NameRefused):
        run(sb.make_folder(PROJECT, name))
    with pytest.raises(NameRefused):
        run(sb.create_upload(Target(PROJECT, name, 1), 5 * MIB, overwrite=False))


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 255, "a b.bam", "...", "-"])
def test_a_name_of_255_characters_and_everything_but_a_slash_is_taken(name: str) -> None:
    check_name(name)


# -- uploads ----------------------------------------------------------------------------------

CREATE = asks(
    "POST",
    "/upload/multipart",
    json={"project": "me/project", "name": "a.bam", "size": 11, "part_size": 5 * MIB},
    repeat=Repeat.ASK,
    rank=Rank.START,
    without=frozenset(("overwrite",)),
)
CREATED = {"upload_id": "u1", "part_size": 5 * MIB, "parallel_uploads": True}


def create(overwrite: bool = False) -> Flow[Upload]:  # noqa: FBT001, FBT002 - as the flow's own
    return sb.create_upload(TARGET, 5 * MIB, overwrite=overwrite)


def test_an_upload_is_begun_with_its_place_name_size_and_part_size() -> None:
    assert run(create(), (CREATE, answer(CREATED))) == Upload("u1", 5 * MIB, parallel=True)


def test_an_upload_into_a_folder_names_its_parent_and_no_project() -> None:
    body = {"parent": "fo1", "name": "a.bam", "size": 11, "part_size": 5 * MIB}
    flow = sb.create_upload(Target(FOLDER, "a.bam", 11), 5 * MIB, overwrite=False)
    run(flow, (asks("POST", "/upload/multipart", json=body), answer(CREATED)))


def test_overwriting_is_said_only_where_it_is_wanted() -> None:
    asked = asks("POST", "/upload/multipart", query={"overwrite": "true"})
    run(create(overwrite=True), (asked, answer(CREATED)))


def test_the_part_size_the_server_chose_is_obeyed() -> None:
    upload = run(create(), (CREATE, answer({**CREATED, "part_size": 32 * MIB})))
    assert upload.part_size == 32 * MIB


def test_a_server_that_names_no_part_size_took_ours() -> None:
    assert run(create(), (CREATE, answer({"upload_id": "u1"}))).part_size == 5 * MIB


def test_parts_go_one_by_one_where_the_server_says_so() -> None:
    upload = run(create(), (CREATE, answer({**CREATED, "parallel_uploads": False})))
    assert not upload.parallel


@pytest.mark.parametrize(("status", "code"), [(409, 8004), (400, 8004), (409, None)])
def test_a_name_that_is_taken_is_a_conflict(status: int, code: int | None) -> None:
    with pytest.raises(Conflict):
        run(create(), (CREATE, refused(status, code)))


def test_an_upload_that_exists_is_not_told_as_a_file_that_exists() -> None:
    # 8006: an unfinished upload holds the name; there is no file to skip or overwrite.
    with pytest.raises(PenstockError) as raised:
        run(create(), (CREATE, refused(409, 8006)))
    assert not isinstance(raised.value, Conflict)


def test_another_refusal_to_begin_is_thrown_as_it_is() -> None:
    with pytest.raises(Refused):
        run(create(), (CREATE, refused(403, 8001)))


def test_a_lost_beginning_is_thrown_and_never_repeated() -> None:
    with pytest.raises(AnswerLost):
        run(create(), (CREATE, AnswerLost("cut off")))


def test_a_gateway_error_on_beginning_is_a_lost_answer() -> None:
    with pytest.raises(AnswerLost):
        run(create(), (CREATE, refused(502)))


def test_a_beginning_during_maintenance_was_not_done_and_is_sent_again() -> None:
    run(create(), (CREATE, refused(503, 0)), (CREATE, answer(CREATED)))


def test_a_beginning_that_met_the_quota_is_sent_again() -> None:
    run(create(), (CREATE, refused(429, 1000)), (CREATE, answer(CREATED)))


# -- parts ------------------------------------------------------------------------------------

PART = Part(2, 5 * MIB, 11)
ASK_PART = asks("GET", "/upload/multipart/u1/part/2", repeat=Repeat.SAFE)


def part_url(**other: object) -> Response:
    return answer(
        {
            "method": "PUT",
            "url": f"{BUCKET}/a?partNumber=2&Signature=SECRET",
            "expires": "2026-11-21T09:00:00Z",
            "headers": {},
            "success_codes": [200],
            "report": {"headers": ["ETag"], "body": {}},
            **other,
        }
    )


def put(**other: Any) -> Asked:  # noqa: ANN401 - Asked's own fields
    return Asked("PUT", "/a", host="bucket.s3.amazonaws.com", cost=0, auth=NO_AUTH, **other)


def stored(etag: str | None = f'"{MD5}"', status: int = 200, **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if etag is not None:
        fields["ETag"] = etag
    return answer(status=status, headers=fields, md5=MD5)


def put_part() -> Flow[Receipt]:
    return sb.put_part(Upload("u1", 5 * MIB), PART, "/data/a.bam")


def test_a_part_costs_one_api_request_and_goes_to_the_storage_without_the_token() -> None:
    script = (ASK_PART, part_url()), (put(rank=Rank.FINISH, repeat=Repeat.SAFE), stored())
    receipt = run(put_part(), *script)
    assert receipt == Receipt(2, 5 * MIB, 11, MD5, MD5, proves=True, report=(("ETag", MD5),))


def test_a_part_is_exactly_its_slice_of_the_file_and_its_md5_is_taken() -> None:
    flow = put_part()
    next(flow)
    request = flow.send(part_url())
    assert request.body == (FileSlice("/data/a.bam", 5 * MIB, 11),)
    assert request.digests == {"md5"}


def test_the_headers_the_platform_gives_are_sent_and_no_others() -> None:
    given = {"x-amz-server-side-encryption": "AES256"}
    run(
        put_part(),
        (ASK_PART, part_url(headers=given)),
        (put(headers=tuple(given.items())), stored()),
    )


def test_etags_are_reported_without_their_quotes() -> None:
    receipt = run(put_part(), (ASK_PART, part_url()), (put(), stored(f'"{MD5}"')))
    assert (receipt.etag, dict(receipt.report)) == (MD5, {"ETag": MD5})


@pytest.mark.parametrize(
    "place",
    [
        {"success_codes": [201]},
        {"success_codes": None, "report": {"headers": ["ETag"], "success_codes": [201]}},
    ],
)
def test_success_codes_are_read_at_the_top_and_inside_report(place: dict[str, object]) -> None:
    accepts = put(accept=REDIRECTS | {201})
    assert run(put_part(), (ASK_PART, part_url(**place)), (accepts, stored(status=201)))


def test_a_storage_that_answers_otherwise_has_not_taken_the_part() -> None:
    with pytest.raises(Refused):
        run(put_part(), (ASK_PART, part_url()), (put(), stored(status=412)))


def test_headers_named_in_report_are_told_back_and_no_others() -> None:
    names = {"headers": ["ETag", "x-amz-version-id", "missing"]}
    script = (ASK_PART, part_url(report=names)), (put(), stored(x_amz_version_id="v1", other="o"))
    assert dict(run(put_part(), *script).report) == {"ETag": MD5, "x-amz-version-id": "v1"}


@pytest.mark.parametrize(
    "headers",
    [
        {"x_amz_server_side_encryption": "aws:kms"},
        {"x_amz_server_side_encryption_customer_algorithm": "AES256"},
    ],
)
def test_an_etag_of_an_encrypted_part_proves_nothing(headers: dict[str, str]) -> None:
    receipt = run(put_part(), (ASK_PART, part_url()), (put(), stored(f'"{MD5}"', 200, **headers)))
    assert not receipt.proves
    assert dict(receipt.report) == {"ETag": MD5}


def test_a_part_without_an_etag_proves_nothing() -> None:
    receipt = run(put_part(), (ASK_PART, part_url()), (put(), stored(None)))
    assert (receipt.etag, receipt.proves, receipt.report) == (None, False, ())


def test_an_expired_part_url_is_asked_for_once_more() -> None:
    fresh = part_url(url=f"{BUCKET}/a?Signature=NEW")
    receipt = run(
        put_part(),
        (ASK_PART, part_url()),
        (put(), answer(status=403, body=b"Request has expired")),
        (ASK_PART, fresh),
        (put(query={"Signature": "NEW"}), stored()),
    )
    assert receipt.etag == MD5


def test_a_part_url_that_is_refused_twice_is_thrown() -> None:
    with pytest.raises(LeaseExpired):
        run(
            put_part(),
            (ASK_PART, part_url()),
            (put(), answer(status=403)),
            (ASK_PART, part_url()),
            (put(), answer(status=403)),
        )


def test_a_part_that_could_not_be_reserved_is_tried_again() -> None:
    run(put_part(), (ASK_PART, refused(400, 8008)), (ASK_PART, part_url()), (put(), stored()))


def test_a_part_answer_without_a_url_is_unusable_and_no_storage_is_asked() -> None:
    with pytest.raises(AnswerUnusable):
        run(put_part(), (ASK_PART, answer({"method": "PUT"})))


# -- completing -------------------------------------------------------------------------------

RECEIPTS = (
    Receipt(1, 0, 5 * MIB, "a" * 32, "a" * 32, report=(("ETag", "a" * 32),)),
    Receipt(2, 5 * MIB, 11, MD5, MD5, report=(("ETag", MD5),)),
)
REPORTS = {
    "parts": [
        {"part_number": 1, "response": {"headers": {"ETag": "a" * 32}}},
        {"part_number": 2, "response": {"headers": {"ETag": MD5}}},
    ]
}
COMPLETE = asks(
    "POST",
    "/upload/multipart/u1/complete",
    json=REPORTS,
    repeat=Repeat.ASK,
    rank=Rank.FINISH,
)
COMPLETE_BARE = asks("POST", "/upload/multipart/u1/complete", body=b"", repeat=Repeat.ASK)
REPORT = asks("POST", "/upload/multipart/u1", json=REPORTS)
DESCRIBE = asks("GET", "/upload/multipart/u1")
FIND = asks("GET", "/files", query={"project": "me/project", "name": "a.bam"})
STILL_OPEN = answer({"upload_id": "u1", "name": "a.bam", "project": "me/project"})
GONE = refused(404, 8003)
FILE = file("a", name="a.bam", size=11)
DONE = answer(FILE, status=201)
REMOTE = RemoteFile("fa", "a.bam", 11)


def complete(reports: bool = False) -> Flow[Completed | None]:  # noqa: FBT001, FBT002 - as the flow
    return sb.complete_upload(Upload("u1", 5 * MIB), TARGET, RECEIPTS, reports=reports)


def test_completing_carries_the_reports_of_all_parts() -> None:
    assert run(complete(), (COMPLETE, DONE)) == Completed(REMOTE)


@pytest.mark.parametrize("status", [400, 415, 422])
def test_parts_refused_in_completing_are_reported_in_bulk_once(status: int) -> None:
    done = run(
        complete(), (COMPLETE, refused(status, 8014)), (REPORT, answer()), (COMPLETE_BARE, DONE)
    )
    assert done == Completed(REMOTE, reported=True)


def test_a_platform_known_to_want_reports_gets_them_straight_away() -> None:
    done = run(complete(reports=True), (REPORT, answer()), (COMPLETE_BARE, DONE))
    assert done == Completed(REMOTE, reported=False)


def test_completing_refused_with_and_without_parts_is_thrown() -> None:
    with pytest.raises(Refused):
        run(
            complete(),
            (COMPLETE, refused(400, 8014)),
            (REPORT, answer()),
            (COMPLETE_BARE, refused(400, 8007)),
        )


@pytest.mark.parametrize(("status", "code"), [(409, 8004), (400, 8004), (409, None)])
def test_a_name_taken_while_parts_were_sent_is_a_conflict(status: int, code: int | None) -> None:
    with pytest.raises(Conflict):
        run(complete(), (COMPLETE, refused(status, code)))


@pytest.mark.parametrize(("status", "code"), [(403, 8001), (405, 90007)])
def test_another_refusal_to_complete_is_no_reason_to_report_apart(status: int, code: int) -> None:
    with pytest.raises(Refused):
        run(complete(), (COMPLETE, refused(status, code)))


def test_a_lost_completion_is_settled_by_asking_and_found_by_name_and_size() -> None:
    done = run(
        complete(), (COMPLETE, AnswerLost("cut off")), (DESCRIBE, GONE), (FIND, listing(FILE))
    )
    assert done == Completed(REMOTE, asked=True)


def test_a_gateway_error_on_completing_is_asked_about() -> None:
    done = run(complete(), (COMPLETE, refused(504)), (DESCRIBE, GONE), (FIND, listing(FILE)))
    assert done == Completed(REMOTE, asked=True)


def test_a_lost_completion_that_was_not_done_is_done_again() -> None:
    done = run(
        complete(), (COMPLETE, AnswerLost("cut off")), (DESCRIBE, STILL_OPEN), (COMPLETE, DONE)
    )
    assert done.file == REMOTE


def test_a_completion_that_is_lost_again_and_again_is_thrown() -> None:
    lost: tuple[Line, ...] = (COMPLETE, AnswerLost("cut off")), (DESCRIBE, STILL_OPEN)
    with pytest.raises(AnswerLost):
        run(complete(), *lost * 3)


def test_parts_refused_after_lost_answers_are_still_reported_in_bulk() -> None:
    lost: tuple[Line, ...] = (COMPLETE, AnswerLost("cut off")), (DESCRIBE, STILL_OPEN)
    done = run(
        complete(),
        *lost * 2,
        (COMPLETE, refused(400, 8014)),
        (REPORT, answer()),
        (COMPLETE_BARE, DONE),
    )
    assert done.reported


def test_a_lost_completion_after_a_bulk_report_still_says_that_it_was_needed() -> None:
    done = run(
        complete(),
        (COMPLETE, refused(400, 8014)),
        (REPORT, answer()),
        (COMPLETE_BARE, AnswerLost("cut off")),
        (DESCRIBE, GONE),
        (FIND, listing(FILE)),
    )
    assert done == Completed(REMOTE, asked=True, reported=True)


def test_an_upload_that_is_gone_is_looked_for_as_a_file() -> None:
    assert run(complete(), (COMPLETE, GONE), (FIND, listing(FILE))).asked


def test_an_upload_and_a_file_that_are_both_gone_are_nothing() -> None:
    assert run(complete(), (COMPLETE, GONE), (FIND, listing())) is None


@pytest.mark.parametrize(
    "other", [file("a", name="a.bam", size=12), file("a", name="A.BAM", size=11)]
)
def test_a_file_of_another_name_or_size_is_not_what_was_uploaded(other: dict[str, Any]) -> None:
    assert run(complete(), (COMPLETE, GONE), (FIND, listing(other))) is None


def test_a_folder_of_that_name_is_not_what_was_uploaded() -> None:
    assert run(complete(), (COMPLETE, GONE), (FIND, listing(folder("a.bam", "fo9")))) is None


def test_a_found_file_whose_size_is_not_listed_is_asked_for_by_id() -> None:
    unsized = file("a", name="a.bam", size=None)
    done = run(
        complete(),
        (COMPLETE, GONE),
        (FIND, listing(unsized)),
        (asks("GET", "/files/fa"), answer(FILE)),
    )
    assert done == Completed(REMOTE, asked=True)


@pytest.mark.parametrize("parts", [1, 3, 32])
def test_an_upload_of_p_parts_costs_two_and_p_api_requests(parts: int) -> None:
    spent = 0

    def counted(request: Request) -> Response:
        nonlocal spent
        spent += request.cost
        if request.cost == 0:
            return stored()
        if "/part/" in request.url:
            return part_url()
        return DONE if request.url.endswith("/complete") else answer(CREATED)

    def whole() -> Flow[Completed | None]:
        upload = yield from create()
        receipts = []
        for number in range(1, parts + 1):
            part = Part(number, (number - 1) * upload.part_size, upload.part_size)
            receipts.append((yield from sb.put_part(upload, part, "/data/a.bam")))
        return (yield from sb.complete_upload(upload, TARGET, receipts, reports=False))

    assert drive(whole(), counted) == Completed(REMOTE)
    assert spent == 2 + parts


def drive(flow: Flow[Any], answers: Callable[[Request], Response]) -> Any:  # noqa: ANN401
    try:
        request = next(flow)
        while True:
            request = flow.send(answers(request))
    except StopIteration as stop:
        return stop.value


# -- unfinished uploads -----------------------------------------------------------------------


def test_an_upload_is_aborted_by_one_request() -> None:
    run(sb.abort_upload("u1"), (asks("DELETE", "/upload/multipart/u1"), answer(status=204)))


@pytest.mark.parametrize(("status", "code"), [(404, 8003), (404, None), (400, 8003)])
def test_aborting_an_upload_that_is_gone_succeeds(status: int, code: int | None) -> None:
    run(sb.abort_upload("u1"), (asks("DELETE", "/upload/multipart/u1"), refused(status, code)))


@pytest.mark.parametrize("status", [204, 404])
def test_a_file_is_deleted_by_one_request_and_may_be_gone(status: int) -> None:
    run(sb.delete_file("f1"), (asks("DELETE", "/files/f1"), refused(status, 5002)))


def test_an_upload_that_may_not_be_aborted_is_refused() -> None:
    with pytest.raises(Refused):
        run(sb.abort_upload("u1"), (asks("DELETE", "/upload/multipart/u1"), refused(403, 8001)))


def test_open_uploads_come_by_the_hundred() -> None:
    items = [{"upload_id": f"u{n}", "name": "a.bam", "project": "me/project"} for n in range(100)]
    found, cursor = run(
        sb.open_uploads(None),
        (asks("GET", "/upload/multipart", query={"limit": "100", "offset": "0"}), listing(*items)),
    )
    assert len(found) == 100
    last, end = run(
        sb.open_uploads(cursor),
        (asks("GET", "/upload/multipart", query={"offset": "100"}), listing(items[0])),
    )
    assert (len(last), end) == (1, None)


def test_an_open_upload_is_known_by_place_name_size_and_beginning() -> None:
    upload = {
        "upload_id": "u1",
        "name": "a.bam",
        "parent": "fo1",
        "size": 11,
        "part_size": 5 * MIB,
        "initiated": "2026-11-22T08:00:00Z",
        "parallel_uploads": False,
    }
    (found,), _ = run(sb.open_uploads(None), (asks("GET", "/upload/multipart"), listing(upload)))
    assert (found.id, found.name, found.folder, found.size) == ("u1", "a.bam", "fo1", 11)
    assert (found.part_size, found.began_at, found.parallel) == (5 * MIB, 1_795_334_400, False)


def test_an_upload_is_described_by_one_request() -> None:
    found = run(sb.describe_upload("u1"), (DESCRIBE, STILL_OPEN))
    assert (found.name, found.container) == ("a.bam", "me/project")


def test_an_upload_that_is_gone_is_described_as_nothing() -> None:
    assert run(sb.describe_upload("u1"), (DESCRIBE, GONE)) is None


# -- downloads --------------------------------------------------------------------------------

INFO = asks("GET", "/files/f1/download_info", repeat=Repeat.SAFE)


@pytest.mark.parametrize(
    ("query", "expires_at"),
    [
        ("AWSAccessKeyId=K&Signature=S&Expires=1794000000", 1_794_000_000),
        ("X-Amz-Date=20261122T080000Z&X-Amz-Expires=3600&X-Amz-Signature=S", 1_795_338_000),
        ("X-Goog-Date=20261122T080000Z&X-Goog-Expires=3600&X-Goog-Signature=S", 1_795_338_000),
        ("token=S", None),
    ],
)
def test_a_download_costs_one_request_and_its_url_says_when_it_ends(
    query: str, expires_at: float | None
) -> None:
    url = f"{BUCKET}/a?{query}"
    lease = run(sb.lease(RemoteFile("f1", "a", 7)), (INFO, answer({"url": url})))
    assert lease == Lease(url, Origin("file", "f1"), expires_at)
    assert "Signature" not in repr(lease)


def test_a_url_that_cannot_be_read_is_unusable_and_no_foreign_error() -> None:
    with pytest.raises(PenstockError):
        run(sb.lease(RemoteFile("f1", "a", 7)), (INFO, answer({"url": "http://[bad"})))


def test_a_lease_is_renewed_where_it_came_from_and_matched_by_file() -> None:
    fresh = f"{BUCKET}/a?Signature=NEW&Expires=1794003600"
    renewed = run(sb.renew(Origin("file", "f1")), (INFO, answer({"url": fresh})))
    assert renewed == {"f1": Lease(fresh, Origin("file", "f1"), 1_794_003_600)}


def test_a_folder_cannot_be_downloaded() -> None:
    with pytest.raises(Refused):
        run(sb.lease(RemoteFile("f1", "a", 7)), (INFO, refused(400, 5017)))


def test_a_probe_is_a_get_of_one_byte_for_a_head_would_not_be_signed() -> None:
    asked = Asked(
        "GET",
        "/a",
        headers=(("Range", "bytes=0-0"),),
        cost=0,
        auth=NO_AUTH,
    )
    assert run(sb.probe(LEASE), (asked, answer(status=206))).status == 206


def test_a_probe_of_an_empty_file_is_answered_with_416() -> None:
    assert run(sb.probe(LEASE), (Asked("GET", "/a"), answer(status=416))).status == 416


def get(part: Part, total: int, validator: str | None) -> Request:
    flow = sb.get_part(
        LEASE, part, "/data/a", total=total, validator=validator, digests=frozenset(("md5",))
    )
    return next(flow)


def test_a_range_costs_nothing_and_holds_the_validator_fixed() -> None:
    request = get(Part(2, 10, 5), 20, '"v1"')
    assert (request.cost, request.auth) == (0, NO_AUTH)
    assert dict(request.headers) == {"Range": "bytes=10-14", "If-Range": '"v1"'}
    assert request.sink == FileSlice("/data/a", 10, 5)
    assert request.head is not None
    assert (request.head.offset, request.head.length, request.head.total) == (10, 5, 20)
    assert request.head.validator == '"v1"'


def test_a_weak_validator_is_compared_but_not_sent() -> None:
    request = get(Part(2, 10, 5), 20, 'W/"v1"')
    assert dict(request.headers) == {"Range": "bytes=10-14"}
    assert request.head is not None
    assert request.head.validator == 'W/"v1"'


def test_an_empty_file_is_fetched_without_a_range() -> None:
    assert get(Part(1, 0, 0), 0, None).headers == ()


def test_details_are_read_by_one_request() -> None:
    script = (asks("GET", "/files/f1"), answer(file(modified_on="2026-11-21T08:00:00Z")))
    found = run(sb.stat("f1"), script)
    assert found == RemoteFile("f1", "1.bam", 7, modified="2026-11-21T08:00:00Z")


def test_an_id_goes_into_a_path_escaped() -> None:
    run(sb.stat("a/b?c"), (asks("GET", "/files/a%2Fb%3Fc"), answer(file())))


def test_trouble_that_outlasts_the_exchanges_tries_reaches_the_caller() -> None:
    script = (INFO, refused(500)), (INFO, LastTry(refused(500)))
    with pytest.raises(Refused):
        run(sb.renew(Origin("file", "f1")), *script)


# -- whatever comes ---------------------------------------------------------------------------

FLOWS: dict[str, Callable[[], Flow[Any]]] = {
    "find": lambda: sb.find(Place("me/project", "raw/a.bam")),
    "find id": lambda: sb.find(Place("id=f1")),
    "list_page": lambda: sb.list_page(PROJECT, None),
    "list_containers": lambda: sb.list_containers(None),
    "make_folder": lambda: sb.make_folder(PROJECT, "raw"),
    "lease": lambda: sb.lease(RemoteFile("f1", "a", 7)),
    "renew": lambda: sb.renew(Origin("file", "f1")),
    "stat": lambda: sb.stat("f1"),
    "create_upload": create,
    "put_part": put_part,
    "complete_upload": complete,
    "describe_upload": lambda: sb.describe_upload("u1"),
    "open_uploads": lambda: sb.open_uploads(None),
}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
texts = st.sampled_from(["a.bam", "raw", "FILE", "FOLDER", "http://[", "https://h/p", "\ud800"])
FIELDS = (
    "id name type size url upload_id part_size headers report resource initiated "
    "parallel_uploads success_codes method parent"
)
names = st.sampled_from(tuple(FIELDS.split(" ")))
objects = st.dictionaries(names, texts | scalars | st.lists(scalars, max_size=2))
bodies = st.builds(
    lambda fields, items: {**fields, "items": items},
    objects,
    st.lists(objects | scalars, max_size=3)
    | scalars
    | st.lists(objects.map(lambda fields: {"id": "i", "name": "raw", **fields}), max_size=3),
)


@pytest.mark.parametrize("name", FLOWS)
@given(answers=st.lists(st.tuples(bodies, st.text(max_size=3)), max_size=4))
def test_no_answer_makes_a_flow_raise_a_foreign_error(
    name: str, answers: list[tuple[dict[str, Any], str]]
) -> None:
    flow = FLOWS[name]()
    try:
        request = next(flow)
        for fields, total in answers:
            assert "SECRET" not in repr(request)
            response = answer(fields, headers={"X-Total-Matching-Query": total, "ETag": total})
            digests = dict.fromkeys(request.digests, MD5)
            request = flow.send(Response(200, response.headers, response.body, digests))
    except (StopIteration, PenstockError):
        pass
    finally:
        flow.close()
