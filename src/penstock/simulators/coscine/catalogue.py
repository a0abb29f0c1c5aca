"""Application profiles and vocabularies: those shipped, of our own making, and those tests add.

A profile is its Turtle, never parsed here: names for its list are given with it. A vocabulary is a
class and its terms, with labels in English and German.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from penstock.simulators.coscine.refusals import RefusedError

BASE_PROFILE = "https://purl.org/coscine/ap/base/"
MICROSCOPY_PROFILE = "https://example.org/ap/microscopy/"
SUBJECTS = "https://example.org/vocabularies/subjects/"
DCMI_TYPES = "http://purl.org/dc/dcmitype/"

_FOLDER = Path(__file__).with_name("profiles")

_SHIPPED = {
    BASE_PROFILE: ("base", "Base", "Basis"),
    MICROSCOPY_PROFILE: ("microscopy", "Microscopy", "Mikroskopie"),
    "https://example.org/ap/instrument/": ("instrument", "Instrument", "Gerät"),
    "https://example.org/ap/common/": ("common", "Common", "Gemeinsames"),
    "https://example.org/ap/older/": ("older", "Older", "Älteres"),
}

# Source: DCMI Metadata Terms, "DCMI Type Vocabulary"; the German labels are ours.
_TYPES = (
    ("Collection", "Collection", "Sammlung"),
    ("Dataset", "Dataset", "Datensatz"),
    ("Event", "Event", "Ereignis"),
    ("Image", "Image", "Bild"),
    ("InteractiveResource", "Interactive Resource", "Interaktive Ressource"),
    ("MovingImage", "Moving Image", "Bewegtes Bild"),
    ("PhysicalObject", "Physical Object", "Physisches Objekt"),
    ("Service", "Service", "Dienst"),
    ("Software", "Software", "Software"),
    ("Sound", "Sound", "Ton"),
    ("StillImage", "Still Image", "Standbild"),
    ("Text", "Text", "Text"),
)


@dataclass(frozen=True)
class Profile:
    """An application profile: its IRI, its SHACL in Turtle, and its names."""

    uri: str
    turtle: str
    name_en: str
    name_de: str


@dataclass(frozen=True)
class Term:
    """A term of a vocabulary, and the term above it, if any."""

    uri: str
    label_en: str
    label_de: str
    above: str | None = None

    def label(self, language: str) -> str:
        """Return the label in a language, English for all but German."""
        return self.label_de if language == "de" else self.label_en


class Catalogue:
    """All profiles by IRI, and all vocabularies by the IRI of their class."""

    def __init__(self) -> None:
        self.profiles = dict(_profiles())
        self.vocabularies: dict[str, Sequence[Term]] = dict(_vocabularies())

    def profile(self, uri: str) -> Profile:
        """Return a profile.

        Raises:
            RefusedError: there is none (404).
        """
        try:
            return self.profiles[uri]
        except KeyError:
            raise RefusedError(404, f"The application profile {uri} was not found.") from None


@cache
def _profiles() -> dict[str, Profile]:
    return {
        uri: Profile(uri, (_FOLDER / f"{file}.ttl").read_text("utf-8"), english, german)
        for uri, (file, english, german) in _SHIPPED.items()
    }


@cache
def _vocabularies() -> dict[str, Sequence[Term]]:
    with (_FOLDER / "subjects.csv").open(encoding="utf-8", newline="") as lines:
        subjects = [
            Term(
                f"{SUBJECTS}{row['number']}",
                row["en"],
                row["de"],
                f"{SUBJECTS}{row['above']}" if row["above"] else None,
            )
            for row in csv.DictReader(lines)
        ]
    types = [Term(f"{DCMI_TYPES}{name}", english, german) for name, english, german in _TYPES]
    return {SUBJECTS: subjects, DCMI_TYPES: types}
