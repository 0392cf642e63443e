"""What an app gets for its secret, and what a token says to whoever asks (RFC 6749, RFC 7662)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ledger.access.tokens import AccessTokens
from ledger.directory import Client
from ledger.errors import NotInstalled, PermissionDenied, Unauthenticated
from ledger.permissions import Caller

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_NOBODY = UUID(int=0)


class FindsClients(Protocol):
    """What this module asks of the directory."""

    def find_client(self, app_id: UUID, secret: str, instance_id: UUID) -> Client | None:
        """The app and its installation; None where any of the three is wrong."""


class ReadsTokens(Protocol):
    """What this module asks of the door."""

    def token_caller(self, token: str) -> tuple[Caller, int, int]:
        """Who a signed token is, and its ``iat`` and ``exp``. Raises Unauthenticated."""

    def app_caller(self, instance_id: UUID, site_id: UUID) -> Caller:
        """The app of an installed instance. Raises PermissionDenied."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token that holds: who it is, the app whose instance it names, and when it was and ends."""

    caller: Caller
    app_id: UUID | None
    issued_at: int
    expires_at: int


class Grants:
    """Gives access tokens to app instances, and tells what a token says."""

    def __init__(self, directory: FindsClients, tokens: AccessTokens, reader: ReadsTokens) -> None:
        self._directory = directory
        self._tokens = tokens
        self._reader = reader

    def grant(self, client_id: str, client_secret: str, instance_id: str) -> str:
        """An access token for an app's instance (OAuth's client credentials, RFC 6749, 4.4).

        Raises Unauthenticated where id, secret or instance is wrong, without telling which;
        NotInstalled where all three are right and the installation has ended.
        """
        client = self._directory.find_client(_id(client_id), client_secret, _id(instance_id))
        if client is None:
            raise Unauthenticated("The client id, the client secret or the instance id is wrong.")
        if client.installation.uninstalled_at is not None:
            raise NotInstalled("The app is not installed on the site any more.")
        return self._tokens.issue(client)

    def describe(self, token: str) -> TokenInfo | None:
        """What a signed token says; None where it does not hold, or is none. Raises Unavailable."""
        try:
            caller, issued_at, expires_at = self._reader.token_caller(token)
            app_id = None
            if caller.instance_id is not None:
                app = self._reader.app_caller(caller.instance_id, caller.site_id)
                app_id = UUID(app.identity.id)
        except (Unauthenticated, PermissionDenied):
            return None
        return TokenInfo(caller, app_id, issued_at, expires_at)


def _id(text: str) -> UUID:
    """The UUID; for what is none, one that nobody has, so that it fails like any wrong one."""
    return UUID(text) if _UUID.fullmatch(text) else _NOBODY
