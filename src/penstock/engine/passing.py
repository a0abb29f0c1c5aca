"""What is told of a body while it passes, and what stays of one that breaks off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from penstock.engine.digests import Digests

# Told how many bytes moved just now.
Progress: TypeAlias = Callable[[int], None]


@dataclass(slots=True)
class Landed:
    """What of a range is in its sink already: bytes from its start, and what they are known by.

    `validator` is what the answer that brought them said of the file; None: it said nothing.
    """

    size: int = 0
    digests: Digests | None = None
    validator: str | None = None
