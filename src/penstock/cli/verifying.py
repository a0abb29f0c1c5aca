"""`penstock verify`: a place against another, a report, a table of digests, or the ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import options, running, terminal, words
from penstock.cli.notes import Notes

if TYPE_CHECKING:
    from penstock.api.verifying import Difference


@click.command()
@click.argument("place", type=options.LOCATION, metavar="A")
@click.argument("against", type=options.LOCATION, metavar="[B]", required=False)
@click.option("--report", metavar="FILE", help="Against what a report says.")
@click.option("--manifest", metavar="FILE", help="Against a table of digests, or md5sum's output.")
@click.option("--encoding", metavar="NAME", help="How the table is encoded, if not UTF-8.")
@click.option("--read-back", is_flag=True, help="Fetch remote files and digest their bytes.")
@click.option("--strict", is_flag=True, help="What cannot be proved counts as wrong.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@options.sharing
@options.state
@options.config
@options.debug
def verify(
    as_json: bool,  # noqa: FBT001 - click's
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
    **wanted: Any,  # noqa: ANN401 - the options, by their names
) -> int:
    """Whether A is what it should be: as B, a report, a checksum file, or the ledger says.

    Uses what listings and the storage state; with --read-back the bytes. Prints what is missing,
    extra, different or cannot be proved, a line each. Exit code 1 for the first three.

    \b
      penstock verify here/ cavatica:me/project/raw
      penstock verify here/ --report run.jsonl
      penstock verify here/ --manifest SHA256SUMS
    """  # noqa: D301 - click reads the character
    from penstock.api.verifying import verify as ask  # noqa: PLC0415 - slow to import

    found = running.run(
        lambda: ask(wanted.pop("place"), wanted.pop("against"), **wanted, on_event=Notes()),
        running.Signals(None),
    )
    kinds: dict[str, list[Difference]] = {
        "missing": found.missing,
        "extra": found.extra,
        "different": found.different,
        "unproved": found.unproved,
    }
    if as_json:
        terminal.put_json(
            {"same": found.same} | {k: [asdict(d) for d in v] for k, v in kinds.items()}
        )
        return found.exit_code
    for kind, differences in kinds.items():
        for difference in differences:
            why = f": {difference.reason}" if difference.reason else ""
            terminal.put(f"{kind:<9}  {terminal.safe_line(difference.path)}{why}")
    counts = ", ".join(f"{len(differences)} {kind}" for kind, differences in kinds.items())
    terminal.put(f"{words.counted(found.same, 'file')} the same; {counts}")
    return found.exit_code
