"""What a percent-encoded path in a URL means, and which way it was encoded.

The documentation says "url encoded path". coscine 0.12.2 encodes paths twice for some calls and
once for others, and both work there, which fits a server whose framework decodes a path once, save
`%2F`, and whose code decodes it again. So "either" decodes twice; then no name with a percent
escape in it survives a client that encodes once. That is a guess and a switch.
"""

from typing import Literal
from urllib.parse import unquote

from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.settings import CoscineSettings

Encoding = Literal["plain", "once", "twice"]

LONGEST_PATH = 1024


def decoded(encoded: str, settings: CoscineSettings) -> tuple[str, Encoding]:
    """Return a path, and how it was encoded: "plain" where it did not need to be."""
    once = unquote(encoded)
    twice = unquote(once)
    if settings.path_encoding == "either" and twice != once:
        return twice, "twice"
    return once, "plain" if once == encoded else "once"


def checked(path: str, settings: CoscineSettings) -> str:
    """Return a path for a new file.

    Source: Coscine documentation, "Uploading": some characters make uploads fail. Which, and that
    empty and dotted names do, is a guess.

    Raises:
        RefusedError: it cannot be one (400).
    """
    names = path.split("/")
    bad = [c for c in path if c in settings.bad_characters or ord(c) < ord(" ")]
    if bad or not all(names) or {".", ".."} & set(names) or len(path.encode()) > LONGEST_PATH:
        raise RefusedError(400, f"'{path}' is not a valid file path.")
    return path
