"""What the directory holds, as values: sites, apps, installations, keys, subscriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Site:
    """A tenant. Its partition is chosen at creation and never changes."""

    site_id: UUID
    partition: int
    name: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class App:
    """A program that is installed on sites and receives their events."""

    app_id: UUID
    name: str
    scopes: frozenset[str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewApp:
    """An app just created: the only time that its secret is shown."""

    app_id: UUID
    app_secret: str = field(repr=False)
    public_key_pem: str
    kid: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An app's key pair for webhooks: RS256, PEM (PKCS #8 and SPKI), ``kid`` as in RFC 7638."""

    kid: str
    app_id: UUID
    public_key_pem: str
    private_key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of an app's key; a retired one is published until ``published_until``."""

    kid: str
    app_id: UUID
    public_key_pem: str
    created_at: datetime
    retired_at: datetime | None
    published_until: datetime | None


@dataclass(frozen=True, slots=True)
class AppSecret:
    """A secret of an app; ``prefix`` is its public id. None: it holds until it is rotated."""

    prefix: str
    app_id: UUID
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret just made: the only time that it is shown."""

    app_secret: str = field(repr=False)
    prefix: str
    app_id: UUID


@dataclass(frozen=True, slots=True)
class Client:
    """An app that proved by its secret who it is, and an installation of its own."""

    app: App
    secret_prefix: str
    installation: Installation


@dataclass(frozen=True, slots=True)
class Revocations:
    """What ended lately: tokens of these instances, or got with these secrets, hold no longer."""

    instances: frozenset[UUID] = frozenset()
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Installation:
    """An app on a site: it receives the positions in (after_position, until_position]."""

    instance_id: UUID
    app_id: UUID
    site_id: UUID
    partition: int
    after_position: int
    until_position: int | None
    installed_at: datetime
    uninstalled_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of a Wix user for one site; ``prefix`` is its public id."""

    prefix: str
    site_id: UUID
    wix_user_id: UUID
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just created: the only time that it is shown whole."""

    api_key: str = field(repr=False)
    prefix: str
    site_id: UUID
    wix_user_id: UUID


@dataclass(frozen=True, slots=True)
class Span:
    """A subscription on one partition: it receives (after_position, until_position]."""

    after_position: int
    until_position: int | None = None


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What may be shown of a client certificate; ``fingerprint`` is its SHA-256 in hexadecimal."""

    fingerprint: str
    subject: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ClientCertificate(CertificateFacts):
    """A client certificate with its chain and its private key (PKCS #8), both in PEM."""

    certificate_pem: str
    private_key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Subscription:
    """An app's webhook for one event type.

    A partition without a span was added later: it is received from its beginning.
    """

    subscription_id: UUID
    app_id: UUID
    event_type: str
    url: str
    created_at: datetime
    deleted_at: datetime | None
    spans: Mapping[int, Span]
    client_certificate: CertificateFacts | None = None

    @property
    def certificate(self) -> str | None:
        """The fingerprint of its client certificate, where it has one."""
        return None if self.client_certificate is None else self.client_certificate.fingerprint
