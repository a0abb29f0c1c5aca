"""What is said where an optional package is not installed: its extra, before anything moves."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from penstock.simulators import Coscine, CoscineSettings, S3Place

# A module that is None in `sys.modules` cannot be imported, as one that is not installed.
PROGRAM = """
import asyncio, json, os, sys
for name in ("rdflib", "pyshacl", "botocore", "boto3"):
    sys.modules[name] = None
import penstock
from penstock.core.errors import PenstockError

async def main(arguments):
    try:
        await penstock.copy(*arguments["locations"], **arguments["options"])
    except PenstockError as error:
        print(json.dumps([type(error).__name__, str(error)]))
    else:
        print(json.dumps(["", ""]))

asyncio.run(main(json.loads(sys.argv[1])))
"""


# Of an S3 server it is enough to be named: nothing may be asked there.
NOBODY = S3Place(endpoint="http://127.0.0.1:9", bucket="b")


@pytest.mark.parametrize(("what", "extra"), [("saved", "coscine"), ("s3", "s3")])
async def test_the_extra_that_is_missing_is_named_and_nothing_has_moved(
    tmp_path: Path, what: str, extra: str
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a").write_bytes(b"1")
    async with Coscine(CoscineSettings(s3=NOBODY)) as sim:
        sim.add_file("there", b"2")
        sim.add_resource("in-s3", general_type="rdss3")
        up = (str(tmp_path / "src"), f"coscine:{sim.project}/in-s3/")
        down = (f"coscine:{sim.project}/data", str(tmp_path / "to"))
        locations = up if what == "s3" else down
        options = {"save_metadata": str(tmp_path / "t.csv")} if what == "saved" else {}
        arguments = json.dumps({"locations": locations, "options": options})
        environ = {
            "HOME": str(tmp_path),
            "PENSTOCK_COSCINE_ENDPOINT": sim.endpoint,
            "PENSTOCK_COSCINE_TOKEN": sim.token,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, arguments, stdout=asyncio.subprocess.PIPE, env=environ
        )
        out, _ = await process.communicate()
        _, said = json.loads(out)
        assert f"penstock[{extra}]" in said
        assert not (tmp_path / "to").exists()
        assert sorted(sim.files()) == ["there"]
        assert not [each for each in sim.log if each.host == "storage"]
