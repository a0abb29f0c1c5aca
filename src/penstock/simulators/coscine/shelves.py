"""Files of a resource on the simulator's own storage host, one tree of folders.

A folder is there while something is in it. Listings are in the order things were made, and cost
what is in one folder, so that a hundred thousand files are no trouble.
"""

from collections.abc import Callable, Sequence

from penstock.simulators.content import Content
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.state import Entry
from penstock.simulators.storage import Storage


class OwnShelf:
    """Files behind presigned URLs of the simulator's storage host.

    part_size: in parts of which size the API stores what it is sent, for its ETags.
    """

    def __init__(
        self, resource_id: str, storage: Storage, part_size: Callable[[], int | None]
    ) -> None:
        self._id = resource_id
        self._storage = storage
        self._part_size = part_size
        self._levels: dict[str, dict[str, Entry]] = {"": {}}
        self._used = 0

    def key(self, path: str) -> str:
        """Return the storage's key of a file."""
        return f"{self._id}/{path}"

    async def level(self, prefix: str) -> Sequence[Entry]:
        """Return the files and folders right below a folder."""
        return list(self._levels.get(prefix, {}).values())

    async def find(self, path: str) -> Entry | None:
        """Return a file."""
        return self.entry(path)

    def entry(self, path: str) -> Entry | None:
        """Return a file."""
        return self._levels.get(_folder_of(path), {}).get(path)

    async def put(self, path: str, content: Content) -> None:
        """Make a file, or replace one."""
        self.store(path, content, part_size=self._part_size())

    def store(self, path: str, content: Content, *, part_size: int | None = None) -> None:
        """Make a file, or replace one.

        Raises:
            RefusedError: a folder is in the way, or a file where a folder has to be (400).
        """
        self._make_way(path)
        now = self._storage.now()
        before = self.entry(path)
        if before is not None:
            self._used -= before.size or 0
        self._storage.put(self.key(path), content, part_size=part_size)
        created_at = now if before is None else before.created_at
        self._levels[_folder_of(path)][path] = Entry(path, content.size, created_at, now)
        self._used += content.size

    async def remove(self, path: str) -> None:
        """Remove a file that is there."""
        self.drop(path)

    def drop(self, path: str) -> None:
        """Remove a file that is there, and the folders that are empty then."""
        folder = _folder_of(path)
        self._used -= self._levels[folder].pop(path).size or 0
        self._storage.objects.pop(self.key(path), None)
        while folder and not self._levels[folder]:
            del self._levels[folder]
            above = _folder_of(folder)
            del self._levels[above][folder]
            folder = above

    async def used(self) -> int:
        """Return how many bytes there are."""
        return self._used

    def url(self, path: str) -> str:
        """Return a presigned URL to fetch a file."""
        return self._storage.lease_get(self.key(path)).url

    async def read(self, path: str) -> Content:
        """Return what a file holds."""
        return self._storage.objects[self.key(path)].content

    def files(self) -> list[Entry]:
        """Return every file."""
        return [e for level in self._levels.values() for e in level.values() if not e.is_folder]

    def _make_way(self, path: str) -> None:
        folder = _folder_of(path)
        if f"{path}/" in self._levels:
            raise RefusedError(400, f"There is a folder {path}.")
        missing = []
        while folder not in self._levels:
            missing.append(folder)
            folder = _folder_of(folder)
            if missing[-1].rstrip("/") in self._levels.get(folder, {}):
                raise RefusedError(400, f"{missing[-1].rstrip('/')} is a file.")
        now = self._storage.now()
        for each in reversed(missing):
            self._levels[each] = {}
            self._levels[_folder_of(each)][each] = Entry(each, None, now, now)


def _folder_of(path: str) -> str:
    """Return the folder that a path, or a folder's path, is right below."""
    return path.rstrip("/").rpartition("/")[0] + "/" if "/" in path.rstrip("/") else ""
