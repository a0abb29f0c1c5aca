"""`penstock simulate PLATFORM`: a local stand-in, served until it is interrupted."""

from __future__ import annotations

import shlex
import sys

import click

from penstock.cli import options, running, terminal
from penstock.core.errors import Interrupted, UsageError
from penstock.core.units import parse_quota

# The profile that the line on how to use it names.
_PROFILES = {"sevenbridges": "cavatica"}


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
    """Serve PLATFORM on this machine, with one empty project, until interrupted.

    Prints its endpoint, token and project, and how to point a profile at it.
    """
    from penstock.simulators import SevenBridgesSettings, serve  # noqa: PLC0415 - slow to import

    settings = SevenBridgesSettings()
    if quota is not None:
        settings = SevenBridgesSettings(quota=quota[0], window_s=quota[1])
    told: dict[str, str] = {}

    def announce(line: str) -> None:
        name, _, value = line.partition(": ")
        told[name] = value
        terminal.put(line)
        if len(told) == len(("endpoint", "token", "project")):
            terminal.put(f"use: {how_to_use(_PROFILES[platform], told, quota)}")
        sys.stdout.flush()

    try:
        running.run(
            lambda: serve(platform, settings, announce=announce, port=port), running.Signals(None)
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


def how_to_use(profile: str, told: dict[str, str], quota: tuple[int, float] | None) -> str:
    """Commands for another terminal."""
    stem = f"PENSTOCK_{profile.upper()}"
    settings = f"export {stem}_ENDPOINT={shlex.quote(told['endpoint'])}"
    settings += f" {stem}_TOKEN={shlex.quote(told['token'])}"
    if quota is not None:
        settings += f" {stem}_QUOTA={quota[0]}/{quota[1]:g}s"
    return f"{settings}; penstock copy FOLDER {profile}:{told['project']}/"
