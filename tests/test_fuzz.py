"""Every parser of what others wrote: an error of ours or a value, never another exception."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fuzzing
from fuzzing import HEADERS, TEXTS, arguments, bodies, flows_of, jsons, play, words_of
from penstock.api import history, selecting
from penstock.config import load
from penstock.core import globs, locations, metadata, proof, ratelimit, report, tables, times, units
from penstock.core.errors import PenstockError, redacted
from penstock.core.heads import check_head
from penstock.core.model import NO_AUTH, FileSlice, Head, Headers, Request, Response
from penstock.core.quota import Standing
from penstock.jobs import read_rows
from penstock.platforms import (
    base,
    coscine,
    coscine_answers,
    coscine_catalogue,
    coscine_listings,
    coscine_metadata,
    coscine_places,
    coscine_profile,
    datameta,
    datameta_records,
    s3,
    sevenbridges,
    sevenbridges_metadata,
    surf,
    web,
    xmlreading,
)

# PENSTOCK_FUZZ=2000 looks longer.
EXAMPLES = int(os.environ.get("PENSTOCK_FUZZ", "8"))
look = settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

PLATFORMS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "sevenbridges": (
        lambda: sevenbridges.SevenBridges("https://h/v2"),
        words_of(sevenbridges, sevenbridges_metadata),
    ),
    "coscine": (
        lambda: coscine.Coscine("https://h/coscine/api/v2"),
        words_of(
            coscine,
            coscine_answers,
            coscine_catalogue,
            coscine_listings,
            coscine_places,
            coscine_metadata,
        ),
    ),
    "datameta": (
        lambda: datameta.DataMeta("https://h/api/v1"),
        words_of(datameta, datameta_records),
    ),
    "s3": (lambda: s3.S3("https://h", "bucket", "r", "w"), words_of(s3, xmlreading)),
    "surf": (lambda: surf.Surf("https://h/v1"), words_of(surf)),
    "web": (web.Web, words_of(web)),
}
FLOWS = [(name, flow) for name, (make, _) in PLATFORMS.items() for flow in flows_of(make())]


def test_every_platform_has_flows_that_are_tried() -> None:
    tried = {name: sum(one == name for one, _ in FLOWS) for name in PLATFORMS}
    assert tried["sevenbridges"] > 15
    assert min(tried["coscine"], tried["datameta"], tried["s3"]) > 12
    assert min(tried["surf"], tried["web"]) >= 2


@pytest.mark.parametrize(("platform", "flow"), FLOWS)
@given(data=st.data())
@look
def test_a_flow_makes_a_value_or_an_error_of_ours_of_whatever_comes(
    platform: str, flow: str, data: st.DataObject
) -> None:
    make, words = PLATFORMS[platform]
    made = make()
    chosen = flows_of(made)[flow]
    play(data, chosen(**arguments(data, chosen)), bodies(words), made.refusal)


@pytest.mark.parametrize("platform", PLATFORMS)
@given(data=st.data())
@look
def test_a_refusal_of_any_kind_has_a_meaning(platform: str, data: st.DataObject) -> None:
    make, words = PLATFORMS[platform]
    for request in (
        Request("GET", "https://h/x"),
        Request("GET", "https://s/x?q", auth=NO_AUTH),
    ):
        status = data.draw(st.integers(300, 599))
        error = make().refusal(
            request, Response(status, data.draw(HEADERS), data.draw(bodies(words)))
        )
        assert isinstance(error, PenstockError)
        assert "\n" not in str(error)


# -- headers -------------------------------------------------------------------------------


@given(HEADERS, st.sampled_from([200, 206]))
@look
@example(Headers({"content-range": f"bytes 0-{'9' * 5000}/{'9' * 5000}"}), 206)
@example(Headers({"content-range": "bytes 0-٣/٤"}), 206)
@example(Headers({"content-length": "²"}), 200)
@example(Headers({"content-length": "9" * 5000}), 200)
def test_any_head_is_taken_or_refused(headers: Headers, status: int) -> None:
    request = Request(
        "GET", "https://h/x", sink=FileSlice("s", 0, 4), head=Head(0, 4, 5, '"e"'), auth=NO_AUTH
    )
    with contextlib.suppress(PenstockError):
        check_head(request, status, headers)


@given(HEADERS, st.floats(0, 4e9))
@look
def test_header_fields_are_read_or_say_nothing(headers: Headers, now_s: float) -> None:
    tag = proof.read_tag(headers)
    assert tag.parts >= 0
    proof.candidate_part_sizes(1 << 30, min(tag.parts, 1 << 40))
    proof.promised_digests(headers)
    base.retry_after_s(headers)
    for refused in (False, True):
        ratelimit.read_headers(headers, quota=1000, window_s=60.0, wall_at=now_s, refused=refused)


@given(TEXTS | st.text())
@look
@example("http://[")
@example("https://h/x?" + "X-Amz-Expires=" + "9" * 5000 + "&X-Amz-Date=20261125T100000Z")
@example("https://h/x?Expires=" + "9" * 5000)
@example("https://h/?X-Goog-Date=99999999T999999Z&X-Goog-Expires=1")
def test_urls_and_times_are_read_or_say_nothing(text: str) -> None:
    assert "?q" not in redacted(text + "?q")
    times.url_expires_at(text)
    times.when(text)


@given(jsons(["x"]))
@look
def test_a_time_of_any_type_is_read_or_says_nothing(value: object) -> None:
    times.when(value)


# -- what users write ----------------------------------------------------------------------


@given(TEXTS | st.text(st.sampled_from("abc:/%.=~\\ \0?#@[]"), max_size=30))
@look
def test_a_location_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(PenstockError):
        str(locations.parse(text, ("cavatica", "coscine", "datameta")))


@given(TEXTS | st.text(st.sampled_from("0123456789.kKmMiIbB/sh%e-+ "), max_size=12))
@look
def test_a_number_with_a_unit_is_read_or_refused(text: str) -> None:
    for parse in (
        units.parse_size,
        units.parse_rate,
        units.parse_duration,
        units.parse_share,
        units.parse_quota,
    ):
        with contextlib.suppress(PenstockError):
            parse(text)


@given(st.text(st.sampled_from("ab*?[]!-/\\.{}^$"), max_size=20), TEXTS)
@look
def test_a_pattern_is_read_or_refused_and_ends(pattern: str, path: str) -> None:
    with contextlib.suppress(PenstockError):
        globs.compile_pattern(pattern).match(path)


TABLE_WORDS = ["source", "destination", "size", "md5", "path", "status", "File name", "a", "*", ""]
CELLS = st.one_of(st.sampled_from(TABLE_WORDS), TEXTS)
CSVS = st.tuples(
    st.sampled_from([",", ";", "\t"]), st.lists(st.lists(CELLS, max_size=5), max_size=5)
).map(lambda made: "\n".join(made[0].join(row) for row in made[1]))
LINES = st.lists(jsons(TABLE_WORDS).map(json.dumps), max_size=4).map("\n".join)
SUMS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(
    lambda pairs: "\n".join(f"{digest}  {name}" for digest, name in pairs)
)
TABLES = st.one_of(
    CSVS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    LINES.map(str.encode),
    SUMS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
)


@given(TABLES, st.sampled_from([None, "cp1252", "utf-16", "idna", "hex", "undefined", "no-such"]))
@look
def test_a_table_is_read_or_refused(raw: bytes, encoding: str | None) -> None:
    for read in (tables.read_manifest, metadata.read_metadata, metadata.header_of):
        with contextlib.suppress(PenstockError):
            lines = tables.decode_lines([raw[:7], raw[7:]], encoding=encoding)
            found: Any = read(lines)
            list(found)


@given(TABLES)
@settings(look, suppress_health_check=list(HealthCheck))
def test_a_file_of_rows_or_of_report_lines_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "table"
    path.write_bytes(raw)
    with contextlib.suppress(PenstockError):
        read_rows(path, None, "failed")
    with contextlib.suppress(PenstockError):
        selecting._read_report(path, "settled")


KEYS = [
    "platform",
    "endpoint",
    "token",
    "quota",
    "share",
    "weight",
    "token_expires",
    "insecure",
    "settings",
    "ca",
    "proxy",
    "quota_group",
]
TOML_VALUES = st.sampled_from(
    [
        '"x"',
        '""',
        "1",
        "-1",
        "true",
        "[]",
        "{}",
        "2027-01-01",
        "1979-05-27T07:32:00Z",
        "nan",
        "inf",
        '"https://h/v2"',
        '"env:X"',
        '"file:~/x"',
        '"keyring:a/b"',
        '"1/20"',
        '"500/60s"',
        "1e400",
        '"sevenbridges"',
        '"coscine"',
        '"http://["',
        '"\\u0000"',
        "99999999999999999999999",
    ]
)
TOMLS = st.lists(st.tuples(st.sampled_from(KEYS), TOML_VALUES), max_size=5).map(
    lambda pairs: "[profiles.mine]\n" + "".join(f"{key} = {value}\n" for key, value in pairs)
)


@given(
    TOMLS.map(str.encode) | st.binary(max_size=60),
    st.binary(max_size=60)
    | st.just(b"[x]\napi_endpoint = http://[\nauth_token = \xff")
    | TEXTS.map(lambda t: f"[a]\napi_endpoint = {t}".encode("utf-8", "surrogatepass")),
    st.dictionaries(
        st.sampled_from(
            [
                "PENSTOCK_X_ENDPOINT",
                "PENSTOCK_X_TOKEN",
                "PENSTOCK_CAVATICA_QUOTA",
                "HTTPS_PROXY",
                "SB_API_ENDPOINT",
                "SB_AUTH_TOKEN",
                "NO_PROXY",
                "XDG_STATE_HOME",
            ]
        ),
        TEXTS,
        max_size=4,
    ),
)
@settings(look, suppress_health_check=list(HealthCheck))
def test_a_configuration_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, toml: bytes, ini: bytes, environ: dict[str, str]
) -> None:
    home = tmp_path_factory.getbasetemp() / "home"
    (home / ".sevenbridges").mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_bytes(toml)
    (home / ".sevenbridges/credentials").write_bytes(ini)
    with contextlib.suppress(PenstockError):
        found = load(environ, home=home, config_dir=home)
        for profile in found.profiles.values():
            repr(profile)


# -- what penstock wrote, and somebody else touched ------------------------------------------


@given(st.lists(jsons(["status", "source", "id", "action", "digests", "error"]), max_size=4))
@settings(look, suppress_health_check=list(HealthCheck))
def test_a_report_that_somebody_touched_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, values: list[object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "report.jsonl"
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    with contextlib.suppress(PenstockError):
        list(history.as_checksums(history.lines_of(path), "md5"))


@given(jsons(["x"]).map(json.dumps) | st.text(max_size=30))
@look
def test_what_is_remembered_of_a_quota_is_read_or_as_good_as_nothing(text: str) -> None:
    assert isinstance(Standing.loads(text), Standing)


# -- RDF -----------------------------------------------------------------------------------

TURTLES = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(
            [
                "@prefix sh: <http://www.w3.org/ns/shacl#> .",
                "<https://p/x>",
                "a",
                "sh:NodeShape",
                ";",
                ".",
                "sh:property",
                "[",
                "]",
                "sh:path",
                "<https://a/b>",
                "sh:minCount",
                "1",
                "-1",
                '"x"',
                "sh:node",
                "sh:in",
                "(",
                ")",
                "sh:order",
                "1e999",
                '"²"',
                "sh:maxCount",
                "99999999999999999999",
                "sh:name",
                '"n"@de',
                "sh:class",
                "sh:datatype",
                "_:b",
                "sh:targetClass",
                "NaN",
                '"inf"^^<http://www.w3.org/2001/XMLSchema#double>',
            ]
        ),
        max_size=30,
    ).map(" ".join),
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "path",
                    "minCount",
                    "maxCount",
                    "order",
                    "name",
                    "in",
                    "class",
                    "node",
                    "datatype",
                    "nodeKind",
                    "hasValue",
                    "defaultValue",
                    "pattern",
                ]
            ),
            st.sampled_from(
                [
                    '"x"',
                    "1",
                    "-1",
                    "1e999",
                    '"NaN"^^xsd:double',
                    "<https://a/b>",
                    "[]",
                    "( 1 2 )",
                    '"²"',
                    "_:x",
                    "true",
                    '"inf"^^xsd:double',
                    "_:self",
                ]
            ),
        ),
        max_size=8,
    ).map(
        lambda pairs: (
            "@prefix sh: <http://www.w3.org/ns/shacl#> ."
            "@prefix xsd: <http://www.w3.org/2001/XMLSchema#> ."
            "<https://p/x> a sh:NodeShape ; sh:targetClass <https://p/x> ; sh:property _:self ."
            + "".join(f"_:self sh:{name} {value} ." for name, value in pairs)
        )
    ),
)


NAMED_BY_AN_IRI = (
    "@prefix sh: <http://www.w3.org/ns/shacl#> . <https://p/x> a sh:NodeShape ; sh:targetClass "
    "<https://p/x> ; sh:property [ sh:path <https://a/b> ; sh:name <https://a/b> ] ."
)


@given(TURTLES)
@example(NAMED_BY_AN_IRI)
@look
def test_a_profile_in_turtle_is_read_or_refused(text: str) -> None:
    for read in (
        coscine_profile.wanted_by,
        lambda t: coscine_profile.read_profile("https://p/x", [t]),
    ):
        with contextlib.suppress(PenstockError, ValueError):
            read(text)


def test_the_words_that_are_tried_are_those_of_the_code() -> None:
    assert "download_info" not in fuzzing.words_of(report)
    assert "items" in PLATFORMS["sevenbridges"][1]
    assert {"isSuccess", "data"} <= set(PLATFORMS["coscine"][1]) or "data" in PLATFORMS["coscine"][
        1
    ]
