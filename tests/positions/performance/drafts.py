"""Random histories of closed positions, and their parts computed one position at a time."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from itertools import count
from typing import Any

from hypothesis import strategies as st

from agents.models import Agent, CtAccount, Deployment
from maxxit.core import clock
from maxxit.core.money import split
from positions.models import Position
from positions.performance.parts import Part
from positions.performance.splitting import MEASURES
from signals_app.models import Signal
from tests import builders as make
from trading import ledger
from trading.models import Order

START = datetime(2026, 3, 2, tzinfo=UTC)
GAS_PRICE = D(2500)
"""USD of one ETH in every history."""
_number = count(1)


@dataclass(frozen=True)
class Traded:
    """One order: quantity, quote of the decision and average price in USD, and what it cost."""

    quantity: D
    quote: D
    price: D
    gas: D
    """ETH."""


@dataclass(frozen=True)
class Draft:
    """One closed position."""

    deployment: int
    symbol: str
    side: str
    exit_reason: str
    opened: int
    """Minutes after START."""
    held: int
    """Minutes."""
    entry: Traded
    exits: tuple[Traded, ...]
    """The first may have filled a part only, or nothing."""
    platform_fee: D
    venue_fee: D
    realised: D
    share: D
    posts: tuple[tuple[int, str | None], ...]
    """(author, weight) of the posts behind its signal; weights are None for a signal from before they were stored."""
    signalled: bool


def _usdc(low: str, high: str) -> st.SearchStrategy[D]:
    return st.decimals(D(low), D(high), places=6)


TRADED = st.builds(
    Traded,
    st.decimals(D("0.001"), D(3), places=6),
    _usdc("1", "5000"),
    _usdc("1", "5000"),
    st.sampled_from([D(0), D("0.000021000000000007")]),
)
UNFILLED = TRADED.map(lambda order: replace(order, quantity=D(0)))
WEIGHT = st.decimals(D(0), D(1), places=6).map(str)
POSTS = st.one_of(
    st.just(()),
    st.lists(st.tuples(st.integers(0, 3), WEIGHT), min_size=1, max_size=5).map(tuple),
    st.lists(st.tuples(st.integers(0, 3), st.none()), min_size=1, max_size=4).map(tuple),
)
DRAFTS: st.SearchStrategy[list[Draft]] = st.lists(
    st.builds(
        Draft,
        deployment=st.integers(0, 2),
        symbol=st.sampled_from(["ETH", "BTC"]),
        side=st.sampled_from(["long", "short"]),
        exit_reason=st.sampled_from(["take_profit", "stop_loss", "manual"]),
        opened=st.integers(0, 3 * 1440),
        held=st.integers(0, 1440),
        entry=TRADED,
        exits=st.lists(TRADED | UNFILLED, min_size=1, max_size=3).map(tuple),
        platform_fee=st.sampled_from([D(0), D("0.2")]),
        venue_fee=_usdc("0", "2"),
        realised=_usdc("-50", "50"),
        share=st.sampled_from([D(0), D("0.000001"), D("1.234567")]),
        posts=POSTS,
        signalled=st.booleans(),
    ),
    max_size=10,
)
MOMENTS = st.none() | st.integers(0, 5 * 1440).map(lambda minute: START + timedelta(minutes=minute))
WHOLE_DAYS = st.integers(0, 5).map(lambda day: START + timedelta(days=day))
SPANS = st.tuples(MOMENTS | WHOLE_DAYS, MOMENTS | WHOLE_DAYS)


@dataclass(frozen=True)
class World:
    """Two agents with three deployments, four authors, and a price for gas."""

    deployments: list[Deployment]
    authors: list[CtAccount]

    @classmethod
    def made(cls) -> "World":
        """Make the rows."""
        agents: list[Agent] = [make.agent(), make.agent(venue="alpaca")]
        make.hourly_bars("ETH", [float(GAS_PRICE)], until=START)
        with clock.frozen(START):
            owners = (agents[0], agents[0], agents[1])
            deployments = [make.deployment(owner, funded=False) for owner in owners]
            return cls(deployments, [make.account() for _ in range(4)])

    def close(self, draft: Draft) -> Position:
        """Write the rows of a position as booking leaves them."""
        deployment = self.deployments[draft.deployment]
        opened = START + timedelta(minutes=draft.opened)
        with clock.frozen(opened):
            signal = self._signal(draft, deployment) if draft.signalled else None
            position = make.position(
                deployment, by=signal, side=draft.side, symbol=draft.symbol, opened_at=opened,
                quantity=draft.entry.quantity, entry=str(draft.entry.price),
            )  # fmt: skip
            entry = position.entry_order
            _trade(entry, draft.entry)
            ledger.post_all([ledger.platform_fee_journal(entry, draft.platform_fee, collected=False)])
            for traded in draft.exits:
                side = "sell" if draft.side == "long" else "buy"
                closing = make.order(
                    deployment, purpose="close", side=side, closes=entry, symbol=draft.symbol
                )
                _trade(closing, traded)
        Position.objects.filter(pk=position.pk).update(
            state="closed", exit_order=closing, exit_reason=draft.exit_reason, realised_pnl=draft.realised,
            profit_share=draft.share, fees=draft.venue_fee + draft.platform_fee,
            closed_at=opened + timedelta(minutes=draft.held),
        )  # fmt: skip
        return position

    def _signal(self, draft: Draft, deployment: Deployment) -> Signal:
        posts = [(make.candidate(self.authors[author]), weight) for author, weight in draft.posts]
        weights = {str(post.pk): weight for post, weight in posts if weight is not None}
        signal = make.signal(
            deployment.agent,
            token=draft.symbol,
            side=draft.side,
            bucket=START
            + timedelta(hours=6) * Signal.objects.count(),  # one signal per agent, token and bucket
            risk_model={"posts": weights} if weights else {},
        )
        signal.posts.set([post for post, _ in posts])
        return signal

    def expected(
        self, drafts: Sequence[Draft], dimension: str, scope: Sequence[int] | None, since: Any, until: Any
    ) -> dict[str, Part]:
        """Return the parts of one dimension: key -> part."""
        parts: dict[str, Part] = defaultdict(lambda: Part(""))
        for draft in drafts:
            deployment = self.deployments[draft.deployment]
            closed = START + timedelta(minutes=draft.opened + draft.held)
            if scope is not None and deployment.pk not in scope:
                continue
            if (since and closed < since) or (until and closed >= until):
                continue
            for key, part in self._of(draft, dimension).items():
                parts[key] += part
        return {key: replace(part, key=key) for key, part in parts.items()}

    def _of(self, draft: Draft, dimension: str) -> dict[str, Part]:
        deployment, whole = self.deployments[draft.deployment], _whole(draft)
        opened = START + timedelta(minutes=draft.opened)
        closed = opened + timedelta(minutes=draft.held)
        if dimension == "author":
            return self._by_author(draft, whole)
        key = {
            "total": "",
            "day": f"{closed:%Y-%m-%d}",
            "hour": f"{opened:%H}",
            "token": draft.symbol,
            "side": draft.side,
            "exit_reason": draft.exit_reason,
            "posts": "with" if draft.signalled and draft.posts else "without",
            "deployment": str(deployment.pk),
            "agent": str(deployment.agent_id),
            "venue": deployment.agent.venue,
        }[dimension]
        return {key: whole}

    def _by_author(self, draft: Draft, whole: Part) -> dict[str, Part]:
        if not (draft.signalled and draft.posts):
            return {"": whole}
        weights: dict[int, D] = defaultdict(D)
        equal = not any(D(weight or 0) for _, weight in draft.posts)
        for author, weight in draft.posts:
            weights[self.authors[author].pk] += 1 if equal else D(weight or 0)
        authors = sorted(weights)
        shares = {
            name: split(getattr(whole, name), [weights[author] for author in authors])
            for name in MEASURES
            if name != "trades"
        }
        parts = {}
        for place, author in enumerate(authors):
            amounts: dict[str, Any] = {name: values[place] for name, values in shares.items()}
            parts[str(author)] = Part(str(author), trades=D(1), **amounts)
        return parts


def _trade(order: Order, traded: Traded) -> None:
    """Give an order what was traded, and its transaction the gas."""
    filled, name = traded.quantity > 0, f"history-{next(_number)}"
    Order.objects.filter(pk=order.pk).update(
        client_order_id=name,
        reference_price=traded.quote,
        filled_quantity=traded.quantity,
        average_price=traded.price if filled else None,
    )
    if traded.gas:
        ledger.book_gas(name, "0xE", 1, "ETH", traded.gas)


def _whole(draft: Draft) -> Part:
    """Return the part of a position that is in no other."""
    net = draft.realised - draft.share
    orders = [
        (draft.side == "long", draft.entry),
        *((draft.side == "short", traded) for traded in draft.exits),
    ]
    six = D("0.000001")
    return Part(
        "",
        closed=D(1),
        winners=D(net > 0),
        trades=D(1),
        won=max(net, D(0)),
        lost=min(net, D(0)),
        venue_fees=draft.venue_fee,
        platform_fees=draft.platform_fee,
        profit_share=draft.share,
        gas_usd=sum((traded.gas * GAS_PRICE for _, traded in orders), D(0)).quantize(six, "ROUND_HALF_UP"),
        slippage_usd=sum(
            (
                (traded.price - traded.quote) * traded.quantity * (1 if buys else -1)
                for buys, traded in orders
            ),
            D(0),
        ).quantize(six, "ROUND_HALF_UP"),
        turnover_usd=sum((traded.price * traded.quantity for _, traded in orders), D(0)).quantize(
            six, "ROUND_HALF_UP"
        ),
        held_seconds=D(draft.held * 60),
    )
