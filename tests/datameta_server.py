"""The real DataMeta 1.1.1 server on loopback, from PyPI alone, for as long as tests need it.

PostgreSQL is the one in the wheel `pgserver`; nothing of the system is needed. The virtual
environment is made once (some 40 s) in the user's cache folder, under a digest of its pins. As
root, which PostgreSQL refuses, that one runs as `nobody`, and the cache is the system's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

PINS = Path(__file__).with_name("datameta_requirements.txt")
KEY = "penstockInitialApiKeyForTestsOnly"
OTHER_KEY_PASSWORD = "Us3r-Passw0rd!xy"

_INI = """
[app:main]
use = egg:datameta
datameta.storage_path = {state}/storage
datameta.demo_mode = false
datameta.smtp_host = 127.0.0.1
datameta.smtp_port = 25
datameta.smtp_user =
datameta.smtp_pass =
datameta.smtp_tls =
datameta.smtp_from =
{ids}
datameta.apikeys.max_expiration_period = 30
datameta.tfa.enabled = false
datameta.tfa.encrypt_key =
datameta.tfa.otp_issuer =
pyramid.reload_templates = false
retry.attempts = 10
sqlalchemy.url = postgresql://datameta@/datameta?host={state}/sock
sqlalchemy.isolation_level = SERIALIZABLE
session.type = memory
session.key = datameta
session.secret = loopback-tests-only
session.cookie_on_exception = false

[server:main]
use = egg:waitress#main
listen = 127.0.0.1:{port}
threads = 4
max_request_body_size = 10737418240

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = WARN
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[formatter_generic]
format = %(asctime)s %(levelname)s %(name)s %(message)s
"""

# The wheel ships no migrations, so the tables are made from the models.
_TABLES = """
import sys
from plaster import get_settings
import datameta.models
from datameta.models import get_engine
from datameta.models.meta import Base
Base.metadata.create_all(get_engine(get_settings(sys.argv[1], "app:main")))
"""

# A second user, in another group, for what one's own group may see; and users each in a group of
# their own, for tests that must begin with nothing there: a file that a download URL was ever
# given for cannot be deleted.
FRESH = 60
_USERS = """
import sys, bcrypt
from plaster import get_settings
from datameta.models import Group, User, get_engine, get_session_factory
db = get_session_factory(get_engine(get_settings(sys.argv[1], "app:main")))()
pwhash = bcrypt.hashpw(sys.argv[2].encode(), bcrypt.gensalt(4)).decode()
for number, name in enumerate(sys.argv[3:], 2):
    group = Group(name=f"Group of {name}", site_id=f"DMG-{number:08}")
    db.add(User(email=f"{name}@localhost", fullname=f"User {name}", group=group, enabled=True,
        site_id=f"DMU-{number:08}", site_admin=False, group_admin=False, site_read=False,
        pwhash=pwhash))
db.commit()
db.close()
"""


class NoWheel(Exception):
    """This Python or system has no wheel of something the server is made of."""


def python() -> str:
    """The Python 3.11 that can run the server. Raises `NoWheel` where there is none."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NoWheel(f"the pins are wheels for x86_64 Linux, this is {platform.platform()}")
    if platform.python_version_tuple()[:2] == ("3", "11"):
        return sys.executable
    found = shutil.which("python3.11")
    if found is None:
        raise NoWheel("DataMeta 1.1.1 needs pandas 1.5.3: wheels end at Python 3.11, none here")
    return found


def environment() -> Path:
    """The virtual environment with the server, made now where it is missing."""
    interpreter = python()
    digest = hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]
    own = os.geteuid() != 0
    caches = platformdirs.user_cache_path if own else platformdirs.site_cache_path
    folder = caches("penstock-tests")
    folder.mkdir(parents=True, exist_ok=True)
    venv, done = folder / f"datameta-{digest}", folder / f"datameta-{digest}.done"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(venv, ignore_errors=True)
            _run([interpreter, "-m", "venv", str(venv)])
            pip = [str(venv / "bin/python"), "-m", "pip", "install", "-q", "--no-deps"]
            _run([*pip, "-r", str(PINS)])
            done.touch()
    return venv


def _run(command: list[str], **options: Any) -> str:  # noqa: ANN401 - subprocess's
    ended = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if ended.returncode:
        raise RuntimeError(f"{command[:4]} ended with {ended.returncode}:\n{ended.stdout[-3000:]}")
    return str(ended.stdout)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@dataclass
class DataMetaServer:
    """One server with an empty database. `token` is a site admin's, `other_token` a stranger's."""

    state: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="penstock-dm-")))
    port: int = field(default_factory=_free_port)
    token: str = KEY
    other_token: str = ""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _fresh: Iterator[int] = field(default_factory=lambda: iter(range(FRESH)))

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"{self.root}/api/v1"

    def start(self) -> DataMetaServer:
        venv = environment()
        try:
            self._start(venv)
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self, venv: Path) -> None:
        quiet = {**os.environ, "HOME": str(self.state), "PYTHONWARNINGS": "ignore"}
        plain: dict[str, Any] = {"cwd": "/", "env": quiet}
        as_user = dict(plain)
        self.state.chmod(0o755)
        for name in ("pg", "sock", "storage"):
            (self.state / name).mkdir(mode=0o700)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            as_user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (self.state / "pg", self.state / "sock"):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        (binaries,) = venv.glob("lib/python3*/site-packages/pgserver/pginstall/bin")
        cluster, sock = str(self.state / "pg"), str(self.state / "sock")
        made = [str(binaries / "initdb"), "-D", cluster, "-U", "datameta", "--auth=trust"]
        _run([*made, "--encoding=UTF8", "--locale=C", "-N"], **as_user)
        quick = ["-c", "fsync=off", "-c", "max_connections=200", "-c", "listen_addresses="]
        self._spawn([str(binaries / "postgres"), "-D", cluster, "-k", sock, *quick], as_user)
        psql = [str(binaries / "psql"), "-h", sock, "-U", "datameta", "-d", "postgres"]
        self._wait(lambda: bool(_run([*psql, "-c", "create database datameta"], **as_user)))
        ini = self.state / "datameta.ini"
        kinds = ("users", "groups", "submissions", "metadatasets", "files", "services")
        letters = zip(kinds, "UGSRFP", strict=True)
        ids = "\n".join(
            f"datameta.site_id_digits.{kind} = 8\ndatameta.site_id_prefix.{kind} = DM{letter}-"
            for kind, letter in letters
        )
        ini.write_text(_INI.format(state=self.state, port=self.port, ids=ids))
        interpreter = str(venv / "bin/python")
        _run([interpreter, "-c", _TABLES, str(ini)], **plain)
        init = [str(venv / "bin/initialize_datameta_db"), "-c", str(ini), "-un", "Admin"]
        init += ["-ue", "admin@localhost", "-up", "Adm1n-Passw0rd!x", "-g", "Test Group"]
        _run([*init, "-ak", KEY], **plain)
        names = ["other", *(f"fresh{number}" for number in range(FRESH))]
        _run([interpreter, "-c", _USERS, str(ini), OTHER_KEY_PASSWORD, *names], **plain)
        self._spawn([str(venv / "bin/pserve"), str(ini)], plain)
        self._wait(lambda: self.ask("GET", "/server")[0] == 200)
        self.other_token = self._key_of("other")

    def _key_of(self, name: str) -> str:
        login = {"email": f"{name}@localhost", "password": OTHER_KEY_PASSWORD, "label": "tests"}
        token: str = self.ask("POST", "/keys", login, token="none")[1]["token"]
        return token

    def fresh_token(self) -> str:
        """The key of a user who has nothing there, in a group of their own."""
        return self._key_of(f"fresh{next(self._fresh)}")

    def _spawn(self, command: list[str], options: dict[str, Any]) -> None:
        with (self.state / f"{Path(command[0]).name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options
                )
            )

    def _wait(self, ready: Any) -> None:  # noqa: ANN401 - a question without arguments
        reason: Exception | None = None
        for _ in range(600):
            for process in self._processes:
                if process.poll() is not None:
                    logs = "".join(path.read_text()[-1500:] for path in self.state.glob("*.log"))
                    raise RuntimeError(f"{process.args!r} ended at once:\n{logs}")
            try:
                if ready():
                    return
            except (OSError, RuntimeError) as error:
                reason = error
            time.sleep(0.1)
        raise RuntimeError(f"DataMeta did not answer within 60 s: {reason}")

    def stop(self) -> None:
        """The web server, then the database, ended by their ids; nothing is left on the disk."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._processes.clear()
        shutil.rmtree(self.state, ignore_errors=True)

    def store(self, name: str, content: bytes, token: str | None = None) -> str:
        """The id of a file that stands on the server, sent by nothing of ours."""
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        announced = self.ask("POST", "/files", {"name": name, "checksum": digest}, token)[1]
        head = '--b\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
        form = urllib.request.Request(  # noqa: S310 - loopback
            announced["urlToUpload"],
            data=head.encode() + content + b"\r\n--b--\r\n",
            headers={
                "Content-Type": "multipart/form-data; boundary=b",
                **announced["requestHeaders"],
            },
        )
        with urllib.request.urlopen(form, timeout=60):  # noqa: S310 - loopback
            file_id: str = announced["id"]["uuid"]
        assert self.ask("PUT", f"/files/{file_id}", {"contentUploaded": True}, token)[0] == 200
        return file_id

    def pending(self, token: str | None = None) -> dict[str, dict[str, Any]]:
        """A user's own files that are confirmed and not submitted, by id."""
        files = self.ask("GET", "/ui/pending", token=token, above="/api")[1]["files"]
        return {file["id"]["uuid"]: file for file in files}

    def delete_pending(self) -> None:
        """None of the admin's is left, but those that a download URL was given for: 500."""
        left = list(self.pending())
        if left and self.ask("POST", "/rpc/delete-files", {"fileIds": left})[0] != 204:
            for file_id in left:
                self.ask("DELETE", f"/files/{file_id}")

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str | None = None,
        above: str = "/api/v1",
    ) -> tuple[int, Any]:
        """Status and JSON of one call of the API, with no code of ours between."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            self.root + above + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.token if token is None else token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as refused:
            with refused:
                text, status = refused.read(), refused.code
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, None
