"""Copying settings from one site to others: a plan that can be shown, then each site for itself.

This is the seed's flow "Update orders settings across all sites". One site's failure stops no
other; the events of all sites name one origin, ``copy:<uuid>``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from uuid import UUID, uuid4

from ledger.aggregate import SettingsRecord
from ledger.directory import Directory
from ledger.errors import InvalidInput, LedgerError
from ledger.identity import Identity, Provenance, Via
from ledger.settings import SettingsKind, changes_between

IN_FLIGHT = 256
"""Sites whose change is under way at once; the writers record them in few transactions."""

Progress = Callable[[int, int], None]
"""Called with how many sites are done, and how many there are."""


class CopiesSettings(Protocol):
    """The part of ``ledger.Ledger`` that copying stands on."""

    @property
    def directory(self) -> Directory: ...

    def get(self, site_id: UUID, kind: SettingsKind) -> SettingsRecord:
        """The current settings."""

    def submit(
        self,
        site_id: UUID,
        kind: SettingsKind,
        patch: Mapping[str, Any] | None,
        provenance: Provenance,
    ) -> Future[SettingsRecord]:
        """Hand a change to the writer."""


@dataclass(frozen=True)
class PlannedSite:
    """What would change on a site (dotted path → from, to), or why it cannot be said."""

    site_id: UUID
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class CopyPlan:
    """``patch`` is what each site will be asked; ``origin`` is what each event will name."""

    kind: SettingsKind
    source: SettingsRecord
    patch: Mapping[str, Any]
    origin: str
    sites: tuple[PlannedSite, ...]


@dataclass(frozen=True)
class CopiedSite:
    """What became of one site: ``same`` had the values already, so nothing was recorded."""

    site_id: UUID
    result: Literal["copied", "same", "failed"]
    version: int | None = None
    error: str | None = None


def plan_copy(
    ledger: CopiesSettings,
    kind: SettingsKind,
    source: UUID,
    targets: Iterable[UUID],
    fields: Sequence[str],
    *,
    progress: Progress = lambda _done, _total: None,
) -> CopyPlan:
    """Read the source and every target; records nothing.

    A field is a dotted path or a whole object. The source is left out of the targets, and one
    named twice counts once. Raises NotFound for an unknown source, InvalidInput for an unknown
    field, or where no field or no target is left.
    """
    if not fields:
        raise InvalidInput("field", "expected at least one")
    record = ledger.get(source, kind)
    patch = kind.validate_patch(kind.excerpt(record.settings, fields))
    wanted = [site_id for site_id in dict.fromkeys(targets) if site_id != source]
    if not wanted:
        raise InvalidInput("to", f"expected at least one site other than {source}")
    sites: list[PlannedSite] = []
    for site_id in wanted:
        sites.append(_planned(ledger, kind, patch, site_id))
        progress(len(sites), len(wanted))
    return CopyPlan(kind, record, patch, f"copy:{uuid4()}", tuple(sites))


def carry_out(
    ledger: CopiesSettings,
    plan: CopyPlan,
    *,
    actor: Identity,
    via: Via,
    reason: str | None = None,
    progress: Progress = lambda _done, _total: None,
) -> list[CopiedSite]:
    """Change every site of the plan that differs, and tell what became of each, in order.

    Never raises a ledger error: a site's is in its result. What changed since the plan was made
    is changed all the same; fields outside of the plan stay as they are.
    """
    provenance = Provenance(actor, via, reason=reason, origin=plan.origin)
    results: list[CopiedSite] = []
    waiting: deque[tuple[UUID, Future[SettingsRecord] | CopiedSite]] = deque()

    def settle() -> None:
        site_id, outcome = waiting.popleft()
        results.append(outcome if isinstance(outcome, CopiedSite) else _settled(site_id, outcome))
        progress(len(results), len(plan.sites))

    for site in plan.sites:
        if len(waiting) >= IN_FLIGHT:
            settle()
        waiting.append((site.site_id, _begun(ledger, plan, site, provenance)))
    while waiting:
        settle()
    return results


def sites_of_app(directory: Directory, app_id: UUID) -> list[UUID]:
    """The sites that have the app installed, oldest installation first. Raises NotFound."""
    directory.app(app_id)
    return [
        installation.site_id
        for installation in directory.installations()
        if installation.app_id == app_id and installation.uninstalled_at is None
    ]


def _planned(
    ledger: CopiesSettings, kind: SettingsKind, patch: Mapping[str, Any], site_id: UUID
) -> PlannedSite:
    try:
        settings = ledger.get(site_id, kind).settings
    except LedgerError as error:
        return PlannedSite(site_id, problem=str(error))
    return PlannedSite(site_id, changes_between(settings, kind.merge(settings, patch)))


def _begun(
    ledger: CopiesSettings, plan: CopyPlan, site: PlannedSite, provenance: Provenance
) -> Future[SettingsRecord] | CopiedSite:
    if site.problem is not None:
        return CopiedSite(site.site_id, "failed", error=site.problem)
    if not site.changes:
        return CopiedSite(site.site_id, "same")
    try:
        return ledger.submit(site.site_id, plan.kind, plan.patch, provenance)
    except LedgerError as error:
        return CopiedSite(site.site_id, "failed", error=str(error))


def _settled(site_id: UUID, change: Future[SettingsRecord]) -> CopiedSite:
    try:
        return CopiedSite(site_id, "copied", version=change.result().version)
    except LedgerError as error:
        return CopiedSite(site_id, "failed", error=str(error))
