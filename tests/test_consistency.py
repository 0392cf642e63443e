"""Read-your-writes tokens: what they carry, and that nobody can make one up."""

from __future__ import annotations

import base64

import httpx
import pytest
from credentials import KEYRING, MANAGE_ORDERS, SECRET_KEY
from hypothesis import given
from hypothesis import strategies as st

from ledger.assembly import Ledger
from ledger.consistency import HEADER, LONGEST_TOKEN, MOST_PARTITIONS, ConsistencyTokens
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.secrets import Keyring
from ledger.web import create_app

PATH = ORDERS_SETTINGS.path
TOKENS = ConsistencyTokens(KEYRING)


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**63 - 1))
def test_a_token_carries_its_place(partition, position):
    """What was minted is read."""
    assert TOKENS.read(TOKENS.mint(partition, position)) == {partition: position}


def test_a_token_keeps_what_the_client_has_seen_elsewhere():
    """A client sends its last token only: it holds every partition's furthest position."""
    token = TOKENS.mint(0, 12)
    token = TOKENS.mint(1, 40, token)
    token = TOKENS.mint(0, 11, token)
    assert TOKENS.read(token) == {0: 12, 1: 40}


def test_a_token_does_not_grow_without_end():
    """Sixteen partitions are kept, the last ones written to; it stays a header's size."""
    token = None
    for partition in range(100):
        token = TOKENS.mint(partition, 2**63 - 1, token)
    assert list(TOKENS.read(token)) == list(range(100 - MOST_PARTITIONS, 100))
    assert len(token) <= 400 < LONGEST_TOKEN


def test_a_token_is_opaque():
    """Two for the same place differ, and neither shows the position in its bytes."""
    first, second = (base64.urlsafe_b64decode(TOKENS.mint(7, 0x1122334455)) for _ in range(2))
    assert first[1:] != second[1:]
    assert bytes.fromhex("1122334455") not in first + second


@pytest.mark.parametrize("token", [None, "", "x", "0:12", "é", "A" * 60, "A" * 2000, "\ud800"])
def test_nonsense_is_nothing(token):
    """A token that is none is ignored, never an error."""
    assert TOKENS.read(token) == {}
    assert TOKENS.read(TOKENS.mint(3, 4, token)) == {3: 4}


@given(st.text())
def test_no_text_is_an_error(text):
    """Whatever a client sends, reading goes on."""
    assert TOKENS.read(text) == {}


def test_every_altered_character_makes_it_nothing():
    """The token is sealed: no position can be made up or pushed."""
    token = TOKENS.mint(0, 12)
    for place, character in enumerate(token):
        other = "B" if character == "A" else "A"
        assert TOKENS.read(token[:place] + other + token[place + 1 :]) == {}
        assert TOKENS.read(token[:place]) == {}


def test_another_ledgers_token_is_nothing():
    """A client that talks to two ledgers sends each the other's token."""
    assert ConsistencyTokens(Keyring(SECRET_KEY[::-1])).read(TOKENS.mint(0, 12)) == {}


@pytest.fixture(scope="module")
def ledger(postgres, template):
    with postgres.lent("ledger_consistency", template.name) as database:
        options = {"database_url": database.server_url, "secret_key": SECRET_KEY, "rate_limit": 0}
        with Ledger.open(**options) as ledger:
            yield ledger


async def test_writes_mint_what_names_them_and_reads_take_it(ledger):
    """As the SDK does it: the header of one reply goes with all later requests."""
    site = ledger.create_site()
    key = ledger.directory.create_key(site.site_id, [MANAGE_ORDERS])
    transport = httpx.ASGITransport(create_app(ledger))
    headers = {"Authorization": key.api_key}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://ledger", headers=headers
    ) as http:
        assert HEADER not in (await http.get(PATH)).headers
        for expected in (True, False):
            reply = await http.patch(PATH, json={"ordersSettings": {"createInvoice": expected}})
            http.headers[HEADER] = reply.headers[HEADER]
            record = site.record()
            assert TOKENS.read(reply.headers[HEADER]) == {record.partition: record.position}
            got = await http.get(PATH)
            assert got.json()["ordersSettings"]["createInvoice"] is expected
        for foreign in ("nonsense", "é".encode(), "x" * 5000):
            assert (await http.get(PATH, headers={HEADER: foreign})).status_code == 200
            reply = await http.patch(PATH, headers={HEADER: foreign}, json={"ordersSettings": {}})
            assert reply.status_code == 200
            assert len(TOKENS.read(reply.headers[HEADER])) == 1
