"""Texts as terms of turtle, and turtle as it is written: what of RDF is about one value or node.

Whether a text is of a datatype is rdflib's to say, except where it takes whatever there is.
"""

from __future__ import annotations

import re

from penstock.platforms.coscine_profile import RDF, Field, quiet, rdflib_

XSD = "http://www.w3.org/2001/XMLSchema#"
IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
# Halves of characters, which JSON can write and UTF-8 cannot, and what XML takes in no text.
# Source: W3C XML 1.0, production 2, which is what an `xsd:string` is made of.
NO_TEXT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
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
# Types whose texts rdflib 7 takes more of than there are: it reads them as Python does, so that
# `1_000`, `1E5` as a decimal and a date and time without its `T` pass, which no server takes.
# Source: W3C XML Schema 1.1 Part 2, 3.3 and 3.4.
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?"
_YEAR, _MONTH = r"-?(?:[1-9][0-9]{3,}|0[0-9]{3})", r"(?:0[1-9]|1[0-2])"
_DAY = r"(?:0[1-9]|[12][0-9]|3[01])"
_DATE = f"{_YEAR}-{_MONTH}-{_DAY}"
_CLOCK = r"(?:[01][0-9]|2[0-4]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INTEGERS = (
    *("integer", "nonNegativeInteger", "nonPositiveInteger", "positiveInteger", "negativeInteger"),
    *("long", "int", "short", "byte"),
    *("unsignedLong", "unsignedInt", "unsignedShort", "unsignedByte"),
)
_DECIMAL = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_FLOAT = re.compile(rf"{_DECIMAL}(?:[Ee][+-]?[0-9]+)?|[+-]?INF|NaN", re.ASCII)
_YEARS, _DAYS = "(?:[0-9]+Y)?(?:[0-9]+M)?", "(?:[0-9]+D)?"
_HOURS = r"(?:T(?=[0-9])(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+(?:\.[0-9]+)?S)?)?"
_LEXICAL = {
    **dict.fromkeys(_INTEGERS, _INTEGER),
    "decimal": re.compile(_DECIMAL, re.ASCII),
    "double": _FLOAT,
    "float": _FLOAT,
    "date": re.compile(_DATE + _ZONE, re.ASCII),
    "time": re.compile(_CLOCK + _ZONE, re.ASCII),
    "dateTime": re.compile(f"{_DATE}T{_CLOCK}{_ZONE}", re.ASCII),
    "dateTimeStamp": re.compile(f"{_DATE}T{_CLOCK}{_ZONE.removesuffix('?')}", re.ASCII),
    "duration": re.compile(f"-?P(?=.){_YEARS}{_DAYS}{_HOURS}", re.ASCII),
    "yearMonthDuration": re.compile(f"-?P(?=.){_YEARS}", re.ASCII),
    "dayTimeDuration": re.compile(f"-?P(?=.){_DAYS}{_HOURS}", re.ASCII),
    "base64Binary": re.compile(r"(?:[A-Za-z0-9+/] ?)*(?:= ?){0,2}", re.ASCII),
    "gYear": re.compile(_YEAR + _ZONE, re.ASCII),
    "gYearMonth": re.compile(f"{_YEAR}-{_MONTH}{_ZONE}", re.ASCII),
    "gMonthDay": re.compile(f"--{_MONTH}-{_DAY}{_ZONE}", re.ASCII),
    "gMonth": re.compile(f"--{_MONTH}{_ZONE}", re.ASCII),
    "gDay": re.compile(f"---{_DAY}{_ZONE}", re.ASCII),
    "language": re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*"),
}


def literal(one: Field, text: str) -> tuple[str, str | None]:
    """A text as a literal of its field's type, in turtle; or why it cannot be one."""
    rdf, datatype = rdflib_(), one.datatype
    if datatype is None or datatype == f"{XSD}string":
        # A plain literal is a string. Source: RDF 1.1 Concepts, section 3.3.
        return rdf.Literal(text).n3(), None
    if datatype == f"{RDF}langString":
        return rdf.Literal(text, lang="en").n3(), None  # The language is a guess.
    short = datatype.removeprefix(XSD)
    bad = short == "boolean" and text not in _BOOLEANS
    if not bad:
        with quiet():
            literal = rdf.Literal(text, datatype=rdf.URIRef(datatype), normalize=False)
        bad = bool(literal.ill_typed) or text != text.strip()
        if short == "anyURI":
            bad = not IRI.fullmatch(text)
        if short in _LEXICAL:
            bad = bad or not _LEXICAL[short].fullmatch(text)
        if not bad:
            return literal.n3(), _out_of_bounds(one, text)
    example = f", as in {_EXAMPLES[short]}" if short in _EXAMPLES else ""
    return "", f"{text!r} is no {short}{example}"


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


class Node:
    """A node of turtle, grown property by property."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._said: dict[str, list[str | Node]] = {}

    def add(self, path: str, value: str | Node) -> None:
        """A value more."""
        self._said.setdefault(path, []).append(value)

    def text(self) -> str:
        """The node in square brackets."""
        lines = [f"a <{self._kind}>"] if self._kind else []
        for path, values in self._said.items():
            shown = (each if isinstance(each, str) else each.text() for each in values)
            lines.append(f"<{path}> {', '.join(shown)}")
        return f"[ {' ; '.join(lines)} ]"
