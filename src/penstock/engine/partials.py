"""The hidden neighbour a file arrives in: its name, and the lock that makes it one run's own."""

from __future__ import annotations

import errno
import hashlib
import os

from penstock.core.model import Identity
from penstock.engine import files


class Partial:
    """A download's partial, once it is locked: two runs never write into one, nor what it became.

    Where another run holds it, one of a name of our own.
    """

    def __init__(self, wanted: str, kept: str | None, own: str) -> None:
        self._wanted = wanted
        self._kept = kept
        self._own = own
        self.path = ""
        self.descriptor = -1

    def lock(self) -> str:
        """Its path; it exists and is ours from now on. Raises OSError. Blocks."""
        if self.descriptor >= 0:
            return self.path
        kept = self._kept
        if kept is None or os.path.dirname(kept) != os.path.dirname(self._wanted):  # noqa: PTH120
            kept = self._wanted
        for tried in dict.fromkeys((kept, self._wanted, self._own)):
            descriptor = files.lock_partial(tried)
            if descriptor is not None:
                self.path, self.descriptor = tried, descriptor
                return tried
        raise OSError(errno.EBUSY, "another run is writing it", self._wanted)

    @property
    def is_empty(self) -> bool:
        """Whether it has no bytes."""
        return os.fstat(self.descriptor).st_size == 0

    def release(self) -> None:
        """The lock is nobody's."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


def partial_of(
    identity: Identity, final: str, folder: str | None, kept: str | None, row: int
) -> Partial:
    """The partial of a file that is to stand at `final`; `kept` is an earlier run's.

    In a `folder` for partials it is found again even where the destination's path differs.
    """
    named = (identity.endpoint, identity.container, identity.remote_path)
    key = named if folder else (*named, identity.local_path)
    name = hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()[:24]
    stem = os.path.join(folder or os.path.dirname(final), f".penstock-{name}")  # noqa: PTH118, PTH120
    return Partial(f"{stem}.part", kept, f"{stem}-{os.getpid()}-{row}.part")
