"""Which workspaces a command is about: ids, filters, or an earlier report. Nothing is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from penstock.core.actionreport import STATUSES
from penstock.core.errors import UsageError
from penstock.core.values import quick_value
from penstock.engine.files import hop
from penstock.platforms.control import Thing


@quick_value(frozen=True, slots=True)
class Selection:
    """What has to hold of a workspace; globs are matched with regard to case.

    `ids` None: any. `own`: the listing is asked for the caller's own.
    """

    ids: frozenset[str] | None
    order: tuple[str, ...]
    own: bool
    names: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    group: str | None = None
    wallet: str | None = None
    applications: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def takes(self, thing: Thing) -> bool:
        """Whether a workspace is meant. What the server should have left out is left out here."""
        if self.ids is not None and thing.id not in self.ids:
            return False
        for wanted, is_so in ((self.group, thing.group), (self.wallet, thing.wallet)):
            if wanted is not None and is_so not in {None, wanted}:
                return False
        if thing.kind not in {None, "Compute"}:
            return False
        if self.statuses and thing.status not in self.statuses:
            return False
        if self.names and not _any(self.names, thing.name):
            return False
        if self.applications and not _any(self.applications, thing.application or ""):
            return False
        return not _any(self.excluded, thing.name)

    def of(self, things: Iterable[Thing]) -> list[Thing]:
        """Those that are meant, in their order."""
        return [thing for thing in things if self.takes(thing)]

    def missing(self, there: Collection[str]) -> list[str]:
        """The ids that are named, and not there."""
        return [thing for thing in self.order if thing not in there]


def _any(globs: Sequence[str], text: str) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)


def _several(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


async def read_selection(
    action: str,
    ids: Sequence[str],
    *,
    profile: str,
    all_: bool,
    anyone: bool,
    name: str | Sequence[str],
    status: str | Sequence[str],
    co: str | None,
    wallet: str | None,
    application: str | Sequence[str],
    exclude: str | Sequence[str],
    from_: str | os.PathLike[str] | None,
    only: str | None,
) -> Selection:
    """The selection as it was said.

    Raises `UsageError` where nothing says what is meant, and for a report that is none.
    """
    if only is not None and from_ is None:
        raise UsageError("only is about an earlier report: give one with from")
    if only is not None and only not in STATUSES:
        raise UsageError(f"only is one of {', '.join(STATUSES)}, not {only!r}")
    filters = (name, status, application)
    chosen = any(_several(each) for each in filters) or co is not None or wallet is not None
    if action != "list" and not (ids or chosen or all_ or from_ is not None):
        raise UsageError(
            f"{action} what? Name workspaces by their ids, by a filter (--name, --status, --co, "
            "--wallet, --application), by --from REPORT, or say --all"
        )
    order = list(dict.fromkeys(_id_in(each, profile) for each in ids))
    if from_ is not None:
        reported = await hop(_read_report, Path(from_), only or "settled")
        order = [one for one in reported if not order or one in order]
    named = bool(ids) or from_ is not None
    return Selection(
        frozenset(order) if named else None,
        tuple(order),
        # A report names exactly what is meant, whoever owns it.
        own=not (anyone or co is not None or from_ is not None),
        names=_several(name),
        statuses=tuple(each.lower() for each in _several(status)),
        group=co,
        wallet=wallet,
        applications=_several(application),
        excluded=_several(exclude),
    )


def _id_in(text: str, profile: str) -> str:
    """The id, which may be written as the location that a listing shows."""
    return text.removeprefix(f"{profile}:").removeprefix("id=")


def _read_report(path: Path, status: str) -> list[str]:
    """The ids of the lines that ended in `status`, in their order."""
    found: dict[str, None] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                line = json.loads(text)
                if not isinstance(line, dict) or not isinstance(line.get("id"), str):
                    raise UsageError(f"{path}, line {number}: no line of a report of workspaces")
                if "action" not in line or line.get("status") not in STATUSES:
                    raise UsageError(f"{path}, line {number}: no line of a report of workspaces")
                if line["status"] == status:
                    found[line["id"]] = None
    except OSError as error:
        raise UsageError(f"the report {path} cannot be read: {error.strerror}") from error
    except ValueError:
        raise UsageError(f"{path} is no report: a line of it is not JSON in UTF-8") from None
    return list(found)
