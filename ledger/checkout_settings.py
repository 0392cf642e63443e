"""The checkout settings kind: all that is specific to Wix's Checkout Settings API.

Fields, enums, limits and stated defaults are those of the published package
`@wix/auto_sdk_ecom_checkout-settings` 1.0.76. Where it states no default, an enum starts with its
first value, which is what an unset one means on Wix's wire, and everything else is absent.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ledger.settings import BrokenRule, SettingsKind, SettingsModel

Text = str | None
Switch = bool | None
Color = Annotated[str, Field(pattern=r"^#([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})$")] | None


class Policy(SettingsModel):
    """A text that the buyer can open from the checkout's footer."""

    visible: bool = False
    content: Text = None


class CustomPolicy(SettingsModel):
    """A policy with a title of its own."""

    visible: bool = False
    content: Text = None
    title: Text = None


class CheckoutPolicies(SettingsModel):
    """The policies shown at checkout."""

    terms_and_conditions: Policy = Policy()
    privacy_policy: Policy = Policy()
    return_policy: Policy = Policy()
    digital_item_policy: Policy = Policy()
    contact_us: Policy = Policy()
    custom_policy: CustomPolicy = CustomPolicy()


class SubscriptionCheckbox(SettingsModel):
    """The buyer's consent to marketing."""

    visible: bool = False
    checked_by_default: bool = False
    split_by_channel: bool = Field(
        default=False, description="Whether email and SMS have a checkbox each."
    )


class PolicyAgreementCheckbox(SettingsModel):
    """The buyer's agreement to the policies."""

    visible: bool = False
    checked_by_default: bool = False


class CheckoutFields(SettingsModel):
    """What the checkout asks, and how it takes the payment."""

    subscription_checkbox: SubscriptionCheckbox = SubscriptionCheckbox()
    policy_agreement_checkbox: PolicyAgreementCheckbox = PolicyAgreementCheckbox()
    gift_card_redeem_enabled: bool = False
    mit_enabled: bool = Field(
        default=False, description="Whether transactions may be initiated by the merchant."
    )
    delay_capture_enabled: bool = Field(
        default=False, description="Whether payments are authorized first and captured later."
    )
    capture_before_expiry_enabled: bool = Field(
        default=True, description="Whether to capture before the authorization expires."
    )


class Image(SettingsModel):
    """An image as the SDK sends it; no focal point, since the log holds no floats."""

    id: Text = None
    url: Text = None
    height: Annotated[int, Field(ge=0)] | None = None
    width: Annotated[int, Field(ge=0)] | None = None
    alt_text: Text = None
    filename: Text = None


class BackgroundFill(SettingsModel):
    """A colour or an image, never both; replaced as a whole."""

    color: Color = None
    image: Image | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.color is not None and self.image is not None:
            raise BrokenRule("ONE_OF_ALIGNMENT", "must have either color or image")
        return self


class Logo(SettingsModel):
    """The logo in the header."""

    size: Literal["SMALL", "MEDIUM", "LARGE"] = "SMALL"
    image: Image | None = None


class ContinueShopping(SettingsModel):
    """The way back to the shop."""

    hidden: Switch = None
    display_type: Literal["TEXT", "ICON"] = "TEXT"


class CheckoutHeader(SettingsModel):
    """The top of the checkout page."""

    text: Annotated[str, Field(max_length=55)] | None = None
    text_color: Color = None
    logo: Logo = Logo()
    alignment: Literal["SIDE", "CENTER"] = "SIDE"
    display_checkout_label: Switch = None
    continue_shopping: ContinueShopping = ContinueShopping()
    background_fill: BackgroundFill | None = None
    divider_color: Color = None


class CheckoutMain(SettingsModel):
    """Form and summary."""

    form_background_fill: BackgroundFill | None = None
    summary_background_fill: BackgroundFill | None = None
    divider_color: Color = None
    tinted_box_color: Color = None
    express_buttons_corner_radius: Literal["RECTANGLE", "PILL"] = "RECTANGLE"
    corner_radius: Annotated[int, Field(le=100)] | None = None


class CheckoutFooter(SettingsModel):
    """The bottom of the checkout page."""

    background_fill: BackgroundFill | None = None
    divider_color: Color = None


class CheckoutGlobal(SettingsModel):
    """Colours of controls everywhere."""

    selection_color: Color = None
    place_order_button_color: Color = None
    button_color: Color = None


class CheckoutBrand(SettingsModel):
    """How the checkout looks."""

    header: CheckoutHeader = CheckoutHeader()
    main_section: CheckoutMain = CheckoutMain()
    footer: CheckoutFooter = CheckoutFooter()
    everywhere: CheckoutGlobal = Field(default=CheckoutGlobal(), alias="global")


class CheckoutSettings(SettingsModel):
    """The fields of Wix's "Checkout Settings Object"."""

    checkout_policies: CheckoutPolicies = CheckoutPolicies()
    checkout_fields: CheckoutFields = CheckoutFields()
    checkout_brand: CheckoutBrand = CheckoutBrand()
    checkout_billing_fields: Literal["All_FIELDS", "MINIMUM_REQUIRED_FIELDS"] = "All_FIELDS"


CHECKOUT_SETTINGS = SettingsKind(
    fqdn="wix.ecom.v1.checkout_settings",
    wrapper="checkoutSettings",
    path="/ecom/v1/checkout-settings",
    model=CheckoutSettings,
    manage_scopes=frozenset(
        {
            "SCOPE.DC-ECOM-MEGA.MANAGE-ECOM",
            "SCOPE.DC-STORES-MEGA.MANAGE-STORES",
            "SCOPE.DC-STORES.MANAGE-ORDERS",
            "SCOPE.RESTAURANTS.MEGA-SCOPES",
        }
    ),
    read_scopes=frozenset(
        {
            "SCOPE.DC-ECOM-MEGA.READ-ECOM",
            "SCOPE.DC-STORES-MEGA.READ-STORES",
            "SCOPE.DC-STORES.READ-ORDERS",
        }
    ),
    read_permission="ECOM.READ_CHECKOUT_SETTINGS",
    update_permission="ECOM.UPDATE_CHECKOUT_SETTINGS",
)
