"""The methods of `Platform` that concern files, for a platform that has none: each says so.

A `LocationError` before anything is asked, so that a copy to or from such a place is exit 2.
"""

# ruff: noqa: ARG002 - the names are the protocol's

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import NoReturn

from penstock.core.errors import LocationError
from penstock.core.model import (
    Completed,
    Flow,
    Found,
    Lease,
    OpenUpload,
    Origin,
    Page,
    Part,
    Place,
    Receipt,
    RemoteFile,
    Response,
    Target,
    Upload,
)
from penstock.platforms.base import Prepared


class Fileless:
    """Refuses whatever is about a file. `sentence` is what a person is told."""

    sentence = "this platform keeps no files"

    def _refuse(self) -> NoReturn:
        raise LocationError(self.sentence)

    def place(self, path: str) -> Place:
        """No place holds files."""
        self._refuse()

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:
        """Refused."""
        self._refuse()

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:
        """Refused."""
        self._refuse()

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:
        """Refused."""
        self._refuse()

    def make_folder(self, parent: Place, name: str) -> Flow[Place]:
        """Refused."""
        self._refuse()

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        """Refused."""
        self._refuse()

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:
        """Refused."""
        self._refuse()

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """Refused."""
        self._refuse()

    def delete_file(self, file_id: str) -> Flow[None]:
        """Refused."""
        self._refuse()

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:
        """Refused."""
        self._refuse()

    def create_upload(self, target: Target, part_size: int, *, overwrite: bool) -> Flow[Upload]:
        """Refused."""
        self._refuse()

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        """Refused."""
        self._refuse()

    def complete_upload(
        self, upload: Upload, target: Target, receipts: Sequence[Receipt], *, reports: bool
    ) -> Flow[Completed | None]:
        """Refused."""
        self._refuse()

    def abort_upload(self, upload_id: str) -> Flow[None]:
        """Refused."""
        self._refuse()

    def open_uploads(self, cursor: str | None) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:
        """Refused."""
        self._refuse()

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:
        """Refused."""
        self._refuse()

    def probe(self, lease: Lease) -> Flow[Response]:
        """Refused."""
        self._refuse()

    def get_part(
        self,
        lease: Lease,
        part: Part,
        sink: str,
        *,
        total: int,
        validator: str | None,
        digests: Set[str],
    ) -> Flow[Response]:
        """Refused."""
        self._refuse()
