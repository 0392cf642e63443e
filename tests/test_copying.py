"""Copying settings to other sites: one origin, each site for itself, nothing by surprise."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from ledger.aggregate import originator_id
from ledger.assembly import Ledger
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.copying import CopiedSite, carry_out, plan_copy, sites_of_app
from ledger.errors import InvalidInput, NotFound
from ledger.identity import Identity, Via
from ledger.orders_settings import ORDERS_SETTINGS

SECRET_KEY = "correct-horse-battery-staple-0123456789"
PAID = {"inventoryUpdateTrigger": "ON_ORDER_PAID"}
SCOPES = ["SCOPE.DC-STORES.READ-ORDERS"]


@pytest.fixture(scope="module")
def database(postgres, template):
    with postgres.lent("ledger_copying", template.name) as database:
        yield database


@pytest.fixture(scope="module")
def ledger(database):
    with Ledger.open(database_url=database.server_url, secret_key=SECRET_KEY) as ledger:
        yield ledger


@pytest.fixture
def source(ledger):
    """A site whose stock is updated only once an order is paid."""
    site = ledger.create_site()
    site.update(PAID | {"emailNotifications": {"orderShipped": False}})
    return site


def copied(ledger, plan, **options):
    via = Via("library", asserted=True)
    return carry_out(ledger, plan, actor=Identity.wix_user(uuid4()), via=via, **options)


def planned(ledger, source, targets, *fields, kind=ORDERS_SETTINGS):
    return plan_copy(ledger, kind, source.site_id, [site.site_id for site in targets], fields)


def test_every_site_takes_the_value_under_one_origin(ledger, source):
    """The seed's flow: the value is on every site, in one event each that names the copy."""
    targets = [ledger.create_site() for _ in range(3)]
    plan = planned(ledger, source, targets, "inventoryUpdateTrigger")
    assert plan.patch == PAID
    assert re.fullmatch(r"copy:[0-9a-f-]{36}", plan.origin)
    results = copied(ledger, plan, reason="Stock follows payment")
    assert results == [CopiedSite(site.site_id, "copied", version=2) for site in targets]
    for site in targets:
        assert site.settings() == ORDERS_SETTINGS.defaults() | PAID
        [change, _] = site.history.changes()
        assert (change.origin, change.reason) == (plan.origin, "Stock follows payment")
        assert change.changes == {
            "inventoryUpdateTrigger": {"from": "ON_ORDER_PLACED", "to": "ON_ORDER_PAID"}
        }


def test_a_plan_records_nothing_and_shows_both_ends(ledger, source):
    """A plan tells what would change where, and every site is as it was."""
    target = ledger.create_site()
    plan = planned(ledger, source, [target], "inventoryUpdateTrigger", "createInvoice")
    [site] = plan.sites
    assert site.changes == {
        "inventoryUpdateTrigger": {"from": "ON_ORDER_PLACED", "to": "ON_ORDER_PAID"}
    }
    assert target.record().version == 1


@pytest.mark.parametrize(
    ("fields", "patch"),
    [
        (["emailNotifications.orderShipped"], {"emailNotifications": {"orderShipped": False}}),
        (
            ["emailNotifications"],
            {
                "emailNotifications": {
                    "orderPlaced": True,
                    "orderShipped": False,
                    "pickupReady": True,
                }
            },
        ),
        (
            ["emailNotifications.orderShipped", "createInvoice", "emailNotifications.pickupReady"],
            {
                "emailNotifications": {"orderShipped": False, "pickupReady": True},
                "createInvoice": False,
            },
        ),
    ],
)
def test_a_field_may_be_a_part_or_a_whole(ledger, source, fields, patch):
    """A dotted path copies a part of an object; the object's name copies all of it."""
    target = ledger.create_site()
    target.update({"emailNotifications": {"pickupReady": False, "orderPlaced": False}})
    plan = planned(ledger, source, [target], *fields)
    assert plan.patch == patch
    copied(ledger, plan)
    expected = ORDERS_SETTINGS.merge(
        ORDERS_SETTINGS.defaults(),
        {"emailNotifications": {"pickupReady": False, "orderPlaced": False}},
    )
    assert target.settings() == ORDERS_SETTINGS.merge(expected, patch)


def test_what_the_source_lacks_is_taken_away(ledger):
    """A field without a value on the source has none on the targets afterwards."""
    source, target = ledger.create_site(), ledger.create_site()
    policy = {"checkoutPolicies": {"returnPolicy": {"visible": True, "content": "100 days"}}}
    by = ledger.site(target.site_id, CHECKOUT_SETTINGS)
    by.update(policy)
    plan = planned(
        ledger, source, [target], "checkoutPolicies.returnPolicy", kind=CHECKOUT_SETTINGS
    )
    assert plan.patch == {"checkoutPolicies": {"returnPolicy": {"visible": False, "content": None}}}
    copied(ledger, plan)
    assert by.settings() == CHECKOUT_SETTINGS.defaults()


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("inventory", "field: inventory: there is no inventory; known here are inventoryUpdate"),
        ("emailNotifications.nope", "there is no nope; known here are orderPlaced, orderShipped"),
        ("createInvoice.nope", "createInvoice has no fields of its own"),
        ("createdDate", "there is no createdDate"),
        ("", "there is no "),
    ],
)
def test_an_unknown_field_stops_before_anything(ledger, source, field, said):
    """A misspelt field is one clear error, and no site changes for the fields beside it."""
    target = ledger.create_site()
    with pytest.raises(InvalidInput, match=said):
        planned(ledger, source, [target], "inventoryUpdateTrigger", field)
    assert target.record().version == 1


def test_an_unknown_source_stops_before_anything(ledger):
    """Without a source there is nothing to copy."""
    with pytest.raises(NotFound, match="There is no site"):
        plan_copy(
            ledger, ORDERS_SETTINGS, uuid4(), [ledger.create_site().site_id], ["createInvoice"]
        )


def test_one_sites_failure_stops_no_other(ledger, source):
    """An unknown site among the targets fails alone, and its result says why."""
    first, last, unknown = ledger.create_site(), ledger.create_site(), uuid4()
    targets = [first.site_id, unknown, last.site_id]
    plan = plan_copy(ledger, ORDERS_SETTINGS, source.site_id, targets, ["inventoryUpdateTrigger"])
    assert [site.problem for site in plan.sites] == [None, f"There is no site {unknown}.", None]
    results = copied(ledger, plan)
    assert [result.result for result in results] == ["copied", "failed", "copied"]
    assert results[1].error == f"There is no site {unknown}."
    assert first.settings() == last.settings() == ORDERS_SETTINGS.defaults() | PAID


def test_a_site_that_the_database_refuses_fails_alone(ledger, database, source):
    """Where the database refuses one site's event, the others of the same batch are recorded."""
    import psycopg

    targets = [ledger.create_site() for _ in range(5)]
    refused = targets[2]
    key = originator_id(refused.site_id, ORDERS_SETTINGS.fqdn)
    plan = planned(ledger, source, targets, "inventoryUpdateTrigger")
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END $$"
        )
        owner.execute(
            "CREATE TRIGGER refuse_one BEFORE INSERT ON events FOR EACH ROW "
            f"WHEN (NEW.originator_id = '{key}') EXECUTE FUNCTION refuse()"
        )
        results = copied(ledger, plan)
        owner.execute("DROP TRIGGER refuse_one ON events")
        owner.execute("DROP FUNCTION refuse")
    assert [result.result for result in results] == ["copied"] * 2 + ["failed"] + ["copied"] * 2
    assert results[2].error
    assert refused.record().version == 1


def test_repeating_a_copy_changes_only_what_is_left(ledger, source):
    """A site that has the values already gets no event, so a copy can be run again."""
    done, left = ledger.create_site(), ledger.create_site()
    copied(ledger, planned(ledger, source, [done], "inventoryUpdateTrigger"))
    results = copied(ledger, planned(ledger, source, [done, left], "inventoryUpdateTrigger"))
    assert [result.result for result in results] == ["same", "copied"]
    assert done.record().version == 2


def test_targets_count_once_and_never_the_source(ledger, source):
    """The source is no target of its own copy; copying to nobody else is an error."""
    target = ledger.create_site()
    plan = planned(ledger, source, [source, target, target], "createInvoice")
    assert [site.site_id for site in plan.sites] == [target.site_id]
    with pytest.raises(InvalidInput, match="expected at least one site other than"):
        planned(ledger, source, [source], "createInvoice")


def test_all_sites_of_an_app_are_those_that_have_it_now(ledger):
    """Sites that uninstalled the app are not touched; an unknown app is an error."""
    app = ledger.directory.create_app("Invoices", SCOPES)
    kept, left = ledger.create_site(), ledger.create_site()
    ledger.directory.install(app.app_id, kept.site_id)
    gone = ledger.directory.install(app.app_id, left.site_id)
    ledger.directory.uninstall(gone.instance_id)
    assert sites_of_app(ledger.directory, app.app_id) == [kept.site_id]
    with pytest.raises(NotFound, match="There is no app"):
        sites_of_app(ledger.directory, uuid4())


def test_many_sites_are_copied_to_and_counted(ledger, source):
    """Progress tells every site, in order, also where there are more than fit in flight."""
    targets = [ledger.create_site() for _ in range(20)]
    plan = planned(ledger, source, targets, "inventoryUpdateTrigger")
    told = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ledger.copying.IN_FLIGHT", 3)
        results = copied(ledger, plan, progress=lambda *counts: told.append(counts))
    assert told == [(done, 20) for done in range(1, 21)]
    assert [result.site_id for result in results] == [site.site_id for site in targets]
    assert {result.result for result in results} == {"copied"}
