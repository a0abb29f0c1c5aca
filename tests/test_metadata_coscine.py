"""Metadata of Coscine through whole runs, against a server that validates by SHACL itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.core.errors import RunStopped, UsageError
from penstock.core.events import Event, Note
from penstock.core.metadata import FaultyTable
from penstock.simulators import Coscine, CoscineSettings, Fault
from worlds import by_name

PROFILE = "https://example.org/ap/microscopy/"
HEAD = "path;Titel;Ersteller;Erstelldatum;Fachgebiet"


@dataclass
class Resource:
    sim: Coscine
    home: Path
    profile: str = PROFILE
    kind: str = "rds"
    fixed: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.id = self.sim.add_resource(
            "Images", general_type=self.kind, profile=self.profile, fixed_values=self.fixed
        )
        self.remote = f"coscine:{self.sim.project}/{self.id}/"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "PENSTOCK_COSCINE_ENDPOINT": self.sim.endpoint,
            "PENSTOCK_COSCINE_TOKEN": self.sim.token,
            "PENSTOCK_COSCINE_QUOTA": "100000/60s",
        }

    def files(self, *names: str) -> Path:
        for name in names:
            path = self.home / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        return self.home / "src"

    def table(self, text: str) -> Path:
        path = self.home / "table.csv"
        path.write_bytes(text.encode())
        return path

    async def copy(self, *locations: str | Path, **options: Any) -> penstock.Report:  # noqa: ANN401
        return await penstock.copy(*map(str, locations), environ=self.environ, **options)

    def calls(self, method: str, part: str) -> int:
        return sum(
            exchange.host == "api" and exchange.method == method and part in exchange.path
            for exchange in self.sim.log
        )


@pytest.fixture
async def sim() -> AsyncIterator[Coscine]:
    async with Coscine(CoscineSettings(quota=100_000)) as made:
        yield made


@pytest.fixture
def resource(sim: Coscine, tmp_path: Path) -> Resource:
    return Resource(sim, tmp_path)


async def test_a_german_excel_export_goes_up_as_the_profile_asks(resource: Resource) -> None:
    root = resource.files("a.tif", "ü/b c.tif")
    export = resource.table(
        f"\ufeff{HEAD};Probennummer;Färbung;Objektiv;Gerät / Modell\r\n"
        '*.tif;Alle;Ada;2026-01-02;Informatik;007;DAPI;40;"M;1"\r\n'
        "ü/b c.tif;Anders;;;;;;;\r\n"
    )
    report = await resource.copy(root, resource.remote, metadata=export)
    assert report.ok, [line.error for line in report.lines()]
    assert {line.metadata for line in report.lines()} == {"stored"}
    stored = resource.sim.metadata(resource.id)
    assert '"Anders"' in stored["ü/b c.tif"]
    assert '"007"' in stored["a.tif"]
    assert '"2026-01-02"^^<http://www.w3.org/2001/XMLSchema#date>' in stored["a.tif"]
    # Metadata, then content: two requests a file.
    assert resource.calls("PUT", "/metadata/content") == resource.calls("POST", "/storage/") == 2


async def test_all_faults_are_found_before_a_file_moves(resource: Resource) -> None:
    root = resource.files("a", "b", "c")
    table = resource.table(
        f"{HEAD};Bogus\na;A;Ada;02.01.2026;Informatik;x\nb;B;;2026-01-01;Alchemie;\n"
    )
    for ask in (penstock.copy, penstock.plan):
        with pytest.raises(FaultyTable) as raised:
            await ask(str(root), resource.remote, metadata=table, environ=resource.environ)
        assert [(fault.row, fault.column) for fault in raised.value.faults] == [
            (0, "path"),
            (2, "Bogus"),
            (2, "Erstelldatum"),
            (3, "Fachgebiet"),
            (3, "Creator"),
        ]
    assert not resource.sim.files(resource.id)


async def test_profiles_and_vocabularies_are_fetched_once_and_kept_between_runs(
    resource: Resource,
) -> None:
    root = resource.files("a")
    table = resource.table(f"{HEAD}\na;A;Ada;2026-01-01;Informatik\n")
    await resource.copy(root, resource.remote, metadata=table)
    fetched = resource.calls("GET", "/application-profiles/")
    assert fetched == 3
    listed = resource.calls("GET", "/vocabularies/")
    report = await resource.copy(root, resource.remote, metadata=table)
    assert [line.metadata for line in report.lines()] == ["unchanged"]
    assert resource.calls("GET", "/application-profiles/") == fetched
    assert resource.calls("GET", "/vocabularies/") == listed


async def test_a_corrected_row_is_stored_and_no_bytes_are_sent(resource: Resource) -> None:
    root = resource.files("a", "b")
    rows = f"{HEAD}\na;A;Ada;2026-01-01;Informatik\nb;{{}};Ada;2026-01-01;Informatik\n"
    await resource.copy(root, resource.remote, metadata=resource.table(rows.format("B")))
    report = await resource.copy(root, resource.remote, metadata=resource.table(rows.format("C")))
    lines = by_name(report)
    assert (lines["a"].metadata, lines["b"].metadata) == ("unchanged", "stored")
    assert sum(line.bytes_sent for line in lines.values()) == 0
    assert resource.calls("POST", "/storage/") == 2
    assert resource.calls("PUT", "/metadata/content") == 3
    assert '"C"' in resource.sim.metadata(resource.id)["b"]


async def test_refused_metadata_fails_the_file_and_sends_no_content(resource: Resource) -> None:
    root = resource.files("a")
    table = resource.table(f"{HEAD}\na;A;Ada;2026-01-01;Informatik\n")
    resource.sim.faults.add(Fault(kind="status", path="/metadata/content", status=400))
    report = await resource.copy(root, resource.remote, metadata=table)
    (line,) = report.lines()
    assert (line.status, line.metadata) == ("failed", "failed")
    assert not resource.sim.files(resource.id)
    assert (await resource.copy(root, resource.remote, metadata=table)).ok


async def test_a_refused_correction_is_sent_again_alone(resource: Resource) -> None:
    root = resource.files("a")
    rows = f"{HEAD}\na;{{}};Ada;2026-01-01;Informatik\n"
    await resource.copy(root, resource.remote, metadata=resource.table(rows.format("A")))
    corrected = resource.table(rows.format("B"))
    resource.sim.faults.add(Fault(kind="status", path="/metadata/content", status=400))
    for status, metadata in (("failed", "failed"), ("skipped", "stored")):
        report = await resource.copy(root, resource.remote, metadata=corrected)
        (line,) = report.lines()
        assert (line.status, line.metadata, line.bytes_sent) == (status, metadata, 0)
    assert resource.calls("POST", "/storage/") == 1
    assert '"B"' in resource.sim.metadata(resource.id)["a"]


async def test_a_resource_that_demands_metadata_says_so_before_anything_moves(
    resource: Resource,
) -> None:
    with pytest.raises(UsageError, match="--template"):
        await resource.copy(resource.files("a"), resource.remote)
    assert not resource.sim.files(resource.id)


async def test_what_is_fixed_or_has_a_default_needs_no_table(sim: Coscine, tmp_path: Path) -> None:
    terms = {"title": "T", "creator": "Ada", "created": "2026-01-01"}
    fixed = {
        f"http://purl.org/dc/terms/{name}": {
            "https://purl.org/coscine/defaultValue": [{"value": value, "type": "literal"}]
        }
        for name, value in terms.items()
    }
    subject = await _subject(sim)
    fixed["http://purl.org/dc/terms/subject"] = {
        "https://purl.org/coscine/fixedValue": [{"value": subject, "type": "uri"}]
    }
    resource = Resource(sim, tmp_path, fixed=fixed)
    report = await resource.copy(resource.files("a"), resource.remote)
    assert report.ok, [line.error for line in report.lines()]
    assert f"<{subject}>" in sim.metadata(resource.id)["a"]


async def _subject(sim: Coscine) -> str:
    terms = sim._world.catalogue.vocabularies["https://example.org/vocabularies/subjects/"]
    return next(term.uri for term in terms if term.label("de") == "Informatik")


async def test_a_profile_that_cannot_be_read_is_one_warning_and_the_server_decides(
    sim: Coscine, tmp_path: Path
) -> None:
    resource = Resource(sim, tmp_path, profile="https://example.org/ap/base/nowhere/")
    told: list[Event] = []
    table = resource.table("path,dcterms:title\na,A\n")
    await resource.copy(resource.files("a"), resource.remote, metadata=table, on_event=told.append)
    notes = [event.message for event in told if isinstance(event, Note)]
    assert sum("cannot be read" in note for note in notes) == 1
    assert resource.calls("PUT", "/metadata/content") == 1


async def test_a_class_without_terms_is_no_vocabulary_and_the_server_decides(
    sim: Coscine, tmp_path: Path
) -> None:
    sim.add_profile(
        "https://example.org/ap/people/",
        """@prefix sh: <http://www.w3.org/ns/shacl#> .
        <https://example.org/ap/people/> sh:targetClass <https://example.org/ap/people/> ;
            sh:property [ sh:path <https://example.org/who> ; sh:name "Who"@en ; sh:minCount 1 ;
                sh:class <https://example.org/Person> ] .""",
        "People",
    )
    sim.change(metadata_check="syntax")
    resource = Resource(sim, tmp_path, profile="https://example.org/ap/people/")
    told: list[Event] = []
    table = resource.table("path,Who\na,https://example.org/ada\n")
    await resource.copy(resource.files("a"), resource.remote, metadata=table, on_event=told.append)
    assert sum("cannot be read" in event.message for event in told if isinstance(event, Note)) == 1
    assert "<https://example.org/ada>" in sim.metadata(resource.id)["a"]


async def test_metadata_comes_out_in_one_request_and_goes_in_again(resource: Resource) -> None:
    root = resource.files("a", "d/b")
    table = resource.table(
        f"{HEAD};Gerät / Modell;Ersteller;Aufgenommen;Ebenen\n"
        "*;A;Grace;2026-01-01;Informatik;M1;Ada;2026-01-02T10:00:00Z;007\n"
    )
    await resource.copy(root, resource.remote, metadata=table)
    found = await penstock.metadata(resource.remote, environ=resource.environ)
    assert resource.calls("GET", "/graphs/metadata/content") == 1
    assert {file.path for file in found} == {"a", "d/b"}
    assert found[0].values["Instrument / Model"] == ("M1",)
    assert found[0].values["Subject Area"] == ("Computer Science",)
    assert found[0].values["Acquired"] == ("2026-01-02T10:00:00Z",)
    assert found[0].values["Planes"] == ("007",)
    saved = resource.home / "saved.csv"
    await resource.copy(resource.remote, resource.home / "down", save_metadata=saved)
    again = await resource.copy(root, resource.remote, metadata=saved)
    assert {line.metadata for line in again.lines()} == {"unchanged"}


async def test_turtle_from_a_file_is_stored_as_it_is(resource: Resource) -> None:
    root = resource.files("a", "b")
    table = resource.table(f"{HEAD}\n*;A;Ada;2026-01-01;Informatik\n")
    await resource.copy(root, resource.remote, metadata=table)
    text = resource.sim.metadata(resource.id)["a"].replace('"A"', '"Other"')
    (resource.home / "b.ttl").write_text(text)
    named = resource.table("path;turtle\nb;b.ttl\n")
    await resource.copy(root / "b", resource.remote, metadata=named)
    assert resource.sim.metadata(resource.id)["b"] == text


async def test_the_legacy_endpoints_store_and_give_metadata_as_well(
    resource: Resource, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[profiles.coscine.settings]\nendpoints = "legacy"\n')
    root = resource.files("a", "b")
    rows = f"{HEAD}\n*;{{}};Ada;2026-01-01;Informatik\n"
    for title in ("A", "B"):
        table = resource.table(rows.format(title))
        report = await resource.copy(root, resource.remote, metadata=table, config=config)
        assert report.ok, [line.error for line in report.lines()]
    assert resource.calls("POST", "/trees/metadata") == 2
    assert resource.calls("PUT", "/trees/metadata") == 2
    found = await penstock.metadata(resource.remote, environ=resource.environ, config=config)
    assert {file.path: file.values["Title"] for file in found} == {"a": ("B",), "b": ("B",)}


async def test_a_resource_on_s3_demands_no_metadata_and_asks_for_no_profile(
    sim: Coscine, tmp_path: Path
) -> None:
    resource = Resource(sim, tmp_path, kind="rdss3")
    await penstock.plan(str(resource.files("a")), resource.remote, environ=resource.environ)
    assert resource.calls("GET", "/application-profiles/") == 0


async def test_metadata_that_the_server_takes_of_no_file_stops_the_run(resource: Resource) -> None:
    root = resource.files(*(f"f{n:02}" for n in range(60)))
    table = resource.table(f"{HEAD}\n*;A;Ada;2026-01-01;Informatik\n")
    resource.sim.faults.add(Fault(kind="status", path="/metadata/content", status=400, times=None))
    with pytest.raises(RunStopped, match="failed alike"):
        await resource.copy(root, resource.remote, metadata=table)
