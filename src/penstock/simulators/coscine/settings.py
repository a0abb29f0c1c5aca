"""What a Coscine simulator can be told: documented defaults, and guesses as switches."""

from dataclasses import dataclass
from typing import Literal

from penstock.simulators.quota import WindowStart
from penstock.simulators.storage import StorageSettings

GB = 10**9


@dataclass(frozen=True, kw_only=True)
class S3Place:
    """A real S3 server that S3-backed resources lie on, and the keys they show.

    bucket: of all such resources that are given none of their own; it has to be there.
    """

    endpoint: str
    bucket: str
    access_key_read: str = "READ"
    secret_key_read: str = "read-secret"
    access_key_write: str = "WRITE"
    secret_key_write: str = "write-secret"
    region: str = "us-east-1"


@dataclass(frozen=True, kw_only=True)
class CoscineSettings(StorageSettings):
    """How the API behaves; the storage's settings are inherited.

    Sources: Coscine documentation, "API" (`quota`, `window_s`, `most_per_page`,
    `download_url_lifetime_s`) and "Uploading" (`largest_file`, inclusive, decimal: a guess);
    coscine 0.12.2's OpenAPI models (`default_page_size`). What follows is not documented and
    therefore a guess that can be switched:

    window, window_start, count_refused: how requests are counted. quota_key: per what.
    over_quota: how they are "ignored for some time": the connection is dropped, is silent for
        `hang_s` and then dropped, or answered by 429 or 503 without any header.
    penalty_s: for how long after one request too many all are refused.
    too_high_page_size: a `PageSize` above `most_per_page` is clamped, or refused with 400.
    prefix: a listing's `Prefix` without a slash at its end shows all that begins so, or that alone.
    content: whether a file's content is given by the API (200), or from storage (302).
    path_encoding: "either" decodes paths twice, so that both clients' ways arrive; "once" does not.
    metadata_first: content of a file without metadata is refused with 400, but on S3.
    metadata_check: what is asked of metadata before it is stored: nothing, that it can be parsed,
        or that it conforms to the application profile. Both need rdflib, the last pyshacl too:
        without them nothing is asked.
    metadata_subject: whether the graph of a whole resource has nodes as they were sent, or the
        root of each file's metadata under the name of its graph. old_graphs: and whether it has
        older versions as well.
    post_existing, put_missing: POST over a file, PUT where there is none: done, or refused (400).
    bad_characters: what no file name may have (400).
    url_less: general types whose listings bring no URLs.
    stored_part_size: what the API stores gets the ETag of an upload in such parts.
    option_names: of DataStorage.nrw's options; clients differ.
    project_quotas: whether a page of a project's quotas tells of resources, leaves them to be asked
        for by type, or is not there at all (404).
    failures: the body of a refusal: RFC 7807's ProblemDetails, an envelope, or nothing.
    api_latency_s: waited before a call is handled. maintenance: everything is 503.
    token_lifetime_s: of the API token, as `/self/api-tokens` tells it.
    """

    download_url_lifetime_s: float = 86_400.0

    quota: int = 500
    window_s: float = 60.0
    window: Literal["sliding", "fixed"] = "sliding"
    window_start: WindowStart = "first call"
    count_refused: bool = False
    quota_key: Literal["token", "ip"] = "token"
    over_quota: Literal["drop", "hang", "429", "503"] = "drop"
    hang_s: float = 30.0
    penalty_s: float = 60.0

    default_page_size: int = 10
    most_per_page: int = 50
    too_high_page_size: Literal["clamp", "refuse"] = "clamp"
    prefix: Literal["begins", "exact"] = "begins"
    content: Literal["body", "redirect"] = "body"
    path_encoding: Literal["either", "once"] = "either"
    metadata_first: bool = True
    metadata_check: Literal["nothing", "syntax", "profile"] = "profile"
    metadata_subject: Literal["as sent", "graph"] = "as sent"
    old_graphs: bool = False
    post_existing: Literal["refuse", "replace"] = "refuse"
    put_missing: Literal["refuse", "create"] = "refuse"
    bad_characters: str = '\\:?*<>|"'
    largest_file: int = 100 * GB
    url_less: tuple[str, ...] = ("linked",)
    stored_part_size: int | None = None
    option_names: Literal["dataStorageNrwS3", "dsNrwS3"] = "dataStorageNrwS3"
    project_quotas: Literal["resources", "types", "missing"] = "resources"
    failures: Literal["problem", "envelope", "empty"] = "problem"

    api_latency_s: float = 0.0
    maintenance: bool = False
    token_lifetime_s: float = 180 * 86_400.0
    user: str = "Demo User"
    s3: S3Place | None = None
