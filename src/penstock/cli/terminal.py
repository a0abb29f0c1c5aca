"""What is written to the terminal, and how: safely, and never at the price of the run.

Names come from platforms and other people's disks: every text passes `safe`, so that none can move
the cursor, set a title or turn the reading direction. Standard error carries what people read while
it runs, and a closed one is no error; standard output carries results, and says when it is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable

# C0 but tab and line end, DEL, C1; line separators and marks that turn the reading direction
# (Unicode 16, UAX #9, table 1); surrogates, which stand for bytes that are no text.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_BROKEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def safe(text: str) -> str:
    r"""The text with everything a terminal would obey written out (`\x1b`); lines stay lines."""
    return _UNSAFE.sub(_escaped, text)


def safe_line(text: str) -> str:
    """As `safe`, and in one line."""
    return safe(text).replace("\n", "\\n").replace("\t", "\\t")


def is_plain(text: str) -> bool:
    """Whether the text can be shown, copied from the screen and pasted, unchanged."""
    return _UNSAFE.search(text) is None and "\n" not in text and "\t" not in text


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":
        # How Python spells a byte of a file name that is no UTF-8 (PEP 383).
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def to_json(value: object) -> str:
    """One JSON object in one line, that can be written in UTF-8 and shown on a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if _UNSAFE.search(text) or _BROKEN.search(text) else text


def say(text: str) -> None:
    """A line, or lines, on standard error. A closed standard error is nobody's concern."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(safe(text) + "\n")
        sys.stderr.flush()


def complain(sentence: str) -> None:
    """An error or a note, in the form all of them have."""
    say(f"penstock: {sentence}")


def put(text: str) -> None:
    """A line, or lines, on standard output.

    Raises `BrokenPipeError` where its reader has gone; `OSError` where it cannot be written.
    """
    sys.stdout.write(safe(text) + "\n")


def put_json(value: object) -> None:
    """A JSON object on standard output, in a line, at once. Raises as `put` does."""
    sys.stdout.write(to_json(value) + "\n")
    sys.stdout.flush()


def prepare() -> None:
    """Streams that can write any text, whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def put_all(lines: Iterable[str]) -> None:
    """Lines on standard output, at once; quietly nothing where its reader has gone.

    Raises `OSError` where they cannot be written for another reason (a full disk).
    """
    try:
        for line in lines:
            put(line)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    except ValueError:  # closed before we began
        return


def drop_stdout() -> None:
    """What is still to be written goes nowhere: the interpreter would complain at its end.

    Source: Python documentation, "Note on SIGPIPE" (signal).
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream can show bars that are redrawn in place."""
    try:
        return stream.isatty() and os.environ.get("TERM", "") != "dumb"
    except ValueError:
        return False


def local_time(at: float) -> str:
    """An epoch time in local time, with its offset: `2026-10-02 14:03:10 +0200`."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def clock_time() -> str:
    """The time of day, local, with its offset: `14:03:10 +0200`."""
    return datetime.now().astimezone().strftime("%H:%M:%S %z")
