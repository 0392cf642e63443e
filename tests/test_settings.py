"""What a kind of settings is: merging, changes, and every way in which a patch can be wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from ledger.errors import InvalidSettings, NotFound
from ledger.fields import Branch
from ledger.kinds import KINDS, kind_named, known_scopes
from ledger.orders_settings import ORDERS_SETTINGS
from ledger.settings import SettingsKind, SettingsModel, changes_between

DEFAULTS = {
    "inventoryUpdateTrigger": "ON_ORDER_PLACED",
    "createInvoice": False,
    "emailNotifications": {"orderPlaced": True, "orderShipped": True, "pickupReady": True},
}


class Inner(SettingsModel):
    label: Annotated[str, Field(min_length=2, max_length=5)] = "none"
    days: list[int] = Field(default_factory=lambda: [1, 2])


class Outer(SettingsModel):
    inner: Inner = Inner()
    rate: Annotated[int, Field(ge=0, lt=100)] = 7


class Everything(SettingsModel):
    """Fields of every sort that a kind may have, two levels deep."""

    outer_part: Outer = Outer()
    mode: Literal["FAST", "SAFE"] = "SAFE"
    is_open: bool = True
    few: Annotated[list[str], Field(min_length=1, max_length=2)] = Field(
        default_factory=lambda: ["a"]
    )


EVERYTHING = replace(
    ORDERS_SETTINGS,
    fqdn="test.v1.everything",
    wrapper="everything",
    model=Everything,
    hidden_at_default=frozenset(),
)


# --- strategies ------------------------------------------------------------------------------


def patches_of(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Patches that name any of the fields, each with a value or null."""
    return st.fixed_dictionaries(
        {}, optional={name: st.none() | values for name, values in fields.items()}
    )


flags = st.booleans()
orders_patches = patches_of(
    {
        "inventoryUpdateTrigger": st.sampled_from(["ON_ORDER_PAID", "ON_ORDER_PLACED"]),
        "createInvoice": flags,
        "emailNotifications": patches_of(
            {"orderPlaced": flags, "orderShipped": flags, "pickupReady": flags}
        ),
    }
)
everything_patches = patches_of(
    {
        "outerPart": patches_of(
            {
                "inner": patches_of(
                    {
                        "label": st.text(
                            st.characters(codec="ascii"), min_size=2, max_size=5
                        ).filter(lambda text: "\x00" not in text),
                        "days": st.lists(st.integers(-9, 9), max_size=3),
                    }
                ),
                "rate": st.integers(0, 99),
            }
        ),
        "mode": st.sampled_from(["FAST", "SAFE"]),
        "isOpen": flags,
        "few": st.lists(st.text("xyz", max_size=2), min_size=1, max_size=2),
    }
)
kinds_and_patches = st.one_of(
    st.tuples(st.just(ORDERS_SETTINGS), st.lists(orders_patches, max_size=6)),
    st.tuples(st.just(EVERYTHING), st.lists(everything_patches, max_size=6)),
)
# Anything that settings may ever hold, keys of other programs included; names have no dots.
json_settings = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.booleans() | st.integers(0, 2) | st.text("xy", max_size=1) | st.none(),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
        ),
        max_leaves=5,
    ),
    max_size=3,
)


# --- oracles, written apart from the code under test -----------------------------------------


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """A value as its leaves by path; an empty object below the root is a leaf."""
    if isinstance(value, dict) and (value or not path):
        return {
            place: leaf
            for name, item in value.items()
            for place, leaf in leaves(item, (*path, name)).items()
        }
    return {path: value}


def tree(flat: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    """The inverse of ``leaves``."""
    root: dict[str, Any] = {}
    for path, value in flat.items():
        place = root
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    return root


def apply_changes(settings: dict[str, Any], changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What an auditor does with recorded changes: check where each came from, and go on."""
    flat = leaves(settings)
    for path, ends in changes.items():
        if "from" in ends:
            assert exactly(flat.pop(tuple(path.split("."))), ends["from"])
        else:
            assert tuple(path.split(".")) not in flat
    for path, ends in changes.items():
        if "to" in ends:
            flat[tuple(path.split("."))] = ends["to"]
    return tree(flat)


def exactly(one: Any, other: Any) -> bool:
    """Equality of JSON values, where true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(exactly(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(exactly, one, other))
    return type(one) is type(other) and one == other


def model_merge(default: Any, settings: Any, patch: Any) -> Any:
    """Merging as a plain walk: null takes the default, objects go deeper, the rest replaces."""
    if patch is None:
        return default
    if isinstance(patch, dict) and isinstance(default, dict):
        return {
            name: model_merge(default[name], settings[name], patch[name])
            if name in patch
            else settings[name]
            for name in settings
        }
    return patch


# --- merging ---------------------------------------------------------------------------------


def test_a_new_site_has_the_contracts_defaults() -> None:
    """The defaults of orders settings are those of the wire contract, key for key."""
    assert ORDERS_SETTINGS.defaults() == DEFAULTS


def test_defaults_are_handed_out_as_copies() -> None:
    """What a caller does to defaults that it was given changes nobody else's."""
    ORDERS_SETTINGS.defaults()["emailNotifications"]["orderPlaced"] = "spoiled"
    EVERYTHING.defaults()["outerPart"]["inner"]["days"].append(3)
    assert ORDERS_SETTINGS.defaults() == DEFAULTS
    assert EVERYTHING.defaults()["outerPart"]["inner"]["days"] == [1, 2]


@given(kinds_and_patches)
def test_folding_patches_equals_the_plain_model(
    case: tuple[SettingsKind, list[dict[str, Any]]],
) -> None:
    """Any sequence of patches gives what a plain dict model of the contract gives."""
    kind, patches = case
    settings = model = kind.defaults()
    for patch in patches:
        settings = kind.merge(settings, kind.validate_patch(patch))
        model = model_merge(kind.defaults(), model, patch)
        assert exactly(settings, model)


@given(kinds_and_patches)
def test_laying_a_patch_over_twice_changes_nothing_more(
    case: tuple[SettingsKind, list[dict[str, Any]]],
) -> None:
    """Merging is idempotent, and leaves what it was given as it was."""
    kind, patches = case
    settings = kind.defaults()
    for patch in patches:
        before = kind.merge(settings, {})
        once = kind.merge(settings, patch)
        assert exactly(settings, before)
        assert exactly(kind.merge(once, patch), once)
        settings = once


@given(kinds_and_patches)
def test_null_resets_to_the_default(case: tuple[SettingsKind, list[dict[str, Any]]]) -> None:
    """Null for every field at the root gives the defaults, nested objects whole."""
    kind, patches = case
    settings = kind.defaults()
    for patch in patches:
        settings = kind.merge(settings, patch)
    reset = kind.validate_patch(dict.fromkeys(settings))
    assert exactly(kind.merge(settings, reset), kind.defaults())


def test_null_inside_an_object_resets_that_field_alone() -> None:
    """A nested null takes that field's default; its siblings keep what was set."""
    off = {"orderPlaced": False, "orderShipped": False}
    settings = ORDERS_SETTINGS.merge(DEFAULTS, {"emailNotifications": off})
    settings = ORDERS_SETTINGS.merge(settings, {"emailNotifications": {"orderPlaced": None}})
    assert settings["emailNotifications"] == {
        "orderPlaced": True,
        "orderShipped": False,
        "pickupReady": True,
    }


@given(orders_patches)
def test_keys_of_another_program_survive_a_merge(patch: dict[str, Any]) -> None:
    """What this program does not know stays, at the root and inside an object."""
    foreign = {"deeper": [1, {"x": None}]}
    settings = ORDERS_SETTINGS.defaults() | {"newField": foreign}
    settings["emailNotifications"]["orderEaten"] = True
    merged = ORDERS_SETTINGS.merge(
        settings, {**patch, "emailNotifications": {"pickupReady": False}}
    )
    assert merged["newField"] == foreign
    assert merged["emailNotifications"]["orderEaten"] is True


# --- changes ---------------------------------------------------------------------------------


@given(json_settings, json_settings)
def test_changes_lead_from_one_to_the_other(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Applying the changes between two values to the first gives the second, and the way back."""
    assert exactly(apply_changes(a, changes_between(a, b)), b)
    back = {path: swapped(ends) for path, ends in changes_between(a, b).items()}
    assert back == changes_between(b, a)


def swapped(ends: dict[str, Any]) -> dict[str, Any]:
    names = {"from": "to", "to": "from"}
    return {names[end]: value for end, value in ends.items()}


@given(json_settings, json_settings)
def test_there_are_no_changes_exactly_between_equals(a: dict[str, Any], b: dict[str, Any]) -> None:
    """The change is empty if and only if the values are equal."""
    assert changes_between(a, a) == {}
    assert (changes_between(a, b) == {}) == exactly(a, b)


def test_a_change_names_the_leaf_and_both_ends() -> None:
    """A path is dotted and without wrapper; unchanged leaves are not named."""
    after = ORDERS_SETTINGS.merge(
        DEFAULTS, {"createInvoice": True, "emailNotifications": {"orderShipped": False}}
    )
    assert changes_between(DEFAULTS, after) == {
        "createInvoice": {"from": False, "to": True},
        "emailNotifications.orderShipped": {"from": True, "to": False},
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": True}, {"a": 1}),
        ({"a": [True]}, {"a": [1]}),
        ({"a": [{"b": 0}]}, {"a": [{"b": False}]}),
    ],
)
def test_true_and_one_are_different_values(before: dict[str, Any], after: dict[str, Any]) -> None:
    """A change of type alone is a change, although Python calls the two equal."""
    assert changes_between(before, after) == {"a": {"from": before["a"], "to": after["a"]}}


def test_an_end_is_absent_where_there_was_or_is_no_value() -> None:
    """Absent means absent: neither end stands there as null."""
    assert changes_between({"gone": 1}, {"new": 2}) == {"gone": {"from": 1}, "new": {"to": 2}}


# --- validation ------------------------------------------------------------------------------


def violations(patch: object, kind: SettingsKind = ORDERS_SETTINGS) -> dict[str, tuple[str, str]]:
    with pytest.raises(InvalidSettings) as caught:
        kind.validate_patch(patch)
    found = {broken.field: (broken.rule, broken.description) for broken in caught.value.violations}
    assert len(found) == len(caught.value.violations), "one violation per field"
    return found


TRIGGERS = "must be 'ON_ORDER_PAID' or 'ON_ORDER_PLACED'"
NOT_BOOLEAN = ("FORMAT", "must be a valid boolean")
NOT_OBJECT = ("FORMAT", "must be an object")


@pytest.mark.parametrize(
    ("patch", "field", "rule", "description"),
    [
        ({"createInvoice": 1}, "ordersSettings.createInvoice", *NOT_BOOLEAN),
        ({"createInvoice": 0}, "ordersSettings.createInvoice", *NOT_BOOLEAN),
        ({"createInvoice": "true"}, "ordersSettings.createInvoice", *NOT_BOOLEAN),
        ({"createInvoice": []}, "ordersSettings.createInvoice", *NOT_BOOLEAN),
        (
            {"inventoryUpdateTrigger": "ON_ORDER_EATEN"},
            "ordersSettings.inventoryUpdateTrigger",
            "INVALID_ENUM_VALUE",
            TRIGGERS,
        ),
        (
            {"inventoryUpdateTrigger": 7},
            "ordersSettings.inventoryUpdateTrigger",
            "FORMAT",
            TRIGGERS,
        ),
        (
            {"inventoryUpdateTrigger": "ON_ORDER\x00"},
            "ordersSettings.inventoryUpdateTrigger",
            "INVALID_ENUM_VALUE",
            TRIGGERS,
        ),
        ({"emailNotifications": True}, "ordersSettings.emailNotifications", *NOT_OBJECT),
        ({"emailNotifications": []}, "ordersSettings.emailNotifications", *NOT_OBJECT),
        (
            {"emailNotifications": {"orderPlaced": "no"}},
            "ordersSettings.emailNotifications.orderPlaced",
            *NOT_BOOLEAN,
        ),
        (
            {"createInvoce": True},
            "ordersSettings.createInvoce",
            "FIELD_NOT_ALLOWED",
            f"is not a field here; known are {', '.join(DEFAULTS)}",
        ),
        (
            {"emailNotifications": {"createdDate": "2024-07-04T15:10:46.070Z"}},
            "ordersSettings.emailNotifications.createdDate",
            "FIELD_NOT_ALLOWED",
            "is not a field here; known are orderPlaced, orderShipped, pickupReady",
        ),
        ([], "ordersSettings", *NOT_OBJECT),
        (None, "ordersSettings", *NOT_OBJECT),
        ("createInvoice", "ordersSettings", *NOT_OBJECT),
    ],
)
def test_each_violation_is_named_in_the_contracts_words(
    patch: object, field: str, rule: str, description: str
) -> None:
    """A wrong value gives one violation: the field as sent, the contract's rule, a sentence."""
    assert violations(patch) == {field: (rule, description)}


@pytest.mark.parametrize(
    ("patch", "field", "rule", "description"),
    [
        (
            {"outerPart": {"rate": -1}},
            "outerPart.rate",
            "MIN",
            "must be greater than or equal to 0",
        ),
        ({"outerPart": {"rate": 100}}, "outerPart.rate", "MAX", "must be less than 100"),
        ({"outerPart": {"rate": 1.0}}, "outerPart.rate", "FORMAT", "must be a valid integer"),
        ({"outerPart": {"rate": True}}, "outerPart.rate", "FORMAT", "must be a valid integer"),
        (
            {"outerPart": {"inner": {"label": "x"}}},
            "outerPart.inner.label",
            "MIN_LENGTH",
            "must have at least 2 characters",
        ),
        (
            {"outerPart": {"inner": {"label": "xxxxxx"}}},
            "outerPart.inner.label",
            "MAX_LENGTH",
            "must have at most 5 characters",
        ),
        (
            {"outerPart": {"inner": {"label": "a\x00"}}},
            "outerPart.inner.label",
            "FORMAT",
            "text must not contain the character NUL",
        ),
        (
            {"outerPart": {"inner": {"days": [2**53]}}},
            "outerPart.inner.days",
            "FORMAT",
            "an integer must be below 2**53",
        ),
        ({"few": []}, "few", "MIN_SIZE", "must have at least 1 item after validation, not 0"),
        (
            {"few": ["a", "b", "c"]},
            "few",
            "MAX_SIZE",
            "must have at most 2 items after validation, not 3",
        ),
    ],
)
def test_constraints_of_any_kind_have_the_contracts_rules(
    patch: object, field: str, rule: str, description: str
) -> None:
    """Bounds that a kind declares are answered with the contract's names for them."""
    assert violations(patch, EVERYTHING) == {f"everything.{field}": (rule, description)}


def test_a_lone_surrogate_is_refused_as_format() -> None:
    """Text that UTF-8 cannot hold is refused at the door, in a value and shown in a name."""
    found = violations(
        {"outerPart": {"inner": {"label": "a\ud800"}}, "a\ud800": 1},
        EVERYTHING,
    )
    assert found["everything.outerPart.inner.label"][0] == "FORMAT"
    assert found["everything.a\\ud800"][0] == "FIELD_NOT_ALLOWED"


def test_every_violation_is_reported_at_once() -> None:
    """One answer names all that is wrong, however deep, and one sentence lists it."""
    patch = {
        "createInvoice": 1,
        "inventoryUpdateTrigger": "X",
        "emailNotifications": {"orderPlaced": "true", "orderShipped": False, "x": 1},
        "y": 1,
        3: "a name that is not text",
    }
    rules = {field: rule for field, (rule, _) in violations(patch).items()}
    assert rules == {
        "ordersSettings.createInvoice": "FORMAT",
        "ordersSettings.inventoryUpdateTrigger": "INVALID_ENUM_VALUE",
        "ordersSettings.emailNotifications.orderPlaced": "FORMAT",
        "ordersSettings.emailNotifications.x": "FIELD_NOT_ALLOWED",
        "ordersSettings.y": "FIELD_NOT_ALLOWED",
        "ordersSettings.3": "FIELD_NOT_ALLOWED",
    }
    with pytest.raises(InvalidSettings) as caught:
        ORDERS_SETTINGS.validate_patch({"createInvoice": 1, "inventoryUpdateTrigger": "X"})
    assert str(caught.value) == (
        "ordersSettings.createInvoice: must be a valid boolean; "
        f"ordersSettings.inventoryUpdateTrigger: {TRIGGERS}"
    )


def test_an_enum_violation_carries_what_is_expected() -> None:
    """A program finds the allowed values beside the sentence."""
    with pytest.raises(InvalidSettings) as caught:
        ORDERS_SETTINGS.validate_patch({"inventoryUpdateTrigger": "X"})
    assert caught.value.violations[0].data == {"expected": "'ON_ORDER_PAID' or 'ON_ORDER_PLACED'"}


def test_read_only_fields_are_ignored_at_the_root() -> None:
    """What a GET showed may be sent back: the two dates are left out, whatever they hold."""
    patch = {"createdDate": "2024-07-04T15:10:46.070Z", "updatedDate": 3, "createInvoice": True}
    assert ORDERS_SETTINGS.validate_patch(patch) == {"createInvoice": True}


def test_unknown_fields_are_dropped_on_request() -> None:
    """With unknown_fields="ignore" a foreign field vanishes, nested ones too; rules still hold."""
    patch = {"nope": 1, "emailNotifications": {"nope": 2, "orderPlaced": False}}
    accepted = ORDERS_SETTINGS.validate_patch(patch, unknown_fields="ignore")
    assert accepted == {"emailNotifications": {"orderPlaced": False}}
    with pytest.raises(InvalidSettings):
        ORDERS_SETTINGS.validate_patch({"nope": 1, "createInvoice": 1}, unknown_fields="ignore")


@given(orders_patches)
def test_an_accepted_patch_is_recorded_as_asked(patch: dict[str, Any]) -> None:
    """Validation adds nothing, drops nothing and keeps nulls."""
    assert exactly(ORDERS_SETTINGS.validate_patch(patch), patch)


# --- replies and declarations ----------------------------------------------------------------


def test_a_default_site_replies_as_the_seed_shows() -> None:
    """The reply of a new site matches the seed's sample key for key, in order, cut to ms."""
    created = datetime(2024, 7, 4, 15, 10, 46, 70_999, tzinfo=UTC)
    reply = ORDERS_SETTINGS.reply(ORDERS_SETTINGS.defaults(), created, created)
    assert list(reply.items()) == [
        ("inventoryUpdateTrigger", "ON_ORDER_PLACED"),
        ("createInvoice", False),
        ("createdDate", "2024-07-04T15:10:46.070Z"),
        ("updatedDate", "2024-07-04T15:10:46.070Z"),
    ]


def test_a_field_hidden_at_its_default_shows_once_it_differs() -> None:
    """emailNotifications is whole in a reply as soon as one of its fields was changed."""
    now = datetime(2024, 1, 1, tzinfo=UTC)
    settings = ORDERS_SETTINGS.merge(DEFAULTS, {"emailNotifications": {"pickupReady": False}})
    assert ORDERS_SETTINGS.reply(settings, now, now)["emailNotifications"] == {
        "orderPlaced": True,
        "orderShipped": True,
        "pickupReady": False,
    }


class NoDefault(SettingsModel):
    needed: bool


class NestedNoDefault(SettingsModel):
    part: NoDefault = NoDefault(needed=True)


class Dotted(SettingsModel):
    one: bool = Field(default=True, alias="o.ne")


class NotAscii(SettingsModel):
    one: bool = Field(default=True, alias="één")


class FloatDefault(SettingsModel):
    rate: float = 0.5


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (NoDefault, "NoDefault.needed needs a default: a new site starts with it"),
        (NestedNoDefault, "NoDefault.needed needs a default: a new site starts with it"),
        (Dotted, "Dotted.one: a field name must be ASCII without dots"),
        (NotAscii, "NotAscii.one: a field name must be ASCII without dots"),
        (FloatDefault, "FloatDefault.rate may be a float, which the log cannot hold"),
    ],
)
def test_a_kind_declared_wrongly_is_refused_where_it_is_declared(
    model: type[SettingsModel], said: str
) -> None:
    """A model that could not be stored or served fails when its kind is made, not at a PATCH."""
    with pytest.raises(TypeError, match=said):
        replace(ORDERS_SETTINGS, model=model, hidden_at_default=frozenset())


def test_the_kinds_are_found_by_their_names() -> None:
    """A kind is known by its FQDN, and an unknown one is NotFound."""
    assert kind_named("wix.ecom.v1.orders_settings") is ORDERS_SETTINGS
    assert ORDERS_SETTINGS.event_type == "wix.ecom.v1.orders_settings_updated"
    assert all(name == kind.fqdn for name, kind in KINDS.items())
    assert ORDERS_SETTINGS.manage_scopes | ORDERS_SETTINGS.read_scopes <= known_scopes()
    with pytest.raises(NotFound, match="There is no settings kind wix.nope"):
        kind_named("wix.nope")


def test_the_order_of_a_union_is_its_own() -> None:
    """To Python ``A | B`` equals ``B | A``; which is tried first is still what was declared."""

    class Short(BaseModel):
        x: int = 1

    class Long(BaseModel):
        x: int = 2
        y: int = 5

    class Shorter(SettingsModel):
        parts: list[Short | Long] = Field(default_factory=list)

    class Longer(SettingsModel):
        parts: list[Long | Short] = Field(default_factory=list)

    made = [Branch.of(model) for model in (Shorter, Longer, Shorter)]
    values = [branch.validate({"parts": [{"x": 3}]}, "", [], "refuse") for branch in made]
    assert values[0] == values[2] == {"parts": [{"x": 3}]}
    assert values[1] == {"parts": [{"x": 3, "y": 5}]}
