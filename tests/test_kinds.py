"""Kinds of one's own: declared in a file, named in LEDGER_KINDS, refused with a clear sentence."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from ledger import kinds
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.config import load_config
from ledger.errors import ConfigError
from ledger.kinds import KINDS, load_kinds
from ledger.orders_settings import ORDERS_SETTINGS

LOYALTY = '''
from typing import Literal

from ledger import SettingsKind, SettingsModel


class Tiers(SettingsModel):
    silver: int = 100
    gold: int | None = None


class LoyaltySettings(SettingsModel):
    """How points are earned."""

    enabled: bool = False
    rounding: Literal["UP", "DOWN"] = "DOWN"
    tiers: Tiers = Tiers()
    excluded_products: list[str] = []


KIND = SettingsKind(
    fqdn="example.shop.v1.loyalty_settings",
    wrapper="loyaltySettings",
    path="/shop/v1/loyalty-settings",
    model=LoyaltySettings,
    manage_scopes=frozenset({"SCOPE.EXAMPLE.MANAGE-LOYALTY"}),
    read_scopes=frozenset({"SCOPE.EXAMPLE.READ-LOYALTY"}),
    read_permission="LOYALTY.READ",
    update_permission="LOYALTY.UPDATE",
)
'''


@pytest.fixture(autouse=True)
def _own_kinds(monkeypatch):
    """Forget at the end of a test what it declared."""
    monkeypatch.setattr(kinds, "_loaded", {})
    before, modules = dict(KINDS), set(sys.modules)
    yield
    KINDS.clear()
    KINDS.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith("ledger_kinds_"):
            del sys.modules[name]


@pytest.fixture
def source(tmp_path):
    """Write a file of declarations, and return its path."""

    def write(text: str = LOYALTY, name: str = "loyalty.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def refused(*sources: str) -> str:
    """The sentence that refuses the sources; nothing of them was declared."""
    before = dict(KINDS)
    with pytest.raises(ConfigError) as caught:
        load_kinds(sources)
    assert before == KINDS
    said = str(caught.value)
    assert said.startswith("LEDGER_KINDS: ")
    assert "\n" not in said
    return said


def test_the_program_brings_orders_and_checkout_settings():
    """Both of Wix's kinds are there, orders settings first: commands mean it by default."""
    assert list(KINDS.values())[:2] == [ORDERS_SETTINGS, CHECKOUT_SETTINGS]


def test_a_kind_in_a_file_is_declared_once(source):
    """A file named twice, or loaded again, declares its kind once."""
    path = source()
    load_kinds([path, path])
    load_kinds([path])
    kind = KINDS["example.shop.v1.loyalty_settings"]
    assert kind.event_type == "example.shop.v1.loyalty_settings_updated"
    assert kind.defaults() == {
        "enabled": False,
        "rounding": "DOWN",
        "tiers": {"silver": 100},
        "excludedProducts": [],
    }
    assert kind.field_paths() == [
        "enabled",
        "rounding",
        "tiers.silver",
        "tiers.gold",
        "excludedProducts",
    ]
    assert "SCOPE.EXAMPLE.READ-LOYALTY" in kinds.known_scopes()


def test_a_kind_in_a_module_is_declared(source, monkeypatch, tmp_path):
    """A dotted name is imported as any module is, and may hold several kinds."""
    (tmp_path / "shop_of_test").mkdir()
    source("", "shop_of_test/__init__.py")
    second = LOYALTY.replace("loyalty", "bonus").replace("KIND =", "OTHER =")
    source(LOYALTY + second, "shop_of_test/kinds.py")
    monkeypatch.syspath_prepend(tmp_path)
    load_kinds(["shop_of_test.kinds"])
    assert {"example.shop.v1.loyalty_settings", "example.shop.v1.bonus_settings"} <= KINDS.keys()


def test_a_kind_may_build_on_one_that_is_there(source):
    """What a file imports is not declared again."""
    load_kinds([source("from ledger.orders_settings import ORDERS_SETTINGS\n" + LOYALTY)])
    assert KINDS["wix.ecom.v1.orders_settings"] is ORDERS_SETTINGS


def test_the_environment_names_them(source, monkeypatch):
    """LEDGER_KINDS is a list of files and modules, comma separated."""
    path = source()
    monkeypatch.setenv("LEDGER_KINDS", f" {path}, ")
    assert load_config().kinds == (path,)


def test_a_missing_file_is_told(tmp_path):
    """The sentence names the file that is not there, whole."""
    path = tmp_path / "nowhere.py"
    assert refused(str(path)) == f"LEDGER_KINDS: {path}: there is no file {path}."


def test_a_missing_module_is_told():
    """A name without .py is a module's, and the sentence says so."""
    assert "there is no such module; a file's name ends in .py" in refused("no_such_module_here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it declares no kind; it should hold KIND = SettingsKind(…)"),
        ("KIND = 1", "it declares no kind"),
        ("from ledger.orders_settings import ORDERS_SETTINGS", "it declares no kind"),
        ("x = (", "line 1: '(' was never closed"),
        ("\nraise ValueError('no\\nway')", "line 2: ValueError: no way"),
        (
            "import nothing_like_it",
            "line 1: ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
        ("from ledger import SettingsKind\nSettingsKind()", "line 2: .*missing 8 required"),
    ],
)
def test_a_file_that_declares_nothing_usable_is_told(source, text, said):
    """What is wrong with a file is one sentence that names the file and the line."""
    path = source(text)
    assert re.search(
        re.escape(path) + ": .*" + (said if ".*" in said else re.escape(said)), refused(path)
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("fqdn=", 'event_slug="Up Dated", fqdn=', "event_slug='Up Dated' is not of the form"),
        ('"example.shop.v1.loyalty_settings"', '"Loyalty"', "fqdn='Loyalty' is not of the form"),
        ('"/shop/v1/loyalty-settings"', '"shop/{x}"', "path='shop/{x}' is not of the form"),
        ('"/shop/v1/loyalty-settings"', '"/shop/"', "path='/shop/' is not of the form"),
        ('"loyaltySettings"', '"loyalty settings"', "wrapper='loyalty settings' is not of"),
        ("model=LoyaltySettings", "model=dict", "is not a class derived from SettingsModel"),
        ("bool = False", "bool", "LoyaltySettings.enabled needs a default"),
        ("silver: int = 100", "silver: float = 1", "Tiers.silver may be a float"),
        ("enabled:", "created_date:", "cannot be named createdDate: it is in use"),
        ("enabled:", "loyalty_settings:", "cannot be named loyaltySettings: it is in use"),
        ('frozenset({"SCOPE.EXAMPLE.MANAGE-LOYALTY"})', "frozenset()", "nobody could change it"),
        ('frozenset({"SCOPE.EXAMPLE.READ-LOYALTY"})', '["A"]', "is not a frozenset of names"),
        ('"LOYALTY.READ"', '""', "read_permission='' is not of the form"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(source, old, new, said):
    """The sentence names the line of the declaration and what is wrong with it."""
    assert old in LOYALTY
    text = refused(source(LOYALTY.replace(old, new, 1)))
    assert said in text
    assert re.search(r": line \d+: ", text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "example.shop.v1.loyalty_settings",
            "wix.ecom.v1.orders_settings",
            "the fqdn wix.ecom.v1.orders_settings of wix.ecom.v1.orders_settings is taken by",
        ),
        (
            "/shop/v1/loyalty-settings",
            "/ecom/v1/orders-settings",
            "the path /ecom/v1/orders-settings of example.shop.v1.loyalty_settings is taken by",
        ),
        ("loyaltySettings", "ordersSettings", "the wrapper ordersSettings of example"),
        ("/shop/v1/loyalty-settings", "/oauth2/token", "/oauth2/token of example.shop.v1.loyalty"),
        ("/shop/v1/loyalty-settings", "/healthz", "is the server's own"),
    ],
)
def test_a_clash_is_refused(source, old, new, said):
    """No kind takes the name, path or wrapper of another, nor a path of the server."""
    assert said in refused(source(LOYALTY.replace(old, new)))


def test_two_files_may_not_clash_and_none_is_declared_by_half(source):
    """Where the second of two files is wrong, the first is not declared either."""
    first = source()
    second = source(LOYALTY, "again.py")
    assert "is taken by the kind example.shop.v1.loyalty_settings" in refused(first, second)
    load_kinds([first])


def test_every_path_of_the_server_is_reserved():
    """A route that is no kind's lies below a reserved path, so no kind can ever hide it."""
    from test_web_failures import FakeLedger

    from ledger.web import create_app

    app = create_app(FakeLedger())
    own = {kind.path for kind in KINDS.values()}
    for route in app.routes:
        path = route.path
        assert path in own or any(
            path == prefix or path.startswith(f"{prefix}/") for prefix in kinds.RESERVED_PATHS
        ), path


async def test_a_kind_is_served_by_its_declaration_alone(source):
    """Routes, scopes, validation and documentation of a new kind are there once it is loaded."""
    from test_web_failures import FakeLedger

    from ledger.web import create_app

    manage = "SCOPE.DC-STORES.MANAGE-ORDERS"
    load_kinds([source(LOYALTY.replace("SCOPE.EXAMPLE.MANAGE-LOYALTY", manage))])
    app = create_app(FakeLedger())
    assert set(app.openapi()["paths"]["/shop/v1/loyalty-settings"]) == {"get", "patch"}
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": "key"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://ledger", headers=headers
    ) as client:
        got = await client.get("/shop/v1/loyalty-settings")
        refused = await client.patch(
            "/shop/v1/loyalty-settings", json={"loyaltySettings": {"tiers": {"gold": "1"}}}
        )
    assert got.json()["loyaltySettings"]["tiers"] == {"silver": 100}
    [violation] = refused.json()["details"]["validationError"]["fieldViolations"]
    assert (violation["field"], violation["violatedRule"]) == (
        "loyaltySettings.tiers.gold",
        "FORMAT",
    )


def test_fields_declared_later_answer_their_default():
    """Settings recorded before a field was declared answer its default, and keep what they have."""
    older = {
        "inventoryUpdateTrigger": "ON_ORDER_PAID",
        "emailNotifications": {"orderPlaced": False},
    }
    now = datetime(2024, 1, 1, tzinfo=UTC)
    reply = ORDERS_SETTINGS.reply(older | {"ofTomorrow": 1}, now, now)
    assert list(reply) == [
        "inventoryUpdateTrigger",
        "createInvoice",
        "emailNotifications",
        "ofTomorrow",
        "createdDate",
        "updatedDate",
    ]
    assert reply["createInvoice"] is False
    assert reply["emailNotifications"] == {
        "orderPlaced": False,
        "orderShipped": True,
        "pickupReady": True,
    }


def test_the_readmes_kind_is_declared_as_it_stands(source):
    """The example of the README's section is a file that LEDGER_KINDS takes."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    section = re.search(
        r"^## Declare your own kind.*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert section
    [block] = re.findall(r"^```py\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    load_kinds([source(block)])
    kind = KINDS["example.shop.v1.loyalty_settings"]
    assert kind.merge(kind.defaults(), {"tiers": {"gold": 500}})["tiers"] == {
        "silver": 100,
        "gold": 500,
    }
