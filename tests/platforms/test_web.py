"""Plain URLs by scripted answers: what is asked, and what is taken from the head."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import LocationError, Refused, UsageError
from penstock.core.locations import Url
from penstock.core.model import NO_AUTH, Lease, Origin, Part, RemoteFile, Response
from penstock.platforms.base import retry_after_s
from penstock.platforms.web import Web, file_at
from scripted import Asked, answer, play

URL = "https://data.example/run/a%20b.bam?X-Amz-Signature=hidden"
HEAD = Asked("HEAD", "/run/a%20b.bam", host="data.example", auth=NO_AUTH, cost=0)
BYTE = Asked("GET", "/run/a%20b.bam", host="data.example", auth=NO_AUTH, cost=0)


def found(*script: tuple[Asked, Response]) -> RemoteFile | None:
    web = Web()
    return play(web.find(web.place(URL)), script, refusal=web.refusal).file


def test_a_head_tells_size_etag_and_time_of_change() -> None:
    headers = {
        "Content-Length": "5",
        "ETag": '"x"',
        "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT",
    }
    file = found((HEAD, answer(headers=headers)))
    assert file is not None
    assert (file.name, file.size, file.etag) == ("a b.bam", 5, '"x"')
    assert file.modified == "2026-11-21T10:00:00+00:00"


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_server_that_refuses_head_is_asked_for_one_byte(status: int) -> None:
    ranged = answer(status=206, headers={"Content-Range": "bytes 0-0/1234"})
    file = found((HEAD, answer(status=status)), (BYTE, ranged))
    assert file is not None
    assert file.size == 1234


def test_the_length_of_an_encoded_body_is_not_the_file_s() -> None:
    encoded = {"Content-Length": "3", "Content-Encoding": "gzip"}
    plain = answer(status=200, headers={"Content-Length": "7"})
    file = found((HEAD, answer(headers=encoded)), (BYTE, plain))
    assert file is not None
    assert file.size == 7


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_missing(status: int) -> None:
    assert found((HEAD, answer(status=status))) is None


def test_a_refused_url_is_no_expired_lease_for_there_is_no_other() -> None:
    web = Web()
    lease = Lease(URL, Origin("url", "x"))
    flow = web.get_part(lease, Part(1, 0, 5), "/sink", total=5, validator=None, digests=frozenset())
    with pytest.raises(Refused, match="403") as raised:
        play(flow, [(BYTE, answer(status=403))], refusal=web.refusal)
    assert "hidden" not in str(raised.value)


def test_the_query_is_in_no_id_container_or_repr() -> None:
    file, place = file_at(URL), Web().place(URL)
    for text in (file.id, place.container, place.path, repr(file), file.name):
        assert "hidden" not in text
    other = file_at(URL.replace("hidden", "other"))
    assert other.id != file.id


def test_a_url_without_a_name_gets_one() -> None:
    assert file_at("https://data.example/").name == "index.html"
    assert file_at("https://data.example/a/..%2F..%2Fx").name == "../../x"


@given(
    st.from_regex(r"https?://[A-Za-z0-9.-]{1,5}(:[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["", "/"]),
    st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?"), max_size=9
    ),
)
def test_a_fragment_changes_nothing_of_what_a_url_names(origin: str, slash: str, path: str) -> None:
    url = f"{origin}{slash}{path if slash else ''}"
    plain, marked = file_at(url), file_at(f"{url}#fragment")
    assert (plain.id, plain.name) == (marked.id, marked.name)
    here, there = Web().place(url), Web().place(f"{url}#fragment")
    assert (here.container, here.path) == (there.container, there.path)


def test_redirects_lead_to_the_file_and_never_from_tls_to_none() -> None:
    web = Web()
    there = answer(status=302, headers={"Location": "https://mirror.example/f"})
    mirror = Asked("HEAD", "/f", host="mirror.example", auth=NO_AUTH)
    script = [(HEAD, there), (mirror, answer(headers={"Content-Length": "1"}))]
    file = play(web.find(web.place(URL)), script, refusal=web.refusal).file
    assert file is not None
    assert file.size == 1
    assert file.lease is not None
    assert file.lease.url == URL
    plain = answer(status=302, headers={"Location": "http://mirror.example/f"})
    with pytest.raises(Exception, match="without TLS"):
        play(web.find(web.place(URL)), [(HEAD, plain)], refusal=web.refusal)


def test_what_is_no_url_names_nothing() -> None:
    for text in ("ftp://x/y", "https://", "https://[/x"):
        with pytest.raises(LocationError):
            Web().place(text)


def test_nothing_is_sent_to_a_url() -> None:
    web = Web()
    for flow in (
        web.make_folder(web.place(URL), "x"),
        web.delete_file("x"),
        web.abort_upload("x"),
        web.open_uploads(None),
        web.describe_upload("x"),
    ):
        with pytest.raises(UsageError, match="nothing can be sent"):
            play(flow, [])


def test_a_server_may_ask_to_be_left_alone() -> None:
    refused = Web().refusal(
        next(Web().probe(Lease(URL, Origin("url", "x")))),
        answer(status=429, headers={"Retry-After": "7"}),
    )
    assert isinstance(refused, Refused)
    assert (refused.retry_after_s, refused.effect.name) == (7.0, "RETRY")
    date = {
        "Date": "Sat, 21 Nov 2026 10:00:00 GMT",
        "Retry-After": "Sat, 21 Nov 2026 10:00:09 GMT",
    }
    assert retry_after_s(answer(headers=date).headers) == 9.0
    assert retry_after_s(answer(headers={"Retry-After": "9" * 30}).headers) == 300.0
    assert retry_after_s(answer(headers={"Retry-After": "soon"}).headers) is None


def test_a_url_shows_itself_without_its_query() -> None:
    assert "hidden" not in repr(Url(URL))
