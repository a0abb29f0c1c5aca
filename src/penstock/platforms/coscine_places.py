"""Coscine's projects and resources: read from its answers, and found by id, slug or display name.

What is written in a location is an id, a project's slug, or a display name, each segment with `/`
as `%2F` and `%` as `%25`. An id wins over a slug, a slug over a name; a name that fits several is
an error that lists their ids. Found once, a place is known by its ids alone.

A resource's S3 keys are in the same object as its name. They are held in `Keys`, which shows
nothing of itself, and go into no message, log or ledger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from penstock.core.errors import LocationError, ProfileError
from penstock.core.locations import suggestion, unescape
from penstock.core.values import quick_value
from penstock.platforms.base import JsonObject, refuse_name

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")

# Source: Amazon S3, "Object key naming guidelines": 1,024 bytes of UTF-8.
LONGEST_PATH = 1024

# Where `type.options` holds a resource's S3 keys, by the type they are for. The names differ
# between the API page and the client's models, so both are read.
# Source: `ResourceTypeOptionsDto` (dataStorageNrwS3) and the client's own `ResourceType.options`
# (dsNrwS3), coscine 0.12.2.
_S3_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "rdss3": ("rdsS3",),
    "rdss3worm": ("rdsS3Worm",),
    "dsnrws3": ("dataStorageNrwS3", "dsNrwS3"),
    "dsnrws3worm": ("dataStorageNrwS3Worm", "dsNrwS3Worm"),
}
# Types whose files go to their storage itself. Source: docs.coscine.de "S3 clients"; what is kept
# from being changed (WORM) is left to the API, whose refusals say why.
S3_CARRIED = frozenset(("rdss3", "dsnrws3"))
# Types that hold files of their own. Others (linked data, a GitLab repository) are asked about.
HOLDS_FILES = frozenset(("rds", "dsnrwweb", *_S3_OPTIONS))


@quick_value(frozen=True, slots=True)
class Settings:
    """What a profile may set: which endpoints to use, and how often a path is encoded."""

    legacy: bool = False
    """The endpoints `trees` and `blobs` in place of `storage`."""
    double: bool = False
    """Paths of uploads and metadata encoded twice, as the official client does since 0.12."""

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Settings:
        """A profile's settings. Raises `ProfileError` for what is none of them."""
        known = {"endpoints": ("storage", "legacy"), "path_encoding": ("single", "double")}
        for name, value in settings.items():
            if name not in known:
                raise ProfileError(
                    f"{name!r} is no setting of a Coscine profile{suggestion(name, known)}; there "
                    f"are {', '.join(known)}"
                )
            if value not in known[name]:
                raise ProfileError(
                    f"the setting {name} of a Coscine profile is one of "
                    f"{', '.join(known[name])}, not {value!r}"
                )
        return cls(settings.get("endpoints") == "legacy", settings.get("path_encoding") == "double")


@quick_value(frozen=True, slots=True)
class Keys:
    """A bucket, and the key pairs of a resource for it. Shows neither keys nor bucket."""

    endpoint: str = field(repr=False)
    bucket: str = field(repr=False)
    read: tuple[str, str] | None = field(default=None, repr=False)
    write: tuple[str, str] | None = field(default=None, repr=False)


@quick_value(frozen=True, slots=True)
class Resource:
    """A resource as Coscine describes it. `type` is the general type ('rdss3'), lower case."""

    id: str
    project: str
    name: str
    type: str
    specific_type: str = ""
    type_id: str | None = None
    archived: bool = False
    maintenance: bool = False
    profile: str | None = None
    """The IRI of its application profile."""
    fixed_values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    keys: Keys | None = field(default=None, repr=False)

    @property
    def container(self) -> str:
        """How the resource is known as a place."""
        return f"{self.project}/{self.id}"


@quick_value(frozen=True, slots=True)
class Named:
    """Something with an id, perhaps a slug, and names."""

    id: str
    name: str
    slug: str | None = None
    other_name: str | None = None
    is_below: bool = False
    """Whether it is a sub-project."""


def is_id(text: str) -> bool:
    """Whether a text is one of Coscine's ids."""
    return _GUID.match(text) is not None


def own_id(text: str) -> str:
    """An id in its one spelling."""
    return text.lower() if is_id(text) else text


def may_be_slug(text: str) -> bool:
    """Whether a text may be a project's slug."""
    return _SLUG.match(text) is not None


def resource_of(fields: JsonObject, project: str) -> Resource:
    """A resource from its object. `project` is the id of the project it was asked for in."""
    kind = fields.object_or_none("type") or JsonObject({}, "resource type")
    general = (kind.text_or_none("generalType") or "").lower()
    specific = kind.text_or_none("specificType") or ""
    profile = fields.object_or_none("applicationProfile")
    values = fields.get("fixedValues")
    return Resource(
        id=own_id(fields.text("id")),
        project=project,
        name=fields.text_or_none("displayName") or fields.text_or_none("name") or "",
        type=general,
        specific_type=specific,
        type_id=kind.text_or_none("id"),
        archived=fields.get("archived") is True,
        maintenance=fields.get("maintenanceMode") is True,
        profile=profile.text_or_none("uri") if profile is not None else None,
        fixed_values=values if isinstance(values, dict) else {},
        keys=_keys(general, kind.object_or_none("options")),
    )


def _keys(general: str, options: JsonObject | None) -> Keys | None:
    """The S3 keys among a resource type's options, if it has any."""
    if options is None:
        return None
    for name in _S3_OPTIONS.get(general, ()):
        found = options.object_or_none(name)
        if found is None:
            continue
        endpoint, bucket = found.text_or_none("endpoint"), found.text_or_none("bucketName")
        if endpoint is not None and bucket is not None:
            return Keys(endpoint, bucket, _pair(found, "Read"), _pair(found, "Write"))
    return None


def _pair(options: JsonObject, what: str) -> tuple[str, str] | None:
    access = options.text_or_none(f"accessKey{what}")
    secret = options.text_or_none(f"secretKey{what}")
    return (access, secret) if access is not None and secret is not None else None


def storage_url(endpoint: str) -> str:
    """An S3 endpoint as a URL: with TLS where it names no scheme.

    Raises `AnswerUnusable` where it is none.
    """
    url = (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")
    return JsonObject({"endpoint": url}, "S3 storage").url("endpoint")


def project_of(fields: JsonObject) -> Named:
    """A project's id and names from its object."""
    shown = fields.text_or_none("displayName") or fields.text_or_none("name") or ""
    return Named(
        own_id(fields.text("id")),
        shown,
        fields.text_or_none("slug"),
        fields.text_or_none("name"),
        fields.object_or_none("parent") is not None,
    )


def named_resource(fields: JsonObject) -> Named:
    """A resource's id and names from its object."""
    shown = fields.text_or_none("displayName") or fields.text_or_none("name") or ""
    return Named(own_id(fields.text("id")), shown, None, fields.text_or_none("name"))


def chosen(known: Sequence[Named], written: str, what: str) -> Named:
    """The one of `known` that a segment of a location names.

    Raises `LocationError` where none is meant, or a name fits several.
    """
    wanted = unescape(written)
    for fitting in _tiers(known, wanted):
        if len(fitting) > 1:
            ids = ", ".join(sorted(fits.id for fits in fitting))
            raise LocationError(
                f"{wanted!r} names {len(fitting)} {what}s; write one of their ids: {ids}"
            )
        if fitting:
            return fitting[0]
    near = suggestion(wanted, tuple({fits.name for fits in known if fits.name}))
    raise LocationError(
        f"there is no {what} {wanted!r}, or not for this token{near}; `penstock list` shows what "
        "there is"
    )


def _tiers(known: Sequence[Named], wanted: str) -> Iterator[list[Named]]:
    """Those an id, a slug, a display name, and a full name fit, nearest meaning first."""
    yield [fits for fits in known if fits.id == own_id(wanted)]
    yield [fits for fits in known if fits.slug == wanted]
    yield [fits for fits in known if fits.name == wanted]
    yield [fits for fits in known if fits.other_name == wanted]


def check_path(path: str) -> None:
    """Nothing, or `NameRefused` where Coscine takes no file or folder of that path.

    Source: [UPDOC]: characters such as `|` make uploads fail.
    """
    name = path.rpartition("/")[2]
    if not name or any(part in {"", ".", ".."} for part in path.split("/")):
        raise refuse_name(name, "cannot stand on Coscine")
    if "|" in path:
        raise refuse_name(name, "holds '|' (or its folder does), which Coscine does not take")
    if len(path.encode()) > LONGEST_PATH:
        raise refuse_name(name, f"has a path of more than {LONGEST_PATH} bytes")


def split_id(file_id: str) -> tuple[str, str]:
    """A file's container and path."""
    project, resource, path = file_id.split("/", 2)
    return f"{project}/{resource}", path
