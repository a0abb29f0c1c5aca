"""Coscine's flows, played against scripts: what is asked, in order, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import (
    AnswerLost,
    AnswerUnusable,
    Conflict,
    LeaseExpired,
    LocationError,
    NameRefused,
    NotSent,
    PenstockError,
    ProfileError,
    Refused,
)
from penstock.core.locations import escape
from penstock.core.model import (
    MIB,
    NO_AUTH,
    PLATFORM,
    FileSlice,
    Flow,
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
from penstock.core.plan import check_part_size, upload_part_size
from penstock.platforms.base import JsonObject, Prepared
from penstock.platforms.coscine import LARGEST_FILE, TRAITS, Coscine
from penstock.platforms.coscine_answers import quota_bytes, room_left
from penstock.platforms.coscine_places import Resource
from scripted import Asked, LastTry, Line, answer, play

T = TypeVar("T")

ENDPOINT = "https://coscine.example/coscine/api/v2"
API = "/coscine/api/v2"
P = "8a4c1f86-0000-4000-8000-0000000000a1"
R = "8a4c1f86-0000-4000-8000-0000000000b1"
OTHER = "8a4c1f86-0000-4000-8000-0000000000b2"
IN = f"{P}/{R}"
RESOURCE = f"{API}/projects/{P}/resources/{R}"
STORAGE = f"{RESOURCE}/storage"
MD5 = "5d41402abc4b2a76b9719d911017c592"
GIB_UNIT = "https://qudt.org/vocab/unit/GibiBYTE"
BYTE_UNIT = "https://qudt.org/vocab/unit/BYTE"


def coscine(**chosen: str) -> Coscine:
    return Coscine(ENDPOINT, chosen)


def run(flow: Flow[T], script: Sequence[Line]) -> T:
    return play(flow, script, refusal=coscine().refusal, endpoint=ENDPOINT)


def page(*entries: Mapping[str, Any], **pagination: object) -> Response:
    pages = {
        "currentPage": 1,
        "totalPages": 1,
        "pageSize": 50,
        "totalCount": len(entries),
        "hasNext": False,
        **pagination,
    }
    return answer({"data": list(entries), "pagination": pages, "isSuccess": True})


def one(**fields: object) -> Response:
    return answer({"data": fields, "isSuccess": True, "statusCode": 200, "traceId": "t"})


def presigned(path: str, signature: str = "one") -> str:
    return (
        f"https://s3.example/bucket/{path}?X-Amz-Date=20261125T080000Z&X-Amz-Expires=86400"
        f"&X-Amz-Signature={signature}"
    )


def leaf(path: str, size: int = 5, url: str | None = "", **fields: object) -> dict[str, Any]:
    there = presigned(path) if url == "" else url
    actions = {"download": {"url": there, "method": "GET"}} if there is not None else None
    return {
        "path": path,
        "type": "Leaf",
        "name": path.rpartition("/")[2],
        "size": size,
        "changeDate": "2026-11-25T08:00:00Z",
        "actions": actions,
        **fields,
    }


def tree(path: str) -> dict[str, Any]:
    return {"path": path, "type": "Tree", "name": path.rstrip("/").rpartition("/")[2]}


def listed(prefix: str, number: int = 1) -> Asked:
    query = {"Prefix": prefix, "PageNumber": str(number), "PageSize": "50"}
    return Asked("GET", STORAGE, query=query, auth=PLATFORM, cost=1, repeat=Repeat.SAFE)


def project(**fields: object) -> dict[str, Any]:
    return {"id": P, "slug": "wind-1", "name": "Wind Project", "displayName": "Wind", **fields}


def resource(**fields: object) -> dict[str, Any]:
    kind = {"id": "t1", "generalType": "rds", "specificType": "rdsrwth", "options": {}}
    return {"id": R, "name": "Raw data", "displayName": "Raw", "type": kind, **fields}


PROJECTS = Asked("GET", f"{API}/projects", query={"PageNumber": "1", "PageSize": "50"})
RESOURCES = Asked(
    "GET", f"{API}/projects/{P}/resources", query={"PageNumber": "1", "PageSize": "50"}
)
ROOT = Place(IN, "", f"{IN}/")


# -- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "only-a-project", "only/", "id=abc"])
def test_a_location_without_a_resource_names_nothing(text: str) -> None:
    with pytest.raises(LocationError):
        coscine().place(text)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1))
def test_any_name_below_a_resource_is_read_as_it_was_escaped(names: list[str]) -> None:
    place = coscine().place("/".join(["p", "r", *(escape(name) for name in names)]))
    assert place == Place("p/r", "/".join(names))


def test_a_resource_by_ids_is_asked_for_once_whatever_else_is_asked_of_it() -> None:
    platform = coscine()
    found = run(platform.find(platform.place(IN)), [(Asked("GET", RESOURCE), one(**resource()))])
    assert found.place == ROOT
    assert run(platform.resource(IN), []).type == "rds"


def test_a_slug_is_asked_for_and_a_name_below_it_is_looked_for_by_page() -> None:
    script: list[Line] = [
        (Asked("GET", f"{API}/projects/wind-1"), one(**project())),
        (RESOURCES, page(resource(id=OTHER, displayName="Other"), resource())),
    ]
    platform = coscine()
    assert run(platform.find(platform.place("wind-1/Raw")), script).place == ROOT


def test_a_display_name_with_a_slash_is_looked_for_on_every_page() -> None:
    script: list[Line] = [
        (PROJECTS, page(project(id=OTHER, displayName="x"), hasNext=True, totalCount=2)),
        (
            replace(PROJECTS, query={"PageNumber": "2", "PageSize": "50"}),
            page(project(displayName="A/B 100%"), currentPage=2),
        ),
        (RESOURCES, page(resource())),
    ]
    platform = coscine()
    assert run(platform.find(platform.place("A%2FB 100%25/Raw")), script).place == ROOT


def test_a_name_that_fits_several_is_an_error_that_lists_their_ids() -> None:
    script: list[Line] = [
        (Asked("GET", f"{API}/projects/wind-1"), one(**project())),
        (RESOURCES, page(resource(), resource(id=OTHER))),
    ]
    platform = coscine()
    with pytest.raises(LocationError, match=rf"(?s){R}.*{OTHER}"):
        run(platform.find(platform.place("wind-1/Raw")), script)


def test_a_name_that_fits_nothing_says_what_is_near() -> None:
    script: list[Line] = [
        (Asked("GET", f"{API}/projects/Wint"), answer(status=404)),
        (PROJECTS, page(project())),
    ]
    platform = coscine()
    with pytest.raises(LocationError, match="did you mean 'Wind'"):
        run(platform.find(platform.place("Wint/Raw")), script)


def test_a_path_of_any_depth_is_found_by_one_listing() -> None:
    script: list[Line] = [(listed("a/b/c"), page(leaf("a/b/c.txt"), leaf("a/b/c"), leaf("a/b/cd")))]
    found = run(coscine().find(Place(IN, "a/b/c"), ROOT), script)
    assert found.place == Place(IN, "a/b", f"{IN}/a/b/")
    assert found.file is not None
    assert (found.file.id, found.file.name, found.file.size) == (f"{IN}/a/b/c", "c", 5)


def test_a_folder_is_found_beside_what_begins_like_it() -> None:
    script: list[Line] = [(listed("data"), page(leaf("data.csv"), tree("data/")))]
    found = run(coscine().find(Place(IN, "data"), ROOT), script)
    assert found == replace(found, place=Place(IN, "data", f"{IN}/data/"), missing=(), file=None)


def test_a_server_that_shows_nothing_for_a_bare_prefix_is_asked_what_is_below() -> None:
    script: list[Line] = [(listed("data"), page()), (listed("data/"), page(leaf("data/x")))]
    assert run(coscine().find(Place(IN, "data"), ROOT), script).place.path == "data"


def test_a_path_that_is_not_there_is_missing_whole_for_folders_need_no_making() -> None:
    script: list[Line] = [(listed("a/b"), page()), (listed("a/b/"), page())]
    found = run(coscine().find(Place(IN, "a/b"), ROOT), script)
    assert (found.place, found.missing) == (ROOT, ("a", "b"))
    assert run(coscine().make_folder(ROOT, "a"), []) == Place(IN, "a", f"{IN}/a/")


# -- listings ---------------------------------------------------------------------------------


def test_a_page_brings_a_url_for_each_file_and_each_knows_its_page() -> None:
    entries = [leaf("d/a"), tree("d/sub/"), leaf("d/none", url=None), {**tree("d/"), "size": 0}]
    script: list[Line] = [(listed("d/", 2), page(*entries, currentPage=2, totalCount=54))]
    found = run(coscine().list_page(Place(IN, "d", f"{IN}/d/"), "2"), script)
    first, bare = found.files
    assert first.lease is not None
    assert first.lease.origin == Origin("page", f"{IN}/d/", "2")
    assert first.lease.expires_at == 1_795_593_600 + 86_400
    assert bare.lease is None
    assert [folder.id for folder in found.folders] == [f"{IN}/d/sub/"]
    assert (found.next, found.total, found.left_out) == (None, 54, 1)


@pytest.mark.parametrize(
    ("pagination", "after"),
    [
        ({"hasNext": True}, "2"),
        ({"hasNext": None, "totalPages": 3}, "2"),
        ({"hasNext": None, "totalPages": None, "pageSize": 1, "totalCount": 9}, "2"),
        ({"hasNext": None, "totalPages": 1}, None),
        ({"hasNext": False, "totalPages": 9}, None),
    ],
)
def test_the_servers_own_pagination_decides_what_follows(
    pagination: dict[str, Any], after: str | None
) -> None:
    script: list[Line] = [(listed(""), page(leaf("a"), **pagination))]
    assert run(coscine().list_page(ROOT, None), script).next == after


def test_a_page_without_entries_is_the_last_whatever_it_says() -> None:
    script: list[Line] = [(listed("", 3), page(hasNext=True))]
    assert run(coscine().list_page(ROOT, "3"), script).next is None


def test_a_folder_that_shows_nothing_is_not_there_and_a_resource_is() -> None:
    with pytest.raises(Refused) as raised:
        run(coscine().list_page(Place(IN, "d", f"{IN}/d/"), None), [(listed("d/"), page())])
    assert raised.value.status == 404
    assert run(coscine().list_page(ROOT, None), [(listed(""), page())]).files == ()


def test_a_url_that_is_the_apis_own_is_no_lease() -> None:
    entry = leaf("a", url=f"{ENDPOINT}/projects/{P}/resources/{R}/blobs/a")
    found = run(coscine().list_page(ROOT, None), [(listed(""), page(entry))])
    assert found.files[0].lease is None


def test_urls_are_renewed_by_one_listing_of_their_page() -> None:
    entries = [leaf("d/a", url=presigned("d/a", "two")), leaf("d/b")]
    script: list[Line] = [(listed("d/", 2), page(*entries))]
    fresh = run(coscine().renew(Origin("page", f"{IN}/d/", "2")), script)
    assert set(fresh) == {f"{IN}/d/a", f"{IN}/d/b"}
    assert fresh[f"{IN}/d/a"].url.endswith("two")


def test_a_page_that_is_no_more_renews_nothing() -> None:
    assert run(coscine().renew(Origin("page", f"{IN}/d/", "9")), [(listed("d/", 9), page())]) == {}


def test_legacy_endpoints_are_a_setting() -> None:
    platform = coscine(endpoints="legacy")
    asked = Asked("GET", f"{RESOURCE}/trees/files", query={"Path": "d/", "PageSize": "50"})
    place = Place(IN, "d", f"{IN}/d/")
    assert run(platform.list_page(place, None), [(asked, page(leaf("d/a")))]).files
    send = Asked("POST", f"{RESOURCE}/blobs/d%2Fa%20b", auth=PLATFORM)
    flow = platform.put_part(Upload(f"POST {IN}/d/a b", 5), Part(1, 0, 5), "/x")
    assert run(flow, [(send, answer(status=201, md5=MD5))]).md5 == MD5


def test_a_path_is_encoded_twice_where_a_setting_says_so_and_read_by_one_encoding() -> None:
    platform = coscine(path_encoding="double")
    send = Asked("POST", f"{STORAGE}/dir%2Fa%2520b.txt/content")
    flow = platform.put_part(Upload(f"POST {IN}/dir/a b.txt", 5), Part(1, 0, 5), "/x")
    run(flow, [(send, answer(status=201, md5=MD5))])
    gone = Asked("DELETE", f"{STORAGE}/dir%2Fa%20b.txt")
    run(platform.delete_file(f"{IN}/dir/a b.txt"), [(gone, answer(status=204))])


@pytest.mark.parametrize("chosen", [{"endpoint": "legacy"}, {"endpoints": "old"}])
def test_a_setting_that_is_none_is_refused(chosen: dict[str, str]) -> None:
    with pytest.raises(ProfileError):
        Coscine(ENDPOINT, chosen)


# -- what may be done -------------------------------------------------------------------------

ME = Asked("GET", f"{API}/projects/{P}/members/me")
QUOTA = Asked("GET", f"{RESOURCE}/quota")


def role(name: str) -> Response:
    return one(id="m", role={"id": "r", "displayName": name})


def prepared(*after: Line, **fields: object) -> Prepared:
    script: list[Line] = [(Asked("GET", RESOURCE), one(**resource(**fields))), *after]
    return run(coscine().prepare(ROOT, writing=True), script)


def test_room_is_what_is_reserved_less_what_is_used() -> None:
    quota = one(
        used={"value": 3 << 30, "unit": BYTE_UNIT}, reserved={"value": 25, "unit": GIB_UNIT}
    )
    assert prepared((ME, role("owner")), (QUOTA, quota)) == Prepared(room=22 << 30)


@pytest.mark.parametrize(
    ("fields", "said"), [({"archived": True}, "archived"), ({"maintenanceMode": True}, "maintenan")]
)
def test_what_is_archived_or_under_maintenance_is_refused_without_more_questions(
    fields: dict[str, Any], said: str
) -> None:
    assert said in (prepared(**fields).refusal or "")


def test_a_guest_may_not_write() -> None:
    assert "guest" in (prepared((ME, role("guest"))).refusal or "")


def test_what_a_server_does_not_tell_refuses_nothing() -> None:
    nothing = answer(status=404)
    assert prepared((ME, nothing), (QUOTA, nothing)) == Prepared()


def test_a_type_that_takes_no_files_is_refused() -> None:
    kind = {"id": "t9", "generalType": "linked", "specificType": "linked"}
    asked = Asked("GET", f"{API}/resource-types/types/t9")
    told = prepared((ME, role("owner")), (asked, one(canCreate=False)), type=kind)
    assert "linked" in (told.refusal or "")


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        (BYTE_UNIT, 1),
        ("https://qudt.org/vocab/unit/KibiBYTE", 1 << 10),
        ("https://qudt.org/vocab/unit/MebiBYTE", 1 << 20),
        (GIB_UNIT, 1 << 30),
        ("https://qudt.org/vocab/unit/TebiBYTE", 1 << 40),
        ("https://qudt.org/vocab/unit/PebiBYTE", 1 << 50),
        ("https://qudt.org/vocab/unit/GigaBYTE", 10**9),
    ],
)
def test_quotas_are_read_in_their_units(unit: str, size: int) -> None:
    assert quota_bytes(JsonObject({"value": 1.5, "unit": unit}, "q")) == int(1.5 * size)


@pytest.mark.parametrize("value", [{"value": 1, "unit": "?"}, {"value": "1"}, {"value": -1}, {}])
def test_a_quota_that_cannot_be_read_is_none(value: dict[str, Any]) -> None:
    assert quota_bytes(JsonObject(value, "q")) is None
    assert room_left(JsonObject({"reserved": value}, "q")) is None


def test_old_versions_that_only_the_percentage_counts_take_room() -> None:
    reserved = {"value": 100, "unit": GIB_UNIT}
    used = {"value": 10 << 30, "unit": BYTE_UNIT}
    told = JsonObject({"reserved": reserved, "used": used, "usedPercentage": 61}, "q")
    assert room_left(told) == 40 << 30
    told = JsonObject({"reserved": reserved, "used": used, "usedPercentage": 10.4}, "q")
    assert room_left(told) == 90 << 30


def test_keys_of_a_bucket_are_read_and_never_shown() -> None:
    options = {
        "endpoint": "https://s3.example",
        "bucketName": "bucket-name",
        "accessKeyRead": "AKREAD",
        "secretKeyRead": "SECRETREAD",
        "accessKeyWrite": "AKWRITE",
        "secretKeyWrite": "SECRETWRITE",
    }
    for general, name in (("rdss3", "rdsS3"), ("dsnrws3", "dataStorageNrwS3")):
        kind = {"id": "t", "generalType": general, "specificType": "x", "options": {name: options}}
        platform = coscine()
        script: list[Line] = [(Asked("GET", RESOURCE), one(**resource(type=kind)))]
        found = run(platform.resource(IN), script)
        assert found.keys is not None
        assert found.keys.read == ("AKREAD", "SECRETREAD")
        assert found.keys.write == ("AKWRITE", "SECRETWRITE")
        for secret in ("AKREAD", "SECRET", "AKWRITE"):
            assert secret not in repr(found)


# -- projects and resources -------------------------------------------------------------------


def test_projects_are_written_by_their_slugs() -> None:
    script: list[Line] = [(PROJECTS, page(project(), project(id=OTHER, slug="b%", parent={})))]
    found = run(coscine().list_containers(None), script)
    assert [folder.written for folder in found.folders] == ["wind-1", "b%25"]
    assert [dict(folder.about) for folder in found.folders] == [{}, {"parent": True}]


def test_a_projects_resources_come_with_type_room_state_and_role_for_no_request_each() -> None:
    platform = coscine()
    slug = Asked("GET", f"{API}/projects/wind-1")
    subs = Asked("GET", f"{API}/projects/{P}/subprojects")
    first = run(
        platform.list_containers(None, "wind-1"),
        [(slug, one(**project())), (subs, page(project(id=OTHER, slug="sub-1")))],
    )
    assert [(f.kind, f.written) for f in first.folders] == [("project", "sub-1")]
    quotas = Asked("GET", f"{API}/projects/{P}/quotas")
    told = {
        "resource": {"id": R},
        "used": {"value": 0, "unit": BYTE_UNIT},
        "reserved": {"value": 1, "unit": GIB_UNIT},
    }
    second = run(
        platform.list_containers(first.next, "wind-1"),
        [
            (RESOURCES, page(resource(archived=True, displayName="A/B"))),
            (ME, role("member")),
            (quotas, page({"resourceQuotas": [told]})),
        ],
    )
    (shown,) = second.folders
    assert (shown.kind, shown.written, second.next) == ("resource", "A%2FB", None)
    assert dict(shown.about) == {
        "type": "rdsrwth",
        "room": 1 << 30,
        "archived": True,
        "role": "member",
    }


# -- downloads --------------------------------------------------------------------------------

CONTENT = Asked("GET", f"{STORAGE}/d%2Fa/content", cost=1, auth=PLATFORM)


def no_url(size: int) -> RemoteFile:
    return RemoteFile(f"{IN}/d/a", "a", size)


def test_a_small_file_without_a_url_costs_one_request() -> None:
    platform = coscine()
    lease = run(platform.lease(no_url(5)), [])
    flow = platform.get_part(
        lease, Part(1, 0, 5), "/x", total=5, validator=None, digests=frozenset(("md5",))
    )
    assert run(flow, [(replace(CONTENT, headers=None), answer(md5=MD5))]).digests["md5"] == MD5


def test_a_302_is_followed_as_a_new_request_without_token_or_slot() -> None:
    platform = coscine()
    lease = run(platform.lease(no_url(5)), [])
    there = Asked("GET", "/bucket/d/a", host="s3.example", cost=0, auth=NO_AUTH)
    moved = answer(status=302, headers={"Location": presigned("d/a")})
    flow = platform.get_part(
        lease, Part(1, 0, 5), "/x", total=5, validator=None, digests=frozenset()
    )
    assert run(flow, [(CONTENT, moved), (there, answer(status=206))]).status == 206


@pytest.mark.parametrize("where", ["", "ftp://s3.example/a", "http://s3.example/a"])
def test_a_redirect_to_nowhere_or_out_of_tls_is_not_followed(where: str) -> None:
    platform = coscine()
    lease = run(platform.lease(no_url(5)), [])
    headers = {"Location": where} if where else {}
    flow = platform.get_part(
        lease, Part(1, 0, 5), "/x", total=5, validator=None, digests=frozenset()
    )
    with pytest.raises(AnswerUnusable):
        run(flow, [(CONTENT, answer(status=302, headers=headers))])


@pytest.mark.parametrize(
    ("came", "whole", "host"),
    [
        (answer(status=302, headers={"Location": presigned("d/a")}), False, "s3.example"),
        (answer(status=206), False, "coscine.example"),
        (answer(status=200), True, "coscine.example"),
    ],
)
def test_a_large_file_without_a_url_is_asked_for_its_first_byte(
    came: Response, *, whole: bool, host: str
) -> None:
    lease = run(coscine().lease(no_url(64 * MIB)), [(CONTENT, came)])
    assert (lease.whole, urlsplit(lease.url).hostname) == (whole, host)


def test_an_ended_url_is_an_expired_lease_whose_signature_is_not_shown() -> None:
    lease = Lease(presigned("d/a"), Origin("page", f"{IN}/d/", "1"))
    body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    flow = coscine().get_part(
        lease, Part(1, 0, 5), "/x", total=5, validator=None, digests=frozenset()
    )
    with pytest.raises(LeaseExpired) as raised:
        run(flow, [(Asked("GET", "/bucket/d/a", cost=0), answer(status=403, body=body))])
    assert "Signature" not in str(raised.value)


# -- uploads ----------------------------------------------------------------------------------


def sending(method: str = "POST", repeat: Repeat = Repeat.ASK) -> Asked:
    return Asked(method, f"{STORAGE}/d%2Fa/content", auth=PLATFORM, cost=1, repeat=repeat)


def begin(*, overwrite: bool = False) -> Upload:
    target = Target(Place(IN, "d", f"{IN}/d/"), "a", 5)
    return run(coscine().create_upload(target, 5, overwrite=overwrite), [])


def put(script: Sequence[Line], *, overwrite: bool = False) -> Receipt:
    flow = coscine().put_part(begin(overwrite=overwrite), Part(1, 0, 5), "/data/a")
    return run(flow, script)


def test_a_form_around_the_file_is_streamed_and_needs_a_permit() -> None:
    request = next(coscine().put_part(begin(), Part(1, 0, 5), "/data/a"))
    assert request.carries_body
    opening, piece, closing = request.body
    assert isinstance(opening, bytes)
    assert piece == FileSlice("/data/a", 0, 5)
    kind = dict(request.headers)["Content-Type"]
    boundary = kind.removeprefix("multipart/form-data; boundary=").encode()
    assert opening.startswith(b"--" + boundary + b"\r\n")
    assert b'name="file"' in opening
    assert closing == b"\r\n--" + boundary + b"--\r\n"


def test_what_is_new_is_posted_and_what_is_listed_is_put_without_asking() -> None:
    assert put([(sending(), answer(status=201, md5=MD5))]).md5 == MD5
    over = (sending("PUT", Repeat.SAFE), answer(status=204, md5=MD5))
    assert put([over], overwrite=True).md5 == MD5


@pytest.mark.parametrize("lost", [AnswerLost("cut off"), answer(status=504, body=b"<html>")])
def test_a_lost_post_is_settled_by_the_listing_and_not_sent_again(
    lost: AnswerLost | Response,
) -> None:
    script: list[Line] = [(sending(), lost), (listed("d/a"), page(leaf("d/a")))]
    assert put(script).md5 == ""


def test_a_lost_post_that_left_nothing_is_sent_again() -> None:
    script: list[Line] = [
        (sending(), AnswerLost("cut off")),
        (listed("d/a"), page()),
        (sending(), answer(status=201, md5=MD5)),
    ]
    assert put(script).md5 == MD5


def test_a_post_refused_because_the_lost_one_was_done_is_settled_too() -> None:
    script: list[Line] = [
        (sending(), AnswerLost("cut off")),
        (listed("d/a"), page()),
        (sending(), answer(status=400)),
        (listed("d/a"), page(leaf("d/a"))),
    ]
    assert put(script).md5 == ""


def test_a_post_that_is_never_answered_is_given_up() -> None:
    script: list[Line] = [(sending(), AnswerLost("cut")), (listed("d/a"), page())] * 3
    with pytest.raises(AnswerLost):
        put(script)


def test_another_file_that_took_the_name_is_a_conflict_and_stays() -> None:
    with pytest.raises(Conflict):
        put([(sending(), answer(status=409)), (listed("d/a"), page(leaf("d/a")))])
    with pytest.raises(Conflict):
        put([(sending(), AnswerLost("x")), (listed("d/a"), page(leaf("d/a", size=9)))])


def test_a_lost_put_is_repeated_and_never_supposed() -> None:
    over = sending("PUT", Repeat.SAFE)
    script: list[Line] = [(over, AnswerLost("x")), (over, answer(status=200, md5=MD5))]
    assert put(script, overwrite=True).md5 == MD5
    with pytest.raises(AnswerLost):
        put([(over, LastTry(AnswerLost("x")))], overwrite=True)


def test_a_put_over_what_is_gone_becomes_a_post() -> None:
    script: list[Line] = [
        (sending("PUT", Repeat.SAFE), answer(status=400)),
        (listed("d/a"), page()),
        (sending(), answer(status=201, md5=MD5)),
    ]
    assert put(script, overwrite=True).md5 == MD5


def test_a_post_that_never_left_is_sent_again_without_a_question() -> None:
    script: list[Line] = [
        (sending(), NotSent("no connection")),
        (sending(), answer(status=201, md5=MD5)),
    ]
    assert put(script).md5 == MD5


@pytest.mark.parametrize("name", ["", ".", "..", "a|b", "x" * 1025])
def test_a_name_that_cannot_stand_there_is_refused_before_anything_is_sent(name: str) -> None:
    target = Target(ROOT, name, 5)
    with pytest.raises(NameRefused):
        run(coscine().create_upload(target, 5, overwrite=False), [])


def test_a_file_goes_whole_whatever_part_size_is_asked_for() -> None:
    check_part_size(8 * MIB, TRAITS)
    for size in (0, 1, 64 * MIB, LARGEST_FILE):
        assert upload_part_size(size, TRAITS, 8 * MIB) == max(size, 1)


def test_the_largest_file_and_its_form_are_within_100_gb() -> None:
    flow = coscine().put_part(begin(), Part(1, 0, LARGEST_FILE), "/data/a")
    assert next(flow).body_length <= 100 * 10**9


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "effect", "quota"),
    [(429, "RETRY", True), (503, "RETRY", True), (500, "RETRY", False), (502, "RETRY", False)]
    + [(status, "FAIL_TRANSFER", False) for status in (400, 403, 404, 409, 413, 415, 422)],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b'{"title": "No", "detail": "why", "traceId": "00-abc"}',
        b'{"isSuccess": false, "statusCode": 403, "traceId": "00-abc", "data": null}',
        b"[1]",
        b'"text"',
    ],
)
def test_whatever_an_errors_body_is_its_status_decides(
    status: int, effect: str, *, quota: bool, body: bytes
) -> None:
    request = Request("GET", f"{ENDPOINT}/projects?secret=1")
    refused = coscine().refusal(request, Response(status, body=body))
    assert isinstance(refused, Refused)
    assert (refused.effect.name, refused.quota, refused.status) == (effect, quota, status)
    assert "secret" not in str(refused)
    assert ("traceId 00-abc" in str(refused)) == (b"00-abc" in body)


def test_a_503_on_a_file_may_hide_that_it_was_taken() -> None:
    body = (FileSlice("/x", 0, 5),)
    request = Request("POST", f"{ENDPOINT}/x", body=body, repeat=Repeat.ASK)
    refused = coscine().refusal(request, Response(503))
    assert isinstance(refused, Refused)
    assert not refused.quota
    assert not refused.undone


def test_an_envelope_that_says_it_failed_is_refused_whatever_its_status() -> None:
    failed = answer({"isSuccess": False, "statusCode": 403, "traceId": "00-x", "data": None})
    with pytest.raises(Refused, match="00-x") as raised:
        run(coscine().list_page(ROOT, None), [(listed(""), failed)])
    assert raised.value.status == 403


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "data",
                    "pagination",
                    "id",
                    "path",
                    "type",
                    "size",
                    "actions",
                    "download",
                    "url",
                    "hasNext",
                    "isSuccess",
                    "options",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_no_answer_makes_anything_but_a_value_or_an_error_of_ours(value: object) -> None:
    response = answer(body=json.dumps(value).encode())
    for flow in (
        coscine().list_page(ROOT, None),
        coscine().resource(IN),
        coscine().list_containers(None),
        coscine().find_project("x"),
        coscine().room(resource_named()),
    ):
        try:
            next(flow)
            for _ in range(3):
                flow.send(response)
        except (PenstockError, StopIteration):
            continue


def resource_named() -> Resource:
    script: list[Line] = [(Asked("GET", RESOURCE), one(**resource()))]
    return run(coscine().resource(IN), script)


def test_every_page_asks_for_fifty() -> None:
    request = next(coscine().list_page(ROOT, "7"))
    assert parse_qs(urlsplit(request.url).query)["PageSize"] == ["50"]
    assert parse_qs(urlsplit(request.url).query)["PageNumber"] == ["7"]
