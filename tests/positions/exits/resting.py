"""A venue that keeps an entry's stop and target itself, and misbehaves as a test asks."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from maxxit.core.errors import Retryable, Unknown
from tests.fakes import AtVenue, FakeVenue
from trading.venues import background
from trading.venues.base import Leg, Prepared, Report, Request

KINDS = {"stop_loss": "stop", "take_profit": "target"}
"""Exit reason -> the member of a request that holds its price."""
LIVE = ("held", "new", "partially_filled")


@dataclass
class AtVenueLeg(AtVenue):
    """A leg: held until its entry is completely filled."""

    state: str = "held"


class RestingVenue(FakeVenue):
    """A fake venue with resting exits.

    `cancels` is the script of the coming `release` calls: ok · silent (done, no answer) · lost (not done, no answer) ·
    slow (done at the next question but one). `questions` of the coming `exits` calls: ok · away.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.capabilities = replace(self.capabilities, resting_exits=True)
        self.cancels: deque[str] = deque()
        self.questions: deque[str] = deque()
        self.asked = 0
        """Questions about exits so far."""
        self.stuck: set[str] = set()
        """Entries whose cancellation is lost."""
        self.allowed: int | None = None
        """About how many entries the rate limit lets a pass ask in the background; None: all."""
        self.read: list[str] = []
        """Entries whose exits were told so far."""
        self.on_release: Callable[[], None] = lambda: None
        """Called before each cancellation takes effect."""
        self._slow: list[tuple[int, str]] = []

    def prepare(self, request: Request) -> Prepared:
        """The same terms as text, with the levels of an entry."""
        prepared = super().prepare(request)
        levels = {
            reason: str(level)
            for reason, name in KINDS.items()
            if request.purpose == "open" and (level := getattr(request, name)) is not None
        }
        return Prepared(prepared.ref, {**prepared.payload, "exits": levels}, rests_exits=bool(levels))

    def _take(self, prepared: Prepared) -> None:
        if prepared.ref not in self.book:
            side = "sell" if prepared.payload["side"] == "buy" else "buy"
            for reason, price in prepared.payload["exits"].items():
                terms = {**prepared.payload, "side": side, "reference_price": price}
                self.book[f"{prepared.ref}:{reason}"] = AtVenueLeg(terms)
        super()._take(prepared)

    def legs(self, ref: str) -> dict[str, AtVenue]:
        """Reason -> leg of an entry, as the venue has it; active once the entry is completely filled."""
        found = {reason: self.book[key] for reason in KINDS if (key := f"{ref}:{reason}") in self.book}
        for leg in found.values():
            if leg.state == "held" and self.book[ref].state == "filled":
                leg.state = "new"
        return found

    def fires(self, ref: str, reason: str, quantity: str = "") -> None:
        """A leg fills, some or all of it; its sibling is canceled."""
        legs = self.legs(ref)
        assert legs[reason].state in ("new", "partially_filled"), legs[reason].state
        self.fill(f"{ref}:{reason}", quantity)
        for other, leg in legs.items():
            if other != reason and leg.state in LIVE:
                leg.state = "canceled"

    def find(self, ref: str) -> Report | None:
        """A leg's waiting states are accepted."""
        report = super().find(ref)
        if report is not None and report.state in ("held", "new"):
            return replace(report, state="accepted")
        return report

    def exits(self, refs: Sequence[str]) -> dict[str, tuple[Leg, ...] | Exception]:
        """What became of the legs."""
        self.asked += 1
        for at, ref in list(self._slow):
            if self.asked >= at:
                self._slow.remove((at, ref))
                self._cancel_all(ref)
        how = self.questions.popleft() if self.questions else "ok"
        if how == "away":
            raise Retryable("the venue cannot be read")
        return {ref: self._exits(ref) for ref in refs}

    def _exits(self, ref: str) -> tuple[Leg, ...] | Exception:
        if self.allowed is not None and background.is_on():
            if not self.allowed:
                return Retryable("used up", limited=True)
            self.allowed -= 1
        self.read.append(ref)
        if ref not in self.book:
            return Retryable("no such order")
        return tuple(
            Leg(
                f"{ref}:{reason}",
                reason,
                Decimal(leg.request["quantity"]),
                sum((fill.quantity for fill in leg.fills), Decimal(0)),
                leg.state not in LIVE,
            )
            for reason, leg in self.legs(ref).items()
        )

    def release(self, refs: Sequence[str]) -> None:
        """The cancellation of the legs and of the rest of the entries arrives, or does not."""
        how = self.cancels.popleft() if self.cancels else "ok"
        self.on_release()
        for ref in refs:
            if how == "slow":
                self._slow.append((self.asked + 2, ref))
            elif how != "lost" and ref not in self.stuck:
                self._cancel_all(ref)
        if how in ("silent", "lost"):
            raise Unknown("no answer")

    def _cancel_all(self, ref: str) -> None:
        for order in (self.book[ref], *self.legs(ref).values()):
            if order.state in (*LIVE, "accepted"):
                order.state = "canceled"
