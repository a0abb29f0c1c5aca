"""What a platform offers beside `Platform` where names are not unique (`Traits.unique_names`).

Its files stand in no folders. A local file is there already where one of its name and its digest
(`Traits.digest_first`) is, whoever sent it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from penstock.core.model import Flow, RemoteFile
from penstock.core.traits import Traits


@runtime_checkable
class Namesakes(Protocol):
    """What a platform tells on which many files may have one name."""

    @property
    def traits(self) -> Traits:
        """The numbers."""
        ...

    def check_name(self, name: str) -> None:
        """Nothing, or `NameRefused` for a name that the platform cannot keep; asks nothing."""
        ...

    def standing(self) -> Flow[tuple[RemoteFile, ...]]:
        """Every file that counts as sent: a few requests for all. Digests may be missing."""
        ...
