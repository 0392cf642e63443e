"""Sites, apps, installations, API keys, subscriptions and signing keys."""

from __future__ import annotations

from ledger.directory.apps import public_jwk
from ledger.directory.directory import Directory
from ledger.directory.rows import (
    ApiKey,
    App,
    AppSecret,
    Client,
    Installation,
    NewApp,
    NewKey,
    NewSecret,
    PublicKey,
    Revocations,
    SigningKey,
    Site,
    Span,
    Subscription,
)

__all__ = [
    "ApiKey",
    "App",
    "AppSecret",
    "Client",
    "Directory",
    "Installation",
    "NewApp",
    "NewKey",
    "NewSecret",
    "PublicKey",
    "Revocations",
    "SigningKey",
    "Site",
    "Span",
    "Subscription",
    "public_jwk",
]
