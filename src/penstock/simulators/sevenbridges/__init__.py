"""The Seven Bridges API v2 (SB Platform, CGC, CAVATICA, BioData Catalyst), simulated."""

from penstock.simulators.sevenbridges.settings import SevenBridgesSettings
from penstock.simulators.sevenbridges.simulator import SevenBridges
from penstock.simulators.sevenbridges.state import StoredFile
from penstock.simulators.sevenbridges.uploads import Upload

__all__ = ["SevenBridges", "SevenBridgesSettings", "StoredFile", "Upload"]
