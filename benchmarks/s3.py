"""Files to and from an S3 server: penstock beside s5cmd, boto3's transfer manager and rclone.

    python benchmarks/s3.py                # 256 MiB and 500 x 64 KiB, both ways, 3 rounds: minutes
    python benchmarks/s3.py --smoke        # tiny: some seconds

The server is moto's, in Python, in this process: on two cores its time is most of the wall clock,
so the CPU seconds of the clients tell more. penstock knows S3 as the storage of a Coscine resource,
and asks a simulated Coscine for its keys; the peers are given theirs. Objects and files are
compared with their sources in every round.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from harness import KIB, MIB, make_files
from peers import Client, Took, in_turns, penstock, program, run, table
from requests_coscine_s3 import BUCKET, Resource, resource

_KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
# boto3's own way for many files: its transfer manager over one client.
_BOTO3 = """
import sys, os, boto3
from boto3.s3.transfer import S3Transfer, TransferConfig, create_transfer_manager
way, endpoint, bucket, prefix, folder = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint)
with create_transfer_manager(client, TransferConfig()) as manager:
    if way == "up":
        names = sorted(os.listdir(folder))
        futures = [manager.upload(os.path.join(folder, n), bucket, prefix + n) for n in names]
    else:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        futures = [
            manager.download(bucket, k, os.path.join(folder, os.path.basename(k))) for k in keys
        ]
    for future in futures:
        future.result()
"""


@dataclass
class Stage:
    """One workload: its files, and what each client is asked."""

    place: Resource
    endpoint: str
    folder: Path
    names: list[str]

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
        for object_ in store.Bucket(BUCKET).objects.filter(Prefix=f"up-{name}/"):
            object_.delete()
        took, text = run(client, back, self.folder / "home")
        if name == "penstock" and json.loads(text)["verified"] != len(self.names):
            raise RuntimeError(f"not all were verified: {text}")
        if way == "up":
            for file in self.names:
                store.Bucket(BUCKET).download_file(f"up-{name}/{file}", str(back / file))
        _, wrong, missing = filecmp.cmpfiles(
            self.folder / "source", back, self.names, shallow=False
        )
        if wrong or missing:
            raise RuntimeError(f"{name}: {len(wrong)} differ, {len(missing)} are missing")
        return took


def stages(place: Resource, works: list[tuple[str, int, int]]) -> Iterator[tuple[str, Stage]]:
    (handed,) = {place.coscine.settings.s3}
    assert handed is not None
    for title, count, size in works:
        with tempfile.TemporaryDirectory(prefix="penstock-s3-") as folder:
            make_files(Path(folder) / "source", count, size)
            names = sorted(path.name for path in (Path(folder) / "source").iterdir())
            yield title, Stage(place, handed.endpoint, Path(folder), names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=256, help="MiB of the large file")
    parser.add_argument("--small", type=int, default=500, help="how many of 64 KiB")
    parser.add_argument("--smoke", action="store_true", help="all of it, tiny")
    given = parser.parse_args()
    works = [
        (f"1 x {given.large} MiB", 1, given.large * MIB),
        (f"{given.small} x 64 KiB", given.small, 64 * KIB),
    ]
    if given.smoke:
        works = [("2 x 1 MiB", 2, MIB)]
    with resource() as place:
        for title, stage in stages(place, works):
            store = boto3.resource(
                "s3",
                endpoint_url=stage.endpoint,
                aws_access_key_id="a",
                aws_secret_access_key="b",
                region_name="us-east-1",
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


if __name__ == "__main__":
    main()
