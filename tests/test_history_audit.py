"""The audit of all sites: searching, replaying and handing out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pyarrow.parquet
import pytest
from histories import PATCHES, all_pages, head, rows, writing

from ledger import Identity, Ledger
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.errors import InvalidInput, NotFound
from ledger.handle import SiteHandle
from ledger.history import Change, horizon, page_json
from ledger.identity import Provenance, Via
from ledger.migrate import migrate
from ledger.orders_settings import ORDERS_SETTINGS

if TYPE_CHECKING:
    from conftest import TestDatabase, TestServer


@pytest.fixture(scope="module", params=[1, 3], ids=["one partition", "three partitions"])
def place(
    request: pytest.FixtureRequest, postgres: TestServer, template: TestDatabase
) -> Iterator[TestDatabase]:
    """Everything holds on one partition and on several."""
    with postgres.lent("ledger_audit", template.name) as database:
        migrate(database.owner_url, partitions=request.param)
        yield database


@pytest.fixture(scope="module")
def ledger(place: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    directory = tmp_path_factory.mktemp("audit")
    with Ledger.open(database_url=place.server_url, data_dir=directory) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def people() -> dict[str, Identity]:
    """Who changes what in ``sites``; nobody else is called so."""
    return {name: Identity.wix_user(f"{name}-{uuid4()}") for name in ("ann", "bob")}


@pytest.fixture(scope="module")
def sites(ledger: Ledger, people: dict[str, Identity]) -> list[SiteHandle]:
    """Four sites, on all partitions, with changes by two people, one of them for another."""
    # Partitions are chosen by the id: consecutive ones lie on all of them.
    first = uuid4().int & ~7
    made = [ledger.create_site(UUID(int=first + number)) for number in range(4)]
    for number, patch in enumerate(PATCHES * 3):
        site = made[number % 4]
        if number % 5 == 4:
            via = Via("http", "key_9")
            app = Identity.app("app-1")
            provenance = Provenance(app, via, on_behalf_of=people["bob"], reason="For BOB, 100%")
            ledger.update(site.site_id, ORDERS_SETTINGS, patch, provenance)
        else:
            site.update(patch, by=people["ann"], reason=f"number {number}")
    made[0].history.restore(2)
    made[1].history.revert(3)
    ledger.site(made[2].site_id, CHECKOUT_SETTINGS).update({}, by=people["bob"])
    return made


@pytest.fixture
def ripe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a time be final as soon as it has passed: one writer writes, and none is at work."""
    monkeypatch.setattr(horizon, "RIPE_SECONDS", 0.001)


@pytest.fixture(scope="module")
def everything(ledger: Ledger, sites: list[SiteHandle]) -> list[Change]:
    """All changes of the sites, newest first, by another way than search."""
    found = list(ledger.replay(sites=[site.site_id for site in sites]))
    return sorted(found, key=lambda one: (one.timestamp, one.partition, one.position), reverse=True)


QUESTIONS: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda one: True),
    ({"by": "ann"}, lambda one: one.actor and one.actor.id.startswith("ann")),
    (
        {"by": "bob"},
        lambda one: any(who and who.id.startswith("bob") for who in (one.actor, one.on_behalf_of)),
    ),
    ({"field": "createInvoice"}, lambda one: "createInvoice" in one.changes),
    (
        {"field": "emailNotifications"},
        lambda one: any(path.startswith("emailNotifications.") for path in one.changes),
    ),
    (
        {"field": "createInvoice", "value": True},
        lambda one: one.changes.get("createInvoice", {}).get("to") is True,
    ),
    (
        {"field": "emailNotifications", "value": False},
        lambda one: any(
            path.startswith("emailN") and ends.get("to") is False
            for path, ends in one.changes.items()
        ),
    ),
    (
        {"value": "ON_ORDER_PAID"},
        lambda one: any(ends.get("to") == "ON_ORDER_PAID" for ends in one.changes.values()),
    ),
    ({"value": False}, lambda one: any(ends.get("to") is False for ends in one.changes.values())),
    ({"value": "FALSE"}, lambda one: False),
    ({"value": None}, lambda one: any(ends.get("to", 0) is None for ends in one.changes.values())),
    (
        {"value": True, "kinds": [CHECKOUT_SETTINGS]},
        lambda one: (
            one.kind == CHECKOUT_SETTINGS.fqdn
            and any(ends.get("to") is True for ends in one.changes.values())
        ),
    ),
    (
        {"by": "ann", "value": True},
        lambda one: (
            (one.actor and one.actor.id[:3] == "ann")
            and any(ends.get("to") is True for ends in one.changes.values())
        ),
    ),
    ({"by": "bob", "origin": "restore"}, lambda one: False),
    ({"origin": "restore"}, lambda one: (one.origin or "").startswith("restore:")),
    ({"origin": "revert:v3"}, lambda one: one.origin == "revert:v3"),
    ({"origin": "rest"}, lambda one: False),
    ({"text": "for bob, 100%"}, lambda one: one.reason == "For BOB, 100%"),
    ({"text": "NUMBER 1"}, lambda one: (one.reason or "").startswith("number 1")),
    ({"kinds": [CHECKOUT_SETTINGS]}, lambda one: one.kind == CHECKOUT_SETTINGS.fqdn),
    ({"kinds": [ORDERS_SETTINGS.fqdn]}, lambda one: one.kind == ORDERS_SETTINGS.fqdn),
    (
        {"by": "ann", "field": "createInvoice", "text": "number"},
        lambda one: one.actor and one.actor.id[:3] == "ann" and "createInvoice" in one.changes,
    ),
]


@pytest.mark.parametrize(
    ("options", "matches"), QUESTIONS, ids=[" ".join(map(str, q)) or "all" for q, _ in QUESTIONS]
)
@pytest.mark.parametrize("limit", [2, 50])
@pytest.mark.parametrize("one_site", [False, True])
def test_a_search_finds_what_matches_newest_first(
    ledger: Ledger,
    sites: list[SiteHandle],
    people: dict[str, Identity],
    everything: list[Change],
    options: dict[str, Any],
    matches: Any,
    limit: int,
    one_site: bool,
) -> None:
    """Whatever is combined, on whatever pages: the same as looking at every change."""
    asked = [site.site_id for site in (sites[:1] if one_site else sites)]
    options = dict(options)
    if "by" in options:
        options["by"] = people[options["by"]].id
    found = all_pages(
        lambda cursor: ledger.audit.search(sites=asked, limit=limit, cursor=cursor, **options)
    )
    assert found == [one for one in everything if one.site_id in asked and matches(one)]
    if "by" in options:
        # Nobody else is called so: the search over all sites finds the same.
        over_all = all_pages(
            lambda cursor: ledger.audit.search(limit=limit, cursor=cursor, **options)
        )
        assert [one for one in over_all if one.site_id in asked] == found


def test_a_search_lies_within_its_times(
    ledger: Ledger, sites: list[SiteHandle], everything: list[Change], ripe: None
) -> None:
    """Both ends belong to it."""
    newest, oldest = everything[3], everything[9]
    bounds = [one.timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for one in (oldest, newest)]
    for options in ({}, {"field": "createInvoice"}, {"field": "createInvoice", "value": True}):
        found = ledger.audit.search(
            since=bounds[0],
            until=bounds[1],
            sites=[site.site_id for site in sites],
            **options,
        )
        within = everything[3:10]
        if options:
            within = [one for one in within if "createInvoice" in one.changes]
        if "value" in options:
            within = [one for one in within if one.changes["createInvoice"].get("to") is True]
        assert list(found) == within


def test_a_page_is_json_with_its_cursor(ledger: Ledger, sites: list[SiteHandle]) -> None:
    """Every change names its site and kind; the last page's cursor is null."""
    page = ledger.audit.search(sites=[sites[0].site_id], limit=1)
    told = page_json(page)
    assert told["next"] == page.next
    [change] = told["changes"]
    assert change["site_id"] == str(sites[0].site_id)
    assert change["kind"] == ORDERS_SETTINGS.fqdn
    assert change["actor"] == {"type": "WIX_USER", "id": ledger.operator.id}
    assert json.loads(json.dumps(told)) == told


def test_pages_under_writers_hold_every_change_once(ledger: Ledger) -> None:
    """A search shows the ledger as it was at its first page, whatever eight writers do."""
    busy = [ledger.create_site() for _ in range(3)]
    for options in ({}, {"field": "createInvoice"}, {"by": ledger.operator}):
        with writing(busy, 8, 6) as wait:
            before = {place_of(one) for one in ledger.replay(sites=[site.site_id for site in busy])}
            seen = all_pages(
                lambda cursor, options=options: ledger.audit.search(
                    limit=7, cursor=cursor, **options
                )
            )
            wait()
        found = [place_of(one) for one in seen]
        assert len(set(found)) == len(found)
        if not options:
            assert set(found) >= before
        keys = [(one.timestamp, one.partition, one.position) for one in seen]
        assert keys == sorted(keys, reverse=True)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"by": "nobody"}, "by"),
        ({"field": "colour"}, "field"),
        ({"since": "2026-01-01"}, "since"),
        ({"until": "2999-01-01T00:00:00Z"}, "until"),
        ({"since": "1 hour ago", "until": "1 day ago"}, "since"),
        ({"origin": " "}, "origin"),
        ({"text": ""}, "text"),
        ({"sites": ["x"]}, "sites"),
        ({"limit": 0}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
    ],
)
def test_a_wrong_option_is_named(ledger: Ledger, options: dict[str, Any], name: str) -> None:
    """Every option that makes no sense is refused by its name."""
    with pytest.raises(InvalidInput) as refused:
        ledger.audit.search(**options)
    assert refused.value.name == name


def test_an_unknown_site_or_kind_is_not_found(ledger: Ledger) -> None:
    """In a search, a replay and an export."""
    for ask in (ledger.audit.search, ledger.replay):
        with pytest.raises(NotFound, match="There is no site"):
            ask(sites=[uuid4()])
        with pytest.raises(NotFound, match="There is no settings kind wix.x"):
            ask(kinds=["wix.x"])


# --- replay ------------------------------------------------------------------------------------------


def partitions(ledger: Ledger) -> list[int]:
    return ledger.directory.partitions()


def test_a_replay_gives_every_event_in_the_order_of_the_log(
    ledger: Ledger, sites: list[SiteHandle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One partition after the other, each position once, whatever the pages; and no more."""
    monkeypatch.setattr("ledger.history.replay.PAGE", 7)
    replay = ledger.replay()
    ends = {partition: head(ledger, partition) for partition in partitions(ledger)}
    sites[0].update({})
    seen = [(one.partition, one.position) for one in replay]
    assert seen == [(p, position) for p, last in ends.items() for position in range(1, last + 1)]


def test_a_replay_goes_on_from_a_position(ledger: Ledger, sites: list[SiteHandle]) -> None:
    """Inclusive; one for every partition, or one each."""
    whole = [(one.partition, one.position) for one in ledger.replay()]
    assert [(one.partition, one.position) for one in ledger.replay(3)] == [
        place for place in whole if place[1] >= 3
    ]
    last = partitions(ledger)[-1]
    assert [(one.partition, one.position) for one in ledger.replay({last: 2})] == [
        place for place in whole if place[0] != last or place[1] >= 2
    ]
    for wrong in (-1, {77: 1}):
        with pytest.raises(InvalidInput, match="from_position"):
            ledger.replay(wrong)


def test_a_replay_of_some_is_the_same_part_of_the_whole(
    ledger: Ledger, sites: list[SiteHandle], ripe: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of sites (few by their own index, many from the whole log), kinds and times."""
    whole = list(ledger.replay())
    wanted = {site.site_id for site in sites[:2]}
    part = [one for one in whole if one.site_id in wanted]
    assert list(ledger.replay(sites=wanted)) == part
    monkeypatch.setattr("ledger.history.replay.FEW_ORIGINATORS", 0)
    assert list(ledger.replay(sites=wanted)) == part
    assert [one.kind for one in ledger.replay(kinds=[CHECKOUT_SETTINGS])] == [
        CHECKOUT_SETTINGS.fqdn
    ] * 2
    stamps = sorted(one.timestamp for one in whole)
    first, last = stamps[4], stamps[-4]
    since, until = (stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for stamp in (first, last))
    assert list(ledger.replay(since=since, until=until)) == [
        one for one in whole if first <= one.timestamp <= last
    ]


def place_of(change: Change) -> tuple[int, int]:
    return change.partition, change.position


# --- export ------------------------------------------------------------------------------------------


def exported(ledger: Ledger, format_name: str, **options: Any) -> tuple[bytes, Any]:
    out = io.BytesIO()
    done = ledger.audit.export(out, format_name, **options)
    return out.getvalue(), done


def test_ndjson_holds_everything_a_line_each(ledger: Ledger, sites: list[SiteHandle]) -> None:
    """Each line is a whole change; what was written and where to go on is said."""
    said: list[tuple[int, int]] = []
    text, done = exported(ledger, "ndjson", progress=lambda *so_far: said.append(so_far))
    lines = [json.loads(line) for line in text.splitlines()]
    changes = list(ledger.replay())
    assert done.events == len(lines) == len(changes)
    assert [(line["partition"], line["position"]) for line in lines] == list(map(place_of, changes))
    assert lines[-1]["settings"] == changes[-1].settings
    assert done.next_position == {p: head(ledger, p) + 1 for p in partitions(ledger)}
    assert said[-1] == (len(changes), len(changes))
    assert said == sorted(said)


def test_an_export_goes_on_where_another_ended(ledger: Ledger, sites: list[SiteHandle]) -> None:
    """The two together are the one that is made at the end."""
    first, done = exported(ledger, "ndjson")
    for site in sites:
        site.update({"createInvoice": True})
    second, again = exported(ledger, "ndjson", from_position=done.next_position)
    assert again.events == len(sites)
    whole, _ = exported(ledger, "ndjson")
    assert sorted(whole.splitlines()) == sorted((first + second).splitlines())


def test_csv_and_parquet_hold_the_same(ledger: Ledger, sites: list[SiteHandle]) -> None:
    """The same columns in the same order; Parquet with types."""
    text, done = exported(ledger, "csv", sites=[sites[0].site_id])
    table = list(csv.DictReader(io.StringIO(text.decode(), newline="")))
    binary, _ = exported(ledger, "parquet", sites=[sites[0].site_id])
    typed = pyarrow.parquet.read_table(io.BytesIO(binary)).to_pylist()
    assert len(table) == len(typed) == done.events
    assert list(table[0]) == list(typed[0])
    for row, cells in zip(table, typed, strict=True):
        for name in ("site_id", "kind", "event_id", "changes", "settings"):
            assert row[name] == cells[name]
        assert int(row["position"]) == cells["position"]
        assert json.loads(cells["settings"])
    changes = list(ledger.replay(sites=[sites[0].site_id]))
    assert [cells["timestamp"] for cells in typed] == [one.timestamp for one in changes]


def test_parquet_is_written_in_row_groups(
    ledger: Ledger, sites: list[SiteHandle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an export of any size is held in memory a group at a time."""
    monkeypatch.setattr("ledger.history.export.ParquetSink.GROUP", 5)
    monkeypatch.setattr("ledger.history.replay.PAGE", 5)
    binary, done = exported(ledger, "parquet")
    file = pyarrow.parquet.ParquetFile(io.BytesIO(binary))
    assert file.metadata.num_rows == done.events
    assert file.metadata.num_row_groups > 2


def test_csv_runs_no_formula(ledger: Ledger) -> None:
    """A reason that a spreadsheet would compute is a text there, and exact in NDJSON."""
    site = ledger.create_site()
    site.update({"createInvoice": True}, reason='=HYPERLINK("http://x","y")')
    text, _ = exported(ledger, "csv", sites=[site.site_id])
    *_, row = csv.DictReader(io.StringIO(text.decode(), newline=""))
    assert row["reason"] == '\'=HYPERLINK("http://x","y")'
    lines, _ = exported(ledger, "ndjson", sites=[site.site_id])
    assert json.loads(lines.splitlines()[-1])["reason"] == '=HYPERLINK("http://x","y")'


def test_ocsf_is_entity_management(ledger: Ledger, sites: list[SiteHandle]) -> None:
    """Class 3004 of OCSF 1.3.0: who, when, the entity before and after, and why."""
    site = ledger.create_site()
    user = Identity.wix_user(uuid4())
    site.update({"createInvoice": True}, by=user, reason="New law")
    via = Via("http", "k")
    ledger.update(
        site.site_id, ORDERS_SETTINGS, {}, Provenance(Identity.app("a1"), via, on_behalf_of=user)
    )
    text, _ = exported(ledger, "ocsf", sites=[site.site_id])
    created, changed, by_app = map(json.loads, text.splitlines())
    required = {
        "activity_id",
        "category_uid",
        "class_uid",
        "entity",
        "metadata",
        "severity_id",
        "time",
        "type_uid",
    }
    for told in (created, changed, by_app):
        assert required <= told.keys()
        assert (told["class_uid"], told["category_uid"]) == (3004, 3)
        assert told["type_uid"] == 300_400 + told["activity_id"]
        assert told["metadata"]["version"] == "1.3.0"
        assert told["metadata"]["product"]["vendor_name"]
    change = site.history.changes(2, 2)[0]
    assert changed["time"] == int(change.timestamp.timestamp() * 1000)
    assert changed["metadata"]["uid"] == str(change.event_id)
    assert changed["actor"]["user"]["uid"] == user.id
    assert changed["comment"] == "New law"
    assert created["activity_id"] == 1
    assert "actor" not in created
    assert created["entity"]["data"] == changed["entity"]["data"]
    assert changed["entity"]["data"]["createInvoice"] is False
    assert changed["entity_result"]["data"]["createInvoice"] is True
    assert (changed["entity"]["version"], changed["entity_result"]["version"]) == ("1", "2")
    assert by_app["actor"] == {"app_uid": "a1"}
    assert by_app["unmapped"]["on_behalf_of"] == {"type": "WIX_USER", "id": user.id}


def test_a_format_that_is_not_known_is_refused(ledger: Ledger) -> None:
    """With those that are."""
    with pytest.raises(InvalidInput, match="format: expected one of ndjson, csv, parquet, ocsf"):
        ledger.audit.export(io.BytesIO(), "xml")


def test_rows_are_the_events(ledger: Ledger, sites: list[SiteHandle]) -> None:
    """After all of this every projection still is the fold of the log."""
    ledger.horizon.reach(partitions(ledger))
    assert {checked.fault for checked in ledger.projections.check()} == {None}
    assert rows(ledger, "SELECT count(*) AS all FROM settings_history") == rows(
        ledger, "SELECT count(*) AS all FROM events"
    )
