"""The HTTP API: Wix's paths, bodies and errors over a ledger."""

from __future__ import annotations

from ledger.web.app import create_app
from ledger.web.served import ServedLedger

__all__ = ["ServedLedger", "create_app"]
