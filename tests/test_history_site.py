"""One site's history: any moment, differences, who set what, and undoing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from faults.waiting import eventually
from histories import PATCHES, all_pages, rows, writing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import Identity, Ledger
from ledger.aggregate import originator_id
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.database import lock_partition
from ledger.errors import InvalidInput, NotFound, VersionMismatch
from ledger.handle import SiteHandle
from ledger.history import apply_changes, horizon
from ledger.identity import Provenance, Via
from ledger.orders_settings import ORDERS_SETTINGS

if TYPE_CHECKING:
    from conftest import TestDatabase, TestServer

A_FEW = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
PATCH_LISTS = st.lists(st.sampled_from(PATCHES), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def place(postgres: TestServer, template: TestDatabase) -> Iterator[TestDatabase]:
    with postgres.lent("ledger_site_history", template.name) as database:
        yield database


@pytest.fixture(scope="module")
def ledger(place: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    directory = tmp_path_factory.mktemp("history")
    with Ledger.open(database_url=place.server_url, data_dir=directory) as ledger:
        yield ledger


@pytest.fixture
def ripe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a time be final as soon as it has passed: one writer writes, and none is at work."""
    monkeypatch.setattr(horizon, "RIPE_SECONDS", 0.001)


def site_with(ledger: Ledger, patches: list[dict[str, Any]]) -> SiteHandle:
    site = ledger.create_site()
    for patch in patches:
        site.update(patch)
    return site


# --- any moment --------------------------------------------------------------------------------


@A_FEW
@given(PATCH_LISTS)
def test_a_version_is_the_fold_of_as_many_events(
    ledger: Ledger, ripe: None, patches: list[dict[str, Any]]
) -> None:
    """at_version(n) is what n events fold to, what row n says, and what stood at its time."""
    site = site_with(ledger, patches)
    key = originator_id(site.site_id, ORDERS_SETTINGS.fqdn)
    repository = ledger.application(site.history.partition).repository
    for version in range(1, len(patches) + 2):
        snapshot = site.history.at_version(version)
        folded = repository.get(key, version=version)
        assert snapshot.settings == folded.settings  # type: ignore[attr-defined]
        assert snapshot.timestamp == folded.modified_on
        [row] = rows(
            ledger,
            "SELECT settings, position FROM settings_history "
            "WHERE originator_id = %s AND version = %s",
            key,
            version,
        )
        assert (snapshot.settings, snapshot.position) == (row["settings"], row["position"])
        exact = snapshot.timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert site.history.at(exact) == snapshot
        assert site.history.at(f"v{version}") == snapshot
    assert site.history.at().settings == site.settings()


@A_FEW
@given(PATCH_LISTS, st.data())
def test_a_difference_leads_from_one_moment_to_another(
    ledger: Ledger, patches: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Applied to the left it gives the right, on one site and between two."""
    site, other = site_with(ledger, patches), site_with(ledger, patches[::-1])
    versions = st.integers(1, len(patches) + 1)
    left, right = data.draw(versions), data.draw(versions)
    for elsewhere in (None, other.history):
        difference = site.history.diff(left, f"v{right}", of=elsewhere)
        target = (elsewhere or site.history).at_version(right)
        here = site.history.at_version(left)
        assert apply_changes(here.settings, difference.changes) == target.settings
    by_address = ledger.diff(f"{site.site_id}@v{left}", f"{other.site_id}@v{right}")
    assert by_address.changes == difference.changes
    assert by_address.json() == {"changes": difference.changes}


def test_a_moment_is_shown_as_the_api_replies(ledger: Ledger) -> None:
    """The settings under their wrapper, with the two dates of that moment, and where it rests."""
    site = site_with(ledger, [{"createInvoice": True}, {"createInvoice": False}])
    shown = site.history.at_version(2).json()
    assert shown["ordersSettings"]["createInvoice"] is True
    assert list(shown) == ["ordersSettings", "version", "position", "timestamp"]
    created, changed, _ = reversed(site.history.changes())
    assert shown["ordersSettings"]["createdDate"] == f"{created.json()['timestamp'][:23]}Z"
    assert shown["ordersSettings"]["updatedDate"] == f"{changed.json()['timestamp'][:23]}Z"
    assert (shown["version"], shown["position"]) == (2, changed.position)


def test_an_updated_date_includes_the_change_that_it_names(ledger: Ledger) -> None:
    """And the answer is given only once nothing with an earlier stamp can be appended."""
    site = site_with(ledger, [{"createInvoice": True}])
    updated = site.history.at().json()["ordersSettings"]["updatedDate"]
    assert site.history.at(updated).version == 2
    assert ledger.horizon.now() - datetime.fromisoformat(updated) >= timedelta(seconds=2)


def test_an_answer_with_a_bound_is_the_same_for_ever(ledger: Ledger, ripe: None) -> None:
    """Whatever was written since, the bytes are the same."""
    site = site_with(ledger, PATCHES[:5])
    bound = ledger.horizon.now().isoformat()
    history = site.history

    def answers() -> str:
        return json.dumps(
            [
                history.at(bound).json(),
                [change.json() for change in history.changes(until=bound)],
                [change.json() for change in history.changes(to_version=4, order="oldest")],
                {path: blame.json() for path, blame in history.blame(bound).items()},
                history.diff(2, bound).json(),
                [
                    change.json(located=True)
                    for change in ledger.audit.search(until=bound, sites=[site.site_id])
                ],
                [change.json() for change in ledger.replay(until=bound, sites=[site.site_id])],
            ]
        )

    first = answers()
    site_ids = [site, ledger.create_site()]
    for number, patch in enumerate(PATCHES):
        site_ids[number % 2].update(patch)
        assert answers() == first


def test_a_bound_waits_for_the_append_at_work(ledger: Ledger, ripe: None) -> None:
    """Who holds the partition's lock may have been stamped before the bound."""
    site = site_with(ledger, [{"createInvoice": True}])
    bound = ledger.horizon.now().isoformat()
    with ThreadPoolExecutor(1) as pool:
        with ledger.database.connection() as connection:
            lock_partition(connection, site.history.partition)
            job = pool.submit(site.history.at, bound)
            waiting = (
                "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            eventually(lambda: rows(ledger, waiting))
            assert not job.done()
        assert job.result().version == 2


def test_a_busy_partition_is_asked_about_the_past_without_its_lock(ledger: Ledger) -> None:
    """What comes behind a head that is stamped late enough cannot be stamped before the bound."""
    site = site_with(ledger, [])
    created = site.history.at().timestamp
    eventually(lambda: ledger.horizon.now() - created > timedelta(seconds=2.1))
    site.update({"createInvoice": True})
    with ledger.database.connection() as connection:
        lock_partition(connection, site.history.partition)
        exact = created.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert site.history.at(exact).version == 1


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("options", [{}, {"field": "emailNotifications"}, {"by": "ann"}])
def test_pages_hold_every_change_once(
    ledger: Ledger, ripe: None, order: str, options: dict[str, str]
) -> None:
    """In order, whatever is asked for, and the same as all at once."""
    site = ledger.create_site()
    for number, patch in enumerate(PATCHES * 2):
        by = Identity.wix_user("ann" if number % 3 else "bob")
        site.update(patch, by=by)
    whole = list(site.history.changes(order=order, **options))
    for limit in (1, 3, 1000):
        paged = all_pages(
            lambda cursor, limit=limit: site.history.changes(
                order=order, limit=limit, cursor=cursor, **options
            )
        )
        assert paged == whole
    versions = [change.version for change in whole]
    assert versions == sorted(versions, reverse=order == "newest")
    if "by" in options:
        assert {change.actor.id for change in whole} == {"ann"}
    elif "field" in options:
        assert all(any(p.startswith("emailN") for p in change.changes) for change in whole)
    else:
        assert len(whole) == 2 * len(PATCHES) + 1


def test_pages_under_writers_hold_every_change_once(ledger: Ledger) -> None:
    """What was there at the first page is seen once, and nothing twice, while eight write."""
    site = site_with(ledger, PATCHES * 2)
    for order in ("newest", "oldest"):
        with writing([site], 8, 8) as wait:
            before = site.record().version
            seen = all_pages(
                lambda cursor, order=order: site.history.changes(
                    order=order, limit=3, cursor=cursor
                )
            )
            wait()
        versions = [change.version for change in seen]
        assert len(set(versions)) == len(versions)
        assert set(versions) >= set(range(1, before + 1))


def test_changes_lie_within_the_bounds(ledger: Ledger, ripe: None) -> None:
    """Versions and times are inclusive; who acted on whose behalf is found by either."""
    site = ledger.create_site()
    app, member = Identity.app(uuid4()), Identity.member("m1")
    provenance = Provenance(app, Via("http", "key"), on_behalf_of=member)
    for number in range(3):
        ledger.update(site.site_id, ORDERS_SETTINGS, {"createInvoice": number % 2 == 0}, provenance)
    site.update({"createInvoice": True}, by=app)
    history = site.history
    second, third = history.at_version(2).timestamp, history.at_version(3).timestamp
    exact = [moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for moment in (second, third)]

    def versions(**options: Any) -> list[int]:
        return [change.version for change in history.changes(**options)]

    assert versions(from_version=2, to_version=3) == [3, 2]
    assert versions(since=exact[0], until=exact[1]) == [3, 2]
    assert versions(since=exact[1]) == [5, 4, 3]
    assert versions(by=member) == [4, 3, 2]
    assert versions(by=app) == versions(by=app.id) == [5, 4, 3, 2]
    assert versions(by=member, limit=1, order="oldest") == [2]
    assert versions(field="createInvoice", from_version=3) == [4, 3]
    assert versions(from_version=99) == []


# --- who set what ------------------------------------------------------------------------------------


@A_FEW
@given(PATCH_LISTS)
def test_blame_names_the_last_change_of_each_field(
    ledger: Ledger, patches: list[dict[str, Any]]
) -> None:
    """For every field the value, and the newest change whose changes hold it; at any version."""
    site = site_with(ledger, patches)
    changes = list(site.history.changes(order="oldest"))
    for version in (len(changes), (len(changes) + 1) // 2):
        last = {path: change for change in changes[:version] for path in change.changes}
        blame = site.history.blame(version)
        assert {path: one.version for path, one in blame.items()} == {
            path: change.version for path, change in last.items()
        }
        assert {path: one.value for path, one in blame.items()} == {
            path: change.changes[path]["to"] for path, change in last.items()
        }


def test_a_replay_folds_the_changes_in_order(ledger: Ledger) -> None:
    """The reducer gets each change once, oldest first, up to the moment named."""
    site = site_with(ledger, PATCHES)
    fold = site.history.replay(lambda state, change: apply_changes(state, change.changes), {})
    assert fold == site.settings()
    until = site.history.replay(lambda seen, change: [*seen, change.version], [], to="v4")
    assert until == [1, 2, 3, 4]


# --- undoing -----------------------------------------------------------------------------------------


@A_FEW
@given(PATCH_LISTS, st.data())
def test_a_restore_makes_the_settings_what_they_were(
    ledger: Ledger, patches: list[dict[str, Any]], data: st.DataObject
) -> None:
    """As an ordinary change that says where it comes from; a dry run changes nothing."""
    site = site_with(ledger, patches)
    version = data.draw(st.integers(1, len(patches) + 1))
    planned = site.history.restore(f"v{version}", reason="oops", dry_run=True)
    assert planned.version is None
    assert site.record().version == len(patches) + 1
    done = site.history.restore(f"v{version}", reason="oops")
    assert site.settings() == site.history.at_version(version).settings
    assert (done.version, done.changes) == (len(patches) + 2, planned.changes)
    assert done.json() == {"version": done.version, "changes": done.changes}
    newest = site.history.changes(limit=1)[0]
    assert (newest.origin, newest.reason) == (f"restore:v{version}", "oops")
    assert newest.changes == done.changes


@A_FEW
@given(PATCH_LISTS)
def test_a_revert_of_the_last_change_gives_the_state_before_it(
    ledger: Ledger, patches: list[dict[str, Any]]
) -> None:
    """And says so in its origin."""
    site = site_with(ledger, patches)
    last = len(patches) + 1
    undone = site.history.revert(last, reason="oops")
    assert undone.conflicts == {}
    assert site.settings() == site.history.at_version(last - 1).settings
    assert site.history.changes(limit=1)[0].origin == f"revert:v{last}"


def test_a_revert_undoes_only_what_its_change_did(ledger: Ledger) -> None:
    """Later changes of other fields stay; later changes of the same are conflicts, and stay."""
    site = site_with(
        ledger,
        [
            {"createInvoice": True, "emailNotifications": {"orderPlaced": False}},
            {"inventoryUpdateTrigger": "ON_ORDER_PAID"},
            {"createInvoice": False},
        ],
    )
    undone = site.history.revert(2, reason="mistake")
    assert undone.changes == {"emailNotifications.orderPlaced": {"from": False, "to": True}}
    assert undone.conflicts == {"createInvoice": {"expected": True, "found": False, "version": 4}}
    assert undone.json()["conflicts"] == undone.conflicts
    assert site.settings()["inventoryUpdateTrigger"] == "ON_ORDER_PAID"
    again = site.history.revert(2)
    assert (again.version, again.changes, again.hopeless) == (None, {}, True)
    assert site.record().version == 5


def test_undoing_acts_as_whoever_is_named(ledger: Ledger) -> None:
    """The actor, the way and the request are the caller's; reason and origin are the undoing's."""
    site = site_with(ledger, [{"createInvoice": True}])
    user, member = Identity.wix_user(uuid4()), Identity.member("m")
    via = Via("http", "key_1")
    site.history.restore(
        1, reason="asked to", provenance=Provenance(user, via, member, request_id="r1")
    )
    site.history.revert(3, by=user)
    reverted, restored = site.history.changes(limit=2)
    assert (restored.actor, restored.on_behalf_of, restored.via) == (user, member, via)
    assert (restored.request_id, restored.origin) == ("r1", "restore:v1")
    assert (reverted.actor, reverted.via) == (user, Via("library", asserted=True))


def test_undoing_never_overwrites_unseen(ledger: Ledger) -> None:
    """Under writers it is worked out anew on what they left; with a version it is refused."""
    site = site_with(ledger, [{"createInvoice": True}])
    with pytest.raises(VersionMismatch):
        site.history.restore(1, if_version=1)
    with pytest.raises(VersionMismatch):
        site.history.revert(2, if_version=3)
    assert site.record().version == 2
    with writing([site], 3, 10) as wait:
        undone = site.history.restore(1)
        wait()
    version = undone.version
    assert version is not None
    assert site.history.at_version(version).settings == site.history.at_version(1).settings
    before = site.history.at_version(version - 1).settings
    assert apply_changes(before, undone.changes) == site.history.at_version(1).settings


def test_a_whole_object_is_restored_whole(ledger: Ledger) -> None:
    """A field that is replaced as a whole gets back all that it held, not only what differs."""
    site_id = ledger.create_site().site_id
    site = ledger.site(site_id, CHECKOUT_SETTINGS)
    site.update({"checkoutPolicies": {"contactUs": {"visible": True, "content": "Call us"}}})
    site.update({"checkoutPolicies": {"contactUs": {"content": None}}})
    target = site.history.at_version(2).settings
    site.history.restore(2)
    assert site.settings() == target
    site.history.restore(1)
    assert site.settings() == site.history.at_version(1).settings


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"order": "sideways"}, "order"),
        ({"field": "colour"}, "field"),
        ({"by": "nobody"}, "by"),
        ({"from_version": 3, "to_version": 2}, "from_version"),
        ({"to_version": 0}, "to_version"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"until": "2999-01-01T00:00:00Z"}, "until"),
        ({"since": "1 hour ago", "until": "2 hours ago"}, "since"),
        ({"cursor": "nonsense!"}, "cursor"),
        ({"cursor": "W10"}, "cursor"),
    ],
)
def test_a_wrong_option_is_named(ledger: Ledger, options: dict[str, Any], name: str) -> None:
    """Every option that makes no sense is refused by its name."""
    with pytest.raises(InvalidInput) as refused:
        ledger.create_site().history.changes(**options)
    assert refused.value.name == name


def test_a_cursor_of_another_question_is_refused(ledger: Ledger) -> None:
    """It leads on only from the page that gave it."""
    site = site_with(ledger, PATCHES)
    cursor = site.history.changes(limit=2).next
    with pytest.raises(InvalidInput, match="cursor: belongs to another question"):
        site.history.changes(limit=2, field="createInvoice", cursor=cursor)
    with pytest.raises(InvalidInput, match="cursor"):
        site_with(ledger, PATCHES).history.changes(limit=2, cursor=cursor)


def test_what_there_never_was_cannot_be_shown(ledger: Ledger, ripe: None) -> None:
    """A version too high, a time before the creation, settings of another kind."""
    site = ledger.create_site()
    with pytest.raises(NotFound, match="There is no version 9"):
        site.history.at_version(9)
    with pytest.raises(InvalidInput, match="at: is before the site was created, at 20"):
        site.history.at(datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidInput, match="at: .* lies in the future"):
        site.history.at(datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(InvalidInput, match="version: 1 is the creation"):
        site.history.revert(1)
    unrecorded = ledger.site(site.site_id, CHECKOUT_SETTINGS).history
    with pytest.raises(InvalidInput, match="of: has settings of another kind"):
        site.history.diff(1, of=unrecorded)
    with pytest.raises(InvalidInput, match="right: 'x' is no site's id"):
        ledger.diff(str(site.site_id), "x@v1")
    with pytest.raises(NotFound, match="There is no site"):
        ledger.diff(str(site.site_id), str(uuid4()))


def test_whoever_is_erased_is_erased_from_the_history(ledger: Ledger, place: TestDatabase) -> None:
    """Deleting beside the log is enough: changes, blame and search show no name any more."""
    import psycopg

    site = ledger.create_site()
    user = Identity.wix_user(uuid4())
    site.update({"createInvoice": True}, by=user, reason="private matter")
    assert site.history.changes(by=user)[0].actor == user
    with psycopg.connect(place.owner_url) as owner:
        owner.execute("DELETE FROM actors WHERE subject_id = %s", (user.id,))
        owner.execute("DELETE FROM reasons WHERE site_id = %s", (site.site_id,))
    [change] = ledger.audit.search(sites=[site.site_id], limit=1)
    assert (change.actor, change.reason) == (Identity.wix_user("erased"), "erased")
    assert site.history.blame()["createInvoice"].reason == "erased"
    with pytest.raises(InvalidInput, match="by: nobody"):
        site.history.changes(by=user)


def test_an_idle_thread_is_not_needed(ledger: Ledger) -> None:
    """A library that is only read from starts no thread of its own."""
    site = ledger.create_site()
    before = threading.active_count()
    site.history.changes()
    assert threading.active_count() == before
