"""A DataMeta server on loopback: API, uploads and downloads on one port, and no quota.

A call is held against the largest body first, then a table of routes decides, and each action asks
who is calling: what is wrong with a key is answered in two ways, and some calls need none. Nothing
here is a double of penstock's own code: it imports none of it.

Source, unless said otherwise: *observed*, a real DataMeta 1.1.1 server, 2026-11-21.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from penstock.simulators.content import BodyDiscardedError, Bytes, Content, content_of
from penstock.simulators.datameta.answers import (
    RefusedError,
    error,
    failure,
    page,
    plain,
    user_object,
)
from penstock.simulators.datameta.files import Files
from penstock.simulators.datameta.records import Records
from penstock.simulators.datameta.settings import DataMetaSettings
from penstock.simulators.datameta.state import File, Id, Key, Metadatum, User, World
from penstock.simulators.host import Call, Reply, json_reply
from penstock.simulators.local import LocalPlatform
from penstock.simulators.routes import Route, Router, UnroutedError
from penstock.simulators.storage import Violation

_TOKEN = "simulatedDataMetaKey".ljust(64, "0")
_OTHER_TOKEN = "simulatedDataMetaKeyOfAnother".ljust(64, "0")


@dataclass(frozen=True)
class DataMetaFile:
    """A file as it is there. md5: of the bytes; checksum: as announced."""

    id: str
    site_id: str
    name: str
    content: Content
    md5: str
    checksum: str
    confirmed: bool
    submitted: bool


@dataclass(frozen=True)
class DataMetaSubmission:
    """A submission: its id, label, records in order, and ids of its files by name."""

    id: str
    label: str | None
    records: tuple[dict[str, str | None], ...]
    files: dict[str, str]


class DataMeta(LocalPlatform):
    """A server with nothing on it; an async context manager.

    token: a site admin's key. other_token: that of a user in another group.
    clock: the time, epoch seconds; the only clock there is.
    """

    def __init__(
        self,
        settings: DataMetaSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        settings = settings or DataMetaSettings()
        super().__init__(_TOKEN, "/api/v1", clock=clock, port=port)
        self._set_pace(clock_skew_s=settings.clock_skew_s, latency_s=settings.latency_s)
        self._host.bandwidth = settings.bandwidth
        self.other_token = _OTHER_TOKEN
        self.violations: list[Violation] = []
        self._world = World(settings, clock)
        self._admin = self._world.new_user("Admin", admin=True)
        self._world.keys[self.token] = Key(self._admin)
        self._world.keys[self.other_token] = Key(self._world.new_user("Other", admin=False))
        self._changes = itertools.count(1)
        groups = (Files(self._world, self._user), Records(self._world, self._user))
        routes = [route for group in groups for route in group.routes()]
        routes += [
            Route("GET", "/api", self._root),
            Route("GET", "/api/v1/server", self._server),
            Route("GET", "/api/v1/rpc/whoami", self._whoami),
        ]
        self._router = Router(routes, base="")

    def _serving(self) -> None:
        self._world.url = self._host.url

    async def _close(self) -> None:
        self._world.bodies.close()

    @property
    def root(self) -> str:
        """The server, without `/api/v1`."""
        return self._host.url

    @property
    def settings(self) -> DataMetaSettings:
        """The settings in force."""
        return self._world.settings

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of the settings
        """Change settings while serving."""
        settings = replace(self._world.settings, **changes)
        self._world.settings = settings
        self._world.bodies.keep = settings.keep_bodies
        self._host.bandwidth = settings.bandwidth
        self._set_pace(clock_skew_s=settings.clock_skew_s, latency_s=settings.latency_s)

    def describe(self) -> dict[str, str]:
        """Return what a person needs to use it, by name, in order."""
        return {"endpoint": self.endpoint, "token": self.token}

    # Seeding and inspecting.

    def add_key(self, token: str, *, expires_at: float | None = None) -> None:
        """Give the admin another key, good until `expires_at`, epoch seconds."""
        self._world.keys[token] = Key(self._admin, expires_at)

    def enabled(self) -> bool:
        """Return whether the admin's account is not locked."""
        return self._admin.enabled

    def add_file(self, name: str, content: bytes | Content, *, confirmed: bool = True) -> str:
        """Make a file of the admin's; return its id. Others of that name stay."""
        body = content_of(content)
        file = self._world.announce(self._admin, name, body.md5())
        file.content, file.confirmed = body, confirmed
        return file.id.uuid

    def remove_file(self, file_id: str) -> None:
        """Remove a file that is not submitted."""
        del self._world.files[file_id]

    def files(self) -> dict[str, DataMetaFile]:
        """Return all files that are there, by id."""
        return {file_id: _shown(file) for file_id, file in self._world.files.items()}

    def add_metadatum(
        self,
        name: str,
        *,
        mandatory: bool = False,
        is_file: bool = False,
        pattern: str | None = None,
        pattern_means: str | None = None,
        date_format: str | None = None,
        submission_unique: bool = False,
        site_unique: bool = False,
        by_service: bool = False,
    ) -> None:
        """Make a column of the records. by_service: only a service of the server may set it."""
        world = self._world
        world.metadata[name] = Metadatum(
            id=world.new_id("M").uuid,
            name=name,
            order=len(world.metadata),
            mandatory=mandatory,
            is_file=is_file,
            pattern=pattern,
            pattern_means=pattern_means,
            date_format=date_format,
            submission_unique=submission_unique,
            site_unique=site_unique,
            service=world.new_id("P") if by_service else None,
        )

    def records(self) -> dict[str, dict[str, str | None]]:
        """Return all records, by id; dates in ISO 8601."""
        return {each.id.uuid: dict(each.values) for each in self._world.records.values()}

    def submissions(self) -> list[DataMetaSubmission]:
        """Return all submissions, in the order they were made."""
        return [
            DataMetaSubmission(
                each.id.uuid,
                each.label,
                tuple(dict(record.values) for record in each.records),
                {file.name: file.id.uuid for file in each.files},
            )
            for each in self._world.submissions.values()
        ]

    # Serving.

    def _gate(self, call: Call) -> Reply | None:
        call.counted = True
        if (call.request.content_length or 0) > self.settings.largest_body:
            return plain(413, "Request Entity Too Large\n\nexceeds max_body of waitress\n").reply
        carries_own_right = call.path.startswith(("/api/v1/upload/", "/api/v1/download/"))
        if carries_own_right and call.has_token:  # does no harm, and no client should
            self.violations.append(Violation("Authorization sent", call.method, call.path))
        nth = self.settings.every_nth_fails
        changes = call.method in ("POST", "PUT", "DELETE") and not carries_own_right
        if nth is not None and changes and next(self._changes) % nth == 0:
            return failure().reply
        return None

    def _user(self, call: Call) -> User:
        """Return who is calling.

        Raises:
            RefusedError: 401, a list of errors for what is no bearer's, else a page.
        """
        scheme, _, token = call.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" and call.path.startswith("/api/v1/"):
            entry = error("InvalidSecurity", "Security not valid for any requirement")
            raise RefusedError(json_reply([entry], 401))
        user = self._world.user_of(token) if scheme == "Bearer" else None
        if user is None:
            raise page(401)
        return user

    async def _answer(self, call: Call) -> Reply:
        try:
            return await self._router.answer(call)
        except RefusedError as refused:
            return refused.reply
        except UnroutedError:
            return page(404).reply
        except BodyDiscardedError:
            return failure().reply

    async def _root(self, _call: Call) -> Reply:
        text = b"<html><head><title>302 Found</title></head><body>Found</body></html>"
        headers = {"Location": "/api/v1", "Content-Type": "text/html; charset=UTF-8"}
        return Reply(status=302, headers=headers, body=Bytes(text))

    async def _server(self, call: Call) -> Reply:
        """Return versions to any bearer; none at all is a fault of the server's (500)."""
        if not call.has_token:
            entry = error("ResponseNotFound", "Unknown response http status: 401")
            return json_reply([entry], 500)
        return json_reply({"apiVersion": "1.5.0", "datametaVersion": "1.1.1"})

    async def _whoami(self, call: Call) -> Reply:
        return json_reply(user_object(self._user(call)))


def _shown(file: File) -> DataMetaFile:
    named: Id = file.id
    return DataMetaFile(
        named.uuid,
        named.site,
        file.name,
        file.content,
        file.content.md5(),
        file.checksum,
        file.confirmed,
        file.submission is not None,
    )
