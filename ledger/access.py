"""Credentials become callers here, and nowhere else."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from threading import Lock
from typing import Protocol
from uuid import UUID

from cachetools import TTLCache

from ledger.directory import ApiKey
from ledger.errors import InvalidInput, PermissionDenied, Unauthenticated
from ledger.identity import Caller, Identity

REVOKED_WITHIN = 5.0
"""Seconds within which every server refuses a key that was revoked."""
REMEMBERED_CALLERS = 10_000
LONGEST_CREDENTIAL = 4096

SITE_HEADER = "wix-site-id"
ACCOUNT_HEADER = "wix-account-id"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class FindsKeys(Protocol):
    """What access asks of the directory."""

    def find_key(self, token: str) -> ApiKey | None:
        """The key that this token is; None for an unknown or revoked one."""


class Access:
    """Knows who calls, and keeps it in mind for at most ``REVOKED_WITHIN`` seconds.

    A key is remembered under its hash, so memory holds none; what does not hold is not
    remembered, so a new key works at once. Safe to use from any thread.
    """

    def __init__(
        self,
        directory: FindsKeys,
        *,
        remember: float = REVOKED_WITHIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._callers: TTLCache[bytes, Caller] = TTLCache(REMEMBERED_CALLERS, remember, clock)
        self._lock = Lock()

    def caller(
        self, authorization: str | None, site_id: str | None = None, account_id: str | None = None
    ) -> Caller:
        """Who calls, by the ``Authorization``, ``wix-site-id`` and ``wix-account-id`` headers.

        The credential comes bare or after ``Bearer``. An API key belongs to one site: without a
        site header that one is meant. May read the database.

        Raises Unauthenticated; PermissionDenied for another site than the credential's, be it
        there or not; InvalidInput for headers that name no site.
        """
        token = _token(authorization)
        return _on_its_site(self._remembered(token) or self._find(token), site_id, account_id)

    def remembered(
        self, authorization: str | None, site_id: str | None = None, account_id: str | None = None
    ) -> Caller | None:
        """The same without the database; None where ``caller`` would have to ask it."""
        caller = self._remembered(_token(authorization))
        return None if caller is None else _on_its_site(caller, site_id, account_id)

    def _remembered(self, token: str) -> Caller | None:
        with self._lock:
            return self._callers.get(_fingerprint(token))

    def _find(self, token: str) -> Caller:
        key = self._directory.find_key(token)
        if key is None:
            raise Unauthenticated("The credential is unknown or was revoked.")
        caller = Caller(
            identity=Identity.wix_user(key.wix_user_id),
            site_id=key.site_id,
            scopes=key.scopes,
            credential=key.prefix,
        )
        with self._lock:
            self._callers[_fingerprint(token)] = caller
        return caller


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
