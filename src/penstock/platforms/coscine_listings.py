"""Coscine's listings: what stands at a path, and the pages that bring each file's URL.

A folder is a beginning of paths: there with its first file, and gone with its last. Its id is
`PROJECT/RESOURCE/path/`, a file's `PROJECT/RESOURCE/path`, so that whoever holds an id can ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.core.errors import AnswerUnusable, LocationError, Refused, SourceMissing
from penstock.core.locations import unescape
from penstock.core.model import (
    Flow,
    Found,
    Lease,
    Origin,
    Page,
    Place,
    RemoteFile,
    RemoteFolder,
)
from penstock.core.times import url_expires_at
from penstock.platforms.base import JsonObject
from penstock.platforms.coscine_answers import paged
from penstock.platforms.coscine_catalogue import Catalogue
from penstock.platforms.coscine_places import check_path, split_id


class Listings(Catalogue):
    """What stands in resources."""

    # -- places -----------------------------------------------------------------------------

    def place(self, path: str) -> Place:
        """`PROJECT/RESOURCE[/PREFIX]` as a place. Asks nothing.

        Project and resource stay as they were written; the path below is read: `%2F`, `%25`.
        """
        if path.startswith("id="):
            raise LocationError(
                f"{path!r}: Coscine has no ids of files; write PROJECT/RESOURCE, then the path"
            )
        segments = [segment for segment in path.split("/") if segment]
        if len(segments) < 2:  # noqa: PLR2004
            raise LocationError(
                f"{path!r} names no resource: write PROJECT/RESOURCE, then folders; `penstock "
                "list` shows what there is"
            )
        return Place("/".join(segments[:2]), "/".join(unescape(name) for name in segments[2:]))

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:
        """What stands at a path: the resource by its names, then its path by one listing."""
        if start is None:
            resource = yield from self.find_resource(place.container)
            start = self.root(resource.container)
        if place.path == start.path:
            return Found(start)
        entry = yield from self._entry(start.container, place.path)
        if isinstance(entry, RemoteFile):
            above = place.path.rpartition("/")[0]
            return Found(self.folder(start.container, above), file=entry)
        if entry is not None:
            return Found(self.folder(start.container, place.path))
        # Folders need not be made, so which of those on the way are there need not be known.
        root = self.root(start.container)
        return Found(root, missing=tuple(place.path.split("/")))

    def root(self, container: str) -> Place:
        """A resource as a place."""
        return Place(container, "", f"{container}/")

    def folder(self, container: str, path: str) -> Place:
        """A folder of a resource as a place, whether it is there or not."""
        return Place(container, path, f"{container}/{path}/") if path else self.root(container)

    def beginning(self, folder: Place, prefix: str) -> Place:
        """What stands in a folder and begins with `prefix`, as a place that can be listed.

        Source: [SDK] storage API, `Prefix`: one level only, unless it ends with a slash.
        """
        assert folder.id is not None, "it was looked up, or is known by its path"
        return Place(folder.container, folder.path, f"{folder.id}{prefix}")

    def _entry(self, container: str, path: str) -> Flow[RemoteFile | RemoteFolder | None]:
        """The file or folder at exactly this path, a folder first; None where nothing is.

        A prefix without a slash at its end lists what stands beside it and begins alike. Source:
        [SDK] storage API, `Prefix`. That it does is seen once only, so where it shows nothing,
        what is below the path is asked for.
        """
        found: RemoteFile | None = None
        number: str | None = "1"
        while number is not None:
            origin = Origin("file", f"{container}/{path}")
            page = yield from self.page(container, path, number, origin)
            for folder in page.folders:
                if folder.id == f"{container}/{path}/":
                    return folder
            for file in page.files:
                if file.id == f"{container}/{path}":
                    found = file
                elif file.id.startswith(f"{container}/{path}/"):
                    return RemoteFolder(f"{container}/{path}/", path.rpartition("/")[2])
            number = page.next
        if found is not None:
            return found
        page = yield from self.page(container, f"{path}/", "1", Origin("file", path))
        if page.files or page.folders:
            return RemoteFolder(f"{container}/{path}/", path.rpartition("/")[2])
        return None

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:
        """50 entries of one folder, each file with the URL its bytes are at.

        Throws a `Refused` of 404 where a folder shows nothing: it is not there, then.
        """
        container, prefix = self._place_of(place)
        number = cursor or "1"
        origin = Origin("page", f"{container}/{prefix}", number)
        page = yield from self.page(container, prefix, number, origin)
        if cursor is None and prefix and not page.files and not page.folders:
            raise Refused(f"the folder {prefix!r} of {container} holds nothing", status=404)
        return page

    def _place_of(self, place: Place) -> tuple[str, str]:
        """A folder's container, and the prefix its entries have."""
        if place.id is None:
            raise LocationError(f"{place.container}/{place.path} was not looked up")
        project, resource, prefix = place.id.split("/", 2)
        return f"{project}/{resource}", prefix

    def page(self, container: str, prefix: str, number: str, origin: Origin) -> Flow[Page]:
        """One page of what begins with `prefix`, one level of it.

        Source: [SDK] `FileTreeDto`: a `Tree` is a folder, a `Leaf` a file.
        """
        legacy = self._settings.legacy
        request = self._api(
            "GET",
            f"{self._resource_path(container)}/{'trees/files' if legacy else 'storage'}",
            [("Path" if legacy else "Prefix", prefix), *self._paging(number)],
        )
        answer = paged((yield request), int(number), "file listing")
        files: list[RemoteFile] = []
        folders: list[RemoteFolder] = []
        left_out = 0
        for entry in answer.entries:
            path = entry.text("path")
            plain = path.strip("/")
            is_folder = (entry.text_or_none("type") or "").lower() == "tree" or path.endswith("/")
            if not plain or (prefix.endswith("/") and plain == prefix.rstrip("/")):
                left_out += 1  # The folder itself, as some storages keep an empty object for it.
                continue
            name = plain.rpartition("/")[2]
            if is_folder:
                folders.append(RemoteFolder(f"{container}/{plain}/", name))
            else:
                files.append(self._file(container, path.lstrip("/"), entry, origin))
        return Page(tuple(files), tuple(folders), answer.next, answer.total, left_out)

    def _file(self, container: str, path: str, entry: JsonObject, origin: Origin) -> RemoteFile:
        return RemoteFile(
            f"{container}/{path}",
            path.rpartition("/")[2],
            entry.whole_or_none("size"),
            modified=entry.text_or_none("changeDate") or entry.text_or_none("creationDate"),
            lease=self._listed_lease(entry, origin),
        )

    def _listed_lease(self, entry: JsonObject, origin: Origin) -> Lease | None:
        """The presigned URL in a listing, where there is one that needs no token.

        Source: [API], "File Actions"; [SDK] `actions.download`: url and method.
        """
        actions = entry.object_or_none("actions")
        download = actions.object_or_none("download") if actions is not None else None
        if download is None or (download.text_or_none("method") or "GET").upper() != "GET":
            return None
        try:
            url = download.url("url")
        except AnswerUnusable:
            return None
        if url.startswith(f"{self._endpoint}/"):
            return None  # The API's own address: it would ask for the token.
        return Lease(url, origin, url_expires_at(url))

    def make_folder(self, parent: Place, name: str) -> Flow[Place]:
        """The folder, which needs no making: it is there with its first file."""
        yield from ()
        path = f"{parent.path}/{name}" if parent.path else name
        check_path(path)
        return self.folder(parent.container, path)

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """One file as a listing of exactly its path shows it."""
        file = yield from self.one_file(file_id)
        if file is None:
            raise SourceMissing(f"{file_id} is not there any more")
        return file

    def one_file(self, file_id: str) -> Flow[RemoteFile | None]:
        """A file as a listing of exactly its path shows it; None where it is not there."""
        container, path = split_id(file_id)
        number: str | None = "1"
        while number is not None:
            page = yield from self.page(container, path, number, Origin("file", file_id))
            for file in page.files:
                if file.id == file_id:
                    return file
            number = page.next
        return None

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:
        """Files by id, a request each; those that are not there are left out."""
        found = {}
        for file_id in file_ids:
            file = yield from self.one_file(file_id)
            if file is not None:
                found[file_id] = file
        return found
