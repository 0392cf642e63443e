"""Process options; the only reader of the environment."""

from __future__ import annotations

import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ledger.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Config(BaseSettings):
    """Options of one process, each settable as ``LEDGER_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="LEDGER_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    database_url: str | None = Field(
        None, description="PostgreSQL 15 or later that serves; absent: the embedded server."
    )
    migration_url: str | None = Field(
        None, description="The role that owns the tables; absent: the serving one."
    )
    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("settings-ledger"),
        description="Where the embedded server and the secret key live.",
    )
    secret_key: SecretStr | None = Field(
        None, description="Root of every derived key; absent: a 0600 file in the data directory."
    )
    allowed_networks: Annotated[tuple[Network, ...], NoDecode] = Field(
        (), description="Private networks that may receive webhooks, comma separated."
    )
    unknown_fields: Literal["refuse", "ignore"] = Field(
        "refuse", description="What to do with a field of a patch that no kind declares."
    )
    kinds: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Python files or modules that declare further kinds, comma separated."
    )
    host: str = Field("127.0.0.1", description="Where `serve` listens.")
    port: int = Field(8700, ge=0, le=65535, description="Where `serve` listens; 0: any free one.")
    queue_size: int = Field(10_000, ge=1, description="Changes that may wait per partition.")
    write_timeout: float = Field(
        10.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that a change waits before it is given up.",
    )
    pool_size: int = Field(8, ge=1, description="Connections that serve reads.")
    rate_limit: int = Field(
        200, ge=0, description="Requests a minute of one key or app instance; 0: no limit."
    )
    metrics_token: SecretStr | None = Field(
        None, description="Bearer token that `/metrics` asks for; absent: there is no `/metrics`."
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Where `publish` serves `/metrics`; absent: nowhere."
    )
    metrics_host: str = Field("127.0.0.1", description="The same; others need a token.")
    log_format: Literal["words", "json"] = Field(
        "words", description="How `serve` and `publish` write their log: for people, or as JSON."
    )
    oidc_issuer: str | None = Field(
        None,
        description="Identity provider whose tokens are accepted; https, as its tokens have it.",
    )
    oidc_audience: str | None = Field(
        None,
        description="What the provider's tokens name as their audience.",
        validate_default=True,
    )
    oidc_site_claim: str = Field("siteId", description="The claim that names the site.")
    oidc_identity_claim: str = Field(
        "identityType", description="The claim that says WIX_USER, MEMBER or ANONYMOUS_VISITOR."
    )
    oidc_scope_claim: str = Field("scope", description="The claim that lists the scopes.")
    oidc_instance_claim: str = Field(
        "instanceId", description="The claim that names the app instance to elevate to, if any."
    )

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(
            ipaddress.ip_network(part.strip(), strict=False)
            for part in value.split(",")
            if part.strip()
        )

    @field_validator("kinds", mode="before")
    @classmethod
    def _split_kinds(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("oidc_issuer")
    @classmethod
    def _check_issuer(cls, value: str | None) -> str | None:
        if value is not None and not is_https_or_loopback(value):
            raise ValueError("must be an https:// URL, or http:// on this machine")
        return value

    @field_validator("oidc_audience")
    @classmethod
    def _check_audience(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "oidc_issuer" in info.data and (value is None) != (info.data["oidc_issuer"] is None):
            raise ValueError("must be given together with LEDGER_OIDC_ISSUER, or neither")
        return value

    @cached_property
    def owner_url(self) -> str | None:
        """The database as its owner reaches it: ``migration_url``, else ``database_url``."""
        return self.migration_url or self.database_url


def is_https_or_loopback(url: str) -> bool:
    """Whether nobody on the way can read or change what comes from this URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_config(**overrides: object) -> Config:
    """Read the environment; ``overrides`` that are not None win over it.

    Raises ConfigError naming the variable and what it should have been.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    if unknown := sorted(given.keys() - Config.model_fields.keys()):
        known = ", ".join(Config.model_fields)
        raise ConfigError(f"There is no option {', '.join(unknown)}; there are {known}.")
    try:
        return Config(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems: dict[str, str] = {}
        for problem in error.errors(include_input=False, include_url=False):
            name = f"LEDGER_{problem['loc'][0]}".upper()
            said = problem["msg"].removeprefix("Value error, ").replace("Input should", "must")
            problems.setdefault(name, said)
        raise ConfigError("; ".join(f"{name}: {said}" for name, said in problems.items())) from None
