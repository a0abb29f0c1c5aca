"""What SHACL says of values and of whole graphs, many at a time: by pyshacl, never by code of ours.

A value is checked alone, as a focus node of a shape made of what its field's shape says of values;
so a value that stands in many rows is checked once, and a row is no graph. What cannot be told of
a value alone (a class whose terms are not known, a nested node) is left out: the server decides.

pyshacl is imported when first needed (extra `coscine`). It is given graphs in memory and asks
nobody: `owl:imports` is not followed.

Source: W3C "Shapes Constraint Language (SHACL)", sections 3.6 (results) and 4 (components).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.errors import ProfileError
from penstock.core.values import quick_value
from penstock.platforms.coscine_profile import JUDGED, RDF, SH, quiet, rdflib_

# What a property shape says of each value by itself.
_OF_VALUES = JUDGED | {
    "flags",
    "datatype",
    "in",
    "minLength",
    "maxLength",
    "deactivated",
    "severity",
}
# What in the inner shapes of `sh:or` and its like is about more than a value.
_OF_NODES = ("node", "property", "sparql", "qualifiedValueShape")
_AT_ONCE = 20_000
_OURS = "urn:x-penstock:"


@quick_value(frozen=True, slots=True)
class Finding:
    """One result: of which of those asked about, the component that was broken, and where."""

    index: int
    component: str
    parameter: str
    path: str | None
    value: Any
    message: str


@dataclass(slots=True)
class Shapes:
    """A profile's shapes. `kinds` are the classes of known terms, by IRI."""

    graph: Any
    root: Any
    target: str
    kinds: Mapping[str, Sequence[str]] = field(default_factory=dict)
    read: frozenset[str] = frozenset()
    """Classes whose terms are known; what is asked of others is left to the server."""
    _whole: Any = field(init=False, repr=False, default=None)

    def of_values(self, asked: Sequence[tuple[Any, Any]]) -> list[Finding | None]:
        """For each pair of a field's shape and a value: the first thing against it, if any."""
        found: list[Finding | None] = []
        for first in range(0, len(asked), _AT_ONCE):
            found += self._values(asked[first : first + _AT_ONCE])
        return found

    def _values(self, asked: Sequence[tuple[Any, Any]]) -> list[Finding | None]:
        rdf = rdflib_()
        shapes, data, made = rdf.Graph(), rdf.Graph(), dict[Any, Any]()
        for node in dict.fromkeys(node for node, _ in asked):
            made[node] = rdf.URIRef(f"{_OURS}shape:{len(made)}")
            self._add_shape(shapes, node, made[node])
        by: dict[tuple[Any, Any], int] = {}
        for index, (node, value) in enumerate(asked):
            by.setdefault((made[node], value), index)
            link = rdf.URIRef(str(made[node]).replace("shape", "value"))
            data.add((rdf.BNode(), link, value))
            self._add_kinds(data, value)
        first: dict[int, Finding] = {}
        for result in _results(data, shapes):
            at = by.get((result.shape, result.focus))
            if at is not None:
                first.setdefault(at, result.finding(at))
        return [first.get(by[made[node], value]) for node, value in asked]

    def _add_shape(self, shapes: Any, node: Any, name: Any) -> None:  # noqa: ANN401
        """A node shape of what a property shape says of values, for the objects of a link."""
        rdf = rdflib_()
        shapes.add((name, rdf.URIRef(f"{RDF}type"), rdf.URIRef(f"{SH}NodeShape")))
        link = rdf.URIRef(str(name).replace("shape", "value"))
        shapes.add((name, rdf.URIRef(f"{SH}targetObjectsOf"), link))
        for verb, thing in self.graph.predicate_objects(node):
            if str(verb).removeprefix(SH) not in _OF_VALUES or not self._decidable(thing):
                continue
            shapes.add((name, verb, thing))
            for triple in self._below(thing):
                shapes.add(triple)

    def _below(self, thing: Any) -> Iterable[tuple[Any, Any, Any]]:  # noqa: ANN401
        """Everything said of a thing and of what it leads to, where these have no name."""
        rdf = rdflib_()
        waiting, seen = [thing], set[Any]()
        while waiting:
            subject = waiting.pop()
            if subject in seen or not isinstance(subject, rdf.BNode):
                continue
            seen.add(subject)
            for verb, each in self.graph.predicate_objects(subject):
                yield subject, verb, each
                waiting.append(each)

    def _decidable(self, thing: Any) -> bool:  # noqa: ANN401
        rdf = rdflib_()
        for _, verb, each in self._below(thing):
            name = str(verb).removeprefix(SH)
            if name in _OF_NODES or (name == "class" and str(each) not in self.read):
                return False
            is_shape = str(verb) == f"{RDF}first" or name == "not"
            if is_shape and isinstance(each, rdf.URIRef) and (each, None, None) in self.graph:
                return False  # A shape with a name: it may say anything.
        return True

    def of_graphs(self, graphs: Sequence[Any]) -> list[list[Finding]]:
        """For each graph of one file's metadata all that its profile has against it.

        A graph without a node of the profile's class is not looked at: nothing binds it.
        """
        rdf = rdflib_()
        found: list[list[Finding]] = [[] for _ in graphs]
        waiting = list(range(len(graphs)))
        while waiting:
            data, owners, later = rdf.Graph(), dict[Any, int](), list[int]()
            for index in waiting:
                subjects = set(graphs[index].subjects())
                if subjects & owners.keys():
                    later.append(index)  # Nodes with names, as another has: not to be mixed.
                    continue
                owners.update(dict.fromkeys(subjects, index))
                for triple in graphs[index]:
                    data.add(triple)
                    self._add_kinds(data, triple[2])
            for result in _results(data, self._known()):
                at = owners.get(result.focus)
                if at is not None:
                    found[at].append(result.finding(at))
            waiting = later
        return found

    def _known(self) -> Any:  # noqa: ANN401
        """The shapes, without classes whose terms are not known."""
        if self._whole is None:
            rdf = rdflib_()
            self._whole = rdf.Graph()
            for triple in self.graph:
                if str(triple[1]) != f"{SH}class" or str(triple[2]) in self.read:
                    self._whole.add(triple)
            target = rdf.URIRef(f"{SH}targetClass")
            # Files' nodes are of its target class, or, by another reading, of the profile itself.
            self._whole.add((self.root, target, rdf.URIRef(self.target)))
            self._whole.add((self.root, target, self.root))
        return self._whole

    def _add_kinds(self, data: Any, value: Any) -> None:  # noqa: ANN401
        rdf = rdflib_()
        for kind in self.kinds.get(str(value), ()) if isinstance(value, rdf.URIRef) else ():
            data.add((value, rdf.URIRef(f"{RDF}type"), rdf.URIRef(kind)))


@quick_value(frozen=True, slots=True)
class _Result:
    """A validation result of pyshacl's, read."""

    shape: Any
    focus: Any
    component: str
    parameter: str
    path: str | None
    value: Any
    message: str

    def finding(self, index: int) -> Finding:
        return Finding(index, self.component, self.parameter, self.path, self.value, self.message)


def _results(data: Any, shapes: Any) -> Iterable[_Result]:  # noqa: ANN401
    """What pyshacl finds; warnings and hints of a profile are none of it."""
    rdf = rdflib_()
    try:
        import pyshacl  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        raise ProfileError(
            "checking Coscine's metadata needs the extra `coscine`: pip install 'penstock[coscine]'"
        ) from None
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        _, report, _ = pyshacl.validate(
            data, shacl_graph=shapes, inference="none", inplace=True, allow_warnings=True
        )
    if not isinstance(report, rdf.Graph):
        return
    verb = {
        name: rdf.URIRef(SH + name)
        for name in (
            *("sourceShape", "focusNode", "sourceConstraintComponent", "resultPath", "value"),
            *("resultMessage", "resultSeverity", "ValidationResult", "Violation"),
        )
    }
    for result in report.subjects(rdf.URIRef(f"{RDF}type"), verb["ValidationResult"]):
        if report.value(result, verb["resultSeverity"]) != verb["Violation"]:
            continue
        component = str(report.value(result, verb["sourceConstraintComponent"])).removeprefix(SH)
        component = component.removesuffix("ConstraintComponent")
        shape = report.value(result, verb["sourceShape"])
        name = component[:1].lower() + component[1:]
        parameter = shapes.value(shape, rdf.URIRef(SH + name))
        path = report.value(result, verb["resultPath"])
        yield _Result(
            shape,
            report.value(result, verb["focusNode"]),
            component,
            "" if parameter is None else str(parameter),
            None if path is None else str(path),
            report.value(result, verb["value"]),
            " ".join(str(report.value(result, verb["resultMessage"]) or "").split())[:200],
        )


# What a component says against a value: {0} is the value, {1} what the shape says.
_SENTENCES = {
    "Pattern": "{0} does not match the pattern {1}",
    "MinExclusive": "{0} is not more than {1}",
    "MaxExclusive": "{0} is not less than {1}",
    "MinInclusive": "{0} is less than {1}",
    "MaxInclusive": "{0} is more than {1}",
    "MinLength": "{0} is shorter than {1} characters",
    "MaxLength": "{0} is longer than {1} characters",
    "Or": "{0} fits none of what the profile allows",
    "Xone": "{0} does not fit exactly one of what the profile allows",
    "And": "{0} does not fit all that the profile asks",
    "Not": "{0} is what the profile excludes",
    "NodeKind": "{0} is no {1}",
    "Datatype": "{0} is no {1}",
    "Class": "{0} is no term of {1}",
    "In": "{0} is not one of the allowed values",
    "Closed": "the profile has no such field",
    "HasValue": "{1} is to be among its values",
    "MinCount": "at least {1} is needed",
    "MaxCount": "at most {1} may be there",
}


def told(finding: Finding, value: str) -> str:
    """A finding as a sentence about `value`."""
    sentence = _SENTENCES.get(finding.component)
    if sentence is None:
        return finding.message or f"{value} breaks {finding.component}"
    return sentence.format(value, finding.parameter.rpartition("#")[2] or finding.parameter)
