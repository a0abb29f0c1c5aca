"""`penstock list`: what stands at a location, a line each, as the pages come."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import options, running, terminal
from penstock.cli.notes import Notes
from penstock.core.errors import Interrupted, UsageError
from penstock.core.locations import ID, parse
from penstock.core.times import when
from penstock.core.units import format_size

if TYPE_CHECKING:
    from penstock.api.listing import Entry

# Wide enough for every size and time there is, so that no entry waits for the next ones.
_KIND, _SIZE, _TIME = 8, 10, 25
# What a flag of `Entry.about` says where it is set.
_FLAGS = {"maintenance": "under maintenance", "parent": "a sub-project"}


@click.command(name="list")
@click.argument("location", type=options.LOCATION)
@click.option("--recursive", is_flag=True, help="Folders within folders, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@options.sharing
@options.state
@options.config
@options.debug
def list_(
    location: str,
    recursive: bool,  # noqa: FBT001 - click's
    as_json: bool,  # noqa: FBT001
    state: str | None,
    config: str | None,
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
    **sharing: Any,  # noqa: ANN401 - the options of `options.sharing`
) -> int:
    """What stands at LOCATION: kind, size, time of change, and a location to go on with.

    \b
      penstock list cavatica:               projects
      penstock list cavatica:me/project     what is in one
    """  # noqa: D301 - click reads the character
    from penstock.api.listing import list_ as ask  # noqa: PLC0415 - slow to import

    on_screen = sys.stdout.isatty()

    def show(entry: Entry) -> None:
        if as_json:
            terminal.put_json(as_object(entry))
        else:
            terminal.put(as_line(entry) if on_screen else pasteable(entry))

    try:
        running.run(
            lambda: ask(
                location,
                recursive=recursive,
                state=state,
                config=config,
                **sharing,
                on_entry=show,
                on_event=Notes(),
            ),
            running.Signals(None),
        )
    except Interrupted:
        raise Interrupted("interrupted: the listing is not complete") from None
    return 0


def as_object(entry: Entry) -> dict[str, object]:
    """The entry's fields, in the order they are written."""
    fields = asdict(entry)
    names = ("id", "kind", "location", "name", "size", "modified")
    shown = {**{name: fields[name] for name in names}, "location": pasteable(entry)}
    # What a platform says besides never hides what every entry has.
    return {**fields["about"], **shown}


def pasteable(entry: Entry) -> str:
    """A location that can be read back: by id where the name holds what no location may."""
    plain = terminal.is_plain(entry.location)
    if entry.id is None or (plain and _reads_back(entry.location)):
        return entry.location
    if not ID.fullmatch(entry.id):
        # No id that a location could name it by: shown, and not to be pasted.
        return entry.location if plain else terminal.safe_line(entry.location)
    return f"{entry.location.partition(':')[0]}:id={entry.id}"


def _reads_back(location: str) -> bool:
    try:
        read = parse(location, [location.partition(":")[0]])
    except UsageError:
        return False
    return str(read) == location


def as_line(entry: Entry) -> str:
    """The entry in columns, for a screen; its location is quoted, as the shell will want it."""
    size = format_size(entry.size) if entry.size is not None else "-"
    at = when(entry.modified)
    modified = terminal.local_time(at) if at is not None else "-"
    where = pasteable(entry)
    says_it = where == entry.location and where.rstrip("/").endswith(entry.name)
    said = [] if says_it else [terminal.safe_line(entry.name)]
    said += _about(entry)
    name = f"  # {', '.join(said)}" if said else ""
    columns = f"{entry.kind:<{_KIND}}  {size:>{_SIZE}}  {modified:<{_TIME}}"
    return f"{columns}  {shlex.quote(where)}{name}"


def _about(entry: Entry) -> list[str]:
    """What else is known of a project or resource, as words."""
    said = []
    for name, value in entry.about.items():
        if value is None or value is False:
            continue
        if name == "room" and isinstance(value, int):
            said.append(f"{format_size(value)} left")
        elif value is True:
            said.append(_FLAGS.get(name, name))
        else:
            said.append(terminal.safe_line(str(value)))
    return said
