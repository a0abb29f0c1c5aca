"""Which profiles there are, and what was said about each: files and environment → frozen values.

`load` reads everything once and returns `Settings`; tokens are read later, by `TokenSource.read`,
and only for profiles that are used. The environment, the home folder and the configuration file
are arguments: this package never looks at `os.environ`, so two callers in one process can differ.
No token is ever part of a message, a `repr` or a pickle.
"""

from penstock.config.endpoints import check_endpoint, check_url, is_loopback
from penstock.config.load import load, state_dir
from penstock.config.network import Network
from penstock.config.profiles import BUILT_IN, PLATFORMS, WEB, Profile, Settings
from penstock.config.tokens import Token, TokenSource

__all__ = [
    "BUILT_IN",
    "PLATFORMS",
    "WEB",
    "Network",
    "Profile",
    "Settings",
    "Token",
    "TokenSource",
    "check_endpoint",
    "check_url",
    "is_loopback",
    "load",
    "state_dir",
]
