"""Keys by name, bound to a host; what they sign, and where they never appear."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from composing import Compose
from penstock.core.errors import AnswerUnusable, UsageError
from penstock.core.model import FileSlice, Flow, Request, Response, sigv4
from penstock.engine.signing import Keys
from penstock.platforms.handing import Carrying, Handed, Key
from penstock.platforms.s3 import S3

KEY = Key("r", "https://s3.example", "ACCESS", "the-secret")
OPEN = Key("o", "http://127.0.0.1:9", "ACCESS", "the-secret")


def get(url: str, name: str = "r") -> Request:
    return Request("GET", url, cost=0, auth=sigv4(name))


async def test_a_key_signs_for_its_own_host_and_no_other() -> None:
    keys = Keys()
    await keys.add([KEY])
    assert dict(await keys.sign(get("https://s3.example/b/a")))["Authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=ACCESS/"
    )
    for url in (
        "https://other.example/b/a",
        "http://s3.example/b/a",
        "https://s3.example:8443/b/a",
        "https://s3.example@other.example/b",
    ):
        with pytest.raises(AnswerUnusable, match="host it is not for"):
            await keys.sign(get(url))
    with pytest.raises(AnswerUnusable):
        await keys.sign(get("https://s3.example/b/a", "unknown"))


async def test_over_tls_the_body_is_not_read_ahead_and_in_the_open_it_is_signed(
    tmp_path: Path,
) -> None:
    keys = Keys()
    await keys.add([KEY, OPEN])
    missing = (FileSlice(str(tmp_path / "none"), 0, 3),)
    over_tls = Request("PUT", "https://s3.example/b/a", body=missing, auth=sigv4("r"))
    assert dict(await keys.sign(over_tls))["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
    (tmp_path / "f").write_bytes(b"xabcx")
    body = (FileSlice(str(tmp_path / "f"), 1, 3),)
    in_the_open = Request(
        "PUT", "http://127.0.0.1:9/b/a", body=body, auth=sigv4("o"), announces_md5=True
    )
    signed = dict(await keys.sign(in_the_open))
    assert signed["X-Amz-Content-SHA256"].startswith("ba7816bf8f01cfea")
    assert signed["Content-MD5"] == "kAFQmDzST7DWlj99KOF/cg=="
    assert "content-md5" in signed["Authorization"]


async def test_no_checksum_field_is_added() -> None:
    """Some storages refuse what newer clients send unasked."""
    keys = Keys()
    await keys.add([KEY])
    names = {name.lower() for name, _ in await keys.sign(get("https://s3.example/b/a"))}
    assert names == {"x-amz-date", "x-amz-content-sha256", "authorization"}


async def test_nothing_shows_a_key() -> None:
    keys = Keys()
    await keys.add([KEY])
    shown = (
        repr(keys) + repr(KEY) + repr(Handed(S3("https://s3.example", "b", "r"), (KEY,))) + str(KEY)
    )
    request = get("https://s3.example/b/a")
    assert "secret" not in shown + repr(request) + str(pickle.dumps(request))
    assert "ACCESS" not in shown


async def test_what_signs_being_absent_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    with pytest.raises(UsageError, match=r"penstock\[s3\]"):
        await Keys().add([KEY])


async def test_files_are_asked_of_the_carrier_and_the_rest_of_the_platform(
    compose: Compose,
) -> None:
    async with compose() as world:
        host = world.sim.endpoint
        carrier = S3(host, "b", "k")
        await world.exchange.hand_over("c/r", Handed(carrier, (Key("k", host, "A", "s"),)))
        platform = world.exchange.platform
        assert isinstance(platform, Carrying)
        assert (platform.endpoint, platform.own) == (world.platform.endpoint, world.platform)
        own = world.platform.traits
        assert (platform.traits.quota, platform.traits.requests_per_upload) == (own.quota, 0)
        # The quota's limiter is not touched, and the answer is what the carrier makes of it.
        before = world.limiter.seen().held

        def ask() -> Flow[Response]:
            return (yield Request("GET", f"{host}/b", cost=0, auth=sigv4("k")))

        with pytest.raises(Exception, match="was refused with 40"):
            await world.exchange.run(ask())
        assert world.limiter.seen().held == before
        assert world.exchange.total.api_requests == 0


async def test_keys_for_a_host_without_tls_are_not_taken_from_one_with(compose: Compose) -> None:
    async with compose() as world:
        world.exchange._origin = ("https", "api.example", None)
        with pytest.raises(AnswerUnusable, match="without TLS"):
            await world.exchange.hand_over("c", Handed(S3("http://s3.example", "b", "o"), (OPEN,)))
