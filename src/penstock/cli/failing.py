"""Errors to exit codes and sentences: the one place that decides how a failure leaves the process.

Every error is a sentence on standard error that begins `penstock: `. A traceback is printed with
`--debug` only, and scrubbed: foreign exceptions may quote a presigned URL.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from typing import TYPE_CHECKING

from penstock.cli import terminal
from penstock.core.errors import (
    ExchangeError,
    Interrupted,
    PenstockError,
    RunStopped,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED = 1
USAGE = 2
STOPPED = 3
INTERRUPTED = 130
# How Seven Bridges, Coscine and DataMeta tokens reach a process (CONTRACT, Profiles).
_TOKEN_VARIABLE = re.compile(r"PENSTOCK_[A-Z0-9_]+_TOKEN|SB_AUTH_TOKEN")
_QUERY = re.compile(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>)]+")
_REFERENCES = ("env:", "file:", "keyring:")
_SHORTEST_SECRET = 6


def exit_code(error: PenstockError) -> int:
    """What the process ends with. An answer that was refused stops whatever asked."""
    match error:
        case UsageError():
            return USAGE
        case Interrupted():
            return INTERRUPTED
        case RunStopped() | ExchangeError():
            return STOPPED
        case _:
            return FAILED


def outermost(error: BaseException) -> BaseException:
    """The error that matters: of a group's, what stops a run, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    unexpected = [leaf for leaf in leaves if not isinstance(leaf, PenstockError)]
    stopping = [leaf for leaf in leaves if isinstance(leaf, UsageError | RunStopped)]
    return (unexpected or stopping or leaves)[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def explain(error: BaseException, *, debug: bool) -> int:
    """The exit code; the sentence, and with `debug` the traceback, are on standard error."""
    error = outermost(error)
    if debug:
        terminal.say(scrubbed("".join(traceback.format_exception(error)).rstrip()))
    if isinstance(error, PenstockError):
        for fault in getattr(error, "faults", ()):
            terminal.complain(scrubbed(str(fault)))
        terminal.complain(scrubbed(str(error)))
        return exit_code(error)
    if isinstance(error, KeyboardInterrupt):
        terminal.complain("interrupted; run the same command to carry on")
        return INTERRUPTED
    where = _innermost(error)
    terminal.complain(
        scrubbed(
            f"{type(error).__name__}{where}: this is a defect of penstock; what was proved is kept."
            + ("" if debug else " Run the command again with --debug and report what it prints")
        )
    )
    return FAILED


def _innermost(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "penstock" in frame.filename]
    if not ours:
        return ""
    return f" in {os.path.basename(ours[-1].filename)}, line {ours[-1].lineno}"  # noqa: PTH119


def scrubbed(text: str) -> str:
    """The text without queries of URLs, and without any token that stands in the environment."""
    text = _QUERY.sub(r"\1?…", text)
    for name, value in os.environ.items():
        secret = len(value) >= _SHORTEST_SECRET and not value.startswith(_REFERENCES)
        if secret and _TOKEN_VARIABLE.fullmatch(name):
            text = text.replace(value, "…")
    return text


def disk_full(error: OSError) -> int:
    """The exit code where standard output cannot be written, and its sentence."""
    terminal.drop_stdout()
    terminal.complain(
        f"standard output cannot be written ({error.strerror}); the result is lost, what was"
        " moved is not"
    )
    sys.stderr.flush()
    return FAILED
