from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies

from penstock.cli import terminal


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain näme.txt", "plain näme.txt"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb", "a\\rb"),
        ("\udcff.bin", "\\xff.bin"),
        ("exe.\u202egpj", "exe.\\u202egpj"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(name: str, shown: str) -> None:
    assert terminal.safe_line(name) == shown


@given(strategies.text(strategies.characters()))
def test_any_text_becomes_one_line_that_can_be_written(text: str) -> None:
    shown = terminal.safe_line(text)
    shown.encode("utf-8")
    assert all(character.isprintable() or character > "\x9f" for character in shown)
    assert terminal.safe(shown) == shown


@given(strategies.text(strategies.characters()))
def test_json_is_one_safe_line_and_reads_back_the_same(text: str) -> None:
    written = terminal.to_json({"name": text})
    written.encode("utf-8")
    assert len(written.splitlines()) == 1
    assert terminal.safe(written) == written
    assert json.loads(written) == {"name": text}
