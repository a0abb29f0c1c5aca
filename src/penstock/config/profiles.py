"""What a profile is, which ones are built in, and how one is found by its name.

Values only: where they come from, and which wins, is `load`'s to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date
from pathlib import Path

from penstock.config.network import Network
from penstock.config.tokens import TokenSource
from penstock.core.errors import ProfileError
from penstock.core.locations import suggestion
from penstock.core.values import quick_value

PLATFORMS = ("sevenbridges", "coscine", "datameta", "surf")

# Requests and the window in seconds, None where the platform counts none.
# Source: Seven Bridges "API rate limit" (1,000 in 5 min); Coscine "API" (500 a minute); SURF
# Research Cloud "API" (1,000 in 60 s for an API key); DataMeta REST documentation (names none).
QUOTAS: Mapping[str, tuple[int, float] | None] = {
    "sevenbridges": (1000, 300.0),
    "coscine": (500, 60.0),
    "datameta": None,
    "surf": (1000, 60.0),
}

# Source: the API overviews of CAVATICA, BioData Catalyst, the CGC and the Seven Bridges Platform
# ("Base URL"); Coscine "API"; SURF Research Cloud "API". DataMeta has one server for each site.
BUILT_IN: Mapping[str, tuple[str, str]] = {
    "cavatica": ("sevenbridges", "https://cavatica-api.sbgenomics.com/v2"),
    "bdc": ("sevenbridges", "https://api.sb.biodatacatalyst.nhlbi.nih.gov/v2"),
    "cgc": ("sevenbridges", "https://cgc-api.sbgenomics.com/v2"),
    "sbg": ("sevenbridges", "https://api.sbgenomics.com/v2"),
    "sbg-eu": ("sevenbridges", "https://eu-api.sbgenomics.com/v2"),
    "coscine": ("coscine", "https://coscine.rwth-aachen.de/coscine/api/v2"),
    "datameta": ("datameta", ""),
    "surf": ("surf", "https://gw.live.surfresearchcloud.nl/v1"),
}


@quick_value(frozen=True, slots=True)
class Profile:
    """A platform, its endpoint, token and quota, under a name.

    `endpoint` is an API root without a trailing slash, '' where none is known yet. `quota` is
    (requests, window in seconds). `share` is the part of it to use, None for all, and
    `weight` what runs that share a quota and find too little divide it by. `token_expires`
    is the day as configured. `settings` are a platform's own, as text.
    `network` is how its hosts, and those it leads to, are reached.
    """

    name: str
    platform: str
    endpoint: str
    quota: tuple[int, float] | None = None
    quota_group: str | None = None
    share: float | None = None
    weight: float = 1.0
    token: TokenSource = field(default_factory=TokenSource)
    token_expires: date | None = None
    insecure: bool = False
    network: Network = field(default_factory=Network)
    settings: Mapping[str, str] = field(default_factory=dict)


# What fetches files by plain URL: no token, no quota, nothing to configure. It goes by the name
# that stands before the colon of such a location.
WEB = Profile("https", "web", "https:")


@quick_value(frozen=True, slots=True)
class Settings:
    """All that was configured. `warnings` are sentences for the user, in order, without secrets.

    `config_file` is the file that was read, or would be. `network` is what the environment says of
    proxies.
    """

    profiles: Mapping[str, Profile]
    config_file: Path
    warnings: tuple[str, ...] = ()
    network: Network = field(default_factory=Network)

    @property
    def names(self) -> tuple[str, ...]:
        """The known profiles' names, sorted: what `locations.parse` takes."""
        return tuple(sorted(self.profiles))

    def profile(self, name: str) -> Profile:
        """The profile `name`, with an endpoint. Reads no token.

        Raises `ProfileError` where it is not known, or has no endpoint.
        """
        if name == WEB.name:
            return replace(WEB, network=self.network)
        profile = self.profiles.get(name)
        if profile is None:
            raise ProfileError(
                f"unknown profile {name!r}; known: {', '.join(self.names)}"
                f"{suggestion(name, self.names)}"
            )
        if not profile.endpoint:
            raise ProfileError(
                f"the profile {name!r} has no endpoint: set {variable(name, 'ENDPOINT')}, or"
                f" endpoint under [profiles.{name}] in {self.config_file}"
            )
        return profile


def variable(name: str, setting: str) -> str:
    """The environment variable of a profile's setting: `PENSTOCK_SBG_EU_TOKEN`."""
    return f"PENSTOCK_{name.upper().replace('-', '_')}_{setting}"
