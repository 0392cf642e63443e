"""The checkout settings: what Wix's own package says of them, through the declaration alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import canonical_bytes
from ledger.checkout_settings import CHECKOUT_SETTINGS
from ledger.errors import InvalidSettings
from ledger.settings import changes_between

DEFAULTS = CHECKOUT_SETTINGS.defaults()
LOGO = {"id": "abc~mv2.png", "width": 300, "height": 200, "altText": "l.png", "filename": "l.png"}


def brand(section: str, **fields: Any) -> dict[str, Any]:
    return {"checkoutBrand": {section: fields}}


def refusal(patch: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        CHECKOUT_SETTINGS.validate_patch(patch)
    return {each.field: each.rule for each in caught.value.violations}


def laid_over(settings: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return CHECKOUT_SETTINGS.merge(settings, CHECKOUT_SETTINGS.validate_patch(patch))


def test_a_new_site_has_the_stated_defaults() -> None:
    """Booleans are as Wix states them, enums start with their first value, the rest is absent."""
    hidden = {"visible": False}
    assert CHECKOUT_SETTINGS.defaults() == {
        "checkoutPolicies": {
            "termsAndConditions": hidden,
            "privacyPolicy": hidden,
            "returnPolicy": hidden,
            "digitalItemPolicy": hidden,
            "contactUs": hidden,
            "customPolicy": hidden,
        },
        "checkoutFields": {
            "subscriptionCheckbox": {
                "visible": False,
                "checkedByDefault": False,
                "splitByChannel": False,
            },
            "policyAgreementCheckbox": {"visible": False, "checkedByDefault": False},
            "giftCardRedeemEnabled": False,
            "mitEnabled": False,
            "delayCaptureEnabled": False,
            "captureBeforeExpiryEnabled": True,
        },
        "checkoutBrand": {
            "header": {
                "logo": {"size": "SMALL"},
                "alignment": "SIDE",
                "continueShopping": {"displayType": "TEXT"},
            },
            "mainSection": {"expressButtonsCornerRadius": "RECTANGLE"},
        },
        "checkoutBillingFields": "All_FIELDS",
    }
    assert canonical_bytes(DEFAULTS)


def test_the_seeds_flow_for_policies() -> None:
    """One policy's text changes, and nothing else does."""
    patch = {"checkoutPolicies": {"returnPolicy": {"content": "100 days"}}}
    after = laid_over(DEFAULTS, patch)
    assert changes_between(DEFAULTS, after) == {
        "checkoutPolicies.returnPolicy.content": {"to": "100 days"}
    }
    assert laid_over(after, {"checkoutPolicies": {"returnPolicy": {"content": None}}}) == DEFAULTS


def test_an_object_that_loses_its_last_value_is_gone() -> None:
    """Absent means absent: an empty object is not kept, and patching one in changes nothing."""
    after = laid_over(DEFAULTS, brand("footer", dividerColor="#fff"))
    assert after["checkoutBrand"]["footer"] == {"dividerColor": "#fff"}
    assert laid_over(after, brand("footer", dividerColor=None)) == DEFAULTS
    assert laid_over(after, {"checkoutBrand": {"footer": None}}) == DEFAULTS
    assert laid_over(DEFAULTS, {"checkoutBrand": {"footer": {}}}) == DEFAULTS
    assert laid_over(DEFAULTS, {"checkoutBrand": {"footer": {"backgroundFill": None}}}) == DEFAULTS


def test_a_background_is_a_color_or_an_image() -> None:
    """Naming one replaces the other; naming both is refused."""
    color = laid_over(DEFAULTS, brand("footer", backgroundFill={"color": "#A1b2C3"}))
    image = laid_over(color, brand("footer", backgroundFill={"image": LOGO}))
    assert image["checkoutBrand"]["footer"] == {"backgroundFill": {"image": LOGO}}
    assert refusal(brand("footer", backgroundFill={"color": "#fff", "image": LOGO})) == {
        "checkoutSettings.checkoutBrand.footer.backgroundFill": "ONE_OF_ALIGNMENT"
    }


@pytest.mark.parametrize(
    ("patch", "field", "rule"),
    [
        (brand("header", text="x" * 56), "checkoutBrand.header.text", "MAX_LENGTH"),
        (brand("header", textColor="red"), "checkoutBrand.header.textColor", "FORMAT"),
        (brand("header", alignment="LEFT"), "checkoutBrand.header.alignment", "INVALID_ENUM_VALUE"),
        (brand("header", alignment=1), "checkoutBrand.header.alignment", "FORMAT"),
        (brand("mainSection", cornerRadius=101), "checkoutBrand.mainSection.cornerRadius", "MAX"),
        (
            brand("mainSection", cornerRadius=1.5),
            "checkoutBrand.mainSection.cornerRadius",
            "FORMAT",
        ),
        (brand("global", buttonColor=3), "checkoutBrand.global.buttonColor", "FORMAT"),
        (
            brand("header", logo={"image": {"width": "3"}}),
            "checkoutBrand.header.logo.image.width",
            "FORMAT",
        ),
        (
            brand("footer", backgroundFill={"image": {"focalPoint": {"x": 0.5}}}),
            "checkoutBrand.footer.backgroundFill.image.focalPoint",
            "FIELD_NOT_ALLOWED",
        ),
        ({"checkoutFields": {"mitEnabled": "no"}}, "checkoutFields.mitEnabled", "FORMAT"),
        ({"checkoutBillingFields": "ALL_FIELDS"}, "checkoutBillingFields", "INVALID_ENUM_VALUE"),
        ({"checkoutPolicies": {"returnPolicy": "no"}}, "checkoutPolicies.returnPolicy", "FORMAT"),
    ],
)
def test_a_broken_rule_names_its_place(patch: dict[str, Any], field: str, rule: str) -> None:
    """A violation has the path as it was sent, also inside an object that is replaced as a whole."""
    assert refusal(patch) == {f"checkoutSettings.{field}": rule}


def test_every_violation_inside_one_object_is_named() -> None:
    """An image with two faults has two violations."""
    image = {"width": -1, "height": "x", "id": "a"}
    place = "checkoutSettings.checkoutBrand.header.logo.image"
    assert refusal(brand("header", logo={"image": image})) == {
        f"{place}.width": "MIN",
        f"{place}.height": "FORMAT",
    }


def test_what_was_read_can_be_sent_back() -> None:
    """A reply is a valid patch, and laying it over changes nothing."""
    settings = laid_over(DEFAULTS, brand("header", text="Flowers", logo={"image": LOGO}))
    now = datetime(2024, 7, 4, tzinfo=UTC)
    assert laid_over(settings, CHECKOUT_SETTINGS.reply(settings, now, now)) == settings


texts = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=9)
fills = st.none() | st.sampled_from([{"color": "#000"}, {"image": LOGO}, {}, {"color": None}])
patches = st.fixed_dictionaries(
    {},
    optional={
        "checkoutPolicies": st.fixed_dictionaries(
            {},
            optional={
                "customPolicy": st.none()
                | st.fixed_dictionaries({}, optional={"title": texts, "visible": st.booleans()})
            },
        ),
        "checkoutBrand": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "footer": st.none() | st.fixed_dictionaries({}, optional={"backgroundFill": fills}),
                "header": st.fixed_dictionaries({}, optional={"text": texts}),
            },
        ),
    },
)


@given(st.lists(patches, max_size=4), st.lists(patches, max_size=4))
def test_an_excerpt_makes_others_alike(ours: list[Any], theirs: list[Any]) -> None:
    """The excerpt of all fields, laid over any settings, gives these settings exactly."""
    one, other = DEFAULTS, DEFAULTS
    for patch in ours:
        one = laid_over(one, patch)
    for patch in theirs:
        other = laid_over(other, patch)
    excerpt = CHECKOUT_SETTINGS.excerpt(one, DEFAULTS)
    assert laid_over(other, excerpt) == one
    assert canonical_bytes(one)
