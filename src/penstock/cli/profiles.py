"""`penstock profiles`: which there are, what is known of one, and whether its token is good.

No token is ever shown, whole or in part; only where it is read from.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from penstock.cli import options, running, terminal
from penstock.cli.menu import Menu
from penstock.config import PLATFORMS, Profile, Settings, load
from penstock.core.errors import PenstockError, ProfileError, UsageError
from penstock.core.locations import PROFILE_NAME
from penstock.core.units import format_duration


@click.group(cls=Menu)
def profiles() -> None:
    """Platforms, their endpoints, tokens and quotas, under names."""


def _settings(config: str | None, *, to_write: bool = False) -> Settings:
    return load(os.environ, config_file=config, to_write=to_write)


def _warn(settings: Settings) -> None:
    for warning in settings.warnings:
        terminal.complain(warning)


@profiles.command(name="list")
@options.config
@options.debug
def list_(config: str | None, debug: bool) -> int:  # noqa: FBT001, ARG001 - click's
    """Every profile: name, platform, quota, token, endpoint."""
    settings = _settings(config)
    rows = [("profile", "platform", "quota", "token", "endpoint")]
    rows += [
        (name, profile.platform, quota_of(profile), token_of(profile), profile.endpoint or "-")
        for name, profile in settings.profiles.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        terminal.put("  ".join(cells).rstrip())
    _warn(settings)
    return 0


@profiles.command()
@click.argument("name")
@options.config
@options.debug
def show(name: str, config: str | None, debug: bool) -> int:  # noqa: FBT001, ARG001 - click's
    """What is set for the profile NAME, and by which variables it can be changed."""
    settings = _settings(config)
    profile = settings.profiles.get(name) or settings.profile(name)
    stem = f"PENSTOCK_{name.upper().replace('-', '_')}"
    rows = [
        ("profile", name),
        ("platform", profile.platform),
        ("endpoint", profile.endpoint or "none: it has to be set"),
        ("quota", quota_of(profile)),
        ("quota group", profile.quota_group or "-"),
        ("share", f"{profile.share:g}" if profile.share is not None else "all of it"),
        ("weight", f"{profile.weight:g}"),
        ("token", token_of(profile)),
        ("token expires", str(profile.token_expires or "not said")),
        ("variables", f"{stem}_ENDPOINT {stem}_TOKEN {stem}_QUOTA"),
        ("configuration", str(settings.config_file)),
    ]
    for label, value in rows:
        terminal.put(f"{label:<13}  {value}")
    _warn(settings)
    return 0


@profiles.command()
@click.argument("name")
@options.quota_store
@options.state
@options.config
@options.debug
def check(
    name: str,
    quota_store: str | None,
    state: str | None,
    config: str | None,
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
) -> int:
    """Try the profile NAME's token by one request, also one that was refused before."""
    from penstock.api.checking import check as ask  # noqa: PLC0415 - slow to import

    profile = _settings(config).profile(name)
    running.run(
        lambda: ask(name, state=state, config=config, quota_store=quota_store),
        running.Signals(None),
    )
    terminal.put(f"{name}: ok, {profile.endpoint} accepts the token")
    return 0


@profiles.command()
@click.argument("name")
@click.option("--platform", type=click.Choice(PLATFORMS), help="For a name that is not built in.")
@click.option("--endpoint", metavar="URL", help="The API root, version included.")
@click.option(
    "--token", metavar="REF", help="Where the token is: env:NAME, keyring:SERVICE/USER, file:PATH."
)
@click.option("--quota", metavar="N/T", help="Requests per window: 500/60s.")
@click.option("--quota-group", metavar="NAME", help="Profiles that share one window.")
@click.option("--token-expires", metavar="DAY", help="2027-03-31, where the platform does not say.")
@options.config
@options.debug
def add(
    name: str,
    config: str | None,
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
    **values: str | None,
) -> int:
    """Write the profile NAME into the configuration, or change what is said of it.

    A token itself is never taken: it would stand in the shell's history.
    """
    from penstock.config.edit import write_profile  # noqa: PLC0415 - rarely needed

    said = {key: value for key, value in values.items() if value is not None}
    if not said:
        raise UsageError("say something of the profile: --endpoint, --token, --quota, …")
    token = said.get("token")
    if token is not None and not token.startswith(("env:", "keyring:", "file:")):
        raise UsageError(
            "--token says where the token is (env:NAME, keyring:SERVICE/USER, file:PATH), not"
            " what it is"
        )
    settings = _settings(config, to_write=True)
    if not PROFILE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a profile: 2 to 64 letters, digits, '-' and '_'")
    write_profile(settings.config_file, name, said)
    terminal.put(
        f"{name}: written to {settings.config_file}; try it: penstock profiles check {name}"
    )
    return 0


@profiles.command()
@click.argument("name")
@options.config
@options.debug
def remove(name: str, config: str | None, debug: bool) -> int:  # noqa: FBT001, ARG001 - click's
    """Take the profile NAME out of the configuration; one that is built in stays as it was."""
    from penstock.config.edit import remove_profile  # noqa: PLC0415 - rarely needed

    settings = _settings(config)
    if not remove_profile(settings.config_file, name):
        raise ProfileError(f"nothing is said of {name!r} in {settings.config_file}")
    terminal.put(f"{name}: taken out of {settings.config_file}")
    return 0


def quota_of(profile: Profile) -> str:
    """`1,000/5 min 00 s`, or that there is none."""
    if profile.quota is None:
        return "none known"
    requests, window_s = profile.quota
    return f"{requests:,} per {format_duration(window_s)}"


def token_of(profile: Profile) -> str:
    """Where the token is read from, and whether there is one. A key ring is not asked."""
    source = profile.token
    match source.kind:
        case "none":
            return "not set"
        case "keyring":
            return f"set, keyring:{source.where}"
        case "file" if not Path(source.where).is_file():
            return f"not set: file:{source.where} is missing"
        case "literal":
            origin = "in the configuration"
        case "credentials":
            origin = source.where
        case kind:
            origin = f"{kind}:{source.where}"
    try:
        source.read()
    except ProfileError:
        return f"not set: {origin} holds none"
    except PenstockError:
        return f"cannot be read: {origin}"
    return f"set, {origin}"
