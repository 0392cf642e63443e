"""Sites, apps, installations, API keys, subscriptions and signing keys."""

from __future__ import annotations

from ledger.directory.directory import Directory
from ledger.directory.rows import (
    ApiKey,
    App,
    Installation,
    NewApp,
    NewKey,
    SigningKey,
    Site,
    Span,
    Subscription,
)

__all__ = [
    "ApiKey",
    "App",
    "Directory",
    "Installation",
    "NewApp",
    "NewKey",
    "SigningKey",
    "Site",
    "Span",
    "Subscription",
]
