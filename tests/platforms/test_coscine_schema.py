"""What a Coscine resource takes, from a profile as its web form has it."""

from __future__ import annotations

import pytest

from penstock.core.metadata import Fault, MetadataRow, Sheet, Values
from penstock.platforms.coscine_metadata import presets_of
from penstock.platforms.coscine_profile import Field, Term, parse, read_profile, wanted_by
from penstock.platforms.coscine_schema import CoscineSchema
from penstock.platforms.coscine_terms import XSD, literal

IRI = "https://purl.org/coscine/ap/test/"
SUBJECTS = "http://example.org/vocab/Subject"
PREFIXES = """
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix dcterms: <http://purl.org/dc/terms/> .
@prefix foaf: <http://xmlns.com/foaf/0.1/> .
@prefix ex: <http://example.org/> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
"""
PROFILE = (
    PREFIXES
    + """
<https://purl.org/coscine/ap/test/> a sh:NodeShape ;
  sh:targetClass <https://purl.org/coscine/ap/test/> ;
  sh:node <https://purl.org/coscine/ap/common/> ;
  sh:property
    [ sh:path dcterms:title ; sh:order 0 ; sh:minCount 1 ; sh:maxCount 1 ; sh:maxLength 20 ;
      sh:datatype xsd:string ; sh:name "Title"@en, "Titel"@de ],
    [ sh:path dcterms:created ; sh:order 1 ; sh:maxCount 1 ; sh:datatype xsd:date ;
      sh:name "Date"@en, "Datum"@de ],
    [ sh:path dcterms:subject ; sh:order 2 ; sh:class ex:vocab\\/Subject ;
      sh:name "Subject"@en, "Fach"@de ],
    [ sh:path ex:mode ; sh:order 3 ; sh:in ( "raw" "cooked" ) ; sh:name "Mode"@en, "Modus"@de ],
    [ sh:path dcterms:creator ; sh:order 4 ; sh:node <https://purl.org/coscine/ap/person/> ;
      sh:name "Creator"@en, "Ersteller"@de ],
    [ sh:path ex:count ; sh:order 5 ; sh:datatype xsd:integer ;
      sh:minInclusive 1 ; sh:maxInclusive 9 ;
      sh:name "Count"@en, "Anzahl"@de ] .
"""
)
COMMON = (
    PREFIXES
    + """
<https://purl.org/coscine/ap/common/> a sh:NodeShape ; sh:property
    [ sh:path dcterms:rights ; sh:order 9 ; sh:datatype xsd:string ; sh:minCount 1 ;
      sh:name "Rights"@en, "Rechte"@de ] .
"""
)
PERSON = (
    PREFIXES
    + """
<https://purl.org/coscine/ap/person/> a sh:NodeShape ; sh:property
    [ sh:path foaf:name ; sh:order 0 ; sh:minCount 1 ; sh:datatype xsd:string ;
      sh:name "Name"@en, "Name"@de ],
    [ sh:path foaf:age ; sh:order 1 ; sh:datatype xsd:integer ; sh:name "Age"@en, "Alter"@de ] .
"""
)
WHOLE = f"""{PREFIXES}
[] a <{IRI}> ; dcterms:title "a" ; dcterms:rights "free" ; dcterms:subject ex:cs ."""
TERMS = {
    SUBJECTS: (
        Term("http://example.org/cs", True, {"en": "Computer Science", "de": "Informatik"}),
        Term("http://example.org/ph", True, {"en": "Physics", "de": "Physik"}),
        Term("http://example.org/a1", True, {"en": "Other"}),
        Term("http://example.org/a2", True, {"en": "Other"}),
    )
}
RIGHTS = {"http://purl.org/dc/terms/rights": "https://purl.org/coscine/defaultValue"}


def schema(**presets: str) -> CoscineSchema:
    profile = read_profile(IRI, [PROFILE, COMMON, PERSON])
    kinds = {"fixed": "fixedValue", "default": "defaultValue"}
    given = {
        "http://purl.org/dc/terms/rights": {
            f"https://purl.org/coscine/{kinds[kind]}": [{"value": text, "type": "literal"}]
            for kind, text in (presets or {"default": "free"}).items()
        }
    }
    return CoscineSchema(profile, TERMS, presets_of(given, profile.fields))


def faults(values: dict[str, str], made: CoscineSchema | None = None) -> list[tuple[object, str]]:
    row: Values = {column: (text,) for column, text in values.items()}
    sheet = Sheet([MetadataRow(2, "f", row)], made or schema())
    found: list[Fault] = [*sheet.check_rows(), *sheet.of("f")[1]]
    return [(fault.column, fault.reason) for fault in found]


def triples(values: dict[str, str], made: CoscineSchema | None = None) -> set[str]:
    text, _ = (made or schema()).compile({column: (v,) for column, v in values.items()})
    return {f"{path} {value}" for _, path, value in parse(text)}


def test_a_profile_pulls_in_others_and_has_its_fields_in_the_order_of_the_form() -> None:
    common, person = "https://purl.org/coscine/ap/common/", "https://purl.org/coscine/ap/person/"
    assert wanted_by(PROFILE) == [common, person]
    names = [schema().column_of(one) for one in read_profile(IRI, [PROFILE, COMMON, PERSON]).fields]
    assert names == [
        "Title",
        "Date",
        "Subject",
        "Mode",
        "Creator / Name",
        "Creator / Age",
        "Count",
        "Rights",
    ]


@pytest.mark.parametrize("owl_imports", [True, False])
def test_an_imported_profile_gives_its_fields_either_way(owl_imports: bool) -> None:  # noqa: FBT001
    text = (
        PROFILE.replace(
            "sh:node <https://purl.org/coscine/ap/common/>",
            "owl:imports <https://purl.org/coscine/ap/common/>",
        )
        if owl_imports
        else PROFILE
    )
    paths = [one.path for one in read_profile(IRI, [text, COMMON, PERSON]).fields]
    assert "http://purl.org/dc/terms/rights" in paths


@pytest.mark.parametrize(
    "column",
    [
        "Titel",
        "Title",
        "dcterms:title",
        "http://purl.org/dc/terms/title",
        "<http://purl.org/dc/terms/title>",
    ],
)
def test_a_column_is_a_label_a_prefixed_name_or_an_iri(column: str) -> None:
    assert faults({column: "a"}) == []
    assert "http://purl.org/dc/terms/title a" in triples({column: "a"})


def test_a_term_is_its_label_in_either_language_or_its_iri() -> None:
    for text in ("Informatik", "Computer Science", "http://example.org/cs", "ex:cs"):
        assert faults({"Titel": "a", "Fach": text}) == []
        assert "http://purl.org/dc/terms/subject http://example.org/cs" in triples({"Fach": text})


@pytest.mark.parametrize(
    ("values", "column", "words"),
    [
        ({}, "path", "needs some"),
        ({"Datum": "2026-01-01"}, "Title", "mandatory"),
        ({"Titel": "a", "Datum": "31.12.2026"}, "Datum", "2026-12-31"),
        ({"Titel": "a", "Datum": "2026-02-30"}, "Datum", "is no date"),
        ({"Titel": "a", "Fach": "Informatk"}, "Fach", "did you mean 'Informatik'"),
        ({"Titel": "a", "Fach": "Other"}, "Fach", "2 terms"),
        ({"Titel": "a", "Modus": "burnt"}, "Modus", "not one of raw, cooked"),
        ({"Titel": "a", "Anzahl": "1,5"}, "Anzahl", "is no integer"),
        ({"Titel": "a", "Anzahl": "0"}, "Anzahl", "less than 1"),
        ({"Titel": "a", "Anzahl": "10"}, "Anzahl", "more than 9"),
        ({"Titel": "a" * 21}, "Titel", "at most 20"),
        ({"Titel": "a", "Ersteller / Alter": "7"}, "Creator / Name", "mandatory"),
        ({"Titel": "a", "Titell": "b"}, "Titell", "did you mean 'Titel'"),
        ({"Titel": "a", "turtle": WHOLE}, "turtle", "no other column"),
        ({"turtle": "<a> <b> "}, "turtle", "is not turtle"),
    ],
)
def test_each_fault_is_told_with_its_column(
    values: dict[str, str], column: str, words: str
) -> None:
    (found,) = faults(values)
    assert found[0] == column
    assert words in found[1]


def test_literals_get_the_type_the_profile_asks_for() -> None:
    text, _ = schema().compile({"Titel": ("007",), "Datum": ("2026-01-02",), "Anzahl": ("01",)})
    assert '"2026-01-02"^^<http://www.w3.org/2001/XMLSchema#date>' in text
    assert '"01"^^<http://www.w3.org/2001/XMLSchema#integer>' in text
    assert '"007"' in text


def test_hostile_text_stays_one_literal() -> None:
    nasty = 'a" ; <x> <y> . \\ "'
    assert len(parse(schema().compile({"Titel": (nasty,)})[0])) == 3
    assert f"http://purl.org/dc/terms/title {nasty}" in triples({"Titel": nasty})


def test_a_default_is_applied_where_nothing_is_said_and_what_is_fixed_always() -> None:
    default = schema(default="free")
    assert "http://purl.org/dc/terms/rights free" in triples({"Titel": "a"}, default)
    assert "http://purl.org/dc/terms/rights mine" in triples(
        {"Titel": "a", "Rechte": "mine"}, default
    )
    fixed = schema(fixed="ours")
    assert "http://purl.org/dc/terms/rights ours" in triples({"Titel": "a"}, fixed)
    assert faults({"Titel": "a", "Rechte": "ours"}, fixed) == []
    ((column, why),) = faults({"Titel": "a", "Rechte": "mine"}, fixed)
    assert (column, "fixes" in why) == ("Rechte", True)


def test_a_nested_profile_is_a_node_of_its_own() -> None:
    text, troubles = schema().compile({"Titel": ("a",), "Ersteller / Name": ("Ada",)})
    assert not troubles
    graph = parse(text)
    (creator,) = (value for _, path, value in graph if str(path).endswith("creator"))
    assert sorted(str(value) for _, _, value in graph.triples((creator, None, None))) == [
        "Ada",
        "https://purl.org/coscine/ap/person/",
    ]


def test_the_same_values_are_the_same_text_whatever_their_order() -> None:
    one = schema().compile({"Titel": ("a",), "Fach": ("Physik",)})
    other = schema().compile({"Subject": ("http://example.org/ph",), "dcterms:title": ("a",)})
    assert one == other


def test_several_values_are_the_same_text_whatever_their_order() -> None:
    one = schema().compile({"Titel": ("a",), "Rechte": ("x", "y")})
    assert one == schema().compile({"Titel": ("a",), "Rechte": ("y", "x")})


def test_a_later_row_wins_by_whichever_name_of_the_field() -> None:
    rows = (
        MetadataRow(1, "*", {"Title": ("all",), "dcterms:rights": ("r",)}),
        MetadataRow(2, "a", {"Titel": ("one",), "Rechte": ("s", "t")}),
        MetadataRow(3, "a", {"Rights": ("u",)}),
    )
    text, wrong = Sheet(rows, schema()).of("a")
    assert not wrong
    assert text == schema().compile({"Title": ("one",), "Rights": ("u",)})[0]


@pytest.mark.parametrize("text", ["half \ud800", "nul\0", "bell\a", "https://example.org/\udc80"])
def test_what_is_no_text_is_a_fault_and_never_sent(text: str) -> None:
    sheet = Sheet((MetadataRow(1, "*", {"Titel": (text,), "Rechte": ("r",)}),), schema())
    (fault,) = sheet.check_rows()
    assert (fault.row, fault.column, "character" in fault.reason) == (1, "Titel", True)


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        *(("dateTime", text) for text in ("2026-01-02 10:00", "2026-01-02", "20260102T100000")),
        *(("date", text) for text in ("2026-W01-1", "2026-01-02T10:00:00", "20260102")),
        *(("time", text) for text in ("10:00", "100000")),
        *(("integer", text) for text in ("1_000", "٣", "1.0")),
        *(("decimal", text) for text in ("1E5", "NaN", "1_0.5", "1,5")),
        *(("double", text) for text in ("inf", "1_0", "Infinity")),
        *(("duration", text) for text in ("PT", "P1DT", "1 day")),
        ("base64Binary", "$$"),
    ],
)
def test_what_only_python_takes_for_a_value_of_a_type_is_a_fault(datatype: str, text: str) -> None:
    term, why = literal(Field("p", datatype=XSD + datatype), text)
    assert not term
    assert why is not None
    assert why.startswith(f"{text!r} is no {datatype}")


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        ("dateTime", "2026-01-02T10:00:00.123456789+01:00"),
        ("date", "2026-01-02+01:00"),
        ("time", "10:00:00.5Z"),
        ("integer", "+007"),
        ("decimal", "-.50"),
        *(("double", text) for text in ("1E5", "-INF", "NaN", "5.")),
        *(("duration", text) for text in ("-P1Y2M3DT4H5M6.5S", "PT1H", "P1D")),
    ],
)
def test_a_value_of_a_type_stays_the_text_it_is(datatype: str, text: str) -> None:
    term, why = literal(Field("p", datatype=XSD + datatype), text)
    assert why is None
    assert text in term


def test_more_values_than_a_field_takes_are_a_fault() -> None:
    _, (trouble,) = schema().compile({"Titel": ("a", "b")})
    assert (trouble.column, "at most 1" in trouble.reason) == ("Titel", True)


def test_a_template_tells_type_need_and_terms() -> None:
    columns = {column.name: column for column in schema().columns()}
    assert columns["Title"].is_mandatory
    assert not columns["Rights"].is_mandatory
    assert columns["Subject"].terms[:2] == ("Computer Science", "Physics")
    assert columns["Subject"].terms[2:] == ("http://example.org/a1", "http://example.org/a2")
    assert columns["Mode"].terms == ("raw", "cooked")
    assert (columns["Date"].kind, columns["Date"].takes_several) == ("date", False)


def test_values_of_a_wrong_type_are_a_fault_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for column, text in (("Datum", "gestern"), ("Anzahl", "viele")):
        assert len(faults({"Titel": "a", column: text})) == 1
    assert not caplog.records
