"""What kind of file system folders lie on, where that decides how their files are treated.

On a network's, SQLite must do without its WAL; in memory, blocks are not reserved: that would fill
pages which are then filled again.
"""

from __future__ import annotations

from pathlib import Path

# File systems whose files other machines see. SQLite's WAL needs memory that all share, so it is
# for one machine. Source: sqlite.org/wal.html, "Overview"; the names are those of mount(8).
_NETWORK_TYPES = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
        "fuse.ceph",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "afs",
        "panfs",
        "pvfs2",
        "9p",
    ]
)


# Source: mount(8).
_MEMORY_TYPES = frozenset(("tmpfs", "ramfs"))


def on_network(path: Path) -> bool:
    """Whether the path lies on a network file system, as far as the system tells (Linux)."""
    return _kind(path) in _NETWORK_TYPES


def in_memory(path: Path) -> bool:
    """Whether the path lies on a file system whose blocks are pages of memory (Linux)."""
    return _kind(path) in _MEMORY_TYPES


def _kind(path: Path) -> str | None:
    """The type of the file system that the path lies on."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Source: proc(5): device, mount point, type, …
    kinds = {line.split()[1]: line.split()[2] for line in mounts.splitlines()}
    resolved = path.resolve()
    for folder in (resolved, *resolved.parents):
        if str(folder) in kinds:
            return kinds[str(folder)]
    return None
