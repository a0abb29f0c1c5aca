"""Files to and from an S3 server: penstock beside s5cmd, boto3's transfer manager and rclone.

    python benchmarks/s3.py                # 1 GiB and 2,000 x 64 KiB, both ways, 2 rounds: 5 min
    python benchmarks/s3.py --smoke        # tiny: some seconds

The server is moto's (`s3_servers.py`), in a process of its own. Its computing is most of the
wall clock, whoever asks it, so the CPU seconds of the clients tell more; how much of its wall clock
each client waited for the server is told. penstock knows S3 as the storage of a Coscine resource,
and asks a simulated Coscine for its keys; the peers are given theirs. Objects and files are
compared with their sources in every round.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from harness import KIB, MIB, make_files
from peers import MEMORY, Client, Took, in_turns, penstock, program, run, table
from s3_servers import BUCKET, KEY, REGION, Resource, resource

_KEYS = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": KEY,
    "AWS_DEFAULT_REGION": REGION,
}
# boto3's own way for many files: its transfer manager over one client.
_BOTO3 = """
import sys, os, boto3
from boto3.s3.transfer import S3Transfer, TransferConfig, create_transfer_manager
way, endpoint, bucket, prefix, folder = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint)
with create_transfer_manager(client, TransferConfig()) as manager:
    if way == "up":
        paths = sorted(os.path.join(at, n) for at, _, names in os.walk(folder) for n in names)
        futures = [manager.upload(p, bucket, prefix + os.path.relpath(p, folder)) for p in paths]
    else:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        paths = [os.path.join(folder, key[len(prefix):]) for key in keys]
        for path in paths:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        futures = [manager.download(bucket, k, p) for k, p in zip(keys, paths)]
    for future in futures:
        future.result()
"""


@dataclass
class Stage:
    """One workload: its files, and what each client is asked."""

    place: Resource
    folder: Path
    names: list[str]
    busy: dict[str, list[float]] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return self.place.server.endpoint

    def client(self, name: str, way: str) -> Client | None:
        at, own = f"s3://{BUCKET}", f"up-{name}/"
        source = f"{self.folder / 'source'}/"
        if name == "penstock":
            there = f"{self.place.remote}/"
            pair = (source, there + own) if way == "up" else (there + "here/", "./")
            asked = {k: v for k, v in self.place.environ.items() if k.startswith("PENSTOCK_")}
            return penstock(*pair, **asked)
        if name == "s5cmd" and (found := program("s5cmd")):
            pair = (source, f"{at}/{own}") if way == "up" else (f"{at}/here/*", "./")
            return Client(found, "--endpoint-url", self.endpoint, "cp", *pair, **_KEYS)
        if name == "rclone" and (found := program("rclone")):
            kinds = {"TYPE": "s3", "PROVIDER": "Other", "ENV_AUTH": "true"}
            kinds["ENDPOINT"] = self.endpoint
            remote = {f"RCLONE_CONFIG_S_{key}": value for key, value in kinds.items()}
            pair = (source, f"s:{BUCKET}/{own}") if way == "up" else (f"s:{BUCKET}/here", "./")
            return Client(found, "copy", "--config", "", "-q", *pair, **_KEYS, **remote)
        if name == "boto3":
            prefix, folder = (own, source) if way == "up" else ("here/", ".")
            where = (way, self.endpoint, BUCKET, prefix, folder)
            return Client(sys.executable, "-c", _BOTO3, *where, **_KEYS)
        return None

    def one(self, store: Any, way: str, name: str, client: Client) -> Took:  # noqa: ANN401
        back = self.folder / "back"
        shutil.rmtree(back, ignore_errors=True)
        back.mkdir()
        if way == "up":
            store.Bucket(BUCKET).objects.filter(Prefix=f"up-{name}/").delete()
        before_s = self.place.server.cpu_s()
        took, text = run(client, back, self.folder / "home")
        busy = (self.place.server.cpu_s() - before_s) / took.wall_s
        self.busy.setdefault(f"{name} {way}", []).append(busy)
        if name == "penstock" and json.loads(text)["verified"] != len(self.names):
            raise RuntimeError(f"not all were verified: {text}")
        source = self.folder / "source"
        if way == "up":
            wrong, missing = self._differing(store.Bucket(BUCKET), f"up-{name}/", back)
        else:
            _, wrong, missing = filecmp.cmpfiles(source, back, self.names, shallow=False)
        if wrong or missing:
            raise RuntimeError(f"{name}: {len(wrong)} differ, {len(missing)} are missing")
        return took

    def _differing(self, bucket: Any, prefix: str, back: Path) -> tuple[list[str], list[str]]:  # noqa: ANN401 - boto3's
        """Names whose objects differ from their sources, and those without an object.

        Of an object sent in one piece the server's MD5 tells.
        """
        source, wrong = self.folder / "source", []
        there = {
            object_.key.removeprefix(prefix): object_
            for object_ in bucket.objects.filter(Prefix=prefix)
        }
        for name in self.names:
            if name not in there:
                continue
            tag = there[name].e_tag.strip('"')
            if "-" in tag:
                bucket.download_file(prefix + name, str(back / name))
                same = filecmp.cmp(source / name, back / name, shallow=False)
            else:
                same = hashlib.md5((source / name).read_bytes()).hexdigest() == tag  # noqa: S324
            if not same:
                wrong.append(name)
        return wrong, [name for name in self.names if name not in there]


def stages(place: Resource, works: list[tuple[str, int, int]]) -> Iterator[tuple[str, Stage]]:
    for title, count, size in works:
        with tempfile.TemporaryDirectory(prefix="penstock-s3-", dir=MEMORY) as folder:
            source = make_files(Path(folder) / "source", count, size)
            names = sorted(str(path.relative_to(source)) for path in source.rglob("*.dat"))
            yield title, Stage(place, Path(folder), names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--large", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--small", type=int, default=2000, help="how many of 64 KiB")
    parser.add_argument("--smoke", action="store_true", help="all of it, tiny")
    given = parser.parse_args()
    works = [
        (f"1 x {given.large} MiB", 1, given.large * MIB),
        (f"{given.small} x 64 KiB", given.small, 64 * KIB),
    ]
    if given.smoke:
        works = [("2 x 1 MiB", 2, MIB)]
    with resource(keep=MEMORY) as place:
        for title, stage in stages(place, works):
            store = boto3.resource(
                "s3",
                endpoint_url=stage.endpoint,
                aws_access_key_id=KEY,
                aws_secret_access_key=KEY,
                region_name=REGION,
            )
            bucket = store.Bucket(BUCKET)
            bucket.objects.all().delete()
            for name in stage.names:
                bucket.upload_file(str(stage.folder / "source" / name), f"here/{name}")
            for way in ("up", "down"):
                asked = {n: stage.client(n, way) for n in ("penstock", "s5cmd", "boto3", "rclone")}
                there = {name: client for name, client in asked.items() if client is not None}

                def one(
                    name: str,
                    client: Client,
                    *,
                    way: str = way,
                    stage: Stage = stage,
                    store: Any = store,  # noqa: ANN401 - boto3's
                ) -> Took:
                    return stage.one(store, way, name, client)

                rounds = 1 if given.smoke else given.rounds
                table(f"S3, {title} {way}", in_turns(there, rounds, one))
                shares = {n: statistics.median(stage.busy[f"{n} {way}"]) for n in there}
                told = ", ".join(f"{n} {share:.2f}" for n, share in shares.items())
                print(f"\nThe server computed for this share of the wall clock: {told}")


if __name__ == "__main__":
    main()
