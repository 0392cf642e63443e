"""Tokens of an outside identity provider (OpenID Connect), and whom they make of their claims."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import jwt

from ledger.access.issuerkeys import IssuerKeys
from ledger.access.jws import is_compact
from ledger.canonical import text_problem
from ledger.config import Config
from ledger.errors import Unauthenticated
from ledger.identity import Identity, IdentityType
from ledger.permissions import Caller

CREDENTIAL = "oidc"
"""Stands in events for the credential: a token's subject is personal data, and not recorded there."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
CLOCKS_APART = 30
"""Seconds by which the provider's clock may differ from ours."""
LONGEST_SUBJECT = 200

# An outside provider knows people; an app proves by its own secret who it is.
_PEOPLE = {str(each): each for each in IdentityType if each is not IdentityType.APP}
_DECODER = jwt.PyJWT(options={"enforce_minimum_key_length": True})
_REFUSED = (
    "The token does not hold: it was altered, or is not from this ledger's identity provider."
)


class OutsideTokens:
    """Verifies tokens of ``LEDGER_OIDC_ISSUER`` for ``LEDGER_OIDC_AUDIENCE``.

    ``sub`` is the identity's id. The identity's type, the site, the scopes and the app instance
    (optional) are read from the claims that the config names.
    """

    def __init__(self, config: Config, keys: IssuerKeys) -> None:
        self._config = config
        self._keys = keys

    def at_hand(self, token: str) -> Caller | None:
        """Who the token is, None where its key has to be fetched first. Raises Unauthenticated."""
        key = self._keys.at_hand(_kid(token))
        return None if key is None else self._caller(token, key)

    def read(self, token: str) -> Caller:
        """Who the token is; may ask the provider. Raises Unauthenticated and Unavailable."""
        key = self._keys.get(_kid(token))
        if key is None:
            raise Unauthenticated("The identity provider knows no such key as the token names.")
        return self._caller(token, key)

    def times(self, token: str) -> tuple[int, int]:
        """The ``iat`` and ``exp`` of a token that was read."""
        claims = jwt.decode(token, options={"verify_signature": False})
        return int(claims.get("iat", 0)), int(claims["exp"])

    def _caller(self, token: str, key: jwt.PyJWK) -> Caller:
        try:
            claims = _DECODER.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._config.oidc_issuer,
                audience=self._config.oidc_audience,
                leeway=CLOCKS_APART,
                options={"require": ["iss", "aud", "exp", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired; ask for a new one.") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise Unauthenticated(_REFUSED) from None
        return self._mapped(claims)

    def _mapped(self, claims: dict[str, Any]) -> Caller:
        names = self._config
        subject = claims["sub"]
        kind = _PEOPLE.get(str(claims.get(names.oidc_identity_claim)))
        if kind is None:
            raise Unauthenticated(
                f"The token's claim {names.oidc_identity_claim} must be one of "
                f"{', '.join(sorted(_PEOPLE))}."
            )
        if not 1 <= len(subject) <= LONGEST_SUBJECT or text_problem(subject) is not None:
            raise Unauthenticated(
                f"The token's sub must have 1 to {LONGEST_SUBJECT} characters of text."
            )
        instance = claims.get(names.oidc_instance_claim)
        identity = Identity(kind, subject)
        return Caller(
            identity=identity,
            site_id=_uuid(claims.get(names.oidc_site_claim), names.oidc_site_claim),
            scopes=_scopes(claims.get(names.oidc_scope_claim)),
            credential=CREDENTIAL,
            instance_id=None if instance is None else _uuid(instance, names.oidc_instance_claim),
            client=_client(identity),
        )


def looks_outside(token: str) -> bool:
    """Whether something has three parts, as a signed token has: no other credential of ours does."""
    return token.count(".") == 2


def _kid(token: str) -> str | None:
    try:
        if not is_compact(token):
            raise jwt.DecodeError
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, TypeError):
        raise Unauthenticated(_REFUSED) from None
    return None if kid is None else str(kid)


def _uuid(value: object, claim: str) -> UUID:
    try:
        return UUID(value) if isinstance(value, str) else UUID("")
    except ValueError:
        raise Unauthenticated(f"The token's claim {claim} must be a UUID.") from None


def _scopes(value: object) -> frozenset[str]:
    """A list, or words between spaces (RFC 8693, section 4.2); absent: none."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list):
        return frozenset()
    return frozenset(word for word in words if isinstance(word, str))


def _client(identity: Identity) -> str:
    """A name for the identity that does not tell it, where repeats and limits are counted."""
    digest = hashlib.sha256(f"{identity.type}\x00{identity.id}".encode("utf-8", "replace"))
    return f"{CREDENTIAL}:{digest.hexdigest()[:32]}"
