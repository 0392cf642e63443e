"""Ledgers on the databases of tests, and the sites and changes that most tests begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ledger import Identity, Ledger
from ledger.aggregate import SettingsRecord
from ledger.idempotency import Idempotency
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.writer import Writer

SECRET = "a secret for tests that is long enough 0123456789"
SOMEONE = Identity.wix_user("3d5a0f5b-52c2-4a2b-9c0e-3a8e51ad2e11")


def opened(url: str, **options: object) -> Ledger:
    """A ledger on ``url``; several on one database agree on the secret."""
    return Ledger.open(database_url=url, secret_key=SECRET, **options)


def provenance(tag: str | None = None, **given: Any) -> Provenance:
    """Someone's change through the library; ``tag`` finds it again in the log."""
    return Provenance(SOMEONE, Via("library"), origin=tag, **given)


def update(
    ledger: Ledger,
    site_id: UUID,
    patch: Mapping[str, Any],
    tag: str | None = None,
    *,
    if_match: tuple[int, ...] | None = None,
    idempotency: Idempotency | None = None,
) -> SettingsRecord:
    """Change a site's settings and wait."""
    return submit(ledger, site_id, patch, tag, if_match=if_match, idempotency=idempotency).result()


def submit(ledger: Ledger, site_id: UUID, patch: Mapping[str, Any], tag=None, **conditions: Any):
    """Hand in a change; the future of its answer."""
    return ledger.submit(site_id, ORDERS_SETTINGS, patch, provenance(tag), **conditions)


def writer_of(ledger: Ledger, partition: int = 0) -> Writer:
    """The writer behind a ledger's partition."""
    return ledger.application(partition)._writer
