"""Moments at which what is durable changes, told to whoever watches: Python's own audit events.

A crash can fall before or after each of them. They are raised through `sys.audit`, which costs a
check of an empty list where no hook was added (`sys.addaudithook`); no state of ours, no setting.
A watcher may record their order, or end the process at one.

    penstock.asking     method and URL without query    before a request is sent
    penstock.answered   method and URL without query, status
    penstock.made       path                            a file that bytes will go into
    penstock.writing    path, offset, length            before bytes go into a file
    penstock.wrote      path, offset, length
    penstock.flushing   path                            a file's bytes, or a folder's entries
    penstock.flushed    path
    penstock.renaming   from, to
    penstock.renamed    from, to
    penstock.removed    path
    penstock.committing names of what changes           the ledger, before its commit
    penstock.committed  names of what changed

Nothing secret is ever part of one.
"""

from __future__ import annotations

import sys
from typing import Final

ASKING: Final = "penstock.asking"
ANSWERED: Final = "penstock.answered"
MADE: Final = "penstock.made"
WRITING: Final = "penstock.writing"
WROTE: Final = "penstock.wrote"
FLUSHING: Final = "penstock.flushing"
FLUSHED: Final = "penstock.flushed"
RENAMING: Final = "penstock.renaming"
RENAMED: Final = "penstock.renamed"
REMOVED: Final = "penstock.removed"
COMMITTING: Final = "penstock.committing"
COMMITTED: Final = "penstock.committed"


def reached(moment: str, *what: object) -> None:
    """Whoever watches knows that the moment has come. Called in whatever thread it comes in."""
    sys.audit(moment, *what)
