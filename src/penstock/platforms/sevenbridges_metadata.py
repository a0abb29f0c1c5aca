"""Metadata on Seven Bridges: any field with any text, and tags; 100 files a request.

There is no schema to ask for: a file's fields are what somebody gave it. What is checked here is
what the platform limits. Values are laid over what a file has (`bulk/files/edit`), so a field
that a table says nothing of stays.

Source: docs.sevenbridges.com/reference, "Update file details" (custom metadata fields), "Edit
details of multiple files"; sevenbridges-python 2.11.2, `File.bulk_edit`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from penstock.core.metadata import Column, Trouble, Values
from penstock.platforms.base import JsonObject
from penstock.platforms.describing import Attachment

# Source: [REF] "Update file details": keys of at most 100 bytes, values of 300, 1000 pairs a file.
LONGEST_KEY = 100
LONGEST_VALUE = 300
MOST_FIELDS = 1000
TAGS = "tags"

# Fields the platform's own forms show, as a template offers them; any other is taken as well.
# Source: docs.sevenbridges.com, "Metadata on the Seven Bridges Platform".
_USUAL = (
    "sample_id",
    "library_id",
    "platform",
    "platform_unit_id",
    "paired_end",
    "file_segment_number",
    "quality_scale",
    "experimental_strategy",
    "reference_genome",
    "case_id",
    "investigation",
)


class SevenBridgesSchema:
    """What Seven Bridges takes with a file."""

    demands_rows = False
    inlined: frozenset[str] = frozenset()

    def columns(self) -> Sequence[Column]:
        """The usual fields, and tags."""
        return (*map(Column, _USUAL), Column(TAGS, takes_several=True))

    def unknown(self, column: str) -> str | None:
        """Why a field cannot have this name."""
        if len(column.encode("utf-8", "surrogatepass")) > LONGEST_KEY:
            return f"a field's name has at most {LONGEST_KEY} bytes"
        return None

    def check_row(self, values: Values) -> Sequence[Trouble]:
        """Values that are too long, tags apart."""
        return [
            Trouble(column, f"a value has at most {LONGEST_VALUE} bytes, this one {length}")
            for column, texts in values.items()
            for length in (len(text.encode("utf-8", "surrogatepass")) for text in texts)
            if column != TAGS and length > LONGEST_VALUE
        ]

    def compile(self, values: Values) -> tuple[str, Sequence[Trouble]]:
        """The fields and tags as the request holds them; several values as a list (a guess)."""
        fields = {
            column: texts[0] if len(texts) == 1 else list(texts)
            for column, texts in values.items()
            if column != TAGS
        }
        edit: dict[str, object] = {"metadata": fields} if fields else {}
        if TAGS in values:
            edit["tags"] = list(values[TAGS])
        troubles = (
            [Trouble(None, f"a file has at most {MOST_FIELDS} fields")]
            if len(fields) > MOST_FIELDS
            else []
        )
        return json.dumps(edit, sort_keys=True), troubles


def edit_body(attachments: Iterable[Attachment]) -> bytes:
    """The body of a bulk edit."""
    items = [{"id": one.file_id, **json.loads(one.text)} for one in attachments]
    return json.dumps({"items": items}).encode()


def edit_outcome(answer: JsonObject, attachments: Sequence[Attachment]) -> Sequence[str | None]:
    """Why each file was not edited. Entries come in the order asked; a resource tells its id."""
    reasons: list[str | None] = ["the answer does not say what became of it"] * len(attachments)
    number_of = {one.file_id: number for number, one in enumerate(attachments)}
    for position, item in enumerate(answer.objects("items")):
        resource, error = item.object_or_none("resource"), item.object_or_none("error")
        if resource is not None:
            number = number_of.get(resource.text_or_none("id"), position)
            why = None
        else:
            number = position
            why = (error.text_or_none("message") if error else None) or "no reason given"
            why = " ".join(why.split())[:300]
        if number < len(reasons):
            reasons[number] = why
    return reasons


def stored_values(item: JsonObject) -> Values:
    """A listed file's metadata and tags, as a table holds them. A null says nothing."""
    values: dict[str, tuple[str, ...]] = {}
    fields = item.get("metadata")
    for name, value in (fields if isinstance(fields, Mapping) else {}).items():
        values[name] = _texts(value)
    values[TAGS] = _texts(item.get(TAGS))
    return {name: texts for name, texts in values.items() if texts}


def _texts(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    return tuple(
        each if isinstance(each, str) else json.dumps(each)
        for each in listed
        if each is not None and each != ""
    )
