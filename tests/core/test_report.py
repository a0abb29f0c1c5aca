"""Report lines and summaries: field names are a contract."""

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.report import Line, Summary, read_line

# From "Report line" in the contract, in its order.
FIELDS = (
    "run source destination id size status reason digests verified_by metadata parts attempts "
    "api_requests bytes_sent bytes_received seconds finished_at error"
)


def line(status: str = "verified", **other: Any) -> Line:  # noqa: ANN401 - Line's own fields
    given = {"run": "r1", "source": "a", "destination": "b", "id": None, "size": 5, **other}
    return Line(status=status, **given)


def test_a_line_has_exactly_the_fields_of_the_contract_in_their_order() -> None:
    assert " ".join(json.loads(line().json())) == FIELDS


def test_a_line_is_one_line_and_says_what_it_was_given() -> None:
    error = {"type": "DigestMismatch", "message": "two\nlines"}
    written = line("failed", digests={"md5": "0" * 32}, error=error, seconds=1.5).json()
    assert "\n" not in written
    read = json.loads(written)
    assert (read["digests"], read["error"], read["seconds"]) == (
        {"md5": "0" * 32},
        error,
        1.5,
    )


def test_names_are_written_as_people_read_them() -> None:
    assert "größe.bam" in line(source="größe.bam").json()


_TEXT = st.text(max_size=8)
_NUMBERS = st.integers(min_value=0, max_value=2**63)
_SECONDS = st.floats(min_value=0, allow_infinity=False)


@given(
    st.builds(
        Line,
        *(_TEXT, _TEXT, _TEXT, st.none() | _TEXT, st.none() | _NUMBERS, _TEXT),
        reason=st.none() | _TEXT,
        digests=st.dictionaries(_TEXT, _TEXT, max_size=3),
        verified_by=st.none() | _TEXT,
        metadata=st.none() | _TEXT,
        parts=_NUMBERS,
        attempts=_NUMBERS,
        api_requests=_NUMBERS,
        bytes_sent=_NUMBERS,
        bytes_received=_NUMBERS,
        seconds=_SECONDS,
        finished_at=_SECONDS,
        error=st.none() | st.dictionaries(_TEXT, _TEXT, max_size=2),
    )
)
def test_a_line_is_written_as_the_standard_library_writes_its_fields(line: Line) -> None:
    assert line.json() == json.dumps(asdict(line), ensure_ascii=False)


@given(st.text(st.characters() | st.sampled_from("\udc80\udcff\u2028\0"), max_size=10))
def test_any_name_a_file_system_can_have_can_be_written_and_read_again(name: str) -> None:
    # A name that is not UTF-8 comes from the file system with lone surrogates.
    written = line("failed", source=name).json().encode("utf-8")
    assert json.loads(written)["source"] == name


@pytest.mark.parametrize("status", ["verified", "unverified", "skipped", "failed"])
def test_a_summary_counts_each_line_once(status: str) -> None:
    summary = Summary("r1")
    summary.add(line(status))
    counts = {
        name: getattr(summary, name) for name in ("verified", "unverified", "skipped", "failed")
    }
    assert counts.pop(status) == 1
    assert set(counts.values()) == {0}


def test_only_what_arrived_counts_as_bytes() -> None:
    summary = Summary("r1")
    for status in ("verified", "unverified", "skipped", "failed"):
        summary.add(line(status))
    summary.add(line("verified", size=None))
    assert summary.bytes == 10


@pytest.mark.parametrize("status", ["done", "moving", "planned", "arrived"])
def test_a_status_no_transfer_ends_in_is_refused(status: str) -> None:
    with pytest.raises((ValueError, AttributeError), match=status):
        Summary("r1").add(line(status))


def test_a_summary_is_one_json_object() -> None:
    summary = Summary("r1", api_requests={"cavatica": 3})
    assert json.loads(summary.json())["api_requests"] == {"cavatica": 3}


@pytest.mark.parametrize(
    "told",
    [
        {"destination": None},
        {"source": 4},
        {"size": "x"},
        {"size": []},
        {"status": 7},
        {"digests": 3},
        {"digests": {"md5": 3}},
        {"error": 5},
        {"error": {}},
        {"error": {"message": None}},
        {"seconds": None},
        {"run": None},
        {"stranger": 1},
    ],
)
def test_a_line_that_was_changed_by_hand_is_none(told: dict[str, Any]) -> None:
    whole = json.loads(line(error={"type": "T", "message": "m"}).json())
    assert read_line(whole).json() == json.dumps(whole)
    with pytest.raises((TypeError, LookupError)):
        read_line({**whole, **told})
