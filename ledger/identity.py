"""Who acts: identities, and where a change came from. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from uuid import UUID


class IdentityType(StrEnum):
    """The four identity types of the Wix contract."""

    ANONYMOUS_VISITOR = "ANONYMOUS_VISITOR"
    MEMBER = "MEMBER"
    WIX_USER = "WIX_USER"
    APP = "APP"


@dataclass(frozen=True, slots=True)
class Identity:
    """One who acts: a type and the id within that type."""

    type: IdentityType
    id: str

    @classmethod
    def app(cls, app_id: UUID | str) -> Identity:
        """The app acting for itself."""
        return cls(IdentityType.APP, str(app_id))

    @classmethod
    def wix_user(cls, wix_user_id: UUID | str) -> Identity:
        """A person or an API key of theirs."""
        return cls(IdentityType.WIX_USER, str(wix_user_id))

    @classmethod
    def member(cls, member_id: UUID | str) -> Identity:
        """A logged-in member of the site."""
        return cls(IdentityType.MEMBER, str(member_id))

    @classmethod
    def anonymous_visitor(cls, anonymous_visitor_id: UUID | str) -> Identity:
        """A visitor who did not log in."""
        return cls(IdentityType.ANONYMOUS_VISITOR, str(anonymous_visitor_id))


def commitment(salt: bytes, kind_of_value: str, value: str) -> str:
    """SHA-256(salt ‖ type ‖ 0x00 ‖ value) in hex: proves the value while salt and value are kept."""
    material = salt + kind_of_value.encode("utf-8") + b"\x00" + value.encode("utf-8")
    return hashlib.sha256(material).hexdigest()


@dataclass(frozen=True, slots=True)
class Via:
    """The way a change came in.

    ``credential`` is the public id of the key or token; ``asserted`` is true where the actor
    was claimed by a trusted caller rather than authenticated.
    """

    channel: Literal["http", "cli", "library"]
    credential: str | None = None
    asserted: bool = False


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who changes, through what, for whom, and why."""

    actor: Identity
    via: Via
    on_behalf_of: Identity | None = None
    reason: str | None = None
    origin: str | None = None
    request_id: str | None = None
