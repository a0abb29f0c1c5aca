"""What a Coscine resource takes as metadata: columns to fields, texts to terms, rows to turtle.

A column is a field's label in any language of its profile, its property as a prefixed name or an
IRI, and for a field of a nested profile both, `outer / inner`. A vocabulary's term is its label or
its IRI. What is fixed in the resource cannot be said otherwise; what has a default need not be
said. Each distinct cell is checked once, and what only SHACL can judge (patterns, bounds,
alternatives, whole `turtle` files) all at once, so a table of very many rows is checked in seconds.

A table says one node of each nested profile; files whose metadata has several need `turtle`.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.core.metadata import Column, Trouble, Values
from penstock.core.values import quick_value
from penstock.platforms.coscine_profile import RDF, Field, Profile, Term, parse, rdflib_
from penstock.platforms.coscine_shacl import Finding, Shapes, told
from penstock.platforms.coscine_terms import IRI, NO_TEXT, XSD, Node, literal

TURTLE = "turtle"
# Files of metadata held against the profile at once: pyshacl 0.30 takes longer for each the more
# there are, and its start is spread over them.
_GRAPHS_AT_ONCE = 200
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


@quick_value(frozen=True, slots=True)
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
    _shapes: Shapes | None = field(init=False, repr=False, default=None)
    _turtles: dict[str, tuple[str, ...]] = field(init=False, repr=False, default_factory=dict)

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
        if self.profile.shapes is not None:
            kinds: dict[str, list[str]] = {}
            for vocabulary, terms in self.terms.items():
                for term in terms:
                    kinds.setdefault(term.value, []).append(vocabulary)
            self._shapes = Shapes(
                self.profile.shapes,
                self.profile.root,
                self.profile.target,
                kinds,
                frozenset(self.terms),
            )

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

    def field_of(self, column: str) -> Hashable:
        """The one field a column names, by whichever of its names; else the column itself."""
        found = [] if column == TURTLE else self._named(column)
        return found[0].key if len(found) == 1 else column

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
            if not found and self.is_open and IRI.fullmatch(key):
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
                self._read_turtles(texts)
                troubles += [Trouble(TURTLE, why) for text in texts for why in self._turtles[text]]
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

    def meet(self, rows: Iterable[Values]) -> None:
        """All rows that will be checked, so that SHACL is asked for all of them at once."""
        judged: dict[tuple[tuple[str, ...], str], Field] = {}
        turtles: dict[str, None] = {}
        for values in rows:
            for column, texts in values.items():
                if column == TURTLE:
                    turtles.update(dict.fromkeys(texts))
                    continue
                named = self._named(column)
                if len(named) == 1 and named[0].shape is not None:
                    fit = (text for text in texts if not NO_TEXT.search(text))
                    judged.update(((named[0].key, text), named[0]) for text in fit)
        self._judge([(one, text) for (_, text), one in judged.items()])
        self._read_turtles(turtles)

    def _term(self, one: Field, text: str) -> tuple[str, str | None]:
        """A text as a term of turtle, or why it cannot be one."""
        if NO_TEXT.search(text):
            return "", f"{text!r} holds a character that no text may"
        cell = (one.key, text)
        known = self._cells.get(cell)
        if known is None:
            if one.shape is not None:
                self._judge([(one, text)])
            else:
                self._cells[cell] = self._read(one, text)
            known = self._cells[cell]
        return known

    def _judge(self, cells: Sequence[tuple[Field, str]]) -> None:
        """Cells of fields whose shape only SHACL can judge, read: the first reading it accepts."""
        readings: list[list[str]] = []
        asked: list[tuple[Any, Any]] = []
        rdf = rdflib_()
        for one, text in cells:
            term, why = self._read(one, text)
            self._cells[(one.key, text)] = (term, why)
            free = one.vocabulary is None and one.allowed is None and one.datatype is None
            free = free and text not in {needed.value for needed in one.needed}
            found = self._alternatives(one, text) if free else [term] if why is None else []
            readings.append(found)
            asked += [(one.shape, rdf.util.from_n3(each)) for each in found]
        if self._shapes is None or not asked:
            return
        judged = iter(self._shapes.of_values(asked))
        for (one, text), found in zip(cells, readings, strict=True):
            said = [next(judged) for _ in found]
            for term, finding in zip(found, said, strict=True):
                if finding is None:
                    self._cells[(one.key, text)] = (term, None)
                    break
            else:
                if found and said[-1] is not None:
                    self._cells[(one.key, text)] = ("", told(said[-1], repr(text)))

    def _alternatives(self, one: Field, text: str) -> list[str]:
        """What a text may be where several types are allowed, the most particular first."""
        rdf = rdflib_()
        found = [rdf.URIRef(text).n3()] if IRI.fullmatch(text) else []
        strings = (None, f"{XSD}string")
        for datatype in (*(kind for kind in one.choices if kind not in strings), None):
            term, why = literal(replace(one, datatype=datatype), text)
            found += [term] if why is None else []
        return found

    def _read_turtles(self, texts: Iterable[str]) -> None:
        """Whole files of metadata, each held against the profile once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._turtles]
        for first in range(0, len(new), _GRAPHS_AT_ONCE):
            self._judge_turtles(new[first : first + _GRAPHS_AT_ONCE])

    def _judge_turtles(self, texts: Sequence[str]) -> None:
        graphs: dict[str, Any] = {}
        for text in texts:
            try:
                graph = parse(text)
            except ValueError as error:
                self._turtles[text] = (str(error),)
                continue
            self._turtles[text] = tuple(self._unbound(graph))
            if self._shapes is not None and not self._turtles[text]:
                graphs[text] = graph
        if self._shapes is None or not graphs:
            return
        for text, found in zip(graphs, self._shapes.of_graphs([*graphs.values()]), strict=True):
            told = sorted({self._shown_finding(finding) for finding in found})
            self._turtles[text] = tuple(told)

    def _unbound(self, graph: Any) -> Iterable[str]:  # noqa: ANN401 - of an optional package
        """Why no shape would look at a graph, or what is fixed and said otherwise."""
        if not len(graph):
            yield "it says nothing"
            return
        if self._shapes is None:
            return
        rdf = rdflib_()
        kind = rdf.URIRef(f"{RDF}type")
        classes = (rdf.URIRef(self.profile.target), self.profile.root)
        roots = {node for one in classes for node in graph.subjects(kind, one)}
        if not roots:
            yield f"it has no node of the class {self.profile.target}"
        for path, preset in self.presets.items():
            for root in roots if preset.fixed else ():
                for value in graph.objects(root, rdf.URIRef(path)):
                    if value.n3() not in preset.fixed:
                        yield f"the resource fixes {path} to {', '.join(preset.fixed)}"

    def _shown_finding(self, finding: Finding) -> str:
        named = [one for one in self.profile.fields if one.path == finding.path]
        where = self.column_of(named[0]) if named else finding.path
        value = "it" if finding.value is None else repr(str(finding.value))
        return f"{where}: {told(finding, value)}" if where else told(finding, value)

    def _read(self, one: Field, text: str) -> tuple[str, str | None]:
        rdf = rdflib_()
        if one.vocabulary is not None:
            return self._vocabulary_term(one.vocabulary, text)
        for needed in one.needed:
            if text == needed.value:
                return _written(needed), None
        if one.allowed is not None:
            for term in one.allowed:
                if text == term.value or (term.is_iri and self._iri(text) == term.value):
                    return _written(term), None
            shown = ", ".join(term.value for term in one.allowed[:8])
            return "", f"{text!r} is not one of {shown}"
        if one.datatype is None and IRI.fullmatch(text) and "://" in text:
            return rdf.URIRef(text).n3(), None
        if one.shortest is not None and len(text) < one.shortest:
            return "", f"it needs {one.shortest} characters at least"
        if one.longest is not None and len(text) > one.longest:
            return "", f"it has {len(text)} characters; at most {one.longest} are taken"
        return literal(one, text)

    def _vocabulary_term(self, vocabulary: str, text: str) -> tuple[str, str | None]:
        rdf, labels = rdflib_(), self._labels.get(vocabulary)
        iri = self._iri(text)
        if labels is None:
            # The vocabulary could not be read: the server decides.
            if IRI.fullmatch(iri):
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
            # In RDF values have no order, so that of a table's columns makes no other metadata.
            terms = sorted(set(preset.fixed or terms or preset.default))
            is_asked = one.above is None or one.key[:-1] in outer_said or one.above.least > 0
            if not terms and one.least > 0 and is_asked and one.key not in said:
                troubles.append(Trouble(column, "it is mandatory"))
            elif 0 < len(terms) < one.least:
                troubles.append(Trouble(column, f"{one.least} values at least are needed"))
            is_told = bool(one.least and not terms)
            troubles += [
                Trouble(column, f"{needed.value} is to be among its values")
                for needed in one.needed
                if (terms or is_asked) and not is_told and _written(needed) not in terms
            ]
            if one.most is not None and len(terms) > one.most:
                troubles.append(Trouble(column, f"at most {one.most} values are taken"))
            if terms:
                terms_of[one.key] = terms
        return self._turtle(terms_of), troubles

    def _turtle(self, terms_of: Mapping[tuple[str, ...], Sequence[str]]) -> str:
        node = Node(self.profile.target)
        nodes: dict[tuple[str, ...], Node] = {(): node}
        for one in (*self.profile.fields, *self._others):
            terms = terms_of.get(one.key)
            if terms is None:
                continue
            for depth, part in enumerate(_chain(one)[:-1], start=1):
                if part.key not in nodes:
                    nodes[part.key] = Node(part.node or "")
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
        if one.datatype is None and one.choices:
            return " or ".join(kind.removeprefix(XSD) for kind in one.choices)
        return (one.datatype or "text").removeprefix(XSD).replace("string", "text")

    def _shown_terms(self, one: Field) -> list[str]:
        if one.allowed is not None:
            return [term.value for term in one.allowed]
        terms = self.terms.get(one.vocabulary or "", ())
        return [self.shown(one.path, term.value, is_iri=True) for term in terms]


def _written(term: Term) -> str:
    """A term in turtle, a literal as its profile writes it."""
    rdf = rdflib_()
    written: str = (rdf.URIRef if term.is_iri else rdf.Literal)(term.value).n3()
    return term.turtle or written


def _chain(one: Field) -> list[Field]:
    """The field and those above it, outermost first."""
    return [*(_chain(one.above) if one.above is not None else ()), one]
