"""JSON text is the standard library's, letter for letter."""

import json

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.jsontext import names_written, written_ascii, written_or_null

# Names of files have any letters, and lone surrogates where they are not UTF-8.
TEXT = st.text(st.characters() | st.sampled_from('"\\\udc80\u2028\0'), max_size=10)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.lists(TEXT)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_an_object_in_ascii_is_written_as_by_the_standard_library(
    fields: dict[str, object],
) -> None:
    assert written_ascii(fields.items()) == json.dumps(fields)


@given(st.dictionaries(TEXT, TEXT, max_size=5))
def test_names_are_written_as_by_the_standard_library(names: dict[str, str]) -> None:
    assert names_written(names) == json.dumps(names, ensure_ascii=False)


@given(st.none() | TEXT)
def test_text_or_none_is_written_as_by_the_standard_library(text: str | None) -> None:
    assert written_or_null(text) == json.dumps(text, ensure_ascii=False)
