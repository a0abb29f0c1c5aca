"""`penstock quota`: what is spent and left of each quota, and who spends it. Sends no request."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from penstock.cli import options, running, terminal
from penstock.core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.quotas import QuotaUse

_COLUMNS = (
    "profile",
    "quota",
    "spent",
    "in flight",
    "left",
    "platform's count",
    "more",
    "spending",
)


@click.command()
@click.argument("profile", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a profile.")
@options.quota_share
@options.quota_store
@options.config
@options.debug
def quota(
    profile: str | None,
    as_json: bool,  # noqa: FBT001 - click's
    quota_share: float | None,
    quota_store: str | None,
    config: str | None,
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
) -> int:
    r"""What is spent and left of the quota of PROFILE, or of all profiles that have a token.

    Sends no request: it is what penstock has counted, of all its runs that count in the same place.

    \b
      penstock quota
      penstock quota cavatica --quota-store redis://host/0
    """
    from penstock.api.checking import quota as ask  # noqa: PLC0415 - slow to import

    uses = running.run(
        lambda: ask(profile, config=config, quota_share=quota_share, quota_store=quota_store),
        running.Signals(None),
    )
    if as_json:
        for use in uses:
            terminal.put_json(asdict(use))
    elif not uses:
        terminal.complain("no profile has a token; see: penstock profiles list")
    else:
        rows = [_COLUMNS, *map(_cells, uses)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
        for row in rows:
            cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            terminal.put("  ".join(cells).rstrip())
        for use in uses:
            for sentence in _remarks(use):
                terminal.put(f"{use.profile}: {sentence}")
    return 0


def _cells(use: QuotaUse) -> tuple[str, ...]:
    """One profile's line."""
    return (
        use.profile,
        f"{use.quota:,} per {format_duration(use.window_s)}" if use.rationed else "no quota",
        f"{use.spent:,}",
        f"{use.in_flight:,}",
        f"{use.left:,}" if use.rationed else "-",
        "-" if use.gate is None else f"{use.gate:,} left",
        "-" if use.next_free_s is None else f"in {format_duration(use.next_free_s)}",
        ", ".join(_names(use)) or "nobody",
    )


def _names(use: QuotaUse) -> Iterator[str]:
    for spender in use.spenders:
        where = f" on {terminal.safe_line(spender.host)}" if spender.host else ""
        yield f"process {spender.pid}{where}"


def _remarks(use: QuotaUse) -> Iterator[str]:
    """What is out of the ordinary."""
    if use.limit < use.quota:
        share = f", of which a share of {use.share:g} is used" if use.share < 1 else ""
        yield f"{use.limit:,} of {use.quota:,} are in force now{share}"
    if use.closed_until is not None:
        yield f"closed until {terminal.local_time(use.closed_until)}"
    if use.token_refused_at is not None:
        at = terminal.local_time(use.token_refused_at)
        yield f"the platform refused this token at {at}; see: penstock profiles check {use.profile}"
