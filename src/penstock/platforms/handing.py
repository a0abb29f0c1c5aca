"""Containers whose files another platform carries: handed over with its keys, asked by its flows.

A platform may answer for a container, once, that its files lie elsewhere: it hands over a carrier
(a platform of its own) and the key pairs to sign with. From then on whatever is about files goes to
the carrier, by container, or by what its ids begin with; whatever is about containers, rights, room
and metadata stays with the platform. The identity of a transfer stays the platform's.

Nothing here holds a key: `Handed` passes them from the flow that read them to the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import field, replace
from typing import Protocol, runtime_checkable

from penstock.core.errors import ExchangeError
from penstock.core.model import (
    AuthKind,
    Completed,
    Flow,
    Found,
    Lease,
    OpenUpload,
    Origin,
    Page,
    Part,
    Place,
    Receipt,
    RemoteFile,
    Request,
    Response,
    Target,
    Upload,
)
from penstock.core.traits import Attaches, Traits
from penstock.core.values import quick_value
from penstock.platforms.base import Platform, Prepared


@quick_value(frozen=True, slots=True)
class Key:
    """A key pair, on its way from the flow that read it to the engine, which alone keeps it.

    `name` is what requests call it by; it is for the host of the URL `host` and for no other.
    """

    name: str
    host: str
    access: str = field(repr=False)
    secret: str = field(repr=False)
    region: str = "us-east-1"


class Carrier(Platform, Protocol):
    """A platform that carries files for others."""

    @property
    def ids(self) -> str:
        """What the ids of its files, folders and uploads begin with, and nobody else's."""
        ...


@quick_value(frozen=True, slots=True)
class Handed:
    """Who carries a container's files, and the key pairs its requests name."""

    carrier: Carrier
    keys: tuple[Key, ...] = ()


@runtime_checkable
class HandsOver(Protocol):
    """A platform some of whose containers are carried by another."""

    def through(self, place: Place) -> Flow[Handed | None]:
        """Who carries the files of a place's container; None: the platform itself.

        Asked once a run for a container, with its own name for it.
        """
        ...


class Carrying:
    """A platform, the files of some of its containers carried by others. Conforms to `Platform`."""

    def __init__(self, own: Platform, carriers: Mapping[str, Carrier]) -> None:
        self.own = own
        self._carriers = dict(carriers)
        # Asked for several times a file: put together once for each two they come from.
        self._traits: tuple[Traits, Traits, Traits] | None = None

    def with_(self, container: str, carrier: Carrier) -> Carrying:
        """The same, with one more container carried."""
        return Carrying(self.own, {**self._carriers, container: carrier})

    def _in(self, container: str) -> Platform:
        return self._carriers.get(container, self.own)

    def _holding(self, what: str) -> Platform:
        """Whose file, folder or upload an id names."""
        for carrier in self._carriers.values():
            if what.startswith(carrier.ids):
                return carrier
        return self.own

    @property
    def traits(self) -> Traits:
        """The carrier's numbers for files, the platform's own for its API.

        Of several carriers the latest: a run sends to one container, and for fetching they are
        alike.
        """
        own = self.own.traits
        *_, carrier = self._carriers.values()
        theirs = carrier.traits
        known = self._traits
        if known is None or known[0] is not own or known[1] is not theirs:
            known = self._traits = own, theirs, self._together(own, theirs)
        return known[2]

    @staticmethod
    def _together(own: Traits, theirs: Traits) -> Traits:
        return replace(
            theirs,
            platform=own.platform,
            quota=own.quota,
            window_s=own.window_s,
            quota_headers=own.quota_headers,
            silent=own.silent,
            longest_delay_s=own.longest_delay_s,
            needs_token=own.needs_token,
            names_containers=own.names_containers,
            container_levels=own.container_levels,
            escapes_names=own.escapes_names,
            # A carrier takes files without metadata: what is refused then holds no content back.
            attaches=Attaches.AFTER if own.attaches is Attaches.BEFORE else own.attaches,
            attached_at_once=own.attached_at_once,
            described_at_once=own.described_at_once,
        )

    @property
    def endpoint(self) -> str:
        """The platform's API root."""
        return self.own.endpoint

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:
        """The platform's own header fields."""
        return self.own.sign(token)

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """What the one that was asked means: signed requests were a carrier's."""
        if request.auth.kind is AuthKind.SIGV4:
            *_, carrier = self._carriers.values()
            return carrier.refusal(request, response)
        return self.own.refusal(request, response)

    def place(self, path: str) -> Place:
        """As the platform reads it."""
        return self.own.place(path)

    def find(self, place: Place, start: Place | None = None) -> Flow[Found]:
        """By whoever carries the container."""
        return self._in(place.container).find(place, start)

    def through(self, place: Place) -> Flow[Handed | None]:
        """As the platform says, where it says."""
        if isinstance(self.own, HandsOver):
            return (yield from self.own.through(place))
        return None

    def prepare(self, place: Place, *, writing: bool) -> Flow[Prepared]:
        """What the platform says of its container, then what its carrier does."""
        said = yield from self.own.prepare(
            Place(place.container) if place.container in self._carriers else place, writing=writing
        )
        carrier = self._carriers.get(place.container)
        if carrier is None or said.refusal is not None:
            return said
        carried = yield from carrier.prepare(place, writing=writing)
        rooms = [room for room in (said.room, carried.room) if room is not None]
        return Prepared(carried.refusal, min(rooms) if rooms else None)

    def list_page(self, place: Place, cursor: str | None) -> Flow[Page]:
        """By whoever carries the container; one without a name is known by its folder's id."""
        if not place.container and place.id is not None:
            return self._holding(place.id).list_page(place, cursor)
        return self._in(place.container).list_page(place, cursor)

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:
        """The platform's own."""
        return self.own.list_containers(cursor, above)

    def make_folder(self, parent: Place, name: str) -> Flow[Place]:
        """By whoever carries the container."""
        return self._in(parent.container).make_folder(parent, name)

    def lease(self, file: RemoteFile) -> Flow[Lease]:
        """By whoever holds the file."""
        return self._holding(file.id).lease(file)

    def renew(self, origin: Origin) -> Flow[Mapping[str, Lease]]:
        """By whoever the lease came from."""
        return self._holding(origin.place).renew(origin)

    def stat(self, file_id: str) -> Flow[RemoteFile]:
        """By whoever holds the file."""
        return self._holding(file_id).stat(file_id)

    def delete_file(self, file_id: str) -> Flow[None]:
        """By whoever holds the file."""
        return self._holding(file_id).delete_file(file_id)

    def describe(self, file_ids: Sequence[str]) -> Flow[Mapping[str, RemoteFile]]:
        """Each by whoever holds it."""
        found: dict[str, RemoteFile] = {}
        for platform in (*self._carriers.values(), self.own):
            held = [file_id for file_id in file_ids if self._holding(file_id) is platform]
            if held:
                found.update((yield from platform.describe(held)))
        return found

    def create_upload(self, target: Target, part_size: int, *, overwrite: bool) -> Flow[Upload]:
        """By whoever carries the container."""
        carrier = self._in(target.place.container)
        return carrier.create_upload(target, part_size, overwrite=overwrite)

    def put_part(self, upload: Upload, part: Part, path: str) -> Flow[Receipt]:
        """By whoever takes the upload."""
        return self._holding(upload.id).put_part(upload, part, path)

    def complete_upload(
        self, upload: Upload, target: Target, receipts: Sequence[Receipt], *, reports: bool
    ) -> Flow[Completed | None]:
        """By whoever takes the upload."""
        holder = self._holding(upload.id)
        return holder.complete_upload(upload, target, receipts, reports=reports)

    def abort_upload(self, upload_id: str) -> Flow[None]:
        """By whoever takes the upload."""
        return self._holding(upload_id).abort_upload(upload_id)

    def open_uploads(self, cursor: str | None) -> Flow[tuple[tuple[OpenUpload, ...], str | None]]:
        """The carriers' pages one after the other: what they carry, the platform itself does not.

        A cursor is the carrier's number, a colon, and its own cursor.
        """
        carriers = tuple(self._carriers.values())
        number, _, own = (cursor or "0:").partition(":")
        page, after = yield from carriers[int(number)].open_uploads(own or None)
        if after is not None:
            return page, f"{number}:{after}"
        return page, f"{int(number) + 1}:" if int(number) + 1 < len(carriers) else None

    def describe_upload(self, upload_id: str) -> Flow[OpenUpload | None]:
        """By whoever takes the upload."""
        return self._holding(upload_id).describe_upload(upload_id)

    def probe(self, lease: Lease) -> Flow[Response]:
        """By whoever the lease came from."""
        return self._holding(lease.origin.place).probe(lease)

    def get_part(
        self,
        lease: Lease,
        part: Part,
        sink: str,
        *,
        total: int,
        validator: str | None,
        digests: Set[str],
    ) -> Flow[Response]:
        """By whoever the lease came from."""
        return self._holding(lease.origin.place).get_part(
            lease, part, sink, total=total, validator=validator, digests=digests
        )
