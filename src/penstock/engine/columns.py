"""Single columns of the ledger, read with suspicion: a sound page may hold what no run wrote.

No table is known here, and nothing asks SQLite.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from penstock.core.model import Fingerprint

_read = json.JSONDecoder().raw_decode
# What reading foreign JSON, and making something of it, may raise.
UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, RecursionError)


class RowUnreadable(ValueError):
    """A row holds what no run wrote; its message says which, and nothing of what it holds."""


def all_of(kind: type, values: Iterable[object]) -> bool:
    """Whether each value is of a kind, or None."""
    return all(value is None or isinstance(value, kind) for value in values)


def _decode(text: Any) -> Any:  # noqa: ANN401 - as below
    """As `json.loads`, of text without spaces around it: what runs write has none."""
    found, end = _read(text)
    if end != len(text):
        raise ValueError("more than JSON")
    return found


def read_source(text: Any) -> Fingerprint:  # noqa: ANN401 - as a damaged file has it
    """A fingerprint out of its column. Raises one of `UNREADABLE` where it is none."""
    source = Fingerprint(**_decode(text))
    # The rest is only held against what is found, whatever it is.
    if type(source.size) is not int:
        raise ValueError("no fingerprint")
    return source


def read_digests(text: Any) -> dict[str, str]:  # noqa: ANN401 - as a damaged file has it
    """Digests out of their column. Raises one of `UNREADABLE` where they are none."""
    digests: dict[str, str] = _decode(text)
    for digest in digests.values():
        if type(digest) is not str:
            raise ValueError("no digests")
    return digests
