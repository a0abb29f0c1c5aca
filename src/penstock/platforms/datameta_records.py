"""DataMeta's records: what the server's metadata allow, and the flows that make and submit them.

A record has every regular metadatum of the server, a text or null; service metadata are not ours
to set. The rules are the server's own: regular expressions match from the beginning, dates have
the format the metadatum names. Dates come back in that format or in ISO 8601, by the route that is
asked (*observed*), so records are compared by what their dates mean. A file column holds a file's
name, which is what binds the file at submission.

Sources, by short name: [DOC] "Using the REST API" of CoGDat's DataMeta; [SRV] DataMeta 1.1.1,
source (`linting.py`, `api/metadatasets.py`, `api/submissions.py`); *observed*: a real DataMeta
1.1.1 server on loopback, 2026-11-21.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from penstock.core.errors import AnswerLost, Refused
from penstock.core.metadata import Column, Trouble, Values
from penstock.core.model import Flow, Place, Rank, Repeat, Response
from penstock.core.values import quick_value
from penstock.platforms.base import JsonObject
from penstock.platforms.datameta_requests import Requests, id_in, objects_in
from penstock.platforms.describing import Attachment, SchemaFound, StoredPage
from penstock.platforms.submitting import Problem, Record, RecordSchema, Submitted

_HOW_OFTEN_TO_ASK = 3


@quick_value(frozen=True, slots=True)
class Metadatum:
    """One column the server has. `pattern_means` is the server's own sentence about `pattern`."""

    name: str
    is_mandatory: bool = False
    is_file: bool = False
    is_service: bool = False
    pattern: str | None = None
    pattern_means: str | None = None
    date_format: str | None = None


@quick_value(frozen=True, slots=True)
class Records:
    """The schema of one server's records."""

    metadata: tuple[Metadatum, ...]
    demands_rows: bool = True
    inlined: frozenset[str] = frozenset()
    _by_name: Mapping[str, Metadatum] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        regular = {each.name: each for each in self.metadata if not each.is_service}
        object.__setattr__(self, "_by_name", regular)

    @property
    def file_columns(self) -> tuple[str, ...]:
        """The columns whose values name files."""
        return tuple(name for name, each in self._by_name.items() if each.is_file)

    def columns(self) -> Sequence[Column]:
        """The regular metadata, in the server's order."""
        return tuple(
            Column(
                name,
                "file"
                if each.is_file
                else f"date, {each.date_format}"
                if each.date_format
                else "text",
                each.is_mandatory,
            )
            for name, each in self._by_name.items()
        )

    def unknown(self, column: str) -> str | None:
        """Why there is no such column: the server has none, or a service sets it."""
        if column in self._by_name:
            return None
        if any(each.name == column for each in self.metadata):
            return "a service of the server sets it"
        return "the server has no such metadatum"

    def check_row(self, values: Values) -> Sequence[Trouble]:
        """Cells that the server would refuse."""
        found = []
        for column, texts in values.items():
            metadatum = self._by_name.get(column)
            if metadatum is None:
                continue
            if len(texts) > 1:
                found.append(Trouble(column, "it takes one value"))
                continue
            why = _refused(metadatum, _sent(metadatum, texts[0]))
            if why is not None:
                found.append(Trouble(column, why))
        return found

    def compile(self, values: Values) -> tuple[str, Sequence[Trouble]]:
        """The record as JSON, its names sorted; troubles where what is mandatory is missing."""
        troubles = [
            Trouble(name, "it is mandatory and empty")
            for name, each in self._by_name.items()
            if each.is_mandatory and not values.get(name)
        ]
        record = {
            name: _written(each, _sent(each, values[name][0])) if values.get(name) else None
            for name, each in self._by_name.items()
        }
        return _text(record), troubles

    def of_server(self, record: Mapping[str, Any]) -> str:
        """A record as the server shows it, in the text `compile` would have given for it."""
        told: dict[str, str | None] = {}
        for name, each in self._by_name.items():
            value = record.get(name)
            told[name] = None if value is None else _written(each, str(value))
        return _text(told)


def _text(record: Mapping[str, str | None]) -> str:
    return json.dumps(record, ensure_ascii=False, sort_keys=True)


def _sent(metadatum: Metadatum, text: str) -> str:
    """A cell as it is sent: of a path, the file's name."""
    return text.rstrip("/").rpartition("/")[2] if metadatum.is_file else text


def _written(metadatum: Metadatum, value: str) -> str:
    """A value as the server writes it: dates in the metadatum's own format, `1.2.26` filled up.

    The server takes both and gives back the full one (*observed*), by which a record is known.
    """
    form = metadatum.date_format
    if form is None:
        return value
    try:
        meant = datetime.strptime(value, form)  # noqa: DTZ007 - the server's are naive
    except ValueError:
        try:
            meant = datetime.fromisoformat(value)
        except ValueError:
            return value
    try:
        written = meant.strftime(form)
        # A year before 1000 is written without its zeros, and cannot be read back.
        datetime.strptime(written, form)  # noqa: DTZ007 - as above
    except ValueError:
        return value
    return written


def _refused(metadatum: Metadatum, text: str) -> str | None:
    """Why the server would refuse a text. A pattern that cannot be read is left to the server.

    Source: [SRV] linting.py: `re.match`, then `datetime.strptime`.
    """
    if metadatum.pattern:
        try:
            fits = re.match(metadatum.pattern, text) is not None
        except re.error:
            fits = True
        if not fits:
            return metadatum.pattern_means or f"it does not match {metadatum.pattern}"
    if metadatum.date_format:
        try:
            datetime.strptime(text, metadatum.date_format)  # noqa: DTZ007 - as above
        except ValueError:
            return f"it is no date or time of the form {metadatum.date_format}"
    return None


class RecordFlows(Requests, ABC):
    """The flows about records and submissions; `DataMeta` has the rest."""

    @abstractmethod
    def _pending(self) -> Flow[JsonObject]: ...

    @abstractmethod
    def _submissions(self) -> Flow[list[JsonObject]]: ...

    def record_schema(self) -> Flow[RecordSchema]:
        """The server's metadata. Source: [DOC] GET /metadata."""
        yield from self._rooted()
        response = yield self._call("GET", "/metadata")
        return Records(tuple(_metadatum(item) for item in objects_in(response, "metadata")))

    def schema(self, place: Place) -> Flow[SchemaFound]:  # noqa: ARG002 - one for the server
        """The same, as what a table is held against."""
        return SchemaFound((yield from self.record_schema()))

    def attach(self, attachments: Sequence[Attachment]) -> Flow[Sequence[str | None]]:
        """Nothing: records are made when all files are there."""
        yield from ()
        return [None] * len(attachments)

    def demands_metadata(self, place: Place) -> Flow[bool]:  # noqa: ARG002
        """No file is refused for want of a record; a submission is."""
        yield from ()
        return False

    def stored_in(self, place: Place, cursor: str | None) -> Flow[StoredPage]:  # noqa: ARG002
        """The records of a submission, of all of them, or all the caller may see; by their ids."""
        schema = yield from self.record_schema()
        found = []
        for record in (yield from self.records(schema)):
            if place.container and record.submission is None:
                continue
            if place.path and record.submission != place.id:
                continue
            found.append((record.id, _values(record)))
        return StoredPage(tuple(found))

    def stored_with(self, file_ids: Sequence[str]) -> Flow[Mapping[str, Values]]:
        """The record that names each file: by its id once submitted, by its name until then."""
        schema = yield from self.record_schema()
        assert isinstance(schema, Records)
        wanted, found = set(file_ids), dict[str, Values]()
        pending = {
            item.text("name"): id_in(item.get("id"))
            for item in (yield from self._pending()).objects("files")
        }
        for record in (yield from self.records(schema)):
            values = _values(record)
            named = set(record.files.values())
            if record.submission is None:
                cells = (values.get(column, ("",))[0] for column in schema.file_columns)
                named |= {pending[cell] for cell in cells if cell in pending}
            found.update((file_id, values) for file_id in named & wanted)
        return found

    def records(self, schema: RecordSchema) -> Flow[tuple[Record, ...]]:
        """Pending records of the caller's, then submitted ones of the group.

        Source: [SRV] `api/ui/pending`, a route of the web interface that takes the key as well;
        [DOC] GET /metadatasets, which answers 404 where there are none (*observed*).
        """
        assert isinstance(schema, Records)
        pending = yield from self._pending()
        items = list(pending.objects("metadatasets"))
        response = yield self._call("GET", "/metadatasets", accept=(200, 404))
        if response.status == 200:  # noqa: PLR2004
            items += objects_in(response, "metadatasets")
        return tuple(_record(schema, item) for item in items)

    def create_record(self, text: str) -> Flow[str]:
        """The new record's id. Source: [DOC] POST /metadatasets."""
        yield from self._rooted()
        request = self._call(
            "POST", "/metadatasets", {"record": json.loads(text)}, repeat=Repeat.ASK
        )
        answer = JsonObject.of((yield request), "new metadataset")
        return id_in(answer.get("id"))

    def prevalidate(
        self, records: Sequence[str], files: Sequence[str]
    ) -> Flow[tuple[Problem, ...]]:
        """What the server has against it. Source: [DOC] POST /presubvalidation, 204 or 400."""
        yield from self._rooted()
        body = {"metadatasetIds": list(records), "fileIds": list(files), "label": None}
        response = yield self._call("POST", "/presubvalidation", body, accept=(200, 204, 400))
        return _problems(response) if response.status == 400 else ()  # noqa: PLR2004

    def submit(self, label: str, records: Sequence[str], files: Sequence[str]) -> Flow[Submitted]:
        """The submission's id. Source: [DOC] POST /submissions, 200 or 400.

        A lost answer is settled by the group's submissions, where the records show which it was.
        """
        yield from self._rooted()
        body = {"metadatasetIds": list(records), "fileIds": list(files), "label": label}
        for _ in range(_HOW_OFTEN_TO_ASK):
            request = self._call(
                "POST",
                "/submissions",
                body,
                accept=(200, 400),
                repeat=Repeat.ASK,
                rank=Rank.FINISH,
            )
            try:
                response = yield request
            except AnswerLost:
                made = yield from self._submission_of(records)
                if made is not None:
                    return Submitted(made)
                continue
            if response.status == 400:  # noqa: PLR2004
                # An earlier try whose answer was lost may have been done after all.
                made = yield from self._submission_of(records)
                return Submitted(made) if made else Submitted(None, _problems(response))
            return Submitted(id_in(JsonObject.of(response, "submission").get("id")))
        raise AnswerLost(f"the submission {label!r} was never answered, and is not there")

    def _submission_of(self, records: Sequence[str]) -> Flow[str | None]:
        """The submission made of exactly these records, if there is one."""
        wanted = set(records)
        for submission in (yield from self._submissions()):
            named = submission.get("metadatasetIds")
            found = {id_in(each) for each in named} if isinstance(named, list) else set()
            if found and found == wanted:
                return id_in(submission.get("id"))
        return None

    def delete_record(self, record: str) -> Flow[None]:
        """A pending record is gone. Source: [DOC] DELETE /metadatasets/{id}."""
        yield from self._rooted()
        path = f"/metadatasets/{quote(record, safe='')}"
        try:
            yield self._call("DELETE", path, accept=(200, 204, 404))
        except Refused as refused:
            if refused.status != 403:  # noqa: PLR2004
                raise


def _metadatum(item: JsonObject) -> Metadatum:
    return Metadatum(
        item.text("name"),
        is_mandatory=item.get("isMandatory") is True,
        is_file=item.get("isFile") is True,
        is_service=item.get("serviceId") is not None,
        pattern=item.text_or_none("regExp"),
        pattern_means=item.text_or_none("regexDescription"),
        date_format=item.text_or_none("dateTimeFmt"),
    )


def _record(schema: Records, item: JsonObject) -> Record:
    record, files = item.get("record"), item.get("fileIds")
    submission = item.get("submissionId")
    return Record(
        id_in(item.get("id")),
        schema.of_server(record if isinstance(record, dict) else {}),
        {
            column: id_in(named)
            for column, named in (files if isinstance(files, dict) else {}).items()
            if isinstance(named, dict)
        },
        id_in(submission) if submission is not None else None,
    )


def _values(record: Record) -> Values:
    """A record as a table has it; what is null is left out."""
    told = json.loads(record.text).items()
    return {name: (text,) for name, text in told if text is not None}


def _problems(response: Response) -> tuple[Problem, ...]:
    """The server's list of what is wrong. Source: [DOC] "Validation errors"."""
    found = []
    for item in objects_in(response, "validation errors"):
        entity = item.object_or_none("entity")
        about = entity.text_or_none("uuid") if entity is not None else None
        said = " ".join((item.text_or_none("message") or "refused").split())[:300]
        found.append(Problem(about, item.text_or_none("field"), said))
    return tuple(found) or (Problem(None, None, "refused, and the server does not say why"),)
