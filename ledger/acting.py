"""Acting with a credential in a program of one's own, and with the app's instead: ``elevate``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar
from uuid import UUID

from ledger.aggregate import SettingsRecord
from ledger.errors import PermissionDenied
from ledger.identity import Identity, Provenance, Via
from ledger.permissions import Caller
from ledger.settings import SettingsKind

P = ParamSpec("P")
R = TypeVar("R")


class ActsOn(Protocol):
    """What this module asks of a ledger."""

    def get(self, site_id: UUID, kind: SettingsKind) -> SettingsRecord:
        """The current settings."""

    def update(
        self,
        site_id: UUID,
        kind: SettingsKind,
        patch: Mapping[str, Any],
        provenance: Provenance,
        *,
        if_match: Sequence[int] | None = None,
    ) -> SettingsRecord:
        """Change settings and wait until the change is durable."""


class Acting:
    """One caller on one site's settings of one kind; may do what its credential may, no more.

    ``on_behalf_of`` is who asked, where an app acts for another.
    """

    def __init__(
        self,
        ledger: ActsOn,
        caller: Caller,
        kind: SettingsKind,
        app_caller: Callable[[UUID, UUID], Caller],
        *,
        credential: str | None = None,
        on_behalf_of: Identity | None = None,
    ) -> None:
        self._ledger = ledger
        self._app_caller = app_caller
        self._credential = credential or caller.credential
        self.caller = caller
        self.kind = kind
        self.on_behalf_of = on_behalf_of

    def settings(self) -> dict[str, Any]:
        """The values as they stand. Raises PermissionDenied and NotFound."""
        return self.record().settings

    def record(self) -> SettingsRecord:
        """The values with version, position and dates. Raises PermissionDenied and NotFound."""
        self.caller.may_read(self.kind)
        return self._ledger.get(self.caller.site_id, self.kind)

    def update(
        self,
        patch: Mapping[str, Any],
        *,
        reason: str | None = None,
        if_version: int | None = None,
    ) -> SettingsRecord:
        """Lay ``patch`` over the settings and return them; durable once this returns.

        Raises PermissionDenied, and what ``SiteHandle.update`` raises.
        """
        self.caller.may_update(self.kind)
        provenance = Provenance(
            actor=self.caller.identity,
            via=Via("library", self._credential),
            on_behalf_of=self.on_behalf_of,
            reason=reason,
        )
        if_match = None if if_version is None else (if_version,)
        return self._ledger.update(
            self.caller.site_id, self.kind, patch, provenance, if_match=if_match
        )

    def elevated(self) -> Acting:
        """The app whose instance the credential names, acting on behalf of this caller.

        Raises PermissionDenied where the credential names none, or it is not installed here.
        """
        if self.caller.instance_id is None:
            raise PermissionDenied(
                "The credential names no app instance, so there is no app to elevate to."
            )
        app = self._app_caller(self.caller.instance_id, self.caller.site_id)
        asked = None if app.identity == self.caller.identity else self.caller.identity
        return Acting(
            self._ledger,
            app,
            self.kind,
            self._app_caller,
            credential=self._credential,
            on_behalf_of=self.on_behalf_of or asked,
        )


def elevate(method: Callable[P, R]) -> Callable[P, R]:
    """The same method of the app instance that the caller's credential names.

    ``elevate(caller.update)(patch)`` changes settings as the app, whoever calls: the event has
    the app as its actor and the caller under ``on_behalf_of``. Whoever can reach an elevated
    call can do what the app may, any visitor of the site included: check first who asks and
    what for, and take nothing from the request that you did not expect.

    The call raises PermissionDenied where the credential names no app instance, the app is not
    installed on the site, or its own scopes do not suffice. Raises TypeError for anything but
    a method of what ``ledger.caller(…)`` gives.
    """
    acting = getattr(method, "__self__", None)
    if not isinstance(acting, Acting):
        raise TypeError("elevate takes a method of a caller: elevate(caller.update)")
    name = method.__name__

    @functools.wraps(method)
    def elevated(*args: P.args, **keywords: P.kwargs) -> R:
        result: R = getattr(acting.elevated(), name)(*args, **keywords)
        return result

    return elevated
