"""The official client 0.11.13, unchanged, is satisfied with the legacy endpoints."""

import json

import pytest

from coscine_client import simulated
from older_coscine import VERSION, driven, folder

PROGRAM = """
import io, json, sys
import coscine, rdflib

endpoint, token = sys.argv[1:]
client = coscine.ApiClient(token, base_url=endpoint, enable_caching=False, verbose=False)
resource = client.project("demo").resource("data")
graph = rdflib.Graph().parse(
    data="[] a <https://purl.org/coscine/ap/base/> .", format="turtle"
)
resource.upload("dir/\\u00e4 b.txt", b"one", graph)
resource.upload("x.txt", b"two", graph)
file = resource.file("x.txt")
content = io.BytesIO()
file.stream(content)
listed = [file.path for file in resource.files(recursive=True)]
described = [metadata.path for metadata in resource.metadata()]
file.delete()
print(json.dumps([coscine.__about__.__version__, content.getvalue().decode(), listed, described]))
"""


async def test_files_go_up_by_trees_and_blobs_come_down_and_are_deleted() -> None:
    place = folder()
    if place is None:
        pytest.skip(f"coscine {VERSION} cannot be fetched here")
    async with simulated() as (sim, _):
        told = await driven(place, PROGRAM, sim.endpoint.removesuffix("/coscine/api/v2"), sim.token)
        both = ["dir/ä b.txt", "x.txt"]
        assert json.loads(told) == [VERSION, "two", both, both]
        assert list(sim.files()) == ["dir/ä b.txt"]
        assert sim.encodings == {"dir/ä b.txt": "once"}
        assert [len(sim.calls("POST", path)) for path in ("/trees/metadata", "/blobs/")] == [2, 2]
        assert not sim.violations
