"""JSON text of what a run writes for every file, letter for letter as `json.dumps` has it.

An encoder of the standard library is set up anew for each object, which takes longer than to write
a small one. Text, whole numbers and None are written here; anything else is left to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring as quoted
from json.encoder import encode_basestring_ascii

__all__ = ["names_written", "quoted", "written_ascii", "written_or_null"]


def written_or_null(text: str | None) -> str:
    """Text in quotes, letters other than ASCII as they are; `null` for None."""
    return "null" if text is None else quoted(text)


def names_written(names: Mapping[str, str]) -> str:
    """An object of text, letters other than ASCII as they are."""
    return f"{{{', '.join([f'{quoted(name)}: {quoted(names[name])}' for name in names])}}}"


def written_ascii(fields: Iterable[tuple[str, object]]) -> str:
    """An object of these names and values in their order, in ASCII."""
    texts = []
    for name, value in fields:
        if isinstance(value, str):
            text = encode_basestring_ascii(value)
        elif type(value) is int:
            text = repr(value)
        else:
            text = json.dumps(value)
        texts.append(f"{encode_basestring_ascii(name)}: {text}")
    return f"{{{', '.join(texts)}}}"
