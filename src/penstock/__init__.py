"""Move very many files through research-data platforms whose APIs are rationed.

    import asyncio, penstock

    report = asyncio.run(penstock.copy("cavatica:me/project", "data/"))

Public names are loaded when first used, so that `import penstock` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.api.acting import ActionReport
    from penstock.api.checking import check, quota
    from penstock.api.copying import Report, copy
    from penstock.api.describing import Described, metadata, metadata_columns
    from penstock.api.listing import Entry, list_
    from penstock.api.planning import Plan, plan
    from penstock.api.running import running
    from penstock.api.verifying import Difference, Verification, verify
    from penstock.api.workspaces import workspaces
    from penstock.core.actionreport import ActionLine, ActionSummary
    from penstock.core.errors import (
        ActionsFailed,
        Interrupted,
        PenstockError,
        RunStopped,
        TokenRefused,
        TransferError,
        UsageError,
    )
    from penstock.core.report import Line, Summary
    from penstock.quotas import QuotaUse

__version__ = "0.1.0"

__all__ = [
    "ActionLine",
    "ActionReport",
    "ActionSummary",
    "ActionsFailed",
    "Described",
    "Difference",
    "Entry",
    "Interrupted",
    "Line",
    "PenstockError",
    "Plan",
    "QuotaUse",
    "Report",
    "RunStopped",
    "Summary",
    "TokenRefused",
    "TransferError",
    "UsageError",
    "Verification",
    "__version__",
    "check",
    "copy",
    "list_",
    "metadata",
    "metadata_columns",
    "plan",
    "quota",
    "running",
    "verify",
    "workspaces",
]

_HOMES = {
    "penstock.api.checking": ("check", "quota"),
    "penstock.api.copying": ("Report", "copy"),
    "penstock.api.describing": ("Described", "metadata", "metadata_columns"),
    "penstock.api.listing": ("Entry", "list_"),
    "penstock.api.planning": ("Plan", "plan"),
    "penstock.api.verifying": ("Difference", "Verification", "verify"),
    "penstock.api.acting": ("ActionReport",),
    "penstock.api.running": ("running",),
    "penstock.api.workspaces": ("workspaces",),
    "penstock.core.actionreport": ("ActionLine", "ActionSummary"),
    "penstock.quotas": ("QuotaUse",),
    "penstock.core.errors": (
        "ActionsFailed",
        "Interrupted",
        "PenstockError",
        "RunStopped",
        "TokenRefused",
        "TransferError",
        "UsageError",
    ),
    "penstock.core.report": ("Line", "Summary"),
}


def __getattr__(name: str) -> object:
    """The public name, from the module that defines it."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'penstock' has no attribute {name!r}")
