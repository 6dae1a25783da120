"""delivery: pending -> sent | dead -> pending (redriven by a person)"""

from enum import StrEnum


class DeliveryState(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"


DELIVERY = {
    DeliveryState.PENDING: frozenset({DeliveryState.SENT, DeliveryState.DEAD}),
    DeliveryState.DEAD: frozenset({DeliveryState.PENDING}),
    DeliveryState.SENT: frozenset(),
}
