"""Exits that a lying venue of T0 and T2 keeps itself: they fire beside ours, while messages about them go astray."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from maxxit.core.errors import Retryable, Unknown
from trading.venues.base import Leg, Request

CHANCES = {
    "release": {
        "503": 0.1,
        "lost, silent": 0.12,
        "taken, silent": 0.1,
        "slow to end": 0.1,
        "fires first": 0.12,
        "fires in part first": 0.1,
        "worker dies before": 0.02,
        "worker dies after": 0.04,
        "another worker meanwhile": 0.06,
    },
    "exits": {
        "503": 0.1,
        "silent": 0.08,
        "old": 0.08,
        "fires after the answer": 0.08,
        "worker dies before": 0.02,
        "worker dies after": 0.04,
        "another worker meanwhile": 0.06,
    },
}
"""Message -> what goes wrong with it -> how often, at full intensity."""
ACTIVE = ("accepted", "partially_filled")
ENDED = ("filled", "canceled")
FIRES_ALONE = 0.04
"""How often an exit fires in a round although our price has not reached it: the venue has prices of its own."""


@dataclass
class Exit:
    """One exit of an entry."""

    reason: str
    price: Decimal
    order: Any
    """As `simulation_venue.Taken`, held until the entry is filled."""


@dataclass
class Pair:
    """The exits of one entry."""

    entry: Any
    exits: list[Exit]
    said: list[tuple[Leg, ...]] = field(default_factory=list)
    canceled_at_question: int | None = None
    """A slow cancellation takes effect at this question."""


def levels(request: Request) -> dict[str, str]:
    """The exits that an entry takes along, as text."""
    both = {"stop_loss": request.stop, "take_profit": request.target}
    return {reason: str(level) for reason, level in both.items() if level is not None}


class RestingExits:
    """All pairs of one venue. `execute(ref, order, quantity, price)` moves tokens and cash there."""

    def __init__(
        self, lot: Any, execute: Callable[[str, Any, Decimal, Decimal], None], book: dict[str, Any]
    ) -> None:
        self.lot, self.execute, self.book = lot, execute, book
        self.pairs: dict[str, Pair] = {}
        self.questions = 0

    def add(self, ref: str, entry: Any, exits: list[Exit]) -> None:
        """An entry was taken with its exits."""
        self.pairs[ref] = Pair(entry, exits)

    def move(self, ref: str) -> None:
        """Let exits work once their entry is filled, and end them where it ended otherwise."""
        pair = self.pairs[ref]
        for one in pair.exits:
            if one.order.state == "held" and pair.entry.state == "filled":
                one.order.state = "accepted"
            elif one.order.state == "held" and pair.entry.state in ("canceled", "rejected"):
                one.order.state = "canceled"

    def fire(self, ref: str, one: Exit, *, in_part: bool = False) -> None:
        """An exit executes, all or a part; the whole of it cancels its sibling."""
        if one.order.state not in ACTIVE:
            return
        left = Decimal(one.order.terms["quantity"]) - one.order.filled
        part = (left / 3).quantize(Decimal("0.00001"))
        quantity = part if in_part and part else left
        name = f"{ref}/{one.reason}"
        self.book[name] = one.order  # from now on it is an order that the audit must find with us
        self.execute(name, one.order, quantity, one.price)
        one.order.state = "filled" if quantity == left else "partially_filled"
        for other in self.pairs[ref].exits:
            if other is not one and other.order.state in (*ACTIVE, "held"):
                other.order.state = "canceled"

    def market(self, price_of: Callable[[str], Decimal | None]) -> None:
        """A round of the venue's market: what its price reached fires, and now and then something else."""
        for ref, pair in self.pairs.items():
            self.move(ref)
            if all(one.order.state in ENDED for one in pair.exits):
                continue
            price = price_of(pair.entry.terms["symbol"])
            sign = 1 if pair.entry.terms["side"] == "buy" else -1
            for one in pair.exits:
                beyond = sign if one.reason == "take_profit" else -sign
                reached = price is not None and beyond * (price - one.price) >= 0
                if reached or self.lot.dice.random() < FIRES_ALONE * self.lot.intensity:
                    self.lot.happened("exits", "fires at the venue")
                    self.fire(ref, one, in_part=bool(self.lot.dice.random() < 0.3 * self.lot.intensity))
                    break

    def legs(self, ref: str) -> tuple[Leg, ...]:
        """What the venue says of an entry's exits."""
        self.move(ref)
        return tuple(
            Leg(
                f"{ref}/{one.reason}",
                one.reason,
                Decimal(one.order.terms["quantity"]),
                one.order.filled,
                one.order.state in ENDED,
            )
            for one in self.pairs[ref].exits
        )

    def ask(self, refs: Sequence[str], crash: type[BaseException], meanwhile: Callable[[], None]) -> Any:
        """`Venue.exits`, with what goes wrong with it."""
        self.questions += 1
        how = self.lot.draw("exits")
        if how and how != "another worker meanwhile":
            self.lot.happened("exits", how)
        if how == "worker dies before":
            raise crash
        if how in ("503", "silent"):
            raise (Retryable if how == "503" else Unknown)("no answer")
        answers: dict[str, tuple[Leg, ...] | Exception] = {}
        for ref in refs:
            if ref not in self.pairs:
                answers[ref] = Retryable("no such order")
                continue
            pair = self.pairs[ref]
            if pair.canceled_at_question is not None and self.questions >= pair.canceled_at_question:
                pair.canceled_at_question = None
                self._cancel(ref)
            answer = self.legs(ref)
            answers[ref] = self.lot.dice.choice(pair.said) if how == "old" and pair.said else answer
            pair.said.append(answer)
            if how == "fires after the answer":
                self.fire(ref, self.lot.dice.choice(pair.exits))
        if how == "another worker meanwhile":
            meanwhile()
        if how == "worker dies after":
            raise crash
        return answers

    def release(self, refs: Sequence[str], crash: type[BaseException], meanwhile: Callable[[], None]) -> None:
        """`Venue.release`, with what goes wrong with it."""
        how = self.lot.draw("release")
        if how and how != "another worker meanwhile":
            self.lot.happened("release", how)
        if how == "worker dies before":
            raise crash
        if how == "503":
            raise Retryable("the venue is away")
        for ref in refs:
            if ref in self.pairs and how != "lost, silent":
                self._released(ref, how)
        if how == "another worker meanwhile":
            meanwhile()
        if how == "worker dies after":
            raise crash
        if how in ("lost, silent", "taken, silent"):
            raise Unknown("no answer")

    def _released(self, ref: str, how: str) -> None:
        self.move(ref)
        if how in ("fires first", "fires in part first"):
            self.fire(ref, self.lot.dice.choice(self.pairs[ref].exits), in_part=how != "fires first")
        if how == "slow to end":
            self.pairs[ref].canceled_at_question = self.questions + self.lot.dice.choice((1, 2, 4))
        else:
            self._cancel(ref)

    def _cancel(self, ref: str) -> None:
        pair = self.pairs[ref]
        self.move(ref)
        if pair.entry.state in ACTIVE:
            pair.entry.plan, pair.entry.state = [], "canceled"
        for one in pair.exits:
            if one.order.state in (*ACTIVE, "held"):
                one.order.state = "canceled"
