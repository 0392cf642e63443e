"""The HTTP API on a real ledger: the seeds' samples, preconditions, repetition, isolation."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import nullcontext
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn

from ledger.assembly import Ledger
from ledger.database import Database
from ledger.identity import Identity, Via
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.web import create_app

PATH = "/ecom/v1/orders-settings"
MANAGE_ORDERS = "SCOPE.DC-STORES.MANAGE-ORDERS"
READ_ORDERS = "SCOPE.DC-STORES.READ-ORDERS"
SECRET_KEY = "correct-horse-battery-staple-0123456789"


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_web", template.name) as database:
        settings = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**settings) as ledger:
            yield ledger


@pytest.fixture(scope="module")
def app(ledger):
    return create_app(ledger)


@pytest.fixture
async def http(app):
    """A client without a credential."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        yield client


@pytest.fixture
def site(ledger):
    return ledger.create_site()


@pytest.fixture
def key(ledger, site):
    return ledger.directory.create_key(site.site_id, [MANAGE_ORDERS])


@pytest.fixture
async def client(app, key, site):
    """A client as the official SDK sets it up: the bare key, and the site."""
    headers = {"Authorization": key.api_key, "wix-site-id": str(site.site_id)}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://ledger", headers=headers
    ) as client:
        yield client


async def test_a_new_site_answers_as_the_seed_shows(client):
    """GET of a default site has the sample's keys in the sample's order, and dates in ms."""
    reply = await client.get(PATH)
    assert reply.status_code == 200
    settings = reply.json()["ordersSettings"]
    created = settings["createdDate"]
    assert list(settings.items()) == [
        ("inventoryUpdateTrigger", "ON_ORDER_PLACED"),
        ("createInvoice", False),
        ("createdDate", created),
        ("updatedDate", created),
    ]
    assert len(created) == len("2024-07-04T15:10:46.070Z")
    assert created.endswith("Z")


async def test_a_patch_answers_as_the_seed_shows(client):
    """PATCH answers the settings after the change, and the next GET answers the same."""
    before = (await client.get(PATH)).json()["ordersSettings"]
    reply = await client.patch(PATH, json={"ordersSettings": {"createInvoice": True}})
    assert reply.status_code == 200
    after = reply.json()["ordersSettings"]
    assert after == before | {"createInvoice": True, "updatedDate": after["updatedDate"]}
    assert after["updatedDate"] >= before["updatedDate"]
    assert (await client.get(PATH)).json()["ordersSettings"] == after


async def test_nested_fields_merge_and_null_resets(client):
    """Fields that are not sent keep their value; null brings a default back."""
    await client.patch(
        PATH, json={"ordersSettings": {"emailNotifications": {"orderShipped": False}}}
    )
    reply = await client.patch(
        PATH, json={"ordersSettings": {"emailNotifications": {"pickupReady": False}}}
    )
    assert reply.json()["ordersSettings"]["emailNotifications"] == {
        "orderPlaced": True,
        "orderShipped": False,
        "pickupReady": False,
    }
    reply = await client.patch(PATH, json={"ordersSettings": {"emailNotifications": None}})
    assert "emailNotifications" not in reply.json()["ordersSettings"]


async def test_what_was_read_can_be_sent_back(client):
    """SDK code that gets, edits and patches sends the read-only dates: they are ignored."""
    settings = (await client.get(PATH)).json()["ordersSettings"]
    reply = await client.patch(
        PATH, json={"ordersSettings": settings | {"createInvoice": True, "createdDate": "x"}}
    )
    assert reply.status_code == 200
    assert reply.json()["ordersSettings"]["createdDate"] == settings["createdDate"]


async def test_a_change_is_recorded_with_who_when_why_and_through_what(client, ledger, site, key):
    """The history holds the key's user, its public id, the reason and the reply's id."""
    reply = await client.patch(
        PATH,
        json={"ordersSettings": {"createInvoice": True}},
        headers={"X-Ledger-Reason": "Invoices%20are%20mandatory%20f%C3%BCr%20alle"},
    )
    change = max(site.history.changes(), key=lambda change: change.version)
    assert change.actor == Identity.wix_user(key.wix_user_id)
    assert change.changes == {"createInvoice": {"from": False, "to": True}}
    assert change.reason == "Invoices are mandatory für alle"
    facts = last_facts(ledger, site)
    assert facts["via"] == {"channel": "http", "credential": key.prefix, "asserted": False}
    assert facts["request_id"] == reply.headers["x-wix-request-id"]
    assert key.api_key not in json.dumps(facts)


def last_facts(ledger, site):
    """What the site's last event says."""
    position = site.record().position
    with ledger.database.connection() as connection:
        row = connection.execute(
            "SELECT state FROM events WHERE partition = 0 AND position = %s", (position,)
        ).fetchone()
        return json.loads(bytes(row["state"]))


async def test_the_etag_is_the_version_and_every_accepted_patch_moves_it(client):
    """GET and PATCH name the version; an empty PATCH is a change too."""
    first = (await client.get(PATH)).headers["etag"]
    empty = await client.patch(PATH, json={"ordersSettings": {}})
    same = await client.patch(PATH, json={"ordersSettings": {"createInvoice": False}})
    got = await client.get(PATH)
    etags = [first, *(reply.headers["etag"] for reply in (empty, same))]
    assert etags == ['"1"', '"2"', '"3"']
    assert got.headers["etag"] == '"3"'


async def test_if_match_lets_a_change_through_only_at_its_version(client):
    """Two who read the same version cannot both change it."""
    etag = (await client.get(PATH)).headers["etag"]
    body = {"ordersSettings": {"createInvoice": True}}
    assert (await client.patch(PATH, json=body, headers={"If-Match": etag})).status_code == 200
    late = await client.patch(PATH, json=body, headers={"If-Match": etag})
    assert late.status_code == 412
    error = late.json()["details"]["applicationError"]
    assert (error["code"], error["data"]["actual"]) == ("FAILED_PRECONDITION", 2)
    for precondition, status in (('W/"2"', 412), ('"x"', 412), ('"1", "2"', 200), ("*", 200)):
        reply = await client.patch(PATH, json=body, headers={"If-Match": precondition})
        assert reply.status_code == status


async def test_of_many_with_the_same_if_match_one_wins(client):
    """The version is judged where changes are put in order."""
    patches = [
        client.patch(PATH, json={"ordersSettings": {}}, headers={"If-Match": '"1"'})
        for _ in range(10)
    ]
    statuses = [reply.status_code for reply in await asyncio.gather(*patches)]
    assert sorted(statuses) == [200] + [412] * 9


async def test_if_none_match_saves_the_body(client):
    """304 while nothing changed, with the ETag and an id; 200 afterwards."""
    etag = (await client.get(PATH)).headers["etag"]
    same = await client.get(PATH, headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert UUID(same.headers["x-wix-request-id"])
    await client.patch(PATH, json={"ordersSettings": {}})
    assert (await client.get(PATH, headers={"If-None-Match": etag})).status_code == 200


async def test_a_request_repeated_with_its_idempotency_key_changes_nothing_again(client):
    """The same answer, one event; spaces and key order make no other request of it."""
    headers = {"Idempotency-Key": str(uuid4()), "Content-Type": "application/json"}
    bodies = [
        b'{"ordersSettings":{"createInvoice":true,"inventoryUpdateTrigger":"ON_ORDER_PAID"}}',
        b'{"ordersSettings":{"inventoryUpdateTrigger":"ON_ORDER_PAID", "createInvoice": true}}',
    ]
    first, again = [await client.patch(PATH, content=body, headers=headers) for body in bodies]
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["etag"] == first.headers["etag"] == '"2"'
    assert again.json() == first.json()
    assert (await client.get(PATH)).headers["etag"] == '"2"'


async def test_an_idempotency_key_belongs_to_one_request(client):
    """Another body or precondition under the same key is a conflict and changes nothing."""
    headers = {"Idempotency-Key": str(uuid4())}
    await client.patch(PATH, json={"ordersSettings": {"createInvoice": True}}, headers=headers)
    other = await client.patch(
        PATH, json={"ordersSettings": {"createInvoice": False}}, headers=headers
    )
    conditional = await client.patch(
        PATH,
        json={"ordersSettings": {"createInvoice": True}},
        headers=headers | {"If-Match": '"2"'},
    )
    for reply in (other, conditional):
        assert reply.status_code == 409
        assert reply.json()["details"]["applicationError"]["code"] == "ALREADY_EXISTS"
    assert (await client.get(PATH)).headers["etag"] == '"2"'


async def test_idempotency_keys_of_two_callers_are_two(app, ledger, site, client):
    """A key is a caller's own: nobody learns of another's by using the same."""
    other_key = ledger.directory.create_key(site.site_id, [MANAGE_ORDERS])
    headers = {"Idempotency-Key": "same"}
    await client.patch(PATH, json={"ordersSettings": {"createInvoice": True}}, headers=headers)
    reply = await client.patch(
        PATH,
        json={"ordersSettings": {"createInvoice": False}},
        headers=headers | {"Authorization": other_key.api_key},
    )
    assert (reply.status_code, reply.headers["etag"]) == (200, '"3"')


async def test_bearer_and_no_site_header_work_as_the_curl_line_has_it(http, key):
    """The seed's curl line needs nothing but the credential."""
    reply = await http.get(PATH, headers={"Authorization": f"Bearer {key.api_key}"})
    assert reply.status_code == 200


async def test_a_reading_scope_reads_and_does_not_change(http, ledger, site):
    """PATCH without a managing scope is 403 and leaves no event."""
    key = ledger.directory.create_key(site.site_id, [READ_ORDERS])
    headers = {"Authorization": key.api_key}
    assert (await http.get(PATH, headers=headers)).status_code == 200
    reply = await http.patch(PATH, headers=headers, json={"ordersSettings": {}})
    assert reply.status_code == 403
    error = reply.json()["details"]["applicationError"]
    assert error["code"] == "PERMISSION_DENIED"
    assert ORDERS_SETTINGS.update_permission in error["description"]
    assert site.record().version == 1


def routes(app):
    """Every (method, path) that the application answers itself."""
    for route in app.routes:
        for method in sorted(getattr(route, "methods", None) or ()):
            yield method, route.path


async def test_a_key_of_one_site_never_touches_another(http, ledger):
    """What one site's key changes, another site's key does not see."""
    sites = [ledger.create_site() for _ in range(2)]
    keys = [ledger.directory.create_key(site.site_id, [MANAGE_ORDERS]) for site in sites]
    await http.patch(
        PATH,
        headers={"Authorization": keys[0].api_key},
        json={"ordersSettings": {"createInvoice": True}},
    )
    seen = [
        (await http.get(PATH, headers={"Authorization": key.api_key})).json()["ordersSettings"]
        for key in keys
    ]
    assert [settings["createInvoice"] for settings in seen] == [True, False]


async def test_the_library_sees_what_http_changed_and_the_other_way_round(client, ledger, site):
    """One ledger, two doors."""
    await client.patch(PATH, json={"ordersSettings": {"createInvoice": True}})
    assert site.settings()["createInvoice"] is True
    site.update({"createInvoice": False}, by=Identity.wix_user(uuid4()))
    reply = await client.get(PATH)
    assert reply.json()["ordersSettings"]["createInvoice"] is False
    assert last_facts(ledger, site)["via"]["channel"] == Via("library").channel


# Health and documentation


async def test_health_and_readiness(http):
    """Both answer without a credential."""
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json() == {"status": "ready"}


class Elsewhere:
    """The same ledger before another database."""

    def __init__(self, ledger, url):
        self.config, self.directory = ledger.config, ledger.directory
        self.keyring, self.access = ledger.keyring, ledger.access
        self.database = Database(url, connect_timeout=1)


@pytest.mark.parametrize("problem", ["outdated", "unreachable"])
async def test_unreadiness_has_a_reason(ledger, empty_database, tmp_path, problem):
    """503 names the command for an outdated schema, and nothing of the network otherwise."""
    unreachable = f"postgresql://user:password@/ledger?host={tmp_path}"
    url = empty_database.server_url if problem == "outdated" else unreachable
    elsewhere = Elsewhere(ledger, url)
    transport = httpx.ASGITransport(create_app(elsewhere))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as http:
        reply = await http.get("/readyz")
        assert (await http.get("/healthz")).status_code == 200
    elsewhere.database.close()
    assert reply.status_code == 503
    assert reply.json()["details"]["applicationError"]["code"] == "UNAVAILABLE"
    assert ("settings-ledger migrate" in reply.text) is (problem == "outdated")
    assert str(tmp_path) not in reply.text
    assert "retry-after" in reply.headers


async def test_the_documentation_describes_every_route(app, http):
    """``/openapi.json`` has every path with its failures, and samples as the seeds show them."""
    document = (await http.get("/openapi.json")).json()
    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    hidden = {"/docs", "/docs/oauth2-redirect", "/openapi.json"}
    assert described == {
        (method, path) for method, path in routes(app) if method != "HEAD" and path not in hidden
    }
    patch = document["paths"][PATH]["patch"]
    assert set(patch["responses"]) == {
        str(status) for status in (200, 400, 401, 403, 404, 409, 412, 413, 415, 429, 500, 503, 504)
    }
    sample = patch["requestBody"]["content"]["application/json"]["example"]
    assert sample == {"ordersSettings": {"createInvoice": True}}
    got = document["paths"][PATH]["get"]["responses"]["200"]["content"]["application/json"]
    assert got["example"] == {
        "ordersSettings": {
            "inventoryUpdateTrigger": "ON_ORDER_PLACED",
            "createInvoice": False,
            "createdDate": "2024-07-04T15:10:46.070Z",
            "updatedDate": "2024-07-04T15:10:46.070Z",
        }
    }
    names = {parameter["name"] for parameter in patch["parameters"]}
    assert names == {
        *("wix-site-id", "If-Match", "Idempotency-Key", "X-Ledger-Reason", "X-Wix-Consistent")
    }
    assert "422" not in json.dumps(document)


async def test_the_documentation_needs_no_other_host(http):
    """What /docs loads comes from this server."""
    page = (await http.get("/docs")).text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert loaded
    assert all(place.startswith("/docs/assets/") for place in loaded)
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/docs/assets/{asset}" in page
        assert (await http.get(f"/docs/assets/{asset}")).status_code == 200


# Over a real socket


@pytest.fixture
async def address(app):
    """The application behind uvicorn, as `serve` runs it."""
    config = uvicorn.Config(app, log_config=None, http="httptools", lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield listening.getsockname()
        server.should_exit = True
        await serving


async def talk(address, request):
    """Send bytes, read until the server closes."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    await writer.drain()
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    return reply


def raw(method, key, *headers, body=b""):
    """A request as bytes, for what no client library would send."""
    lines = [
        f"{method} {PATH} HTTP/1.1".encode(),
        b"Host: ledger",
        b"Connection: close",
        f"Authorization: {key.api_key}".encode(),
        *headers,
    ]
    return b"\r\n".join([*lines, b"", body])


async def test_a_reason_may_be_raw_utf_8(address, key, site):
    """curl sends what the terminal gives it."""
    body = b'{"ordersSettings":{"createInvoice":true}}'
    length = f"Content-Length: {len(body)}".encode()
    reason = "X-Ledger-Reason: Gesetz für Rechnungen €".encode()
    reply = await talk(address, raw("PATCH", key, length, reason, body=body))
    assert reply.startswith(b"HTTP/1.1 200 ")
    reasons = [change.reason for change in site.history.changes()]
    assert "Gesetz für Rechnungen €" in reasons


async def test_a_head_has_no_body(address, key):
    """HEAD answers GET's headers alone."""
    reply = await talk(address, raw("HEAD", key))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b'etag: "1"' in head.lower()
    assert body == b""


async def test_a_large_body_is_refused_before_it_is_sent(address, key):
    """413 on the declared length alone: the body itself never comes."""
    reply = await talk(address, raw("PATCH", key, b"Content-Length: 99999999999"))
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"x-wix-request-id" in reply.lower()


async def test_a_caller_who_leaves_mid_body_changes_nothing(address, key, site):
    """Half a body is no request; the server goes on."""
    _, writer = await asyncio.open_connection(*address)
    writer.write(raw("PATCH", key, b"Content-Length: 100", body=b'{"ordersSettings":'))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await talk(address, raw("GET", key))).startswith(b"HTTP/1.1 200 ")
    assert site.record().version == 1
