"""Process options: each variable read, each bad one named, no secret repeated."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from ledger.config import Config, load_config
from ledger.errors import ConfigError

SECRET = "an-absolutely-secret-root-of-all-keys-0123456789"


def test_without_any_variable_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty environment means the embedded server, local addresses and nothing allowed."""
    monkeypatch.delenv("LEDGER_DATA_DIR")
    monkeypatch.delenv("LEDGER_SECRET_KEY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    config = load_config()
    assert config.database_url is None
    assert config.migration_url is None
    assert config.owner_url is None
    assert config.data_dir == Path("/somewhere/settings-ledger")
    assert config.secret_key is None
    assert config.allowed_networks == ()
    assert config.unknown_fields == "refuse"
    assert (config.host, config.port) == ("127.0.0.1", 8700)
    assert (config.queue_size, config.write_timeout, config.pool_size) == (10_000, 10.0, 8)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("DATABASE_URL", "postgresql://h/db", "postgresql://h/db"),
        ("MIGRATION_URL", "postgresql://o@h/db", "postgresql://o@h/db"),
        ("DATA_DIR", "/var/lib/ledger", Path("/var/lib/ledger")),
        ("ALLOWED_NETWORKS", "", ()),
        (
            "ALLOWED_NETWORKS",
            "10.0.0.0/8, 127.0.0.1 ,fd00::/8,10.1.2.3/16,",
            tuple(
                ipaddress.ip_network(each)
                for each in ("10.0.0.0/8", "127.0.0.1/32", "fd00::/8", "10.1.0.0/16")
            ),
        ),
        ("UNKNOWN_FIELDS", "ignore", "ignore"),
        ("KINDS", "loyalty.py, shop.kinds,", ("loyalty.py", "shop.kinds")),
        ("HOST", "0.0.0.0", "0.0.0.0"),
        ("PORT", "0", 0),
        ("QUEUE_SIZE", "5", 5),
        ("WRITE_TIMEOUT", "0.5", 0.5),
        ("POOL_SIZE", "2", 2),
        ("RATE_LIMIT", "0", 0),
        ("OIDC_SITE_CLAIM", "https://shop.example/site", "https://shop.example/site"),
        ("OIDC_IDENTITY_CLAIM", "kind", "kind"),
        ("OIDC_SCOPE_CLAIM", "permissions", "permissions"),
        ("OIDC_INSTANCE_CLAIM", "app", "app"),
    ],
)
def test_each_variable_is_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object
) -> None:
    """LEDGER_<NAME> sets the option of that name, and no other."""
    untouched = load_config().model_dump()
    monkeypatch.setenv(f"LEDGER_{variable}", text)
    found = load_config().model_dump()
    assert found.pop(variable.lower()) == value
    del untouched[variable.lower()]
    assert found == untouched


def test_every_option_says_what_it_is_for() -> None:
    """No option is without a description, which is what the README's table is held against."""
    assert [name for name, field in Config.model_fields.items() if not field.description] == []


def test_the_secret_key_is_read_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is there for whoever asks for it by name, and in no text of the config."""
    monkeypatch.setenv("LEDGER_SECRET_KEY", SECRET)
    config = load_config()
    assert config.secret_key is not None
    assert config.secret_key.get_secret_value() == SECRET
    assert SECRET not in f"{config!r} {config} {config.model_dump_json()}"


@pytest.mark.parametrize("variable", ["DATABASE_URL", "DATA_DIR", "SECRET_KEY", "PORT"])
def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """LEDGER_X= in an environment file means that X is not set: no empty path, no empty key."""
    monkeypatch.delenv(f"LEDGER_{variable}", raising=False)
    unset = load_config()
    monkeypatch.setenv(f"LEDGER_{variable}", "")
    assert load_config() == unset


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("PORT", "x", "must be a valid integer"),
        ("PORT", "65536", "must be less than or equal to 65535"),
        ("PORT", "-1", "must be greater than or equal to 0"),
        ("UNKNOWN_FIELDS", "perhaps", "must be 'refuse' or 'ignore'"),
        ("ALLOWED_NETWORKS", "10.0.0.0/8,here", "'here' does not appear to be an IPv4 or IPv6"),
        ("QUEUE_SIZE", "0", "must be greater than or equal to 1"),
        ("QUEUE_SIZE", "1.5", "must be a valid integer"),
        ("WRITE_TIMEOUT", "0", "must be greater than 0"),
        ("WRITE_TIMEOUT", "nan", "must be"),
        ("WRITE_TIMEOUT", "inf", "must be"),
        ("WRITE_TIMEOUT", "soon", "must be a valid number"),
        ("POOL_SIZE", "0", "must be greater than or equal to 1"),
        ("RATE_LIMIT", "-1", "must be greater than or equal to 0"),
        ("OIDC_ISSUER", "http://idp.example", "must be an https:// URL, or http:// on this"),
        ("OIDC_AUDIENCE", "x", "must be given together with LEDGER_OIDC_ISSUER"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, expected: str
) -> None:
    """The error is one line: the variable, and what it should have been."""
    monkeypatch.setenv(f"LEDGER_{variable}", text)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert str(caught.value).startswith(f"LEDGER_{variable}: {expected}")
    assert "\n" not in str(caught.value)


def test_all_bad_values_are_named_at_once_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mistakes give two complaints; what the other variables hold is not repeated."""
    monkeypatch.setenv("LEDGER_SECRET_KEY", SECRET)
    monkeypatch.setenv("LEDGER_DATABASE_URL", "postgresql://me:hush@h/db")
    monkeypatch.setenv("LEDGER_PORT", "x")
    monkeypatch.setenv("LEDGER_POOL_SIZE", "y")
    with pytest.raises(ConfigError) as caught:
        load_config()
    said = str(caught.value)
    assert "LEDGER_PORT: " in said
    assert "LEDGER_POOL_SIZE: " in said
    assert SECRET not in said
    assert "hush" not in said
    assert caught.value.__cause__ is None


def test_a_secret_of_the_wrong_type_is_not_repeated() -> None:
    """Even a key that cannot be one stays out of the message."""
    with pytest.raises(ConfigError) as caught:
        load_config(secret_key=123454321, database_url=b"\xff hush")
    assert "LEDGER_SECRET_KEY" in str(caught.value)
    assert "LEDGER_DATABASE_URL" in str(caught.value)
    assert "123454321" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_overrides_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a caller gives counts; None means not given."""
    monkeypatch.setenv("LEDGER_PORT", "1")
    monkeypatch.setenv("LEDGER_HOST", "there")
    config = load_config(port=2, host=None)
    assert (config.host, config.port) == ("there", 2)


def test_a_misspelt_override_is_refused() -> None:
    """An option that does not exist is an error, not a default in its place."""
    with pytest.raises(ConfigError, match="There is no option databse_url; there are database_url"):
        load_config(databse_url="postgresql://h/db")


def test_an_override_may_hold_networks_themselves() -> None:
    """A caller may give networks as objects; text that is none is named once."""
    network = ipaddress.ip_network("10.0.0.0/8")
    assert load_config(allowed_networks=(network,)).allowed_networks == (network,)
    with pytest.raises(ConfigError, match=r"^LEDGER_ALLOWED_NETWORKS: [^;]+$"):
        load_config(allowed_networks=("x",))


def test_the_owner_is_the_migration_url_or_the_serving_one() -> None:
    """Without a role of its own for migrations the serving role owns the tables."""
    assert load_config(database_url="a").owner_url == "a"
    assert load_config(database_url="a", migration_url="b").owner_url == "b"
