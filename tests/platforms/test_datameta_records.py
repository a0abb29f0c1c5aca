"""DataMeta's records: what a table may say, and how records are told from each other."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import PenstockError
from penstock.core.model import Response
from penstock.platforms.datameta import DataMeta
from penstock.platforms.datameta_records import Metadatum, Records
from penstock.platforms.datameta_requests import objects_in
from scripted import Asked, answer, play

ROOT = "https://dm.example"
SCHEMA = Records(
    (
        Metadatum("ID", is_mandatory=True, pattern="^[A-Z]{2}[0-9]+$", pattern_means="two letters"),
        Metadatum("Date", date_format="%d.%m.%Y"),
        Metadatum("R1", is_mandatory=True, is_file=True),
        Metadatum("R2", is_file=True),
        Metadatum("Accession", is_service=True),
    )
)
API = f"{ROOT}/api/v1"


def troubles(**cells: str) -> list[tuple[str | None, str]]:
    values = {name: (text,) for name, text in cells.items()}
    _, missing = SCHEMA.compile(values)
    return [(t.column, t.reason) for t in (*SCHEMA.check_row(values), *missing)]


def test_a_row_that_the_server_would_take_has_no_trouble() -> None:
    assert troubles(ID="AB1", Date="01.02.2026", R1="runs/a.fastq") == []


@pytest.mark.parametrize(
    ("cells", "column", "reason"),
    [
        ({"ID": "xx", "R1": "a"}, "ID", "two letters"),
        ({"ID": "AB1", "R1": "a", "Date": "2026-02-01"}, "Date", "no date"),
        ({"ID": "AB1", "R1": "a", "Date": "30.02.2026"}, "Date", "no date"),
        ({"ID": "AB1"}, "R1", "mandatory"),
        ({"R1": "a"}, "ID", "mandatory"),
    ],
)
def test_what_the_server_would_refuse_is_found(
    cells: dict[str, str], column: str, reason: str
) -> None:
    ((found, why),) = troubles(**cells)
    assert found == column
    assert reason in why


def test_columns_the_server_does_not_have_or_sets_itself_are_unknown() -> None:
    assert SCHEMA.unknown("ID") is None
    assert "no such" in (SCHEMA.unknown("Titel") or "")
    assert "service" in (SCHEMA.unknown("Accession") or "")


def test_a_cell_with_several_values_is_refused() -> None:
    (trouble,) = SCHEMA.check_row({"ID": ("AB1", "AB2")})
    assert "one value" in trouble.reason


def test_a_file_column_is_sent_as_the_name_that_binds_the_file() -> None:
    text, _ = SCHEMA.compile({"ID": ("AB1",), "R1": ("runs/a.fastq",)})
    assert json.loads(text) == {"Date": None, "ID": "AB1", "R1": "a.fastq", "R2": None}


@pytest.mark.parametrize("shown", ["2026-02-01T00:00:00", "01.02.2026", "2026-02-01"])
def test_a_date_is_the_same_in_whichever_form_the_server_shows_it(shown: str) -> None:
    sent, _ = SCHEMA.compile({"ID": ("AB1",), "R1": ("a",), "Date": ("01.02.2026",)})
    record = {"ID": "AB1", "R1": "a", "R2": None, "Date": shown, "Accession": "set later"}
    assert SCHEMA.of_server(record) == sent


def test_a_date_written_short_is_the_date_the_server_gives_back() -> None:
    sent, _ = SCHEMA.compile({"ID": ("AB1",), "R1": ("a",), "Date": ("1.2.2026",)})
    record = {"ID": "AB1", "R1": "a", "R2": None, "Date": "01.02.2026"}
    assert SCHEMA.of_server(record) == sent
    old, _ = SCHEMA.compile({"ID": ("AB1",), "R1": ("a",), "Date": ("01.02.0999",)})
    assert json.loads(old)["Date"] == "01.02.0999"


def test_a_pattern_python_cannot_read_is_left_to_the_server() -> None:
    schema = Records((Metadatum("X", pattern="(?<bad"),))
    assert not schema.check_row({"X": ("anything",)})


def test_a_lost_submission_is_found_by_its_records_and_not_made_again() -> None:
    platform = DataMeta(API)
    from penstock.core.errors import AnswerLost

    submit = Asked("POST", "/api/v1/submissions")
    group = {"id": {"uuid": "u"}, "group": {"id": {"uuid": "g"}}}
    there = [{"id": {"uuid": "s"}, "metadatasetIds": [{"uuid": "r1"}, {"uuid": "r2"}]}]
    done = play(
        platform.submit("L", ["r2", "r1"], ["f"]),
        [
            (submit, AnswerLost("gone")),
            (Asked("GET", "/api/v1/rpc/whoami"), answer(group)),
            (Asked("GET", "/api/v1/groups/g/submissions"), answer(there)),
        ],
        refusal=platform.refusal,
    )
    assert done.id == "s"


def test_what_is_against_a_submission_is_told_by_what_it_is_about() -> None:
    platform = DataMeta(API)
    said = [{"message": "Violation of global unique constraint", "entity": {"uuid": "r1"}}]
    problems = play(
        platform.prevalidate(["r1"], []),
        [(Asked("POST", "/api/v1/presubvalidation"), answer(said, status=400))],
        refusal=platform.refusal,
    )
    assert [(p.about, p.reason) for p in problems] == [
        ("r1", "Violation of global unique constraint")
    ]


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_the_server_says_is_read_or_refused(body: bytes) -> None:
    platform = DataMeta(API)
    flow = platform.record_schema()
    next(flow)
    with contextlib.suppress(StopIteration, PenstockError):
        flow.send(Response(200, body=body))
    with contextlib.suppress(PenstockError):
        list(objects_in(Response(200, body=body), "x"))
