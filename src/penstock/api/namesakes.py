"""Files matched by id, or by name and digest, where names are not unique and there are no folders.

On such a platform (`Traits.unique_names` is off) a file sent from a tree stands under its last name
alone, whether it is pending or submitted since; a report names it by its id. `verify` then looks
for what a tree or a report names in whatever the platform lists, and leaves alone what others, or
earlier runs, have there beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.core.model import RemoteFile
from penstock.engine import files
from penstock.engine.comparing import Claim


async def matched(
    remote: Mapping[str, RemoteFile],
    wanted: Mapping[str, Claim],
    digest: str | None,
    *,
    is_root: bool,
) -> dict[str, RemoteFile]:
    """The remote files by the keys they are wanted under, those nobody wants under their own.

    `is_root`: the place is the one that is sent to. Then, where files are wanted by name or id and
    none by a path, what lies in folders (of submissions) and is not wanted is left out.
    `digest` is the one that tells files of one name apart.
    """
    found = {key: file for key, file in remote.items() if key in wanted}
    free = {key: file for key, file in remote.items() if key not in wanted}
    by_path, by_other = any("/" in key for key in found), False
    by_id = {file.id: key for key, file in free.items()}
    by_name: dict[str, list[str]] = {}
    for key in free:
        by_name.setdefault(key.rpartition("/")[2], []).append(key)
    for key in wanted.keys() - found.keys():
        named = by_id.get(key)
        alike = [k for k in by_name.get(key.rpartition("/")[2], ()) if k in free]
        if named is None and alike:
            named = await _best(alike, free, wanted[key], digest)
        if named is not None and named in free:
            found[key], by_other = free.pop(named), True
    if is_root and by_other and not by_path:
        free = {key: file for key, file in free.items() if "/" not in key}
    return {**found, **free}


async def _best(
    alike: Sequence[str], free: Mapping[str, RemoteFile], claim: Claim, digest: str | None
) -> str:
    """Of files of one name, the one with the digest; else one whose digest is not told."""
    if len(alike) == 1 or digest is None:
        return alike[0]
    ours = claim.digests.get(digest)
    if ours is None and claim.path is not None and claim.size is not None:
        ours = (await files.digest_file(claim.path, claim.size, (digest,)))[digest]
    same = (key for key in alike if free[key].digests.get(digest) == ours)
    untold = (key for key in alike if digest not in free[key].digests)
    return next(same, None) or next(untold, None) or alike[0]
