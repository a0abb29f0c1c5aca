"""How long it takes to check a metadata table of very many rows, before anything moves.

    python benchmarks/metadata_rows.py               # 40,000 rows
    python benchmarks/metadata_rows.py --rows 400000
    python benchmarks/metadata_rows.py --smoke       # only that it works

Every row is one file with values of its own; the last table names files by globs that hold
brackets. Coscine's schema is that of the simulator's fullest profile, fetched over loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator

from penstock.core.metadata import MetadataRow, Schema, Sheet, read_metadata
from penstock.core.model import Flow, Place, Response, T
from penstock.platforms.coscine import Coscine as Platform
from penstock.platforms.sevenbridges_metadata import SevenBridgesSchema
from penstock.simulators import Coscine, CoscineSettings

COSCINE = "path;Titel;Ersteller;Erstelldatum;Fachgebiet;Probennummer;Objektiv;Belichtung (ms)\n"
SEVEN_BRIDGES = "path,sample_id,library_id,platform,tags,tags\n"


def coscine(rows: int, *, bad: bool = False) -> Iterator[str]:
    yield COSCINE
    for n in range(rows):
        day = f"2026-{n % 12 + 1:02}-{n % 28 + 1:02}" if not bad else f"{n % 28 + 1}.01.2026"
        yield f"d{n % 100}/f{n}.tif;Image {n};Ada;{day};Informatik;{n:06};40;{n}.5\n"


def seven_bridges(rows: int, name: str) -> Iterator[str]:
    yield SEVEN_BRIDGES
    for n in range(rows):
        yield f"{name.format(n)},{n:06},L{n},Illumina,a,b{n}\n"


def turtle(rows: int) -> dict[str, str]:
    """Texts of files of metadata, by name: what a `turtle` column names."""
    subject = "https://example.org/vocabularies/subjects/101"
    return {
        f"{n}.ttl": f"""@prefix dcterms: <http://purl.org/dc/terms/> .
[] a <https://example.org/terms/microscopy#Micrograph> ; dcterms:title "Image {n}" ;
  dcterms:creator "Ada" ; dcterms:created "2026-01-02"^^<http://www.w3.org/2001/XMLSchema#date> ;
  dcterms:subject <{subject}> ."""
        for n in range(rows)
    }


def measure_turtle(texts: dict[str, str], schema: Schema) -> None:
    """As `measure`, of files of metadata, whose texts stand in their rows."""
    began, began_cpu = time.perf_counter(), time.process_time()
    rows = [
        MetadataRow(n, name, {"turtle": (text,)}) for n, (name, text) in enumerate(texts.items())
    ]
    sheet = Sheet(rows, schema)
    faults = sheet.check_rows()
    for name in texts:
        faults += sheet.of(name)[1]
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    print(
        f"| Coscine, turtle files | {len(rows):,} | {len(faults):,} | 0 | {wall:.1f} | {cpu:.1f} |"
    )


def measure(what: str, lines: Iterator[str], schema: Schema, path: str, rows: int) -> None:
    began, began_cpu = time.perf_counter(), time.process_time()
    sheet = Sheet(read_metadata(lines), schema)
    faults = sheet.check_rows()
    for n in range(rows):
        faults += sheet.of(path.format(n, n % 100))[1]
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    left = len(sheet.unmatched())
    print(f"| {what} | {rows:,} | {len(faults):,} | {left:,} | {wall:.1f} | {cpu:.1f} |")


async def schema_of(sim: Coscine) -> Schema:
    """The schema of a resource, its flow driven over plain requests."""
    import aiohttp  # noqa: PLC0415 - only here

    resource = sim.add_resource("Images", profile="https://example.org/ap/microscopy/")
    platform = Platform(sim.endpoint)
    async with aiohttp.ClientSession() as session:

        async def drive(flow: Flow[T]) -> T:
            response: Response | None = None
            while True:
                try:
                    request = flow.send(response)  # type: ignore[arg-type]
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                headers = dict((*request.headers, *platform.sign(sim.token)))
                async with session.get(request.url, headers=headers) as got:
                    response = Response(got.status, body=await got.read())

        return (await drive(platform.schema(Place(f"{sim.project}/{resource}")))).schema


async def main(rows: int) -> None:
    async with Coscine(CoscineSettings()) as sim:
        schema = await schema_of(sim)
    print("| table | rows | faults | rows without a file | seconds | CPU s |")
    print("| --- | --- | --- | --- | --- | --- |")
    measure("Coscine", coscine(rows), schema, "d{1}/f{0}.tif", rows)
    measure("Coscine, a fault a row", coscine(rows, bad=True), schema, "d{1}/f{0}.tif", rows)
    measure_turtle(turtle(rows), schema)
    fields = SevenBridgesSchema()
    measure("Seven Bridges", seven_bridges(rows, "d/f{0}"), fields, "d/f{0}", rows)
    measure("names with brackets", seven_bridges(rows, "d/f{0}[1]"), fields, "d/f{0}[1]", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="seconds to check a metadata table")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--rows", type=int, default=40_000)
    wanted = parser.parse_args()
    asyncio.run(main(20 if wanted.smoke else wanted.rows))
