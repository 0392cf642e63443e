"""The door as the config describes it."""

from __future__ import annotations

from ledger.access.access import Access
from ledger.access.issuerkeys import IssuerKeys
from ledger.access.outside import OutsideTokens
from ledger.access.tokens import AccessTokens
from ledger.config import Config
from ledger.directory import Directory
from ledger.secrets import Keyring


def open_access(config: Config, directory: Directory, keyring: Keyring) -> Access:
    """Keys, access tokens, and an identity provider's tokens where one is configured.

    Reads the ledger's id from the database. Raises DatabaseUnavailable.
    """
    outside = None
    if config.oidc_issuer is not None:
        outside = OutsideTokens(config, IssuerKeys(config.oidc_issuer))
    return Access(directory, AccessTokens(keyring, directory.ledger_id()), outside)
