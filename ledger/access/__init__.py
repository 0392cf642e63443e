"""Credentials become callers here, and nowhere else: API keys, access tokens, outside tokens."""

from __future__ import annotations

from ledger.access.access import (
    ACCOUNT_HEADER,
    REMEMBERED_CALLERS,
    SITE_HEADER,
    Access,
    FindsCredentials,
)
from ledger.access.grants import Grants, TokenInfo
from ledger.access.issuerkeys import IssuerKeys
from ledger.access.opening import open_access
from ledger.access.outside import OutsideTokens
from ledger.access.revocations import REVOKED_WITHIN
from ledger.access.tokens import LIFETIME, TOKEN_PREFIX, AccessToken, AccessTokens

__all__ = [
    "ACCOUNT_HEADER",
    "LIFETIME",
    "REMEMBERED_CALLERS",
    "REVOKED_WITHIN",
    "SITE_HEADER",
    "TOKEN_PREFIX",
    "Access",
    "AccessToken",
    "AccessTokens",
    "FindsCredentials",
    "Grants",
    "IssuerKeys",
    "OutsideTokens",
    "TokenInfo",
    "open_access",
]
