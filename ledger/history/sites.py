"""Which sites and kinds a question over many sites names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from ledger.aggregate import originator_id
from ledger.errors import InvalidInput
from ledger.kinds import KINDS, kind_named
from ledger.settings import SettingsKind


class SiteRow(Protocol):
    """What is asked of a site."""

    @property
    def site_id(self) -> UUID:
        """Its id."""

    @property
    def partition(self) -> int:
        """Where its events are."""

    @property
    def created_at(self) -> datetime:
        """Since when it has settings."""


class Sites(Protocol):
    """Where sites and partitions are known."""

    def partitions(self) -> list[int]:
        """Every partition, in order."""

    def site(self, site_id: UUID) -> SiteRow:
        """The site. Raises NotFound."""


def kinds_of(kinds: Iterable[SettingsKind | str] | None) -> list[SettingsKind] | None:
    """The kinds named, or None for any. Raises NotFound."""
    if kinds is None:
        return None
    return [kind_named(kind) if isinstance(kind, str) else kind for kind in kinds]


def sites_of(sites: Iterable[UUID | str] | None) -> list[UUID] | None:
    """The ids of the sites named, None for any. Raises InvalidInput for what is none."""
    return None if sites is None else sorted({_site_id(site) for site in sites})


def originators_of(
    known: Sites, sites: Iterable[UUID] | None, kinds: Sequence[SettingsKind] | None
) -> list[tuple[int, UUID]] | None:
    """(partition, originator) of the sites' settings, None for any site.

    Raises NotFound for an unknown site.
    """
    if sites is None:
        return None
    found = [known.site(site) for site in sites]
    return sorted(
        {
            (site.partition, originator_id(site.site_id, kind.fqdn))
            for site in found
            for kind in (KINDS.values() if kinds is None else kinds)
        }
    )


def _site_id(site: UUID | str) -> UUID:
    try:
        return site if isinstance(site, UUID) else UUID(site)
    except ValueError:
        raise InvalidInput("sites", f"{site!r} is no site's id") from None
