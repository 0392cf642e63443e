"""The publisher: every event to every active subscription, at least once, in order per site."""

from __future__ import annotations

from ledger.publisher.guard import check_url
from ledger.publisher.operator import DeliveryOperator
from ledger.publisher.policy import ORDERED_DELAYS, Choices
from ledger.publisher.publisher import Publisher
from ledger.publisher.sign import webhook_public_key
from ledger.publisher.thread import PublisherThread

__all__ = [
    "ORDERED_DELAYS",
    "Choices",
    "DeliveryOperator",
    "Publisher",
    "PublisherThread",
    "check_url",
    "webhook_public_key",
]
