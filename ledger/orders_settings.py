"""The orders settings kind: all that is specific to Wix's Orders Settings API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ledger.settings import SettingsKind, SettingsModel


class EmailNotifications(SettingsModel):
    """Which emails a customer gets about the status of an order."""

    order_placed: bool = True
    order_shipped: bool = True
    pickup_ready: bool = True


class OrdersSettings(SettingsModel):
    """The fields of the seed's "Orders Settings Object", and the customer emails of its introduction."""

    inventory_update_trigger: Literal["ON_ORDER_PAID", "ON_ORDER_PLACED"] = Field(
        default="ON_ORDER_PLACED",
        description="Whether stock is updated once an order is paid, or already when it is placed.",
    )
    create_invoice: bool = Field(
        default=False,
        description="Whether an invoice is created for every new order paid online.",
    )
    email_notifications: EmailNotifications = EmailNotifications()


ORDERS_SETTINGS = SettingsKind(
    fqdn="wix.ecom.v1.orders_settings",
    wrapper="ordersSettings",
    path="/ecom/v1/orders-settings",
    model=OrdersSettings,
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
    read_permission="ECOM.READ_ORDERS_SETTINGS",
    update_permission="ECOM.UPDATE_ORDERS_SETTINGS",
    # Later object tables of the API lost this field: a default site answers as the seeds show.
    hidden_at_default=frozenset({"emailNotifications"}),
)
