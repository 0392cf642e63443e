"""Tokens of an outside identity provider, against one that serves real HTTP on this machine."""

from __future__ import annotations

import functools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import jwt
import pytest
from credentials import KEYRING, MANAGE_ORDERS, Clock
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.access import Access, AccessTokens, IssuerKeys, OutsideTokens
from ledger.access.issuerkeys import ASKED_AT_MOST_EVERY, KEYS_FRESH, KEYS_KEPT, fetch_json
from ledger.access.outside import CLOCKS_APART
from ledger.config import load_config
from ledger.database import Database
from ledger.directory import Directory
from ledger.errors import ConfigError, PermissionDenied, Unauthenticated, Unavailable
from ledger.identity import Identity, IdentityType
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.permissions import Caller

AUDIENCE = "settings-ledger"
SITE = uuid4()


@functools.cache
def rsa_key(_name):
    """A key by a name of ours: making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Provider:
    """An identity provider: a discovery document, a key set, and a count of who asked."""

    def __init__(self):
        self.keys = {"first": rsa_key("first")}
        self.extra_keys = []
        self.requests = []
        self.answers = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.requests.append(self.path)
                status, body, headers = provider.answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}/realm"

    def answer(self, path):
        documents = {
            "/realm/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "jwks_uri": self.issuer + "/keys",
            },
            "/realm/keys": {"keys": [*self.extra_keys, *map(self.jwk, self.keys)]},
        }
        if path in self.answers:
            return self.answers[path]
        return 200, json.dumps(documents[path]).encode(), {"Content-Type": "application/json"}

    def jwk(self, kid):
        public_key = self.keys[kid].public_key()
        is_rsa = isinstance(public_key, rsa.RSAPublicKey)
        algorithm = jwt.algorithms.RSAAlgorithm if is_rsa else jwt.algorithms.ECAlgorithm
        return algorithm.to_jwk(public_key, as_dict=True) | {"kid": kid, "use": "sig"}

    def token(self, *, kid="first", key=None, algorithm="RS256", headers=None, **changed):
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "user-7",
            "iat": int(time.time()),
            "exp": int(time.time()) + 600,
            "siteId": str(SITE),
            "identityType": "MEMBER",
            "scope": f"openid {MANAGE_ORDERS}",
        } | changed
        claims = {name: value for name, value in claims.items() if value is not None}
        named = {} if kid is None else {"kid": kid}
        key = self.keys[kid or "first"] if key is None else key
        return jwt.encode(claims, key, algorithm, named | (headers or {}))


@contextmanager
def running(provider):
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        thread.join()
        provider.server.server_close()


@pytest.fixture
def provider():
    with running(Provider()) as provider:
        yield provider


@pytest.fixture(scope="module")
def directory(database_url):
    with Database(database_url) as database:
        yield Directory(database, KEYRING)


def door(directory, provider, clock=time.monotonic, **options):
    """A door that knows the provider."""
    config = load_config(oidc_issuer=provider.issuer, oidc_audience=AUDIENCE, **options)
    outside = OutsideTokens(config, IssuerKeys(provider.issuer, clock=clock))
    return Access(directory, AccessTokens(KEYRING, "ledger"), outside)


@pytest.fixture
def access(directory, provider):
    return door(directory, provider)


@pytest.mark.parametrize("identity", [each for each in IdentityType if each != IdentityType.APP])
def test_claims_become_the_caller(access, provider, identity):
    """Type, id, site and scopes come from the token; its subject stands in no credential."""
    token = provider.token(identityType=identity)
    caller = access.caller(f"Bearer {token}")
    assert caller == Caller(
        identity=Identity(identity, "user-7"),
        site_id=SITE,
        scopes=frozenset({"openid", MANAGE_ORDERS}),
        credential="oidc",
        client=caller.client,
    )
    assert "user-7" not in caller.client
    caller.may_read(ORDERS_SETTINGS)
    if identity == IdentityType.WIX_USER:
        caller.may_update(ORDERS_SETTINGS)
    else:
        with pytest.raises(PermissionDenied, match=str(identity)):
            caller.may_update(ORDERS_SETTINGS)


def test_two_identities_are_two_clients_whatever_their_tokens(access, provider):
    """Limits and repeats are counted by who it is, over the lives of their tokens."""
    first, again, other, member = (
        access.caller(token).client
        for token in (
            provider.token(),
            provider.token(exp=int(time.time()) + 60),
            provider.token(sub="user-8"),
            provider.token(identityType="WIX_USER"),
        )
    )
    assert first == again
    assert len({first, other, member}) == 3


def test_scopes_come_as_words_or_as_a_list(access, provider):
    """RFC 8693 has words, other providers have lists; anything else grants nothing."""
    for given, expected in (
        ("a b", {"a", "b"}),
        (["a", "b", 7], {"a", "b"}),
        (None, set()),
        ({"a": 1}, set()),
    ):
        assert access.caller(provider.token(scope=given)).scopes == expected


def test_claims_may_have_other_names(directory, provider):
    """LEDGER_OIDC_…_CLAIM names them as the provider has them."""
    access = door(
        directory,
        provider,
        oidc_site_claim="https://shop.example/site",
        oidc_identity_claim="kind",
        oidc_scope_claim="permissions",
    )
    names = {"https://shop.example/site": str(SITE), "kind": "WIX_USER", "permissions": ["x"]}
    caller = access.caller(provider.token(siteId=None, identityType=None, **names))
    assert (caller.identity.type, caller.site_id) == (IdentityType.WIX_USER, SITE)
    assert caller.scopes == {"x"}


def test_a_token_names_an_app_instance_if_it_likes(access, provider):
    """The instance that an elevated call acts through; without it there is none."""
    instance_id = uuid4()
    assert access.caller(provider.token(instanceId=str(instance_id))).instance_id == instance_id
    assert access.caller(provider.token()).instance_id is None


REFUSED = {
    "expired": lambda p: p.token(exp=int(time.time()) - CLOCKS_APART - 1),
    "not yet valid": lambda p: p.token(nbf=int(time.time()) + 3600),
    "issued in the future": lambda p: p.token(iat=int(time.time()) + 3600),
    "another issuer": lambda p: p.token(iss="https://elsewhere.example"),
    "no issuer": lambda p: p.token(iss=None),
    "another audience": lambda p: p.token(aud="another"),
    "no audience": lambda p: p.token(aud=None),
    "no end": lambda p: p.token(exp=None),
    "no subject": lambda p: p.token(sub=None),
    "an empty subject": lambda p: p.token(sub=""),
    "a subject that is no text": lambda p: p.token(sub="a\x00b"),
    "a long subject": lambda p: p.token(sub="x" * 201),
    "an app": lambda p: p.token(identityType="APP"),
    "no type": lambda p: p.token(identityType=None),
    "a list of types": lambda p: p.token(identityType=["MEMBER"]),
    "no site": lambda p: p.token(siteId=None),
    "no site's id": lambda p: p.token(siteId="nowhere"),
    "a list of sites": lambda p: p.token(siteId=[str(SITE)]),
    "no instance's id": lambda p: p.token(instanceId="nowhere"),
    "another's key under this key's id": lambda p: p.token(key=rsa_key("another")),
    "an unknown key": lambda p: p.token(kid="other", key=p.keys["first"]),
    "another algorithm of the same key": lambda p: p.token(algorithm="RS512"),
    "HS256": lambda p: p.token(algorithm="HS256", key=b"0123456789abcdef" * 2),
    "none": lambda p: p.token(algorithm="none", key=""),
    "a critical extension": lambda p: p.token(headers={"crit": ["x"], "x": 1}),
    "truncated": lambda p: p.token()[:-1],
    "without signature": lambda p: p.token().rpartition(".")[0] + ".",
    "padded": lambda p: p.token() + "=",
    "no token": lambda _: "a.b.c",
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_does_not_hold_is_unauthenticated(access, provider, refused):
    """Each one is refused, with the keys at hand and without."""
    token = REFUSED[refused](provider)
    with pytest.raises(Unauthenticated):
        access.caller(token)
    assert access.remembered(provider.token()) is not None or access.caller(provider.token())
    with pytest.raises(Unauthenticated):
        access.caller(token)


def test_a_public_key_is_no_shared_secret(access, provider):
    """RS/HS confusion: HS256 with the provider's public key as its secret."""
    header, payload, _ = provider.token(algorithm="HS256", key=b"0123456789abcdef" * 2).split(".")
    pem = (
        provider.keys["first"]
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = jwt.utils.base64url_encode(algorithm.sign(f"{header}.{payload}".encode(), pem))
    with pytest.raises(Unauthenticated):
        access.caller(f"{header}.{payload}.{signature.decode()}")


def test_keys_that_verify_no_signature_are_passed_over(access, provider):
    """Symmetric keys, keys for encryption and kinds that are not understood stay unused."""
    secret = jwt.utils.base64url_encode(b"0123456789abcdef" * 2).decode()
    provider.extra_keys = [
        {"kty": "oct", "kid": "symmetric", "k": secret, "alg": "HS256"},
        provider.jwk("first") | {"kid": "encrypts", "use": "enc"},
        {"kty": "QUANTUM", "kid": "unknown"},
        {"kty": "RSA", "kid": "broken"},
    ]
    assert access.caller(provider.token())
    for kid, key, algorithm in (
        ("symmetric", b"0123456789abcdef" * 2, "HS256"),
        ("encrypts", provider.keys["first"], "RS256"),
    ):
        with pytest.raises(Unauthenticated):
            access.caller(provider.token(kid=kid, key=key, algorithm=algorithm))


def test_a_short_key_is_not_trusted(access, provider):
    """RSA below 2048 bits verifies nothing."""
    provider.keys["weak"] = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = provider.token(kid="weak")
    with pytest.raises(Unauthenticated):
        access.caller(token)


def test_elliptic_curves_are_known(access, provider):
    """ES256, as many providers sign."""
    provider.keys["curve"] = ec.generate_private_key(ec.SECP256R1())
    assert access.caller(provider.token(kid="curve", algorithm="ES256"))


def test_a_token_without_key_id_means_the_only_key(access, provider):
    """With two keys it is ambiguous, and refused."""
    assert access.caller(provider.token(kid=None))


def test_another_site_is_refused(access, provider):
    """The header may repeat the token's site, and name no other."""
    token = provider.token()
    assert access.caller(token, str(SITE)).site_id == SITE
    with pytest.raises(PermissionDenied, match="another site"):
        access.caller(token, str(uuid4()))


def test_the_hot_path_asks_nobody(access, provider):
    """Once the keys are at hand, tokens are verified without waiting."""
    assert access.remembered(provider.token()) is None
    access.caller(provider.token())
    assert provider.requests == ["/realm/.well-known/openid-configuration", "/realm/keys"]
    assert access.remembered(provider.token(sub="another")).identity.id == "another"
    assert len(provider.requests) == 2


def test_a_new_key_is_found_and_unknown_keys_are_asked_for_seldom(directory, provider):
    """A flood of made-up key ids costs the provider one request in half a minute."""
    clock = Clock()
    access = door(directory, provider, clock)
    access.caller(provider.token())
    provider.keys["second"] = rsa_key("second")
    for _ in range(5):
        with pytest.raises(Unauthenticated, match="no such key"):
            access.caller(provider.token(kid="second"))
    assert len(provider.requests) == 2
    clock.now += ASKED_AT_MOST_EVERY
    assert access.caller(provider.token(kid="second"))
    assert len(provider.requests) == 4


def test_a_dropped_key_is_refused_once_the_keys_are_asked_for_again(directory, provider):
    """No later than KEYS_FRESH after the provider dropped it."""
    clock = Clock()
    access = door(directory, provider, clock)
    token = provider.token()
    access.caller(token)
    provider.keys = {"second": rsa_key("second")}
    clock.now += KEYS_FRESH
    with pytest.raises(Unauthenticated):
        access.caller(token)


def test_a_provider_that_is_down_is_bridged_for_a_while(directory, provider):
    """Known keys do for KEYS_KEPT seconds; then tokens are refused as unavailable, not as wrong."""
    clock = Clock()
    access = door(directory, provider, clock)
    token = provider.token()
    access.caller(token)
    provider.answers["/realm/keys"] = (500, b"", {})
    clock.now += KEYS_FRESH
    assert access.caller(token)
    clock.now += KEYS_KEPT - KEYS_FRESH
    with pytest.raises(Unavailable):
        access.caller(token)
    del provider.answers["/realm/keys"]
    clock.now += ASKED_AT_MOST_EVERY
    assert access.caller(token)


def test_a_provider_that_hangs_holds_nobody_up(provider, monkeypatch):
    """While one asks, known keys go on being used, and others are told to come again."""
    monkeypatch.setattr("ledger.access.issuerkeys.TURN", 0.01)
    clock, asked, answering = Clock(), threading.Event(), threading.Event()
    hangs = False

    def fetch(url):
        if hangs:
            asked.set()
            answering.wait(30)
        return fetch_json(url)

    keys = IssuerKeys(provider.issuer, fetch=fetch, clock=clock)
    assert keys.get("first")
    hangs = True
    clock.now += KEYS_FRESH
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(keys.get, "first")
        assert asked.wait(30)
        assert keys.get("first")
        with pytest.raises(Unavailable, match="being fetched"):
            keys.get("made up")
        answering.set()
        assert asking.result(30)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/realm/.well-known/openid-configuration", (404, b"", {})),
        ("/realm/.well-known/openid-configuration", (200, b"<html>", {})),
        ("/realm/.well-known/openid-configuration", (200, b"[]", {})),
        ("/realm/.well-known/openid-configuration", (200, b'{"issuer": "http://other"}', {})),
        ("/realm/.well-known/openid-configuration", (302, b"", {"Location": "/realm/keys"})),
        ("/realm/keys", (200, b"{}", {})),
        ("/realm/keys", (200, b'{"keys": 7}', {})),
        ("/realm/keys", (200, b'{"keys": [7]}', {})),
        ("/realm/keys", (200, b" " * (1024 * 1024 + 1), {})),
    ],
)
def test_a_provider_that_answers_nonsense_is_unavailable(access, provider, path, answer):
    """No answer of the provider brings the door down or opens it."""
    provider.answers[path] = answer
    with pytest.raises(Unavailable, match="keys of the identity provider"):
        access.caller(provider.token())


def test_keys_over_plain_http_elsewhere_are_not_fetched(access, provider):
    """Who could change what comes over the network could sign tokens."""
    document = {"issuer": provider.issuer, "jwks_uri": "http://192.0.2.1/keys"}
    provider.answers["/realm/.well-known/openid-configuration"] = (
        200,
        json.dumps(document).encode(),
        {},
    )
    with pytest.raises(Unavailable):
        access.caller(provider.token())


def test_without_a_provider_no_outside_token_holds(directory, provider):
    """Nothing is trusted that nobody configured."""
    access = Access(directory, AccessTokens(KEYRING, "ledger"))
    with pytest.raises(Unauthenticated):
        access.caller(provider.token())
    assert provider.requests == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"oidc_issuer": "http://idp.example", "oidc_audience": "x"}, "OIDC_ISSUER: must be an h"),
        ({"oidc_issuer": "idp.example", "oidc_audience": "x"}, "OIDC_ISSUER: must be an https"),
        ({"oidc_issuer": "http://[", "oidc_audience": "x"}, "OIDC_ISSUER: must be an https"),
        ({"oidc_issuer": "https://idp.example"}, "OIDC_AUDIENCE: must be given together"),
        ({"oidc_audience": "x"}, "OIDC_AUDIENCE: must be given together"),
    ],
)
def test_a_provider_is_configured_whole_and_over_https(options, problem):
    """An issuer without audience would take tokens that are meant for other programs."""
    with pytest.raises(ConfigError, match=problem):
        load_config(**options)


@pytest.mark.parametrize(
    "issuer",
    ["https://idp.example/realm", "http://localhost:8080", "http://127.0.0.1", "http://[::1]:80"],
)
def test_https_or_this_machine_will_do(issuer):
    """Plain HTTP is for trying out on one machine."""
    assert load_config(oidc_issuer=issuer, oidc_audience="x").oidc_issuer == issuer


def test_a_member_is_described_by_token_info(directory, provider):
    """The SDK's elevation asks for the app and the instance that a visitor's token names."""
    access = door(directory, provider)
    site, app = directory.create_site(), directory.create_app("Shop", [MANAGE_ORDERS])
    instance = directory.install(app.app_id, site.site_id)
    named = {"siteId": str(site.site_id), "instanceId": str(instance.instance_id)}
    info = access.grants.describe(provider.token(**named))
    assert (info.app_id, info.caller.identity) == (app.app_id, Identity.member("user-7"))
    assert access.grants.describe(provider.token()).app_id is None
    assert access.grants.describe(provider.token(instanceId=str(uuid4()))) is None
