"""Decide on signals from a tape by the functions of the generate stage: caps, evidence, score, levels."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, cast

from agents.models import Agent
from maxxit.backtest.market import Market, Pass
from maxxit.backtest.settings import Settings, Trader
from maxxit.core import clock
from maxxit.market.instruments import listed_on
from maxxit.replay.tape import TapedCall
from signals_app import score
from signals_app.caps import Caps
from signals_app.evidence.base import Call, Facts
from signals_app.generate import TRANSIENT, limits_of
from signals_app.reasons import CandidateReason
from signals_app.score import Declined, Limits, Proposed, Scored

Verdict = Proposed | Declined


@dataclass(frozen=True)
class Decision:
    """A signal: what an agent decided to trade at a pass."""

    found: Pass
    trader: int
    """Place of the agent among the settings' traders."""
    token: str
    proposed: Proposed
    signal_price: Decimal
    """USD."""
    market: dict[str, float]
    """The indicators as they are stored with a signal."""

    @property
    def side(self) -> str:
        """Long or short."""
        return self.proposed.scored.side


@dataclass
class Decided:
    """The signals of a run, in order, and the counts of the others."""

    signals: list[Decision] = field(default_factory=list)
    declined: Counter[str] = field(default_factory=Counter)


class Decider:
    """Decides by settings on one market, and remembers what the same evidence gave before."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._values: dict[Any, tuple[Facts, dict[str, Decimal | None]]] = {}
        self._scored: dict[Any, Scored | None] = {}
        self._decided: dict[Any, Decided] = {}
        self._stored = cache(lambda snapshot: snapshot.as_json())

    def decide(self, settings: Settings) -> Decided:
        """Return the signals that these settings give."""
        key = (
            tuple(trader.decides_by for trader in settings.traders),
            settings.generate.model_dump_json(),
            tuple((name, venue.shorts, venue.max_leverage) for name, venue in settings.venues.items()),
        )
        if key not in self._decided:
            self._decided[key] = _Run(self._market, settings, self).decide()
        return self._decided[key]

    def scored(self, trader: Trader, at: Pass, token: str, calls: tuple[Call, ...]) -> Scored | None:
        """Return what `signals_app.score.score` gives, from the evidence computed before where that is the same."""
        used = calls if score.uses_posts(trader.weights) else ()
        of_facts = (id(at.markets[token]), used)
        key = (of_facts, tuple(sorted(trader.weights.items())))
        if key not in self._scored:
            if of_facts not in self._values:
                facts = Facts(at.markets[token], used, None)
                self._values[of_facts] = facts, score.values_of(facts)
            self._scored[key] = score.weigh(trader.weights, *self._values[of_facts])
        return self._scored[key]

    def stored(self, at: Pass, token: str) -> dict[str, float]:
        """Return the indicators as a signal's row has them."""
        return cast(dict[str, float], self._stored(at.markets[token]))


class _Run:
    """The passes of one run."""

    def __init__(self, market: Market, settings: Settings, decider: Decider) -> None:
        self._market, self._decider = market, decider
        self._policy, self._traders = settings.generate, settings.traders
        self._processed: set[int] = set()
        self._unknown = sorted(market.calls.values(), key=lambda call: -call.known_at)
        """Calls that no pass saw yet, the next one last."""
        self._known: list[TapedCall] = []
        self._taken: dict[datetime, set[tuple[int, str]]] = defaultdict(set)
        self._day: Any = None
        self._tokens: Counter[tuple[int, str]] = Counter()
        self._authors: Counter[tuple[int, int]] = Counter()
        self._limits: dict[tuple[int, str], Limits] = {
            (trader.pk, token): limits_of(
                cast(Agent, trader), token, self._policy, settings.venues[trader.venue]
            )
            for trader in self._traders
            for token in trader.tokens or listed_on(trader.venue)
        }

    def decide(self) -> Decided:
        done = Decided()
        for one in self._market.passes:
            self._pass(one, done)
        return done

    def _pass(self, at: Pass, done: Decided) -> None:
        if at.at.date() != self._day:
            self._day, self._tokens, self._authors = at.at.date(), Counter(), Counter()
        caps = Caps(self._policy, self._tokens, self._authors)
        taken = self._taken[clock.bucket(at.at, timedelta(hours=self._policy.bucket_hours))]
        waiting = list(self._waiting(at))
        transient: set[int] = set()
        for place, trader in enumerate(self._traders):
            agent = cast(Agent, trader)
            calls_of = _calls_by_token(trader, waiting, at)
            needs_calls = score.uses_posts(trader.weights)
            for token in trader.tokens or listed_on(trader.venue):
                calls = calls_of.get(token, ())
                if not calls and needs_calls:
                    continue
                allowed = caps.within_author_cap(agent, calls)
                verdict = self._verdict(agent, trader, token, at, taken, (caps, calls, allowed))
                if isinstance(verdict, Declined):
                    done.declined[verdict.reason] += 1
                    if verdict.reason in TRANSIENT:
                        transient.update(call.post for call in calls)
                    continue
                caps.count(agent, token, verdict.scored.calls)
                taken.add((trader.pk, token))
                done.signals.append(
                    Decision(
                        at, place, token, verdict, at.quotes[token].price, self._decider.stored(at, token)
                    )
                )
        self._processed.update(call.id for call in waiting if call.id not in transient)

    def _verdict(
        self,
        agent: Agent,
        trader: Trader,
        token: str,
        at: Pass,
        taken: set[tuple[int, str]],
        capped: tuple[Caps, tuple[Call, ...], tuple[Call, ...]],
    ) -> Verdict:
        caps, calls, allowed = capped
        if (trader.pk, token) in taken:
            return Declined(CandidateReason.BUCKET_TAKEN)
        if stopped := caps.problem(agent, token, calls):
            return stopped
        quote = at.quotes.get(token)
        if quote is None or not quote.trusted:
            return Declined(CandidateReason.NO_PRICE)
        if token not in at.markets:
            return Declined(CandidateReason.NO_MARKET_DATA)
        scored = self._decider.scored(trader, at, token, allowed)
        return score.judge(self._limits[trader.pk, token], scored, at.markets[token])

    def _waiting(self, at: Pass) -> Iterator[TapedCall]:
        """Return the candidates of the lookback window that are not decided on yet, as `signals_app.facts.gather`."""
        now = at.at.timestamp()
        lookback, age = self._policy.lookback_hours * 3600, self._policy.max_post_age_hours * 3600
        while self._unknown and self._unknown[-1].known_at <= now:
            self._known.append(self._unknown.pop())
        self._known = [
            call
            for call in self._known
            if call.id not in self._processed
            and call.ingested_at > now - lookback
            and call.posted_at > now - age
        ]  # passes come in the order of time: what is too old now stays so
        return (call for call in self._known if call.ingested_at <= now)


def _calls_by_token(trader: Trader, waiting: list[TapedCall], at: Pass) -> dict[str, tuple[Call, ...]]:
    found: dict[str, list[Call]] = defaultdict(list)
    for post in sorted(waiting, key=lambda one: one.id):
        if post.account not in trader.follows or post.confidence is None:
            continue
        for token, side in post.sides.items():
            call = Call(
                post.id, side, Decimal(post.confidence), at.impacts[post.account], post.account,
                post.reactions,
            )  # fmt: skip
            found[token].append(call)
    return {token: tuple(calls) for token, calls in found.items()}
