"""Callers, and the one table of what they may do: operations × identities × scopes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from ledger.errors import PermissionDenied
from ledger.identity import Identity, IdentityType
from ledger.settings import SettingsKind

HISTORY_SCOPE = "SCOPE.LEDGER.READ-HISTORY"
"""Our own addition to Wix's scopes: an auditor's, who reads the past and not the present."""
HISTORY_PERMISSION = "LEDGER.READ_HISTORY"


class Operation(StrEnum):
    """What can be done with a site's settings of one kind; the words complete "may not …"."""

    READ = "read settings"
    UPDATE = "update settings"
    READ_HISTORY = "read the history of settings"
    RECEIVE = "receive the event of an update"


@dataclass(frozen=True)
class Rule:
    """Who may do an operation: one of ``identities`` that holds any one of ``scopes``.

    ``permission`` is the name that stands for the scopes in refusals. Both depend on the kind.
    """

    identities: frozenset[IdentityType]
    permission: Callable[[SettingsKind], str]
    scopes: Callable[[SettingsKind], frozenset[str]]


_EVERYBODY = frozenset(IdentityType)
_USER_AND_APP = frozenset({IdentityType.WIX_USER, IdentityType.APP})

RULES: Mapping[Operation, Rule] = {
    # Seed, GET: any of the listed permissions; no identity is excluded.
    Operation.READ: Rule(
        _EVERYBODY,
        lambda kind: kind.read_permission,
        lambda kind: kind.read_scopes | kind.manage_scopes,
    ),
    # Seed, PATCH: "You can only call this method when authenticated as a Wix app or Wix user".
    Operation.UPDATE: Rule(
        _USER_AND_APP, lambda kind: kind.update_permission, lambda kind: kind.manage_scopes
    ),
    # Ours: history names people and reasons, so it asks for more than the present does.
    Operation.READ_HISTORY: Rule(
        _USER_AND_APP,
        lambda _: HISTORY_PERMISSION,
        lambda kind: kind.manage_scopes | {HISTORY_SCOPE},
    ),
    # Seed, event: the same permissions as GET; only apps subscribe.
    Operation.RECEIVE: Rule(
        frozenset({IdentityType.APP}),
        lambda kind: kind.read_permission,
        lambda kind: kind.read_scopes | kind.manage_scopes,
    ),
}


def check(
    operation: Operation, kind: SettingsKind, identity: IdentityType, scopes: frozenset[str]
) -> None:
    """Raise PermissionDenied unless the table allows it."""
    rule = RULES[operation]
    if identity not in rule.identities:
        allowed = " or ".join(f"a {each}" for each in sorted(rule.identities, reverse=True))
        raise PermissionDenied(
            f"{identity} may not {operation}; {allowed.replace('a APP', 'an APP')} may."
        )
    if not scopes & rule.scopes(kind):
        raise PermissionDenied(f"The credential lacks the permission {rule.permission(kind)}.")


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated identity on one site, with what its credential may do there.

    ``credential`` is the credential's public id, as events record it. ``instance_id`` is the
    app instance that the credential names: the app itself, or the app through which a visitor,
    a member or a user acts. ``client`` names who it is over all of their credentials' lives.
    """

    identity: Identity
    site_id: UUID
    scopes: frozenset[str]
    credential: str | None = None
    instance_id: UUID | None = None
    client: str = ""

    def may_read(self, kind: SettingsKind) -> None:
        """Raise PermissionDenied unless a scope grants reading ``kind``."""
        check(Operation.READ, kind, self.identity.type, self.scopes)

    def may_update(self, kind: SettingsKind) -> None:
        """Raise PermissionDenied unless identity and scopes allow changing ``kind``."""
        check(Operation.UPDATE, kind, self.identity.type, self.scopes)

    def may_read_history(self, kind: SettingsKind) -> None:
        """Raise PermissionDenied unless identity and scopes allow reading the past of ``kind``."""
        check(Operation.READ_HISTORY, kind, self.identity.type, self.scopes)
