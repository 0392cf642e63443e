"""Sites, apps, installations, API keys, subscriptions and signing keys."""

from __future__ import annotations

from ledger.directory.apps import public_jwk
from ledger.directory.certificates import checked_certificate
from ledger.directory.directory import Directory
from ledger.directory.rows import (
    ApiKey,
    App,
    AppSecret,
    CertificateFacts,
    Client,
    ClientCertificate,
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
    "CertificateFacts",
    "Client",
    "ClientCertificate",
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
    "checked_certificate",
    "public_jwk",
]
