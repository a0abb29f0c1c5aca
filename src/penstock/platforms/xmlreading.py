"""Foreign XML, read element by element; what is not as promised is `AnswerUnusable`.

No document type is taken: without one no entity can be declared, so nothing expands and nothing is
fetched. Namespaces are dropped, for storages differ in theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn
from xml.etree import ElementTree as ET

from penstock.core.errors import AnswerUnusable
from penstock.core.model import Response


class _HasType(Exception):
    pass


class _NoTypes(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:  # noqa: ARG002
        """A document with a type is refused before anything of it is believed."""
        raise _HasType


class XmlElement:
    """One element of an answer."""

    __slots__ = ("_element", "_what")

    def __init__(self, element: ET.Element, what: str) -> None:
        self._element = element
        self._what = what

    @classmethod
    def of(cls, response: Response, what: str) -> XmlElement:
        """The root of a response's body.

        Raises `AnswerUnusable` where the body is no XML, or declares a document type.
        """
        parser = ET.XMLParser(target=_NoTypes())  # noqa: S314 - see the module's docstring
        root = problem = None
        try:
            parser.feed(response.body)
            root = parser.close()
        except _HasType:
            problem = "declares a document type"
        except (ET.ParseError, ValueError, LookupError, AssertionError):
            problem = "is not XML"
        if root is None:
            raise AnswerUnusable(f"{what}: the answer (status {response.status}) {problem}")
        return cls(root, what)

    @property
    def name(self) -> str:
        """The element's name, without a namespace."""
        return _local(self._element)

    def children(self, name: str) -> Iterator[XmlElement]:
        """The elements of a name right below."""
        for child in self._element:
            if _local(child) == name:
                yield XmlElement(child, self._what)

    def text_or_none(self, name: str) -> str | None:
        """The text of the first element of a name; None where there is none, or it is empty."""
        for child in self._element:
            if _local(child) == name:
                return child.text or None
        return None

    def text(self, name: str) -> str:
        """The text of an element that must be there and not be empty."""
        value = self.text_or_none(name)
        if value is None:
            raise AnswerUnusable(f"{self._what}: the answer has no text '{name}'")
        return value

    def whole(self, name: str) -> int:
        """A whole number, not negative, that must be there."""
        value = self.text(name).strip()
        if not (value.isascii() and value.isdigit() and len(value) <= 18):  # noqa: PLR2004
            raise AnswerUnusable(f"{self._what}: the answer has no whole number '{name}'")
        return int(value)

    def expect(self, name: str) -> XmlElement:
        """The element itself, which must have a name."""
        if self.name != name:
            raise AnswerUnusable(f"{self._what}: the answer is no {name}")
        return self


def _local(element: ET.Element) -> str:
    return str(element.tag).rpartition("}")[2]
