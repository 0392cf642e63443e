"""Every status that the API documents can be had, and only those."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from test_web_failures import FakeLedger

from ledger import errors
from ledger.assembly import Ledger
from ledger.kinds import KINDS, known_scopes
from ledger.web import create_app
from ledger.web.histories import PREFIX, Histories

SECRET_KEY = "correct-horse-battery-staple-0123456789"
MANAGE = "SCOPE.DC-STORES.MANAGE-ORDERS"
DOCUMENTED: dict[tuple[str, str], list[int]] = {
    (method.upper(), path): sorted(int(status) for status in operation["responses"])
    for path, operations in create_app(FakeLedger()).openapi()["paths"].items()
    for method, operation in operations.items()
}
PATHS = {kind.path: kind for kind in KINDS.values()}
OF_KINDS = [
    (*operation, status)
    for operation, statuses in DOCUMENTED.items()
    for status in statuses
    if operation[1] in PATHS
]

# What to send, beside a good request, and how the ledger fails meanwhile.
REQUESTS: dict[int, dict[str, Any]] = {
    304: {"If-None-Match": "*"},
    400: {"wix-site-id": "here"},
    401: {"Authorization": ""},
    403: {"wix-site-id": str(uuid4())},
    415: {"Content-Type": "text/plain"},
}
FAILURES: dict[int, Exception] = {
    404: errors.NotFound("site", "x"),
    409: errors.IdempotencyConflict("Used."),
    412: errors.VersionMismatch([3], 5),
    429: errors.RateLimited("Slower.", 2.5),
    500: RuntimeError("a bug"),
    503: errors.Unavailable("full"),
    504: errors.OutcomeUnknown("lost"),
}

# What a question about the past needs to be a good one.
QUESTIONS: dict[str, dict[str, str]] = {
    "as-of": {"version": "2"},
    "diff": {"from": "v1", "to": "v2"},
}


@pytest.mark.parametrize(("method", "path", "status"), OF_KINDS)
async def test_a_kinds_documented_status_is_reached(method, path, status):
    """Some request, or some failure of the ledger, is answered with the status."""
    ledger = FakeLedger()
    ledger.failure = FAILURES.get(status)
    body = None if method == "GET" else {PATHS[path].wrapper: {}}
    if status == 413:
        body = {PATHS[path].wrapper: {"x": "x" * 70_000}}
    headers = {"Authorization": "key", **REQUESTS.get(status, {})}
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        reply = await client.request(method, path, headers=headers, json=body)
    assert reply.status_code == status


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_statuses", template.name) as database:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**options) as ledger:
            yield ledger


@pytest.fixture(scope="module")
def client_credentials(ledger):
    """What an app asks a token with."""
    app = ledger.directory.create_app("App", [MANAGE])
    site = ledger.create_site()
    return {
        "grant_type": "client_credentials",
        "client_id": str(app.app_id),
        "client_secret": app.app_secret,
        "instance_id": str(ledger.directory.install(app.app_id, site.site_id).instance_id),
    }


def raising(error):
    def fail(*_args, **_options):
        raise error

    return fail


OTHERS = [
    (*operation, status)
    for operation, statuses in DOCUMENTED.items()
    for status in statuses
    if operation[1] not in PATHS and not operation[1].startswith(PREFIX)
]
OF_THE_PAST = [
    (*operation, status)
    for operation, statuses in DOCUMENTED.items()
    for status in statuses
    if operation[1].startswith(PREFIX)
]


@pytest.mark.parametrize(("method", "path", "status"), OTHERS)
async def test_another_documented_status_is_reached(
    ledger, client_credentials, monkeypatch, method, path, status
):
    """Some request, or some failure of the database, is answered with the status."""
    app = create_app(ledger)
    body: dict[str, Any] | None = None
    headers: dict[str, str] = {}
    if path == "/oauth2/token":
        body = dict(client_credentials)
    elif path == "/oauth2/token-info":
        body = {"token": ledger.access.grants.grant(*list(client_credentials.values())[1:])}
    match status:
        case 400:
            body = {}
        case 401:
            body = client_credentials | {"client_secret": "nonsense"}
        case 413:
            body = {"token": "x" * 70_000}
        case 415:
            headers = {"Content-Type": "text/plain"}
        case 428:
            site_id = ledger.create_site().site_id
            gone = ledger.directory.install(client_credentials["client_id"], site_id)
            ledger.directory.uninstall(gone.instance_id)
            body = client_credentials | {"instance_id": str(gone.instance_id)}
        case 500 | 503:
            error = RuntimeError("a bug") if status == 500 else errors.Unavailable("down")
            monkeypatch.setattr(ledger.database, "connection", raising(error))
            monkeypatch.setattr(ledger.access.grants._reader, "token_caller", raising(error))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        reply = await client.request(method, path, headers=headers, json=body)
    assert reply.status_code == status


@pytest.fixture(scope="module")
def past(ledger):
    """A site with two changes of each kind, a key that may do everything there, and an app."""
    site = ledger.create_site()
    for kind in KINDS.values():
        for _ in range(2):
            ledger.site(site.site_id, kind).update({})
    app = ledger.directory.create_app("App", [MANAGE])
    instance = ledger.directory.install(app.app_id, site.site_id)
    token = ledger.access.grants.grant(str(app.app_id), app.app_secret, str(instance.instance_id))
    key = ledger.directory.create_key(site.site_id, sorted(known_scopes())).api_key
    return {"key": key, "app": token}


@pytest.mark.parametrize(("method", "path", "status"), OF_THE_PAST)
async def test_a_documented_status_of_the_past_is_reached(
    ledger, past, monkeypatch, method, path, status
):
    """Some request, or some failure of the ledger, is answered with the status."""
    operation = path.rpartition("/")[2]
    query = QUESTIONS.get(operation, {})
    body = {"version": 2, "reason": "Tried"} if method == "POST" else None
    headers = {"Authorization": past["app" if operation == "events" else "key"]}
    headers |= REQUESTS.get(status, {})
    if status == 413:
        body = {"reason": "x" * 70_000}
    failure = errors.NotInstalled("x") if status == 428 else FAILURES.get(status)
    if failure is not None:
        monkeypatch.setattr(Histories, "run", raising(failure))
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        reply = await client.request(method, path, params=query, headers=headers, json=body)
    assert reply.status_code == status
