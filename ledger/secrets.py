"""The secret key, the keys derived from it, and secrets that are handed out once."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger.config import Config
from ledger.errors import ConfigError

SECRET_FILE = "secret.key"
HOW_TO_MAKE_ONE = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
SHORTEST_KEY = 32
FEWEST_DIFFERENT_CHARACTERS = 8

SEALED_FORMAT = b"\x01"
KEY_ID_LENGTH = 4
NONCE_LENGTH = 12
_HEADER_LENGTH = len(SEALED_FORMAT) + KEY_ID_LENGTH


class Keyring:
    """One root secret and the keys derived from it, one per purpose (HKDF-SHA256, RFC 5869).

    What is encrypted starts with a format byte and the key's id, so that a later program can
    hold several roots and know which one opens what.
    """

    def __init__(self, root: str) -> None:
        self._root = _strong_enough(root.strip()).encode()
        self._key_id = self.derive("key id")[:KEY_ID_LENGTH]

    @classmethod
    def from_config(cls, config: Config) -> Keyring:
        """Take ``LEDGER_SECRET_KEY``, else the data directory's file, made when missing.

        Raises ConfigError for a weak key and for a file that others can read.
        """
        if config.secret_key is not None:
            return cls(config.secret_key.get_secret_value())
        return cls(_read_or_create(config.data_dir / SECRET_FILE))

    @property
    def key_id(self) -> str:
        """The root's public name, 8 hexadecimal digits; it tells nothing about the root."""
        return self._key_id.hex()

    @property
    def check_value(self) -> str:
        """What the database remembers, so that another root is noticed at once."""
        return self.derive("check value").hex()

    def derive(self, purpose: str) -> bytes:
        """Return the 32-byte key for one purpose; the same root and purpose give the same key."""
        info = b"settings-ledger/1/" + purpose.encode()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._root)

    def encrypt(self, purpose: str, plaintext: bytes, associated: bytes = b"") -> bytes:
        """Seal with AES-256-GCM; ``associated`` must be the same again at ``decrypt``."""
        header = SEALED_FORMAT + self._key_id
        nonce = secrets.token_bytes(NONCE_LENGTH)
        sealed = AESGCM(self.derive(purpose)).encrypt(nonce, plaintext, header + associated)
        return header + nonce + sealed

    def decrypt(self, purpose: str, sealed: bytes, associated: bytes = b"") -> bytes:
        """Open what ``encrypt`` sealed.

        Raises ConfigError when it was sealed with another root, or altered since.
        """
        header, rest = sealed[:_HEADER_LENGTH], sealed[_HEADER_LENGTH:]
        if header != SEALED_FORMAT + self._key_id:
            raise ConfigError(
                f"This was encrypted with the secret key {header[1:].hex()}, and the one in use is "
                f"{self.key_id}: set LEDGER_SECRET_KEY to the key that was used then."
            )
        nonce, body = rest[:NONCE_LENGTH], rest[NONCE_LENGTH:]
        try:
            return AESGCM(self.derive(purpose)).decrypt(nonce, body, header + associated)
        except (InvalidTag, ValueError):
            raise ConfigError(
                "An encrypted value in the database was altered or belongs to another row."
            ) from None

    def __repr__(self) -> str:
        return f"<Keyring {self.key_id}>"


def new_secret(prefix: str = "") -> str:
    """Return a fresh secret of 256 random bits: ``prefix`` and 43 URL-safe characters."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a secret: SHA-256, enough for 256 random bits."""
    # A lone surrogate, which JSON can bring, is merely another wrong secret.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def matches(secret: str, stored_hash: bytes) -> bool:
    """Compare a secret with its stored hash in constant time."""
    return hmac.compare_digest(hash_secret(secret), stored_hash)


def _strong_enough(root: str) -> str:
    if len(root) < SHORTEST_KEY:
        raise ConfigError(
            f"LEDGER_SECRET_KEY needs at least {SHORTEST_KEY} characters. {HOW_TO_MAKE_ONE}"
        )
    if len(set(root)) < FEWEST_DIFFERENT_CHARACTERS:
        raise ConfigError(f"LEDGER_SECRET_KEY is too easy to guess. {HOW_TO_MAKE_ONE}")
    return root


def _read_or_create(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        raise ConfigError(
            f"The secret key file {path} cannot be used: {error.strerror or error}."
        ) from None


def _read(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise ConfigError(
                f"Others can read the secret key file {path} (mode {mode:04o}): "
                f"run `chmod 600 {path}`, and think about who may have read it."
            )
        return file.read()


def _create(path: Path) -> None:
    """Put a new key at ``path``, whole or not at all; where two try at once, the first wins."""
    with _complete_file(path.parent, secrets.token_urlsafe(48) + "\n") as complete:
        try:
            os.link(complete, path)
        except FileExistsError:
            return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _complete_file(directory: Path, text: str) -> Iterator[Path]:
    path = directory / f".{SECRET_FILE}.{secrets.token_hex(8)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)
