"""What the publisher delivers, as the SDK's typed handlers read it."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from publishing import World
from receivers import Receiver

from ledger.aggregate import originator_id
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.identity import Identity, Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.timestamps import wire

LOGO = {"id": "abc~mv2.png", "width": 300, "height": 200, "altText": "l.png", "filename": "l.png"}


@pytest.fixture
def world(ledger):
    """An app of its own on the ledger that all tests share."""
    return World.on(ledger)


@pytest.fixture
async def receiver():
    async with Receiver() as receiver:
        yield receiver


async def delivered(world, receiver, change):
    """The bodies of what ``change`` caused, subscribed to for both kinds."""
    for kind in (ORDERS_SETTINGS, CHECKOUT_SETTINGS):
        world.ledger.directory.subscribe(world.app.app_id, receiver.url, kind.event_type)
    change()
    await world.publish()
    return [arrival.body for arrival in receiver.arrivals]


def read(node, world, bodies, public_key=None):
    """What the SDK makes of the bodies."""
    auth = {"appId": str(world.app.app_id), "publicKey": public_key or world.app.public_key_pem}
    return node.ask("webhooks.mjs", {"auth": auth, "bodies": bodies})


async def test_a_typed_handler_reads_the_orders_event(node, world, receiver):
    """Entity, previous values and metadata are where the SDK's types say, dates as dates."""
    site, user = world.site(), uuid4()
    [installation] = [
        each for each in world.ledger.directory.installations() if each.site_id == site.site_id
    ]
    provenance = Provenance(Identity.wix_user(user), Via("http"), origin="copy:1")
    patch = {"createInvoice": True, "emailNotifications": {"orderShipped": False}}
    bodies = await delivered(
        world,
        receiver,
        lambda: world.ledger.update(site.site_id, ORDERS_SETTINGS, patch, provenance),
    )
    [[name, event]] = read(node, world, bodies)["handled"]
    record = site.record()
    entity = event["entity"]
    nested = entity.pop("ordersSettings")
    assert name == "orders"
    assert entity == {
        "inventoryUpdateTrigger": "ON_ORDER_PLACED",
        "createInvoice": True,
        "emailNotifications": {"orderPlaced": True, "orderShipped": False, "pickupReady": True},
        "_createdDate": {"date": wire(record.created)},
        "_updatedDate": {"date": wire(record.updated)},
    }
    assert nested == entity | {
        "_createdDate": wire(record.created),
        "_updatedDate": wire(record.updated),
    }
    assert event["modifiedFields"] == {
        "createInvoice": False,
        "emailNotifications.orderShipped": True,
    }
    metadata = event["metadata"]
    assert UUID(metadata.pop("_id")).version == 7
    assert metadata == {
        "instanceId": str(installation.instance_id),
        "identity": {"identityType": "WIX_USER", "wixUserId": str(user)},
        "accountInfo": {"siteId": str(site.site_id)},
        "entityFqdn": "wix.ecom.v1.orders_settings",
        "slug": "updated",
        "entityId": str(originator_id(site.site_id, ORDERS_SETTINGS.fqdn)),
        "eventTime": {"date": wire(record.updated)},
        "triggeredByAnonymizeRequest": False,
        "originatedFrom": "copy:1",
        "entityEventSequence": "2",
    }


async def test_a_typed_handler_reads_the_checkout_event(node, world, receiver):
    """The twin kind's handler gets its entity; an image is the SDK's text for it."""
    site = world.site()
    checkout = world.ledger.site(site.site_id, CHECKOUT_SETTINGS)

    def change():
        checkout.update({"checkoutPolicies": {"returnPolicy": {"content": "30 days"}}})
        checkout.update(
            {
                "checkoutPolicies": {"returnPolicy": {"content": "100 days"}},
                "checkoutBrand": {
                    "header": {"logo": {"image": LOGO}},
                    "footer": {"backgroundFill": {"color": "#fff"}},
                },
            }
        )
        checkout.update({"checkoutBrand": {"footer": {"backgroundFill": {"image": LOGO}}}})

    handled = read(node, world, await delivered(world, receiver, change))["handled"]
    assert [name for name, _ in handled] == ["checkout"] * 3
    first, second, third = (event for _, event in handled)
    image = "wix:image://v1/abc~mv2.png/l.png#originWidth=300&originHeight=200"
    assert first["modifiedFields"] == {"checkoutPolicies.returnPolicy.content": None}
    assert first["metadata"]["entityEventSequence"] == "2"
    assert second["entity"]["checkoutBrand"]["header"]["logo"]["image"] == image
    assert second["entity"]["checkoutPolicies"]["returnPolicy"]["content"] == "100 days"
    assert second["modifiedFields"]["checkoutPolicies.returnPolicy.content"] == "30 days"
    assert third["entity"]["checkoutBrand"]["footer"] == {"backgroundFill": {"image": image}}
    assert third["modifiedFields"]["checkoutBrand.footer.backgroundFill.color"] == "#fff"


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (Identity.wix_user, "wixUserId"),
        (Identity.app, "appId"),
        (Identity.member, "memberId"),
        (Identity.anonymous_visitor, "anonymousVisitorId"),
    ],
)
async def test_whoever_acted_is_named(node, world, receiver, identity, name):
    """The event's identity has the type of whoever acted, and the one id that goes with it."""
    site, actor = world.site(), identity(uuid4())
    bodies = await delivered(world, receiver, lambda: site.update({}, by=actor))
    [[_, event]] = read(node, world, bodies)["handled"]
    assert event["metadata"]["identity"] == {"identityType": str(actor.type), name: actor.id}


async def test_a_tampered_body_is_refused(node, world, receiver):
    """A body whose content was changed on the way reaches no handler."""
    [body] = await delivered(world, receiver, lambda: world.site().update({}))
    header, payload, signature = body.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["data"] = claims["data"].replace("false", "true", 1)
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    bodies = [f"{header}.{forged}.{signature}", f"{header}.{payload}.", payload]
    answer = read(node, world, bodies)
    assert answer["handled"] == []
    assert all("error" in result for result in answer["results"])


async def test_another_apps_body_is_refused(node, world, receiver, ledger):
    """An event that was signed for one app does not pass for another's."""
    bodies = await delivered(world, receiver, lambda: world.site().update({}))
    other = ledger.directory.create_app("Other", ["SCOPE.DC-STORES.READ-ORDERS"])
    answer = read(node, world, bodies, other.public_key_pem)
    assert answer["handled"] == []
    assert "signature verification failed" in answer["results"][0]["error"]


async def test_a_rotated_key_signs_what_comes_after(node, world, receiver, ledger):
    """Old deliveries stay verifiable by the old key, which is still published; new ones by the new."""
    site, directory = world.site(), ledger.directory
    [before] = await delivered(world, receiver, lambda: site.update({}))
    key = directory.rotate_key(world.app.app_id, timedelta(days=1))
    site.update({})
    await world.publish()
    after = receiver.arrivals[-1].body
    old = read(node, world, [before, after])
    new = read(node, world, [before, after], key.public_key_pem)
    assert ["error" in result for result in old["results"]] == [False, True]
    assert ["error" in result for result in new["results"]] == [True, False]
    published = {each.public_key_pem for each in directory.public_keys(world.app.app_id)}
    assert published == {world.app.public_key_pem, key.public_key_pem}
