"""Whom penstock believes, and by which proxy it goes: over real sockets and real TLS."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import penstock
from certificates import certified, proxy
from penstock.config import Network
from penstock.core.errors import NotSent, ProfileError, Untrusted
from penstock.core.model import Request
from penstock.engine.reaching import proxy_for, trusting
from penstock.engine.transport import Transport
from serving import SOURCES

if TYPE_CHECKING:
    from composing import Raw

TOKEN = "0123456789abcdef0123456789abcdef"
OK = b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok"


async def test_a_certificate_is_believed_where_its_file_is_named_and_else_not(
    raw: Raw, tmp_path: Path
) -> None:
    ca, server_side = certified(tmp_path, "127.0.0.1")
    server = await raw(OK, ssl=server_side)
    request = Request("GET", f"https://127.0.0.1:{server.port}/?X-Amz-Signature=f00d")
    async with Transport(tls=trusting(Network(ca=str(ca)))) as transport:
        assert (await transport.send(request)).body == b"ok"
    async with Transport(tls=trusting(Network())) as transport:
        with pytest.raises(Untrusted, match=r'ca = "FILE" in the profile, or SSL_CERT_FILE') as no:
            await transport.send(request, signed=[("X-SBG-Auth-Token", TOKEN)])
    assert "f00d" not in str(no.value)
    assert len(server.asked) == 1


async def test_a_certificate_of_another_host_is_not_believed(raw: Raw, tmp_path: Path) -> None:
    ca, server_side = certified(tmp_path, "elsewhere.example")
    server = await raw(OK, ssl=server_side)
    async with Transport(tls=trusting(Network(ca=str(ca)))) as transport:
        with pytest.raises(Untrusted):
            await transport.send(Request("GET", f"https://127.0.0.1:{server.port}/"))
    assert server.asked == []


def test_a_file_that_holds_no_certificate_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        trusting(Network(ca=str(tmp_path / "none")))
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(ProfileError, match="holds no certificate"):
        trusting(Network(ca=str(tmp_path / "text")))


PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "straight", "wanted"),
    [
        ("https://api.example/v2", "", PROXY),
        ("http://api.example/v2", "", None),
        ("https://127.0.0.1:8080/v2", "", None),
        ("https://localhost/v2", "", None),
        ("https://[::1]/v2", "", None),
        ("https://api.example/v2", "other.example,example", None),
        ("https://api.example/v2", ".example", None),
        ("https://api.example/v2", "*", None),
        ("https://api.example/v2", "ample", PROXY),
        ("https://10.1.2.3/v2", "10.0.0.0/8", None),
        ("https://11.1.2.3/v2", "10.0.0.0/8", PROXY),
    ],
)
def test_which_urls_go_by_the_proxy(url: str, straight: str, wanted: str | None) -> None:
    assert proxy_for(Network(proxy=PROXY, straight=straight), url) == wanted


async def test_a_proxy_that_refuses_means_that_nothing_was_sent(raw: Raw) -> None:
    for status in (403, 407, 502):
        async with proxy(status) as refusing:
            choose = partial(proxy_for, Network(proxy=refusing.url))
            left: list[int] = []
            async with Transport(proxy=choose) as transport:
                with pytest.raises(NotSent, match=rf"proxy refused to connect \(status {status}\)"):
                    await transport.send(
                        Request("GET", "https://api.example/v2/user"),
                        signed=[("X-SBG-Auth-Token", TOKEN)],
                        on_leave=lambda gone=left: gone.append(1),  # type: ignore[misc]
                    )
            assert left == []
            assert all(head.startswith("CONNECT api.example:443") for head in refusing.heard)
            assert TOKEN not in "".join(refusing.heard)


async def test_a_proxy_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    choose = partial(proxy_for, Network(proxy=f"http://127.0.0.1:{unused_tcp_port}"))
    async with Transport(proxy=choose) as transport:
        with pytest.raises(NotSent, match="no connection to the proxy"):
            await transport.send(Request("GET", "https://api.example/v2/user"))


async def test_a_profile_names_its_proxy_and_its_certificates_and_the_token_passes_sealed(
    raw: Raw, tmp_path: Path
) -> None:
    ca, server_side = certified(tmp_path, "api.example")
    empty = json.dumps({"items": []}).encode()
    head = f"HTTP/1.1 200 x\r\nX-Total-Matching-Query: 0\r\nContent-Length: {len(empty)}\r\n\r\n"
    server = await raw(head.encode() + empty, ssl=server_side)
    async with proxy() as between:
        port = str(between.port)
        (tmp_path / "config.toml").write_text(
            "[profiles.mine]\nplatform = 'sevenbridges'\n"
            f"endpoint = 'https://api.example:{server.port}/v2'\n"
            f"token = 'env:MINE'\nca = 'ca.pem'\nproxy = 'http://me:secret-word@127.0.0.1:{port}'\n"
        )
        environ = {
            "HOME": str(tmp_path),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "MINE": TOKEN,
        }
        listed = await penstock.list_(
            "mine:me/project", config=tmp_path / "config.toml", environ=environ
        )
        assert list(listed) == []
    assert server.asked[0].header("X-SBG-Auth-Token") == TOKEN
    assert server.asked[0].header("Proxy-Authorization") is None
    (head, *_) = between.heard
    assert head.startswith(f"CONNECT api.example:{server.port} ")
    assert "Proxy-Authorization: Basic " in head
    assert TOKEN.encode() not in between.passed
    assert TOKEN not in "".join(between.heard)
    assert ca.exists()


async def test_the_environment_names_proxy_and_certificates_for_plain_urls(
    raw: Raw, tmp_path: Path
) -> None:
    ca, server_side = certified(tmp_path, "files.example")

    async def abc(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"" if server.asked[-1].line.startswith("HEAD") else b"abc"
        writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 3\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()

    server = await raw(abc, ssl=server_side)
    async with proxy() as between:
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "penstock",
            "copy",
            f"https://files.example:{server.port}/a",
            f"{tmp_path}/to/",
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(SOURCES),
                "HOME": str(tmp_path),
                "XDG_STATE_HOME": str(tmp_path / "state"),
                "SSL_CERT_FILE": str(ca),
                "https_proxy": f"127.0.0.1:{between.port}",
                "no_proxy": "localhost",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await asyncio.wait_for(running.communicate(), 30)
    assert running.returncode == 0, (out, said)
    assert (tmp_path / "to/a").read_bytes() == b"abc"
    assert between.heard


def test_a_proxy_that_cannot_be_used_is_warned_of_or_refused(tmp_path: Path) -> None:
    from penstock.config import load

    settings = load({"ALL_PROXY": "socks5://me:secret@h:1080"}, home=tmp_path, config_dir=tmp_path)
    assert settings.network.proxy is None
    assert any("ALL_PROXY is no proxy" in warning for warning in settings.warnings)
    (tmp_path / "config.toml").write_text('[profiles.cavatica]\nproxy = "socks5://me:secret@h"\n')
    with pytest.raises(ProfileError, match="proxy under") as refused:
        load({}, home=tmp_path, config_dir=tmp_path)
    assert "secret" not in str(refused.value)
    (tmp_path / "config.toml").write_text('[profiles.cavatica]\nproxy = "none"\n')
    settings = load({"HTTPS_PROXY": "http://h:1"}, home=tmp_path, config_dir=tmp_path)
    assert settings.profile("cavatica").network.proxy is None
    assert settings.profile("https").network.proxy == "http://h:1"
    assert "h:1" not in repr(settings)


def test_no_setting_turns_verification_off() -> None:
    context = trusting(Network(ca=ssl.get_default_verify_paths().cafile))
    assert context is True or (
        isinstance(context, ssl.SSLContext)
        and context.verify_mode is ssl.CERT_REQUIRED
        and context.check_hostname
    )
