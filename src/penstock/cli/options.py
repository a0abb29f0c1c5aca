"""Options that several commands share: each with its type, its checks and the line `--help` shows.

An option stands here only once something obeys it: those of later issues are unknown options.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import click

from penstock.core.errors import UsageError
from penstock.core.globs import Rule
from penstock.core.units import parse_duration, parse_rate, parse_share, parse_size

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_RULES = "penstock.cli.rules"


def read_by(
    parse: Callable[[str], T],
) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """A callback that makes of an option's text what `parse` does, or says why not."""

    def read(ctx: click.Context, param: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else parse(text)
        except UsageError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return read


# Names of files may be no text: click leaves these as they came.
LOCATION = click.UNPROCESSED


class RuleCommand(click.Command):
    """A command that knows in which order `--include` and `--exclude` stood: `rules_of(ctx)`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As any command; the order of occurrence is kept beside."""
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        left = {name: iter(values.get(name) or ()) for name in ("include", "exclude")}
        ctx.meta[_RULES] = tuple(
            Rule(parameter.name == "include", next(left[parameter.name]))
            for parameter in order
            if parameter.name in left
        )
        return super().parse_args(ctx, args)


def rules_of(ctx: click.Context) -> tuple[Rule, ...]:
    """`--include` and `--exclude`, in the order of the command line."""
    rules = ctx.meta[_RULES]
    assert isinstance(rules, tuple)
    return rules


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in this order in `--help`."""
    return lambda function: reduce(lambda inner, option: option(inner), options[::-1], function)


def _debug(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's
    if value and ctx.obj is not None:
        ctx.obj.debug = True
    return value


debug = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    callback=_debug,
    help="Tracebacks and inner messages, on standard error.",
)
state = click.option(
    "--state", metavar="DIR", help="Where the ledger is. Default: the user's state folder."
)
config = click.option(
    "--config", metavar="FILE", help="The configuration. Default: config.toml of the user."
)

# How a quota is shared.
quota_store = click.option(
    "--quota-store",
    metavar="URL",
    help="Where the quota is counted: a file (default: the user's own), or redis://HOST:PORT/0.",
)
quota_share = click.option(
    "--quota-share",
    metavar="F",
    callback=read_by(parse_share),
    help="Use at most this share of the quota: 0.8, 1/20.",
)
sharing = together(
    quota_share,
    quota_store,
    click.option(
        "--quota-fallback",
        metavar="share=F",
        help="Where a Redis is lost, go on with this share. Default: wait a little, then exit 3.",
    ),
)

# What is told, and where.
telling = together(
    click.option(
        "--progress",
        type=click.Choice(["auto", "bars", "plain", "json", "none"]),
        default="auto",
        show_default=True,
        help="How progress is shown, on standard error.",
    ),
    click.option("-v", "--verbose", count=True, help="Tell of each finished transfer."),
    click.option("-q", "--quiet", is_flag=True, help="Print only when the exit code is not 0."),
    click.option("--log", metavar="FILE", help="Write what happens to FILE, a line an event."),
    debug,
)

# What is copied, and as what.
choosing = together(
    click.option(
        "--manifest", metavar="FILE", help="A table of files to copy (CSV, JSON lines, md5sum)."
    ),
    click.option(
        "--metadata", metavar="FILE", help="Store with the files what this table says of them."
    ),
    click.option(
        "--submit",
        metavar="LABEL",
        help="DataMeta: submit files and metadata when all are there; {date} is today.",
    ),
    click.option(
        "--submit-complete", is_flag=True, help="With --submit: submit the rows that are whole."
    ),
    click.option(
        "--save-metadata",
        metavar="FILE",
        help="On a download: what is stored with the files, as a table.",
    ),
    click.option("--encoding", metavar="NAME", help="How the tables are encoded, if not UTF-8."),
    click.option("--only", metavar="STATUS", help="Of a report as --manifest, these only: failed."),
    click.option(
        "--include", metavar="GLOB", multiple=True, help="Take what matches; the last match wins."
    ),
    click.option(
        "--exclude", metavar="GLOB", multiple=True, help="Leave what matches; the last match wins."
    ),
    click.option(
        "--min-age",
        metavar="DURATION",
        callback=read_by(parse_duration),
        default="0",
        help="Leave sources changed more recently: 15m.",
    ),
    click.option("--follow", is_flag=True, help="Follow links to folders."),
    click.option(
        "--keep-names", is_flag=True, help="A SOURCE keeps its last name below DESTINATION."
    ),
)

# What counts as done.
proving = together(
    click.option(
        "--checksum", metavar="NAME", multiple=True, help="A further digest to report: sha256, …"
    ),
    click.option(
        "--compare",
        type=click.Choice(["digest", "size"]),
        default="digest",
        show_default=True,
        help="When a file already there counts as the same.",
    ),
    click.option(
        "--on-conflict",
        type=click.Choice(["skip", "overwrite", "fail", "rename"]),
        default="fail",
        show_default=True,
        help="What to do where another file is already there.",
    ),
    click.option("--strict", is_flag=True, help="What cannot be proved fails."),
    click.option("--times", is_flag=True, help="Give downloads the platform's time of change."),
)

# How it is done.
moving = together(
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="At most N bodies in flight. Default: chosen by itself.",
    ),
    click.option(
        "--part-size",
        metavar="SIZE",
        callback=read_by(parse_size),
        help="Bytes a part: 64MiB. Default: chosen by itself.",
    ),
    click.option(
        "--bwlimit",
        metavar="RATE",
        callback=read_by(parse_rate),
        help="Bytes a second over all transfers: 20MiB.",
    ),
    click.option(
        "--retries", type=click.IntRange(min=0), metavar="N", help="Tries after the first."
    ),
    sharing,
    click.option(
        "--max-failures",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop when so many transfers have failed.",
    ),
    click.option(
        "--deadline",
        metavar="DURATION",
        callback=read_by(parse_duration),
        help="Stop, state saved, after this long: 8h.",
    ),
    click.option(
        "--rebuild-ledger",
        is_flag=True,
        help="Set a damaged ledger aside and find out anew what is there.",
    ),
    click.option(
        "--partial-dir", metavar="DIR", help="Keep unfinished parts there (same file system)."
    ),
    state,
    config,
)
