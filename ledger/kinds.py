"""The settings kinds that this program serves."""

from __future__ import annotations

from ledger.errors import NotFound
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.settings import SettingsKind

KINDS: dict[str, SettingsKind] = {kind.fqdn: kind for kind in (ORDERS_SETTINGS,)}


def kind_named(fqdn: str) -> SettingsKind:
    """The kind with this FQDN. Raises NotFound."""
    try:
        return KINDS[fqdn]
    except KeyError:
        raise NotFound("settings kind", fqdn) from None


def known_scopes() -> frozenset[str]:
    """Every scope that some kind knows."""
    return frozenset().union(*(kind.scopes for kind in KINDS.values()))
