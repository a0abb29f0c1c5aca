"""Local stand-ins for the platforms, for tests, the demo and strangers: real servers on loopback.

They import nothing of penstock, so that they cannot agree with its mistakes; the public names only.
"""

from penstock.simulators.content import Bytes, Content, Joined, Zeros
from penstock.simulators.coscine import Coscine, CoscineFile, CoscineSettings, S3Place
from penstock.simulators.datameta import (
    DataMeta,
    DataMetaFile,
    DataMetaSettings,
    DataMetaSubmission,
)
from penstock.simulators.faults import Armed, Fault, Faults
from penstock.simulators.host import Exchange
from penstock.simulators.quota import FixedWindow, SlidingWindow, Window
from penstock.simulators.serve import serve
from penstock.simulators.sevenbridges import (
    SevenBridges,
    SevenBridgesSettings,
    StoredFile,
    Upload,
)
from penstock.simulators.storage import Storage, StorageSettings, Violation
from penstock.simulators.surf import Surf, SurfSettings, Workspace

__all__ = [
    "Armed",
    "Bytes",
    "Content",
    "Coscine",
    "CoscineFile",
    "CoscineSettings",
    "DataMeta",
    "DataMetaFile",
    "DataMetaSettings",
    "DataMetaSubmission",
    "Exchange",
    "Fault",
    "Faults",
    "FixedWindow",
    "Joined",
    "S3Place",
    "SevenBridges",
    "SevenBridgesSettings",
    "SlidingWindow",
    "Storage",
    "StorageSettings",
    "StoredFile",
    "Surf",
    "SurfSettings",
    "Upload",
    "Violation",
    "Window",
    "Workspace",
    "Zeros",
    "serve",
]
