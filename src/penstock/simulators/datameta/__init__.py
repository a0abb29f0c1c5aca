"""DataMeta, simulated: files, records and submissions of one server. It has no quota."""

from penstock.simulators.datameta.settings import DataMetaSettings
from penstock.simulators.datameta.simulator import DataMeta, DataMetaFile, DataMetaSubmission

__all__ = ["DataMeta", "DataMetaFile", "DataMetaSettings", "DataMetaSubmission"]
