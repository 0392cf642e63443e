"""The past over HTTP: questions, undoing, and the pull feed, on a real ledger."""

from __future__ import annotations

import asyncio
import json
from threading import Thread

import httpx
import pytest
from publishing import World, flip
from receivers import Receiver

from ledger.assembly import Ledger
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.identity import Identity
from ledger.kinds import KINDS
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.permissions import HISTORY_SCOPE
from ledger.settings import SettingsKind, SettingsModel
from ledger.web import create_app
from ledger.web.histories import resource_names

SECRET_KEY = "correct-horse-battery-staple-0123456789"
MANAGE = "SCOPE.DC-STORES.MANAGE-ORDERS"
READ = "SCOPE.DC-STORES.READ-ORDERS"
PATH = "/ecom/v1/orders-settings"
BASE = "/ledger/v1/orders-settings"
TRIGGER = "inventoryUpdateTrigger"
ANNA = Identity.wix_user("0d3f6a2e-8dfe-41ee-b9d1-0242ac120002")


class Loyalty(SettingsModel):
    """Settings of a kind that only this module knows."""

    enabled: bool = False


LOYALTY = SettingsKind(
    fqdn="example.shop.v1.loyalty_settings",
    wrapper="loyaltySettings",
    path="/shop/v1/loyalty-settings",
    model=Loyalty,
    manage_scopes=frozenset({"SCOPE.EXAMPLE.MANAGE-LOYALTY"}),
    read_scopes=frozenset(),
    read_permission="LOYALTY.READ",
    update_permission="LOYALTY.UPDATE",
)


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_web_history", template.name) as database:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**options) as ledger:
            yield ledger


@pytest.fixture(scope="module")
def app(ledger):
    return create_app(ledger)


@pytest.fixture
async def open_client(app):
    """Make clients that send a credential."""
    clients = []

    def make(credential):
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": credential}
        clients.append(
            httpx.AsyncClient(transport=transport, base_url="http://ledger", headers=headers)
        )
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def site(ledger):
    """A site of three versions: Anna turned invoices on, somebody the trigger."""
    site = ledger.create_site()
    site.update({"createInvoice": True}, reason="New law", by=ANNA)
    site.update({TRIGGER: "ON_ORDER_PAID"})
    return site


@pytest.fixture
def client(ledger, site, open_client):
    """A client that may do everything with orders settings on the site."""
    return open_client(ledger.directory.create_key(site.site_id, [MANAGE]).api_key)


@pytest.fixture(scope="module")
def world(ledger):
    return World.on(ledger)


def app_client(ledger, world, site, open_client):
    """The world's app as its instance on the site."""
    [installation] = ledger.directory.installations(world.app.app_id, site.site_id)
    instance = str(installation.instance_id)
    app_id = str(world.app.app_id)
    return open_client(ledger.access.grants.grant(app_id, world.app.app_secret, instance))


async def answer(client, path, **parameters):
    """The body of a GET that succeeds."""
    reply = await client.get(path, params=parameters)
    assert reply.status_code == 200, reply.text
    assert "private" in reply.headers["cache-control"]
    return reply.json()


async def test_changes_are_those_of_the_library_page_by_page(client, site):
    """Newest first, with Wix's paging; the cursor leads through all of them once."""
    whole = await answer(client, f"{BASE}/changes")
    assert whole["changes"] == [change.json() for change in site.history.changes()]
    assert whole["pagingMetadata"] == {"count": 3, "cursors": {"next": None}, "hasNext": False}
    first = await answer(client, f"{BASE}/changes", limit=2)
    assert first["pagingMetadata"]["count"] == 2
    assert first["pagingMetadata"]["hasNext"] is True
    following = first["pagingMetadata"]["cursors"]["next"]
    rest = await answer(client, f"{BASE}/changes", limit=2, cursor=following)
    assert first["changes"] + rest["changes"] == whole["changes"]
    assert rest["pagingMetadata"]["hasNext"] is False


async def test_changes_are_narrowed_by_each_filter(client, site):
    """Time, field, actor, version range and order each leave what they name."""

    async def versions(**filters):
        found = await answer(client, f"{BASE}/changes", **filters)
        return [change["version"] for change in found["changes"]]

    at = {change.version: change.json()["timestamp"] for change in site.history.changes()}
    assert await versions(since=at[2]) == [3, 2]
    assert await versions(until=at[2]) == [2, 1]
    assert await versions(since="1 hour ago") == [3, 2, 1]
    assert await versions(field="createInvoice") == [2, 1]
    assert await versions(by=ANNA.id) == [2]
    assert await versions(fromVersion=2, toVersion=2) == [2]
    assert await versions(order="oldest") == [1, 2, 3]


async def test_paging_under_concurrent_writes_misses_nothing(client, ledger, site):
    """While others write, pages show every change up to the first page's once, oldest or newest."""
    flip(site, 20)
    writers = [Thread(target=flip, args=(site, 15)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for order in ("newest", "oldest"):
        seen, cursor = [], None
        while True:
            more = {} if cursor is None else {"cursor": cursor}
            page = await answer(client, f"{BASE}/changes", limit=7, order=order, **more)
            seen += [change["version"] for change in page["changes"]]
            cursor = page["pagingMetadata"]["cursors"]["next"]
            if cursor is None:
                break
        assert len(seen) >= 23
        assert sorted(seen) == list(range(1, max(seen) + 1))
    for writer in writers:
        writer.join()


async def test_as_of_answers_any_moment(client, site):
    """By version, by time, by so long ago, and now; with the position that it rests on."""
    second = await answer(client, f"{BASE}/as-of", version=2)
    assert second == site.history.at_version(2).json()
    assert await answer(client, f"{BASE}/as-of", at=second["timestamp"]) == second
    assert await answer(client, f"{BASE}/as-of", at="v2") == second
    assert await answer(client, f"{BASE}/as-of") == site.history.at().json()


async def test_a_kind_that_nobody_changed_stands_at_its_defaults(client, ledger, site):
    """From the site's creation on, as a GET has it; before it, 400 with the parameter's name."""
    checkout = "/ledger/v1/checkout-settings"
    past = await answer(client, f"{checkout}/as-of")
    wrapper = CHECKOUT_SETTINGS.wrapper
    assert past[wrapper] == (await answer(client, CHECKOUT_SETTINGS.path))[wrapper]
    assert (past["version"], past["position"]) == (0, None)
    for moment in ({"version": 0}, {"at": "v0"}, {"at": past["timestamp"]}):
        assert await answer(client, f"{checkout}/as-of", **moment) == past
    nothing = await answer(client, f"{checkout}/diff", **{"from": "v0"})
    end = {"version": 0, "position": None}
    assert nothing == {"changes": {}, "from": end, "to": end}
    owed = await answer(client, f"{checkout}/blame")
    assert {one["version"] for one in owed.values()} == {0}
    assert (await answer(client, f"{checkout}/changes"))["changes"] == []
    early = await client.get(f"{checkout}/as-of", params={"at": "2001-01-01T00:00:00Z"})
    assert early.status_code == 400
    restored = await client.post(f"{BASE}/restore", json={"version": 0, "reason": "Start over"})
    assert restored.json()["version"] == 4
    assert site.history.diff(0).changes == {}


async def test_a_plus_that_came_as_a_space_is_understood(client, site):
    """``at=…T17:10:46+02:00`` without percent-encoding means what its sender meant."""
    local = site.history.at_version(2).timestamp.isoformat()
    assert local.endswith("+00:00")
    reply = await client.get(f"{BASE}/as-of?at={local}")
    assert reply.json()["version"] == 2


async def test_diff_and_blame_are_those_of_the_library(client, site):
    """``diff`` also tells which versions it compared."""
    found = await answer(client, f"{BASE}/diff", **{"from": "v1", "to": "v2"})
    assert found["changes"] == {"createInvoice": {"from": False, "to": True}}
    assert (found["from"]["version"], found["to"]["version"]) == (1, 2)
    now = await answer(client, f"{BASE}/diff", **{"from": "v1"})
    assert now["to"]["version"] == 3
    blamed = await answer(client, f"{BASE}/blame")
    assert blamed == {path: owed.json() for path, owed in site.history.blame().items()}
    assert blamed["createInvoice"]["reason"] == "New law"
    past = await answer(client, f"{BASE}/blame", at="v1")
    assert past["createInvoice"]["value"] is False


async def test_a_read_sees_what_its_client_wrote(client):
    """With the token of a write, and without it, the next question sees the change."""
    reply = await client.patch(PATH, json={"ordersSettings": {"createInvoice": False}})
    token = reply.headers["x-wix-consistent"]
    for headers in ({"X-Wix-Consistent": token}, {"X-Wix-Consistent": "foreign"}, {}):
        found = await client.get(f"{BASE}/changes?limit=1", headers=headers)
        assert found.json()["changes"][0]["version"] == 4


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("changes?since=2999-01-01T00:00:00Z", "since"),
        ("changes?since=2024-07-04T15:10:46", "since"),
        ("changes?until=yesterday", "until"),
        ("changes?since=1 hour ago&until=2 hours ago", "since"),
        ("changes?field=crateInvoice", "field"),
        ("changes?by=nobody", "by"),
        ("changes?by=%00", "by"),
        ("changes?fromVersion=0", "fromVersion"),
        ("changes?fromVersion=3&toVersion=2", "fromVersion"),
        ("changes?toVersion=x", "toVersion"),
        ("changes?order=random", "order"),
        ("changes?limit=0", "limit"),
        ("changes?limit=5000", "limit"),
        ("changes?limit=٣", "limit"),
        ("changes?cursor=nonsense", "cursor"),
        ("changes?cursor=", "cursor"),
        ("changes?feild=x", "feild"),
        ("changes?limit=1&limit=2", "limit"),
        ("as-of?at=v1&version=1", "version"),
        ("as-of?at=2001-01-01T00:00:00Z", "at"),
        ("as-of?version=-1", "version"),
        ("diff", "from"),
        ("diff?from=soon", "from"),
        ("diff?from=v1&to=soon", "to"),
        ("blame?at=v-1", "at"),
    ],
)
async def test_bad_input_names_the_parameter(client, question, name):
    """400 with the contract's body, whose data names the parameter."""
    reply = await client.get(f"{BASE}/{question}")
    assert reply.status_code == 400
    error = reply.json()["details"]["applicationError"]
    assert (error["code"], error["data"]) == ("INVALID_ARGUMENT", {"name": name})


async def test_what_is_not_there_is_404(client):
    """A version that nobody recorded, and a resource that there is not."""
    for path in (f"{BASE}/as-of?version=99", f"{BASE}/diff?from=v99", "/ledger/v1/nothing/changes"):
        reply = await client.get(path)
        assert reply.status_code == 404
        assert reply.json()["details"]["applicationError"]["code"] == "NOT_FOUND"


async def test_history_asks_for_more_than_the_present_does(ledger, site, open_client):
    """An auditor reads the past and changes nothing; who may read the present may not read it."""
    auditor = open_client(ledger.directory.create_key(site.site_id, [HISTORY_SCOPE]).api_key)
    reader = open_client(ledger.directory.create_key(site.site_id, [READ]).api_key)
    for question in ("changes", "as-of", "diff?from=v1", "blame"):
        assert (await auditor.get(f"{BASE}/{question}")).status_code == 200
        assert (await reader.get(f"{BASE}/{question}")).status_code == 403
    for who in (auditor, reader):
        for undo in ("restore", "revert"):
            reply = await who.post(f"{BASE}/{undo}", json={"version": 2, "reason": "x"})
            assert reply.status_code == 403
    assert site.record().version == 3


async def test_a_dry_run_tells_and_records_nothing(client, site):
    """``restore`` and ``revert`` show what they would change; the version stays."""
    restored = await client.post(f"{BASE}/restore", json={"version": 1, "dryRun": True})
    assert restored.status_code == 200
    assert restored.json()["version"] is None
    assert set(restored.json()["changes"]) == {"createInvoice", TRIGGER}
    reverted = await client.post(f"{BASE}/revert", json={"version": 2, "dryRun": True})
    assert reverted.json() == {
        "version": None,
        "changes": {"createInvoice": {"from": True, "to": False}},
    }
    assert site.record().version == 3


async def test_restore_records_a_change_with_its_source(client, ledger, site):
    """The caller acts, through HTTP, with the reason and the request's id; a token is minted."""
    at = site.history.at_version(1).json()["timestamp"]
    reply = await client.post(f"{BASE}/restore", json={"at": at, "reason": "Start over"})
    assert reply.json()["version"] == 4
    assert reply.headers["etag"] == '"4"'
    change = site.history.changes()[0]
    assert (change.origin, change.reason) == ("restore:v1", "Start over")
    assert change.via.channel == "http"
    assert change.request_id == reply.headers["x-wix-request-id"]
    assert site.history.diff(1).changes == {}
    headers = {"X-Wix-Consistent": reply.headers["x-wix-consistent"]}
    assert (await client.get(PATH, headers=headers)).headers["etag"] == '"4"'


async def test_the_reason_may_stand_in_the_header(client, site):
    """As for PATCH."""
    reply = await client.post(
        f"{BASE}/revert", json={"version": 2}, headers={"X-Ledger-Reason": "Not%20agreed"}
    )
    assert reply.json()["version"] == 4
    assert site.history.changes()[0].reason == "Not agreed"


async def test_revert_reports_conflicts(client, site):
    """Fields changed since stay and are named; where that is all, nothing is recorded."""
    site.update({"createInvoice": False})
    site.update({"createInvoice": True})
    reply = await client.post(f"{BASE}/revert", json={"version": 2, "reason": "x"})
    assert reply.json() == {
        "version": None,
        "changes": {},
        "conflicts": {"createInvoice": {"expected": True, "found": True, "version": 5}},
    }
    assert "etag" not in reply.headers
    assert site.record().version == 5


async def test_undoing_honours_if_match(client, site):
    """412 where the settings have moved on, and nothing is recorded."""
    asked = {"version": 1, "reason": "x"}
    reply = await client.post(f"{BASE}/restore", json=asked, headers={"If-Match": '"2"'})
    assert reply.status_code == 412
    assert site.record().version == 3
    reply = await client.post(f"{BASE}/restore", json=asked, headers={"If-Match": '"2", "3"'})
    assert reply.json()["version"] == 4


async def test_a_repeated_request_undoes_once(client, site):
    """With its Idempotency-Key the same answer comes again; another request under it is 409."""
    headers = {"Idempotency-Key": f"undo-{site.site_id}"}
    site.update({"createInvoice": False, TRIGGER: "ON_ORDER_PLACED"})
    site.update({"createInvoice": True})
    asked = {"version": 4, "reason": "Not agreed"}
    first = await client.post(f"{BASE}/revert", json=asked, headers=headers)
    assert first.json()["version"] == site.record().version == 6
    assert first.json()["conflicts"].keys() == {"createInvoice"}
    site.update({"createInvoice": False})
    again = await client.post(f"{BASE}/revert", json=asked, headers=headers)
    assert first.json() == again.json()
    assert first.headers["etag"] == again.headers["etag"] == '"6"'
    assert "x-wix-consistent" in again.headers
    restored = [
        await client.post(
            f"{BASE}/restore",
            json={"version": 1, "reason": "Start over"},
            headers={"Idempotency-Key": f"restore-{site.site_id}"},
        )
        for _ in range(2)
    ]
    assert restored[0].json() == restored[1].json()
    assert site.record().version == 8
    other = await client.post(f"{BASE}/restore", json=asked, headers=headers)
    assert other.status_code == 409


@pytest.mark.parametrize(
    ("undo", "body", "violations"),
    [
        ("restore", {}, {"version": "REQUIRED_ONE_OF_FIELD", "reason": "REQUIRED_FIELD"}),
        ("restore", {"version": 1}, {"reason": "REQUIRED_FIELD"}),
        ("restore", {"version": 1, "at": "v1", "reason": "x"}, {"at": "ONE_OF_ALIGNMENT"}),
        ("restore", {"at": 7, "reason": "x"}, {"at": "FORMAT"}),
        ("restore", {"version": "1", "reason": 3}, {"version": "FORMAT", "reason": "FORMAT"}),
        (
            "revert",
            {"at": "v1", "reason": "x"},
            {"at": "FIELD_NOT_ALLOWED", "version": "REQUIRED_FIELD"},
        ),
        ("revert", {"version": 0, "reason": "x"}, {"version": "MIN"}),
        ("revert", {"version": True, "reason": "x"}, {"version": "FORMAT"}),
        (
            "revert",
            {"version": 2, "dryRun": "yes"},
            {"dryRun": "FORMAT", "reason": "REQUIRED_FIELD"},
        ),
        (
            "revert",
            {"version": 2, "dry_run": True, "reason": "x"},
            {"dry_run": "FIELD_NOT_ALLOWED"},
        ),
    ],
)
async def test_every_violation_of_a_body_is_told(client, site, undo, body, violations):
    """400 with one violation per field, as PATCH has it; nothing is recorded."""
    reply = await client.post(f"{BASE}/{undo}", json=body)
    assert reply.status_code == 400
    told = reply.json()["details"]["validationError"]["fieldViolations"]
    assert {each["field"]: each["violatedRule"] for each in told} == violations
    assert site.record().version == 3


@pytest.mark.parametrize(
    ("undo", "body", "status"),
    [
        ("revert", {"version": 1, "reason": "x"}, 400),
        ("revert", {"version": 99, "reason": "x"}, 404),
        ("restore", {"version": 99, "reason": "x"}, 404),
        ("restore", {"at": "2999-01-01T00:00:00Z", "reason": "x"}, 400),
        ("restore", {"at": "2 fortnights ago", "reason": "x"}, 400),
        ("restore", {"version": 1, "reason": "x" * 1001}, 400),
        ("restore", [], 400),
    ],
)
async def test_what_cannot_be_undone_is_refused(client, site, undo, body, status):
    """With the contract's body; nothing is recorded."""
    reply = await client.post(f"{BASE}/{undo}", json=body)
    assert reply.status_code == status
    assert reply.json()["details"]["applicationError"]["description"]
    assert site.record().version == 3


async def test_the_feed_equals_what_the_webhooks_delivered(ledger, world, open_client):
    """Event for event the JSON that was signed, in order, for changes of several kinds."""
    site = world.site()
    client = app_client(ledger, world, site, open_client)
    async with Receiver() as receiver:
        for kind in (ORDERS_SETTINGS, CHECKOUT_SETTINGS):
            ledger.directory.subscribe(world.app.app_id, receiver.url, kind.event_type)
        flip(site, 3)
        ledger.site(site.site_id, CHECKOUT_SETTINGS).update({})
        flip(site, 2)
        await world.publish()
        delivered = [json.loads(arrival.data) for arrival in receiver.arrivals]
    pulled, after = [], "0"
    while True:
        page = await answer(client, "/ledger/v1/events", after=after, limit=2)
        pulled += page["events"]
        after = page["pagingMetadata"]["cursors"]["next"]
        if not page["pagingMetadata"]["hasNext"]:
            break
    assert len(pulled) == 6

    def by_id(events):
        return sorted(events, key=lambda event: json.loads(event["data"])["id"])

    assert by_id(pulled) == by_id(delivered)
    times = [json.loads(event["data"])["eventTime"] for event in pulled]
    assert times == sorted(times)
    assert (await answer(client, "/ledger/v1/events", after=after))["events"] == []


async def test_the_feed_begins_with_the_installation_and_knows_its_site(ledger, world, open_client):
    """What was before, and what is of other sites, is not told; nor to an app that is gone."""
    before, other = ledger.create_site(), world.site()
    flip(before, 2)
    instance = ledger.directory.install(world.app.app_id, before.site_id)
    client = app_client(ledger, world, before, open_client)
    flip(before)
    flip(other)
    page = await answer(client, "/ledger/v1/events")
    [event] = page["events"]
    assert json.loads(event["data"])["entityEventSequence"] == "4"
    assert event["instanceId"] == str(instance.instance_id)
    assert event["accountInfo"]["siteId"] == str(before.site_id)
    ledger.directory.uninstall(instance.instance_id)
    assert (await client.get("/ledger/v1/events")).status_code in {401, 428}


async def test_a_feed_holds_only_what_the_app_may_receive(ledger, world):
    """Events of kinds that the app's scopes do not fit are left out; where none fits, 403."""
    site = world.site()
    ledger.site(site.site_id, LOYALTY).update({"enabled": True})
    flip(site)
    [installation] = ledger.directory.installations(world.app.app_id, site.site_id)
    instance = str(installation.instance_id)
    token = ledger.access.grants.grant(str(world.app.app_id), world.app.app_secret, instance)
    for kinds, status in (([ORDERS_SETTINGS, LOYALTY], 200), ([LOYALTY], 403)):
        transport = httpx.ASGITransport(create_app(ledger, kinds))
        async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
            reply = await client.get("/ledger/v1/events", headers={"Authorization": token})
        assert reply.status_code == status
        told = [event["eventType"] for event in reply.json().get("events", ())]
        assert told == [ORDERS_SETTINGS.event_type] * (status == 200)


async def test_pulling_under_concurrent_writes_misses_nothing(ledger, world, open_client):
    """While others write, every event comes once, in the order of versions."""
    site = world.site()
    client = app_client(ledger, world, site, open_client)
    writers = [Thread(target=flip, args=(site, 20)) for _ in range(4)]
    for writer in writers:
        writer.start()
    versions, after = [], "0"
    while len(versions) < 80:
        page = await answer(client, "/ledger/v1/events", after=after, limit=7, wait=5)
        versions += [
            int(json.loads(event["data"])["entityEventSequence"]) for event in page["events"]
        ]
        after = page["pagingMetadata"]["cursors"]["next"]
    for writer in writers:
        writer.join()
    assert versions == list(range(2, 82))


async def test_a_waiting_request_is_answered_by_the_next_event(
    ledger, world, open_client, monkeypatch
):
    """``wait`` holds the request until the doorbell rings; a wait in vain ends with nothing."""
    monkeypatch.setattr("ledger.web.arrivals.UNHEARD_SECONDS", 60)
    site = world.site()
    client = app_client(ledger, world, site, open_client)
    nothing = await answer(client, "/ledger/v1/events", wait=0)
    after = nothing["pagingMetadata"]["cursors"]["next"]
    assert nothing["events"] == []
    waiting = asyncio.create_task(answer(client, "/ledger/v1/events", after=after, wait=30))
    await asyncio.to_thread(flip, site)
    page = await asyncio.wait_for(waiting, 15)
    assert len(page["events"]) == 1
    several = [
        asyncio.create_task(answer(client, "/ledger/v1/events", after=after, wait=30, limit=5))
        for after in [page["pagingMetadata"]["cursors"]["next"]] * 3
    ]
    await asyncio.to_thread(flip, site)
    for waiting in several:
        page = await asyncio.wait_for(waiting, 15)
        assert len(page["events"]) == 1
    in_vain = page["pagingMetadata"]["cursors"]["next"]
    assert (await answer(client, "/ledger/v1/events", after=in_vain, wait=1))["events"] == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("after=x", "after"),
        ("after=-1", "after"),
        ("after=123456789", "after"),
        ("limit=0", "limit"),
        ("wait=60", "wait"),
    ],
)
async def test_a_bad_question_to_the_feed_names_the_parameter(
    ledger, world, open_client, query, name
):
    """400 with the parameter in the data."""
    client = app_client(ledger, world, world.site(), open_client)
    reply = await client.get(f"/ledger/v1/events?{query}")
    assert reply.status_code == 400
    assert reply.json()["details"]["applicationError"]["data"] == {"name": name}


async def test_the_past_keeps_no_present_waiting(app, client, ledger, monkeypatch):
    """However many questions about the past hang, settings are answered."""
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked = ledger.horizon.reach

    def slow(*arguments, **options):
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        return asked(*arguments, **options)

    monkeypatch.setattr(ledger.horizon, "reach", slow)
    hanging = [asyncio.create_task(client.get(f"{BASE}/changes")) for _ in range(12)]
    for _ in range(12):
        assert (await asyncio.wait_for(client.get(PATH), 15)).status_code == 200
    assert not any(task.done() for task in hanging)
    release.set()
    assert {reply.status_code for reply in await asyncio.gather(*hanging)} == {200}


def test_a_name_that_is_taken_gives_way_to_the_fqdn():
    """The one declared first has the ending of its path; ``events`` is nobody's."""

    class Named:
        def __init__(self, fqdn, path):
            self.fqdn, self.path = fqdn, path

    kinds = [
        Named("a.one", "/a/v1/settings"),
        Named("b.two", "/b/settings"),
        Named("c.x", "/events"),
    ]
    assert list(resource_names(kinds)) == ["settings", "b.two", "c.x"]


async def test_the_document_has_an_example_of_every_answer(app):
    """Each route under /ledger/v1 is described, its 200 with an example of its own schema."""
    document = app.openapi()
    paths = [path for path in document["paths"] if path.startswith("/ledger/v1/")]
    assert len(paths) == 6 * len(KINDS) + 1
    for path in paths:
        [told] = document["paths"][path].values()
        content = told["responses"]["200"]["content"]["application/json"]
        assert set(content["schema"].get("required", [])) <= content["example"].keys()
        assert told["security"] == [{"credential": []}]
