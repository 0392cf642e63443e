"""The settings ledger: eCommerce settings with a memory.

Public names, each loaded when it is first asked for. This module is also the home of the
stored topics: ``ledger:SettingsCreated`` must resolve here for as long as a log is read.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.acting import elevate
    from ledger.aggregate import SettingsChanged, SettingsCreated
    from ledger.assembly import Ledger
    from ledger.identity import Identity
    from ledger.settings import SettingsKind, SettingsModel

__all__ = [
    "Identity",
    "Ledger",
    "SettingsChanged",
    "SettingsCreated",
    "SettingsKind",
    "SettingsModel",
    "elevate",
]

_HOMES = {
    "Identity": "ledger.identity",
    "Ledger": "ledger.assembly",
    "SettingsChanged": "ledger.aggregate",
    "SettingsCreated": "ledger.aggregate",
    "elevate": "ledger.acting",
    "SettingsKind": "ledger.settings",
    "SettingsModel": "ledger.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(_HOMES[name]), name)
