"""Random histories of one deployment, booked by the product's own functions: the input of tests of figures."""

import random
from dataclasses import dataclass, field
from decimal import Decimal

from agents.models import Agent, Deployment
from maxxit.core import clock
from maxxit.core.money import usdc
from maxxit.core.terms import OrderSide
from maxxit.events.record import advance
from positions import book, withdrawals
from positions.models import Position
from tests import builders as make
from trading import ledger
from trading.billing import payments, subscriptions
from trading.models import BillingEvent, JournalKind, LedgerEntry, Order
from trading.venues.base import Report, VenueFill

D = Decimal
SYMBOLS = ("ETH", "BTC")
FIRST = {"ETH": D(2000), "BTC": D(30_000)}


@dataclass
class History:
    """A deployment and the dice that decide what happens to it. The caller's venue must be one that reports nothing."""

    agent: Agent
    dice: random.Random
    collects_fees: bool = False
    """Whether the venue takes platform fee and profit share with its fills."""
    deployment: Deployment = field(init=False)

    def __post_init__(self) -> None:
        self.deployment = make.booked_deployment(self.agent, usdc=str(self.dice.randint(1_000, 50_000)))
        if self.dice.random() < 0.5:  # a Safe: its owner moves tokens
            Deployment.objects.filter(pk=self.deployment.pk).update(safe_wallet=self.deployment.account)
        for symbol, price in FIRST.items():
            make.price(symbol, str(price))

    def play(self, steps: int) -> None:
        """Let so many random things happen."""
        moves = (
            self.enter, self.enter, self.leave, self.leave, self.leave, self.reprice, self.reprice,
            self.pay_in, self.pay_out, self.owner_moves_tokens, self.owner_withdraws_position, self.burn_gas,
            self.bill_month, self.pay_debt,
        )  # fmt: skip
        for _ in range(steps):
            self.dice.choice(moves)()

    def reprice(self) -> None:
        """The market moves."""
        for symbol, price in FIRST.items():
            make.price(symbol, str((price * D(self.dice.randint(60, 160)) / 100).quantize(D("0.01"))))

    def enter(self) -> None:
        """An entry is filled, in full or in part, at once or in several fills, and booked or not yet."""
        symbol, side = self.dice.choice(SYMBOLS), self.dice.choice(("long", "long", "short"))
        order = make.order(
            self.deployment,
            by=make.signal(self.agent, token=symbol, side=side),
            side="buy" if side == "long" else "sell",
            state="accepted",
            quantity=D(self.dice.randint(1, 400)) / 100,
        )
        self._fill(order)

    def leave(self) -> None:
        """A position is closed, in full or in part; some closing orders fill nothing."""
        book.book()
        rows = list(
            Position.objects.filter(deployment=self.deployment, state="open").select_related("entry_order")
        )
        if not rows:
            return
        position = self.dice.choice(rows)
        order = make.order(
            self.deployment,
            by=position.signal,
            purpose="close",
            side="sell" if position.side == "long" else "buy",
            state="accepted",
            quantity=position.quantity - position.closed_quantity,
            closes=position.entry_order,
        )
        advance(position, "closing", why="manual", exit_reason="manual", exit_order=order)
        self._fill(order)

    def pay_in(self) -> None:
        """The owner deposits USDC."""
        self._external("USDC", D(self.dice.randint(1, 10**9)).scaleb(-6))

    def pay_out(self) -> None:
        """The owner withdraws USDC."""
        self._external("USDC", -D(self.dice.randint(1, 10**9)).scaleb(-6))

    def owner_moves_tokens(self) -> None:
        """The owner of a Safe moves tokens of his own in or out."""
        if Deployment.objects.get(pk=self.deployment.pk).safe_wallet:
            self._external("ETH", D(self.dice.randint(1, 500)).scaleb(-2))

    def owner_withdraws_position(self) -> None:
        """The owner of a Safe withdraws tokens that a position holds."""
        rows = Position.objects.filter(deployment=self.deployment, state="open", side="long", symbol="ETH")
        position = rows.first()
        if position is not None and Deployment.objects.get(pk=self.deployment.pk).safe_wallet:
            part = (position.quantity - position.closed_quantity) * D(self.dice.randint(10, 150)) / 100
            self._external("ETH", -part.quantize(D("1e-8")))
            withdrawals.close_withdrawn_positions()

    def burn_gas(self) -> None:
        """An executor pays for a transaction."""
        ledger.book_gas(f"test-{LedgerEntry.objects.count()}", "0xe", 31337, "ETH", D("0.0021"))

    def bill_month(self) -> None:
        """A month of a subscription is charged."""
        number = BillingEvent.objects.count()
        event = BillingEvent.objects.create(
            deployment=self.deployment, reference=f"test-{number}", amount=D(self.dice.randint(1, 10**8)).scaleb(-6),
            period_start=clock.now(), period_end=clock.now(), created_at=clock.now(),
        )  # fmt: skip
        assert subscriptions.charge(event.pk)

    def pay_debt(self) -> None:
        """A part of what is owed to the platform is paid from outside."""
        owed = -ledger.owed(self.deployment.pk)
        if owed > 0:
            amount = usdc(owed * self.dice.randint(1, 100) / 100)
            payments.pay(self.deployment.pk, amount, f"test {LedgerEntry.objects.count()}", by="test")

    def _external(self, asset: str, amount: Decimal) -> None:
        mine = ledger.account_of(self.deployment.pk)
        source, target = ("external", mine) if amount > 0 else (mine, "external")
        move = ledger.Move(source, target, asset, abs(amount), "external")
        ledger.post(JournalKind.EXTERNAL, LedgerEntry.objects.count(), [move])

    def _fill(self, order: Order) -> None:
        """Report one to three fills, the last of which may end the order, and book them more often than not."""
        left, reports = order.quantity or D(0), self.dice.randint(1, 3)
        for number in range(reports):
            part = (left * D(self.dice.randint(0, 100)) / 100).quantize(D("1e-8"))
            if number == reports - 1 and self.dice.random() < 0.6:
                part = left
            left -= part
            last = number == reports - 1
            state = "filled" if not left else "canceled" if last else "partially_filled"
            fills = (self._executed(order, f"{order.pk}-{number}", part),) if part else ()
            if fills or last:
                make.apply_report(
                    Order.objects.get(pk=order.pk), Report(state, fills), collects_fees=self.collects_fees
                )
            if not left:
                break
            if self.dice.random() < 0.3:
                book.book()
        if self.dice.random() < 0.7:
            book.book()

    def _executed(self, order: Order, ref: str, quantity: Decimal) -> VenueFill:
        price = (FIRST[order.symbol] * D(self.dice.randint(700, 1400)) / 1000).quantize(D("0.01"))
        cash = usdc(quantity * price)
        fee = usdc(cash * D(self.dice.randint(0, 30)) / 10_000)
        if not self.collects_fees:
            return VenueFill(ref, quantity, price, cash, fee, clock.now())
        share = usdc(cash / 100) if order.purpose == "close" and order.side == OrderSide.SELL else None
        return VenueFill(
            ref, quantity, price, cash, fee, clock.now(), platform_fee=D("0.2"), profit_share=share,
            share_receiver="0xr",
        )  # fmt: skip
