"""How many descriptors a run may have open, and how they are shared out.

A file under way holds its partial, a body in flight a file and a connection. Under a low
`ulimit -n` the run is made narrower instead of failing. Nothing here changes a limit of the
process but `raise_limit`, which a command calls for itself.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import resource

# What a run opens beside its transfers: ledger, quota, report and log, their locks, the event
# loop, and a few in threads that look at files. Counted: 14 to 20 on Linux.
_BESIDE = 24
# As many as anything here takes; `RLIM_INFINITY` is no number to compute with.
_ENOUGH = 65_536
_LEAST = 2


def raise_limit() -> None:
    """The process may have as many descriptors as the system lets it."""
    if sys.platform != "win32":
        with suppress(OSError, ValueError):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
            if soft != resource.RLIM_INFINITY and soft < most:
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def each_kind() -> int:
    """So many files, so many bodies and so many connections may be open at once."""
    return max((_limit() - _open() - _BESIDE) // 3, _LEAST)


def _limit() -> int:
    if sys.platform == "win32":
        return _ENOUGH
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _ENOUGH if soft == resource.RLIM_INFINITY else min(soft, _ENOUGH)


def _open() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return sum(1 for _ in Path(folder).iterdir())
    return 0
