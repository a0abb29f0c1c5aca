"""The command line: the only place with `print`, the environment and `asyncio.run`.

One module a concern: `app` (commands by name, errors to exit codes), `options`, `copying`,
`listing`, `profiles`, `simulating`, `demo`; and what they share: `running` (event loop, signals),
`watching` (events added up), `progress` and `bars` (shown while it runs), `summing` (shown at the
end), `terminal` (what may be written, and how). Nothing here decides what a run does.

`penstock --help` must stay quick: this package imports nothing but click until a command is run.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run `penstock` with `args` (default: the process's own); ends in `SystemExit`."""
    # What is imported stays: to look through it while it grows takes a tenth of the time. Whoever
    # runs anything turns it on again (`running.run`).
    gc.disable()
    try:
        from penstock.cli.app import cli  # noqa: PLC0415 - importing the package costs nothing
    except KeyboardInterrupt:
        # Before anything is there to explain it; `cli.failing` says the same later.
        sys.stderr.write("penstock: interrupted; run the same command to carry on\n")
        sys.exit(130)

    cli.main(args=list(args) if args is not None else None, prog_name="penstock")
    sys.exit(0)
