from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.metadata import Column, Values, read_metadata
from penstock.core.metatables import MOST_TERMS, csv_of, json_of, template_of
from penstock.core.tables import decode_lines

NAMES = st.text("abcXYZ äß/:#", min_size=1, max_size=8).map(lambda name: f"c{name}e")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
VALUES = st.dictionaries(NAMES, st.lists(TEXTS, min_size=1, max_size=3).map(tuple), max_size=4)
ROWS = st.dictionaries(st.text("abc/[]*ü .", min_size=1, max_size=9), VALUES, max_size=5)


def read(lines: list[str]) -> dict[str, Values]:
    text = "".join(lines).encode()
    return {row.path or "": row.values for row in read_metadata(decode_lines([text]))}


@settings(deadline=None)  # how fast it is here says nothing
@given(ROWS)
def test_a_table_that_was_written_is_read_as_it_was(rows: dict[str, Values]) -> None:
    assert read(list(csv_of(rows.items()))) == rows


@settings(deadline=None)  # how fast it is here says nothing
@given(ROWS)
def test_json_lines_that_were_written_are_read_as_they_were(rows: dict[str, Values]) -> None:
    assert read([json_of(path, values) + "\n" for path, values in rows.items()]) == rows


def test_a_template_lists_so_many_terms_and_counts_the_rest() -> None:
    terms = tuple(f"t{n}" for n in range(MOST_TERMS + 3))
    lines = list(template_of([Column("a", "term", is_mandatory=True, terms=terms)]))
    assert lines[:3] == ["path,a\n", "#type,term\n", "#needed,yes\n"]
    assert lines[3].endswith("and 3 more (--json lists all)\n")
    assert read(lines) == {}
