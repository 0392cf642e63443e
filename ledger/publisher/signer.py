"""The arithmetic of signatures, and a program that does nothing else.

RSA takes most of a delivery's time and keeps the interpreter to itself, so a busy publisher has
processes of this file's ``main`` sign for it. It imports nothing of the ledger, so that such a
process starts fast and stays small.
"""

from __future__ import annotations

import base64
import signal
import struct
import sys
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

REQUEST = struct.Struct(">BHHI")
"""What follows (KEY or CONTENT), the key's slot, the bytes of its first part and of its second."""

ANSWER = struct.Struct(">HH")
"""The bytes of the token's signature and of the webhook's."""

KEY, CONTENT = 1, 2

_PADDING, _HASH = PKCS1v15(), SHA256()


@dataclass(frozen=True)
class Pair:
    """The two keys that sign an app's webhooks."""

    rsa: RSAPrivateKey
    ed25519: Ed25519PrivateKey

    def sign(self, opening: bytes, content: bytes) -> tuple[bytes, bytes]:
        """The signatures of a token and of the webhook that carries it, both in base64.

        ``content`` is the token but for its signature (RS256, RFC 7515), ``opening`` what a
        Standard Webhooks signature goes over before the body.
        """
        signature = base64.urlsafe_b64encode(self.rsa.sign(content, _PADDING, _HASH)).rstrip(b"=")
        return signature, self.stamp(opening, content + b"." + signature)

    def stamp(self, opening: bytes, token: bytes) -> bytes:
        """The webhook's signature alone, for a token that is signed already."""
        return base64.b64encode(self.ed25519.sign(opening + token))

    def parts(self) -> tuple[bytes, bytes]:
        """What ``of`` makes the same pair from."""
        return (
            self.rsa.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            self.ed25519.private_bytes_raw(),
        )

    @classmethod
    def of(cls, rsa: bytes, ed25519: bytes) -> Pair:
        """The pair of these ``parts``. They are our own: their primes need no proof."""
        key = load_der_private_key(rsa, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(key, RSAPrivateKey)
        return cls(key, Ed25519PrivateKey.from_private_bytes(ed25519))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests in their order, until there are no more."""
    pairs: dict[int, Pair] = {}
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        kind, slot, first, second = REQUEST.unpack(head)
        parts = requests.read(first), requests.read(second)
        if kind == KEY:
            pairs[slot] = Pair.of(*parts)
            continue
        token, webhook = pairs[slot].sign(*parts)
        answers.write(ANSWER.pack(len(token), len(webhook)) + token + webhook)
        answers.flush()


if __name__ == "__main__":
    # Ctrl-C is the publisher's matter: this ends with it, because then the pipe ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)
