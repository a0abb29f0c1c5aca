"""`penstock status` and `penstock report`: earlier runs, from what they left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import options, running, terminal, words
from penstock.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.api.history import RunStatus

_LEFT_SHOWN = 20


def _runs(run: str | None, state: str | None) -> list[RunStatus]:
    from penstock.api.history import status as ask  # noqa: PLC0415 - slow to import

    return running.run(lambda: ask(run, state=state), running.Signals(None))


@click.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a run.")
@options.state
@options.debug
def status(
    run: str | None,
    as_json: bool,  # noqa: FBT001 - click's
    state: str | None,
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
) -> int:
    """Earlier runs, the newest first: what is verified, what is left, how to go on.

    RUN is a run's id, or how it begins.
    """
    runs = _runs(run, state)
    for each in runs:
        if as_json:
            terminal.put_json(_as_object(each))
        elif run is None:
            terminal.put(_in_a_line(each))
        else:
            terminal.put_all(_whole(each))
    if not runs and not as_json:
        terminal.complain("no run is remembered yet")
    return 0


def _as_object(run: RunStatus) -> dict[str, Any]:
    return {
        "run": run.run,
        "began_at": run.began_at,
        "ended_at": run.ended_at,
        "sources": list(run.sources),
        "destination": run.destination,
        "report": str(run.path) if run.path is not None else None,
        "summary": run.summary,
        "left": list(run.left),
    }


def _counts(run: RunStatus) -> str:
    if run.summary is None:
        return "not ended: under way, or killed"
    counts = {kind: run.summary.get(kind, 0) for kind in run.kinds}
    return ", ".join(f"{number:,} {kind}" for kind, number in counts.items() if number) or "nothing"


def _in_a_line(run: RunStatus) -> str:
    where = f"{' '.join(run.sources) or 'a manifest'} → {run.destination}"
    began = terminal.local_time(run.began_at)
    return f"{run.run}  {began}  {_counts(run)}  {terminal.safe_line(where)}"


def _whole(run: RunStatus) -> Iterable[str]:
    yield f"run          {run.run}"
    yield f"began        {terminal.local_time(run.began_at)}"
    ended = terminal.local_time(run.ended_at) if run.ended_at is not None else "not yet, or killed"
    yield f"ended        {ended}"
    yield f"from         {terminal.safe_line(' '.join(run.sources) or 'a manifest')}"
    yield f"to           {terminal.safe_line(run.destination)}"
    yield f"came of it   {_counts(run)}"
    yield f"report       {run.path if run.path is not None else 'not kept any more'}"
    for source in run.left[:_LEFT_SHOWN]:
        yield f"left         {terminal.safe_line(source)}"
    if len(run.left) > _LEFT_SHOWN:
        yield f"left         and {len(run.left) - _LEFT_SHOWN:,} more"
    if run.summary is None or run.left or run.summary.get("failed"):
        yield f"to go on     {words.CARRY_ON}; what is proved is not moved again"


@click.command()
@click.argument("run")
@click.option("--html", "page", metavar="FILE", help="As a page.")
@click.option(
    "--checksums",
    metavar="NAME",
    help="As lines for `md5sum -c`, `sha256sum -c`, …: those files whose digest was taken.",
)
@click.option("-o", "--output", metavar="FILE", help="Where to. Default: standard output.")
@options.state
@options.debug
def report(
    run: str,
    page: str | None,
    checksums: str | None,
    output: str | None,
    state: str | None,
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
) -> int:
    """Write the report of RUN again: one JSON object a line, or as a page, or as checksums.

    RUN is a run's id, or how it begins; see: penstock status.
    """
    from penstock.api.history import as_checksums, as_page, lines_of  # noqa: PLC0415 - as above

    if page is not None and checksums is not None:
        raise UsageError("--html and --checksums are two forms: choose one")
    (found,) = _runs(run, state)
    if found.path is None:
        raise UsageError(f"the report of {found.run} is not kept any more")
    lines = lines_of(found.path)
    if page is not None:
        return _write(as_page(found, lines), page, end="")
    texts = (line.json() for line in lines) if checksums is None else as_checksums(lines, checksums)
    told = 0

    def counted() -> Iterator[str]:
        nonlocal told
        for text in texts:
            told += 1
            yield text

    if output is not None:
        _write(counted(), output, end="\n")
    else:
        terminal.put_all(counted())
    if checksums is not None and not told:
        terminal.complain(
            f"no {checksums} was taken of any local file of {found.run}; penstock copy "
            f"--checksum {checksums} takes it"
        )
    return 0


def _write(texts: Iterable[str], path: str, *, end: str) -> int:
    try:
        with Path(path).open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(text + end for text in texts)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    return 0
