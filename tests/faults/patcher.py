"""A process of many callers that writes down what became of each change before going on.

Usage: patcher.py NAME URL SECRET JOURNAL THREADS CHANGES SITE…; a line of the journal is
``outcome tag version position settings``. It starts once a line comes on standard input.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from uuid import UUID

from ledger import Identity, Ledger
from ledger.errors import OutcomeUnknown, Unavailable
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS

PATCHES = [
    {"createInvoice": True},
    {"inventoryUpdateTrigger": "ON_ORDER_PAID"},
    {"emailNotifications": {"orderShipped": False}},
    {"createInvoice": None, "emailNotifications": {"orderPlaced": False, "pickupReady": None}},
    {"inventoryUpdateTrigger": None},
    {"createInvoice": False},
    {"emailNotifications": None},
]


def run(name: str, ledger: Ledger, journal: int, sites: list[UUID], caller: int, changes: int):
    """One caller: a change, its outcome on record, the next change."""
    for number in range(changes):
        site = sites[(caller + number) % len(sites)]
        tag = f"{name}/{caller}/{number}"
        patch = PATCHES[(caller * 3 + number) % len(PATCHES)]
        why = Provenance(Identity.app(f"caller-{caller}"), Via("library"), origin=tag)
        try:
            record = ledger.update(site, ORDERS_SETTINGS, patch, why)
        except OutcomeUnknown:
            line = ["unknown", tag]
        except Unavailable:
            line = ["unavailable", tag]
        else:
            settings = json.dumps(record.settings, separators=(",", ":"))
            line = ["acknowledged", tag, str(record.version), str(record.position), settings]
        os.write(journal, f"{' '.join(line)}\n".encode())


def main() -> None:
    """Open, wait for the sign, change, close."""
    name, url, secret, path, callers, changes, *sites = sys.argv[1:]
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with Ledger.open(database_url=url, secret_key=secret) as ledger:
        places = [UUID(site) for site in sites]
        sys.stdin.readline()
        threads = [
            threading.Thread(target=run, args=(name, ledger, journal, places, i, int(changes)))
            for i in range(int(callers))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    os.write(journal, b"finished\n")


if __name__ == "__main__":
    main()
