"""The door: who calls, by the headers of a request."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Lock
from typing import Protocol
from uuid import UUID

from cachetools import TTLCache

from ledger.access.grants import Grants
from ledger.access.outside import OutsideTokens, looks_outside
from ledger.access.revocations import REVOKED_WITHIN, RecentRevocations
from ledger.access.tokens import TOKEN_PREFIX, AccessToken, AccessTokens, app_caller
from ledger.directory import ApiKey, App, Client, Installation, Revocations
from ledger.errors import InvalidInput, NotFound, PermissionDenied, Unauthenticated
from ledger.identity import Identity
from ledger.permissions import Caller

REMEMBERED_CALLERS = 10_000
LONGEST_CREDENTIAL = 8192

SITE_HEADER = "wix-site-id"
ACCOUNT_HEADER = "wix-account-id"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class FindsCredentials(Protocol):
    """What access asks of the directory."""

    def find_key(self, token: str) -> ApiKey | None:
        """The key that this token is; None for an unknown or revoked one."""

    def find_client(self, app_id: UUID, secret: str, instance_id: UUID) -> Client | None:
        """The app and its installation; None where any of the three is wrong."""

    def revocations(self, within: timedelta) -> Revocations:
        """What was uninstalled or revoked within this time."""

    def app(self, app_id: UUID) -> App:
        """The app. Raises NotFound."""

    def installation(self, instance_id: UUID) -> Installation:
        """The installation, ended or not. Raises NotFound."""


class Access:
    """Knows who calls. What was revoked is refused within ``REVOKED_WITHIN`` seconds.

    An API key is looked up and then remembered for that long, under its hash, so memory holds
    none; what does not hold is not remembered, so a new key works at once. Access tokens and
    outside tokens are verified at every call, and read no database: the list of what was
    revoked is kept at hand. Safe to use from any thread.
    """

    def __init__(
        self,
        directory: FindsCredentials,
        tokens: AccessTokens,
        outside: OutsideTokens | None = None,
        *,
        remember: float = REVOKED_WITHIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._tokens = tokens
        self._outside = outside
        self._revocations = RecentRevocations(directory, remember=remember, clock=clock)
        self.grants = Grants(directory, tokens, self)
        self._callers: TTLCache[bytes, Caller] = TTLCache(REMEMBERED_CALLERS, remember, clock)
        self._lock = Lock()

    def caller(
        self, authorization: str | None, site_id: str | None = None, account_id: str | None = None
    ) -> Caller:
        """Who calls, by the ``Authorization``, ``wix-site-id`` and ``wix-account-id`` headers.

        The credential comes bare or after ``Bearer``, and belongs to one site: without a site
        header that one is meant. May wait for the database, or the identity provider.

        Raises Unauthenticated; PermissionDenied for another site than the credential's, be it
        there or not; InvalidInput for headers that name no site; Unavailable.
        """
        token = _token(authorization)
        return _on_its_site(self._at_hand(token) or self._find(token), site_id, account_id)

    def remembered(
        self, authorization: str | None, site_id: str | None = None, account_id: str | None = None
    ) -> Caller | None:
        """The same without waiting; None where ``caller`` would have to ask somebody."""
        caller = self._at_hand(_token(authorization))
        return None if caller is None else _on_its_site(caller, site_id, account_id)

    def app_caller(self, instance_id: UUID, site_id: UUID) -> Caller:
        """The app acting for itself through its instance, whose scopes are the app's.

        Raises PermissionDenied where no app is installed there under this id, and
        DatabaseUnavailable.
        """
        refusal = "The app instance that the credential names is not installed on its site."
        try:
            installation = self._directory.installation(instance_id)
            app = self._directory.app(installation.app_id)
        except NotFound:
            raise PermissionDenied(refusal) from None
        if installation.site_id != site_id or installation.uninstalled_at is not None:
            raise PermissionDenied(refusal)
        return app_caller(app.app_id, instance_id, site_id, app.scopes)

    def token_caller(self, token: str) -> tuple[Caller, int, int]:
        """Who a signed token is, and its ``iat`` and ``exp``.

        Raises Unauthenticated, also for an API key, and Unavailable.
        """
        if token.startswith(TOKEN_PREFIX):
            read = self._tokens.read(token)
            caller = _holding(read, self._revocations.fetch())
            return caller, read.issued_at, read.expires_at
        if self._outside is not None and looks_outside(token):
            return self._outside.read(token), *self._outside.times(token)
        raise Unauthenticated("The credential is no signed token.")

    def _at_hand(self, token: str) -> Caller | None:
        if token.startswith(TOKEN_PREFIX):
            read = self._tokens.read(token)
            revocations = self._revocations.at_hand()
            return None if revocations is None else _holding(read, revocations)
        if self._outside is not None and looks_outside(token):
            return self._outside.at_hand(token)
        with self._lock:
            return self._callers.get(_fingerprint(token))

    def _find(self, token: str) -> Caller:
        if token.startswith(TOKEN_PREFIX):
            return _holding(self._tokens.read(token), self._revocations.fetch())
        if self._outside is not None and looks_outside(token):
            return self._outside.read(token)
        key = self._directory.find_key(token)
        if key is None:
            raise Unauthenticated("The credential is unknown or was revoked.")
        caller = Caller(
            identity=Identity.wix_user(key.wix_user_id),
            site_id=key.site_id,
            scopes=key.scopes,
            credential=key.prefix,
            client=key.prefix,
        )
        with self._lock:
            self._callers[_fingerprint(token)] = caller
        return caller


def _holding(token: AccessToken, revocations: Revocations) -> Caller:
    """The app that the token is for. Raises Unauthenticated where it was revoked meanwhile."""
    if token.instance_id in revocations.instances:
        raise Unauthenticated("The app is not installed on the site any more.")
    if token.secret_prefix in revocations.secrets:
        raise Unauthenticated("The secret that the access token was got by was revoked.")
    return token.caller


def _fingerprint(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _token(authorization: str | None) -> str:
    """The bare credential; the scheme's name is case-insensitive (RFC 9110, section 11.1)."""
    token = (authorization or "").strip()
    if token[:7].lower() == "bearer ":
        token = token[7:].strip()
    if not token or token.lower() == "bearer":
        raise Unauthenticated(
            "A credential is needed: send it in the Authorization header, with or without Bearer."
        )
    if len(token) > LONGEST_CREDENTIAL:
        raise Unauthenticated("The credential is too long to be one.")
    return token


def _on_its_site(caller: Caller, site_id: str | None, account_id: str | None) -> Caller:
    if site_id is not None and account_id is not None:
        raise InvalidInput(SITE_HEADER, f"expected either it or {ACCOUNT_HEADER}, never both")
    if account_id is not None:
        raise InvalidInput(
            ACCOUNT_HEADER, f"settings belong to a site, not to an account; send {SITE_HEADER}"
        )
    if site_id is None:
        return caller
    if not _UUID.fullmatch(site_id.strip()):
        raise InvalidInput(SITE_HEADER, "expected the site's id, a UUID")
    if UUID(site_id.strip()) != caller.site_id:
        raise PermissionDenied("The credential is for another site.")
    return caller
