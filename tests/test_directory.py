"""The directory: what it records, refuses, and from which position an app receives."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from ledger.database import Database, lock_partition
from ledger.directory import Directory
from ledger.errors import AlreadyExists, ConfigError, InvalidInput, NotFound, PermissionDenied
from ledger.identity import IdentityType
from ledger.kinds import KINDS
from ledger.secrets import Keyring

MANAGE_ORDERS = "SCOPE.DC-STORES.MANAGE-ORDERS"
READ_ORDERS = "SCOPE.DC-STORES.READ-ORDERS"
EVENT = "wix.ecom.v1.orders_settings_updated"
ROOT = "correct-horse-battery-staple-0123456789"


@pytest.fixture(scope="module")
def database(database_url):
    with Database(database_url) as database:
        yield database


@pytest.fixture
def directory(database):
    return Directory(database, Keyring(ROOT))


@pytest.fixture
def fresh(fresh_database):
    """A directory on a database of its own."""
    with Database(fresh_database().server_url) as database:
        yield Directory(database, Keyring(ROOT)), database


def append(connection, partition=0, count=1):
    """Append events as the log does, as far as the directory looks at them."""
    connection.execute(
        """
        INSERT INTO events
        SELECT %(partition)s, coalesce(max(position), 0) + n, %(originator)s, n, 'test', '{}',
               %(leaf)s
        FROM generate_series(1, %(count)s) AS n
        LEFT JOIN events ON partition = %(partition)s GROUP BY n
        """,
        {"partition": partition, "originator": uuid4(), "count": count, "leaf": bytes(32)},
    )


# Sites


def test_a_site_is_found_as_it_was_made(directory):
    """A site keeps its id, name and partition; the second look needs no database."""
    site_id = uuid4()
    made = directory.create_site(site_id, "  Corner shop ")
    assert (made.site_id, made.name, made.partition) == (site_id, "Corner shop", 0)
    assert directory.site(site_id) == made
    assert directory.site(site_id) is directory.site(site_id)
    assert made in directory.sites()


def test_a_site_gets_an_id_where_none_is_given(directory):
    """Without an id a random one is made."""
    assert directory.create_site().site_id != directory.create_site().site_id


def test_a_site_is_made_once(directory):
    """The same id again is refused and changes nothing."""
    made = directory.create_site(name="first")
    with pytest.raises(AlreadyExists, match=str(made.site_id)):
        directory.create_site(made.site_id, "second")
    assert directory.site(made.site_id).name == "first"


def test_an_unknown_site_is_not_found_until_it_is_made(directory):
    """That a site was missing is not remembered."""
    site_id = uuid4()
    with pytest.raises(NotFound, match=str(site_id)):
        directory.site(site_id)
    directory.create_site(site_id)
    assert directory.site(site_id).site_id == site_id


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\x00b", "a\nb", "\ud800"])
def test_an_unusable_name_is_refused(directory, name):
    """Empty, overlong and unprintable names are refused for sites and apps alike."""
    with pytest.raises(InvalidInput, match="name"):
        directory.create_site(name=name)
    with pytest.raises(InvalidInput, match="name"):
        directory.create_app(name, [MANAGE_ORDERS])


def test_sites_spread_over_the_partitions(fresh_database):
    """The site's id chooses among the partitions that there are."""
    made = fresh_database()
    with Database(made.owner_url) as owner, owner.connection() as connection:
        connection.execute("INSERT INTO partitions (partition) VALUES (1), (2)")
    with Database(made.server_url) as database:
        directory = Directory(database, Keyring(ROOT))
        assert directory.partitions() == [0, 1, 2]
        chosen = {directory.create_site(UUID(int=2**127 + n)).partition for n in range(6)}
    assert chosen == {0, 1, 2}


# Apps and keys


def test_an_app_gets_a_secret_and_a_key_pair_for_rs256(directory):
    """What the app's private key signs, the public key that was handed out verifies."""
    new = directory.create_app("Invoices", [READ_ORDERS, MANAGE_ORDERS, READ_ORDERS])
    key = directory.signing_key(new.app_id)
    assert (key.kid, key.public_key_pem) == (new.kid, new.public_key_pem)
    assert new.public_key_pem.startswith("-----BEGIN PUBLIC KEY-----")
    assert load_pem_public_key(new.public_key_pem.encode()).key_size == 2048
    token = jwt.encode({"data": "x"}, load_pem_private_key(key.private_key_pem, None), "RS256")
    assert jwt.decode(token, new.public_key_pem, ["RS256"]) == {"data": "x"}
    assert directory.app(new.app_id).scopes == {READ_ORDERS, MANAGE_ORDERS}
    assert directory.app(new.app_id) in directory.apps()


def test_the_kid_is_the_keys_thumbprint(directory):
    """``kid`` is what RFC 7638 makes of the public key, so that anyone can compute it."""
    new = directory.create_app("Invoices", [MANAGE_ORDERS])
    public_key = load_pem_public_key(new.public_key_pem.encode())
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(public_key, as_dict=True)
    canonical = '{{"e":"{e}","kty":"RSA","n":"{n}"}}'.format(**jwk)
    digest = hashlib.sha256(canonical.encode()).digest()
    assert new.kid == jwt.utils.base64url_encode(digest).decode()


def test_an_apps_secret_is_known_by_its_hash_alone(directory, database):
    """The secret holds, another does not, and the database has neither it nor the private key."""
    new = directory.create_app("Invoices", [MANAGE_ORDERS])
    assert directory.app_secret_holds(new.app_id, new.app_secret)
    assert not directory.app_secret_holds(new.app_id, new.app_secret + "x")
    assert not directory.app_secret_holds(uuid4(), new.app_secret)
    with database.connection() as connection:
        app = connection.execute(
            "SELECT * FROM app_secrets WHERE app_id = %s", (new.app_id,)
        ).fetchone()
        key = connection.execute(
            "SELECT private_key FROM signing_keys WHERE app_id = %s", (new.app_id,)
        ).fetchone()
    assert app["secret_hash"] == hashlib.sha256(new.app_secret.encode()).digest()
    assert b"PRIVATE KEY" not in key["private_key"]


def test_secrets_are_listed_by_their_prefixes(directory):
    """The list has every secret's prefix and times, and nothing that opens a door."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    new = directory.rotate_secret(app.app_id, timedelta(hours=1))
    old, current = directory.app_secrets(app.app_id)
    assert app.app_secret.startswith(old.prefix + "_")
    assert (current.prefix, current.expires_at, current.revoked_at) == (new.prefix, None, None)
    assert old.revoked_at is None
    assert timedelta(minutes=59) < old.expires_at - current.created_at <= timedelta(hours=1)
    assert old in directory.app_secrets()
    assert app.app_secret not in repr((app, old))
    assert new.app_secret not in repr(new)


def test_a_later_rotation_never_prolongs_an_overlap(directory):
    """What was to end in an hour does not live for a day because of a second rotation."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    directory.rotate_secret(app.app_id, timedelta(hours=1))
    ends = directory.app_secrets(app.app_id)[0].expires_at
    directory.rotate_secret(app.app_id, timedelta(days=1))
    assert directory.app_secrets(app.app_id)[0].expires_at == ends
    directory.rotate_key(app.app_id, timedelta(hours=1))
    until = directory.public_keys(app.app_id)[0].published_until
    directory.rotate_key(app.app_id, timedelta(days=1))
    assert directory.public_keys(app.app_id)[0].published_until == until


def test_an_expired_secret_holds_no_longer(directory, owner_url):
    """After its overlap the old secret is wrong, and the new one goes on."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    new = directory.rotate_secret(app.app_id, timedelta(hours=1))
    assert directory.app_secret_holds(app.app_id, app.app_secret)
    with Database(owner_url) as owner, owner.connection() as connection:
        connection.execute(
            """
            UPDATE app_secrets SET expires_at = expires_at - interval '1 hour'
            WHERE app_id = %s
            """,
            (app.app_id,),
        )
    assert not directory.app_secret_holds(app.app_id, app.app_secret)
    assert directory.app_secret_holds(app.app_id, new.app_secret)


def test_rotations_at_the_same_moment_leave_one_key_in_use(directory):
    """Two operators rotate at once: each gets a secret that holds, and one key signs."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: directory.rotate_key(app.app_id), range(4)))
    in_use = [key for key in directory.public_keys(app.app_id) if key.retired_at is None]
    assert len(in_use) == 1
    assert directory.signing_key(app.app_id).kid == in_use[0].kid
    assert {key.kid for key in made} <= {key.kid for key in directory.public_keys(app.app_id)}


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=4000)])
def test_an_overlap_has_bounds(directory, overlap):
    """A negative one, and one of eleven years, are mistakes."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    for rotate in (directory.rotate_secret, directory.rotate_key):
        with pytest.raises(InvalidInput, match="overlap"):
            rotate(app.app_id, overlap)
        with pytest.raises(NotFound):
            rotate(uuid4())


def test_revocations_name_what_ended_lately(directory):
    """Ended installations and revoked secrets; an overlap that runs is no revocation."""
    app, site = directory.create_app("Invoices", [MANAGE_ORDERS]), directory.create_site()
    instance = directory.install(app.app_id, site.site_id)
    directory.rotate_secret(app.app_id, timedelta(hours=1))
    first, second = (secret.prefix for secret in directory.app_secrets(app.app_id))
    before = directory.revocations(timedelta(hours=1))
    assert instance.instance_id not in before.instances
    assert not {first, second} & before.secrets
    directory.uninstall(instance.instance_id)
    directory.rotate_secret(app.app_id, timedelta(0))
    after = directory.revocations(timedelta(hours=1))
    assert instance.instance_id in after.instances
    assert {first, second} <= after.secrets
    assert directory.revocations(timedelta(0)).instances == frozenset()


def test_what_servers_ask_every_few_seconds_is_asked_of_indexes(directory, database):
    """The list of revocations does not read every installation that ever was."""
    queries = {
        "installations_ended": "SELECT instance_id FROM installations "
        "WHERE uninstalled_at > clock_timestamp() - interval '4 hours'",
        "app_secrets_revoked": "SELECT prefix FROM app_secrets "
        "WHERE revoked_at > clock_timestamp() - interval '4 hours'",
    }
    with database.connection() as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        for index, query in queries.items():
            rows = connection.execute("EXPLAIN " + query).fetchall()
            assert index in str(rows)


def test_the_ledger_has_one_id_for_ever(directory, database):
    """Every server of this database issues tokens under the same name."""
    assert directory.ledger_id() == Directory(database, directory._keyring).ledger_id()
    assert UUID(directory.ledger_id())


def test_an_app_is_made_once(directory):
    """The same id again is refused and leaves the first app's secret and key in force."""
    new = directory.create_app("Invoices", [MANAGE_ORDERS])
    with pytest.raises(AlreadyExists, match=str(new.app_id)):
        directory.create_app("Invoices", [MANAGE_ORDERS], new.app_id)
    assert directory.app_secret_holds(new.app_id, new.app_secret)
    assert directory.signing_key(new.app_id).kid == new.kid


def test_unknown_and_missing_scopes_are_refused_with_the_known_ones(directory):
    """A misspelt scope would silently allow nothing: it is refused, for apps and keys alike."""
    site = directory.create_site()
    for scopes in (["SCOPE.DC-STORES.MANAGE-ORDER"], []):
        with pytest.raises(InvalidInput, match=MANAGE_ORDERS):
            directory.create_app("Invoices", scopes)
        with pytest.raises(InvalidInput, match=MANAGE_ORDERS):
            directory.create_key(site.site_id, scopes)


def test_an_unknown_app_is_not_found(directory):
    """Whatever is asked of an app that is not there, the answer is NotFound."""
    app_id, site = uuid4(), directory.create_site()
    for ask in (
        lambda: directory.app(app_id),
        lambda: directory.signing_key(app_id),
        lambda: directory.install(app_id, site.site_id),
        lambda: directory.subscribe(app_id, "https://example.com"),
    ):
        with pytest.raises(NotFound, match=str(app_id)):
            ask()


def test_a_key_is_found_by_itself_and_by_nothing_else(directory):
    """A key is the whole token: neither its prefix nor another end will do."""
    site, user = directory.create_site(), uuid4()
    new = directory.create_key(site.site_id, [MANAGE_ORDERS], user)
    found = directory.find_key(new.api_key)
    assert (found.prefix, found.site_id, found.wix_user_id) == (new.prefix, site.site_id, user)
    assert found.scopes == {MANAGE_ORDERS}
    assert new.api_key.startswith(f"{new.prefix}_")
    other = directory.create_key(site.site_id, [MANAGE_ORDERS])
    secret = other.api_key.removeprefix(other.prefix)
    for wrong in (new.prefix, new.api_key[:-1], new.api_key + "x", new.prefix + secret, "", "\x00"):
        assert directory.find_key(wrong) is None


def test_a_revoked_key_is_not_found_and_stays_listed(directory):
    """Revoking ends a key, again is no error, and the list tells when it was."""
    new = directory.create_key(directory.create_site().site_id, [MANAGE_ORDERS])
    directory.revoke_key(new.prefix)
    directory.revoke_key(new.prefix)
    assert directory.find_key(new.api_key) is None
    listed = {key.prefix: key for key in directory.keys()}  # noqa: SIM118 - no dictionary
    assert listed[new.prefix].revoked_at is not None
    with pytest.raises(NotFound):
        directory.revoke_key("slk_unknown1")


def test_a_key_needs_a_site(directory):
    """A key for a site that is not there is NotFound."""
    with pytest.raises(NotFound):
        directory.create_key(uuid4(), [MANAGE_ORDERS])


def test_representations_show_no_secret(directory):
    """What a log or a traceback prints of new apps and keys holds no secret."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    key = directory.create_key(directory.create_site().site_id, [MANAGE_ORDERS])
    shown = f"{app!r} {key!r} {directory.signing_key(app.app_id)!r}"
    assert app.app_secret not in shown
    assert key.api_key not in shown
    assert "PRIVATE" not in shown


# Installations and subscriptions


def test_an_installation_begins_and_ends_at_the_heads_of_its_time(fresh):
    """An app receives what is appended between its installation and its end, no more, no less."""
    directory, database = fresh
    site, app = directory.create_site(), directory.create_app("Invoices", [MANAGE_ORDERS])
    with database.connection() as connection:
        append(connection, count=3)
    installed = directory.install(app.app_id, site.site_id)
    assert (installed.after_position, installed.until_position) == (3, None)
    with database.connection() as connection:
        append(connection, count=2)
    ended = directory.uninstall(installed.instance_id)
    assert (ended.after_position, ended.until_position) == (3, 5)
    assert directory.installations() == []
    assert directory.installations(ended=True) == [ended]
    with pytest.raises(NotFound):
        directory.uninstall(installed.instance_id)


def test_an_app_is_on_a_site_once_at_a_time(directory):
    """Again is refused while it is installed, and makes a new instance after it was not."""
    site, app = directory.create_site(), directory.create_app("Invoices", [MANAGE_ORDERS])
    first = directory.install(app.app_id, site.site_id)
    with pytest.raises(AlreadyExists):
        directory.install(app.app_id, site.site_id)
    directory.uninstall(first.instance_id)
    second = directory.install(app.app_id, site.site_id)
    assert second.instance_id != first.instance_id
    assert directory.installations(site_id=site.site_id) == [second]
    assert directory.installations(app_id=app.app_id, ended=True) == [
        directory.installation(first.instance_id),
        second,
    ]


def test_installing_at_once_succeeds_once(directory):
    """Of many who install the same app on the same site together, one does."""
    site, app = directory.create_site(), directory.create_app("Invoices", [MANAGE_ORDERS])

    def install(_):
        try:
            return directory.install(app.app_id, site.site_id)
        except AlreadyExists:
            return None

    with ThreadPoolExecutor(4) as pool:
        assert len([done for done in pool.map(install, range(4)) if done]) == 1


def test_a_subscription_begins_and_ends_at_the_heads_of_its_time(fresh):
    """A subscription receives what is appended between its beginning and its end."""
    directory, database = fresh
    app = directory.create_app("Invoices", [READ_ORDERS])
    with database.connection() as connection:
        append(connection, count=3)
    made = directory.subscribe(app.app_id, "https://example.com/hook?x=1")
    assert made.event_type == EVENT
    assert made.spans[0].after_position == 3
    assert directory.subscriptions() == [made]
    with database.connection() as connection:
        append(connection, count=2)
    directory.delete_subscription(made.subscription_id)
    assert directory.subscriptions() == []
    (ended,) = directory.subscriptions(deleted=True)
    assert (ended.spans[0].after_position, ended.spans[0].until_position) == (3, 5)
    with pytest.raises(NotFound):
        directory.delete_subscription(made.subscription_id)


def test_a_partition_that_is_added_later_is_received_whole(fresh_database):
    """No span means from the beginning; ending the subscription writes that down."""
    made = fresh_database()
    with Database(made.owner_url) as owner, Database(made.server_url) as database:
        directory = Directory(database, Keyring(ROOT))
        app = directory.create_app("Invoices", [READ_ORDERS])
        subscription = directory.subscribe(app.app_id, "https://example.com")
        with owner.connection() as connection:
            connection.execute("INSERT INTO partitions (partition) VALUES (1)")
            append(connection, partition=1, count=2)
        assert list(directory.subscriptions()[0].spans) == [0]
        directory.delete_subscription(subscription.subscription_id)
        span = directory.subscriptions(deleted=True)[0].spans[1]
        assert (span.after_position, span.until_position) == (0, 2)


@pytest.mark.parametrize("begin", ["install", "subscribe"])
def test_beginning_waits_for_an_append_that_is_under_way(fresh, begin):
    """An event whose position was taken but not yet committed is before the beginning.

    Reading the head without the lock would see 0 here, and the event would be sent.
    """
    directory, database = fresh
    site, app = directory.create_site(), directory.create_app("Invoices", [MANAGE_ORDERS])

    def begun() -> int:
        if begin == "install":
            return directory.install(app.app_id, site.site_id).after_position
        return directory.subscribe(app.app_id, "https://example.com").spans[0].after_position

    with ThreadPoolExecutor(1) as pool:
        with database.connection() as connection:
            lock_partition(connection, 0)
            append(connection)
            beginning = pool.submit(begun)
            while not waits_for_a_lock(database):
                assert not beginning.done()
        assert beginning.result(timeout=10) == 1


def waits_for_a_lock(database):
    with database.connection() as connection:
        row = connection.execute(
            "SELECT count(*) AS waiting FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ).fetchone()
        return row["waiting"] > 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://",
        "https:///path",
        "https://user:password@example.com",
        "https://user@example.com",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://example.com/\r\nHost: other",
        "https://example.com\\@other.example",
        "https://[::1",
        "https://exämple.com",
        "https://example.com/" + "x" * 2000,
    ],
)
def test_a_url_of_the_wrong_form_is_refused(directory, url):
    """Only http(s)://host[:port][/path][?query] in plain ASCII is a receiver."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    with pytest.raises(InvalidInput, match="url"):
        directory.subscribe(app.app_id, url)


def test_an_unknown_event_type_is_refused_with_the_known_ones(directory):
    """A subscription to an event that never comes would wait for ever."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    with pytest.raises(InvalidInput, match=EVENT):
        directory.subscribe(app.app_id, "https://example.com", "wix.ecom.v1.order_updated")


@pytest.mark.parametrize("scope", sorted(next(iter(KINDS.values())).scopes))
def test_every_scope_of_the_table_receives_the_event(directory, scope):
    """Any one of the contract's scopes suffices for the event."""
    app = directory.create_app("Invoices", [scope])
    assert directory.subscribe(app.app_id, "https://example.com", EVENT).event_type == EVENT


def test_an_app_whose_scopes_do_not_cover_the_event_is_refused(directory, database):
    """Such a subscription would never receive; the refusal names the scopes that would do."""
    app = directory.create_app("Invoices", [MANAGE_ORDERS])
    with database.connection() as connection:
        connection.execute(
            "UPDATE apps SET scopes = '{SCOPE.OTHER}' WHERE app_id = %s", (app.app_id,)
        )
    with pytest.raises(PermissionDenied, match=MANAGE_ORDERS):
        directory.subscribe(app.app_id, "https://example.com")


# The installation itself


def test_the_operator_is_made_once(fresh):
    """Every process of an installation acts as the same WIX_USER, also when all start at once."""
    directory, database = fresh
    with ThreadPoolExecutor(4) as pool:
        operators = set(pool.map(lambda _: directory.operator(), range(8)))
    assert len(operators) == 1
    assert operators.pop().type is IdentityType.WIX_USER
    assert Directory(database, Keyring(ROOT)).operator() == directory.operator()


def test_another_secret_key_is_noticed(fresh):
    """The key that set a database up is the only one that passes."""
    directory, database = fresh
    directory.verify_keyring()
    Directory(database, Keyring(ROOT)).verify_keyring()
    with pytest.raises(ConfigError, match="LEDGER_SECRET_KEY"):
        Directory(database, Keyring(ROOT[::-1])).verify_keyring()
