"""The generate stage: decides per agent, token and bucket on one pending signal, or records why there is none."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError, transaction

from agents.describe import names_of
from agents.models import Agent
from agents.states import AgentState
from maxxit.core import clock, correlation
from maxxit.core.errors import MaxxitError
from maxxit.events import wake
from maxxit.events.record import record, record_all
from maxxit.knowledge import retrieve
from maxxit.learning import forecasts
from maxxit.llm.ask import ask
from maxxit.llm.trace import AgentRef
from maxxit.market.instruments import instrument, listed_on, words_by_token
from maxxit.market.venues import VenuePolicy, venue_policy
from signals_app import decision_inputs, score
from signals_app.caps import Caps
from signals_app.evidence.base import Call
from signals_app.evidence.posts import shares
from signals_app.facts import Facts, gather
from signals_app.forecast_use import risk_inputs, stops
from signals_app.forecast_use.volatility_size import by_volatility
from signals_app.lanes import Lanes
from signals_app.models import CtPost, Signal
from signals_app.outcome import candidate, raise_to
from signals_app.policy import Generate
from signals_app.reading.proposal import Proposal
from signals_app.reasons import CandidateReason
from signals_app.score import Declined, Limits, Proposed, RiskRules
from signals_app.size import size_model

log = structlog.get_logger(__name__)

TRANSIENT = frozenset(
    {CandidateReason.NO_MARKET_DATA, CandidateReason.NO_PRICE, CandidateReason.MODEL_FAILED}
)
"""Reasons that may not hold at the next pass: the post is considered again within the lookback."""


@dataclass
class Generated:
    """Counts of one pass."""

    agents: int = 0
    considered: int = 0
    """Agent-token pairs that were decided on."""
    signals: int = 0
    declined: Counter[str] = field(default_factory=Counter)


@dataclass
class Decided:
    """What was decided for one agent."""

    considered: int = 0
    signals: int = 0
    declined: Counter[str] = field(default_factory=Counter)
    verdicts: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Post -> its outcomes with this agent."""


LOOK_SECONDS = 60.0
"""How long a pass waits for the next agent before it waits again."""


def generate(
    policy: Generate, agents: Iterable[Agent] | None = None, concurrency: Callable[[], int] = lambda: 1
) -> Generated:
    """Decide on signals for every active agent (or the given ones) and each token it may trade.

    Where a model reviews the trades, `concurrency` agents are decided on at once, each in a thread, and their signals
    are executed while others are still being reviewed; 1 runs in the caller's thread, one agent after the other.
    """
    chosen = list(
        agents if agents is not None else Agent.objects.filter(state=AgentState.ACTIVE).order_by("pk")
    )
    tokens = {agent.pk: agent.tokens or listed_on(agent.venue) for agent in chosen}
    at = clock.now()
    bucket = clock.bucket(at, timedelta(hours=policy.bucket_hours))
    facts = gather(chosen, {token for names in tokens.values() for token in names}, policy, at, bucket)
    done = Generated(agents=len(chosen))
    verdicts: dict[int, set[str]] = {pk: set() for pk in facts.posts}
    taken = set(Signal.objects.filter(bucket=bucket).values_list("agent_id", "token"))
    caps = Caps.read(chosen, policy, at)
    waiting = deque(chosen)
    lanes: Lanes[int, Decided] = Lanes("generate")
    while waiting or lanes.under_way():
        width = concurrency() if policy.proposer == "model" else 1
        while waiting and (busy := len(lanes.under_way())) < width:
            agent = waiting.popleft()
            step = partial(_decide, agent, tokens[agent.pk], facts, policy, caps, taken)
            lanes.start(agent.pk, step, in_thread=width > 1 or busy > 0)
        for _, decision in lanes.finished(LOOK_SECONDS):
            _add(decision.result(), done, verdicts, wake_next=agents is None)
    _close_posts(verdicts, all_agents=agents is None)
    _expire_candidates(policy, at)
    return done


def _decide(
    agent: Agent,
    tokens: Sequence[str],
    facts: Facts,
    policy: Generate,
    caps: Caps,
    taken: set[tuple[int, str]],
) -> Decided:
    """Decide on one agent and each token it may trade; store signals and the events of declined pairs."""
    done = Decided()
    for token in tokens:
        calls = facts.calls(agent, token)
        if not calls and score.uses_posts(agent.weights):
            continue
        done.considered += 1
        allowed = caps.within_author_cap(agent, calls)
        stopped = _bucket_taken(facts) if (agent.pk, token) in taken else caps.problem(agent, token, calls)
        decision = stopped or _consider(agent, token, facts, policy, allowed)
        _record_decision(agent, token, facts, decision, done.verdicts, allowed)
        if isinstance(decision, Declined):
            done.declined[decision.reason] += 1
        else:
            caps.count(agent, token, decision.scored.calls)
            done.signals += 1
    _note_unlisted(agent, tokens, facts, done.verdicts)
    return done


def _add(decided: Decided, done: Generated, verdicts: dict[int, set[str]], *, wake_next: bool) -> None:
    """Add what was decided for one agent to the pass."""
    done.considered += decided.considered
    done.signals += decided.signals
    done.declined.update(decided.declined)
    for post, outcomes in decided.verdicts.items():
        verdicts[post] |= outcomes
    if decided.signals and wake_next:
        wake.after_commit("stage.generate")


def _bucket_taken(facts: Facts) -> Declined:
    return Declined(CandidateReason.BUCKET_TAKEN, f"{facts.bucket:%Y-%m-%d %H:%M}", "one signal a bucket")


def _consider(
    agent: Agent, token: str, facts: Facts, policy: Generate, calls: Sequence[Call]
) -> Proposed | Declined:
    """Decide on one agent and token from the calls within the caps, and store the signal."""
    if token not in facts.prices:
        return Declined(CandidateReason.NO_PRICE)
    limits, social = limits_of(agent, token, policy, venue_policy(agent.venue)), facts.social.get(token)
    forecast = facts.forecast(agent, token)
    decision = score.decide(
        limits, calls, facts.markets.get(token), social, decision_inputs.return_forecast(forecast)
    )
    review: Proposal | None = None
    if isinstance(decision, Proposed) and policy.proposer == "model":
        answer = _ask_model(agent, token, facts, decision)
        if isinstance(answer, Declined):
            return answer
        review, decision = answer, score.bound(decision, answer, limits)
    if isinstance(decision, Declined):
        return decision
    decision, stop = stops.by_volatility(agent, token, decision, policy.volatility_stop, facts.at)
    expires_at = facts.at + timedelta(hours=policy.signal_ttl_hours)
    target, horizon = agent.volatility_target_pct, policy.volatility_size.horizon_hours
    volatility = (
        None if target is None else by_volatility(target, forecasts.volatility(token, horizon, facts.at))
    )
    size = size_model(agent.sizing_preset, decision.scored.confidence, len(decision.scored.calls), volatility)
    used = {
        "inputs": decision_inputs.as_json(limits, calls, social, review, forecast),
        **({"stop": stop} if stop else {}),
        **risk_inputs.read(token, listed_on(agent.venue), policy, facts.at),
    }
    stored = _store(agent, token, facts, decision, size, used, expires_at)
    return decision if stored else _bucket_taken(facts)


def limits_of(agent: Agent, token: str, policy: Generate, venue: VenuePolicy) -> Limits:
    """Return the weights, thresholds and levels by which an agent of this venue decides on a token."""
    levels = policy.spot if venue.is_spot else policy.perps
    return Limits(
        weights=agent.weights,
        min_confidence=agent.min_confidence,
        shorts=venue.shorts,
        max_leverage=venue.max_leverage,
        stop_loss_pct=levels.stop_loss_pct,
        take_profit_pct=levels.take_profit_pct,
        illiquid=instrument(token).illiquid,
        risk=RiskRules(policy.perps.medium_risk_from_pct, policy.perps.high_risk_from_pct),
    )


def _ask_model(agent: Agent, token: str, facts: Facts, proposed: Proposed) -> Proposal | Declined:
    """Return what the model says of the formula's trade; declined where it cannot be asked."""
    posts = [facts.posts[call.post] for call in proposed.scored.calls]
    data = {
        "token": token,
        "side": proposed.scored.side,
        "confidence": f"{proposed.scored.confidence:f}",
        "indicators": facts.markets[token].as_json(),
        "posts": [{"post_id": p.post_id, "author": p.account.x_username, "text": p.text} for p in posts],
    }
    if passages := _passages(agent, token, posts, facts.at):
        data["knowledge"] = passages
    corrs = [post.correlation_id for post in posts] or [_own_correlation(agent, token, facts.bucket)]
    try:
        return ask(
            purpose="generate",
            data=data,
            schema=Proposal,
            correlation_ids=corrs,
            agent=AgentRef(agent.pk, agent.name),
        ).answer
    except MaxxitError as error:
        log.error("proposal_failed", agent=agent.name, token=token, error=str(error))
        return Declined(CandidateReason.MODEL_FAILED, str(error)[:200])


def _passages(agent: Agent, token: str, posts: Sequence[CtPost], at: datetime) -> list[dict[str, str]]:
    """Retrieve passages about this trade that were known at `at`; empty where retrieval fails."""
    question = " ".join([token, *words_by_token().get(token, ()), *(post.text for post in posts)])
    try:
        passages = retrieve.passages(question, at=at, token=token, agents=names_of(agent))
        return [passage.as_data() for passage in passages]
    except MaxxitError as error:
        log.error("knowledge_away", agent=agent.name, token=token, error=str(error))
        return []


def _own_correlation(agent: Agent, token: str, bucket: datetime) -> UUID:
    """Return the correlation id of a signal without a post."""
    return correlation.derive_id("signal", agent.pk, token, bucket.isoformat())


def _store(
    agent: Agent,
    token: str,
    facts: Facts,
    proposed: Proposed,
    size: dict[str, Any],
    used: dict[str, Any],
    expires_at: datetime,
) -> bool:
    """Write the signal, its posts and its event; returns False when the bucket already has a signal.

    Args:
        size: the column `size_model`.
        used: `inputs` of the decision, and `stop`: what the stop loss is based on, where a forecast may give it.
    """
    scored = proposed.scored
    corr = facts.posts[scored.calls[0].post].correlation_id if scored.calls else None
    try:
        with transaction.atomic():
            signal = Signal.objects.create(
                agent=agent,
                token=token,
                venue=agent.venue,
                side=scored.side,
                bucket=facts.bucket,
                confidence=scored.confidence,
                entry_price=facts.prices[token].price,
                stop_loss_pct=proposed.stop_loss_pct,
                take_profit_pct=proposed.take_profit_pct,
                leverage=proposed.leverage,
                size_model=size,
                risk_model={
                    "evidence": {name: round(value, 6) for name, value in scored.evidence.items()},
                    "weights": agent.weights,
                    "posts": {str(post): f"{share:f}" for post, share in shares(scored.calls).items()},
                    **({} if venue_policy(agent.venue).is_spot else {"risk": proposed.risk}),
                    **used,
                },
                market=facts.markets[token].as_json(),
                snapshot_id=facts.snapshots.get(token),
                correlation_id=corr or _own_correlation(agent, token, facts.bucket),
                created_at=facts.at,
                expires_at=expires_at,
            )
            signal.posts.set([call.post for call in scored.calls])
            record(
                "signal.pending", signal, token=token, side=scored.side, confidence=f"{scored.confidence:f}"
            )
    except IntegrityError:
        return False
    return True


def _record_decision(
    agent: Agent,
    token: str,
    facts: Facts,
    decision: Proposed | Declined,
    verdicts: defaultdict[int, set[str]],
    allowed: Sequence[Call],
) -> None:
    """Add the decision to the outcomes of the posts, and record a declined pair as an event of each post."""
    calls = facts.calls(agent, token)
    if isinstance(decision, Proposed):
        used = {call.post for call in decision.scored.calls}
        for call in calls:
            unused = CandidateReason.OPPOSED if call in allowed else CandidateReason.AUTHOR_CAP
            verdicts[call.post].add("signal" if call.post in used else candidate(unused))
        return
    for call in calls:
        verdicts[call.post].add(candidate(decision.reason))
    data: dict[str, Any] = {
        "agent": agent.name,
        "agent_id": agent.pk,
        "token": token,
        "reason": decision.reason,
        "measured": decision.measured,
        "limit": decision.limit,
    }
    posts = [facts.posts[call.post] for call in calls]
    record_all("signal.declined", CtPost, ((post.pk, post.correlation_id, data) for post in posts))


def _note_unlisted(
    agent: Agent, tokens: Iterable[str], facts: Facts, verdicts: defaultdict[int, set[str]]
) -> None:
    """Mark followed calls on tokens that the agent does not trade."""
    listed = set(tokens)
    for post in facts.posts.values():
        if post.account_id in facts.followed.get(agent.pk, ()) and not listed & set(post.sides):
            verdicts[post.pk].add(candidate(CandidateReason.NOT_ON_VENUE))


def _close_posts(verdicts: dict[int, set[str]], *, all_agents: bool) -> None:
    """Raise each post's outcome, and mark the posts with a final decision as processed.

    `all_agents`: every active agent decided. Only then does a post without a verdict have no follower, and only then
    is a post processed.
    """
    by_outcome: dict[str, list[int]] = {}
    decided = []
    for pk, outcomes in verdicts.items():
        if all_agents and not outcomes:
            outcomes = {candidate(CandidateReason.NO_FOLLOWER)}
        for outcome in outcomes:
            by_outcome.setdefault(outcome, []).append(pk)
        if outcomes and not {outcome.partition(":")[2] for outcome in outcomes} & TRANSIENT:
            decided.append(pk)
    for outcome in sorted(by_outcome):
        raise_to(CtPost.objects.filter(pk__in=by_outcome[outcome]), outcome)
    if all_agents:
        CtPost.objects.filter(pk__in=decided).update(processed_for_signals=True)


def _expire_candidates(policy: Generate, at: datetime) -> None:
    """Give up candidates that left the lookback window without a decision."""
    waiting = CtPost.objects.filter(is_signal_candidate=True, processed_for_signals=False)
    late = waiting.filter(posted_at__lte=at - timedelta(hours=policy.max_post_age_hours))
    gone = waiting.filter(ingested_at__lte=at - timedelta(hours=policy.lookback_hours))
    raise_to(late | gone, candidate(CandidateReason.TOO_OLD))
    (late | gone).update(processed_for_signals=True)
