"""Key pairs by name, each bound to one host, and the signatures made with them.

The keys live here and nowhere else: no request, `repr`, log, ledger or error has one. A signature
is made anew for each send, by botocore (extra `s3`). Over TLS the body is left out of it; without,
its SHA-256 is taken first and signed, so that what goes in the open cannot be exchanged.

Source: Amazon S3 API reference, "Authenticating requests: using the Authorization header"
(`UNSIGNED-PAYLOAD`; `Content-MD5` is signed where it is sent).
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from penstock.core.errors import AnswerUnusable, UsageError
from penstock.core.model import MIB, FileSlice, Request
from penstock.engine.digests import Digests
from penstock.engine.files import READ_SIZE, Beside, digest_slice, hop, source_error
from penstock.engine.gathering import Gathered
from penstock.engine.reading import Held, read_at_once, reading
from penstock.platforms.handing import Key

_UNSIGNED = "UNSIGNED-PAYLOAD"
# What is digested without a chance to be interrupted: some milliseconds.
_SHORT = 4 * MIB


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: what a credential is bound to."""
    # Asked of every request several times, and of few hosts: what comes behind them is cut off.
    return _origin("/".join(url.split("/", 3)[:3]))


@lru_cache(maxsize=256)
def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


class Keys:
    """The key pairs a session was handed."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._signers: dict[str, Any] = {}
        self._botocore: tuple[ModuleType, ModuleType, ModuleType] | None = None
        self._files = Gathered()

    def __repr__(self) -> str:
        return f"Keys({sorted(self._keys)})"

    async def add(self, keys: Iterable[Key]) -> None:
        """The keys can be signed with, from now on.

        Raises `UsageError` where the library that signs is not installed.
        """
        if self._botocore is None:
            self._botocore = await hop(_load)
        auth, credentials, _ = self._botocore
        for key in keys:
            pair = credentials.Credentials(key.access, key.secret)
            self._keys[key.name] = key
            self._signers[key.name] = _signer(auth, pair, key.region)

    def check(self, request: Request) -> None:
        """Nothing, or `AnswerUnusable`: a key signs for its own host and no other."""
        key = self._keys.get(request.auth.key or "")
        if key is None or origin(key.host) != origin(request.url):
            raise AnswerUnusable(
                f"{request.shown} would carry a credential to a host it is not for"
            )

    async def sign(
        self, request: Request, held: Held | None = None, beside: Beside | None = None
    ) -> tuple[tuple[str, str], ...]:
        """The header fields that sign one send of a request, its MD5 announced where it asks so.

        A short slice that has to be read for that is then in `held`, with all the digests the
        request asks for, and `beside` has seen it.

        Raises `AnswerUnusable` as `check` does, and what reading the local file raises.
        """
        self.check(request)
        assert self._botocore is not None
        in_the_open = urlsplit(request.url).scheme != "https"
        names = {"sha256"} if in_the_open else set()
        names |= {"md5"} if request.announces_md5 else set()
        digests = await self._digests(request, names, held, beside) if names else {}
        headers = dict(request.headers)
        known = {name.lower() for name in headers}
        added: dict[str, str] = {}
        if request.announces_md5:
            added["Content-MD5"] = base64.b64encode(bytes.fromhex(digests["md5"])).decode()
        payload = digests["sha256"] if in_the_open else _UNSIGNED
        asked = self._botocore[2].AWSRequest(
            request.method, request.url, headers={**headers, **added}
        )
        asked.context["payload"] = payload
        self._signers[request.auth.key or ""].add_auth(asked)
        return tuple(
            (name, value) for name, value in asked.headers.items() if name.lower() not in known
        )

    async def _digests(
        self, request: Request, names: set[str], held: Held | None, beside: Beside | None
    ) -> Mapping[str, str]:
        """Digests of the whole body, read ahead of its sending; a short one in a single hop."""
        match request.body:
            case (FileSlice() as only,) if held is not None and only.length <= READ_SIZE:
                all_of = Digests(names | request.digests)
                data = await self._files.do(partial(read_at_once, only, all_of, beside))
                held[only] = data, all_of
                return all_of.hex()
            case (FileSlice() as only,) if only.length <= _SHORT:
                try:
                    return await hop(digest_slice, only.path, only.offset, only.length, names)
                except OSError as error:
                    raise source_error(error, only.path) from error
        digests = Digests(names)
        for piece in request.body:
            if isinstance(piece, bytes):
                digests.update(piece)
                continue
            async with reading(piece, digests) as pieces:
                async for _ in pieces:
                    pass
        return digests.hex()


def _load() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        return (
            importlib.import_module("botocore.auth"),
            importlib.import_module("botocore.credentials"),
            importlib.import_module("botocore.awsrequest"),
        )
    except ImportError:
        raise UsageError(
            "this place is kept in an S3 storage, and signing for one needs botocore: install "
            "penstock[s3]"
        ) from None


def _signer(auth: ModuleType, credentials: object, region: str) -> Any:  # noqa: ANN401 - botocore's
    """Botocore's signer, told the digest of the payload that only we can stream."""

    class Signer(auth.S3SigV4Auth):  # type: ignore[misc,name-defined]
        def payload(self, request: Any) -> str:  # noqa: ANN401 - botocore's
            """The payload's digest, or that it has none."""
            return str(request.context["payload"])

    return Signer(credentials, "s3", region)
