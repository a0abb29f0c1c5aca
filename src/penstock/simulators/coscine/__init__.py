"""Coscine, simulated: its API v2, new and legacy endpoints, and its storage."""

from penstock.simulators.coscine.settings import CoscineSettings, S3Place
from penstock.simulators.coscine.simulator import Coscine, CoscineFile

__all__ = ["Coscine", "CoscineFile", "CoscineSettings", "S3Place"]
