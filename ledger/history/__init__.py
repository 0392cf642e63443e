"""The history of settings: every change, any moment, who and why; and how to undo."""

from __future__ import annotations

from ledger.history.audit import Audit
from ledger.history.changes import ERASED, Change
from ledger.history.export import Exported
from ledger.history.horizon import Horizon
from ledger.history.moments import Time, When
from ledger.history.pages import Page, page_json
from ledger.history.replay import Selection
from ledger.history.rows import RecordedChange
from ledger.history.site import SiteHistory
from ledger.history.snapshots import Blame, Difference, Snapshot, apply_changes, parse_address
from ledger.history.table import HistoryTable
from ledger.history.undo import Recorder, Undone

__all__ = [
    "ERASED",
    "Audit",
    "Blame",
    "Change",
    "Difference",
    "Exported",
    "HistoryTable",
    "Horizon",
    "Page",
    "RecordedChange",
    "Recorder",
    "Selection",
    "SiteHistory",
    "Snapshot",
    "Time",
    "Undone",
    "When",
    "apply_changes",
    "page_json",
    "parse_address",
]
