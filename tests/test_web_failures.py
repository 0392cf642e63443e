"""Every failure has the contract's body, whoever noticed it; without a database."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
import structlog

from ledger import errors
from ledger.access import Access, AccessTokens
from ledger.aggregate import SettingsRecord
from ledger.config import Config
from ledger.directory import ApiKey, Site
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.secrets import Keyring
from ledger.web import create_app, patience

PATH = ORDERS_SETTINGS.path
NOW = datetime(2024, 7, 4, 15, 10, 46, 70_000, tzinfo=UTC)
SITE = Site(uuid4(), 0, None, NOW)
KEY = {"Authorization": "key"}


class FakeDirectory:
    """Knows one key for one site."""

    def find_key(self, token):
        scopes = frozenset({"SCOPE.DC-STORES.MANAGE-ORDERS"})
        if token == "key":
            return ApiKey("slk_test", SITE.site_id, uuid4(), scopes, NOW, None)
        return None

    def site(self, site_id):
        assert site_id == SITE.site_id
        return SITE

    remembered_site = site


class FakeLedger:
    """Answers defaults, or fails as a test tells it to."""

    def __init__(self, **config):
        self.config = Config(**config)
        self.database = None
        self.directory = FakeDirectory()
        self.keyring = Keyring("correct-horse-battery-staple-0123456789")
        self.access = Access(self.directory, AccessTokens(self.keyring, "ledger"))
        self.failure = None
        self.submitted = []
        self.pending = None
        self.awaited = 1
        self.all_submitted = asyncio.Event()

    def get(self, site_id, kind):
        if self.failure is not None:
            raise self.failure
        return SettingsRecord(site_id, kind.fqdn, 1, 0, 1, b"", kind.defaults(), NOW, NOW)

    def submit(self, site_id, kind, patch, provenance, *, if_match=None, idempotency=None):
        kind.validate_patch(patch, unknown_fields=self.config.unknown_fields)
        self.submitted.append((patch, provenance, if_match, idempotency))
        if len(self.submitted) == self.awaited:
            self.all_submitted.set()
        if self.pending is not None:
            return self.pending
        future = Future()
        if self.failure is None:
            future.set_result(self.get(site_id, kind))
        else:
            future.set_exception(self.failure)
        return future


@pytest.fixture(autouse=True)
def logs():
    """What was logged, as data."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def ledger():
    return FakeLedger()


@pytest.fixture
async def client(ledger):
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        yield client


def assert_failure(reply, status, code):
    """The reply has the contract's body for an application error, and its id."""
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/json")
    assert UUID(reply.headers["x-wix-request-id"]).version == 4
    body = reply.json()
    assert set(body) == {"message", "details"}
    assert set(body["details"]) == {"applicationError"}
    error = body["details"]["applicationError"]
    assert error["code"] == code
    assert error["description"] == body["message"] != ""
    return error


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (errors.InvalidInput("reason", "expected less"), 400, "INVALID_ARGUMENT"),
        (errors.Unauthenticated("Who?"), 401, "UNAUTHENTICATED"),
        (errors.PermissionDenied("No."), 403, "PERMISSION_DENIED"),
        (errors.NotFound("site", "x"), 404, "NOT_FOUND"),
        (errors.AlreadyExists("There."), 409, "ALREADY_EXISTS"),
        (errors.IdempotencyConflict("Used."), 409, "ALREADY_EXISTS"),
        (errors.VersionMismatch([3, 4], 5), 412, "FAILED_PRECONDITION"),
        (errors.NotInstalled("Gone."), 428, "FAILED_PRECONDITION"),
        (errors.RateLimited("Slower.", 2.5), 429, "RESOURCE_EXHAUSTED"),
        (errors.Unavailable("host 10.1.2.3 is full", 2.5), 503, "UNAVAILABLE"),
        (errors.DatabaseUnavailable("host 10.1.2.3 is down"), 503, "UNAVAILABLE"),
        (errors.OutcomeUnknown("host 10.1.2.3 was lost"), 504, "DEADLINE_EXCEEDED"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_each_error_has_its_status(client, ledger, method, failure, status, code):
    """The table from errors to statuses and codes, for reads and changes alike."""
    ledger.failure = failure
    reply = await client.request(method, PATH, headers=KEY, json={"ordersSettings": {}})
    error = assert_failure(reply, status, code)
    assert "10.1.2.3" not in reply.text
    match failure:
        case errors.VersionMismatch():
            assert error["data"] == {"expected": [3, 4], "actual": 5}
        case errors.Unavailable(retry_after=seconds) | errors.RateLimited(retry_after=seconds):
            assert int(reply.headers["retry-after"]) >= seconds
        case errors.OutcomeUnknown():
            assert "Idempotency-Key" in error["description"]
        case errors.Unauthenticated():
            assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize(
    "failure",
    [
        ZeroDivisionError("at 10.1.2.3"),
        errors.LedgerCorrupt("10.1.2.3", "broken"),
        errors.UnknownTopic("x", "10.1.2.3"),
        errors.SchemaOutdated("10.1.2.3 is old"),
        errors.ChangeRefused("by 10.1.2.3"),
        errors.LedgerError("10.1.2.3"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_failures_of_ours_tell_nothing(client, ledger, logs, method, failure):
    """A failure of the server is an empty body; the log has the cause under the reply's id."""
    ledger.failure = failure
    reply = await client.request(method, PATH, headers=KEY, json={"ordersSettings": {}})
    assert reply.status_code == 500
    assert reply.json() == {"message": "", "details": {}}
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert entry["request_id"] == reply.headers["x-wix-request-id"]
    assert entry["exc_info"]


async def test_broken_rules_are_reported_all_at_once(client, ledger):
    """One violation per field, those beside the wrapper included, in the contract's words."""
    body = {"extra": 1, "ordersSettings": {"createInvoice": "yes", "inventoryUpdateTrigger": "X"}}
    reply = await client.patch(PATH, headers=KEY, json=body)
    assert reply.status_code == 400
    violations = reply.json()["details"]["validationError"]["fieldViolations"]
    assert {violation["field"]: violation["violatedRule"] for violation in violations} == {
        "extra": "FIELD_NOT_ALLOWED",
        "ordersSettings.createInvoice": "FORMAT",
        "ordersSettings.inventoryUpdateTrigger": "INVALID_ENUM_VALUE",
    }
    assert all(violation["description"] for violation in violations)
    assert not ledger.submitted


@pytest.mark.parametrize("body", [{}, {"ordersSettings": None}])
async def test_a_missing_wrapper_is_a_required_field(client, body):
    """Without ``ordersSettings`` there is nothing to change."""
    reply = await client.patch(PATH, headers=KEY, json=body)
    (violation,) = reply.json()["details"]["validationError"]["fieldViolations"]
    assert (violation["field"], violation["violatedRule"]) == ("ordersSettings", "REQUIRED_FIELD")


@pytest.mark.parametrize("settings", [[], 1, "x", True])
async def test_settings_that_are_no_object_are_malformed(client, settings):
    """A wrong JSON type is FORMAT."""
    reply = await client.patch(PATH, headers=KEY, json={"ordersSettings": settings})
    (violation,) = reply.json()["details"]["validationError"]["fieldViolations"]
    assert (violation["field"], violation["violatedRule"]) == ("ordersSettings", "FORMAT")


async def test_unknown_fields_are_dropped_where_the_option_says_so():
    """``unknown_fields = "ignore"`` goes for fields beside the wrapper as well."""
    ledger = FakeLedger(unknown_fields="ignore")
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        body = {"extra": 1, "ordersSettings": {"misspelt": True}}
        reply = await client.patch(PATH, headers=KEY, json=body)
    assert reply.status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b"[" * 60_000, b'{"a":1,"a":2}', b"NaN", b"\xff"],
)
async def test_what_is_no_json_object_is_an_invalid_argument(client, ledger, body):
    """Malformed JSON is 400 with an application error, never 422."""
    reply = await client.patch(PATH, headers=KEY, content=body)
    assert_failure(reply, 400, "INVALID_ARGUMENT")
    assert not ledger.submitted


async def test_text_that_cannot_be_encoded_comes_back_as_its_escape(client):
    """A lone surrogate in a field's name is shown, and does not bring the reply down."""
    body = b'{"ordersSettings":{"a\\ud800b":1},"\\udc00":2}'
    reply = await client.patch(PATH, headers=KEY, content=body)
    fields = [v["field"] for v in reply.json()["details"]["validationError"]["fieldViolations"]]
    assert fields == ["\\udc00", "ordersSettings.a\\ud800b"]


async def test_a_body_over_64_kib_is_refused(client, ledger):
    """413 by the declared length, and without one after 64 KiB, not after all of it."""
    reply = await client.patch(PATH, headers=KEY, content=b" " * (64 * 1024 + 1))
    assert_failure(reply, 413, "INVALID_ARGUMENT")
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1024
            assert sent < 1_000_000
            yield b" " * 1024

    reply = await client.patch(PATH, headers=KEY, content=endless())
    assert_failure(reply, 413, "INVALID_ARGUMENT")
    reply = await client.patch(PATH, headers=KEY, content=b'{"ordersSettings":{}}'.ljust(64 * 1024))
    assert reply.status_code == 200


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_another_media_type_is_refused(client, media):
    """415 tells whoever forgot the header what is expected."""
    reply = await client.patch(PATH, headers=KEY | {"Content-Type": media}, content=b"{}")
    assert "application/json" in assert_failure(reply, 415, "INVALID_ARGUMENT")["description"]


async def test_a_compressed_body_is_refused(client):
    """What is not understood is not guessed at."""
    encoded = KEY | {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    reply = await client.patch(PATH, headers=encoded, content=b"\x1f\x8b")
    assert_failure(reply, 415, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "media", ["application/json", "application/json; charset=UTF-8", "application/merge-patch+json"]
)
async def test_json_by_any_of_its_names_is_read(client, media):
    """Parameters and +json types are JSON."""
    content = b'{"ordersSettings":{}}'
    reply = await client.patch(PATH, headers=KEY | {"Content-Type": media}, content=content)
    assert reply.status_code == 200


@pytest.mark.parametrize("path", ["/", "/nothing", PATH + "/", PATH + "/x", "/ecom/v1", "/%00"])
async def test_an_unknown_path_is_not_found(client, path):
    """404 in the contract's form; a trailing slash is another path, not a redirection."""
    assert_failure(await client.get(path, headers=KEY), 404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X"])
async def test_an_unknown_method_is_refused_with_the_known_ones(client, method):
    """405 names every method that the path has."""
    reply = await client.request(method, PATH, headers=KEY)
    assert_failure(reply, 405, "INVALID_ARGUMENT")
    assert reply.headers["allow"] == "GET, HEAD, PATCH"


async def test_the_credential_is_judged_before_the_body_is_read(client, ledger):
    """Whoever may not change anything cannot make the server read."""

    async def unread():
        raise AssertionError("the body was read")
        yield b""

    reply = await client.patch(PATH, content=unread())
    assert_failure(reply, 401, "UNAUTHENTICATED")
    other = KEY | {"wix-site-id": str(uuid4())}
    assert_failure(
        await client.patch(PATH, headers=other, content=unread()), 403, "PERMISSION_DENIED"
    )
    assert not ledger.submitted


@pytest.mark.parametrize("name", ["Authorization", "wix-site-id", "Idempotency-Key"])
async def test_a_header_that_comes_twice_is_refused(client, name):
    """Two values where one is meant could be read differently by two readers."""
    twice = [*KEY.items(), *[(name, str(SITE.site_id))] * (1 if name in KEY else 2)]
    reply = await client.patch(PATH, headers=twice, json={"ordersSettings": {}})
    assert_failure(reply, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("If-Match", "12"),
        ("Idempotency-Key", "x" * 256),
        ("X-Ledger-Reason", "%ff"),
        ("X-Ledger-Reason", "x" * 1001),
        ("wix-site-id", "no-uuid"),
        ("wix-account-id", "6a1b0c9e-0000-4000-8000-000000000000"),
    ],
)
async def test_a_malformed_header_is_refused_by_its_name(client, ledger, header, value):
    """What would change the meaning of a request is not skipped when it is not understood."""
    reply = await client.patch(PATH, headers=KEY | {header: value}, json={"ordersSettings": {}})
    assert assert_failure(reply, 400, "INVALID_ARGUMENT")["data"] == {"name": header}
    assert not ledger.submitted


async def test_every_reply_has_an_id_of_its_own(client):
    """Two requests never share an id, and a caller's own id is not taken over."""
    mine = KEY | {"X-Wix-Request-Id": "mine"}
    replies = [await client.get(path, headers=mine) for path in (PATH, PATH, "/x", "/healthz")]
    assert len({reply.headers["x-wix-request-id"] for reply in replies} - {"mine"}) == 4


async def test_a_caller_who_leaves_does_not_undo_a_change(ledger):
    """A change that was handed over stays handed over when its request is cancelled."""
    ledger.pending = Future()
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        patch = client.patch(PATH, headers=KEY, json={"ordersSettings": {}})
        request = asyncio.create_task(patch)
        await ledger.all_submitted.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    assert not ledger.pending.cancelled()
    ledger.pending.set_result(ledger.get(SITE.site_id, ORDERS_SETTINGS))
    await asyncio.sleep(0)
    gc.collect()


async def test_a_waiting_change_occupies_no_thread(client, ledger):
    """A hundred changes wait while reads, which need threads, go on."""
    ledger.pending, ledger.awaited = Future(), 100
    patches = [
        asyncio.create_task(client.patch(PATH, headers=KEY, json={"ordersSettings": {}}))
        for _ in range(100)
    ]
    await ledger.all_submitted.wait()
    assert (await client.get(PATH, headers=KEY)).status_code == 200
    ledger.pending.set_result(ledger.get(SITE.site_id, ORDERS_SETTINGS))
    assert {reply.status_code for reply in await asyncio.gather(*patches)} == {200}


async def test_a_read_does_not_wait_for_ever(ledger, client, monkeypatch):
    """A database that hangs is answered for: 503, after the time that a read may take."""
    monkeypatch.setattr(patience, "READ", 0.05)
    released = threading.Event()
    monkeypatch.setattr(ledger, "get", lambda *_: released.wait(30))
    try:
        reply = await client.get(PATH, headers=KEY)
    finally:
        released.set()
    assert_failure(reply, 503, "UNAVAILABLE")


class FakeDatabase:
    """Fails as a test tells it to."""

    def __init__(self):
        self.failure = errors.ConfigError("The database role lacks a privilege.")

    @contextmanager
    def connection(self):
        if self.failure is not None:
            raise self.failure
        yield None


async def test_the_log_says_once_why_the_server_is_not_ready(ledger, monkeypatch, logs):
    """One line when it stops to be ready, with the reason, and one when it is again."""
    ledger.database = FakeDatabase()
    monkeypatch.setattr("ledger.web.health.check_schema", lambda _connection: None)
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        for _ in range(3):
            assert_failure(await client.get("/readyz"), 503, "UNAVAILABLE")
        ledger.database.failure = None
        for _ in range(2):
            assert (await client.get("/readyz")).status_code == 200
    assert [(entry["event"], entry.get("problem")) for entry in logs] == [
        ("not ready", "The database role lacks a privilege."),
        ("ready again", None),
    ]
