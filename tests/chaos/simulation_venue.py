"""The venue of the simulation: a book in memory that is the truth, behind messages that are lost, late or denied.

What goes wrong is drawn by lot from one seeded source (`Lot`) and counted when it took effect. The venue keeps the
promises that an adapter's `Capabilities` make, and no others: a repeat is recognised where `dedup`, an order is denied
for at most `find_lag`, nothing is done after the order's deadline.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import USDC, ZERO, usdc
from tests.chaos import simulation_exits
from tests.chaos.simulation_exits import Exit, RestingExits
from trading.venues.base import Capabilities, Leg, Prepared, Report, Request, Venue, VenueFill

FEE = Decimal("0.001")
LOT = Decimal("0.00001")
MEANWHILE = "another worker meanwhile"
UNSEEN = "find, unseen"
"""A question after an order that the venue does not have yet, or still denies: here the moment of asking counts."""
CHANCES: Mapping[str, Mapping[str, float]] = {
    "send": {
        "not arrived, known": 0.10,
        "lost, silent": 0.10,
        "taken, silent": 0.14,
        "arrives late": 0.08,
        "delivered twice": 0.10,
        "refused": 0.03,
        "slow": 0.05,
        "worker dies before": 0.05,
        "worker dies after": 0.07,
        MEANWHILE: 0.05,
    },
    "find": {
        "503": 0.41,
        "silent": 0.41,
        "denied": 0.08,
        "old": 0.03,
        "fills shuffled and doubled": 0.02,
        "slow": 0.002,
        "worker dies before": 0.004,
        "worker dies after": 0.004,
        MEANWHILE: 0.02,
        "garbage": 0.001,
    },
    UNSEEN: {
        "503": 0.34,
        "silent": 0.34,
        "denied": 0.10,
        "slow": 0.03,
        "worker dies before": 0.004,
        "worker dies after": 0.004,
        MEANWHILE: 0.02,
    },
    "ask": {"503": 0.04, "silent": 0.02, "objects": 0.02, "thin": 0.02, MEANWHILE: 0.05},
    "cancel": {"lost, silent": 0.15, "503": 0.1, "taken, silent": 0.1},
    "balances": {"503": 0.2, "silent": 0.1},
    **simulation_exits.CHANCES,
}
"""Message -> what goes wrong with it -> how often, at full intensity."""
PLANS = {
    "at once": 0.35,
    "in parts": 0.2,
    "slowly": 0.15,
    "later": 0.15,
    "a part, then canceled": 0.1,
    "refused later": 0.05,
}


class Crash(BaseException):
    """The worker is dead at this instruction: what was not committed is gone. No handler of the product sees it."""


@dataclass
class Lot:
    """Draws what goes wrong, and counts it."""

    dice: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    intensity: float = 1.0
    """0: nothing goes wrong by lot any more."""
    plans: Mapping[str, float] = field(default_factory=lambda: PLANS)
    """How often an order that was taken ends how."""
    script: dict[str, list[str]] = field(default_factory=dict)
    """Message -> what goes wrong with the next ones, before any lot is drawn."""

    def draw(self, message: str, chances: str = "") -> str:
        """What goes wrong with this message, or an empty string. `happened` counts it."""
        if self.script.get(message):
            return self.script[message].pop(0)
        point = self.dice.random() / self.intensity if self.intensity else 2.0
        for name, chance in CHANCES[chances or message].items():
            point -= chance
            if point < 0:
                return name
        return ""

    def plan(self) -> str:
        """How an order that was taken will execute."""
        if self.script.get("plan"):
            return self.script["plan"].pop(0)
        return (
            self.dice.choices(list(self.plans), list(self.plans.values()))[0] if self.intensity else "at once"
        )

    def hidden(self) -> float:
        """For which part of its longest lag a venue denies an order that it has taken."""
        if self.script.get("hidden"):
            return float(self.script["hidden"].pop(0))
        return self.dice.choice((0, 0.1, 0.5, 1)) if self.intensity else 1.0

    def happened(self, message: str, what: str) -> None:
        """It took effect."""
        self.counts[f"{message}: {what}"] += 1


@dataclass
class Taken:
    """One order as the venue holds it."""

    terms: Mapping[str, str]
    plan: list[Decimal]
    """Quantities that execute at the coming looks."""
    end: str
    """The state when the plan is over: filled, canceled or rejected."""
    hidden_until: datetime
    state: str = "accepted"
    fills: list[VenueFill] = field(default_factory=list)
    said: list[Report] = field(default_factory=list)

    @property
    def filled(self) -> Decimal:
        """Tokens so far."""
        return sum((one.quantity for one in self.fills), ZERO)


class SimulatedVenue(Venue):
    """One venue. `tell` are the world's ears and hands: see `simulation.World`."""

    def __init__(
        self,
        name: str,
        tell: Any,
        lot: Lot,
        *,
        dedup: bool,
        find_lag: timedelta,
        batch: int = 1,
        resting_exits: bool = False,
    ) -> None:
        self.name, self.tell, self.lot = name, tell, lot
        self.capabilities = Capabilities(
            dedup=dedup,
            shorts=True,
            max_leverage=Decimal(1),
            collects_fees=False,
            find_lag=find_lag,
            batch=batch,
            resting_exits=resting_exits,
        )
        self.book: dict[str, Taken] = {}
        self.effects: Counter[str] = Counter()
        """Client order id -> how many orders it became."""
        self.refused: set[str] = set()
        self.late: list[tuple[datetime, Prepared]] = []
        self.cash: Counter[tuple[str, str]] = Counter()
        """(account, asset) -> what it holds, Decimals."""
        self.resting = RestingExits(lot, self._fill, self.book)

    # -- what the product calls

    def prepare(self, request: Request) -> Prepared:
        """The order as it will be sent; the world looks at it, in the reserving transaction."""
        self.tell.reserved(request)
        names = ("account", "symbol", "side", "purpose", "quantity", "reference_price")
        payload = {name: str(getattr(request, name)) for name in names}
        exits: dict[str, Any] = {}
        if self.capabilities.resting_exits and request.purpose == "open":
            exits = simulation_exits.levels(request)
        terms = payload | {"deadline": request.deadline.isoformat(), **({"exits": exits} if exits else {})}
        return Prepared(request.client_order_id, terms, rests_exits=bool(exits))

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """A batch leaves as one request: the world judges all of it before anything goes wrong with any part."""
        if len(orders) == 1:
            return super().send_many(orders)
        for prepared in orders:
            self.tell.leaves(self.name, prepared)
        errors: dict[str, Exception] = {}
        for prepared in orders:
            try:
                self._send(prepared, alone=False)
            except (Rejected, Retryable, Unknown) as error:
                errors[prepared.ref] = error
        if self.lot.draw("send") == MEANWHILE:
            self.tell.meanwhile()
        return errors

    def send(self, prepared: Prepared) -> None:
        """An order leaves. Whether it may is the world's to judge, before anything goes wrong with it."""
        self.tell.leaves(self.name, prepared)
        self._send(prepared, alone=True)

    def _send(self, prepared: Prepared, *, alone: bool) -> None:
        self.arrive()
        how = self.lot.draw("send")
        if how == MEANWHILE and not alone:
            how = ""
        if how == "delivered twice" and not self.capabilities.dedup:
            how = "taken, silent"
        if how == "refused" and prepared.ref in self.book:
            how = ""
        if how and how != MEANWHILE:
            self.lot.happened("send", how)
        self._underway(how, prepared)
        for _ in range(2 if how == "delivered twice" else 1):
            self._take(prepared)
        if how == MEANWHILE:
            self.tell.meanwhile()
        if how == "worker dies after":
            raise Crash
        if how == "taken, silent":
            raise Unknown("no answer")

    def _underway(self, how: str, prepared: Prepared) -> None:
        """What happens to the message, or its sender, before it arrives."""
        if how == "worker dies before":
            raise Crash
        if how == "not arrived, known":
            raise Retryable("the venue is away")
        if how == "arrives late":
            after = timedelta(seconds=self.lot.dice.choice((0.5, 5, 60, 250, 400)))
            self.late.append((self.tell.true_now() + after, prepared))
        if how in ("lost, silent", "arrives late"):
            raise Unknown("no answer")
        if how == "slow":
            self.tell.passes(self.lot.dice.choice((1, 5, 20)))
        if how == "refused":
            self.refused.add(prepared.ref)

    def find(self, ref: str) -> Report | None:
        """Where the order stands, if the venue wants to say so."""
        self.arrive()
        known = self.book.get(ref)
        hidden = known is not None and self.tell.true_now() < known.hidden_until
        how = self.lot.draw("find", UNSEEN if known is None or hidden else "find")
        if how == "worker dies before":
            self.lot.happened("find", how)
            raise Crash
        if how in ("503", "silent"):
            self.lot.happened("find", how)
            raise (Retryable if how == "503" else Unknown)("no answer")
        if how == "garbage":
            self.lot.happened("find", how)
            raise KeyError("state")
        if hidden and how in ("denied", "slow", MEANWHILE):
            known = None
        report = self._look(known, how) if known else None
        if how == "denied" and hidden:
            self.lot.happened("find", how)
        elif how == "slow":
            self.lot.happened("find", how)
            self.tell.passes(self.lot.dice.choice((1, 20, 400)))
        elif how == MEANWHILE:
            self.tell.meanwhile()
        elif how == "worker dies after":
            self.lot.happened("find", how)
            raise Crash
        return report

    def exits(self, refs: Sequence[str]) -> dict[str, tuple[Leg, ...] | Exception]:
        """What became of the exits that it keeps."""
        self.arrive()
        answers: dict[str, tuple[Leg, ...] | Exception] = self.resting.ask(refs, Crash, self.tell.meanwhile)
        return answers

    def release(self, refs: Sequence[str]) -> None:
        """Cancel them, if the message arrives."""
        self.resting.release(refs, Crash, self.tell.meanwhile)

    def cancel(self, ref: str) -> None:
        """What is left of an order is withdrawn, if the message arrives."""
        how = self.lot.draw("cancel")
        if how:
            self.lot.happened("cancel", how)
        if how == "503":
            raise Retryable("the venue is away")
        if how == "lost, silent":
            raise Unknown("no answer")
        known = self.book.get(ref)
        if known is None:
            raise Rejected("no such order", code="no_such_order")
        if known.state in ("accepted", "partially_filled"):
            known.plan, known.state = [], "canceled"
        if how == "taken, silent":
            raise Unknown("no answer")

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Now and then it is closed, or does not say."""
        how = self.lot.draw("ask")
        if how and how not in ("thin", MEANWHILE):
            self.lot.happened("ask", how)
        if how == "503":
            raise Retryable("the venue is away")
        if how == "silent":
            raise Unknown("no answer")
        if how == MEANWHILE:
            self.tell.meanwhile()
        return "market_closed" if how == "objects" else ""

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """The believed price; far from it where the book is thin."""
        price: Decimal | None = self.tell.believed(symbol)
        if price is None or self.lot.draw("ask") != "thin":
            return price
        self.lot.happened("ask", "thin")
        return price * Decimal("1.5" if side == "buy" else "0.5")

    def balances(self, account: str) -> dict[str, Decimal]:
        """What the account really holds, if it can be read."""
        how = self.lot.draw("balances")
        if how:
            self.lot.happened("balances", how)
            raise (Retryable if how == "503" else Unknown)("no answer")
        return {
            asset: Decimal(held) for (owner, asset), held in self.cash.items() if owner == account and held
        }

    # -- what really happens

    def deposit(self, account: str, amount: Decimal) -> None:
        """Money comes in."""
        self._move(account, USDC, amount)

    def arrive(self) -> None:
        """Messages that were on their way for long enough."""
        now = self.tell.true_now()
        there = [prepared for at, prepared in self.late if at <= now]
        self.late = [one for one in self.late if one[0] > now]
        for prepared in there:
            try:
                self._take(prepared)
            except Rejected:
                self.lot.happened("send", "late beyond its deadline")

    def _take(self, prepared: Prepared) -> None:
        """A repeat is known before it is judged, where repeats are known at all."""
        ref, terms = prepared.ref, dict(prepared.payload)
        if self.capabilities.dedup and ref in self.book:
            return
        now = self.tell.true_now()
        if now >= datetime.fromisoformat(terms["deadline"]):
            raise Rejected("the order came after its deadline", code="deadline_passed")
        if ref in self.refused:
            raise Rejected("no such market today", code="market_closed")
        self.effects[ref] += 1
        if ref in self.book:
            return  # a second order, which the audit finds by its count
        how = self.lot.plan()
        whole = Decimal(terms["quantity"])
        part = (whole / 3).quantize(LOT)
        plan, end = {
            "at once": ([whole], "filled"),
            "in parts": ([part, part, whole - 2 * part], "filled"),
            "slowly": ([ZERO, part, *[ZERO] * 14, whole - part], "filled"),
            "later": ([ZERO, ZERO, whole], "filled"),
            "a part, then canceled": ([part], "canceled"),
            "refused later": ([ZERO], "rejected"),
        }[how]
        hidden = self.capabilities.find_lag * self.lot.hidden()
        self.book[ref] = Taken(terms, plan, end, now + hidden)
        if exits := terms.get("exits"):
            side = "sell" if terms["side"] == "buy" else "buy"
            kept = [
                Exit(
                    reason,
                    Decimal(price),
                    Taken({**terms, "side": side, "reference_price": price}, [], "", now, "held"),
                )
                for reason, price in exits.items()
            ]
            self.resting.add(ref, self.book[ref], kept)
        if how == "at once":
            self._execute(ref, self.book[ref])

    def _execute(self, ref: str, known: Taken) -> None:
        """The next part of the plan, and the end after the last."""
        quantity = known.plan.pop(0)
        if quantity:
            step = Decimal(self.lot.dice.choice((0, 1, 2, 5))) / 10_000
            sign = 1 if known.terms["side"] == "buy" else -1
            price = (Decimal(known.terms["reference_price"]) * (1 + sign * step)).quantize(Decimal("0.0001"))
            self._fill(ref, known, quantity, price)
        known.state = "partially_filled" if known.fills else "accepted"
        if not known.plan:
            known.state = known.end

    def _fill(self, ref: str, known: Taken, quantity: Decimal, price: Decimal) -> None:
        """Tokens and cash change hands."""
        sign = 1 if known.terms["side"] == "buy" else -1
        cash = usdc(quantity * price)
        fee = usdc(cash * FEE)
        fill = f"{self.name}-{ref}-{len(known.fills)}"
        known.fills.append(VenueFill(fill, quantity, price, cash, fee, self.tell.true_now()))
        account = known.terms["account"]
        self._move(account, known.terms["symbol"], sign * quantity)
        self._move(account, USDC, -sign * cash - fee)

    def _look(self, known: Taken, how: str) -> Report:
        if known.plan:
            ref = next(ref for ref, one in self.book.items() if one is known)
            self._execute(ref, known)
        fills = list(known.fills)
        if how == "old" and known.said:
            self.lot.happened("find", how)
            return self.lot.dice.choice(known.said)
        if how == "fills shuffled and doubled" and fills:
            self.lot.happened("find", how)
            fills = fills + fills[:1]
            self.lot.dice.shuffle(fills)
        reason = "it changed its mind" if known.state in ("canceled", "rejected") else ""
        report = Report(known.state, tuple(fills), reason)
        known.said.append(report)
        return report

    def _move(self, account: str, asset: str, amount: Decimal) -> None:
        self.cash[account, asset] += amount  # type: ignore[assignment]  # a Counter of Decimals
