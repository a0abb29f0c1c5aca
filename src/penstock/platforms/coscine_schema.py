"""What a Coscine resource takes as metadata: columns to fields, texts to terms, rows to turtle.

A column is a field's label in any language of its profile, its property as a prefixed name or an
IRI, and for a field of a nested profile both, `outer / inner`. A vocabulary's term is its label or
its IRI. What is fixed in the resource cannot be said otherwise; what has a default need not be
said. Each distinct cell is checked once, so a table of very many rows is checked in seconds.

A table says one node of each nested profile; files whose metadata has several need `turtle`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.metadata import Column, Trouble, Values
from penstock.platforms.coscine_profile import RDF, Field, Profile, Term, parse, quiet, rdflib_

TURTLE = "turtle"
_XSD = "http://www.w3.org/2001/XMLSchema#"
_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
_BOOLEANS = frozenset(("true", "false", "0", "1"))
_EXAMPLES = {
    "date": "2026-12-31",
    "dateTime": "2026-12-31T23:59:00",
    "boolean": "true or false",
    "decimal": "1.5",
    "double": "1.5",
    "float": "1.5",
    "gYear": "2026",
    "time": "23:59:00",
}
# Prefixes that mean the same everywhere. Source: prefix.cc; those of a profile's text come first.
_PREFIXES = {
    "dcterms": "http://purl.org/dc/terms/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "schema": "http://schema.org/",
    "prov": "http://www.w3.org/ns/prov#",
    "coscine": "https://purl.org/coscine/terms/",
}


@dataclass(frozen=True, slots=True)
class Preset:
    """What a resource fixes, or gives where nothing is said: terms as they stand in turtle."""

    fixed: tuple[str, ...] = ()
    default: tuple[str, ...] = ()


@dataclass(slots=True)
class CoscineSchema:
    """A profile with its vocabularies and a resource's presets; `terms` by vocabulary."""

    profile: Profile
    terms: Mapping[str, Sequence[Term]] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    demands_rows: bool = True
    is_open: bool = False
    """Whether the profile could not be read: any property is taken, and the server decides."""
    inlined: frozenset[str] = frozenset((TURTLE,))
    _fields: dict[str, list[Field]] = field(init=False, repr=False)
    _others: list[Field] = field(init=False, repr=False, default_factory=list)
    _labels: dict[str, dict[str, set[str]]] = field(init=False, repr=False)
    _cells: dict[tuple[tuple[str, ...], str], tuple[str, str | None]] = field(
        init=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._fields = {}
        for one in self.profile.fields:
            for name in self._names(one):
                self._fields.setdefault(name, []).append(one)
        self._labels = {}
        for vocabulary, terms in self.terms.items():
            by_label = self._labels.setdefault(vocabulary, {})
            for term in terms:
                for label in (term.value, *term.labels.values()):
                    by_label.setdefault(label, set()).add(term.value)

    # -- columns ----------------------------------------------------------------------------

    def columns(self) -> Sequence[Column]:
        """The form's fields that a table may fill, by their German or English label."""
        return [
            Column(
                self.column_of(one),
                self._kind(one),
                one.least > 0 and not self._preset(one).default,
                one.most is None or one.most > 1,
                tuple(self._shown_terms(one)),
            )
            for one in self.profile.fields
            if not self._preset(one).fixed
        ]

    def column_of(self, one: Field) -> str:
        """The name a field's column has: its label where that names no other, else its IRI."""
        for language in ("en", "de", ""):
            name = self._joined(one, lambda part, at=language: part.names.get(at))
            if name is not None and len(self._fields.get(name, ())) == 1:
                return name
        return " / ".join(one.key)

    def unknown(self, column: str) -> str | None:
        """Why no field is called so."""
        if column == TURTLE or len(found := self._named(column)) == 1:
            return None
        if found:
            iris = ", ".join(" / ".join(one.key) for one in found)
            return f"{len(found)} fields are called so; write one of {iris}"
        near = difflib.get_close_matches(column, self._fields, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        if self.is_open:
            return "it is no property's IRI, and labels cannot be read without the profile"
        return f"the application profile has no such field{meant}"

    def _names(self, one: Field) -> set[str]:
        names = {" / ".join(one.key)}
        languages = {language for part in _chain(one) for language in part.names}
        for language in languages:
            name = self._joined(one, lambda part, at=language: part.names.get(at))
            if name is not None:
                names.add(name)
        return names

    @staticmethod
    def _joined(one: Field, name_of: Any) -> str | None:  # noqa: ANN401 - a function of a field
        parts = [name_of(part) for part in _chain(one)]
        return None if None in parts else " / ".join(parts)

    def _named(self, column: str) -> list[Field]:
        found = self._fields.get(column)
        if found is None:
            key = " / ".join(self._iri(part.strip()) for part in column.split(" / "))
            found = self._fields.get(key, [])
            if not found and self.is_open and _IRI.fullmatch(key):
                found = self._fields[key] = [Field(key)]
                self._others += found
        return found

    def _iri(self, name: str) -> str:
        if name.startswith("<") and name.endswith(">"):
            return name[1:-1]
        prefix, colon, rest = name.partition(":")
        space = self.profile.prefixes.get(prefix) or _PREFIXES.get(prefix)
        return space + rest if colon and space and not rest.startswith("//") else name

    # -- cells ------------------------------------------------------------------------------

    def check_row(self, values: Values) -> Sequence[Trouble]:
        """Texts that are no term of their vocabulary, no value of their type, or fixed."""
        troubles = []
        for column, texts in values.items():
            if column == TURTLE:
                troubles += [Trouble(TURTLE, why) for why in map(_turtle_fault, texts) if why]
                continue
            (one,) = self._named(column)
            fixed = self._preset(one).fixed
            for text in texts:
                term, why = self._term(one, text)
                if why is None and fixed and term not in fixed:
                    why = f"the resource fixes this field to {', '.join(fixed)}"
                if why is not None:
                    troubles.append(Trouble(column, why))
        return troubles

    def _term(self, one: Field, text: str) -> tuple[str, str | None]:
        """A text as a term of turtle, or why it cannot be one."""
        cell = (one.key, text)
        known = self._cells.get(cell)
        if known is None:
            known = self._cells[cell] = self._read(one, text)
        return known

    def _read(self, one: Field, text: str) -> tuple[str, str | None]:
        rdf = rdflib_()
        if one.vocabulary is not None:
            return self._vocabulary_term(one.vocabulary, text)
        if one.allowed is not None:
            for term in one.allowed:
                if text == term.value or (term.is_iri and self._iri(text) == term.value):
                    if term.is_iri:
                        return rdf.URIRef(term.value).n3(), None
                    return self._literal(one, text)
            shown = ", ".join(term.value for term in one.allowed[:8])
            return "", f"{text!r} is not one of {shown}"
        if one.datatype is None and _IRI.fullmatch(text) and "://" in text:
            return rdf.URIRef(text).n3(), None
        if one.shortest is not None and len(text) < one.shortest:
            return "", f"it needs {one.shortest} characters at least"
        if one.longest is not None and len(text) > one.longest:
            return "", f"it has {len(text)} characters; at most {one.longest} are taken"
        return self._literal(one, text)

    def _vocabulary_term(self, vocabulary: str, text: str) -> tuple[str, str | None]:
        rdf, labels = rdflib_(), self._labels.get(vocabulary)
        iri = self._iri(text)
        if labels is None:
            # The vocabulary could not be read: the server decides.
            if _IRI.fullmatch(iri):
                return rdf.URIRef(iri).n3(), None
            return "", f"{text!r} is no IRI, and the vocabulary could not be read"
        found = labels.get(text) or labels.get(iri) or set()
        if len(found) == 1:
            return rdf.URIRef(next(iter(found))).n3(), None
        if found:
            return "", f"{len(found)} terms are called {text!r}: {', '.join(sorted(found))}"
        near = difflib.get_close_matches(text, labels, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        return "", f"{text!r} is no term of the vocabulary{meant}"

    def _literal(self, one: Field, text: str) -> tuple[str, str | None]:
        rdf, datatype = rdflib_(), one.datatype
        if datatype is None or datatype == f"{_XSD}string":
            # A plain literal is a string. Source: RDF 1.1 Concepts, section 3.3.
            return rdf.Literal(text).n3(), None
        if datatype == f"{RDF}langString":
            return rdf.Literal(text, lang="en").n3(), None  # The language is a guess.
        short = datatype.removeprefix(_XSD)
        bad = short == "boolean" and text not in _BOOLEANS
        if not bad:
            with quiet():
                literal = rdf.Literal(text, datatype=rdf.URIRef(datatype), normalize=False)
            bad = bool(literal.ill_typed) or text != text.strip()
            if short == "anyURI":
                bad = not _IRI.fullmatch(text)
            if not bad:
                return literal.n3(), _out_of_bounds(one, text)
        example = f", as in {_EXAMPLES[short]}" if short in _EXAMPLES else ""
        return "", f"{text!r} is no {short}{example}"

    # -- files ------------------------------------------------------------------------------

    def compile(self, values: Values) -> tuple[str, Sequence[Trouble]]:
        """The turtle of one file's node: a blank one of the profile's class, and its values."""
        if TURTLE in values:
            if len(values) > 1 or len(values[TURTLE]) > 1:
                return "", [Trouble(TURTLE, "no other column says anything beside it")]
            return values[TURTLE][0], []
        said: dict[tuple[str, ...], tuple[str, list[str]]] = {}
        for column, texts in values.items():
            found = self._named(column)
            if len(found) != 1:
                continue  # Told once, as a column.
            terms = [term for term, why in (self._term(found[0], t) for t in texts) if why is None]
            _, there = said.setdefault(found[0].key, (column, []))
            there += terms
        troubles: list[Trouble] = []
        terms_of: dict[tuple[str, ...], list[str]] = {}
        outer_said = {key[:-1] for key in said if len(key) > 1}
        for one in (*self.profile.fields, *self._others):
            column, terms = said.get(one.key, (self.column_of(one), []))
            preset = self._preset(one)
            terms = list(dict.fromkeys(preset.fixed or terms or preset.default))
            is_asked = one.above is None or one.key[:-1] in outer_said or one.above.least > 0
            if not terms and one.least > 0 and is_asked and one.key not in said:
                troubles.append(Trouble(column, "it is mandatory"))
            elif 0 < len(terms) < one.least:
                troubles.append(Trouble(column, f"{one.least} values at least are needed"))
            if one.most is not None and len(terms) > one.most:
                troubles.append(Trouble(column, f"at most {one.most} values are taken"))
            if terms:
                terms_of[one.key] = terms
        return self._turtle(terms_of), troubles

    def _turtle(self, terms_of: Mapping[tuple[str, ...], Sequence[str]]) -> str:
        node = _Node(self.profile.target)
        nodes: dict[tuple[str, ...], _Node] = {(): node}
        for one in (*self.profile.fields, *self._others):
            terms = terms_of.get(one.key)
            if terms is None:
                continue
            for depth, part in enumerate(_chain(one)[:-1], start=1):
                if part.key not in nodes:
                    nodes[part.key] = _Node(part.node or "")
                    nodes[part.key[: depth - 1]].add(part.path, nodes[part.key])
            for term in terms:
                nodes[one.key[:-1]].add(one.path, term)
        return f"{node.text()} .\n"

    def _preset(self, one: Field) -> Preset:
        return self.presets.get(one.path, Preset()) if one.above is None else Preset()

    # -- for people -------------------------------------------------------------------------

    def shown(self, path: str, value: str, *, is_iri: bool) -> str:
        """A stored value as a table shows it: a term by its label where that names no other."""
        if not is_iri:
            return value
        for one in self.profile.fields:
            vocabulary = one.vocabulary or ""
            if one.path == path:
                for term in self.terms.get(vocabulary, ()):
                    if term.value == value:
                        label = term.labels.get("en") or next(iter(term.labels.values()), value)
                        alone = len(self._labels[vocabulary].get(label, ())) == 1
                        return label if alone else value
        return value

    def _kind(self, one: Field) -> str:
        if one.vocabulary is not None:
            return "term"
        return (one.datatype or "text").removeprefix(_XSD).replace("string", "text")

    def _shown_terms(self, one: Field) -> list[str]:
        if one.allowed is not None:
            return [term.value for term in one.allowed]
        terms = self.terms.get(one.vocabulary or "", ())
        return [self.shown(one.path, term.value, is_iri=True) for term in terms]


class _Node:
    """A node of turtle, grown property by property."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._said: dict[str, list[str | _Node]] = {}

    def add(self, path: str, value: str | _Node) -> None:
        """A value more."""
        self._said.setdefault(path, []).append(value)

    def text(self) -> str:
        """The node in square brackets."""
        lines = [f"a <{self._kind}>"] if self._kind else []
        for path, values in self._said.items():
            shown = (each if isinstance(each, str) else each.text() for each in values)
            lines.append(f"<{path}> {', '.join(shown)}")
        return f"[ {' ; '.join(lines)} ]"


def _chain(one: Field) -> list[Field]:
    """The field and those above it, outermost first."""
    return [*(_chain(one.above) if one.above is not None else ()), one]


def _out_of_bounds(one: Field, text: str) -> str | None:
    """Why a number is too small or too large; bounds of what is no number are the server's."""
    if one.lowest is None and one.highest is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    if one.lowest is not None and number < one.lowest:
        return f"{text} is less than {one.lowest:g}"
    if one.highest is not None and number > one.highest:
        return f"{text} is more than {one.highest:g}"
    return None


def _turtle_fault(text: str) -> str | None:
    try:
        graph = parse(text)
    except ValueError as error:
        return str(error)
    return None if len(graph) else "it says nothing"
