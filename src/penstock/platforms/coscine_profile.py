"""Application profiles: the fields a file's metadata has, read from SHACL shapes. Pure.

A profile is a node shape; its property shapes are the fields of the web form. Other profiles come
in by `sh:node` or `owl:imports` on the shape itself (their fields are this one's, too) or by
`sh:node` on a field (the field is a node of that profile's fields). Whoever fetches profiles asks
`wanted_by` which others one pulls in, and gives all texts to `read_profile`.

RDF is read by rdflib (extra `coscine`), which is imported when first needed.

Source: W3C "Shapes Constraint Language (SHACL)", sections 2 to 4; the official client, coscine
0.12.2, `ApplicationProfile` and `FormField`, for which of it Coscine uses.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from typing import Any

from penstock.core.errors import ProfileError
from penstock.core.values import quick_value

SH = "http://www.w3.org/ns/shacl#"
OWL = "http://www.w3.org/2002/07/owl#"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DEEPEST = 3
# What a field's shape may say of its values that is judged by SHACL itself.
JUDGED = frozenset(
    (
        *("pattern", "minExclusive", "maxExclusive", "minInclusive", "maxInclusive"),
        *("or", "xone", "and", "not", "nodeKind", "languageIn"),
    )
)


@quick_value(frozen=True, slots=True)
class Term:
    """One allowed value: an IRI or a literal's text, and what it is called, by language.

    `turtle` is a literal with its type and language, as the profile writes it.
    """

    value: str
    is_iri: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    turtle: str = ""


@quick_value(frozen=True, slots=True)
class Field:
    """One field. `path` is its property's IRI; for one of a nested profile, `above` is the field's.

    `allowed` are the values of `sh:in`, None where none are listed; `needed` those of
    `sh:hasValue`; `choices` the datatypes its alternatives (`sh:or` and its like) name. `shape` is
    the node of its shape where that says of values what only SHACL can judge.
    """

    path: str
    names: Mapping[str, str] = field(default_factory=dict)
    order: float = 0.0
    vocabulary: str | None = None
    least: int = 0
    most: int | None = None
    shortest: int | None = None
    longest: int | None = None
    lowest: float | None = None
    highest: float | None = None
    datatype: str | None = None
    allowed: tuple[Term, ...] | None = None
    needed: tuple[Term, ...] = ()
    choices: tuple[str, ...] = ()
    node: str | None = None
    above: Field | None = None
    shape: Any = None

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from all other fields of its profile."""
        return (*(self.above.key if self.above is not None else ()), self.path)


@quick_value(frozen=True, slots=True)
class Profile:
    """A profile's fields in the order of the form, and the class of a file's node.

    `shapes` is the graph of its shapes, with all it pulls in; `root` its own node in it.
    """

    target: str
    fields: tuple[Field, ...]
    prefixes: Mapping[str, str] = field(default_factory=dict)
    shapes: Any = field(default=None, repr=False, compare=False)
    root: Any = field(default=None, repr=False, compare=False)


def rdflib_() -> Any:  # noqa: ANN401 - a module that may not be there
    """The module rdflib. Raises `ProfileError` where it is not installed."""
    try:
        import rdflib  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        raise ProfileError(
            "Coscine's metadata needs the extra `coscine`: pip install 'penstock[coscine]'"
        ) from None
    return rdflib


@contextmanager
def quiet() -> Iterator[Any]:
    """The module rdflib, that leaves the text of literals as it is.

    And that writes nothing into a log of one that is not of its type.
    """
    rdf = rdflib_()
    log = rdf.term.logger
    before, log.disabled = log.disabled, True
    # Else `007` of an integer becomes `7`, and a time in `Z` one in `+00:00`.
    normalizes, rdf.NORMALIZE_LITERALS = rdf.NORMALIZE_LITERALS, False
    try:
        yield rdf
    finally:
        log.disabled = before
        rdf.NORMALIZE_LITERALS = normalizes


def parse(text: str, kind: str = "turtle", *, usual: bool = False) -> Any:  # noqa: ANN401 - an optional package
    """A graph, `usual` prefixes bound beside its own.

    Raises `ValueError` where the text is not RDF of that kind.
    """
    rdf = rdflib_()
    several = kind in {"nquads", "trig"}
    # Prefixes that rdflib brings along take longer than a small text: only a profile needs them.
    bound = "rdflib" if usual else "none"
    graph = rdf.Dataset(default_union=True) if several else rdf.Graph(bind_namespaces=bound)
    try:
        with warnings.catch_warnings(), quiet():
            # rdflib 7 warns of what its own parsers of datasets do.
            warnings.simplefilter("ignore", DeprecationWarning)
            graph.parse(data=text, format=kind)
    except Exception as error:  # noqa: BLE001 - see below
        # rdflib's parsers raise of many kinds, with the text in some of them.
        raise ValueError(f"it is not {kind} ({type(error).__name__})") from None
    return graph


def wanted_by(turtle: str) -> list[str]:
    """IRIs of profiles that a profile pulls in and does not hold itself. Raises `ValueError`."""
    rdf, graph = rdflib_(), parse(turtle)
    named = [*graph.objects(None, rdf.URIRef(f"{SH}node"))]
    named += graph.objects(None, rdf.URIRef(f"{OWL}imports"))
    own = set(graph.subjects(rdf.URIRef(f"{SH}property"), None))
    return sorted({str(one) for one in named if isinstance(one, rdf.URIRef) and one not in own})


def read_profile(iri: str, turtles: Sequence[str]) -> Profile:
    """The profile at `iri`, from its own text (the first) and those of what it pulls in.

    Raises `ValueError` where a text is no turtle, or no field is found.
    """
    rdf = rdflib_()
    graph = parse(turtles[0], usual=True)
    for text in turtles[1:]:
        graph += parse(text)
    reader = _Reader(rdf, graph)
    root = reader.shape(iri)
    fields = reader.fields(root, None, frozenset())
    if not fields:
        raise ValueError("it has no fields")
    target = graph.value(root, rdf.URIRef(f"{SH}targetClass"))
    prefixes = {prefix: str(space) for prefix, space in graph.namespaces() if prefix}
    return Profile(str(target or iri), tuple(fields), prefixes, graph, root)


def _rank(one: Field) -> tuple[tuple[float, str], ...]:
    """Where a field stands in the form: a nested one where the one above it does."""
    return (*(_rank(one.above) if one.above is not None else ()), (one.order, one.path))


class _Reader:
    """Reads shapes of one graph."""

    def __init__(self, rdf: Any, graph: Any) -> None:  # noqa: ANN401 - an optional package
        self._rdf = rdf
        self._graph = graph

    def shape(self, iri: str) -> Any:  # noqa: ANN401
        """The node shape of a profile: named by its IRI, with or without a last slash, or alone."""
        for name in (iri, iri.rstrip("/"), f"{iri.rstrip('/')}/"):
            node = self._rdf.URIRef(name)
            if any(self._objects(node, "property")) or any(self._objects(node, "node")):
                return node
        targets = [*self._graph.subjects(self._rdf.URIRef(f"{SH}targetClass"), None)]
        return targets[0] if len(targets) == 1 else self._rdf.URIRef(iri)

    def fields(self, shape: Any, above: Field | None, seen: frozenset[Any]) -> list[Field]:  # noqa: ANN401
        """The fields of a shape, those it takes over included, by their order."""
        found: dict[tuple[str, ...], Field] = {}
        for one in self._all(shape, above, seen):
            # What a profile says of a property narrows what it takes over from another.
            found.setdefault(one.key, one)
        return sorted(found.values(), key=_rank)

    def _all(self, shape: Any, above: Field | None, seen: frozenset[Any]) -> Iterator[Field]:  # noqa: ANN401
        if shape in seen:
            return
        seen |= {shape}
        for node in self._objects(shape, "property"):
            path = self._value(node, "path")
            if isinstance(path, self._rdf.URIRef) and str(path) != f"{RDF}type":
                one = replace(self._field(node, str(path)), above=above)
                if one.node is None or len(one.key) > _DEEPEST:
                    yield one
                else:
                    nested = self.fields(self.shape(one.node), one, seen)
                    yield from nested or [replace(one, node=None)]
        imports = self._graph.objects(shape, self._rdf.URIRef(f"{OWL}imports"))
        for other in (*self._objects(shape, "node"), *imports):
            yield from self._all(self.shape(str(other)), above, seen)

    def _field(self, node: Any, path: str) -> Field:  # noqa: ANN401
        names: dict[str, str] = {}
        for name in self._objects(node, "name"):
            # What should be a text may be anything, an IRI without a language among it.
            names[getattr(name, "language", None) or ""] = str(name)
        listed = self._value(node, "in")
        kinds = [str(each) for each in self._objects(node, "class")]
        inner = [str(each) for each in self._objects(node, "node")]
        return Field(
            path,
            names,
            order=float(self._number(node, "order") or 0),
            vocabulary=kinds[0] if kinds else None,
            least=int(self._number(node, "minCount") or 0),
            most=self._whole(node, "maxCount"),
            shortest=self._whole(node, "minLength"),
            longest=self._whole(node, "maxLength"),
            lowest=self._number(node, "minInclusive"),
            highest=self._number(node, "maxInclusive"),
            datatype=self._text(node, "datatype"),
            allowed=tuple(self._listed(listed)) if listed is not None else None,
            needed=tuple(self._term(value) for value in self._objects(node, "hasValue")),
            choices=tuple(dict.fromkeys(self._choices(node, 0))),
            node=inner[0] if inner and not kinds else None,
            shape=node if any(self._objects_of(node, JUDGED)) else None,
        )

    def _choices(self, node: Any, depth: int) -> Iterator[str]:  # noqa: ANN401
        """Datatypes that alternatives name, at any depth."""
        for name in ("or", "xone", "and"):
            for head in self._objects(node, name):
                for each in self._graph.items(head):
                    kind = self._text(each, "datatype")
                    if kind is not None:
                        yield kind
                    if depth < _DEEPEST:
                        yield from self._choices(each, depth + 1)

    def _objects_of(self, node: Any, names: Iterable[str]) -> Iterator[Any]:  # noqa: ANN401
        for name in names:
            yield from self._objects(node, name)

    def _listed(self, head: Any) -> Iterator[Term]:  # noqa: ANN401
        for item in self._graph.items(head):
            yield self._term(item)

    def _term(self, value: Any) -> Term:  # noqa: ANN401
        is_iri = isinstance(value, self._rdf.URIRef)
        return Term(str(value), is_iri, turtle="" if is_iri else value.n3())

    def _objects(self, node: Any, name: str) -> Iterator[Any]:  # noqa: ANN401
        yield from self._graph.objects(node, self._rdf.URIRef(SH + name))

    def _value(self, node: Any, name: str) -> Any:  # noqa: ANN401
        return next(self._objects(node, name), None)

    def _text(self, node: Any, name: str) -> str | None:  # noqa: ANN401
        value = self._value(node, name)
        return None if value is None else str(value)

    def _number(self, node: Any, name: str) -> float | None:  # noqa: ANN401
        try:
            return float(self._text(node, name) or "")
        except ValueError:
            return None

    def _whole(self, node: Any, name: str) -> int | None:  # noqa: ANN401
        number = self._number(node, name)
        return None if number is None else int(number)
