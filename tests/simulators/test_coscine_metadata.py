import json
import re

import pytest
from rdflib import Graph

from coscine_client import encoded, simulated
from penstock.simulators.coscine import DCMI_TYPES, MICROSCOPY_PROFILE, SUBJECTS, Term

GOOD = """
    @prefix dcterms: <http://purl.org/dc/terms/> .
    @prefix m: <https://example.org/terms/microscopy#> .
    @prefix i: <https://example.org/terms/instrument#> .
    @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
    [] a m:Micrograph ; dcterms:title "A cell" ; dcterms:creator "A. Nother" ;
        dcterms:created "2026-03-31"^^xsd:date ; m:objective "20"^^xsd:int ;
        dcterms:subject <https://example.org/vocabularies/subjects/210> ; m:staining "DAPI" ;
        m:instrument [ a <https://example.org/ap/instrument/> ; i:model "X100" ] .
"""


async def test_metadata_is_kept_by_version_and_given_as_it_was_sent() -> None:
    async with simulated() as (sim, client):
        first, second = (f'[] <http://purl.org/dc/terms/title> "{n}" .' for n in (1, 2))
        for turtle in (first, second):
            assert (await client.describe("a b", turtle)).status == 201
        got = await client.call("GET", f"{client.here}/graphs/{encoded('a b')}/metadata/content")
        assert (got.headers["Content-Type"], got.body.decode()) == ("text/turtle", second)
        assert [v.content for v in sim.at().metadata["a b"]] == [first, second]
        assert (await client.call("GET", f"{client.here}/graphs/x/metadata/content")).status == 404


async def test_a_whole_resource_is_one_answer_with_a_graph_a_file() -> None:
    async with simulated() as (sim, client):
        for number in range(120):
            sim.add_file(f"d/f {number}", b"")
            sim.add_metadata(f"d/f {number}", f'[] <http://x/title> "{number}" .')
        got = await client.call("GET", f"{client.here}/graphs/metadata/content")
        assert got.headers["Content-Type"] == "application/n-quads"
        quad = re.compile(r'_:\w+ <http://x/title> "(\d+)" <(.+)> \.')
        titles = {m[2]: m[1] for m in map(quad.fullmatch, got.body.decode().splitlines()) if m}
        assert len(titles) == 120
        (name,) = (name for name, title in titles.items() if title == "7")
        assert f"/resources/{sim.resource}/d/f%207/@type=metadata&version=" in name
        sim.change(metadata_subject="graph")
        rooted = await client.call("GET", f"{client.here}/graphs/metadata/content")
        assert f'<{name}> <http://x/title> "7" <{name}> .' in rooted.body.decode()
        sim.add_metadata("d/f 7", '[] <http://x/title> "8" .')
        sim.change(old_graphs=True)
        every = await client.call("GET", f"{client.here}/graphs/metadata/content")
        assert len(every.body.splitlines()) == 121


async def test_nodes_with_metadata_come_in_pages() -> None:
    async with simulated() as (sim, client):
        sim.add_file("d/a", b"", metadata="[] <http://x/y> 1 .")
        await client.describe("d/b")
        nodes = (await client.call("GET", f"{client.here}/graphs")).data
        assert [(n["path"], n["prefix"], n["hasData"]) for n in nodes] == [
            ("d/a", "d/", True),
            ("d/b", "d/", False),
        ]


@pytest.mark.parametrize(
    ("turtle", "content_type", "status"),
    [
        ("junk <", "text/turtle", 400),
        ("", "text/turtle", 400),
        ("<http://a> <http://b> 1 .", "text/plain", 415),
        ('{"@id": "http://a", "http://b": 1}', "application/ld+json", 201),
    ],
)
async def test_only_rdf_is_taken(turtle: str, content_type: str, status: int) -> None:
    async with simulated() as (_, client):
        assert (await client.describe("a", turtle, content_type)).status == status


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ('dcterms:title "A cell" ;', ""),
        ('"2026-03-31"^^xsd:date', '"31.03.2026"'),
        ("subjects/210", "subjects/999"),
        ('"DAPI"', '"dapi"'),
        ('"20"^^xsd:int', '"25"^^xsd:int'),
        ('; i:model "X100"', ""),
        ("m:Micrograph", "m:Photograph"),
    ],
)
async def test_metadata_has_to_conform_to_the_profile(right: str, wrong: str) -> None:
    async with simulated(metadata_check="profile") as (sim, client):
        sim.resource = sim.add_resource("images", profile=MICROSCOPY_PROFILE)
        answer = await client.describe("a", GOOD.replace(right, wrong))
        assert answer.status == (400 if right else 201), answer.body


async def test_profiles_are_listed_and_given_with_their_shacl() -> None:
    async with simulated() as (sim, client):
        listed = (await client.call("GET", "/application-profiles/profiles")).data
        assert MICROSCOPY_PROFILE in [profile["uri"] for profile in listed]
        place = f"/application-profiles/profiles/{encoded(MICROSCOPY_PROFILE)}"
        params = {"format": "text/turtle"}
        found = (await client.call("GET", place, params=params)).data
        raw = await client.call("GET", f"{place}/raw")
        assert found["definition"]["content"] == raw.body.decode()
        assert len(Graph().parse(data=raw.body.decode(), format="turtle")) > 50
        german = await client.call("GET", place, headers={"Accept-Language": "de"})
        assert german.data["displayName"] == "Mikroskopie"
        params = {"format": "application/ld+json"}
        other = (await client.call("GET", place, params=params)).data["definition"]
        assert json.loads(other["content"])
        sim.add_profile("https://example.org/ap/mine/", raw.body.decode(), "Mine")
        mine = f"/application-profiles/profiles/{encoded('https://example.org/ap/mine/')}"
        assert (await client.call("GET", mine)).status == 200
        assert (await client.call("GET", f"{mine}x")).status == 404


async def test_terms_come_in_pages_in_the_language_asked_for() -> None:
    async with simulated() as (sim, client):
        params = {"Class": SUBJECTS, "Language": "de", "PageSize": "50"}
        pages = [
            (await client.call("GET", "/vocabularies/instances", params={**params, **page})).json
            for page in ({"PageNumber": "1"}, {"PageNumber": "2"})
        ]
        terms = [term for page in pages for term in page["data"]]
        assert len(terms) == pages[0]["pagination"]["totalCount"] > 50
        (ecology,) = [term for term in terms if term["displayName"] == "Ökologie"]
        assert ecology["instanceUri"] == f"{SUBJECTS}216"
        assert ecology["subClassOfUri"] == f"{SUBJECTS}2"
        params = {"Class": DCMI_TYPES, "Language": "en", "SearchTerm": "image"}
        found = (await client.call("GET", "/vocabularies/instances", params=params)).data
        assert [t["displayName"] for t in found] == ["Image", "Moving Image", "Still Image"]
        sim.add_vocabulary("https://example.org/v/", [Term("https://example.org/v/1", "a", "b")])
        params = {"Class": "https://example.org/v/", "Language": "de"}
        (own,) = (await client.call("GET", "/vocabularies/instances", params=params)).data
        assert own["displayName"] == "b"
        one = f"/vocabularies/instances/{encoded('https://example.org/v/1')}"
        assert (await client.call("GET", one)).data["instanceUri"] == "https://example.org/v/1"


async def test_fixed_values_are_part_of_a_resource() -> None:
    async with simulated() as (sim, client):
        fixed = {
            "http://purl.org/dc/terms/creator": {
                "https://purl.org/coscine/fixedValue": [{"value": "Us", "type": "literal"}],
                "https://purl.org/coscine/invisible": [{"value": "1", "type": "literal"}],
            }
        }
        sim.resource = sim.add_resource("images", profile=MICROSCOPY_PROFILE, fixed_values=fixed)
        shown = (await client.call("GET", client.here)).data
        assert shown["fixedValues"] == fixed
        assert shown["applicationProfile"] == {"uri": MICROSCOPY_PROFILE}
