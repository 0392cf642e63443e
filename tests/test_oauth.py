"""``/oauth2/token``, ``/oauth2/token-info`` and the public keys, over HTTP on a real ledger."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from urllib.parse import quote_plus
from uuid import UUID

import httpx
import jwt
import pytest
from credentials import KEYRING, MANAGE_ORDERS, READ_ORDERS, SECRET_KEY

from ledger.access import LIFETIME, Access, AccessTokens
from ledger.assembly import Ledger
from ledger.errors import DatabaseUnavailable
from ledger.identity import Identity
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.web import create_app

PATH = ORDERS_SETTINGS.path
JWKS = "/.well-known/jwks.json"


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_oauth", template.name) as database:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**options) as ledger:
            yield ledger


@pytest.fixture
async def http(ledger):
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        yield client


@pytest.fixture
def site(ledger):
    return ledger.create_site()


@pytest.fixture
def app(ledger):
    return ledger.directory.create_app("Invoices", [MANAGE_ORDERS])


@pytest.fixture
def instance(ledger, app, site):
    return ledger.directory.install(app.app_id, site.site_id)


@pytest.fixture
def request_body(app, instance):
    """What the SDK's AppStrategy sends."""
    return {
        "instance_id": str(instance.instance_id),
        "client_id": str(app.app_id),
        "client_secret": app.app_secret,
        "grant_type": "client_credentials",
    }


def assert_refused(reply, status, code, error):
    """The contract's body, and OAuth's two members beside it."""
    assert reply.status_code == status
    body = reply.json()
    assert set(body) == {"message", "details", "error", "error_description"}
    assert body["details"]["applicationError"]["code"] == code
    assert body["error"] == error
    assert body["error_description"] == body["message"] != ""
    assert reply.headers["cache-control"] == "no-store"
    return body


async def test_an_app_gets_a_token_as_the_sdk_asks_for_it(http, request_body):
    """Exactly 200 with the contract's three members, kept by no cache."""
    reply = await http.post("/oauth2/token", json=request_body)
    assert reply.status_code == 200
    body = reply.json()
    assert set(body) == {"access_token", "token_type", "expires_in"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", LIFETIME)
    assert body["access_token"].startswith("OauthNG.JWS.")
    assert reply.headers["cache-control"] == "no-store"
    assert UUID(reply.headers["x-wix-request-id"])


async def test_a_form_does_as_well(http, request_body):
    """RFC 6749 has parameters form-encoded."""
    reply = await http.post("/oauth2/token", data=request_body)
    assert reply.status_code == 200


@pytest.mark.parametrize("encoding", ["json", "data"])
async def test_a_client_may_authenticate_by_http_basic(http, request_body, encoding):
    """RFC 6749, section 2.3.1: id and secret form-encoded, in the header alone."""
    client_id, secret = request_body.pop("client_id"), request_body.pop("client_secret")
    credentials = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    headers = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}
    reply = await http.post("/oauth2/token", headers=headers, **{encoding: request_body})
    assert reply.status_code == 200
    twice = request_body | {"client_secret": secret}
    reply = await http.post("/oauth2/token", headers=headers, **{encoding: twice})
    assert_refused(reply, 400, "INVALID_ARGUMENT", "invalid_request")


@pytest.mark.parametrize("basic", ["Basic", "Basic %", "Basic /w==", "Basic eA==", "basic Og=="])
async def test_a_malformed_http_basic_gets_no_token(http, request_body, basic):
    """What cannot be read names no client."""
    del request_body["client_secret"], request_body["client_id"]
    reply = await http.post("/oauth2/token", headers={"Authorization": basic}, json=request_body)
    assert reply.status_code in {400, 401}


async def test_another_scheme_in_the_header_is_passed_over(http, request_body):
    """A client that sends its old token along gets a new one all the same."""
    reply = await http.post(
        "/oauth2/token", headers={"Authorization": "OauthNG.JWS.old"}, json=request_body
    )
    assert reply.status_code == 200


async def test_the_token_reads_and_changes_as_the_app(
    http, ledger, app, instance, site, request_body
):
    """The event has the app as its actor and the instance as its credential."""
    token = (await http.post("/oauth2/token", json=request_body)).json()["access_token"]
    headers = {"Authorization": token}
    assert (await http.get(PATH, headers=headers)).status_code == 200
    body = {"ordersSettings": {"createInvoice": True}}
    assert (await http.patch(PATH, headers=headers, json=body)).status_code == 200
    change = site.history.changes()[0]
    assert change.actor == Identity.app(app.app_id)
    assert change.on_behalf_of is None
    assert change.via.credential == str(instance.instance_id)


async def test_a_reading_app_changes_nothing(http, ledger, site):
    """The token carries the app's scopes and no others."""
    app = ledger.directory.create_app("Reader", [READ_ORDERS])
    instance = ledger.directory.install(app.app_id, site.site_id)
    token = ledger.access.grants.grant(str(app.app_id), app.app_secret, str(instance.instance_id))
    headers = {"Authorization": token}
    assert (await http.get(PATH, headers=headers)).status_code == 200
    reply = await http.patch(PATH, headers=headers, json={"ordersSettings": {}})
    assert reply.status_code == 403
    assert site.record().version == 1


@pytest.mark.parametrize("wrong", ["client_id", "client_secret", "instance_id"])
@pytest.mark.parametrize("value", ["7a9e6d1c-3f52-4c1b-9d0e-2b8f4a6c5e11", "x", "\x00"])
async def test_a_wrong_client_is_401_whatever_was_wrong(http, request_body, wrong, value):
    """Wrong id, secret and instance have one answer, to the letter."""
    reply = await http.post("/oauth2/token", json=request_body | {wrong: value})
    body = assert_refused(reply, 401, "UNAUTHENTICATED", "invalid_client")
    assert body["message"] == "The client id, the client secret or the instance id is wrong."
    assert reply.headers["www-authenticate"].startswith("Basic")


async def test_an_uninstalled_app_is_428(http, ledger, instance, request_body):
    """The contract's "app not installed", for the app itself and nobody else."""
    ledger.directory.uninstall(instance.instance_id)
    reply = await http.post("/oauth2/token", json=request_body)
    assert_refused(reply, 428, "FAILED_PRECONDITION", "invalid_grant")
    reply = await http.post("/oauth2/token", json=request_body | {"client_secret": "x"})
    assert_refused(reply, 401, "UNAUTHENTICATED", "invalid_client")


@pytest.mark.parametrize("missing", ["client_id", "client_secret", "instance_id"])
@pytest.mark.parametrize("value", [None, ""])
async def test_a_missing_parameter_is_named(http, request_body, missing, value):
    """400 says which one; RFC 6749 calls it an invalid request."""
    reply = await http.post("/oauth2/token", json=request_body | {missing: value})
    body = assert_refused(reply, 400, "INVALID_ARGUMENT", "invalid_request")
    assert missing in body["message"]


@pytest.mark.parametrize("grant_type", ["authorization_code", "refresh_token", "", None])
async def test_another_grant_is_refused_as_such(http, request_body, grant_type):
    """RFC 6749 has an error of its own for it."""
    reply = await http.post("/oauth2/token", json=request_body | {"grant_type": grant_type})
    assert_refused(reply, 400, "INVALID_ARGUMENT", "unsupported_grant_type")


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/token-info"])
@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"7", "application/json", 400),
        (b'{"token": 7, "grant_type": 7}', "application/json", 400),
        (b'{"token": "a", "token": "b"}', "application/json", 400),
        (b"token=a&token=b&grant_type=x", "application/x-www-form-urlencoded", 400),
        (b"token=%FF&grant_type=%FF", "application/x-www-form-urlencoded", 400),
        (b"", "application/x-www-form-urlencoded", 400),
        (b"token=a", "text/plain", 415),
        (b" " * 65537, "application/json", 413),
        (b" " * 65537, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_a_body_that_is_none_is_refused(http, path, content, media_type, status):
    """400, 413 and 415 as on every other route."""
    reply = await http.post(path, content=content, headers={"Content-Type": media_type})
    assert reply.status_code == status
    assert reply.json()["details"]["applicationError"]["code"] == "INVALID_ARGUMENT"


async def test_token_info_tells_what_the_contract_says(http, app, instance, site, request_body):
    """Every member of the contract, for a token that holds."""
    token = (await http.post("/oauth2/token", json=request_body)).json()["access_token"]
    for encoding in ("json", "data"):
        reply = await http.post("/oauth2/token-info", **{encoding: {"token": token}})
        assert reply.status_code == 200
        info = reply.json()
        assert info == {
            "active": True,
            "subjectType": "APP",
            "subjectId": str(app.app_id),
            "exp": info["exp"],
            "iat": info["exp"] - LIFETIME,
            "clientId": str(app.app_id),
            "siteId": str(site.site_id),
            "instanceId": str(instance.instance_id),
        }


async def test_token_info_tells_nothing_of_what_does_not_hold(http, ledger, site, request_body):
    """Altered tokens, API keys and nonsense are inactive, and so is one that was revoked."""
    token = (await http.post("/oauth2/token", json=request_body)).json()["access_token"]
    key = ledger.directory.create_key(site.site_id, [MANAGE_ORDERS])
    for other in (token[:-2], key.api_key, "nonsense", "\ud800"):
        body = json.dumps({"token": other})
        reply = await http.post("/oauth2/token-info", content=body)
        assert (reply.status_code, reply.json()) == (200, {"active": False})
    reply = await http.post("/oauth2/token-info", json={})
    assert reply.status_code == 400


async def test_a_database_that_is_down_is_503(ledger, request_body):
    """Nobody is told that their secret is wrong because it could not be looked up."""

    class Down:
        config, database, keyring = ledger.config, None, KEYRING

        class directory:  # noqa: N801 - stands for an instance
            @staticmethod
            def find_client(*_):
                raise DatabaseUnavailable("down")

        access = Access(directory, AccessTokens(KEYRING, "ledger"))

    transport = httpx.ASGITransport(create_app(Down()))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as http:
        reply = await http.post("/oauth2/token", json=request_body)
    assert reply.status_code == 503
    assert "retry-after" in reply.headers


# Public keys


async def keys(ledger):
    """The published keys by their kid, from a server that just started."""
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as http:
        reply = await http.get(JWKS)
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "public, max-age=60"
    return {key["kid"]: key for key in reply.json()["keys"]}


async def test_the_key_set_verifies_what_an_app_is_sent(ledger, app):
    """Each entry is a public RSA key for signatures, and nothing of a private one."""
    published = await keys(ledger)
    signing = ledger.directory.signing_key(app.app_id)
    entry = published[signing.kid]
    assert set(entry) == {"kty", "use", "alg", "kid", "n", "e"}
    assert (entry["kty"], entry["use"], entry["alg"]) == ("RSA", "sig", "RS256")
    token = jwt.encode({"data": "x"}, signing.private_key_pem, "RS256")
    assert jwt.decode(token, jwt.PyJWK(entry), algorithms=["RS256"]) == {"data": "x"}


async def test_after_a_rotation_both_keys_verify(ledger, app):
    """New deliveries are signed with the new key; old ones are verified with the old one."""
    old = ledger.directory.signing_key(app.app_id)
    new = ledger.directory.rotate_key(app.app_id)
    assert ledger.directory.signing_key(app.app_id).kid == new.kid != old.kid
    published = await keys(ledger)
    assert {old.kid, new.kid} <= published.keys()
    token = jwt.encode({"data": "x"}, old.private_key_pem, "RS256")
    assert jwt.decode(token, jwt.PyJWK(published[old.kid]), algorithms=["RS256"])


async def test_a_rotation_without_overlap_takes_the_old_key_away(ledger, app):
    """For a key that leaked; one that was retired before goes with it."""
    first = ledger.directory.signing_key(app.app_id)
    second = ledger.directory.rotate_key(app.app_id, timedelta(days=1))
    third = ledger.directory.rotate_key(app.app_id, timedelta(0))
    assert {first.kid, second.kid, third.kid} & (await keys(ledger)).keys() == {third.kid}
