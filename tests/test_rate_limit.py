"""The rate limit: how often one client may ask, counted exactly, and how it is told."""

from __future__ import annotations

import httpx
import pytest
from credentials import MANAGE_ORDERS, SECRET_KEY, Clock
from hypothesis import given
from hypothesis import strategies as st

from ledger import ratelimit
from ledger.assembly import Ledger
from ledger.errors import RateLimited
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.ratelimit import PERIOD, RateLimit
from ledger.web import create_app

PATH = ORDERS_SETTINGS.path


@pytest.fixture
def clock():
    return Clock()


def refused(limit, client="a"):
    """How long to wait, None where the request was admitted."""
    try:
        limit.admit(client)
    except RateLimited as error:
        return error.retry_after
    return None


def test_a_client_has_its_share_in_any_minute(clock):
    """Exactly ``limit`` requests, then none until the first of them is a minute old."""
    limit = RateLimit(3, clock=clock)
    for _ in range(3):
        assert refused(limit) is None
        clock.now += 10
    assert refused(limit) == 30
    clock.now += 30
    assert refused(limit) is None
    assert refused(limit) == 10


def test_refused_requests_do_not_count(clock):
    """Who hammers on is served again as soon as who waited."""
    limit = RateLimit(1, clock=clock)
    limit.admit("a")
    for _ in range(100):
        assert refused(limit) is not None
    clock.now += PERIOD
    assert refused(limit) is None


def test_clients_do_not_share(clock):
    """One client's hurry costs another nothing."""
    limit = RateLimit(1, clock=clock)
    assert refused(limit, "a") is None
    assert refused(limit, "b") is None
    assert refused(limit, "a") is not None


def test_zero_is_no_limit(clock):
    """LEDGER_RATE_LIMIT=0 admits everything and remembers nothing."""
    limit = RateLimit(0, clock=clock)
    assert all(refused(limit) is None for _ in range(1000))
    assert len(limit._allowed) == 0


def test_memory_is_bounded(clock, monkeypatch):
    """The clients that asked least recently are forgotten first."""
    monkeypatch.setattr(ratelimit, "REMEMBERED_CLIENTS", 2)
    limit = RateLimit(1, clock=clock)
    for client in "abc":
        limit.admit(client)
    assert set(limit._allowed) == {"b", "c"}


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=60),
)
def test_no_minute_ever_holds_more_than_the_limit(most, pauses):
    """Whatever the rhythm: within each window of a minute at most ``limit`` are admitted."""
    clock, admitted = Clock(), []
    limit = RateLimit(most, clock=clock)
    for pause in pauses:
        clock.now += pause
        if refused(limit) is None:
            admitted.append(clock.now)
        else:
            recent = [at for at in admitted if clock.now - at < PERIOD]
            assert len(recent) == most
    for place, start in enumerate(admitted):
        assert sum(at - start < PERIOD for at in admitted[place:]) <= most


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_limits", template.name) as database:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 3}
        with Ledger.open(**options) as ledger:
            yield ledger


@pytest.fixture
async def http(ledger):
    transport = httpx.ASGITransport(create_app(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        yield client


async def test_the_request_after_the_last_is_429(http, ledger):
    """The contract's code, Retry-After in whole seconds, nothing recorded; other keys go on."""
    site = ledger.create_site()
    key, other = (ledger.directory.create_key(site.site_id, [MANAGE_ORDERS]) for _ in range(2))
    headers = {"Authorization": key.api_key}
    for _ in range(3):
        assert (await http.get(PATH, headers=headers)).status_code == 200
    reply = await http.patch(PATH, headers=headers, json={"ordersSettings": {}})
    assert reply.status_code == 429
    error = reply.json()["details"]["applicationError"]
    assert error["code"] == "RESOURCE_EXHAUSTED"
    assert "3 requests a minute" in error["description"]
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert reply.headers["x-wix-request-id"]
    assert site.record().version == 1
    assert (await http.get(PATH, headers={"Authorization": other.api_key})).status_code == 200


async def test_an_app_instance_is_one_client_whatever_its_tokens(http, ledger):
    """A new token does not start a new minute; another instance has a share of its own."""
    app = ledger.directory.create_app("App", [MANAGE_ORDERS])
    instances = [
        ledger.directory.install(app.app_id, ledger.create_site().site_id) for _ in range(2)
    ]

    async def get(instance):
        grant = (str(app.app_id), app.app_secret, str(instance.instance_id))
        headers = {"Authorization": ledger.access.grants.grant(*grant)}
        return (await http.get(PATH, headers=headers)).status_code

    assert [await get(instances[0]) for _ in range(4)] == [200, 200, 200, 429]
    assert await get(instances[1]) == 200


async def test_who_is_not_known_is_not_counted(http):
    """401 comes first: nobody uses up another's share, and the public routes have none."""
    for _ in range(5):
        assert (await http.get(PATH, headers={"Authorization": "x"})).status_code == 401
        assert (await http.get("/healthz")).status_code == 200


async def test_a_credential_for_another_site_is_not_counted(http, ledger):
    """403 for a wrong site header takes nothing from the share."""
    site, other = ledger.create_site(), ledger.create_site()
    key = ledger.directory.create_key(site.site_id, [MANAGE_ORDERS])
    headers = {"Authorization": key.api_key}
    for _ in range(5):
        reply = await http.get(PATH, headers=headers | {"wix-site-id": str(other.site_id)})
        assert reply.status_code == 403
    assert (await http.get(PATH, headers=headers)).status_code == 200
