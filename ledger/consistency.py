"""Read-your-writes tokens: how far in the log a client has seen, for ``X-Wix-Consistent``."""

from __future__ import annotations

import base64
import binascii
import secrets
import struct
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.secrets import Keyring

HEADER = "X-Wix-Consistent"
PURPOSE = "consistency tokens"
MOST_PARTITIONS = 16
LONGEST_TOKEN = 1024

_FORMAT = b"\x01"
_NONCE_LENGTH = 12
_ENTRY = struct.Struct(">IQ")

Positions = Mapping[int, int]
"""Partition → the position in it that a read must have passed."""


class ConsistencyTokens:
    """Mints tokens at writes and reads them at reads. Pure; safe to use from any thread.

    A token is sealed (AES-256-GCM): it does not tell a client how much goes on at other sites,
    and what a client made up is not waited for. It holds one position for each partition that
    the client wrote to, because one client may write to sites of several.

    The current settings change in the append's own transaction, so reading them needs no
    waiting. Reads that rest on a projection that follows the log wait, for a bounded time,
    until it has passed ``read(header)``.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._cipher = AESGCM(keyring.derive(PURPOSE))
        self._associated = _FORMAT + keyring.key_id.encode()

    def mint(self, partition: int, position: int, carried: str | None = None) -> str:
        """A token for a write at this place, and for all that the client's ``carried`` one holds.

        The client sends one token, the last that it got; beyond 16 partitions the ones named
        longest ago are dropped.
        """
        seen = dict(self.read(carried))
        furthest = max(position, seen.pop(partition, 0))
        kept = [*seen.items()][-(MOST_PARTITIONS - 1) :]
        packed = b"".join(_ENTRY.pack(*entry) for entry in [*kept, (partition, furthest)])
        nonce = secrets.token_bytes(_NONCE_LENGTH)
        sealed = _FORMAT + nonce + self._cipher.encrypt(nonce, packed, self._associated)
        return base64.urlsafe_b64encode(sealed).decode("ascii")

    def read(self, token: str | None) -> Positions:
        """What the token holds; nothing for none, and for one that is foreign or was altered."""
        if token is None or len(token) > LONGEST_TOKEN:
            return {}
        try:
            sealed = base64.b64decode(token, altchars=b"-_", validate=True)
            nonce, body = sealed[1 : 1 + _NONCE_LENGTH], sealed[1 + _NONCE_LENGTH :]
            if sealed[:1] != _FORMAT:
                return {}
            packed = self._cipher.decrypt(nonce, body, self._associated)
        except (InvalidTag, binascii.Error, ValueError):
            return {}
        return dict(_ENTRY.iter_unpack(packed))
