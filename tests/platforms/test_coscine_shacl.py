"""What only SHACL can judge of a table's values is judged before anything moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import penstock
from penstock.core.metadata import FaultyTable, MetadataRow, Sheet, Values
from penstock.platforms.coscine_metadata import presets_of
from penstock.platforms.coscine_profile import Term, parse, read_profile
from penstock.platforms.coscine_schema import CoscineSchema
from penstock.simulators import Coscine, CoscineSettings

IRI = "https://example.org/ap/strict/"
KIND = "http://example.org/Kind"
HEAD = """
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix ex: <http://example.org/> .
"""
PROFILE = f"""{HEAD}
<{IRI}> a sh:NodeShape ; sh:targetClass <{IRI}> ; sh:property
  [ sh:path ex:id ; sh:name "Id"@en, "Kennung"@de ; sh:datatype xsd:string ; sh:minCount 1 ;
    sh:maxCount 1 ; sh:pattern "^[a-z]{{2}}-[0-9]+$" ; sh:flags "i" ],
  [ sh:path ex:when ; sh:name "When"@en ; sh:or ( [ sh:datatype xsd:date ]
    [ sh:datatype xsd:gYear ] ) ],
  [ sh:path ex:size ; sh:name "Size"@en ; sh:datatype xsd:decimal ; sh:minExclusive 0 ;
    sh:maxExclusive 10.5 ],
  [ sh:path ex:day ; sh:name "Day"@en ; sh:datatype xsd:date ;
    sh:minInclusive "2020-01-01"^^xsd:date ; sh:maxInclusive "2029-12-31"^^xsd:date ],
  [ sh:path ex:link ; sh:name "Link"@en ; sh:nodeKind sh:IRI ],
  [ sh:path ex:code ; sh:name "Code"@en ; sh:xone ( [ sh:maxLength 3 ] [ sh:pattern "^X" ] ) ],
  [ sh:path ex:mode ; sh:name "Mode"@en ; sh:hasValue "raw" ; sh:minCount 1 ],
  [ sh:path ex:level ; sh:name "Level"@en ; sh:in ( 1 2 "drei"@de ex:four ) ],
  [ sh:path ex:note ; sh:name "Note"@en ; sh:not [ sh:pattern "secret" ] ],
  [ sh:path ex:any ; sh:name "Any"@en ; sh:or ( [ sh:class ex:Unread ] [ sh:datatype xsd:date ] ) ],
  [ sh:path ex:kind ; sh:name "Kind"@en ; sh:class <{KIND}> ] .
"""
GOOD = {"Id": "AB-1", "Mode": "raw"}


def schema(profile: str = PROFILE, **fixed: str) -> CoscineSchema:
    read = read_profile(IRI, [profile])
    given = {
        f"http://example.org/{name}": {
            "https://purl.org/coscine/fixedValue": [{"value": value, "type": "literal"}]
        }
        for name, value in fixed.items()
    }
    terms = {KIND: (Term("http://example.org/k1", True, {"en": "One"}),)}
    return CoscineSchema(read, terms, presets_of(given, read.fields))


def faults(values: dict[str, str], made: CoscineSchema | None = None) -> list[tuple[object, str]]:
    row: Values = {column: (text,) for column, text in values.items()}
    sheet = Sheet([MetadataRow(2, "f", row)], made or schema())
    found = [*sheet.check_rows(), *sheet.of("f")[1]]
    return list(dict.fromkeys((fault.column, fault.reason) for fault in found))


@pytest.mark.parametrize(
    ("column", "text", "words"),
    [
        ("Kennung", "a-1", "match the pattern"),
        ("When", "yesterday", "none of what the profile allows"),
        ("When", "2026-1", "none of what the profile allows"),
        ("Size", "0", "not more than 0"),
        ("Size", "10.5", "not less than 10.5"),
        ("Day", "2019-12-31", "less than 2020-01-01"),
        ("Day", "2030-01-01", "more than 2029-12-31"),
        ("Link", "no link", "is no IRI"),
        ("Code", "Xab", "exactly one"),
        ("Code", "abcd", "exactly one"),
        ("Mode", "cooked", "raw is to be"),
        ("Note", "a secret", "excludes"),
        ("Level", "3", "not one of 1, 2, drei"),
    ],
)
def test_a_value_that_breaks_its_shape_is_told_with_its_column(
    column: str, text: str, words: str
) -> None:
    values = {**GOOD, column: text}
    if column == "Kennung":
        del values["Id"]
    ((told, why),) = faults(values)
    assert (told, words in why) == (column, True), why


@pytest.mark.parametrize(
    ("column", "text", "term"),
    [
        ("When", "2026-12-31", '"2026-12-31"^^xsd:date'),
        ("When", "2026", '"2026"^^xsd:gYear'),
        ("Size", "10.4", '"10.4"^^xsd:decimal'),
        ("Day", "2020-01-01", '"2020-01-01"^^xsd:date'),
        ("Link", "https://example.org/x", "<https://example.org/x>"),
        ("Link", "doi:10.1/x", "<doi:10.1/x>"),
        ("Code", "abc", '"abc"'),
        ("Code", "Xabc", '"Xabc"'),
        ("Note", "all open", '"all open"'),
        ("Any", "whatever the server takes", '"whatever the server takes"'),
        ("Level", "2", "2"),
        ("Level", "drei", '"drei"@de'),
        ("Level", "ex:four", "ex:four"),
        ("Kind", "One", "<http://example.org/k1>"),
    ],
)
def test_a_value_is_given_the_type_its_shape_allows(column: str, text: str, term: str) -> None:
    values = {**GOOD, column: text}
    assert faults(values) == []
    made, _ = schema().compile({name: (value,) for name, value in values.items()})
    wanted = parse(f"{HEAD} ex:s ex:{column.lower()} {term} .")
    assert set(wanted.objects()) <= set(parse(made).objects())


def test_a_value_that_must_be_there_is_missed() -> None:
    ((column, why),) = faults({"Id": "ab-1"})
    assert (column, why) == ("Mode", "it is mandatory")


def whole(text: str) -> dict[str, str]:
    return {"turtle": f"{HEAD} [] a <{IRI}> ; {text} ."}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('ex:mode "raw"', ["Id: at least 1 is needed"]),
        ('ex:id "ab-1", "ab-2" ; ex:mode "raw"', ["Id: at most 1 may be there"]),
        ('ex:id "x" ; ex:mode "raw"', ["Id: 'x' does not match the pattern"]),
        ('ex:id "ab-1" ; ex:mode "raw" ; ex:size "much"', ["Size: 'much' is no decimal"]),
        ('ex:id "ab-1" ; ex:mode "raw" ; ex:kind ex:k2', ["Kind:", "is no term of"]),
        ('ex:id "ab-1" ; ex:mode "cooked"', ["Mode: raw is to be among"]),
    ],
)
def test_a_turtle_file_is_held_against_the_profile(text: str, words: list[str]) -> None:
    told = " ".join(why for _, why in faults(whole(text)))
    assert all(word in told for word in words), told


def test_a_turtle_file_that_conforms_is_taken_and_one_of_another_class_is_not() -> None:
    good = 'ex:id "ab-1" ; ex:mode "raw" ; ex:kind ex:k1 ; ex:when "2026"^^xsd:gYear'
    assert faults(whole(good)) == []
    ((_, why),) = faults({"turtle": f'{HEAD} [] a ex:Other ; ex:id "ab-1" .'})
    assert "no node of the class" in why
    ((_, why),) = faults(whole(good), schema(mode="cooked"))
    assert "the resource fixes" in why


def test_files_that_name_their_nodes_alike_are_not_mixed() -> None:
    made = schema()
    texts = [f'{HEAD} ex:me a <{IRI}> ; ex:id "ab-{n}" ; ex:mode "raw" .' for n in range(3)]
    rows = [MetadataRow(n, f"f{n}", {"turtle": (text,)}) for n, text in enumerate(texts)]
    assert Sheet(rows, made).check_rows() == []


def test_a_hint_of_a_profile_is_no_fault() -> None:
    hinted = PROFILE.replace('sh:flags "i"', 'sh:flags "i" ; sh:severity sh:Warning')
    assert faults({"Id": "whatever", "Mode": "raw"}, schema(hinted)) == []


@pytest.mark.parametrize("column", ["values", "turtle"])
def test_very_many_values_are_judged_together(column: str) -> None:
    count = 2_000 if column == "values" else 400
    rows = [
        MetadataRow(n, f"f{n}", {"Id": (f"ab-{n}",), "Size": (f"{n % 10}.{n}",), "Mode": ("raw",)})
        if column == "values"
        else MetadataRow(
            n, f"f{n}", {"turtle": (f'{HEAD} [] a <{IRI}> ; ex:id "ab-{n}" ; ex:mode "raw" .',)}
        )
        for n in range(count)
    ]
    began_s = time.process_time()
    sheet = Sheet(rows, schema())
    assert all(fault.column == "Size" for fault in sheet.check_rows())
    # 40,000 in a minute, and here much longer for each, whatever else is going on.
    assert time.process_time() - began_s < 60


async def test_what_is_taken_here_is_taken_by_a_server_that_validates(tmp_path: Path) -> None:
    async with Coscine(CoscineSettings()) as sim:
        sim.add_profile(IRI, PROFILE, "Strict")
        resource = sim.add_resource("strict", profile=IRI)
        environ = {
            "HOME": str(tmp_path),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PENSTOCK_COSCINE_ENDPOINT": sim.endpoint,
            "PENSTOCK_COSCINE_TOKEN": sim.token,
        }
        (tmp_path / "src").mkdir()
        for name in "abc":
            (tmp_path / "src" / name).write_text(name)
        table, remote = tmp_path / "t.csv", f"coscine:{sim.project}/{resource}/"
        table.write_text("path,Id,Mode,When,Size,Link\na,a,raw,2026,11,x y\n*,ab-1,raw,x,1,\n")
        for ask in (penstock.plan, penstock.copy):
            asked: Callable[..., object] = ask
            with pytest.raises(FaultyTable) as raised:
                await asked(f"{tmp_path}/src/", remote, metadata=table, environ=environ)  # type: ignore[misc]
            assert [(fault.row, fault.column) for fault in raised.value.faults] == [
                (2, "Id"),
                (2, "Size"),
                (2, "Link"),
                (3, "When"),
            ]
        table.write_text("path,Id,Mode,When,Size,Link\n*,ab-1,raw,2026,1,doi:10.1/x\n")
        report = await penstock.copy(f"{tmp_path}/src/", remote, metadata=table, environ=environ)
        assert report.ok, [line.error for line in report.lines()]
