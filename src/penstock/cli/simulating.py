"""`penstock simulate PLATFORM`: a local stand-in, served until it is interrupted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

import click

from penstock.cli import options, running, terminal
from penstock.core.errors import Interrupted, UsageError
from penstock.core.units import parse_quota

# The profile that the line on how to use it names, what is announced last, and what to try.
_PROFILES = {
    "coscine": "coscine",
    "datameta": "datameta",
    "sevenbridges": "cavatica",
    "surf": "surf",
}
_LAST = {
    "coscine": "resource",
    "datameta": "token",
    "sevenbridges": "project",
    "surf": "workspaces",
}
_TRY = {
    "coscine": "penstock copy FOLDER {profile}:{project}/{resource}/",
    "datameta": "penstock copy FOLDER {profile}:",
    "sevenbridges": "penstock copy FOLDER {profile}:{project}/",
    "surf": "penstock workspaces pause --all --profile {profile}",
}

_WITHOUT_QUOTA = {"datameta"}


@click.command()
@click.argument("platform", type=click.Choice(sorted(_PROFILES)))
@click.option(
    "--quota",
    metavar="N/T",
    callback=options.read_by(parse_quota),
    help="Requests per window: 1000/300s.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Where the API listens. Default: any free port.",
)
@options.debug
def simulate(
    platform: str,
    quota: tuple[int, float] | None,
    port: int,
    debug: bool,  # noqa: FBT001, ARG001 - its callback has done it
) -> int:
    """Serve PLATFORM on this machine until interrupted: an empty place, or some workspaces.

    Prints its endpoint, its token, what it serves, and how to point a profile at it.
    """
    if quota is not None and platform in _WITHOUT_QUOTA:
        raise UsageError(f"{platform} has no quota; leave out --quota")
    from penstock import simulators  # noqa: PLC0415 - slow to import

    made: dict[str, Callable[..., object]] = {
        "coscine": simulators.CoscineSettings,
        "datameta": simulators.DataMetaSettings,
        "sevenbridges": simulators.SevenBridgesSettings,
        "surf": simulators.SurfSettings,
    }
    limited = {} if quota is None else {"quota": quota[0], "window_s": quota[1]}
    settings = made[platform](**limited)
    told: dict[str, str] = {}

    def announce(line: str) -> None:
        name, _, value = line.partition(": ")
        told[name] = value
        terminal.put(line)
        if name == _LAST[platform]:
            terminal.put(f"use: {how_to_use(platform, told, quota)}")
        sys.stdout.flush()

    try:
        running.run(
            lambda: simulators.serve(platform, settings, announce=announce, port=port),
            running.Signals(None),
        )
    except Interrupted:
        return 0
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(
            f"port {port} cannot be served: {error.strerror}; choose another with --port, or leave"
            " it out"
        ) from error
    return 0


def how_to_use(platform: str, told: dict[str, str], quota: tuple[int, float] | None) -> str:
    """Commands for another terminal."""
    profile = _PROFILES[platform]
    stem = f"PENSTOCK_{profile.upper()}"
    settings = f"export {stem}_ENDPOINT={shlex.quote(told['endpoint'])}"
    settings += f" {stem}_TOKEN={shlex.quote(told['token'])}"
    if quota is not None:
        settings += f" {stem}_QUOTA={quota[0]}/{quota[1]:g}s"
    return f"{settings}; {_TRY[platform].format(profile=profile, **told)}"
