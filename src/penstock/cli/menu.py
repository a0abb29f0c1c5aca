"""A group of commands that are imported when they are run, not when they are listed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


class Entry(NamedTuple):
    """Where a command is defined, and the line that `--help` shows of it."""

    module: str
    name: str
    help: str


class Menu(click.Group):
    """Commands by name, in the order they are listed; `lazily` are imported when first needed."""

    lazily: Mapping[str, Entry] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as they are to be listed."""
        return [*self.lazily, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now if need be; None where there is none."""
        entry = self.lazily.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        command = getattr(import_module(entry.module), entry.name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command and its arguments. Raises `click.UsageError`, with what may be meant."""
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not ctx.resilient_parsing:
            import difflib  # noqa: PLC0415 - for slips alone

            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
            raise click.UsageError(f"no such command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        rows = [(name, entry.help) for name, entry in self.lazily.items()]
        rows += [
            (name, command.get_short_help_str(limit=80))
            for name, command in sorted(self.commands.items())
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
