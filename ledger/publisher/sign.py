"""The signature: RS256 tokens from each app's key, parsed once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock
from typing import Protocol
from uuid import UUID

import jwt
from cachetools import TTLCache
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ledger.errors import ConfigError

LIFETIME = 60 * 60
"""Seconds from ``iat`` to ``exp``. Each attempt is signed anew, so it need not outlive the retries."""

SKIPPED_CLAIM = "skippedVersions"

KEY_MEMORY = 60.0
"""Seconds until a key is asked for again, so that a new one comes into use without a restart."""


class AppKey(Protocol):
    """An app's key pair as the directory hands it out: PEM, decrypted."""

    @property
    def kid(self) -> str: ...

    @property
    def private_key_pem(self) -> bytes: ...


class Keys(Protocol):
    """Where signing keys come from; the directory is one."""

    def signing_key(self, app_id: UUID) -> AppKey:
        """The app's key in use. Raises NotFound."""
        ...


@dataclass(frozen=True)
class SigningKey:
    """A parsed private key. Given as PEM, PyJWT would parse it for every token: 100 times slower."""

    kid: str
    private_key: RSAPrivateKey

    def sign(self, data: str, skipped: int = 0) -> str:
        """A compact JWS with the claims ``data``, ``iat``, ``exp`` and no ``typ`` (wire contract).

        ``skipped`` is how many versions before this one the receiver does not get: a claim of
        its own, so that ``data`` is the same in every attempt.
        """
        now = int(time.time())
        claims: dict[str, object] = {"data": data, "iat": now, "exp": now + LIFETIME}
        if skipped:
            claims[SKIPPED_CLAIM] = skipped
        return jwt.encode(
            claims,
            self.private_key,
            algorithm="RS256",
            headers={"kid": self.kid, "typ": None},
        )


class KeyRack:
    """Parsed keys by app, each remembered for a minute. Safe from any thread."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._lock = Lock()
        self._parsed: TTLCache[UUID, SigningKey] = TTLCache(10_000, KEY_MEMORY)

    def remembered(self, app_id: UUID) -> SigningKey | None:
        """The key if it is at hand: no waiting."""
        with self._lock:
            return self._parsed.get(app_id)

    def fetch(self, app_id: UUID) -> SigningKey:
        """The key from the directory, parsed. Raises NotFound and what the directory raises."""
        key = self._keys.signing_key(app_id)
        private_key = load_pem_private_key(key.private_key_pem, password=None)
        if not isinstance(private_key, RSAPrivateKey):
            raise ConfigError(f"The signing key {key.kid} is not an RSA key.")
        parsed = SigningKey(key.kid, private_key)
        with self._lock:
            self._parsed[app_id] = parsed
        return parsed
