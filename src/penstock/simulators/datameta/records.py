"""Records: the columns the server has, records made of them, and submissions.

Source: DataMeta 1.1.1, source (`linting.py`, `validation.py`, `api/`); checked against a real
server.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from penstock.simulators.datameta.answers import (
    body_of,
    error,
    failure,
    file_object,
    invalid,
    metadatum_object,
    page,
    record_object,
    submission_object,
    texts,
    unmodifiable,
)
from penstock.simulators.datameta.state import (
    File,
    Id,
    Metadatum,
    Record,
    Submission,
    User,
    World,
    named,
)
from penstock.simulators.host import Call, Reply, json_reply
from penstock.simulators.routes import Route

_INVALID = "ValidationError"
_METADATUM: Mapping[str, type] = {
    "name": str,
    "regexDescription": str,
    "longDescription": str,
    "example": str,
    "regExp": str,
    "dateTimeFmt": str,
    "isMandatory": bool,
    "order": int,
    "isFile": bool,
    "isSubmissionUnique": bool,
    "isSiteUnique": bool,
    "serviceId": str,
}

Faults = list[dict[str, Any]]


class Records:
    """The calls about metadata, metadatasets and submissions."""

    def __init__(self, world: World, user: Callable[[Call], User]) -> None:
        self._world = world
        self._user = user

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = "/api/v1/metadatasets/([^/]+)"
        return [
            Route("GET", "/api/v1/metadata", self.metadata),
            Route("POST", "/api/v1/metadata", self.add_metadatum),
            Route("POST", "/api/v1/metadatasets", self.make),
            Route("GET", "/api/v1/metadatasets", self.submitted),
            Route("GET", one, self.details),
            Route("DELETE", one, self.delete),
            Route("POST", "/api/v1/rpc/delete-metadatasets", self.delete_many),
            Route("POST", "/api/v1/presubvalidation", self.prevalidate),
            Route("POST", "/api/v1/submissions", self.submit),
            Route("GET", "/api/v1/groups/([^/]+)/submissions", self.of_group),
            Route("GET", "/api/ui/pending", self.pending),
        ]

    async def metadata(self, call: Call) -> Reply:
        """Return all columns, in order."""
        self._user(call)
        columns = sorted(self._world.metadata.values(), key=lambda each: each.order)
        return json_reply([metadatum_object(each) for each in columns])

    async def add_metadatum(self, call: Call) -> Reply:
        """Make a column; for site admins."""
        user = self._user(call)
        wanted = await body_of(call, _METADATUM, nullable="serviceId")
        if not user.admin:
            raise page(403)
        if wanted["serviceId"] is None:
            raise failure()
        metadatum = Metadatum(
            id=self._world.new_id("M").uuid,
            name=wanted["name"],
            order=wanted["order"],
            mandatory=wanted["isMandatory"],
            is_file=wanted["isFile"],
            submission_unique=wanted["isSubmissionUnique"],
            site_unique=wanted["isSiteUnique"],
            pattern=wanted["regExp"] or None,
            pattern_means=wanted["regexDescription"] or None,
            description=wanted["longDescription"] or None,
            example=wanted["example"],
            date_format=wanted["dateTimeFmt"] or None,
        )
        self._world.metadata[metadatum.name] = metadatum
        return json_reply(metadatum_object(metadatum))

    async def make(self, call: Call) -> Reply:
        """Make a record of all columns; what is left out is null."""
        user = self._user(call)
        given = (await body_of(call, {"record": dict}))["record"]
        values = {name: None if value is None else str(value) for name, value in given.items()}
        columns = self._columns()
        faults = [
            error(_INVALID, message, field=name)
            for name, message in _faults(columns, values, iso=False)
        ]
        if faults:
            raise invalid(faults)
        for name, metadatum in columns.items():
            value = values.setdefault(name, None)
            if value and metadatum.date_format:
                at = datetime.strptime(value, metadatum.date_format)  # noqa: DTZ007 - naive there
                values[name] = at.isoformat()
        record = Record(self._world.new_id("S"), user, values)
        self._world.records[record.id.uuid] = record
        return json_reply(record_object(self._world, record, dates=False))

    async def submitted(self, call: Call) -> Reply:
        """Return the submitted records alone; no page of it, and 404 where there are none."""
        user = self._user(call)
        after, before = (
            _instant(call.request.query.get(name)) for name in ("submittedAfter", "submittedBefore")
        )
        found = [
            record_object(self._world, record)
            for record in self._world.records.values()
            if record.submission is not None
            and (user.admin or record.submission.group == user.group)
            and (after is None or record.submission.at > after)
            and (before is None or record.submission.at < before)
        ]
        if not found:
            raise page(404)
        return json_reply(found)

    async def details(self, call: Call, record_id: str) -> Reply:
        """Return a record."""
        user = self._user(call)
        record = named(self._world.records, record_id)
        if record is None:
            raise page(404)
        seen = record.submission is not None and (
            user.admin or record.submission.group == user.group
        )
        if record.user is not user and not seen:
            raise page(403)
        return json_reply(record_object(self._world, record))

    async def delete(self, call: Call, record_id: str) -> Reply:
        """Forget a record that is not submitted."""
        user = self._user(call)
        self._world.records.pop(self._deletable(user, record_id).id.uuid)
        return Reply(status=204, headers={"Connection": "close"})

    async def delete_many(self, call: Call) -> Reply:
        """Forget records: all or none."""
        user = self._user(call)
        body = await body_of(call, {"metadatasetIds": list})
        wanted = texts(body["metadatasetIds"], "metadatasetIds")
        for record in [self._deletable(user, each) for each in sorted(set(wanted))]:
            self._world.records.pop(record.id.uuid, None)
        return Reply(status=204, headers={"Connection": "close"})

    async def prevalidate(self, call: Call) -> Reply:
        """Say what a submission would be refused for."""
        await self._validated(call, self._user(call))
        return Reply(status=204, headers={"Connection": "close"})

    async def submit(self, call: Call) -> Reply:
        """Bind files to records by name, and submit both."""
        user = self._user(call)
        label, records, files = await self._validated(call, user)
        submission = Submission(
            self._world.new_id("S"), label or None, user.group, self._world.now(), records, files
        )
        by_name = {file.name: file for file in files}
        for record in records:
            record.submission = submission
            for name, metadatum in self._columns().items():
                value = record.values.get(name)
                if metadatum.is_file and value:
                    record.files[name] = by_name[value]
        for file in files:
            file.submission = submission
        self._world.submissions[submission.id.uuid] = submission
        return json_reply(submission_object(submission))

    async def of_group(self, call: Call, group_id: str) -> Reply:
        """Return a group's submissions: of one's own by its site id, of any for site admins.

        By its uuid one's own is refused as well: the server compares a text with a UUID.
        """
        user = self._user(call)
        groups = {key.user.group for key in self._world.keys.values()}
        group = next((each for each in groups if group_id in (each.uuid, each.site)), None)
        if group is None or not (user.admin or group_id == user.group.site):
            raise page(403)
        found = [each for each in self._world.submissions.values() if each.group == group]
        return json_reply([submission_object(each) for each in found])

    async def pending(self, call: Call) -> Reply:
        """Return one's own files that are confirmed, and records, that are not submitted."""
        user = self._user(call)
        columns = self._columns()
        files = [
            file_object(self._world, file)
            for file in reversed(self._world.files.values())
            if file.user is user and file.confirmed and file.submission is None
        ]
        records = [
            record_object(self._world, record)
            for record in self._world.records.values()
            if record.user is user and record.submission is None
        ]
        shown = {
            "metadataKeys": list(columns),
            "metadataKeysFiles": [name for name, each in columns.items() if each.is_file],
            "metadatasets": records,
            "files": files,
        }
        return json_reply(shown)

    def _columns(self) -> dict[str, Metadatum]:
        """Return the columns that are no service's."""
        return {name: each for name, each in self._world.metadata.items() if each.service is None}

    def _deletable(self, user: User, record_id: str) -> Record:
        record = named(self._world.records, record_id)
        if record is None:
            raise page(404)
        if record.user is not user:
            raise page(403)
        if record.submission is not None:
            raise unmodifiable()
        return record

    async def _validated(
        self, call: Call, user: User
    ) -> tuple[str | None, list[Record], list[File]]:
        wanted = await body_of(call, {"metadatasetIds": list, "fileIds": list}, {"label": str})
        file_ids = dict.fromkeys(texts(wanted["fileIds"], "fileIds"))
        record_ids = dict.fromkeys(texts(wanted["metadatasetIds"], "metadatasetIds"))
        if not file_ids and not record_ids:
            message = "Neither data nor metadata provided in submission."
            raise invalid([error(_INVALID, message)])
        faults: Faults = []
        files = [self._mine(self._world.files, each, user, faults) for each in file_ids]
        records = [self._mine(self._world.records, each, user, faults) for each in record_ids]
        if faults:
            raise invalid(faults)
        all_files = [each for each in files if isinstance(each, File)]
        all_records = [each for each in records if isinstance(each, Record)]
        columns = self._columns()
        faults = _association_faults(columns, all_records, all_files)
        for record in all_records:
            faults += [
                error(_INVALID, message, field=name, entity=record.id)
                for name, message in _faults(columns, record.values, iso=True)
            ]
        faults += self._unique_faults(all_records)
        if faults:
            raise invalid(faults)
        return wanted.get("label"), all_records, all_files

    def _mine(
        self, things: Mapping[str, Any], name: str, user: User, faults: Faults
    ) -> File | Record | None:
        found: File | Record | None = named(things, name)
        if found is None or found.user is not user:
            message = "Not found" if found is None else "Access denied"
            faults.append(error(_INVALID, message, entity=Id(name, name)))
            return None
        return found

    def _unique_faults(self, records: list[Record]) -> Faults:
        faults: Faults = []
        for name, metadatum in self._world.metadata.items():
            if not (metadatum.submission_unique or metadatum.site_unique):
                continue
            values = Counter(value for each in records if (value := each.values.get(name)))
            there = {
                each.values.get(name)
                for each in self._world.records.values()
                if each.submission is not None
            }
            for record in records:
                value = record.values.get(name)
                if value and values[value] > 1:
                    message = "Violation of intra-submission unique constraint"
                    faults.append(error(_INVALID, message, field=name, entity=record.id))
                if value and metadatum.site_unique and value in there:
                    message = "Violation of global unique constraint"
                    faults.append(error(_INVALID, message, field=name, entity=record.id))
        return faults


def _faults(
    columns: Mapping[str, Metadatum], values: Mapping[str, str | None], *, iso: bool
) -> list[tuple[str, str]]:
    """Return what a record's fields are refused for. Source: `linting.py`."""
    faults = []
    for name, metadatum in columns.items():
        value = values.get(name)
        if value is None:
            if metadatum.mandatory and name not in values:
                faults.append((name, "Field was not specified but is mandatory"))
            elif metadatum.mandatory:
                faults.append((name, "Field value was null, but the field is mandatory"))
        elif metadatum.pattern and not iso and re.match(metadatum.pattern, value) is None:
            faults.append((name, str(metadatum.pattern_means)))
        elif metadatum.date_format:
            try:
                if iso:
                    datetime.fromisoformat(value)
                else:
                    datetime.strptime(value, metadatum.date_format)  # noqa: DTZ007 - naive there
            except ValueError:
                faults.append((name, "The field could not be parsed as a valid date / time"))
    faults += [(name, "The field was not expected.") for name in values if name not in columns]
    return faults


def _association_faults(
    columns: Mapping[str, Metadatum], records: list[Record], files: list[File]
) -> Faults:
    """Return what does not fit between records and files. Source: `validation.py`."""
    found: list[tuple[Id, str | None, str]] = []
    found += [(file.id, None, "No data uploaded") for file in files if not file.confirmed]
    found += [(each.id, None, "Already submitted") for each in files if each.submission]
    found += [(each.id, None, "Already submitted") for each in records if each.submission]
    names = Counter(file.name for file in files)
    message = "Filename occurs multiple times among provided files"
    found += [(file.id, None, message) for file in files if names[file.name] > 1]
    referred = [
        (record, name, value)
        for record in records
        for name, metadatum in columns.items()
        if metadatum.is_file and name not in record.files and (value := record.values.get(name))
    ]
    counts = Counter(value for _, _, value in referred)
    message = "Filename occurs multiple times in metadata"
    found += [(each.id, name, message) for each, name, value in referred if counts[value] > 1]
    message = "File included without reference in metadata"
    found += [(file.id, None, message) for file in files if file.name not in counts]
    message = "Referenced file not provided"
    found += [(each.id, name, message) for each, name, value in referred if value not in names]
    return [
        error(_INVALID, message, field=field, entity=entity) for entity, field, message in found
    ]


def _instant(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise invalid([error("CastError", "Failed to cast value to a date")]) from None
