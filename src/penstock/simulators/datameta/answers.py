"""The shapes of answers: lists of errors, `null`, pages of HTML, and the objects of the API.

Source, unless said otherwise: *observed*, a real DataMeta 1.1.1 server, 2026-11-21.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.simulators.content import Bytes
from penstock.simulators.datameta.state import (
    File,
    Id,
    Metadatum,
    Record,
    Submission,
    User,
    World,
)
from penstock.simulators.host import Call, Reply, json_reply

_TITLES = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}


class RefusedError(Exception):
    """The answer that ends a call."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"HTTP {reply.status}")
        self.reply = reply


def null(status: int) -> RefusedError:
    """Return a refusal whose body is the JSON `null`."""
    return RefusedError(json_reply(None, status))


def page(status: int) -> RefusedError:
    """Return a refusal whose body is a page of HTML."""
    title = f"{status} {_TITLES[status]}"
    text = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    headers = {"Content-Type": "text/html; charset=UTF-8"}
    return RefusedError(Reply(status=status, headers=headers, body=Bytes(text.encode())))


def plain(status: int, text: str) -> RefusedError:
    """Return a refusal in plain text that closes the connection, as waitress makes them."""
    headers = {"Content-Type": "text/plain", "Connection": "close"}
    return RefusedError(Reply(status=status, headers=headers, body=Bytes(text.encode())))


def failure() -> RefusedError:
    """Return waitress's answer where the application raised an error."""
    text = "Internal Server Error\n\nThe server encountered an unexpected internal server error\n"
    return plain(500, text)


def error(
    exception: str, message: str, *, field: str | None = None, entity: Id | None = None
) -> dict[str, Any]:
    """Return one entry of a list of errors."""
    shown: dict[str, Any] = {"exception": exception}
    if entity is not None:
        shown["entity"] = id_object(entity)
    if field is not None:
        shown["field"] = field
    return shown | {"message": message}


def invalid(errors: Sequence[Mapping[str, Any]]) -> RefusedError:
    """Return a refusal that lists errors (400)."""
    return RefusedError(json_reply(list(errors), 400))


def unmodifiable() -> RefusedError:
    """Return the refusal to change what is confirmed or submitted (403)."""
    entry = error("ResourceNotModifiableError", "The resource cannot be modified")
    return RefusedError(json_reply([entry], 403))


async def body_of(
    call: Call,
    required: Mapping[str, type],
    optional: Mapping[str, type] | None = None,
    *,
    nullable: str | None = None,
) -> dict[str, Any]:
    """Return a JSON body that has what is required, maybe what is optional, and nothing else.

    nullable: a required one that may be null; optional ones always may.

    Raises:
        RefusedError: it does not (400), with one entry for each fault.
    """
    text = await call.body()
    if call.request.content_type != "application/json":
        raise invalid([error("MediaTypeNotFound", "Content for the following mimetype not found")])
    try:
        value = json.loads(text)
    except ValueError:
        raise invalid([error("DeserializeError", "Failed to deserialize value")]) from None
    if not isinstance(value, dict):
        raise invalid([error("ValidationError", f"{value!r} is not of type object")])
    allowed = {**required, **(optional or {})}
    faults = [
        error("ValidationError", f"{name!r} is a required property", field="/".join(required))
        for name in required
        if name not in value
    ]
    for name, given in value.items():
        if name not in allowed:
            faults.append(error("ValidationError", f"{name!r} was unexpected", field=name))
        elif not _is(given, allowed[name]) and not (
            given is None and (name not in required or name == nullable)
        ):
            message = f"{given!r} is not of type {allowed[name].__name__}"
            faults.append(error("ValidationError", message, field=name))
    if faults:
        raise invalid(faults)
    return value


def _is(value: object, wanted: type) -> bool:
    return isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))


def texts(value: object, name: str) -> list[str]:
    """Return a list of texts.

    Raises:
        RefusedError: it is none (400).
    """
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise invalid([error("ValidationError", "an entry is not of type string", field=name)])
    return value


def local_time(world: World, at: float) -> str:
    """Return an instant in the server's local time, with no offset."""
    shown = datetime.fromtimestamp(at + world.settings.utc_offset_s, UTC)
    return shown.replace(tzinfo=None).isoformat(timespec="microseconds")


def utc_time(at: float) -> str:
    """Return an instant in UTC, with its offset."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def id_object(named: Id) -> dict[str, str]:
    """Return both names of a thing."""
    return {"uuid": named.uuid, "site": named.site}


def user_object(user: User) -> dict[str, Any]:
    """Return who is asking."""
    return {
        "id": id_object(user.id),
        "name": user.name,
        "groupAdmin": user.admin,
        "siteAdmin": user.admin,
        "siteRead": user.admin,
        "email": f"{user.name.lower()}@localhost",
        "group": {"id": id_object(user.group), "name": user.group_name},
    }


def file_object(world: World, file: File) -> dict[str, Any]:
    """Return a file. Whether unconfirmed bytes are there cannot be seen."""
    return {
        "id": id_object(file.id),
        "name": file.name,
        "contentUploaded": file.confirmed,
        "checksum": file.checksum,
        "filesize": file.content.size if file.confirmed else None,
        "userId": id_object(file.user.id),
        "expires": local_time(world, file.expires_at),
    }


def announced_object(world: World, file: File) -> dict[str, Any]:
    """Return where and how to send an announced file."""
    return {
        "id": id_object(file.id),
        "name": file.name,
        "userId": id_object(file.user.id),
        "expires": local_time(world, file.expires_at),
        "urlToUpload": f"{world.url}/api/v1/upload/{file.id.uuid}",
        "requestHeaders": {"Access-Token": file.access_token},
    }


def metadatum_object(metadatum: Metadatum) -> dict[str, Any]:
    """Return a column."""
    service = metadatum.service
    return {
        "id": {"uuid": metadatum.id},
        "name": metadatum.name,
        "isMandatory": metadatum.mandatory,
        "order": metadatum.order,
        "isFile": metadatum.is_file,
        "isSubmissionUnique": metadatum.submission_unique,
        "isSiteUnique": metadatum.site_unique,
        "regexDescription": metadatum.pattern_means,
        "longDescription": metadatum.description,
        "example": metadatum.example,
        "regExp": metadatum.pattern,
        "dateTimeFmt": metadatum.date_format,
        "serviceId": None if service is None else id_object(service),
    }


def record_object(world: World, record: Record, *, dates: bool = True) -> dict[str, Any]:
    """Return a record. dates: in the columns' own formats; else in ISO 8601, as when made."""
    values = dict(record.values)
    files: dict[str, Any] = {}
    for name, metadatum in world.metadata.items():
        value = values.setdefault(name, None)
        if dates and value is not None and metadatum.date_format:
            values[name] = datetime.fromisoformat(value).strftime(metadatum.date_format)
        if metadatum.is_file:
            bound = record.files.get(name)
            files[name] = None if bound is None else id_object(bound.id)
    submission = record.submission
    return {
        "id": id_object(record.id),
        "record": values,
        "fileIds": files,
        "userId": id_object(record.user.id),
        "submissionId": None if submission is None else id_object(submission.id),
        "serviceExecutions": None,
    }


def submission_object(submission: Submission) -> dict[str, Any]:
    """Return a submission."""
    return {
        "id": id_object(submission.id),
        "label": submission.label,
        "metadatasetIds": [id_object(each.id) for each in submission.records],
        "fileIds": [id_object(each.id) for each in submission.files],
    }
