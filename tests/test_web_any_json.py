"""Whatever JSON a PATCH carries, the answer is 200, or a 400 that says what in it was wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger.assembly import Ledger
from ledger.canonical import printable
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.kinds import KINDS
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.web import create_app

SECRET_KEY = "correct-horse-battery-staple-0123456789"
MANAGE = "SCOPE.DC-STORES.MANAGE-ORDERS"
BUILT_IN = [ORDERS_SETTINGS, CHECKOUT_SETTINGS]

texts = st.text(st.characters(), max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["ON_ORDER_PAID", "PILL", "#fff"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
"""JSON of every sort."""


def trees(value: Any) -> st.SearchStrategy[Any]:
    """JSON in the shape of a kind's own settings, with anything anywhere."""
    if not isinstance(value, dict):
        return st.just(value) | anything
    fields = st.fixed_dictionaries({}, optional={name: trees(value[name]) for name in value})
    return st.builds(lambda known, odd: known | odd, fields, st.just({}) | odd) | anything


odd = st.dictionaries(texts | st.just("createdDate"), anything, max_size=1)


def full(kind: Any) -> dict[str, Any]:
    """A tree with every field of the kind, whether it has a value at first or not."""
    tree: dict[str, Any] = {}
    for path in kind.field_paths():
        *branches, leaf = path.split(".")
        place = tree
        for name in branches:
            place = place.setdefault(name, {})
        place[leaf] = None
    return tree


def bodies(kind: Any) -> st.SearchStrategy[Any]:
    """Bodies for a kind, from nearly right to anything at all."""
    wrapped = st.fixed_dictionaries({kind.wrapper: trees(full(kind))})
    return wrapped | st.builds(lambda body, extra: body | extra, wrapped, odd) | anything


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The path of everything in a body, as violations write it."""
    if isinstance(value, dict):
        for name, item in value.items():
            place = f"{path}.{printable(name)}" if path else printable(name)
            yield place
            yield from paths(item, place)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield f"{path}[{index}]"
            yield from paths(item, f"{path}[{index}]")


class Http:
    """Makes one request after the other, on an event loop of its own."""

    def __init__(self, app: Any, api_key: str, runner: asyncio.Runner) -> None:
        self._run = runner.run
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://ledger",
            headers={"Authorization": api_key, "Content-Type": "application/json"},
        )

    def get(self, path: str) -> httpx.Response:
        return self._run(self._client.get(path))

    def patch(self, path: str, body: object) -> httpx.Response:
        return self._run(self._client.patch(path, content=json.dumps(body)))


@pytest.fixture(scope="module")
def http(postgres, template):
    """A client that may change a site."""
    with postgres.lent("ledger_json", template.name) as database, asyncio.Runner() as runner:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**options) as ledger:
            key = ledger.directory.create_key(ledger.create_site().site_id, [MANAGE])
            yield Http(create_app(ledger), key.api_key, runner)


def test_these_are_the_built_in_kinds():
    """The kinds tried here are all that the program brings."""
    assert [kind for kind in KINDS.values() if kind.fqdn.startswith("wix.")] == BUILT_IN


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.wrapper)
@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_json_is_accepted_or_told_what_is_wrong(http, kind, data):
    """A refused body's violations each name a path that is in it, or the missing wrapper."""
    body = data.draw(bodies(kind))
    reply = http.patch(kind.path, body)
    answer = reply.json()
    if reply.status_code == 200:
        assert isinstance(body[kind.wrapper], dict)
        assert set(answer) == {kind.wrapper}
        return
    assert reply.status_code == 400
    if not isinstance(body, dict):
        assert answer["details"]["applicationError"]["code"] == "INVALID_ARGUMENT"
        return
    violations = answer["details"]["validationError"]["fieldViolations"]
    named = [violation["field"] for violation in violations]
    assert named
    assert len(set(named)) == len(named)
    assert set(named) <= {*paths(body), kind.wrapper}


@given(body=anything)
@example(body={"ordersSettings": {"createInvoice": True}})
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_refused_body_changes_nothing(http, body):
    """Only an accepted PATCH moves the version, and by one."""
    before = int(http.get(ORDERS_SETTINGS.path).headers["ETag"].strip('"'))
    reply = http.patch(ORDERS_SETTINGS.path, body)
    after = int(http.get(ORDERS_SETTINGS.path).headers["ETag"].strip('"'))
    assert after - before == (1 if reply.status_code == 200 else 0)
