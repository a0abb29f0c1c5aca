"""`penstock` itself: the commands by name, and the boundary at which errors become exit codes."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

import penstock
from penstock.cli import failing, terminal
from penstock.cli.menu import Entry, Menu

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMANDS = {
    "copy": Entry(
        "penstock.cli.copying", "copy", "Move files; safe to run again, it carries on where it was."
    ),
    "plan": Entry(
        "penstock.cli.copying", "plan", "What copy would do, and what it costs; moves nothing."
    ),
    "verify": Entry(
        "penstock.cli.verifying", "verify", "Whether a place is what it should be; moves nothing."
    ),
    "list": Entry(
        "penstock.cli.listing", "list_", "Projects, folders and files, each line a location."
    ),
    "status": Entry(
        "penstock.cli.history", "status", "Earlier runs: what is verified, what is left."
    ),
    "report": Entry("penstock.cli.history", "report", "Write a run's report again."),
    "metadata": Entry(
        "penstock.cli.describing", "metadata", "What is stored with files, as a table; --template."
    ),
    "workspaces": Entry(
        "penstock.cli.workspaces",
        "workspaces",
        "List, pause, resume, reboot or delete workspaces, in bulk.",
    ),
    "quota": Entry(
        "penstock.cli.quota", "quota", "What is spent and left of a quota, and who spends it."
    ),
    "profiles": Entry(
        "penstock.cli.profiles", "profiles", "Which platforms are configured; try a token."
    ),
    "simulate": Entry(
        "penstock.cli.simulating", "simulate", "Serve a local stand-in for a platform."
    ),
    "demo": Entry(
        "penstock.cli.demo", "demo", "A simulator and a real copy, up and down; needs no account."
    ),
}


@dataclass(slots=True)
class Front:
    """What the boundary must know of the command that ran."""

    debug: bool = False


class Penstock(Menu):
    """The commands, and the way out of the process."""

    lazily = COMMANDS

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *_: object,
        **extra: Any,  # noqa: ANN401 - click's own keywords, passed on
    ) -> NoReturn:
        """Runs a command; ends in `SystemExit` with an exit code of the contract."""
        terminal.prepare()
        extra.pop("standalone_mode", None)
        try:
            with _stopped_by_sigterm():
                code = super().main(
                    args, prog_name or "penstock", standalone_mode=False, obj=Front(), **extra
                )
        except click.ClickException as error:
            code = _refuse(error)
        except (click.Abort, KeyboardInterrupt):
            code = failing.explain(KeyboardInterrupt(), debug=False)
        sys.exit(_ended(code if isinstance(code, int) else 0))

    def invoke(self, ctx: click.Context) -> object:
        """What the command ends with; its errors end here, before click has its way with them."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BrokenPipeError:
            # The reader has seen enough (`| head`); that is no failure.
            terminal.drop_stdout()
            return 0
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nothing goes further
            return failing.explain(error, debug=ctx.obj.debug)


def _ended(code: int) -> int:
    try:
        terminal.put_all(())
    except OSError as error:
        return code or failing.disk_full(error)
    return code


def _refuse(error: click.ClickException) -> int:
    """The exit code for a command line that makes no sense; its sentence is told."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        terminal.say(error.format_message())
        terminal.complain(f"name a command of {context.command_path}" if context else "no command")
        return failing.USAGE
    sentence = error.format_message().replace("\n", " ").rstrip(".")
    sentence = sentence[:1].lower() + sentence[1:]
    if context is not None:
        sentence += f"; see: {context.command_path} --help"
    terminal.complain(sentence)
    return failing.USAGE


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM is as Ctrl-C until a run's own handlers are there, and after."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@click.command(
    cls=Penstock,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(penstock.__version__, message="penstock %(version)s")
def cli() -> None:
    """Move very many files through research-data platforms whose APIs are rationed.

    A location is PROFILE:PATH on a platform (cavatica:me/project/folder) or a local path.
    Exit codes: 0 done, 1 some transfers failed, 2 bad arguments, 3 stopped for a cause that all
    transfers share, 130 interrupted.
    """
