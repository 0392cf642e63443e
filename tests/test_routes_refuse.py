"""Every route of the application refuses whoever has no credential, or one for another site."""

from __future__ import annotations

import time
from uuid import uuid4

import httpx
import jwt
import pytest
from credentials import KEYRING, SECRET_KEY

from ledger.access import TOKEN_PREFIX
from ledger.access.tokens import PURPOSE
from ledger.assembly import Ledger
from ledger.kinds import KINDS, known_scopes
from ledger.web import create_app

# Issue 3: "public: health, docs, openapi, jwks, oauth2".
PUBLIC = (
    "/healthz",
    "/readyz",
    "/docs",
    "/openapi.json",
    "/.well-known/jwks.json",
    "/oauth2/",
)


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_routes", template.name) as database:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**options) as ledger:
            yield ledger


@pytest.fixture(scope="module")
def app(ledger):
    return create_app(ledger)


@pytest.fixture
async def http(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        yield client


@pytest.fixture(scope="module")
def site(ledger):
    return ledger.create_site()


@pytest.fixture(scope="module")
def other(ledger):
    return ledger.create_site()


@pytest.fixture(scope="module")
def key(ledger, site):
    """A key that may do everything on its site."""
    return ledger.directory.create_key(site.site_id, known_scopes())


@pytest.fixture(scope="module")
def token(ledger, site):
    """An access token that may do everything on its site."""
    app = ledger.directory.create_app("Everything", known_scopes())
    instance = ledger.directory.install(app.app_id, site.site_id)
    return ledger.access.grants.grant(str(app.app_id), app.app_secret, str(instance.instance_id))


def guarded(app, site_id):
    """Every (method, path) that is not public, with what its path asks for filled in."""
    for route in app.routes:
        for method in sorted(getattr(route, "methods", None) or ()):
            if not route.path.startswith(PUBLIC):
                names = getattr(route, "param_convertors", {})
                path = route.path_format.format(
                    **{name: site_id if "site" in name else 1 for name in names}
                )
                yield method, path


def test_the_walk_meets_every_kind(app, site):
    """The tests below would pass on an application without routes: this one would not."""
    walked = set(guarded(app, site.site_id))
    for kind in KINDS.values():
        for method in ("GET", "HEAD", "PATCH"):
            assert (method, kind.path) in walked
    for name in ("orders-settings", "checkout-settings"):
        for question in ("changes", "as-of", "diff", "blame"):
            assert ("GET", f"/ledger/v1/{name}/{question}") in walked
        for undo in ("restore", "revert"):
            assert ("POST", f"/ledger/v1/{name}/{undo}") in walked
    assert ("GET", "/ledger/v1/events") in walked


def test_what_is_public_is_there(app):
    """A public path that no longer exists would hide the next one that takes its name."""
    paths = {route.path for route in app.routes}
    for public in PUBLIC:
        assert any(path.startswith(public) for path in paths)


def body():
    """A change of every kind, so that no route refuses for want of a body."""
    return {kind.wrapper: {} for kind in KINDS.values()}


async def statuses(http, app, site_id, headers):
    """What each guarded route answers."""
    return {
        (method, path): (await http.request(method, path, headers=headers, json=body())).status_code
        for method, path in guarded(app, site_id)
    }


def forged(token, **changed):
    """The token with other claims, signed as only this ledger can."""
    claims = jwt.decode(token.removeprefix(TOKEN_PREFIX), options={"verify_signature": False})
    headers = {"kid": KEYRING.key_id, "typ": "at+jwt"}
    key = KEYRING.derive(PURPOSE)
    return TOKEN_PREFIX + jwt.encode(claims | changed, key, "HS256", headers)


@pytest.mark.parametrize(
    "credential",
    [
        None,
        "",
        "Bearer",
        "nonsense",
        "slk_aaaaaaaa_" + "x" * 43,
        "OauthNG.JWS.a.b.c",
        "Basic eDp5",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
    ],
)
async def test_nobody_gets_in_without_a_credential(http, app, site, credential):
    """401 on every route, whatever is sent in a credential's place."""
    headers = {} if credential is None else {"Authorization": credential}
    answers = await statuses(http, app, site.site_id, headers)
    assert set(answers.values()) == {401}, answers


async def test_an_expired_or_altered_token_gets_nowhere(http, app, site, token):
    """401 on every route."""
    for dead in (forged(token, exp=int(time.time()) - 60), token[:-3], token + "x"):
        answers = await statuses(http, app, site.site_id, {"Authorization": dead})
        assert set(answers.values()) == {401}, answers


async def test_a_credential_opens_no_other_site(http, app, key, token, other):
    """403 on every route for another site, be it there or not; and nothing changed there."""
    for site_id in (other.site_id, uuid4()):
        for credential in (key.api_key, token):
            headers = {"Authorization": credential, "wix-site-id": str(site_id)}
            answers = await statuses(http, app, site_id, headers)
            assert set(answers.values()) == {403}, answers
    assert other.record().version == 1


async def test_a_credential_without_scopes_that_fit_gets_nowhere(http, app, ledger, site, token):
    """403 on every route for a token that may do nothing, though it is for this site."""
    powerless = forged(token, scope="SCOPE.SOMETHING.ELSE")
    answers = await statuses(http, app, site.site_id, {"Authorization": powerless})
    assert set(answers.values()) == {403}, answers


async def test_the_same_requests_are_let_in_with_the_right_credential(http, app, site, token):
    """The refusals above are about the credential: with the right one no route says 401 or 403."""
    answers = await statuses(http, app, site.site_id, {"Authorization": token})
    assert not {401, 403} & set(answers.values()), answers


async def test_a_key_opens_all_but_the_feed_of_an_app(http, app, site, key):
    """An API key acts as a Wix user, who has no webhooks and so nothing to pull."""
    answers = await statuses(http, app, site.site_id, {"Authorization": key.api_key})
    assert answers.pop(("GET", "/ledger/v1/events")) == 403
    assert not {401, 403} & set(answers.values()), answers


async def test_public_routes_ask_for_nothing(http, key):
    """They answer without a credential, and a wrong one does not matter to them."""
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/.well-known/jwks.json"):
        for headers in ({}, {"Authorization": "nonsense"}):
            assert (await http.get(path, headers=headers)).status_code == 200
