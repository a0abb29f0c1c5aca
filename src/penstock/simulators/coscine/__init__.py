"""Coscine, simulated: its API v2, new and legacy endpoints, and its storage."""

from penstock.simulators.coscine.catalogue import (
    BASE_PROFILE,
    DCMI_TYPES,
    MICROSCOPY_PROFILE,
    SUBJECTS,
    Term,
)
from penstock.simulators.coscine.settings import CoscineSettings, S3Place
from penstock.simulators.coscine.simulator import Coscine, CoscineFile

__all__ = [
    "BASE_PROFILE",
    "DCMI_TYPES",
    "MICROSCOPY_PROFILE",
    "SUBJECTS",
    "Coscine",
    "CoscineFile",
    "CoscineSettings",
    "S3Place",
    "Term",
]
