"""`penstock metadata`: what a platform stores with files, as a table, or an empty table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli import options, running, terminal
from penstock.cli.notes import Notes
from penstock.core.errors import Interrupted
from penstock.core.metatables import column_object, csv_of, json_of, template_of

if TYPE_CHECKING:
    from penstock.api.describing import Described


@click.command(name="metadata")
@click.argument("location", type=options.LOCATION)
@click.option("--template", is_flag=True, help="An empty table: columns, types, allowed terms.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@options.sharing
@options.state
@options.config
@options.debug
def metadata(
    location: str,
    template: bool,  # noqa: FBT001 - click's
    as_json: bool,  # noqa: FBT001
    state: str | None,
    config: str | None,
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
    **sharing: Any,  # noqa: ANN401 - the options of `options.sharing`
) -> int:
    """What the platform stores with the files at LOCATION, as a table that --metadata reads.

    \b
      penstock metadata cavatica:me/project > table.csv
      penstock metadata coscine:project/resource --template > table.csv
    """  # noqa: D301 - click reads the character
    from penstock.api import describing  # noqa: PLC0415 - slow to import

    def show(file: Described) -> None:
        terminal.put(json_of(file.path or "", file.values, by_path=file.path is not None))

    given = {"state": state, "config": config, "on_event": Notes(), **sharing}
    try:
        if template:
            table = running.run(
                lambda: describing.metadata_table(location, **given), running.Signals(None)
            )
            if as_json:
                for column in table.columns:
                    terminal.put_json(dict(column_object(column)))
            else:
                lines = template_of(table.columns, by_path=table.by_path)
                terminal.put_all(line.rstrip("\n") for line in lines)
            return 0
        files = running.run(
            lambda: describing.metadata(location, on_file=show if as_json else None, **given),
            running.Signals(None),
        )
    except Interrupted:
        raise Interrupted("interrupted: the table is not complete") from None
    if not as_json:
        rows = sorted(((file.path or "", file.values) for file in files), key=lambda row: row[0])
        by_path = all(file.path is not None for file in files)
        terminal.put_all(line.rstrip("\n") for line in csv_of(rows, by_path=by_path))
    return 0
