"""Decide once more on what is stored of a trade, and compare stage by stage with what was decided.

The recorded answers of models are inputs, and so are the calls, limits and indicators that are stored with a signal.
Execution and exits depend on balances, other orders and prices of their moment, which only a replay of the whole span
has: their records are hashed, not decided again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from agents.evidence import EVIDENCE
from maxxit.core.money import plain
from maxxit.llm import recordings
from maxxit.llm.models import LlmTrace
from maxxit.market.instruments import stablecoins, words_by_token
from maxxit.reports.trades import trace
from positions.models import Position
from signals_app import decision_inputs
from signals_app.evidence.posts import shares
from signals_app.models import CtPost, Signal
from signals_app.reading.schema import Reading, Readings
from signals_app.score import Declined, Proposed, bound_levels
from signals_app.verify import verify
from trading.models import Fill, Order

NOT_ALONE = "needs the balances, orders and prices of its moment: replay the span"
NO_ANSWER = "the model's answer is not stored any more"
NO_INPUTS = "stored by a version that did not keep what the decision used"


@dataclass(frozen=True)
class Stage:
    """One stage of one row: what is recorded, and what the same inputs give now."""

    name: str
    row: str
    recorded: Mapping[str, Any]
    again: Mapping[str, Any] | None
    """None: not decided again, see `why`."""
    why: str = ""

    @property
    def equal(self) -> bool | None:
        """Whether both agree; None where it was not decided again."""
        return None if self.again is None else digest(self.recorded) == digest(self.again)

    @property
    def difference(self) -> str:
        """The first field that differs, with both values; empty where none does."""
        if self.again is None or self.equal:
            return ""
        names = dict.fromkeys((*self.again, *self.recorded))
        name = next(name for name in names if self.recorded.get(name) != self.again.get(name))
        before, now = (recordings.canonical(values.get(name)) for values in (self.recorded, self.again))
        return f"{name}: recorded {before}, now {now}"

    def as_json(self) -> dict[str, Any]:
        """Return the stage with its hashes."""
        return {
            "stage": self.name,
            "row": self.row,
            "sha256": digest(self.recorded),
            "again_sha256": None if self.again is None else digest(self.again),
            "equal": self.equal,
            "difference": self.difference,
            "why": self.why,
            "recorded": self.recorded,
            "again": self.again,
        }


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of a stage's result."""
    return recordings.digest(value)


def rerun(correlation_id: UUID) -> list[Stage]:
    """Return the stages of every row under a correlation id, in the order of the pipeline.

    Raises Rejected where there is no such row.
    """
    found = trace.follow(correlation_id)
    return [
        *(_ingest(post) for post in found.posts),
        *(_classify(post, found.traces) for post in found.posts),
        *(_generate(signal) for signal in found.signals),
        *(
            _execute(order, [fill for fill in found.fills if fill.order_id == order.pk])
            for order in found.orders
        ),
        *(_monitor(position) for position in found.positions),
    ]


def correlation_ids(start: datetime, end: datetime) -> Iterator[UUID]:
    """Yield the correlation ids of the posts that were stored in [start, end) and read, the oldest first."""
    posts = CtPost.objects.filter(ingested_at__gte=start, ingested_at__lt=end).exclude(confidence=None)
    yield from posts.order_by("pk").values_list("correlation_id", flat=True).iterator()


def _ingest(post: CtPost) -> Stage:
    recorded = {
        "post_id": post.post_id,
        "author": post.account.x_username,
        "text": post.text,
        "posted_at": post.posted_at.isoformat(),
        "ingested_at": post.ingested_at.isoformat(),
    }
    return Stage("ingest", f"post {post.pk}", recorded, None, "this is the input")


def _classify(post: CtPost, traces: Iterable[LlmTrace]) -> Stage:
    recorded = {
        "candidate": post.is_signal_candidate,
        "tokens": post.tokens,
        "sides": post.sides,
        "sentiment": post.sentiment,
        "confidence": None if post.confidence is None else plain(post.confidence),
    }
    reading = _reading(post, traces)
    if reading is None:
        return Stage("classify", f"post {post.pk}", recorded, None, NO_ANSWER)
    verified = verify(reading, post.text, words_by_token(), stablecoins())
    again = {
        "candidate": verified.candidate,
        "tokens": list(verified.tokens),
        "sides": verified.sides,
        "sentiment": reading.sentiment,
        "confidence": plain(reading.confidence),
    }
    return Stage("classify", f"post {post.pk}", recorded, again)


def _reading(post: CtPost, traces: Iterable[LlmTrace]) -> Reading | None:
    """Return what the newest stored answer says of a post."""
    found = None
    for call in traces:
        if call.purpose != "classify" or post.correlation_id not in call.correlation_ids:
            continue
        for reading in _readings(call.response):
            if reading.post_id == post.post_id:
                found = reading
    return found


def _readings(response: Any) -> Sequence[Reading]:
    try:
        return Readings.model_validate(response).readings
    except ValidationError:
        usable = Readings.lenient(response)
        return usable.readings if usable else ()


def _generate(signal: Signal) -> Stage:
    used = signal.risk_model
    row = f"signal {signal.pk}"
    recorded = _decision(
        signal.side, signal.confidence, signal.stop_loss_pct, signal.take_profit_pct, signal.leverage
    ) | {"evidence": _with_new_pieces(used.get("evidence")), "posts": used.get("posts")}
    if "inputs" not in used:
        return Stage("generate", row, recorded, None, NO_INPUTS)
    try:
        decision = decision_inputs.decide_again(used["inputs"], used["weights"], signal.indicators)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:  # a damaged row stops no other
        return Stage("generate", row, recorded, {"unreadable": f"{type(error).__name__}: {error}"})
    if isinstance(decision, Declined):
        return Stage("generate", row, recorded, {"declined": decision.reason, **asdict(decision)})
    scored, decision = decision.scored, _with_stop(decision, used.get("stop", {}))
    again = _decision(
        scored.side, scored.confidence, decision.stop_loss_pct, decision.take_profit_pct, decision.leverage
    ) | {
        "evidence": {name: round(value, 6) for name, value in scored.evidence.items()},
        "posts": {str(post): f"{share:f}" for post, share in shares(scored.calls).items()},
    }
    return Stage("generate", row, recorded, again)


def _with_new_pieces(evidence: Any) -> Any:
    """Return recorded evidence, where a piece that came after the decision had no value, as any without facts."""
    return dict.fromkeys(EVIDENCE, 0.0) | evidence if isinstance(evidence, dict) else evidence


def _with_stop(decision: Proposed, stop: Mapping[str, Any]) -> Proposed:
    """Return the decision with the stop loss that a volatility forecast gave, where one did."""
    if stop.get("basis") != "forecast":
        return decision
    wanted = Decimal(stop["wanted_pct"])
    near, far = bound_levels(wanted, decision.take_profit_pct, decision.leverage)
    return replace(decision, stop_loss_pct=near, take_profit_pct=far)


def _decision(
    side: str, confidence: Decimal, stop: Decimal, take: Decimal, leverage: Decimal
) -> dict[str, Any]:
    return {
        "side": side,
        "confidence": plain(confidence),
        "stop_loss_pct": plain(stop),
        "take_profit_pct": plain(take),
        "leverage": plain(leverage),
    }


def _execute(order: Order, fills: Iterable[Fill]) -> Stage:
    recorded = {
        "purpose": order.purpose,
        "symbol": order.symbol,
        "side": order.side,
        "state": order.state,
        "reason": order.reason,
        "quantity": None if order.quantity is None else plain(order.quantity),
        "fills": [[plain(fill.quantity), plain(fill.price), plain(fill.fee)] for fill in fills],
    }
    return Stage("execute", f"order {order.pk}", recorded, None, NOT_ALONE)


def _monitor(position: Position) -> Stage:
    recorded = {
        "state": position.state,
        "exit_reason": position.exit_reason,
        "quantity": plain(position.quantity),
        "entry_price": plain(position.entry_price),
        "exit_price": None if position.exit_price is None else plain(position.exit_price),
        "realised_pnl": plain(position.realised_pnl),
        "fees": plain(position.fees),
    }
    return Stage("monitor", f"position {position.pk}", recorded, None, NOT_ALONE)
