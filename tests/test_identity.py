"""Who acts: identities by their types, and what commits to them."""

from __future__ import annotations

import hashlib
from uuid import UUID

from ledger.identity import Identity, IdentityType, commitment


def test_identities_are_made_by_their_type() -> None:
    """Each constructor gives its type, and a UUID becomes its text."""
    some_id = UUID("11111111-2222-4333-8444-555555555555")
    assert [
        Identity.app(some_id),
        Identity.wix_user(some_id),
        Identity.member(some_id),
        Identity.anonymous_visitor("v"),
    ] == [
        Identity(IdentityType.APP, str(some_id)),
        Identity(IdentityType.WIX_USER, str(some_id)),
        Identity(IdentityType.MEMBER, str(some_id)),
        Identity(IdentityType.ANONYMOUS_VISITOR, "v"),
    ]


def test_a_commitment_is_the_frozen_hash() -> None:
    """SHA-256 over salt, type, a zero byte and the id, in hex (design: "Frozen")."""
    salt = bytes(range(32))
    expected = hashlib.sha256(salt + b"WIX_USER\x00" + "ü-1".encode()).hexdigest()
    assert commitment(salt, "WIX_USER", "ü-1") == expected
    assert commitment(salt, "WIX_USER", "ü-1") != commitment(bytes(32), "WIX_USER", "ü-1")
    assert commitment(salt, "AB", "C") != commitment(salt, "A", "BC")
