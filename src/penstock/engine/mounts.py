"""Which folders lie on a network file system, where SQLite must do without its WAL."""

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


def on_network(path: Path) -> bool:
    """Whether the path lies on a network file system, as far as the system tells (Linux)."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # Source: proc(5): device, mount point, type, …
    kinds = {line.split()[1]: line.split()[2] for line in mounts.splitlines()}
    resolved = path.resolve()
    for folder in (resolved, *resolved.parents):
        if str(folder) in kinds:
            return kinds[str(folder)] in _NETWORK_TYPES
    return False
