"""Access tokens of app instances: signed here, verified here, without a look at the database."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any
from uuid import UUID, uuid4

import jwt
from cachetools import LRUCache

from ledger.access.jws import is_compact
from ledger.directory import Client
from ledger.errors import Unauthenticated
from ledger.identity import Identity
from ledger.permissions import Caller
from ledger.secrets import Keyring

LIFETIME = 4 * 60 * 60
"""Seconds that a token holds, as Wix's do."""
TOKEN_PREFIX = "OauthNG.JWS."
PURPOSE = "access tokens"

CLOCKS_APART = 5
"""Seconds by which the clocks of two servers may differ: one reads what another just issued."""

REMEMBERED_TOKENS = 10_000

_ALGORITHM = "HS256"
_TYPE = "at+jwt"
_REQUIRED = [
    *("iss", "aud", "sub", "client_id", "instance_id", "site_id", "scope", "secret"),
    *("iat", "nbf", "exp", "jti"),
]


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says: who holds it (an app's instance on a site), and the secret it was got by."""

    caller: Caller
    instance_id: UUID
    secret_prefix: str
    issued_at: int
    expires_at: int


def app_caller(app_id: UUID, instance_id: UUID, site_id: UUID, scopes: frozenset[str]) -> Caller:
    """An app that acts for itself through its instance on a site."""
    return Caller(
        identity=Identity.app(app_id),
        site_id=site_id,
        scopes=scopes,
        credential=str(instance_id),
        instance_id=instance_id,
        client=str(instance_id),
    )


class AccessTokens:
    """Issues and reads tokens: JWTs (claims as in RFC 9068) under a key of their own purpose.

    Symmetric, because nobody but the servers of this ledger reads them. ``ledger_id`` is issuer
    and audience: another ledger's tokens are refused even where the secret key is the same.
    """

    def __init__(
        self, keyring: Keyring, ledger_id: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = keyring.derive(PURPOSE)
        self._key_id = keyring.key_id
        self._issuer = f"settings-ledger:{ledger_id}"
        self._clock = clock
        self._verified: LRUCache[bytes, AccessToken] = LRUCache(REMEMBERED_TOKENS)
        self._lock = Lock()

    def issue(self, client: Client) -> str:
        """A token for the installation that the client named."""
        now = int(self._clock())
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": str(client.app.app_id),
            "client_id": str(client.app.app_id),
            "instance_id": str(client.installation.instance_id),
            "site_id": str(client.installation.site_id),
            "scope": " ".join(sorted(client.app.scopes)),
            "secret": client.secret_prefix,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
            "jti": str(uuid4()),
        }
        headers = {"kid": self._key_id, "typ": _TYPE}
        return TOKEN_PREFIX + jwt.encode(claims, self._key, _ALGORITHM, headers)

    def read(self, token: str) -> AccessToken:
        """What a token of ours says. Raises Unauthenticated for everything else.

        That a signature held is remembered (under the token's hash): it will not cease to.
        """
        fingerprint = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            known = self._verified.get(fingerprint)
        if known is None or known.expires_at <= time.time():
            known = self._verify(token)
            with self._lock:
                self._verified[fingerprint] = known
        return known

    def _verify(self, token: str) -> AccessToken:
        bare = token.removeprefix(TOKEN_PREFIX)
        try:
            if not is_compact(bare):
                raise jwt.DecodeError
            read = jwt.decode_complete(
                bare,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                audience=self._issuer,
                leeway=CLOCKS_APART,
                options={"require": _REQUIRED, "strict_aud": True},
            )
            return self._checked(read["header"], read["payload"])
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The access token has expired; ask for a new one.") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise Unauthenticated(
                "The access token does not hold: it was altered, or comes from elsewhere."
            ) from None

    def _checked(self, header: dict[str, Any], claims: dict[str, Any]) -> AccessToken:
        if header.get("typ") != _TYPE or header.get("kid") != self._key_id:
            raise jwt.InvalidTokenError
        instance_id = UUID(claims["instance_id"])
        scopes = frozenset(claims["scope"].split())
        return AccessToken(
            caller=app_caller(
                UUID(claims["client_id"]), instance_id, UUID(claims["site_id"]), scopes
            ),
            instance_id=instance_id,
            secret_prefix=str(claims["secret"]),
            issued_at=int(claims["iat"]),
            expires_at=int(claims["exp"]),
        )
