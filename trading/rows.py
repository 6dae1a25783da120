"""Load orders with what belongs to them."""

from collections.abc import Iterable

from django.db.models import QuerySet

from agents.models import Agent
from signals_app.models import Signal
from trading.models import Order


def load_orders(rows: QuerySet[Order], *, count: int = 0) -> list[Order]:
    """Return orders by ascending id with their deployments, agents and signals.

    The orders of a crowd share one agent and one signal: each is read once, and not joined to every row.

    Args:
        count: how many orders there are at most, where that is known: one is read in one statement.
    """
    if count == 1:
        return list(rows.select_related("deployment__agent", "signal").order_by("pk"))
    orders = list(rows.select_related("deployment").order_by("pk"))
    agents = Agent.objects.in_bulk({order.deployment.agent_id for order in orders})
    signals = Signal.objects.in_bulk(_present(order.signal_id for order in orders))
    for order in orders:
        order.deployment.agent = agents[order.deployment.agent_id]
        order.signal = signals[order.signal_id] if order.signal_id is not None else None
    return orders


def _present(ids: Iterable[int | None]) -> set[int]:
    return {pk for pk in ids if pk is not None}
