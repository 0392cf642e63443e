"""API keys and the headers around a credential: who calls, and on which site."""

from __future__ import annotations

from uuid import uuid4

import pytest
from credentials import KEYRING, MANAGE_ORDERS, Clock, Counting

from ledger.access import REVOKED_WITHIN, Access, AccessTokens
from ledger.database import Database
from ledger.directory import Directory
from ledger.errors import InvalidInput, PermissionDenied, Unauthenticated
from ledger.identity import Identity
from ledger.permissions import Caller


@pytest.fixture(scope="module")
def directory(database_url):
    with Database(database_url) as database:
        yield Directory(database, KEYRING)


def door(directory, **options):
    return Access(directory, AccessTokens(KEYRING, directory.ledger_id()), **options)


@pytest.fixture
def access(directory):
    return door(directory)


@pytest.fixture
def site(directory):
    return directory.create_site()


@pytest.fixture
def key(directory, site):
    return directory.create_key(site.site_id, [MANAGE_ORDERS])


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "bearer {}", "BEARER   {}", " {} "])
def test_a_key_comes_bare_or_after_bearer(access, key, site, form):
    """The SDK sends the bare key, curl recipes send Bearer: both are the same caller."""
    caller = access.caller(form.format(key.api_key), str(site.site_id))
    assert caller == Caller(
        identity=Identity.wix_user(key.wix_user_id),
        site_id=site.site_id,
        scopes=frozenset({MANAGE_ORDERS}),
        credential=key.prefix,
        client=key.prefix,
    )


def test_without_a_site_header_the_keys_own_site_is_meant(access, key, site):
    """A key belongs to one site, so the seed's curl line works as it stands."""
    assert access.caller(key.api_key).site_id == site.site_id


def test_a_site_is_named_in_any_case(access, key, site):
    """UUIDs are compared by value."""
    assert access.caller(key.api_key, str(site.site_id).upper()).site_id == site.site_id


def test_another_site_is_refused_whether_it_exists_or_not(access, directory, key):
    """The refusal does not tell which sites exist."""
    refusals = []
    for other in (directory.create_site().site_id, uuid4()):
        with pytest.raises(PermissionDenied) as refusal:
            access.caller(key.api_key, str(other))
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize("authorization", [None, "", "  ", "Bearer", "Bearer ", "bearer  "])
def test_no_credential_is_unauthenticated(access, authorization):
    """Without a credential nobody is anybody."""
    with pytest.raises(Unauthenticated, match="Authorization"):
        access.caller(authorization)


@pytest.mark.parametrize(
    "authorization",
    [
        "slk_aaaaaaaa_" + "x" * 43,
        "nonsense",
        "Basic dXNlcjpwYXNz",
        "x" * 9000,
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
        "slk_\x00",
        "\ud800",
    ],
)
def test_a_credential_that_does_not_hold_is_unauthenticated(access, authorization):
    """Unknown, malformed and overlong credentials are one and the same refusal."""
    with pytest.raises(Unauthenticated):
        access.caller(authorization)


def test_the_credential_is_judged_before_the_site(access):
    """Who has no credential learns nothing about headers or sites."""
    with pytest.raises(Unauthenticated):
        access.caller("nonsense", "no uuid", "account")


@pytest.mark.parametrize("site_id", ["", "me", "{uuid}x", "urn:uuid:{uuid}", "{uuid},{uuid}"])
def test_a_malformed_site_id_is_invalid_input(access, key, site, site_id):
    """What cannot be a site's id is told so: it is no site that could be protected."""
    with pytest.raises(InvalidInput, match="wix-site-id"):
        access.caller(key.api_key, site_id.format(uuid=site.site_id))


def test_site_and_account_together_are_refused(access, key, site):
    """The contract: one or the other, never both."""
    with pytest.raises(InvalidInput, match="never both"):
        access.caller(key.api_key, str(site.site_id), str(uuid4()))


def test_an_account_alone_has_no_settings(access, key):
    """Settings belong to sites; the refusal names the header to send."""
    with pytest.raises(InvalidInput, match="wix-site-id"):
        access.caller(key.api_key, None, str(uuid4()))


def test_the_hot_path_reads_no_database(directory, key, site):
    """A credential that was seen is answered from memory, its site header checked all the same."""
    counting = Counting(directory)
    access = door(counting)
    counting.asked = 0
    assert access.remembered(key.api_key, str(site.site_id)) is None
    caller = access.caller(key.api_key, str(site.site_id))
    assert access.remembered(f"Bearer {key.api_key}") == caller
    assert access.caller(key.api_key) == caller
    assert counting.asked == 1
    with pytest.raises(PermissionDenied):
        access.remembered(key.api_key, str(uuid4()))


def test_a_revoked_key_is_refused_within_the_documented_time(directory, key):
    """Revocation takes effect no later than REVOKED_WITHIN seconds after it."""
    clock = Clock()
    access = door(directory, clock=clock)
    access.caller(key.api_key)
    directory.revoke_key(key.prefix)
    clock.now += REVOKED_WITHIN
    with pytest.raises(Unauthenticated):
        access.caller(key.api_key)


def test_use_does_not_prolong_the_memory_of_a_key(directory, key):
    """A key that is used all the time is looked up again as often as one that is not."""
    clock, counting = Clock(), Counting(directory)
    access = door(counting, clock=clock)
    counting.asked = 0
    for _ in range(10):
        access.caller(key.api_key)
        clock.now += REVOKED_WITHIN / 5
    assert counting.asked == 2


def test_a_new_key_works_at_once(directory, site):
    """That a credential did not hold is not remembered."""
    counting = Counting(directory)
    access = door(counting)
    counting.asked = 0
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            access.caller("slk_aaaaaaaa_" + "x" * 43)
    assert counting.asked == 2


def test_memory_is_bounded_and_holds_no_credential(access, key):
    """What is kept per credential is its hash and the caller."""
    access.caller(key.api_key)
    assert access._callers.maxsize <= 10_000
    assert key.api_key not in repr(access._callers)
