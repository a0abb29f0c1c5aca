"""Built-in values, `config.toml`, Seven Bridges' own files and the environment → `Settings`.

Nearest wins, setting by setting: `PENSTOCK_<PROFILE>_…`, then `config.toml`, then (for profiles of
Seven Bridges) `SB_*` and `~/.sevenbridges/credentials`, then what is built in. What the user wrote
wrongly is an error even in a profile that is not used: a slip found now is cheaper than one found
by a run at night. What is merely missing is an error when the profile is used.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date, datetime
from pathlib import Path

import platformdirs

from penstock.config import network, official, tokens
from penstock.config.endpoints import check_endpoint
from penstock.config.network import Network
from penstock.config.profiles import BUILT_IN, PLATFORMS, QUOTAS, Profile, Settings, variable
from penstock.config.tokens import TokenSource
from penstock.core.errors import ProfileError, UsageError
from penstock.core.locations import PROFILE_NAME, suggestion
from penstock.core.units import parse_quota, parse_share
from penstock.core.values import quick_value

_LARGEST_CONFIG = 1 << 20
_VARIABLE = re.compile(r"PENSTOCK_([A-Z0-9_]{2,64})_(ENDPOINT|TOKEN|QUOTA|PLATFORM)")
_KEYS = (
    "platform",
    "endpoint",
    "token",
    "quota",
    "quota_group",
    "share",
    "weight",
    "token_expires",
    "insecure",
    "ca",
    "proxy",
    "settings",
)
# Where a platform has one service, a further profile of it needs no endpoint of its own.
_ONE_SERVICE = {"coscine": BUILT_IN["coscine"][1], "surf": BUILT_IN["surf"][1]}


def load(
    environ: Mapping[str, str],
    *,
    config_file: Path | str | None = None,
    home: Path | None = None,
    config_dir: Path | None = None,
    to_write: bool = False,
) -> Settings:
    """Everything configured. Reads files; asks no key ring, and reads no token's file.

    `config_file` (`--config`) comes before `PENSTOCK_CONFIG`, that before `config.toml` in
    `config_dir` (default: the user's configuration folder). The last need not exist; none need
    where the file is about to be written (`to_write`). Raises `ProfileError` for a file that
    cannot be read or is no TOML, and for settings that make no sense.
    """
    home = home or Path(environ.get("HOME") or Path.home())
    named = config_file or environ.get("PENSTOCK_CONFIG") or None
    path = (
        tokens.expanded(str(named), home=home, folder=Path())
        if named is not None
        else (config_dir or _user_folder(environ, "XDG_CONFIG_HOME")) / "config.toml"
    )
    warnings: list[str] = []
    tables = _tables(_read_toml(path, must_exist=named is not None and not to_write), path)
    environment = _by_profile(environ)
    names = _names(tables, environment, warnings)
    around = network.from_environment(environ, warnings)
    reader = _Reader(
        environ=environ,
        home=home,
        path=path,
        warnings=warnings,
        environment=environment,
        sb=official.from_environment(environ, warnings),
        sections=official.from_file(home, warnings),
        network=around,
    )
    profiles = {name: reader.profile(name, tables.get(name, {})) for name in names}
    profiles = reader.with_official(profiles)
    _warn_of_literals(path, tables, profiles, warnings)
    return Settings(profiles, path, tuple(warnings), around)


def state_dir(environ: Mapping[str, str]) -> Path:
    """The user's state folder for penstock. Makes nothing."""
    return _user_folder(environ, "XDG_STATE_HOME")


def _user_folder(environ: Mapping[str, str], xdg: str) -> Path:
    # The caller's environment decides, where it says something; else the process's own.
    base = environ.get(xdg, "")
    if sys.platform not in ("win32", "darwin") and Path(base).is_absolute():
        return Path(base) / "penstock"
    if xdg == "XDG_STATE_HOME":
        return platformdirs.user_state_path("penstock")
    return platformdirs.user_config_path("penstock")


def _read_toml(path: Path, *, must_exist: bool) -> Mapping[str, object]:
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST_CONFIG).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise ProfileError(f"the configuration file {path} does not exist") from None
        return {}
    except OSError as error:
        raise ProfileError(
            f"the configuration file {path} cannot be read: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise ProfileError(f"the configuration file {path} is not UTF-8") from None
    import tomllib  # noqa: PLC0415 - most have no such file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its message has the line and column, and never the line itself.
        raise ProfileError(f"the configuration file {path} is not TOML: {error}") from None
    except (RecursionError, ValueError):
        raise ProfileError(f"the configuration file {path} cannot be read as TOML") from None


def _tables(config: Mapping[str, object], path: Path) -> dict[str, Mapping[str, object]]:
    """The `[profiles.NAME]` tables. Raises `ProfileError` for keys that nobody knows."""
    for key in config:
        if key != "profiles":
            raise ProfileError(f"{path}: unknown key {key!r}{suggestion(key, ('profiles',))}")
    profiles = config.get("profiles", {})
    if not isinstance(profiles, dict):
        raise ProfileError(f"{path}: 'profiles' must be tables, as in [profiles.my-coscine]")
    tables: dict[str, Mapping[str, object]] = {}
    seen: dict[str, str] = {}
    for name, table in profiles.items():
        if not PROFILE_NAME.fullmatch(name):
            raise ProfileError(
                f"{path}: {name!r} cannot name a profile: 2 to 64 letters, digits, '-' and '_'"
            )
        if not isinstance(table, dict):
            raise ProfileError(f"{path}: profiles.{name} must be a table: [profiles.{name}]")
        other = seen.setdefault(variable(name, "TOKEN"), name)
        twin = other if other != name else _built_in_twin(name)
        if twin:
            raise ProfileError(
                f"{path}: the profiles {twin!r} and {name!r} would share their environment"
                " variables; rename one"
            )
        for key in table:
            if key not in _KEYS:
                raise ProfileError(
                    f"{path}: unknown key {key!r} under [profiles.{name}]{suggestion(key, _KEYS)}"
                )
        tables[name] = table
    return tables


def _built_in_twin(name: str) -> str | None:
    return next(
        (b for b in BUILT_IN if b != name and variable(b, "TOKEN") == variable(name, "TOKEN")), None
    )


def _by_profile(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """`PENSTOCK_<X>_<SETTING>` as {X: {SETTING: value}}; an empty value is none."""
    found: dict[str, dict[str, str]] = {}
    for key, value in environ.items():
        match = _VARIABLE.fullmatch(key)
        if match and value.strip():
            found.setdefault(match[1], {})[match[2]] = value
    return found


def _stem(name: str) -> str:
    return name.upper().replace("-", "_")


def _names(
    tables: Mapping[str, object], environment: Mapping[str, Mapping[str, str]], warnings: list[str]
) -> list[str]:
    """The profiles there are: built in, in the file, or with an endpoint in the environment."""
    names = [*BUILT_IN, *(name for name in tables if name not in BUILT_IN)]
    known = {_stem(name) for name in names}
    for stem in sorted(environment.keys() - known):
        name = stem.lower().replace("_", "-")
        if "ENDPOINT" in environment[stem] and PROFILE_NAME.fullmatch(name):
            names.append(name)
        else:
            near = suggestion(stem, tuple(known))
            warnings.extend(
                f"PENSTOCK_{stem}_{setting} is set, but no profile is so called{near}"
                for setting in sorted(environment[stem])
            )
    return names


@quick_value(frozen=True, slots=True)
class _Reader:
    """What profiles are read from. Methods return values; only `warnings` grows."""

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    path: Path
    warnings: list[str]
    environment: Mapping[str, Mapping[str, str]] = field(repr=False)
    sb: official.Credentials
    sections: tuple[official.Credentials, ...]
    network: Network = field(default_factory=Network)

    def profile(self, name: str, table: Mapping[str, object]) -> Profile:
        """The profile as built in, configured and set; without what the official client knows."""
        said = self.environment.get(_stem(name), {})
        platform = self._platform(name, table, said)
        insecure = table.get("insecure", False)
        if not isinstance(insecure, bool):
            raise ProfileError(f"{self._key(name, 'insecure')} must be true or false")
        return Profile(
            name=name,
            platform=platform,
            endpoint=self._endpoint(name, table, said, platform=platform, insecure=insecure),
            quota=self._quota(name, table, said, platform),
            quota_group=self._text(name, table, "quota_group"),
            share=self._share(name, table),
            weight=self._weight(name, table),
            token=self._token(name, table, said),
            token_expires=self._expiry(name, table),
            insecure=insecure,
            network=network.of_profile(
                table,
                lambda key: self._key(name, key),
                self.network,
                lambda text: str(tokens.expanded(text, home=self.home, folder=self.path.parent)),
            ),
            settings=self._settings(name, table),
        )

    def with_official(self, profiles: Mapping[str, Profile]) -> dict[str, Profile]:
        """The profiles, with what Seven Bridges' own client would use where they lack it."""
        ours = {p.endpoint for p in profiles.values() if p.platform == "sevenbridges"}
        completed = {}
        for name, profile in profiles.items():
            endpoint = profile.endpoint or self._official_endpoint(name, profile, ours)
            source = profile.token
            if source.kind == "none":
                source = self._official_token(name, profile.platform, endpoint)
            completed[name] = replace(profile, endpoint=endpoint, token=source)
        return completed

    def _official_endpoint(self, name: str, profile: Profile, ours: set[str]) -> str:
        """SB_API_ENDPOINT for `sbg` where no profile has it; the section's; the built-in one."""
        usual = BUILT_IN.get(name, ("", ""))[1] or _ONE_SERVICE.get(profile.platform, "")
        if profile.platform != "sevenbridges":
            return usual
        taken = ours | {endpoint for _, endpoint in BUILT_IN.values()}
        if name == "sbg" and self.sb.endpoint and self.sb.endpoint not in taken:
            return self.sb.endpoint
        named = [c.endpoint for c in self.sections if c.name == name and c.endpoint]
        return named[0] if named else usual

    def _official_token(self, name: str, platform: str, endpoint: str) -> TokenSource:
        label = f"the token of the profile {name!r}"
        ways = (
            f"the profile {name!r} has no token: set {variable(name, 'TOKEN')}, or"
            f' token = "env:NAME" (or "keyring:SERVICE/USER", "file:PATH") under'
            f" [profiles.{name}] in {self.path}"
        )
        if platform != "sevenbridges":
            return tokens.lacking(ways, label=label)
        chosen = official.choose(name, endpoint, self.sb, self.sections)
        if chosen is None:
            if self.sb.token:
                ways += (
                    f". SB_AUTH_TOKEN is set, but not for this endpoint ({endpoint or 'none'}):"
                    " SB_API_ENDPOINT says which it is for"
                )
            return tokens.lacking(ways, label=label)
        if chosen is self.sb:
            return tokens.given(chosen.token, variable="SB_AUTH_TOKEN", label=label)
        place = f"[{chosen.name}] in ~/.sevenbridges/credentials"
        return tokens.credential(chosen.token, place=place, label=label)

    def _key(self, name: str, key: str) -> str:
        return f"{key} under [profiles.{name}] in {self.path}"

    def _text(self, name: str, table: Mapping[str, object], key: str) -> str | None:
        value = table.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            raise ProfileError(f"{self._key(name, key)} must be a text in quotes, and not empty")
        return value

    def _platform(self, name: str, table: Mapping[str, object], said: Mapping[str, str]) -> str:
        built_in = BUILT_IN.get(name, (None, ""))[0]
        platform, where = self._text(name, table, "platform"), self._key(name, "platform")
        if "PLATFORM" in said:
            platform, where = said["PLATFORM"], variable(name, "PLATFORM")
        if platform is None:
            if built_in is None and table:
                raise ProfileError(f"{where} is missing: one of {', '.join(PLATFORMS)}")
            # A profile that stands in the environment alone.
            return built_in or "sevenbridges"
        if platform not in PLATFORMS:
            raise ProfileError(
                f"{where} is {platform!r}, which is none of {', '.join(PLATFORMS)}"
                f"{suggestion(platform, PLATFORMS)}"
            )
        if built_in not in (None, platform):
            raise ProfileError(f"{where} is {platform!r}, but {name!r} is built in as {built_in}")
        return platform

    def _endpoint(
        self,
        name: str,
        table: Mapping[str, object],
        said: Mapping[str, str],
        *,
        platform: str,
        insecure: bool,
    ) -> str:
        """What was set, checked; '' where nothing was."""
        text, where = self._text(name, table, "endpoint"), self._key(name, "endpoint")
        if "ENDPOINT" in said:
            text, where = said["ENDPOINT"], variable(name, "ENDPOINT")
        if text is None:
            return ""
        return check_endpoint(text, platform=platform, insecure=insecure, where=where)

    def _quota(
        self, name: str, table: Mapping[str, object], said: Mapping[str, str], platform: str
    ) -> tuple[int, float] | None:
        text, where = self._text(name, table, "quota"), self._key(name, "quota")
        if "QUOTA" in said:
            text, where = said["QUOTA"], variable(name, "QUOTA")
        if text is None:
            return QUOTAS[platform]
        try:
            return parse_quota(text)
        except UsageError as error:
            raise ProfileError(f"{where}: {error}") from None

    def _weight(self, name: str, table: Mapping[str, object]) -> float:
        value = table.get("weight", 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:  # noqa: PLR2004
            raise ProfileError(
                f"{self._key(name, 'weight')} must be a number above 0, at most 1000"
            )
        return float(value)

    def _share(self, name: str, table: Mapping[str, object]) -> float | None:
        value = table.get("share")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ProfileError(f'{self._key(name, "share")} must be 0.8 or "1/20"')
        try:
            return parse_share(value)
        except UsageError as error:
            raise ProfileError(f"{self._key(name, 'share')}: {error}") from None

    def _token(
        self, name: str, table: Mapping[str, object], said: Mapping[str, str]
    ) -> TokenSource:
        label = f"the token of the profile {name!r}"
        if "TOKEN" in said:
            where = variable(name, "TOKEN")
            source = tokens.parse_source(
                said["TOKEN"], label=where, environ=self.environ, home=self.home, folder=Path()
            )
            if source.kind == "literal":
                return tokens.given(said["TOKEN"], variable=where, label=label)
            return tokens.relabelled(source, label)
        text = self._text(name, table, "token")
        if text is None:
            return TokenSource()
        return tokens.parse_source(
            text, label=label, environ=self.environ, home=self.home, folder=self.path.parent
        )

    def _expiry(self, name: str, table: Mapping[str, object]) -> date | None:
        value = table.get("token_expires")
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.date()
        if isinstance(value, date):
            return value
        try:
            if isinstance(value, str):
                return date.fromisoformat(value.strip())
        except ValueError:
            pass
        raise ProfileError(f'{self._key(name, "token_expires")} must be a day, as in "2027-03-31"')

    def _settings(self, name: str, table: Mapping[str, object]) -> Mapping[str, str]:
        value = table.get("settings", {})
        if not isinstance(value, dict):
            raise ProfileError(f"{self._key(name, 'settings')} must be a table")
        for key, text in value.items():
            if not isinstance(text, str):
                raise ProfileError(f"{self._key(name, f'settings.{key}')} must be a text in quotes")
        return dict(value)


def _warn_of_literals(
    path: Path,
    tables: Mapping[str, Mapping[str, object]],
    profiles: Mapping[str, Profile],
    warnings: list[str],
) -> None:
    """Of tokens that stand in `config.toml`, and of others being able to read it."""
    literal = [name for name in tables if profiles[name].token.kind == "literal"]
    warnings.extend(
        f"the token of the profile {name!r} stands in {path} itself; better there:"
        ' "env:NAME", "keyring:SERVICE/USER" or "file:PATH"'
        for name in literal
    )
    if not any(_stands_literally(table) for table in tables.values()) or os.name != "posix":
        return
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & 0o044:
        warnings.append(f"{path} holds a token and other users can read it: chmod 600 {path}")


def _stands_literally(table: Mapping[str, object]) -> bool:
    token = table.get("token")
    return isinstance(token, str) and not token.strip().startswith(("env:", "keyring:", "file:"))
