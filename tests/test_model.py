"""The ledger against a plain dictionary, over whatever order of events hypothesis thinks of."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faults.evidence import DEFAULTS, examine
from faults.opening import opened, submit, update
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.errors import VersionMismatch
from ledger.idempotency import Idempotency


def optional(**fields: st.SearchStrategy) -> st.SearchStrategy:
    return st.fixed_dictionaries({}, optional=fields)


switch = st.none() | st.booleans()
emails = optional(orderPlaced=switch, orderShipped=switch, pickupReady=switch)
patches = optional(
    createInvoice=switch,
    inventoryUpdateTrigger=st.sampled_from([None, "ON_ORDER_PAID", "ON_ORDER_PLACED"]),
    emailNotifications=st.none() | emails,
)


def laid_over(
    before: dict[str, Any], patch: dict[str, Any], defaults: dict[str, Any] = DEFAULTS
) -> dict[str, Any]:
    """What a patch makes of settings, as the contract says it: merge objects, null resets."""
    after = copy.deepcopy(before)
    for name, value in patch.items():
        if value is None:
            after[name] = copy.deepcopy(defaults[name])
        elif isinstance(value, dict):
            after[name] = laid_over(after[name], value, defaults[name])
        else:
            after[name] = value
    return after


class LedgerMachine(RuleBasedStateMachine):
    """Sites with all their versions in a dictionary, beside the same in a ledger."""

    url: str

    sites = Bundle("sites")

    @initialize()
    def open(self) -> None:
        self.ledger = opened(self.url)
        self.model: dict[Any, list[dict[str, Any]]] = {}
        self.requests: dict[Any, list[tuple[str, dict[str, Any], int]]] = {}

    @rule(target=sites)
    def create(self):
        site = self.ledger.create_site().site_id
        self.model[site] = [copy.deepcopy(DEFAULTS)]
        self.requests[site] = []
        return site

    @rule(site=sites, patch=patches)
    def patch(self, site, patch) -> None:
        record = update(self.ledger, site, patch)
        self.model[site].append(laid_over(self.model[site][-1], patch))
        assert (record.version, record.settings) == (len(self.model[site]), self.model[site][-1])

    @rule(site=sites, batch=st.lists(patches, min_size=2, max_size=5))
    def patch_in_a_row(self, site, batch) -> None:
        """Changes handed in one after the other, without waiting, are made in that order."""
        records = [
            change.result() for change in [submit(self.ledger, site, patch) for patch in batch]
        ]
        for record, patch in zip(records, batch, strict=True):
            self.model[site].append(laid_over(self.model[site][-1], patch))
            assert (record.version, record.settings) == (
                len(self.model[site]),
                self.model[site][-1],
            )

    @rule(picked=st.lists(st.tuples(sites, patches), min_size=2, max_size=8))
    def patch_at_once(self, picked) -> None:
        """Changes made at once by several callers are made in the order that their answers name."""
        with ThreadPoolExecutor(len(picked)) as pool:
            records = list(pool.map(lambda job: update(self.ledger, *job), picked))
        done = zip(records, picked, strict=True)
        for record, (site, patch) in sorted(done, key=lambda pair: pair[0].position):
            self.model[site].append(laid_over(self.model[site][-1], patch))
            assert (record.version, record.settings) == (
                len(self.model[site]),
                self.model[site][-1],
            )

    @rule(site=sites, patch=patches, expected=st.integers(1, 4))
    def patch_if_at(self, site, patch, expected) -> None:
        if expected == len(self.model[site]):
            update(self.ledger, site, patch, if_match=(expected,))
            self.model[site].append(laid_over(self.model[site][-1], patch))
        else:
            with pytest.raises(VersionMismatch):
                update(self.ledger, site, patch, if_match=(expected,))

    @rule(site=sites, patch=patches)
    def patch_with_key(self, site, patch) -> None:
        key = f"{site}/{len(self.requests[site])}"
        record = update(self.ledger, site, patch, idempotency=Idempotency("model", key, b"request"))
        self.model[site].append(laid_over(self.model[site][-1], patch))
        self.requests[site].append((key, patch, record.version))

    @precondition(lambda self: any(self.requests.values()))
    @rule(data=st.data())
    def repeat_with_key(self, data) -> None:
        site = data.draw(st.sampled_from([site for site, made in self.requests.items() if made]))
        key, patch, version = data.draw(st.sampled_from(self.requests[site]))
        idempotency = Idempotency("model", key, b"request")
        record = update(self.ledger, site, patch, idempotency=idempotency)
        assert record.version == version
        assert record.settings == self.model[site][version - 1]

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = opened(self.url)

    @rule(site=sites)
    def get(self, site) -> None:
        record = self.ledger.get(site)
        assert (record.version, record.settings) == (len(self.model[site]), self.model[site][-1])

    @rule(site=sites)
    def read_history(self, site) -> None:
        changes = self.ledger.site(site).history.changes()
        assert [change.version for change in changes] == list(range(len(self.model[site]), 0, -1))
        assert [change.settings for change in changes] == self.model[site][::-1]

    @invariant()
    def current_is_the_model(self) -> None:
        for site, versions in self.model.items():
            assert self.ledger.get(site).settings == versions[-1]

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.database.connection() as connection:
            counted = connection.execute("SELECT count(*) AS events FROM events").fetchone()
        self.ledger.close()
        # Other examples share the database; the whole log must be sound, whoever wrote it.
        assert len(examine(self.url).events) == counted["events"]


@pytest.mark.slow
def test_the_ledger_is_a_dictionary_that_remembers(fresh_database):
    """Whatever is created, changed, repeated and restarted, settings and history are the model's."""

    class Machine(LedgerMachine):
        url = fresh_database().server_url

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
