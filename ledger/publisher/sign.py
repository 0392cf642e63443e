"""Signatures: RS256 tokens and Ed25519 headers from each app's keys, parsed once."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol
from uuid import UUID

from cachetools import LRUCache, TTLCache
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ledger.errors import ConfigError
from ledger.publisher.certificates import Certificates
from ledger.publisher.signer import Pair
from ledger.publisher.signers import Signers

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


Place = tuple[str, str, int]
"""A key, an event, and how many versions before it are skipped."""


@dataclass(slots=True)
class Signed:
    """A token of some ``data``, and the headers that went with it in the second ``stamped``."""

    data: str
    token: str
    issued: int
    stamped: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """What is sent."""
        return self.token.encode("ascii")


class Tokens:
    """Tokens signed lately, so that an event is signed once for all that its app subscribed to.

    ``coming`` are those that another process signs just now; it belongs to one event loop.
    """

    def __init__(self, size: int = REMEMBERED_TOKENS) -> None:
        self.coming: dict[tuple[Place, str], asyncio.Future[None]] = {}
        self._lock = Lock()
        self._signed: LRUCache[Place, Signed] = LRUCache(size)

    def find(self, place: Place, data: str, now: int) -> Signed | None:
        """The token for the same data, unless its end draws near or it is of the future.

        Receivers refuse a token of the future: a clock that was set back must not leave any.
        """
        with self._lock:
            found = self._signed.get(place)
        if found is None or found.data != data:
            return None
        return found if 0 <= now - found.issued < LIFETIME - SPARE else None

    def keep(self, place: Place, signed: Signed) -> None:
        """Remember a token."""
        with self._lock:
            self._signed[place] = signed


@dataclass(frozen=True)
class SigningKey:
    """A parsed private key. Parsed for every token, signing would take 100 times as long.

    The pair's Ed25519 key signs the Standard Webhooks headers over the same bytes. It follows
    from the RSA key, so that rotating one rotates both, and there is no second secret to keep.
    """

    kid: str
    pair: Pair
    tokens: Tokens

    def sign(self, data: str, skipped: int = 0, event_id: str = "") -> str:
        """A compact JWS with the claims ``data``, ``iat``, ``exp`` and no ``typ`` (wire contract).

        ``skipped`` is how many versions before this one the receiver does not get: a claim of
        its own, so that ``data`` is the same in every attempt. The same event is signed once,
        and anew when its token's end draws near.
        """
        now, place = int(time.time()), (self.kid, event_id, skipped)
        if (known := self.tokens.find(place, data, now)) is not None:
            return known.token
        content = self._content(data, skipped, now)
        return self._keep(place, data, now, content, self.pair.sign(b"", content)).token

    async def sign_beside(self, data: str, skipped: int, event_id: str, signers: Signers) -> Signed:
        """The token of ``sign`` with the headers of this second, by ``signers`` where it pays."""
        now, place = int(time.time()), (self.kid, event_id, skipped)
        while (coming := self.tokens.coming.get((place, data))) is not None:
            await asyncio.wait([coming])
        if (known := self.tokens.find(place, data, now)) is not None:
            if known.stamped != now:
                known.stamped, known.headers = now, self.webhook_headers(event_id, known.body)
            return known
        content = self._content(data, skipped, now)
        done = asyncio.get_running_loop().create_future()
        self.tokens.coming[place, data] = done
        try:
            signatures = await signers.sign(self.pair, _opening(event_id, now), content)
        finally:
            del self.tokens.coming[place, data]
            done.set_result(None)
        signed = self._keep(place, data, now, content, signatures)
        signed.stamped, signed.headers = now, _headers(event_id, now, signatures[1])
        return signed

    def webhook_headers(self, event_id: str, body: bytes) -> dict[str, str]:
        """The headers of Standard Webhooks 1.0, signed now: ``v1a`` is Ed25519 in base64."""
        now = int(time.time())
        return _headers(event_id, now, self.pair.stamp(_opening(event_id, now), body))

    def _content(self, data: str, skipped: int, now: int) -> bytes:
        """The token but for its signature (RFC 7515, 3.1)."""
        claims: dict[str, object] = {"data": data, "iat": now, "exp": now + LIFETIME}
        if skipped:
            claims[SKIPPED_CLAIM] = skipped
        return _encoded({"alg": "RS256", "kid": self.kid}) + b"." + _encoded(claims)

    def _keep(
        self, place: Place, data: str, now: int, content: bytes, signatures: tuple[bytes, bytes]
    ) -> Signed:
        signed = Signed(data, f"{content.decode()}.{signatures[0].decode()}", now)
        self.tokens.keep(place, signed)
        return signed


def _encoded(value: Mapping[str, object]) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode("ascii")
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def _opening(event_id: str, now: int) -> bytes:
    return f"{event_id}.{now}.".encode()


def _headers(event_id: str, now: int, signature: bytes) -> dict[str, str]:
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1a,{signature.decode()}",
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
        self._lock, self._fetching = Lock(), Lock()
        self._parsed: TTLCache[UUID, SigningKey] = TTLCache(10_000, KEY_MEMORY)

    def remembered(self, app_id: UUID) -> SigningKey | None:
        """The key if it is at hand: no waiting."""
        with self._lock:
            return self._parsed.get(app_id)

    def fetch(self, app_id: UUID) -> SigningKey:
        """The key from the directory, parsed. Raises NotFound and what the directory raises.

        One at a time: of many who miss the same key, only the first goes to get it.
        """
        with self._fetching:
            return self.remembered(app_id) or self._parse(app_id)

    def _parse(self, app_id: UUID) -> SigningKey:
        key = self.source.signing_key(app_id)
        # The directory has it from a store that proves it unaltered: its primes need no proof,
        # which takes 80 ms.
        private_key = load_pem_private_key(
            key.private_key_pem, password=None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(private_key, RSAPrivateKey):
            raise ConfigError(f"The signing key {key.kid} is not an RSA key.")
        pair = Pair(private_key, ed25519_key(key.private_key_pem))
        parsed = SigningKey(key.kid, pair, self._tokens)
        with self._lock:
            self._parsed[app_id] = parsed
        return parsed
