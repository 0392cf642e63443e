"""Signatures: RS256 tokens and Ed25519 headers from each app's keys, parsed once."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from threading import Lock
from typing import Protocol
from uuid import UUID

import jwt
from cachetools import LRUCache, TTLCache
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ledger.errors import ConfigError
from ledger.publisher.certificates import Certificates

LIFETIME = 60 * 60
"""Seconds from ``iat`` to ``exp``. Later attempts are signed anew, so it need not outlive them."""

SPARE = 30 * 60
"""Seconds that a token must still hold when it is sent."""

REMEMBERED_TOKENS = 4096

SKIPPED_CLAIM = "skippedVersions"

KEY_MEMORY = 60.0
"""Seconds until a key is asked for again, so that a new one comes into use without a restart."""


class AppKey(Protocol):
    """An app's key pair as the directory hands it out: PEM, decrypted."""

    @property
    def kid(self) -> str: ...

    @property
    def private_key_pem(self) -> bytes: ...


class Keys(Certificates, Protocol):
    """Where signing keys come from, and client certificates too; the directory is one."""

    def signing_key(self, app_id: UUID) -> AppKey:
        """The app's key in use. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class _Signed:
    data: str
    token: str
    issued: int


class Tokens:
    """Tokens signed lately, so that an event is signed once for all that its app subscribed to."""

    def __init__(self, size: int = REMEMBERED_TOKENS) -> None:
        self._lock = Lock()
        self._signed: LRUCache[tuple[str, str, int], _Signed] = LRUCache(size)

    def find(self, place: tuple[str, str, int], data: str, now: int) -> str | None:
        """The token for the same data, unless its end draws near or it is of the future.

        Receivers refuse a token of the future: a clock that was set back must not leave any.
        """
        with self._lock:
            found = self._signed.get(place)
        if found is None or found.data != data:
            return None
        return found.token if 0 <= now - found.issued < LIFETIME - SPARE else None

    def keep(self, place: tuple[str, str, int], data: str, token: str, now: int) -> None:
        """Remember a token signed at ``now``."""
        with self._lock:
            self._signed[place] = _Signed(data, token, now)


@dataclass(frozen=True)
class SigningKey:
    """A parsed private key. Given as PEM, PyJWT would parse it for every token: 100 times slower.

    ``ed25519`` signs the Standard Webhooks headers over the same bytes. It follows from the
    RSA key, so that rotating one rotates both, and there is no second secret to keep.
    """

    kid: str
    private_key: RSAPrivateKey
    ed25519: Ed25519PrivateKey
    tokens: Tokens

    def sign(self, data: str, skipped: int = 0, event_id: str = "") -> str:
        """A compact JWS with the claims ``data``, ``iat``, ``exp`` and no ``typ`` (wire contract).

        ``skipped`` is how many versions before this one the receiver does not get: a claim of
        its own, so that ``data`` is the same in every attempt. The same event is signed once,
        and anew when its token's end draws near.
        """
        now, place = int(time.time()), (self.kid, event_id, skipped)
        if (known := self.tokens.find(place, data, now)) is not None:
            return known
        claims: dict[str, object] = {"data": data, "iat": now, "exp": now + LIFETIME}
        if skipped:
            claims[SKIPPED_CLAIM] = skipped
        token = jwt.encode(
            claims,
            self.private_key,
            algorithm="RS256",
            headers={"kid": self.kid, "typ": None},
        )
        self.tokens.keep(place, data, token, now)
        return token

    def webhook_headers(self, event_id: str, body: bytes) -> dict[str, str]:
        """The headers of Standard Webhooks 1.0, signed now: ``v1a`` is Ed25519 in base64."""
        timestamp = str(int(time.time()))
        signature = self.ed25519.sign(f"{event_id}.{timestamp}.".encode() + body)
        return {
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1a,{base64.b64encode(signature).decode()}",
        }


def ed25519_key(private_key_pem: bytes) -> Ed25519PrivateKey:
    """The Ed25519 key that goes with an app's RSA key."""
    derived = HKDF(SHA256(), 32, salt=None, info=b"settings-ledger standard webhooks ed25519")
    return Ed25519PrivateKey.from_private_bytes(derived.derive(private_key_pem))


def webhook_public_key(private_key_pem: bytes) -> str:
    """Its public half as Standard Webhooks writes it: ``whpk_`` and base64."""
    public_key = ed25519_key(private_key_pem).public_key().public_bytes_raw()
    return f"whpk_{base64.b64encode(public_key).decode()}"


class KeyRack:
    """Parsed keys by app, each remembered for a minute. Safe from any thread."""

    def __init__(self, keys: Keys) -> None:
        self.source = keys
        self._tokens = Tokens()
        self._lock = Lock()
        self._parsed: TTLCache[UUID, SigningKey] = TTLCache(10_000, KEY_MEMORY)

    def remembered(self, app_id: UUID) -> SigningKey | None:
        """The key if it is at hand: no waiting."""
        with self._lock:
            return self._parsed.get(app_id)

    def fetch(self, app_id: UUID) -> SigningKey:
        """The key from the directory, parsed. Raises NotFound and what the directory raises."""
        key = self.source.signing_key(app_id)
        private_key = load_pem_private_key(key.private_key_pem, password=None)
        if not isinstance(private_key, RSAPrivateKey):
            raise ConfigError(f"The signing key {key.kid} is not an RSA key.")
        pair = ed25519_key(key.private_key_pem)
        parsed = SigningKey(key.kid, private_key, pair, self._tokens)
        with self._lock:
            self._parsed[app_id] = parsed
        return parsed
