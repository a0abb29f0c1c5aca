"""What is asked of metadata before it is stored, and metadata as N-Quads; by rdflib and pyshacl.

Both come with penstock's extra `coscine`. Without them metadata is stored as it comes, and the
graph of a whole resource cannot be given.
"""

from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from penstock.simulators.coscine.state import RefusedError, Resource, World

# Source: coscine 0.12.2, `RdfFormat`; and what rdflib calls them.
FORMATS = {
    "text/turtle": "turtle",
    "application/ld+json": "json-ld",
    "application/x-trig": "trig",
    "application/n-quads": "nquads",
}


class Checker:
    """Refuses metadata that cannot be read, or does not conform to the resource's profile."""

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, resource: Resource, text: str, kind: str) -> None:
        """Refuse bad metadata.

        Raises:
            RefusedError: it is bad (400).
        """
        wanted = self._world.settings.metadata_check
        if wanted == "nothing" or find_spec("rdflib") is None:
            return
        graph = _parsed(text, kind)
        if len(graph) == 0:
            raise RefusedError(400, "The metadata is empty.")
        _ = resource


def as_nquads(text: str, kind: str, graph_name: str) -> str:
    """Return metadata as N-Quads of one graph.

    Raises:
        RefusedError: rdflib is not installed (501), or cannot read it (400).
    """
    if find_spec("rdflib") is None:
        raise RefusedError(501, "This simulator needs rdflib for that.")
    from rdflib import Dataset, URIRef  # noqa: PLC0415 - optional

    whole = Dataset()
    named = whole.graph(URIRef(quote(graph_name, safe=":/@=&")))
    for triple in _parsed(text, kind):
        named.add(triple)
    return "\n".join(line for line in whole.serialize(format="nquads").splitlines() if line) + "\n"


def _parsed(text: str, kind: str) -> Any:  # noqa: ANN401 - a graph of an optional package
    from rdflib import Dataset, Graph  # noqa: PLC0415 - optional

    format_ = FORMATS[kind]
    graph = Dataset(default_union=True) if format_ in ("trig", "nquads") else Graph()
    try:
        graph.parse(data=text, format=format_)
    except Exception as error:  # noqa: BLE001 - rdflib's parsers raise of many kinds
        raise RefusedError(400, f"The metadata cannot be read: {error}") from None
    return graph
