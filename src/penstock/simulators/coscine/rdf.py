"""What is asked of metadata before it is stored, and metadata in other forms; by rdflib, pyshacl.

Both are optional. Without them metadata is stored as it comes, and nothing is converted.
"""

import warnings
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from penstock.simulators.coscine.catalogue import Catalogue
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.state import Resource, World

# Source: coscine 0.12.2, `RdfFormat`; and what rdflib calls them.
FORMATS = {
    "text/turtle": "turtle",
    "application/ld+json": "json-ld",
    "application/x-trig": "trig",
    "application/n-quads": "nquads",
}

_SHACL = "http://www.w3.org/ns/shacl#"
_IMPORTS = "http://www.w3.org/2002/07/owl#imports"


class Checker:
    """Refuses metadata that cannot be read, or does not conform to the resource's profile."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._shapes: dict[str, tuple[str, Any, str]] = {}
        self._terms: dict[str, Any] = {}

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
        if wanted == "profile" and find_spec("pyshacl") is not None:
            self._conform(graph, resource.profile)

    def _conform(self, graph: Any, profile: str) -> None:  # noqa: ANN401 - of an optional package
        """Refuse a graph without a node of the profile's class, or one that breaks its shapes.

        That the class must be there is a guess; without it no shape would bind anything.
        """
        import pyshacl  # noqa: PLC0415 - optional
        from rdflib import RDF, URIRef  # noqa: PLC0415 - optional

        shapes, target = self._shapes_of(profile)
        if not list(graph.subjects(RDF.type, URIRef(target))):
            raise RefusedError(400, f"The metadata has no node of the class {target}.")
        with_terms = graph + self._terms_of(graph)
        conforms, _, told = pyshacl.validate(with_terms, shacl_graph=shapes, inference="none")
        if not conforms:
            raise RefusedError(400, f"The metadata does not conform to its profile: {told}")

    def _shapes_of(self, profile: str) -> tuple[Any, str]:
        """Return the shapes of a profile and all it takes over, and the class they bind."""
        from rdflib import Graph, URIRef  # noqa: PLC0415 - optional

        catalogue: Catalogue = self._world.catalogue
        turtle = catalogue.profile(profile).turtle
        known = self._shapes.get(profile)
        if known is not None and known[0] == turtle:
            return known[1], known[2]
        shapes, asked, waiting = Graph(), set[str](), [profile]
        while waiting:
            uri = waiting.pop()
            if uri in asked or uri not in catalogue.profiles:
                continue
            asked.add(uri)
            shapes.parse(data=catalogue.profiles[uri].turtle, format="turtle")
            for verb in (f"{_SHACL}node", _IMPORTS):
                waiting += [str(other) for other in shapes.objects(None, URIRef(verb))]
        own = Graph().parse(data=turtle, format="turtle")
        verb = URIRef(f"{_SHACL}targetClass")
        target = str(own.value(URIRef(profile), verb) or profile)
        if target == profile and own.value(URIRef(profile), verb) is None:
            shapes.add((URIRef(profile), verb, URIRef(profile)))
        self._shapes[profile] = (turtle, shapes, target)
        return shapes, target

    def _terms_of(self, graph: Any) -> Any:  # noqa: ANN401 - of an optional package
        """Return which of the graph's IRIs are terms of which class."""
        from rdflib import RDF, Graph, URIRef  # noqa: PLC0415 - optional

        found = Graph()
        classes = self._world.catalogue.vocabularies
        for thing in set(graph.objects()):
            for class_uri, terms in classes.items():
                if isinstance(thing, URIRef) and any(term.uri == str(thing) for term in terms):
                    found.add((thing, RDF.type, URIRef(class_uri)))
        return found


def converted(text: str, kind: str, wanted: str) -> str:
    """Return RDF in another of the formats.

    Raises:
        RefusedError: there is no such format (400), or rdflib is not installed (501).
    """
    if wanted == kind:
        return text
    if wanted not in FORMATS:
        raise RefusedError(400, f"'{wanted}' is no RDF format.")
    _need_rdflib()
    return str(_parsed(text, kind).serialize(format=FORMATS[wanted]))


def as_nquads(text: str, kind: str, graph_name: str, *, rooted: bool) -> str:
    """Return metadata as N-Quads of one graph.

    rooted: its root, where it is blank, is given the name of the graph.

    Raises:
        RefusedError: rdflib is not installed (501), or cannot read it (400).
    """
    _need_rdflib()
    name = f"<{quote(graph_name, safe=':/@=&')}>"
    graph = _parsed(text, kind)
    triples = str(graph.serialize(format="nt")).splitlines()
    if rooted:
        inner = {f"_:{thing}" for thing in graph.objects()}
        pairs = [line.partition(" ")[::2] for line in triples]
        triples = [
            f"{name if s.startswith('_:') and s not in inner else s} {rest}" for s, rest in pairs
        ]
    return "".join(f"{line.rstrip(' .')} {name} .\n" for line in triples if line)


def _need_rdflib() -> None:
    if find_spec("rdflib") is None:
        raise RefusedError(501, "This simulator needs rdflib for that.")


def _parsed(text: str, kind: str) -> Any:  # noqa: ANN401 - a graph of an optional package
    from rdflib import Graph  # noqa: PLC0415 - optional

    graph = Graph()
    with warnings.catch_warnings():
        # some of rdflib's own parsers use what rdflib has deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        _parse_into(graph, text, kind)
    return graph


def _parse_into(graph: Any, text: str, kind: str) -> None:  # noqa: ANN401 - as above
    """Add what a text says, its literals as they are written."""
    import rdflib  # noqa: PLC0415 - optional

    normalizes, rdflib.NORMALIZE_LITERALS = rdflib.NORMALIZE_LITERALS, False
    try:
        if FORMATS[kind] in ("trig", "nquads"):
            from rdflib import Dataset  # noqa: PLC0415 - optional

            whole = Dataset()
            whole.parse(data=text, format=FORMATS[kind])
            for subject, verb, thing, _ in whole.quads():
                graph.add((subject, verb, thing))
        else:
            graph.parse(data=text, format=FORMATS[kind])
    except Exception as error:  # noqa: BLE001 - rdflib's parsers raise of many kinds
        raise RefusedError(400, f"The metadata cannot be read: {error}") from None
    finally:
        rdflib.NORMALIZE_LITERALS = normalizes
