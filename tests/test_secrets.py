"""The secret key: where it comes from, what is derived from it, and what it refuses."""

from __future__ import annotations

import multiprocessing
import stat
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from ledger.config import Config
from ledger.errors import ConfigError
from ledger.secrets import SECRET_FILE, Keyring, hash_secret, matches, new_secret

ROOT = "correct-horse-battery-staple-0123456789"


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch):
    """What these tests set is all there is."""
    monkeypatch.delenv("LEDGER_SECRET_KEY", raising=False)


def test_a_purpose_has_one_key_and_another_purpose_another():
    """The same root and purpose give the same 32 bytes, anything else gives others."""
    keyring, same, other = Keyring(ROOT), Keyring(ROOT), Keyring(ROOT + "!")
    assert keyring.derive("tokens") == same.derive("tokens")
    assert len(keyring.derive("tokens")) == 32
    assert len({keyring.derive("tokens"), keyring.derive("other"), other.derive("tokens")}) == 3


def test_derived_keys_never_change():
    """What was encrypted by an earlier program opens in this one: the derivation is pinned."""
    keyring = Keyring(ROOT)
    assert keyring.derive("private keys at rest").hex() == PINNED_KEY
    assert keyring.key_id == PINNED_KEY_ID


PINNED_KEY = "ba14f5d27539a8af70e849a817259869fe864b229f436dc991b76b769f59da6a"
PINNED_KEY_ID = "a36485f1"


def test_what_was_encrypted_opens_with_the_same_purpose_and_association():
    """Encrypting twice differs, and both open."""
    keyring = Keyring(ROOT)
    sealed = [keyring.encrypt("tokens", b"text", b"row 1") for _ in range(2)]
    assert sealed[0] != sealed[1]
    assert {keyring.decrypt("tokens", one, b"row 1") for one in sealed} == {b"text"}
    assert b"text" not in sealed[0]


@pytest.mark.parametrize(
    ("purpose", "associated", "alter"),
    [
        ("other", b"row 1", lambda sealed: sealed),
        ("tokens", b"row 2", lambda sealed: sealed),
        ("tokens", b"row 1", lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1])),
        ("tokens", b"row 1", lambda sealed: sealed[:10]),
        ("tokens", b"row 1", lambda sealed: b""),
    ],
    ids=["purpose", "association", "altered", "truncated", "empty"],
)
def test_what_does_not_fit_does_not_open(purpose, associated, alter):
    """Another purpose, another row or other bytes are refused in a sentence."""
    sealed = Keyring(ROOT).encrypt("tokens", b"text", b"row 1")
    with pytest.raises(ConfigError):
        Keyring(ROOT).decrypt(purpose, alter(sealed), associated)


def test_another_root_is_named_in_the_refusal():
    """The operator reads which key it was and which one is in use."""
    keyring, other = Keyring(ROOT), Keyring(ROOT[::-1])
    with pytest.raises(ConfigError, match=f"{keyring.key_id}.*{other.key_id}.*LEDGER_SECRET_KEY"):
        other.decrypt("tokens", keyring.encrypt("tokens", b"text"))


@pytest.mark.parametrize("weak", ["", "short", "a" * 64, "ab" * 40, " " * 64])
def test_a_weak_key_is_refused_with_a_way_to_make_a_strong_one(weak):
    """Whoever sets a weak key is told how to make another, and the key is not repeated."""
    with pytest.raises(ConfigError, match="token_urlsafe") as refusal:
        Keyring.from_config(Config(secret_key=weak))
    assert len(weak) < 6 or weak not in str(refusal.value)


def test_the_environment_wins_over_the_file(tmp_path):
    """With LEDGER_SECRET_KEY set no file is made."""
    keyring = Keyring.from_config(Config(secret_key=f"{ROOT}\n", data_dir=tmp_path))
    assert keyring.key_id == Keyring(ROOT).key_id
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_made_once(tmp_path):
    """The first start makes a key that only its owner reads; the next one reads the same."""
    config = Config(data_dir=tmp_path / "new" / "directory")
    first, second = Keyring.from_config(config), Keyring.from_config(config)
    path = config.data_dir / SECRET_FILE
    assert first.key_id == second.key_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in config.data_dir.iterdir()] == [SECRET_FILE]


def _key_id(data_dir: Path) -> str:
    return Keyring.from_config(Config(data_dir=data_dir)).key_id


def test_processes_that_start_together_agree_on_the_key(tmp_path):
    """Whoever comes second takes the first one's key, and never half a file."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        for attempt in range(10):
            directory = tmp_path / str(attempt)
            assert len(set(pool.map(_key_id, [directory] * 8))) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_a_file_that_others_can_read_is_refused(tmp_path, mode):
    """A key that others may have read is no secret; the refusal says what to do."""
    config = Config(data_dir=tmp_path)
    Keyring.from_config(config)
    (tmp_path / SECRET_FILE).chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        Keyring.from_config(config)


def test_an_empty_file_is_refused(tmp_path):
    """A file that lost its content is not taken for a key."""
    (tmp_path / SECRET_FILE).touch(mode=0o600)
    with pytest.raises(ConfigError):
        Keyring.from_config(Config(data_dir=tmp_path))


def test_an_impossible_place_is_a_clear_error(tmp_path):
    """A data directory that is a file is a sentence, not a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="secret key file"):
        Keyring.from_config(Config(data_dir=tmp_path / "file"))


def test_secrets_never_show(tmp_path):
    """No representation of keyring or config holds the key."""
    config = Config(secret_key=ROOT)
    shown = f"{Keyring(ROOT)!r} {Keyring(ROOT)} {config!r} {config}"
    assert ROOT not in shown


def test_a_handed_out_secret_matches_its_hash_alone():
    """256 random bits, compared with what is stored of them."""
    secret = new_secret("sls_")
    assert len(secret) == len("sls_") + 43
    assert matches(secret, hash_secret(secret))
    assert not matches(new_secret("sls_"), hash_secret(secret))
    assert not matches("", hash_secret(secret))
    assert not matches("\ud800", hash_secret(secret))
