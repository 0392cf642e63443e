"""Who may do what: the permission table of the wire contract, whole, as data."""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid4

import pytest

from ledger.errors import PermissionDenied
from ledger.identity import Caller, Identity, IdentityType, commitment
from ledger.orders_settings import ORDERS_SETTINGS

# wix-contract.md, "Permissions and identities": scope id, GET, PATCH.
SCOPES = {
    "SCOPE.DC-ECOM-MEGA.MANAGE-ECOM": (True, True),
    "SCOPE.DC-ECOM-MEGA.READ-ECOM": (True, False),
    "SCOPE.DC-STORES-MEGA.MANAGE-STORES": (True, True),
    "SCOPE.DC-STORES-MEGA.READ-STORES": (True, False),
    "SCOPE.DC-STORES.MANAGE-ORDERS": (True, True),
    "SCOPE.DC-STORES.READ-ORDERS": (True, False),
    "SCOPE.RESTAURANTS.MEGA-SCOPES": (True, True),
    "SCOPE.SOMETHING.ELSE": (False, False),
    "scope.dc-stores.manage-orders": (False, False),
    "SCOPE.DC-STORES.MANAGE-ORDERS ": (False, False),
}
UPDATERS = {
    IdentityType.ANONYMOUS_VISITOR: False,
    IdentityType.MEMBER: False,
    IdentityType.WIX_USER: True,
    IdentityType.APP: True,
}


def caller(identity: IdentityType, *scopes: str) -> Caller:
    return Caller(Identity(identity, str(uuid4())), uuid4(), frozenset(scopes))


def may_read(who: Caller) -> bool:
    try:
        who.may_read(ORDERS_SETTINGS)
    except PermissionDenied:
        return False
    return True


def may_update(who: Caller) -> bool:
    try:
        who.may_update(ORDERS_SETTINGS)
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("identity", IdentityType)
@pytest.mark.parametrize("scope", SCOPES)
def test_one_scope_allows_what_the_contract_says(scope: str, identity: IdentityType) -> None:
    """Each scope alone allows each identity exactly what the table gives it."""
    reads, updates = SCOPES[scope]
    assert may_read(caller(identity, scope)) == reads
    assert may_update(caller(identity, scope)) == (updates and UPDATERS[identity])


@pytest.mark.parametrize("identity", IdentityType)
def test_without_scopes_nothing_is_allowed(identity: IdentityType) -> None:
    """No identity, an app or a Wix user neither, may do anything without a scope."""
    assert not may_read(caller(identity))
    assert not may_update(caller(identity))


def test_any_one_of_several_scopes_suffices() -> None:
    """Scopes add up: a useless one beside a good one takes nothing away."""
    both = caller(IdentityType.APP, "SCOPE.SOMETHING.ELSE", "SCOPE.DC-STORES.MANAGE-ORDERS")
    assert may_read(both)
    assert may_update(both)
    every_read = [scope for scope, (_, updates) in SCOPES.items() if not updates]
    assert not may_update(caller(IdentityType.APP, *every_read))


def test_a_refusal_says_what_is_missing() -> None:
    """The message names the permission, or the identities that may."""
    with pytest.raises(PermissionDenied, match="lacks the permission ECOM.READ_ORDERS_SETTINGS"):
        caller(IdentityType.APP).may_read(ORDERS_SETTINGS)
    with pytest.raises(PermissionDenied, match="lacks the permission ECOM.UPDATE_ORDERS_SETTINGS"):
        caller(IdentityType.APP).may_update(ORDERS_SETTINGS)
    with pytest.raises(PermissionDenied, match="MEMBER may not update settings; a WIX_USER or an"):
        caller(IdentityType.MEMBER, *SCOPES).may_update(ORDERS_SETTINGS)


def test_the_kind_knows_exactly_the_contracts_scopes() -> None:
    """The declared scopes are those of the table, none more, none less."""
    assert {scope for scope, allowed in SCOPES.items() if allowed == (True, True)} == (
        ORDERS_SETTINGS.manage_scopes
    )
    assert {scope for scope, allowed in SCOPES.items() if allowed == (True, False)} == (
        ORDERS_SETTINGS.read_scopes
    )


def test_identities_are_made_by_their_type() -> None:
    """Each constructor gives its type, and a UUID becomes its text."""
    some_id = UUID("11111111-2222-4333-8444-555555555555")
    assert [
        Identity.app(some_id),
        Identity.wix_user(some_id),
        Identity.member(some_id),
        Identity.anonymous_visitor("v"),
    ] == [
        Identity(IdentityType.APP, str(some_id)),
        Identity(IdentityType.WIX_USER, str(some_id)),
        Identity(IdentityType.MEMBER, str(some_id)),
        Identity(IdentityType.ANONYMOUS_VISITOR, "v"),
    ]


def test_a_commitment_is_the_frozen_hash() -> None:
    """SHA-256 over salt, type, a zero byte and the id, in hex (design: "Frozen")."""
    salt = bytes(range(32))
    expected = hashlib.sha256(salt + b"WIX_USER\x00" + "ü-1".encode()).hexdigest()
    assert commitment(salt, "WIX_USER", "ü-1") == expected
    assert commitment(salt, "WIX_USER", "ü-1") != commitment(bytes(32), "WIX_USER", "ü-1")
    assert commitment(salt, "AB", "C") != commitment(salt, "A", "BC")
