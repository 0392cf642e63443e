"""The webhook's text: claims, identities and signatures, without a database."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.directory import SigningKey
from ledger.directory.apps import new_signing_key
from ledger.errors import NotFound
from ledger.identity import Identity, IdentityType
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.publisher import sign
from ledger.publisher.envelope import domain_event, identity_claim, webhook_data
from ledger.publisher.policy import ORDERED_DELAYS, Policy
from ledger.publisher.sign import KeyRack

ENTITY = UUID("9f0b7a52-3c53-5c3d-8d0c-2f6b3d6f2f11")
INSTANCE = UUID("5f3c0d7e-64f4-4c36-b8a4-0b5c8f7e9a01")
APP = UUID("1d0b2f1c-9a55-4c8e-9a0c-7f7f5b1c2d3e")
CREATED = datetime(2024, 7, 4, 15, 10, 46, 70_999, tzinfo=UTC)
FACTS: dict[str, Any] = {
    "event_id": "01900000-0000-7000-8000-000000000001",
    "site_id": "3b9d1f6a-0f2e-4c3b-9a57-0d6f3e2c1b0a",
    "kind": "wix.ecom.v1.orders_settings",
    "timestamp": "2024-07-05T09:00:00.123456Z",
    "patch": {"createInvoice": True},
    "changes": {
        "createInvoice": {"from": False, "to": True},
        "emailNotifications.orderShipped": {"from": True, "to": False},
        "novelty": {"to": 7},
    },
    "settings": {
        "createInvoice": True,
        "emailNotifications": {"orderPlaced": True, "orderShipped": False, "pickupReady": True},
        "inventoryUpdateTrigger": "ON_ORDER_PLACED",
    },
    "actor": {"type": "APP", "ref": "6f1e…", "commitment": "…"},
    "via": {"channel": "http", "credential": None, "asserted": False},
}


def text(**changed: Any) -> str:
    return webhook_data(
        {**FACTS, **changed},
        ORDERS_SETTINGS,
        version=7,
        entity_id=ENTITY,
        created=CREATED,
        actor=Identity.app(APP),
        instance_id=INSTANCE,
    )


def test_the_text_is_this_byte_for_byte() -> None:
    """Receivers drop duplicates by id and may compare the rest: a golden text pins all of it."""
    entity = (
        '{"inventoryUpdateTrigger":"ON_ORDER_PLACED","createInvoice":true,'
        '"emailNotifications":{"orderPlaced":true,"orderShipped":false,"pickupReady":true},'
        '"createdDate":"2024-07-04T15:10:46.070Z","updatedDate":"2024-07-05T09:00:00.123Z"'
    )
    event = (
        '{"id":"01900000-0000-7000-8000-000000000001","entityFqdn":"wix.ecom.v1.orders_settings",'
        '"slug":"updated","entityId":"9f0b7a52-3c53-5c3d-8d0c-2f6b3d6f2f11",'
        '"eventTime":"2024-07-05T09:00:00.123456Z","triggeredByAnonymizeRequest":false,'
        '"entityEventSequence":"7","updatedEvent":{"currentEntity":'
        + entity
        + ',"ordersSettings":'
        + entity
        + '}},"modifiedFields":{"createInvoice":false,"emailNotifications.orderShipped":true,'
        '"novelty":null}}}'
    )
    outer = json.loads(text())
    assert outer["data"] == event
    assert text() == json.dumps(
        {
            "data": event,
            "instanceId": str(INSTANCE),
            "eventType": "wix.ecom.v1.orders_settings_updated",
            "identity": f'{{"identityType":"APP","appId":"{APP}"}}',
            "accountInfo": {"siteId": FACTS["site_id"]},
        },
        separators=(",", ":"),
    )


def test_originated_from_is_there_only_where_the_event_has_an_origin() -> None:
    """A plain change has none; a restore names itself."""
    assert "originatedFrom" not in json.loads(json.loads(text())["data"])
    restored = json.loads(json.loads(text(origin="restore:v3"))["data"])
    assert restored["originatedFrom"] == "restore:v3"


def test_an_entity_shows_what_a_reply_shows() -> None:
    """A field that replies leave out at its default is left out here too."""
    settings = {**ORDERS_SETTINGS.defaults(), "createInvoice": True}
    event = domain_event(
        {**FACTS, "settings": settings},
        ORDERS_SETTINGS,
        version=2,
        entity_id=ENTITY,
        created=CREATED,
    )
    entity = event["updatedEvent"]["currentEntity"]
    wrapped = entity.pop("ordersSettings")
    assert entity == wrapped
    assert set(entity) == {"createInvoice", "inventoryUpdateTrigger", "createdDate", "updatedDate"}


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (IdentityType.ANONYMOUS_VISITOR, "anonymousVisitorId"),
        (IdentityType.MEMBER, "memberId"),
        (IdentityType.WIX_USER, "wixUserId"),
        (IdentityType.APP, "appId"),
    ],
)
def test_an_identity_has_exactly_the_id_of_its_type(kind: IdentityType, field: str) -> None:
    """Also where the person was erased: then the id is the event's reference."""
    token = {"type": kind.value, "ref": "the-ref", "commitment": "…"}
    assert identity_claim(token, Identity(kind, "somebody")) == {
        "identityType": kind.value,
        field: "somebody",
    }
    assert identity_claim(token, None) == {"identityType": kind.value, field: "the-ref"}


class Keys:
    """One app's key, and how often it was asked for."""

    def __init__(self) -> None:
        self.key = new_signing_key(APP)
        self.asked = 0

    def client_certificate(self, subscription_id: UUID) -> None:
        """None of its subscriptions has one."""

    def signing_key(self, app_id: UUID) -> SigningKey:
        self.asked += 1
        if app_id != APP:
            raise NotFound("app", app_id)
        return self.key


def test_a_token_verifies_and_has_the_documented_claims_and_header() -> None:
    """RS256, kid, no typ; data, iat, exp and nothing else."""
    keys = Keys()
    before = int(time.time())
    token = KeyRack(keys).fetch(APP).sign("{}")
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "kid": keys.key.kid}
    claims = jwt.decode(token, keys.key.public_key_pem, algorithms=["RS256"])
    assert claims.pop("data") == "{}"
    assert before <= claims["iat"] <= time.time()
    assert claims == {"iat": claims["iat"], "exp": claims["iat"] + sign.LIFETIME}


def test_another_apps_key_does_not_verify() -> None:
    """Each app has its own key."""
    token = KeyRack(Keys()).fetch(APP).sign("{}")
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, new_signing_key(APP).public_key_pem, algorithms=["RS256"])


def test_a_key_is_fetched_and_parsed_once() -> None:
    """Parsing for every token would be a hundred times slower."""
    keys = Keys()
    rack = KeyRack(keys)
    assert rack.remembered(APP) is None
    fetched = rack.fetch(APP)
    assert rack.remembered(APP) is fetched
    assert keys.asked == 1


def test_retries_follow_the_documented_schedule() -> None:
    """5 s, 30 s, 1 min, then Wix's twelve, 47 h 11 min in all; then none."""
    assert ORDERED_DELAYS[:3] == (5, 30, 60)
    assert len(ORDERED_DELAYS) == 15
    assert sum(ORDERED_DELAYS[3:]) == 47 * 3600 + 11 * 60
    policy = Policy(jitter=0)
    assert [policy.delay_after(n) for n in (1, 15, 16)] == [5.0, 12 * 3600.0, None]


def test_an_event_is_signed_once_and_anew_when_its_end_draws_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when the clock was set back: receivers refuse tokens of the future."""
    key, clock = KeyRack(Keys()).fetch(APP), [1_800_000_000.0]
    monkeypatch.setattr(sign.time, "time", lambda: clock[0])
    first = key.sign("{}", 0, "event")
    clock[0] += sign.LIFETIME - sign.SPARE - 1
    assert key.sign("{}", 0, "event") == first
    assert key.sign("{}", 3, "event") != first
    assert key.sign('{"identity":"erased"}', 0, "event") != first
    second = key.sign("{}", 0, "event")
    clock[0] += sign.LIFETIME
    third = key.sign("{}", 0, "event")
    assert third not in (first, second)
    clock[0] -= 3600
    fourth = key.sign("{}", 0, "event")
    claims = jwt.decode(fourth, options={"verify_signature": False})
    assert claims["iat"] == clock[0]


def test_standard_webhooks_headers_verify() -> None:
    """webhook-id, webhook-timestamp and v1a over id, timestamp and the same bytes, with whpk_."""
    keys = Keys()
    body = b"the.very.bytes"
    headers = KeyRack(keys).fetch(APP).webhook_headers("0197-id", body)
    public = sign.webhook_public_key(keys.key.private_key_pem)
    assert public.startswith("whpk_")
    verifier = Ed25519PublicKey.from_public_bytes(base64.b64decode(public[5:]))
    version, _, signature = headers["webhook-signature"].partition(",")
    assert (version, headers["webhook-id"]) == ("v1a", "0197-id")
    signed = f"0197-id.{headers['webhook-timestamp']}.".encode()
    verifier.verify(base64.b64decode(signature), signed + body)
    with pytest.raises(InvalidSignature):
        verifier.verify(base64.b64decode(signature), signed + b"other")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_rotating_the_rsa_key_rotates_the_other() -> None:
    """There is one pair of keys per kid."""
    one, other = new_signing_key(APP), new_signing_key(APP)
    assert sign.webhook_public_key(one.private_key_pem) == sign.webhook_public_key(
        one.private_key_pem
    )
    assert sign.webhook_public_key(one.private_key_pem) != sign.webhook_public_key(
        other.private_key_pem
    )
