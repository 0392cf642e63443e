"""Who may do what: the permission table of the wire contract, whole, one test per cell."""

from __future__ import annotations

from itertools import product
from uuid import uuid4

import pytest

from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.directory.checks import checked_event_type, checked_scopes
from ledger.errors import InvalidInput, PermissionDenied
from ledger.identity import Identity, IdentityType
from ledger.kinds import KINDS, known_scopes
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.permissions import HISTORY_SCOPE, RULES, Caller, Operation, check

# wix-contract.md, "Permissions and identities", and our own scope for history:
# scope → operations that it grants.
READS = {Operation.READ, Operation.RECEIVE}
EVERYTHING = set(Operation)
SCOPES = {
    "SCOPE.DC-ECOM-MEGA.MANAGE-ECOM": EVERYTHING,
    "SCOPE.DC-ECOM-MEGA.READ-ECOM": READS,
    "SCOPE.DC-STORES-MEGA.MANAGE-STORES": EVERYTHING,
    "SCOPE.DC-STORES-MEGA.READ-STORES": READS,
    "SCOPE.DC-STORES.MANAGE-ORDERS": EVERYTHING,
    "SCOPE.DC-STORES.READ-ORDERS": READS,
    "SCOPE.RESTAURANTS.MEGA-SCOPES": EVERYTHING,
    "SCOPE.LEDGER.READ-HISTORY": {Operation.READ_HISTORY},
    "SCOPE.SOMETHING.ELSE": set(),
    "scope.dc-stores.manage-orders": set(),
    "SCOPE.DC-STORES.MANAGE-ORDERS ": set(),
    "": set(),
}
# Operation → identities that may do it at all.
IDENTITIES = {
    Operation.READ: set(IdentityType),
    Operation.UPDATE: {IdentityType.WIX_USER, IdentityType.APP},
    Operation.READ_HISTORY: {IdentityType.WIX_USER, IdentityType.APP},
    Operation.RECEIVE: {IdentityType.APP},
}


def allowed(operation, identity, *scopes):
    """Whether the table of the program allows it."""
    try:
        check(operation, ORDERS_SETTINGS, identity, frozenset(scopes))
    except PermissionDenied:
        return False
    return True


def caller(identity, *scopes):
    return Caller(Identity(identity, str(uuid4())), uuid4(), frozenset(scopes))


@pytest.mark.parametrize(
    ("scope", "operation", "identity"), [*product(SCOPES, Operation, IdentityType)], ids=str
)
def test_a_cell_of_the_table(scope, operation, identity):
    """Each scope alone grants each identity exactly the operations that the table gives it."""
    expected = operation in SCOPES[scope] and identity in IDENTITIES[operation]
    assert allowed(operation, identity, scope) is expected


@pytest.mark.parametrize(("operation", "identity"), [*product(Operation, IdentityType)], ids=str)
def test_without_scopes_nothing_is_allowed(operation, identity):
    """No identity, an app or a Wix user neither, may do anything without a scope."""
    assert not allowed(operation, identity)


@pytest.mark.parametrize("identity", [IdentityType.MEMBER, IdentityType.ANONYMOUS_VISITOR])
@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.READ_HISTORY])
def test_all_scopes_together_change_nothing_for_visitors_and_members(operation, identity):
    """PATCH and history are refused to them whatever the scopes."""
    assert not allowed(operation, identity, *SCOPES)


def test_scopes_add_up():
    """Any one of the listed scopes suffices: a useless one beside it takes nothing away."""
    app = IdentityType.APP
    assert allowed(Operation.UPDATE, app, "SCOPE.SOMETHING.ELSE", "SCOPE.DC-STORES.MANAGE-ORDERS")
    reading = [scope for scope, granted in SCOPES.items() if Operation.UPDATE not in granted]
    assert not allowed(Operation.UPDATE, app, *reading)


@pytest.mark.parametrize(
    ("method", "operation"),
    [
        ("may_read", Operation.READ),
        ("may_update", Operation.UPDATE),
        ("may_read_history", Operation.READ_HISTORY),
    ],
)
@pytest.mark.parametrize("identity", IdentityType)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_caller_is_asked_by_the_same_table(method, operation, identity, scope):
    """What routes ask of a caller is what the table says."""
    ask = getattr(caller(identity, scope), method)
    if allowed(operation, identity, scope):
        ask(ORDERS_SETTINGS)
    else:
        with pytest.raises(PermissionDenied):
            ask(ORDERS_SETTINGS)


def test_a_refusal_says_what_is_missing():
    """The message names the permission, or the identities that may."""
    app = caller(IdentityType.APP)
    for ask, permission in (
        (app.may_read, "ECOM.READ_ORDERS_SETTINGS"),
        (app.may_update, "ECOM.UPDATE_ORDERS_SETTINGS"),
        (app.may_read_history, "LEDGER.READ_HISTORY"),
    ):
        with pytest.raises(PermissionDenied, match=f"lacks the permission {permission}"):
            ask(ORDERS_SETTINGS)
    with pytest.raises(PermissionDenied, match="MEMBER may not update settings; a WIX_USER or an"):
        caller(IdentityType.MEMBER, *SCOPES).may_update(ORDERS_SETTINGS)


def test_the_kind_knows_exactly_the_contracts_scopes():
    """The declared scopes are those of the table, none more, none less."""
    manage = {scope for scope, granted in SCOPES.items() if granted == EVERYTHING}
    read = {scope for scope, granted in SCOPES.items() if granted == READS}
    assert manage == ORDERS_SETTINGS.manage_scopes
    assert read == ORDERS_SETTINGS.read_scopes


def test_every_operation_has_its_rule():
    """The table has no hole that would be a KeyError, or open."""
    assert RULES.keys() == set(Operation)


def test_the_auditors_scope_can_be_given_and_holds_for_every_kind():
    """SCOPE.LEDGER.READ-HISTORY is a known scope; a misspelt one is not."""
    assert HISTORY_SCOPE in known_scopes()
    assert checked_scopes([HISTORY_SCOPE]) == [HISTORY_SCOPE]
    with pytest.raises(InvalidInput, match="SCOPE.LEDGER.READ-HISTORY"):
        checked_scopes(["SCOPE.LEDGER.READ_HISTORY"])
    for kind in KINDS.values():
        caller(IdentityType.WIX_USER, HISTORY_SCOPE).may_read_history(kind)


def test_one_kinds_scopes_are_nothing_to_another():
    """A kind is read and changed by its own scopes."""
    own = ORDERS_SETTINGS.manage_scopes - CHECKOUT_SETTINGS.scopes
    for scope in own:
        with pytest.raises(PermissionDenied):
            caller(IdentityType.APP, scope).may_update(CHECKOUT_SETTINGS)


@pytest.mark.parametrize("scope", SCOPES)
def test_an_app_subscribes_where_the_table_lets_it_receive(scope):
    """The event asks for the scopes that GET asks for."""
    event_type = ORDERS_SETTINGS.event_type
    if Operation.RECEIVE in SCOPES[scope]:
        assert checked_event_type(event_type, frozenset({scope})) == event_type
    else:
        with pytest.raises(PermissionDenied, match="None of the app's scopes"):
            checked_event_type(event_type, frozenset({scope}))
