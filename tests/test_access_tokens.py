"""Access tokens: what holds, what is refused, and how soon a revocation is noticed."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from uuid import uuid4

import jwt
import pytest
from credentials import KEYRING, MANAGE_ORDERS, SECRET_KEY, Clock, Counting

from ledger.access import LIFETIME, REVOKED_WITHIN, TOKEN_PREFIX, Access, AccessTokens
from ledger.access.tokens import CLOCKS_APART, PURPOSE
from ledger.database import Database
from ledger.directory import Directory
from ledger.errors import (
    DatabaseUnavailable,
    NotInstalled,
    PermissionDenied,
    Unauthenticated,
)
from ledger.identity import Identity
from ledger.permissions import Caller
from ledger.secrets import Keyring


@pytest.fixture(scope="module")
def directory(database_url):
    with Database(database_url) as database:
        yield Directory(database, KEYRING)


@pytest.fixture(scope="module")
def issuer(directory):
    return directory.ledger_id()


@pytest.fixture
def site(directory):
    return directory.create_site()


@pytest.fixture
def app(directory):
    return directory.create_app("Invoices", [MANAGE_ORDERS])


@pytest.fixture
def instance(directory, app, site):
    return directory.install(app.app_id, site.site_id)


@pytest.fixture
def access(directory, issuer):
    return Access(directory, AccessTokens(KEYRING, issuer))


@pytest.fixture
def token(access, app, instance):
    return granted(access, app, instance)


def granted(access, app, instance):
    return access.grants.grant(str(app.app_id), app.app_secret, str(instance.instance_id))


def at(directory, issuer, offset):
    """A door whose clock is ``offset`` seconds ahead of the real one."""
    return Access(directory, AccessTokens(KEYRING, issuer, clock=lambda: time.time() + offset))


def claims_of(token):
    return jwt.decode(token.removeprefix(TOKEN_PREFIX), options={"verify_signature": False})


def forged(token, *, key=None, algorithm="HS256", header=None, **changed):
    """The same token with other claims or headers, signed with our key unless another is given."""
    claims = {name: item for name, item in (claims_of(token) | changed).items() if item is not None}
    headers = {"kid": KEYRING.key_id, "typ": "at+jwt"} | (header or {})
    return TOKEN_PREFIX + jwt.encode(
        claims, KEYRING.derive(PURPOSE) if key is None else key, algorithm, headers
    )


def test_a_token_is_the_app_on_the_site_of_its_instance(access, token, app, instance, site):
    """The caller is the app, with its scopes, its instance and the site; bare or after Bearer."""
    caller = access.caller(f"Bearer {token}", str(site.site_id))
    assert caller == access.caller(token)
    assert caller == Caller(
        identity=Identity.app(app.app_id),
        site_id=site.site_id,
        scopes=frozenset({MANAGE_ORDERS}),
        credential=str(instance.instance_id),
        instance_id=instance.instance_id,
        client=str(instance.instance_id),
    )


def test_a_token_names_what_the_contract_asks_and_no_secret(token, app, instance, site, issuer):
    """App, instance, site and scopes stand in it; it lives four hours; no two are the same."""
    claims = claims_of(token)
    assert token.startswith("OauthNG.JWS.")
    assert (claims["client_id"], claims["instance_id"], claims["site_id"], claims["scope"]) == (
        str(app.app_id),
        str(instance.instance_id),
        str(site.site_id),
        MANAGE_ORDERS,
    )
    assert claims["exp"] - claims["iat"] == LIFETIME == 14400
    assert issuer in claims["iss"]
    assert app.app_secret not in json.dumps(claims)


def test_a_forgery_by_our_own_key_holds_so_that_the_next_tests_mean_something(access, token):
    """The tests below change one thing of a token that would hold."""
    assert access.caller(forged(token)) == access.caller(token)


FORGERIES = {
    "expired": lambda token, _: forged(token, exp=int(time.time()) - CLOCKS_APART - 1),
    "not yet valid": lambda token, _: forged(token, nbf=int(time.time()) + 3600),
    "issued in the future": lambda token, _: forged(token, iat=int(time.time()) + 3600),
    "another issuer": lambda token, _: forged(token, iss="settings-ledger:another"),
    "another audience": lambda token, _: forged(token, aud="settings-ledger:another"),
    "several audiences": lambda token, _: forged(token, aud=[claims_of(token)["aud"], "x"]),
    "another secret key": lambda token, _: forged(
        token, key=Keyring(SECRET_KEY[::-1]).derive(PURPOSE)
    ),
    "a key of another purpose": lambda token, _: forged(token, key=KEYRING.derive("other")),
    "another key id": lambda token, _: forged(token, header={"kid": "00000000"}),
    "no key id": lambda token, _: forged(token, header={"kid": ""}),
    "another type": lambda token, _: forged(token, header={"typ": "JWT"}),
    "HS512": lambda token, _: forged(token, algorithm="HS512"),
    "RS256": lambda token, key: forged(token, algorithm="RS256", key=key.private_key_pem),
    "a critical extension": lambda token, _: forged(token, header={"crit": ["x"], "x": 1}),
    "no UUIDs": lambda token, _: forged(token, site_id="nowhere"),
    "a scope that is no text": lambda token, _: forged(token, scope=7),
    "no prefix": lambda token, _: token.removeprefix(TOKEN_PREFIX),
    "the prefix twice": lambda token, _: TOKEN_PREFIX + token,
    "empty": lambda _token, _: TOKEN_PREFIX,
    "no signature": lambda token, _: token.rpartition(".")[0] + ".",
    "two parts": lambda token, _: token.rpartition(".")[0],
    "five parts": lambda token, _: token + ".a.b",
    "padding": lambda token, _: token + "=",
    "not ASCII": lambda token, _: token + "é",
    "a line break inside": lambda token, _: token[:-5] + "\n" + token[-5:],
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("forgery", FORGERIES)
def test_whatever_is_not_a_token_of_ours_is_unauthenticated(access, directory, app, token, forgery):
    """Each one is refused at the door, by ``caller`` and ``remembered`` alike."""
    altered = FORGERIES[forgery](token, directory.signing_key(app.app_id))
    for ask in (access.caller, access.remembered):
        # Not remembered and not known: an API key's form is looked up.
        if ask == access.remembered and not altered.startswith(TOKEN_PREFIX):
            continue
        with pytest.raises(Unauthenticated):
            ask(altered)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AA"])
def test_an_unsigned_token_is_unauthenticated(access, token, algorithm, signature):
    """``alg: none`` in any spelling is no algorithm."""
    header = json.dumps({"alg": algorithm, "kid": KEYRING.key_id, "typ": "at+jwt"}).encode()
    payload = token.removeprefix(TOKEN_PREFIX).split(".")[1]
    encoded = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        access.caller(f"{TOKEN_PREFIX}{encoded}.{payload}.{signature}")


def test_a_public_key_is_no_shared_secret(access, directory, app, token):
    """RS/HS confusion: a token signed with the text of a public key as HS256's secret."""
    public_key = directory.signing_key(app.app_id).public_key_pem.encode()
    header, payload = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "HS256", "kid": KEYRING.key_id, "typ": "at+jwt"}, claims_of(token))
    )
    for secret in (public_key, public_key.strip(), b""):
        # Signed by hand: the library refuses to sign with a public key.
        algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        signature = algorithm.sign(f"{header}.{payload}".encode(), secret)
        encoded = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
        with pytest.raises(Unauthenticated):
            access.caller(f"{TOKEN_PREFIX}{header}.{payload}.{encoded}")


@pytest.mark.parametrize(
    "claim",
    ["iss", "aud", "sub", "client_id", "instance_id", "site_id", "scope", "secret", "exp", "nbf"],
)
def test_a_token_without_one_of_its_claims_is_unauthenticated(access, token, claim):
    """Nothing is taken for granted that the token does not say."""
    with pytest.raises(Unauthenticated):
        access.caller(forged(token, **{claim: None}))


def test_every_truncation_is_unauthenticated(access, token):
    """A token that was cut off anywhere does not hold."""
    for length in range(len(TOKEN_PREFIX), len(token)):
        with pytest.raises(Unauthenticated):
            access.caller(token[:length])


def test_every_altered_character_is_unauthenticated(access, token):
    """One other character anywhere, unused bits of the last one included, breaks it."""
    for place in range(len(TOKEN_PREFIX), len(token)):
        for other in "AB" if place < len(token) - 1 else "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            if token[place] == other:
                continue
            with pytest.raises(Unauthenticated):
                access.caller(token[:place] + other + token[place + 1 :])


def test_tokens_of_another_ledger_are_refused_even_under_the_same_secret_key(access, token):
    """The ledger's own id is issuer and audience."""
    elsewhere = AccessTokens(KEYRING, str(uuid4()))
    with pytest.raises(Unauthenticated):
        elsewhere.read(token)


def test_clocks_may_differ_by_a_little(directory, issuer, access, app, instance):
    """What a server issues whose clock is ahead by a few seconds holds here at once."""
    ahead = granted(at(directory, issuer, CLOCKS_APART - 2), app, instance)
    assert access.caller(ahead)
    far_ahead = granted(at(directory, issuer, 60), app, instance)
    with pytest.raises(Unauthenticated):
        access.caller(far_ahead)


def test_a_token_ends_with_its_life(directory, issuer, access, app, instance):
    """One that was issued four hours ago is refused, and the refusal says what to do."""
    old = granted(at(directory, issuer, -LIFETIME - CLOCKS_APART), app, instance)
    with pytest.raises(Unauthenticated, match="expired; ask for a new one"):
        access.caller(old)
    young = granted(at(directory, issuer, 60 - LIFETIME), app, instance)
    assert access.caller(young)


def test_a_token_that_held_before_ends_all_the_same(directory, issuer, app, instance, monkeypatch):
    """That it was verified once does not prolong its life; and memory holds no token."""
    tokens = AccessTokens(KEYRING, issuer)
    token = granted(Access(directory, tokens), app, instance)
    assert tokens.read(token) is tokens.read(token)
    assert token not in repr(tokens._verified)
    old = forged(token, exp=int(time.time()) - 1)
    assert tokens.read(old) is not tokens.read(old)
    monkeypatch.setattr("ledger.access.tokens.CLOCKS_APART", 0)
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.read(old)


def test_another_site_is_refused_whether_it_exists_or_not(access, directory, token):
    """The token is fine and the site is not its own: 403's error, the same for every site."""
    refusals = set()
    for other in (directory.create_site().site_id, uuid4()):
        for ask in (access.caller, access.remembered):
            with pytest.raises(PermissionDenied) as refusal:
                ask(token, str(other))
            refusals.add(str(refusal.value))
    assert len(refusals) == 1


@pytest.mark.parametrize("wrong", ["app", "secret", "instance", "foreign instance", "old", "text"])
def test_a_wrong_id_secret_or_instance_gets_no_token(access, directory, app, instance, wrong):
    """Each one is the same refusal, which does not tell which of them was wrong."""
    other = directory.create_app("Other", [MANAGE_ORDERS])
    foreign = directory.install(other.app_id, instance.site_id)
    asked = [str(app.app_id), app.app_secret, str(instance.instance_id)]
    place, value = {
        "app": (0, str(other.app_id)),
        "secret": (1, other.app_secret),
        "instance": (2, str(uuid4())),
        "foreign instance": (2, str(foreign.instance_id)),
        "old": (1, app.app_secret[:-1]),
        "text": (0, "\ud800"),
    }[wrong]
    asked[place] = value
    with pytest.raises(Unauthenticated, match="client id, the client secret or the instance id"):
        access.grants.grant(*asked)


def test_an_ended_installation_gets_no_token(access, directory, app, instance):
    """Who proved to be the app is told that it is not installed; who did not, is not."""
    directory.uninstall(instance.instance_id)
    with pytest.raises(NotInstalled):
        granted(access, app, instance)
    with pytest.raises(Unauthenticated):
        access.grants.grant(str(app.app_id), "wrong", str(instance.instance_id))


def test_the_hot_path_reads_no_database(directory, issuer, app, site):
    """However many tokens there are, one query in five seconds serves them all."""
    clock, counting = Clock(), Counting(directory)
    access = Access(counting, AccessTokens(KEYRING, issuer), clock=clock)
    instances = [directory.install(app.app_id, directory.create_site().site_id) for _ in range(5)]
    tokens = [granted(access, app, instance) for instance in instances]
    counting.asked = 0
    assert access.remembered(tokens[0]) is None
    for _ in range(3):
        for token in tokens:
            assert access.caller(token) == access.remembered(token)
    assert counting.asked == 1
    clock.now += REVOKED_WITHIN
    assert access.remembered(tokens[0]) is None
    access.caller(tokens[0])
    assert counting.asked == 2


def test_an_uninstalled_apps_token_is_refused_within_the_documented_time(
    directory, issuer, app, instance
):
    """No later than REVOKED_WITHIN after it; other instances of the app go on."""
    clock = Clock()
    access = Access(directory, AccessTokens(KEYRING, issuer), clock=clock)
    elsewhere = directory.install(app.app_id, directory.create_site().site_id)
    tokens = [granted(access, app, each) for each in (instance, elsewhere)]
    for token in tokens:
        access.caller(token)
    directory.uninstall(instance.instance_id)
    clock.now += REVOKED_WITHIN
    with pytest.raises(Unauthenticated, match="not installed"):
        access.caller(tokens[0])
    with pytest.raises(Unauthenticated, match="not installed"):
        access.remembered(tokens[0])
    assert access.caller(tokens[1])


def test_installed_again_is_another_instance(directory, access, app, instance, token):
    """The old token stays dead; the new instance's token lives."""
    directory.uninstall(instance.instance_id)
    again = directory.install(app.app_id, instance.site_id)
    with pytest.raises(Unauthenticated):
        access.caller(token)
    assert access.caller(granted(access, app, again)).instance_id == again.instance_id


def test_without_a_young_list_of_revocations_no_token_holds(directory, issuer, app, instance):
    """The door fails closed: a database that cannot be asked is told as such, not passed over."""
    clock, counting = Clock(), Counting(directory)
    access = Access(counting, AccessTokens(KEYRING, issuer), clock=clock)
    token = granted(access, app, instance)
    access.caller(token)
    counting.failure = DatabaseUnavailable("down")
    assert access.caller(token)
    clock.now += REVOKED_WITHIN
    with pytest.raises(DatabaseUnavailable):
        access.caller(token)
    counting.failure = None
    assert access.caller(token)


def test_an_old_secret_gets_tokens_until_its_overlap_ends(directory, access, app, instance):
    """Both secrets hold after a rotation, and a token got with the old one lives on."""
    before = granted(access, app, instance)
    new = directory.rotate_secret(app.app_id, timedelta(hours=1))
    for secret in (app.app_secret, new.app_secret):
        token = access.grants.grant(str(app.app_id), secret, str(instance.instance_id))
        assert access.caller(token)
    assert access.caller(before)
    assert new.app_secret.startswith(new.prefix + "_")


def test_a_revoked_secret_takes_its_tokens_with_it(directory, issuer, app, instance):
    """Rotation without overlap is for a leak: secret and tokens end within REVOKED_WITHIN."""
    clock = Clock()
    access = Access(directory, AccessTokens(KEYRING, issuer), clock=clock)
    leaked = granted(access, app, instance)
    access.caller(leaked)
    middle = directory.rotate_secret(app.app_id, timedelta(hours=1))
    new = directory.rotate_secret(app.app_id, timedelta(0))
    for secret in (app.app_secret, middle.app_secret):
        with pytest.raises(Unauthenticated):
            access.grants.grant(str(app.app_id), secret, str(instance.instance_id))
    clock.now += REVOKED_WITHIN
    with pytest.raises(Unauthenticated, match="secret"):
        access.caller(leaked)
    token = access.grants.grant(str(app.app_id), new.app_secret, str(instance.instance_id))
    assert access.caller(token)


def test_a_token_is_described_to_whoever_has_it(access, directory, token, app, instance, site):
    """App, instance, site and times; nothing of one that does not hold."""
    info = access.grants.describe(token)
    claims = claims_of(token)
    assert info.caller == access.caller(token)
    assert (info.app_id, info.issued_at, info.expires_at) == (
        app.app_id,
        claims["iat"],
        claims["exp"],
    )
    key = directory.create_key(site.site_id, [MANAGE_ORDERS])
    for other in (token[:-1], key.api_key, "", "a.b.c", "\ud800"):
        assert access.grants.describe(other) is None
