"""What a DataMeta simulator can be told. Defaults are those of a server as it is shipped."""

from dataclasses import dataclass

from penstock.simulators.content import KeepBodies


@dataclass(frozen=True, kw_only=True)
class DataMetaSettings:
    """How the server behaves.

    every_nth_fails: of the calls that change something, uploads excepted, each n-th is rolled
        back with a 500 in plain text, as conflicts between transactions are (*observed*, DataMeta
        1.1.1 under concurrent announces and confirms); None: none is.
    largest_body: bytes; more is 413 before it is read. Source: `max_request_body_size` of the
        shipped configuration, 10 GiB.
    upload_lifetime_s: of an announced file's upload, a day in DataMeta's source.
    download_lifetime_s: of a download URL, whatever minutes are asked for; None: as asked.
    utc_offset_s: of the server's local time, in which `expires` of a file is told, with no offset.
    uses_of_expired_keys: within an hour, that disable the account. Source:
        `security_max_failed_login_attempts`.
    keep_bodies: "auto" keeps up to 1 MiB in memory and more on disk.
    bandwidth: bytes a second of one connection, either way.
    latency_s: waited before a request is handled.
    """

    every_nth_fails: int | None = None
    largest_body: int = 10 * 1024**3
    upload_lifetime_s: float = 86_400.0
    download_lifetime_s: float | None = None
    utc_offset_s: float = 0.0
    uses_of_expired_keys: int = 5
    keep_bodies: KeepBodies = "auto"
    bandwidth: float | None = None
    latency_s: float = 0.0
    clock_skew_s: float = 0.0
