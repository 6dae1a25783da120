"""Adopt a holding that was opened elsewhere as a position of ours, after an operator confirmed it.

Until then it is the owner's own: AUTO_DISCOVERED, in no position, and never sold. Adopted, it reads as if the owner had
paid in its value at the quote and we had bought it for that: equity and deposits rise by the same amount, which is
neither profit nor loss, and the exits of the agent's preset apply from then on.
"""

from decimal import Decimal

from django.db import transaction

from agents.models import Deployment
from maxxit.core import clock, correlation
from maxxit.core.errors import Rejected
from maxxit.core.money import CASH, plain, usdc
from maxxit.core.terms import OrderSide, Purpose, Side
from maxxit.events.record import record
from maxxit.market import quotes
from maxxit.market.instruments import instrument, listed_on
from maxxit.market.venues import venue_policy
from positions.exits.levels import levels
from positions.models import Position
from signals_app.policy import policy as signals_policy
from trading import ledger
from trading.ledger import Move
from trading.models import Fill, JournalKind, Order
from trading.operations import differences
from trading.reconciliation import holdings
from trading.risk.limits_in_force import protective_limits
from trading.states import OrderState


def adopt(account: str, asset: str, amount: Decimal, *, by: str, reason: str) -> Position:
    """Make a position of what an account holds more than is booked; return it.

    Args:
        amount: venue minus ledger as it was shown, whole units.

    Raises:
        Rejected: no reason; the account does not differ by this amount any more; it is cash, a short, or a token that
            the venue does not list or that has no quote; the venue has leverage.
    """
    why = differences.checked_reason(reason)
    newest = differences.newest_line(account, asset)
    difference = differences.present(account, asset, amount)
    _check(difference)
    quote = quotes.latest([asset]).get(asset)
    if quote is None:
        raise Rejected(f"{asset} has no fresh quote to adopt it at: `manage.py doctor`", code="no_price")
    with transaction.atomic():
        deployment = differences.lock_deployment(difference, newest)
        order = _entry(deployment, difference, quote.price, newest)
        position = _open(deployment, order, quote.price)
        record(
            "position.adopted", position, by=by, reason=why, account=account, symbol=asset,
            quantity=plain(amount), price=plain(quote.price),
        )  # fmt: skip
    holdings.look({(difference.venue, account)})
    return position


def _check(difference: differences.Difference) -> None:
    """Raise Rejected unless the difference is a token that this platform could have bought there."""
    if found := problem(difference):
        code, text = found
        raise Rejected(text, code=code)


def problem(difference: differences.Difference) -> tuple[str, str] | None:
    """Return why a difference cannot be adopted, as code and sentence; None where it can."""
    asset, name = difference.asset, difference.venue
    if asset in CASH:
        return "no_position", f"{asset} is cash: book it as a transfer of the owner"
    if difference.amount <= 0:
        less = f"{difference.account} holds {plain(-difference.amount)} {asset} less than is booked"
        return "no_position", f"{less}: only what it holds more can be adopted"
    if not venue_policy(name).is_spot:
        return "leverage", f"{name} trades with leverage: close {asset} there"
    if asset not in listed_on(name):
        return "token_not_listed", (
            f"{asset} is not listed on {name} in config/markets.yaml: it cannot be closed from here"
        )
    return None


def _entry(
    deployment: Deployment, difference: differences.Difference, price: Decimal, newest: int | None
) -> Order:
    """Book the holding as an entry that was filled at `price` with cash that the owner paid in."""
    key = f"adopt:{deployment.pk}:{difference.asset}:{newest or 0}"
    quantity, cash = difference.amount, usdc(difference.amount * price)
    order = Order.objects.create(
        deployment=deployment, idempotency_key=key, purpose=Purpose.OPEN, symbol=difference.asset,
        venue=difference.venue, account=difference.account, position_side=Side.LONG, side=OrderSide.BUY,
        quantity=quantity, reference_price=price, notional_usd=cash, state=OrderState.FILLED,
        filled_quantity=quantity, booked_quantity=quantity, average_price=price,
        correlation_id=correlation.derive_id("adopted", key), created_at=clock.now(),
    )  # fmt: skip
    fill = Fill.objects.create(
        order=order, venue_fill_id=key, quantity=quantity, price=price, cash=cash, fee=0, at=clock.now()
    )
    holder, asset = ledger.account_of(deployment.pk), venue_policy(difference.venue).cash
    ledger.post(
        JournalKind.EXTERNAL,
        f"adopted:{order.pk}",
        [Move("external", holder, asset, cash, "external")],
        order=order,
    )
    ledger.post_all([ledger.fill_journal(order, fill.pk, fill)])
    return order


def _open(deployment: Deployment, order: Order, price: Decimal) -> Position:
    """Open the position with the exits of the agent's preset, and the stop and target that signals get."""
    now, rules = clock.now(), signals_policy().generate.spot
    exits = levels(
        protective_limits().exits[deployment.agent.exit_preset],  # type: ignore[index]  # the column's choices
        side=order.position_side,
        entry=price,
        opened_at=now,
        stop_loss_pct=rules.stop_loss_pct,
        take_profit_pct=rules.take_profit_pct,
    )
    position = Position.objects.create(
        deployment=deployment, entry_order=order, symbol=order.symbol, side=order.position_side,
        quantity=order.filled_quantity, entry_price=price, opened_at=now,
        correlation_id=order.correlation_id, **exits.columns(instrument(order.symbol).round_price),
    )  # fmt: skip
    record(
        "position.open", position, side=position.side, symbol=order.symbol, entry=f"{price:.8f}",
        owner_id=deployment.owner_id,
    )  # fmt: skip
    return position
