"""Elevation: an app acts for those who may not act themselves, and the record says for whom."""

from __future__ import annotations

import time
from uuid import uuid4

import jwt
import pytest
from credentials import KEYRING, MANAGE_ORDERS, READ_ORDERS, SECRET_KEY
from cryptography.hazmat.primitives.asymmetric import rsa

from ledger import elevate
from ledger.access import Access, AccessTokens, OutsideTokens
from ledger.assembly import Ledger
from ledger.config import load_config
from ledger.errors import PermissionDenied, Unauthenticated, VersionMismatch
from ledger.identity import Identity, IdentityType

ISSUER = "https://idp.example"
AUDIENCE = "settings-ledger"
CHANGE = {"createInvoice": True}


class Keys:
    """The one key of an identity provider, without the network."""

    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def get(self, _kid):
        return jwt.PyJWK(jwt.algorithms.RSAAlgorithm.to_jwk(self.private_key.public_key(), True))

    at_hand = get


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_elevation", template.name) as database:
        options = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE}
        config = load_config(database_url=database.server_url, secret_key=SECRET_KEY, **options)
        with Ledger.open(config) as ledger:
            tokens = AccessTokens(KEYRING, ledger.directory.ledger_id())
            ledger.access = Access(ledger.directory, tokens, OutsideTokens(config, Keys()))
            yield ledger


@pytest.fixture
def site(ledger):
    return ledger.create_site()


@pytest.fixture
def app(ledger):
    return ledger.directory.create_app("Shop", [MANAGE_ORDERS])


@pytest.fixture
def instance(ledger, app, site):
    return ledger.directory.install(app.app_id, site.site_id)


def token(site, instance=None, identity=IdentityType.MEMBER, scope=MANAGE_ORDERS):
    """What the identity provider gives a visitor, a member or a user of the site."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": f"{identity}-7".lower(),
        "exp": int(time.time()) + 600,
        "siteId": str(site.site_id),
        "identityType": identity,
        "scope": scope,
    }
    if instance is not None:
        claims["instanceId"] = str(instance.instance_id)
    return jwt.encode(claims, Keys.private_key, "RS256")


def test_without_elevation_a_member_changes_nothing(ledger, site, instance):
    """The credential names an app, and that alone lets nobody act as it."""
    caller = ledger.caller(token(site, instance), site.site_id)
    assert caller.settings()["createInvoice"] is False
    with pytest.raises(PermissionDenied, match="MEMBER may not update"):
        caller.update(CHANGE)
    assert site.record().version == 1


@pytest.mark.parametrize("identity", [each for each in IdentityType if each != IdentityType.APP])
def test_an_elevated_change_is_the_apps_on_behalf_of_the_caller(
    ledger, site, app, instance, identity
):
    """The event and the audit show both: the app as the actor, the caller beside it."""
    caller = ledger.caller(token(site, instance, identity))
    record = elevate(caller.update)(CHANGE, reason="Asked at checkout", if_version=1)
    assert record.version == 2
    change = site.history.changes()[0]
    assert change.actor == Identity.app(app.app_id)
    assert change.on_behalf_of == Identity(identity, f"{identity}-7".lower())
    assert (change.reason, change.changes) == (
        "Asked at checkout",
        {"createInvoice": {"from": False, "to": True}},
    )
    assert (change.via.channel, change.via.credential, change.via.asserted) == (
        "library",
        "oidc",
        False,
    )


def test_elevation_holds_for_one_call(ledger, site, instance):
    """The caller itself may do afterwards what it could before, and no more."""
    caller = ledger.caller(token(site, instance))
    elevate(caller.update)(CHANGE)
    with pytest.raises(PermissionDenied):
        caller.update(CHANGE)


def test_a_credential_that_names_no_app_cannot_be_elevated(ledger, site):
    """A token without instance, and an API key: there is no app to act as."""
    key = ledger.directory.create_key(site.site_id, [READ_ORDERS])
    for credential in (token(site), key.api_key):
        with pytest.raises(PermissionDenied, match="names no app instance"):
            elevate(ledger.caller(credential).update)(CHANGE)
    assert site.record().version == 1


def test_elevation_gives_the_apps_own_scopes(ledger, site):
    """An app that may only read lets nobody change, and a caller's scopes add nothing to it."""
    reader = ledger.directory.create_app("Reader", [READ_ORDERS])
    instance = ledger.directory.install(reader.app_id, site.site_id)
    caller = ledger.caller(token(site, instance, scope=MANAGE_ORDERS))
    with pytest.raises(PermissionDenied, match="UPDATE_ORDERS_SETTINGS"):
        elevate(caller.update)(CHANGE)


def test_elevation_lets_read_what_the_caller_may_not(ledger, site, instance):
    """Any method of a caller can be elevated."""
    caller = ledger.caller(token(site, instance, scope=""))
    with pytest.raises(PermissionDenied):
        caller.settings()
    assert elevate(caller.settings)()["createInvoice"] is False


def test_an_app_that_is_not_installed_here_lends_nothing(ledger, site, app, instance):
    """Uninstalled, installed on another site, or made up: each is refused."""
    elsewhere = ledger.directory.install(app.app_id, ledger.create_site().site_id)
    made_up = type(instance)(**{**fields(instance), "instance_id": uuid4()})
    ledger.directory.uninstall(instance.instance_id)
    for foreign in (elsewhere, made_up, instance):
        with pytest.raises(PermissionDenied, match="not installed on its site"):
            elevate(ledger.caller(token(site, foreign)).update)(CHANGE)
    assert site.record().version == 1


def fields(row):
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def test_an_app_elevated_is_itself(ledger, site, app, instance):
    """Nobody stands behind it: the record has no on_behalf_of."""
    own = ledger.access.grants.grant(str(app.app_id), app.app_secret, str(instance.instance_id))
    elevate(ledger.caller(own).update)(CHANGE)
    change = site.history.changes()[0]
    assert (change.actor, change.on_behalf_of) == (Identity.app(app.app_id), None)


def test_elevating_twice_still_names_who_asked(ledger, site, app, instance):
    """The first caller is not lost on the way."""
    caller = ledger.caller(token(site, instance))
    elevate(caller.elevated().update)(CHANGE)
    change = site.history.changes()[0]
    assert change.actor == Identity.app(app.app_id)
    assert change.on_behalf_of == caller.caller.identity


@pytest.mark.parametrize("method", [print, len, lambda: None, "update", None])
def test_only_a_callers_methods_can_be_elevated(method):
    """Anything else is a mistake of the programmer."""
    with pytest.raises(TypeError, match=r"elevate\(caller.update\)"):
        elevate(method)


def test_a_callers_changes_are_its_own(ledger, site):
    """A key acts as its Wix user, through the library as over HTTP, and preconditions hold."""
    key = ledger.directory.create_key(site.site_id, [MANAGE_ORDERS])
    caller = ledger.caller(f"Bearer {key.api_key}", str(site.site_id))
    assert caller.update(CHANGE).settings == caller.settings()
    with pytest.raises(VersionMismatch):
        caller.update(CHANGE, if_version=1)
    change = site.history.changes()[0]
    assert change.actor == Identity.wix_user(key.wix_user_id)
    assert (change.via.credential, change.via.asserted) == (key.prefix, False)


def test_a_credential_opens_its_own_site_alone(ledger, site, instance):
    """Library and HTTP ask at the same door."""
    other = ledger.create_site()
    with pytest.raises(PermissionDenied, match="another site"):
        ledger.caller(token(site, instance), other.site_id)
    with pytest.raises(Unauthenticated):
        ledger.caller("nonsense")
    with pytest.raises(Unauthenticated):
        ledger.caller(None)
