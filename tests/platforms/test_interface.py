"""The platform interface carries the other platforms, shown before any of them has an adapter.

The flows here are written from the fact sheets in nothing but the words of `core` and of
`platforms.base`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from urllib.parse import quote, urlencode

import pytest

from penstock.core.errors import (
    AnswerLost,
    DigestMismatch,
    ExchangeError,
    LeaseExpired,
    NotSent,
    Refused,
    TokenRefused,
)
from penstock.core.model import (
    NO_AUTH,
    PLATFORM,
    FileSlice,
    Flow,
    Head,
    Lease,
    Origin,
    Page,
    Part,
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
from penstock.core.proof import read_tag
from penstock.core.times import url_expires_at
from penstock.platforms.base import JsonObject, ranged_get, storage_refusal
from scripted import Asked, Line, answer, play

# -- DataMeta ---------------------------------------------------------------------------------

DATAMETA = "https://datameta.example/api/v1"
ANNOUNCED = "5d41402abc4b2a76b9719d911017c592"
BROKEN = "7d793037a0760186574b0282f2f435e7"
UPLOAD_URL = f"{DATAMETA}/upload/3f0c"
CONFIRM = Asked(
    "PUT",
    "/api/v1/files/3f0c",
    json={"contentUploaded": True},
    auth=PLATFORM,
    repeat=Repeat.ASK,
    accept=frozenset((200, 409)),
    rank=Rank.FINISH,
)
ASK_FILE = Asked("GET", "/api/v1/files/3f0c", auth=PLATFORM, repeat=Repeat.SAFE)
SEND = Asked(
    "POST", "/api/v1/upload/3f0c", auth=NO_AUTH, accept=frozenset((204,)), repeat=Repeat.SAFE
)
CONFIRMED = {"id": {"uuid": "3f0c", "site": "DMF-1"}, "name": "a", "filesize": 5}


def datameta_refusal(request: Request, response: Response) -> ExchangeError:
    return Refused(
        f"{request!r} was refused with {response.status}",
        status=response.status,
        retry=response.status >= 500,
    )


def send_body(lease: Lease, path: str, size: int) -> Flow[str]:
    """The MD5 of what went as field `file` of a form, with the step's own header."""
    sent = yield Request(
        "POST",
        lease.url,
        headers=(*lease.headers, ("Content-Type", "multipart/form-data; boundary=b")),
        body=(
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n',
            FileSlice(path, 0, size),
            b"\r\n--b--\r\n",
        ),
        auth=NO_AUTH,
        accept=frozenset((204,)),
        digests=frozenset(("md5",)),
    )
    return sent.digests["md5"]


def confirm(file_id: str, announced: str, sent: str, send: Callable[[], Flow[str]]) -> Flow[str]:
    """The id of the file once DataMeta holds it; a 409 is repaired once by sending again."""
    where = f"{DATAMETA}/files/{file_id}"
    for repaired in (False, True):
        try:
            said = yield Request(
                "PUT",
                where,
                body=(b'{"contentUploaded":true}',),
                accept=frozenset((200, 409)),
                repeat=Repeat.ASK,
                rank=Rank.FINISH,
            )
        except AnswerLost:
            said = yield Request("GET", where, rank=Rank.FINISH)
            if JsonObject.of(said, "file").get("contentUploaded") is not True:
                raise
        if said.status == 200:
            return file_id
        if repaired:
            raise DigestMismatch(
                f"{file_id} arrived damaged twice", expected=announced, actual=sent
            )
        sent = yield from send()
    raise AssertionError


def confirmed(sent: str = ANNOUNCED) -> Flow[str]:
    lease = Lease(UPLOAD_URL, Origin("file", "3f0c"), headers=(("Access-Token", "T" * 64),))
    return confirm("3f0c", ANNOUNCED, sent, lambda: send_body(lease, "/data/a", 5))


def test_a_409_on_confirm_repairs_itself_by_sending_once_more() -> None:
    script: list[Line] = [
        (CONFIRM, answer(status=409, body=b"null")),
        (SEND, answer(status=204, md5=ANNOUNCED)),
        (CONFIRM, answer(CONFIRMED)),
    ]
    assert play(confirmed(BROKEN), script, refusal=datameta_refusal, endpoint=DATAMETA) == "3f0c"


def test_a_second_409_fails_with_both_digests() -> None:
    script: list[Line] = [
        (CONFIRM, answer(status=409, body=b"null")),
        (SEND, answer(status=204, md5=BROKEN)),
        (CONFIRM, answer(status=409, body=b"null")),
    ]
    with pytest.raises(DigestMismatch) as raised:
        play(confirmed(), script, refusal=datameta_refusal)
    assert (raised.value.expected, raised.value.actual) == (ANNOUNCED, BROKEN)


def test_a_lost_confirm_is_answered_by_asking_for_the_file() -> None:
    script: list[Line] = [
        (CONFIRM, AnswerLost("cut off")),
        (ASK_FILE, answer({**CONFIRMED, "contentUploaded": True})),
    ]
    assert play(confirmed(), script, refusal=datameta_refusal) == "3f0c"


def test_a_lost_confirm_that_was_not_done_is_thrown_not_supposed() -> None:
    script: list[Line] = [
        (CONFIRM, AnswerLost("cut off")),
        (ASK_FILE, answer({**CONFIRMED, "contentUploaded": False})),
    ]
    with pytest.raises(AnswerLost):
        play(confirmed(), script, refusal=datameta_refusal)


def test_a_gateway_error_on_confirm_is_asked_about_like_a_lost_answer() -> None:
    script: list[Line] = [
        (CONFIRM, answer(status=502, body=b"<html>")),
        (ASK_FILE, answer({**CONFIRMED, "contentUploaded": True})),
    ]
    assert play(confirmed(), script, refusal=datameta_refusal) == "3f0c"


def test_an_expired_key_is_never_tried_a_second_time() -> None:
    # DataMeta disables the account after five calls with an expired key.
    script: list[Line] = [(CONFIRM, answer(status=401, body=b"<html>"))]
    with pytest.raises(TokenRefused):
        play(confirmed(), script, refusal=datameta_refusal)


def test_a_form_around_a_file_is_a_rope_of_known_length_that_needs_a_permit() -> None:
    lease = Lease(UPLOAD_URL, Origin("file", "3f0c"), headers=(("Access-Token", "T" * 64),))
    request = next(send_body(lease, "/data/a", 5))
    assert request.carries_body
    opening, content, closing = request.body
    assert isinstance(opening, bytes)
    assert isinstance(closing, bytes)
    assert content == FileSlice("/data/a", 0, 5)
    assert request.body_length == len(opening) + 5 + len(closing)
    assert "T" * 64 not in repr(request)
    assert "T" * 64 not in repr(lease)


def test_a_download_url_whose_path_is_the_secret_is_not_shown() -> None:
    # DataMeta: GET /api/v1/download/{token}; the token stands in the path.
    lease = Lease(f"{DATAMETA}/download/SECRET", Origin("file", "3f0c"))
    request = ranged_get(
        lease, Part(1, 0, 5), "/data/a", total=5, validator=None, digests=frozenset()
    )
    refused = storage_refusal(request, answer(status=404))
    assert "SECRET" not in repr(lease)
    assert "SECRET" not in repr(request)
    assert "SECRET" not in str(refused)


def test_a_target_carries_the_digests_that_must_be_announced_before_the_first_byte() -> None:
    # DataMeta: POST /files takes name and MD5; create_upload is given nothing but its target.
    assert "digests" in {field.name for field in fields(Target)}


def test_an_upload_has_room_for_the_lease_its_bytes_go_to() -> None:
    # DataMeta: POST /files answers with the URL and the header of the next step.
    assert "lease" in {field.name for field in fields(Upload)}


# -- Coscine ----------------------------------------------------------------------------------

COSCINE = "https://coscine.example/coscine/api/v2"
STORAGE = "https://s3.coscine.example"
RESOURCE = "p1/r1"
# One page of a folder, as the listing's leases remember it.
PAGE_2 = Origin("page", f"{RESOURCE}/data/", "2")


def presigned(path: str, at: str, signature: str) -> str:
    return (
        f"{STORAGE}/bucket/{quote(path)}?X-Amz-Date={at}&X-Amz-Expires=86400"
        f"&X-Amz-Signature={signature}"
    )


def coscine_page(place: str, cursor: str | None) -> Flow[Page]:
    """One page of one folder: files come with leases whose origin is this very page."""
    project, resource, prefix = place.split("/", 2)
    number = cursor or "1"
    query = urlencode({"Prefix": prefix, "PageNumber": number, "PageSize": 50})
    response = yield Request(
        "GET", f"{COSCINE}/projects/{project}/resources/{resource}/storage?{query}"
    )
    listing = JsonObject.of(response, "listing")
    files, folders = [], []
    for item in listing.objects("data"):
        path, name = item.text("path"), item.text("name")
        if item.text("type") == "Tree":
            folders.append(RemoteFolder(path, name))
            continue
        actions = item.object_or_none("actions")
        download = actions.object_or_none("download") if actions is not None else None
        lease = None
        if download is not None:
            url = download.text("url")
            lease = Lease(url, Origin("page", place, number), url_expires_at(url))
        files.append(RemoteFile(path, name, item.whole("size"), lease=lease))
    pages = listing.object_or_none("pagination")
    assert pages is not None
    more = pages.get("hasNext") is True
    return Page(
        tuple(files),
        tuple(folders),
        str(int(number) + 1) if more else None,
        pages.whole("totalCount"),
    )


def coscine_renew(origin: Origin) -> Flow[Mapping[str, Lease]]:
    """Fresh leases of a whole page for one request: the page listed again, matched by path."""
    page = yield from coscine_page(origin.place, origin.cursor)
    return {file.id: file.lease for file in page.files if file.lease is not None}


def coscine_content(path: str, part: Part, sink: str) -> Flow[Response]:
    """A file's bytes through the API, which may answer with them or send to the storage."""
    head = Head(part.offset, part.length, part.length)
    place = f"{COSCINE}/projects/p1/resources/r1/storage/{quote(path, safe='')}/content"
    said = yield Request(
        "GET",
        place,
        sink=FileSlice(sink, part.offset, part.length),
        head=head,
        accept=frozenset((200, 302)),
    )
    if said.status == 200:
        return said
    there = Lease(said.headers["Location"], Origin("file", path))
    return (
        yield ranged_get(there, part, sink, total=part.length, validator=None, digests=frozenset())
    )


def entry(path: str, at: str, signature: str) -> dict[str, object]:
    url = presigned(path, at, signature)
    return {
        "path": path,
        "type": "Leaf",
        "name": path.rpartition("/")[2],
        "size": 5,
        "actions": {"download": {"url": url, "method": "GET"}},
    }


def listing(*entries: dict[str, object]) -> Response:
    pages = {"currentPage": 2, "totalCount": 52, "hasNext": False}
    return answer({"data": list(entries), "pagination": pages, "isSuccess": True})


LIST_PAGE_2 = Asked(
    "GET",
    "/coscine/api/v2/projects/p1/resources/r1/storage",
    query={"Prefix": "data/", "PageNumber": "2", "PageSize": "50"},
    cost=1,
    auth=PLATFORM,
    repeat=Repeat.SAFE,
)


def test_a_listing_page_brings_a_lease_for_each_file_and_each_knows_its_page() -> None:
    script: list[Line] = [
        (
            LIST_PAGE_2,
            listing(
                entry("data/a", "20261121T080000Z", "one"),
                {"path": "data/sub/", "type": "Tree", "name": "sub"},
            ),
        )
    ]
    page = play(coscine_page(PAGE_2.place, PAGE_2.cursor), script, endpoint=COSCINE)
    lease = page.files[0].lease
    assert lease is not None
    assert lease.origin == PAGE_2
    assert page.folders == (RemoteFolder("data/sub/", "sub"),)
    assert (page.next, page.total) == (None, 52)


def test_leases_are_renewed_by_one_listing_of_the_page_they_came_from() -> None:
    script: list[Line] = [
        (
            LIST_PAGE_2,
            listing(
                entry("data/a", "20261122T080000Z", "two"),
                entry("data/b", "20261122T080000Z", "two"),
            ),
        )
    ]
    renewed = play(coscine_renew(PAGE_2), script, endpoint=COSCINE)
    assert set(renewed) == {"data/a", "data/b"}
    # 2026-11-22 08:00 UTC, and the 24 h Coscine gives.
    assert renewed["data/a"].expires_at == 1_795_334_400 + 86_400
    assert renewed["data/a"].origin == PAGE_2


def test_a_file_that_moved_off_its_page_is_missing_from_what_was_renewed() -> None:
    script: list[Line] = [(LIST_PAGE_2, listing(entry("data/b", "20261122T080000Z", "two")))]
    assert "data/a" not in play(coscine_renew(PAGE_2), script)


CONTENT = Asked(
    "GET",
    "/coscine/api/v2/projects/p1/resources/r1/storage/data%2Fa/content",
    cost=1,
    auth=PLATFORM,
    accept=frozenset((200, 302)),
)


def test_a_302_is_followed_as_a_new_request_without_a_token_or_a_slot() -> None:
    url = presigned("data/a", "20261121T080000Z", "one")
    script: list[Line] = [
        (CONTENT, answer(status=302, headers={"Location": url})),
        (
            Asked("GET", "/bucket/data/a", host="s3.coscine.example", cost=0, auth=NO_AUTH),
            answer(status=206),
        ),
    ]
    flow = coscine_content("data/a", Part(1, 0, 5), "/data/a.part")
    assert play(flow, script, endpoint=COSCINE).status == 206


def test_a_content_endpoint_may_answer_with_the_bytes_themselves() -> None:
    flow = coscine_content("data/a", Part(1, 0, 5), "/data/a.part")
    assert play(flow, [(CONTENT, answer())], endpoint=COSCINE).status == 200


def test_a_presigned_url_that_ended_is_thrown_as_an_expired_lease() -> None:
    url = presigned("data/a", "20261121T080000Z", "one")
    body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    script: list[Line] = [
        (CONTENT, answer(status=302, headers={"Location": url})),
        (Asked("GET", "/bucket/data/a"), answer(status=403, body=body)),
    ]
    flow = coscine_content("data/a", Part(1, 0, 5), "/data/a.part")
    with pytest.raises(LeaseExpired) as raised:
        play(flow, script, refusal=storage_refusal)
    assert "Signature" not in str(raised.value)


# -- S3 with keys -----------------------------------------------------------------------------


def put_signed_part(upload: Upload, part: Part, path: str) -> Flow[Receipt]:
    """A part for a bucket whose key pair the engine knows by name."""
    query = urlencode({"partNumber": part.number, "uploadId": upload.id})
    sent = yield Request(
        "PUT",
        f"{STORAGE}/bucket/data/a?{query}",
        body=(FileSlice(path, part.offset, part.length),),
        cost=0,
        auth=sigv4("rdss3:p1/r1:write"),
        accept=frozenset((200,)),
        rank=Rank.FINISH,
        digests=frozenset(("md5",)),
    )
    tag = read_tag(sent.headers)
    return Receipt(
        part.number, part.offset, part.length, sent.digests["md5"], tag.text, bool(tag.hex)
    )


def test_a_signed_part_names_its_key_and_holds_no_secret() -> None:
    asked = Asked(
        "PUT",
        "/bucket/data/a",
        query={"partNumber": "2", "uploadId": "u1"},
        headers=(),
        cost=0,
        auth=sigv4("rdss3:p1/r1:write"),
    )
    part = Part(2, 8 << 20, 5)
    script: list[Line] = [(asked, answer(headers={"ETag": f'"{ANNOUNCED}"'}, md5=ANNOUNCED))]
    receipt = play(
        put_signed_part(Upload("u1", 8 << 20), part, "/data/a"), script, endpoint=COSCINE
    )
    assert receipt == Receipt(2, 8 << 20, 5, ANNOUNCED, ANNOUNCED, proves=True)


def test_a_signed_part_that_never_left_is_sent_again_by_the_exchange() -> None:
    asked = Asked("PUT", "/bucket/data/a", repeat=Repeat.SAFE)
    script: list[Line] = [
        (asked, NotSent("no connection")),
        (asked, AnswerLost("cut off")),
        (asked, answer(md5=ANNOUNCED)),
    ]
    receipt = play(put_signed_part(Upload("u1", 5), Part(1, 0, 5), "/data/a"), script)
    assert not receipt.proves


# -- SURF -------------------------------------------------------------------------------------

SURF = "https://gw.example/v1/workspace"
WORKSPACE = Asked("GET", "/v1/workspace/workspaces/w1/", auth=PLATFORM, repeat=Repeat.SAFE)
PAUSE = Asked(
    "POST",
    "/v1/workspace/workspaces/w1/actions/pause/",
    json={},
    auth=PLATFORM,
    repeat=Repeat.ASK,
)


@dataclass(frozen=True)
class Acted:
    """`known` is False where nobody can say whether the action was taken."""

    known: bool


def surf_refusal(request: Request, response: Response) -> ExchangeError:
    busy = response.status == 503
    return Refused(
        f"{request!r} was refused with {response.status}",
        status=response.status,
        retry=response.status >= 500,
        queue_full=busy,
        undone=busy,
    )


def act(workspace: str, action: str) -> Flow[Acted]:
    """An action asked for once. A lost answer is looked up in what the workspace was told to do."""
    where = f"{SURF}/workspaces/{workspace}/"
    before = yield Request("GET", where)
    known = set(_actions(before, action))
    try:
        yield Request("POST", f"{where}actions/{action}/", body=(b"{}",), repeat=Repeat.ASK)
    except AnswerLost:
        now = yield Request("GET", where, rank=Rank.FINISH)
        return Acted(known=any(at not in known for at in _actions(now, action)))
    return Acted(known=True)


def _actions(response: Response, action: str) -> list[str]:
    listed = JsonObject.of(response, "workspace").objects("workspace_actions")
    return [entry.text("time_created") for entry in listed if entry.text("type") == action]


def workspace(*paused_at: str) -> Response:
    actions = [{"type": "pause", "status": "done", "time_created": at} for at in paused_at]
    return answer({"id": "w1", "status": "running", "workspace_actions": actions})


def test_an_action_whose_answer_is_lost_is_looked_up_and_never_repeated() -> None:
    script: list[Line] = [
        (WORKSPACE, workspace("2026-11-20T18:00:00Z")),
        (PAUSE, AnswerLost("cut off")),
        (WORKSPACE, workspace("2026-11-20T18:00:00Z", "2026-11-21T08:00:00Z")),
    ]
    assert play(act("w1", "pause"), script, refusal=surf_refusal, endpoint=SURF) == Acted(
        known=True
    )


def test_an_action_that_shows_nowhere_is_unknown_and_still_not_repeated() -> None:
    script: list[Line] = [
        (WORKSPACE, workspace("2026-11-20T18:00:00Z")),
        (PAUSE, AnswerLost("cut off")),
        (WORKSPACE, workspace("2026-11-20T18:00:00Z")),
    ]
    assert play(act("w1", "pause"), script, refusal=surf_refusal) == Acted(known=False)


def test_an_action_answered_by_a_gateway_error_is_looked_up_too() -> None:
    script: list[Line] = [
        (WORKSPACE, workspace()),
        (PAUSE, answer(status=504, body=b"<html>")),
        (WORKSPACE, workspace("2026-11-21T08:00:00Z")),
    ]
    assert play(act("w1", "pause"), script, refusal=surf_refusal) == Acted(known=True)


def test_a_full_queue_is_told_to_whoever_sends_many() -> None:
    script: list[Line] = [
        (WORKSPACE, workspace()),
        (PAUSE, answer(status=503, body=b"busy")),
    ]
    with pytest.raises(Refused) as raised:
        play(act("w1", "pause"), script, refusal=surf_refusal)
    assert raised.value.queue_full
