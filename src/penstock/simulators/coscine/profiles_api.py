"""Calls on application profiles and vocabularies.

Source: coscine 0.12.2's OpenAPI client, `ApplicationProfileApi`, `VocabularyApi`: paths, parameters
and models.
"""

from urllib.parse import unquote

from penstock.simulators.content import Bytes
from penstock.simulators.coscine.answers import Page, single
from penstock.simulators.coscine.catalogue import Profile, Term
from penstock.simulators.coscine.rdf import converted
from penstock.simulators.coscine.refusals import RefusedError
from penstock.simulators.coscine.state import World
from penstock.simulators.host import Call, Reply
from penstock.simulators.routes import Route


class Profiles:
    """Profiles and terms."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes."""
        profiles = "/application-profiles/profiles"
        return [
            Route("GET", profiles, self.profiles),
            Route("GET", f"{profiles}/([^/]+)", self.profile),
            Route("GET", f"{profiles}/([^/]+)/raw", self.raw),
            Route("GET", "/vocabularies", self.vocabularies),
            Route("GET", "/vocabularies/instances", self.instances),
            Route("GET", "/vocabularies/instances/([^/]+)", self.instance),
        ]

    async def profiles(self, call: Call) -> Reply:
        """Return a page of the profiles there are, those with a word in their name if given."""
        query = call.request.query
        page = Page(query, self._world.settings)
        word, language = query.get("SearchTerm", "").lower(), _language(call)
        found = [
            profile
            for profile in self._world.catalogue.profiles.values()
            if word in _name(profile, language).lower()
        ]
        items = [_profile_object(profile, language) for profile in page.of(found)]
        return page.reply(items, len(found))

    async def profile(self, call: Call, encoded: str) -> Reply:
        """Return a profile with its definition. Source: `ApplicationProfileDto`."""
        profile = self._world.catalogue.profile(unquote(encoded))
        wanted = call.request.query.get("format", "text/turtle")
        content = converted(profile.turtle, "text/turtle", wanted)
        definition = {"content": content, "type": wanted}
        shown = _profile_object(profile, _language(call))
        return single({**shown, "definition": definition})

    async def raw(self, _call: Call, encoded: str) -> Reply:
        """Return a profile's graph itself."""
        profile = self._world.catalogue.profile(unquote(encoded))
        headers = {"Content-Type": "text/turtle"}
        return Reply(headers=headers, body=Bytes(profile.turtle.encode()))

    async def vocabularies(self, call: Call) -> Reply:
        """Return a page of the vocabularies there are. Source: `VocabularyDto`."""
        page = Page(call.request.query, self._world.settings)
        found = list(self._world.catalogue.vocabularies)
        items = [{"graphUri": u, "classUri": u, "displayName": u} for u in page.of(found)]
        return page.reply(items, len(found))

    async def instances(self, call: Call) -> Reply:
        """Return a page of the terms of a class; of an unknown class there are none, a guess."""
        query = call.request.query
        page = Page(query, self._world.settings)
        class_uri = query.get("Class")
        if not class_uri:
            raise RefusedError(400, "Class is required.")
        word, language = query.get("SearchTerm", "").lower(), _language(call)
        terms = self._world.catalogue.vocabularies.get(class_uri, ())
        found = [term for term in terms if word in term.label(language).lower()]
        items = [_term_object(class_uri, term, language) for term in page.of(found)]
        return page.reply(items, len(found))

    async def instance(self, call: Call, encoded: str) -> Reply:
        """Return one term."""
        wanted = unquote(encoded)
        for class_uri, terms in self._world.catalogue.vocabularies.items():
            for term in terms:
                if term.uri == wanted:
                    return single(_term_object(class_uri, term, _language(call)))
        raise RefusedError(404, f"The instance {wanted} was not found.")


def _language(call: Call) -> str:
    asked = call.request.query.get("Language") or call.request.headers.get("Accept-Language") or ""
    return "de" if asked.lower().startswith("de") else "en"


def _name(profile: Profile, language: str) -> str:
    return profile.name_de if language == "de" else profile.name_en


def _profile_object(profile: Profile, language: str) -> dict[str, object]:
    name = _name(profile, language)
    return {"uri": profile.uri, "displayName": name, "description": f"{name}."}


def _term_object(class_uri: str, term: Term, language: str) -> dict[str, object]:
    """Return a term. Source: `VocabularyInstanceDto`."""
    return {
        "graphUri": class_uri,
        "instanceUri": term.uri,
        "typeUri": class_uri,
        "subClassOfUri": term.above,
        "displayName": term.label(language),
        "description": None,
    }
