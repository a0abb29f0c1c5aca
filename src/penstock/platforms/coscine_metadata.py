"""Coscine's metadata, asked for and sent: profiles, vocabularies, a file's graph, all graphs.

Profiles and vocabularies hardly change and are kept for 30 days, as the official client keeps
them; a resource's whole metadata is one request. What of a profile cannot be read is warned of
once, and the server then decides.

Source: the OpenAPI client of coscine 0.12.2 (application profiles, vocabularies, graphs, trees).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote, unquote

from penstock.core.errors import AnswerUnusable, Refused
from penstock.core.metadata import Values
from penstock.core.model import Flow, Place, Request
from penstock.platforms.base import JsonObject
from penstock.platforms.coscine_answers import content, paged
from penstock.platforms.coscine_catalogue import Catalogue
from penstock.platforms.coscine_places import Resource, check_path
from penstock.platforms.coscine_profile import (
    RDF,
    Field,
    Profile,
    Term,
    parse,
    read_profile,
    wanted_by,
)
from penstock.platforms.coscine_profile import rdflib_ as rdflib
from penstock.platforms.coscine_schema import CoscineSchema, Preset
from penstock.platforms.describing import Attachment, SchemaFound, StoredPage

# Source: coscine 0.12.2 keeps profiles, vocabularies and licences for 30 days.
KEPT_S = 30 * 86_400.0
_LANGUAGES = ("en", "de")
_MOST_PROFILES = 20
# Source: `Resource.fixedValues`, keys as the official client reads them (`MetadataForm.defaults`).
_FIXED = "https://purl.org/coscine/fixedValue"
_DEFAULT = "https://purl.org/coscine/defaultValue"
# Metadata is asked of files, but not on S3, where files come and go without the API.
# Source: coscine 0.11.13, `Resource.upload`. That the server asks it is not documented.
_WITHOUT = ("rdss3", "dsnrws3")
# Source: coscine 0.12.2, `FileMetadata.fixed_graph`: how a file's graph is named.
_GRAPH = re.compile(r".*/resources/[^/]+/(.+)/@type=metadata&version=([0-9]+)\Z", re.DOTALL)
_KINDS = {
    "text/turtle": "turtle",
    "application/ld+json": "json-ld",
    "application/x-trig": "trig",
    "application/trig": "trig",
    "application/n-quads": "nquads",
}


class Metadata(Catalogue):
    """The flows of metadata."""

    _schemas: dict[str, SchemaFound]

    def check_readable(self) -> None:
        """Nothing, or `ProfileError` where RDF cannot be read here (extra `coscine`)."""
        rdflib()

    def demands_metadata(self, place: Place) -> Flow[bool]:
        """Whether the resource takes no file without metadata; nothing is asked twice."""
        resource = yield from self.resource(place.container)
        return not resource.type.startswith(_WITHOUT)

    # -- the schema -------------------------------------------------------------------------

    def schema(self, place: Place) -> Flow[SchemaFound]:
        """What a resource's application profile asks for: profile, others it pulls in, terms.

        Raises `ProfileError` where RDF cannot be read here (extra `coscine`).
        """
        self._schemas = getattr(self, "_schemas", {})
        known = self._schemas.get(place.container)
        if known is None:
            resource = yield from self.resource(place.container)
            known = self._schemas[place.container] = yield from self._schema_of(resource)
        return known

    def _schema_of(self, resource: Resource) -> Flow[SchemaFound]:
        demands = not resource.type.startswith(_WITHOUT)
        why = "the resource names none"
        profile = None
        if resource.profile is not None:
            try:
                profile = yield from self._profile(resource.profile)
            except (Refused, AnswerUnusable, ValueError) as error:
                why = str(error)
        if profile is None:
            schema = CoscineSchema(
                Profile(resource.profile or "", ()), demands_rows=False, is_open=True
            )
            return SchemaFound(
                schema,
                f"the application profile of {resource.name!r} cannot be read ({why}): columns are "
                "properties (dcterms:title), and the server decides",
            )
        unread = []
        terms: dict[str, Sequence[Term]] = {}
        for vocabulary in dict.fromkeys(one.vocabulary for one in profile.fields):
            if vocabulary is not None:
                found: Sequence[Term] = ()
                with suppress(Refused, AnswerUnusable):
                    found = yield from self._terms(vocabulary)
                if found:
                    terms[vocabulary] = found
                else:
                    # Not told, or a class that is no vocabulary: an empty one would fit no value.
                    unread.append(vocabulary)
        warning = None
        if unread:
            warning = f"these vocabularies cannot be read, and the server decides: {unread}"
        presets = presets_of(resource.fixed_values, profile.fields)
        return SchemaFound(CoscineSchema(profile, terms, presets, demands), warning)

    def _profile(self, iri: str) -> Flow[Profile]:
        """A profile with all it pulls in. Raises `ValueError` where one is no turtle."""
        texts: dict[str, str] = {}
        waiting = [iri]
        while waiting and len(texts) < _MOST_PROFILES:
            wanted = waiting.pop(0)
            if wanted in texts:
                continue
            try:
                texts[wanted] = yield from self._profile_text(wanted)
            except (Refused, AnswerUnusable):
                if wanted == iri:
                    raise
                texts[wanted] = ""  # Something else that shapes name, or not for this token.
            waiting += wanted_by(texts[wanted])
        return read_profile(iri, list(texts.values()))

    def _profile_text(self, iri: str) -> Flow[str]:
        path = f"/application-profiles/profiles/{quote(iri, safe='')}"
        request = self._api("GET", path, [("format", "text/turtle")])
        found = content((yield replace(request, keep_s=KEPT_S)), "application profile")
        definition = found.object_or_none("definition") or found
        return definition.text("content")

    def _terms(self, vocabulary: str) -> Flow[Sequence[Term]]:
        """A vocabulary's terms, by page, in the languages of the web form."""
        labels: dict[str, dict[str, str]] = {}
        for language in _LANGUAGES:
            number: str | None = "1"
            while number is not None:
                query = [("Class", vocabulary), ("Language", language), *self._paging(number)]
                request = self._api("GET", "/vocabularies/instances", query)
                page = paged((yield replace(request, keep_s=KEPT_S)), int(number), "vocabulary")
                for entry in page.entries:
                    iri = entry.text_or_none("instanceUri") or entry.text("graphUri")
                    name = entry.text_or_none("displayName")
                    named = labels.setdefault(iri, {})
                    if name is not None:
                        named[language] = name
                number = page.next
        return [Term(iri, True, named) for iri, named in labels.items()]

    # -- storing ----------------------------------------------------------------------------

    def attach(self, attachments: Sequence[Attachment]) -> Flow[Sequence[str | None]]:
        """One file's metadata, as a new version; 400 says what of it was not taken."""
        (one,) = attachments
        path = f"{one.place.path}/{one.name}" if one.place.path else one.name
        check_path(path)
        requests = [self._graph_put(one, path)]
        if self._settings.legacy:
            requests = [self._tree(method, one, path) for method in ("POST", "PUT")]
            if one.file_id is not None:
                requests.reverse()
        refused: Refused | None = None
        for request in requests:
            try:
                yield request
            except Refused as error:
                if error.status not in {400, 404, 409, 415, 422}:
                    raise
                refused = refused or error
            else:
                return [None]
        return [str(refused)]

    def _graph_put(self, one: Attachment, path: str) -> Request:
        named = quote(path) if self._settings.double else path
        where = self._endpoint + self._resource_path(one.place.container)
        return self._request(
            "PUT",
            f"{where}/graphs/{quote(named, safe='')}/metadata/content",
            headers=(("Content-Type", "text/turtle"),),
            body=(one.text.encode(),),
        )

    def _tree(self, method: str, one: Attachment, path: str) -> Request:
        body = {"path": path, "definition": {"content": one.text, "type": "text/turtle"}}
        where = self._endpoint + self._resource_path(one.place.container)
        return self._request(
            method,
            f"{where}/trees/metadata",
            headers=(("Content-Type", "application/json"),),
            body=(json.dumps(body).encode(),),
        )

    # -- reading ----------------------------------------------------------------------------

    def stored_with(self, file_ids: Sequence[str]) -> Flow[Mapping[str, Values]]:  # noqa: ARG002
        """Nothing: a resource's whole graph is one request, a file's one each."""
        yield from ()
        return {}

    def stored_in(self, place: Place, cursor: str | None) -> Flow[StoredPage]:
        """All that is stored below a folder: one request a resource; legacy, a page of it."""
        found = yield from self.schema(place)
        schema = found.schema
        assert isinstance(schema, CoscineSchema)
        where = self._resource_path(place.container)
        after = None
        graphs: dict[str, tuple[str, str]] = {}
        if self._settings.legacy:
            query = [("Path", place.path), *self._paging(cursor or "1")]
            request = self._api("GET", f"{where}/trees/metadata", query)
            page = paged((yield request), int(cursor or "1"), "metadata")
            after = page.next
            for entry in page.entries:
                definition = entry.object_or_none("definition") or JsonObject({}, "metadata")
                kind = _KINDS.get(definition.text_or_none("type") or "", "turtle")
                graphs[entry.text("path")] = (definition.text("content"), kind)
            values = {p: _values(schema, _graph(text, kind)) for p, (text, kind) in graphs.items()}
        else:
            request = self._api("GET", f"{where}/graphs/metadata/content")
            accept = ("Accept", "application/n-quads, application/trig;q=0.9")
            response = yield replace(request, headers=(accept,))
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            values = _whole(schema, response.body.decode("utf-8", "replace"), kind)
        inside = f"{place.path}/" if place.path else ""
        return StoredPage(
            tuple(
                (path.removeprefix(inside), stored)
                for path, stored in sorted(values.items())
                if path.startswith(inside)
            ),
            (),
            after,
        )


def _graph(text: str, kind: str) -> object:
    try:
        return parse(text, kind)
    except ValueError as error:
        raise AnswerUnusable(f"metadata: {error}") from None


def _whole(schema: CoscineSchema, text: str, kind: str) -> dict[str, Values]:
    """The newest metadata of each path of a resource's whole graph."""
    if not text.strip():
        return {}
    whole = _graph(text, _KINDS.get(kind, "nquads"))
    newest: dict[str, tuple[int, object]] = {}
    for graph in whole.graphs():  # type: ignore[attr-defined]
        named = _GRAPH.match(unquote(str(graph.identifier)))
        if named is not None:
            version = int(named[2])
            if version >= newest.get(named[1], (-1, None))[0]:
                newest[named[1]] = (version, graph)
    return {path: _values(schema, graph) for path, (_, graph) in newest.items()}


def _values(schema: CoscineSchema, graph: object) -> Values:
    """A file's graph as a row: from the node that no other leads to."""
    rdf = rdflib()
    triples = list(graph)  # type: ignore[call-overload]
    led_to = {value for _, _, value in triples}
    columns = {one.key: schema.column_of(one) for one in schema.profile.fields}
    values: dict[str, tuple[str, ...]] = {}

    def take(node: object, above: tuple[str, ...], seen: frozenset[object]) -> None:
        for subject, path, value in sorted(triples):
            if subject != node or str(path) == f"{RDF}type":
                continue
            key = (*above, str(path))
            if isinstance(value, rdf.BNode):
                if value not in seen:
                    take(value, key, seen | {value})
                continue
            column = columns.get(key, " / ".join(key))
            shown = schema.shown(str(path), str(value), is_iri=isinstance(value, rdf.URIRef))
            values[column] = (*values.get(column, ()), shown)

    for root in sorted({subject for subject, _, _ in triples} - led_to):
        take(root, (), frozenset((root,)))
    return values


def presets_of(fixed_values: Mapping[str, object], fields: Sequence[Field]) -> dict[str, Preset]:
    """What a resource fixes and defaults, by property, as terms of turtle."""
    presets = {}
    datatypes = {one.path: one.datatype for one in fields if one.above is None}
    for path, given in fixed_values.items():
        if isinstance(given, dict):
            terms = {
                kind: tuple(_preset_terms(given.get(kind), datatypes.get(path)))
                for kind in (_FIXED, _DEFAULT)
            }
            presets[path] = Preset(terms[_FIXED], terms[_DEFAULT])
    return presets


def _preset_terms(given: object, datatype: str | None) -> list[str]:
    rdf = rdflib()
    terms = []
    for one in given if isinstance(given, list) else ():
        value = one.get("value") if isinstance(one, dict) else None
        if not isinstance(value, str) or not value or one.get("type") == "bnode":
            continue
        if one.get("type") in {"uri", "iri"}:
            terms.append(rdf.URIRef(value).n3())
            continue
        kind = one.get("datatype") or datatype
        plain = not kind or str(kind).endswith("#string")
        literal = rdf.Literal(
            value, datatype=None if plain else rdf.URIRef(str(kind)), normalize=False
        )
        terms.append(literal.n3())
    return terms
