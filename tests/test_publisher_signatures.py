"""What receivers verify, from what they really got, without any of our own code for it.

The libraries that Standard Webhooks publishes verify ``v1`` (a shared secret) only, so its
``v1a`` is verified here as the specification says it: Ed25519 over id, timestamp and body.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from publishing import World, flip
from receivers import Arrival, Receiver

from ledger.assembly import Ledger
from ledger.publisher import webhook_public_key

TOLERANCE = 5 * 60
"""Seconds that Standard Webhooks lets a timestamp be off."""


@pytest.fixture
def world(fresh_database: Callable[[], Any]) -> Iterator[World]:
    with Ledger.open(database_url=fresh_database().server_url) as ledger:
        yield World.on(ledger)


async def delivered(world: World) -> Arrival:
    async with Receiver() as receiver:
        world.subscribe(receiver)
        flip(world.site())
        await world.publish()
    [arrival] = receiver.arrivals
    return arrival


def verify_standard_webhook(public_key: str, headers: dict[str, str], body: bytes) -> None:
    """Standard Webhooks 1.0, "Verifying webhook authenticity". Raises InvalidSignature."""
    assert public_key.startswith("whpk_")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key[5:], validate=True))
    if abs(int(headers["webhook-timestamp"]) - time.time()) > TOLERANCE:
        raise InvalidSignature
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in headers["webhook-signature"].split(" "):
        version, _, encoded = signature.partition(",")
        if version == "v1a":
            key.verify(base64.b64decode(encoded, validate=True), signed)
            return
    raise InvalidSignature


async def test_the_standard_webhooks_headers_of_a_delivery_verify(world: World) -> None:
    """With the key that ``subscription show`` prints; nothing of it can be altered."""
    arrival = await delivered(world)
    secret = world.ledger.directory.signing_key(world.app.app_id).private_key_pem
    public_key, body = webhook_public_key(secret), arrival.body.encode()
    headers = {name.lower(): value for name, value in arrival.headers.items()}
    verify_standard_webhook(public_key, headers, body)
    assert headers["webhook-id"] == arrival.id
    later = str(int(headers["webhook-timestamp"]) + 1)
    for altered, content in (
        (headers, body + b" "),
        (headers | {"webhook-id": "another"}, body),
        (headers | {"webhook-timestamp": later}, body),
        (headers | {"webhook-timestamp": "0"}, body),
    ):
        with pytest.raises(InvalidSignature):
            verify_standard_webhook(public_key, altered, content)


async def test_the_body_of_a_delivery_verifies_as_a_jws(world: World) -> None:
    """RFC 7515 with RS256 (RFC 7518, 3.3), by the public key that the app was made with."""
    arrival = await delivered(world)
    signed, _, signature = arrival.body.rpartition(".")
    key = load_pem_public_key(world.app.public_key_pem.encode())
    assert isinstance(key, RSAPublicKey)
    key.verify(decoded(signature), signed.encode("ascii"), PKCS1v15(), SHA256())
    with pytest.raises(InvalidSignature):
        key.verify(decoded(signature), signed[:-1].encode("ascii"), PKCS1v15(), SHA256())
    header, claims = (json.loads(decoded(part)) for part in signed.split("."))
    assert header == {"kid": world.app.kid, "alg": "RS256"}
    assert claims.keys() == {"data", "iat", "exp"}
    assert claims["iat"] <= time.time() < claims["exp"]
    assert isinstance(claims["data"], str)
    assert isinstance(json.loads(claims["data"])["identity"], str)


def decoded(part: str) -> bytes:
    """Base64url without padding (RFC 7515, 2)."""
    assert "=" not in part
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
