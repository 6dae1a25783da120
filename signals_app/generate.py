"""candidates and indicators -> at most one pending signal per agent, token and bucket, or the reason for none"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError, transaction

from agents.models import Agent
from agents.states import AgentState
from maxxit.core import clock, correlation
from maxxit.core.errors import MaxxitError
from maxxit.events.record import record, record_all
from maxxit.knowledge import retrieve
from maxxit.llm.ask import ask
from maxxit.market.instruments import instrument, listed_on, words_by_token
from maxxit.market.venues import venue_policy
from signals_app import score
from signals_app.caps import Caps
from signals_app.facts import Facts, gather
from signals_app.models import CtPost, Signal
from signals_app.outcome import raise_to
from signals_app.policy import Generate
from signals_app.reading.proposal import Proposal
from signals_app.score import Call, Declined, Proposed, Rules
from signals_app.size import size_model

log = structlog.get_logger(__name__)

TRANSIENT = frozenset({"no_market_data", "no_price", "model_failed"})
"""Reasons that may be gone at the next pass: the post is considered again while it is within the lookback."""


@dataclass
class Generated:
    """What one pass did."""

    agents: int = 0
    considered: int = 0
    """Agent-token pairs with something to decide on."""
    signals: int = 0
    declined: Counter[str] = field(default_factory=Counter)


def generate(policy: Generate, agents: Iterable[Agent] | None = None) -> Generated:
    """Decide for every active agent (or the given ones) and each token it may trade."""
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
    caps = Caps(chosen, policy, at)
    for agent in chosen:
        for token in tokens[agent.pk]:
            calls = facts.calls(agent, token)
            if not calls and agent.weight_tweet:
                continue
            done.considered += 1
            heard = caps.heard(agent, calls)
            stopped = (
                _bucket_taken(facts) if (agent.pk, token) in taken else caps.problem(agent, token, calls)
            )
            made = stopped or _consider(agent, token, facts, policy, heard)
            _tell(agent, token, facts, made, verdicts, heard)
            if isinstance(made, Declined):
                done.declined[made.reason] += 1
            else:
                caps.took(agent, token, made.scored.calls)
                done.signals += 1
        _note_unlisted(agent, tokens[agent.pk], facts, verdicts)
    _close_posts(verdicts, whole=agents is None)
    _let_go(policy, at)
    return done


def _bucket_taken(facts: Facts) -> Declined:
    return Declined("bucket_taken", f"{facts.bucket:%Y-%m-%d %H:%M}", "one signal a bucket")


def _consider(
    agent: Agent, token: str, facts: Facts, policy: Generate, heard: Sequence[Call]
) -> Proposed | Declined:
    """Decide on one pair by the calls that may be heard, and store the signal."""
    if token not in facts.prices:
        return Declined("no_price")
    rules = _rules(agent, token, policy)
    made = score.decide(rules, heard, facts.markets.get(token))
    if isinstance(made, Proposed) and policy.proposer == "model":
        made = _ask_model(agent, token, facts, made, rules)
    expires_at = facts.at + timedelta(hours=policy.signal_ttl_hours)
    if isinstance(made, Proposed) and not _store(agent, token, facts, made, expires_at):
        return _bucket_taken(facts)
    return made


def _rules(agent: Agent, token: str, policy: Generate) -> Rules:
    venue = venue_policy(agent.venue)
    levels = policy.spot if venue.is_spot else policy.perps
    return Rules(
        weights=agent.weights,
        min_confidence=agent.min_confidence,
        shorts=venue.shorts,
        max_leverage=venue.max_leverage,
        stop_loss_pct=levels.stop_loss_pct,
        take_profit_pct=levels.take_profit_pct,
        illiquid=instrument(token).illiquid,
    )


def _ask_model(agent: Agent, token: str, facts: Facts, made: Proposed, rules: Rules) -> Proposed | Declined:
    """Let the model look at the formula's trade; whatever it answers stays within the formula's bounds."""
    posts = [facts.posts[call.post] for call in made.scored.calls]
    data = {
        "token": token,
        "side": made.scored.side,
        "confidence": f"{made.scored.confidence:f}",
        "indicators": facts.markets[token].as_json(),
        "posts": [{"post_id": p.post_id, "author": p.account.x_username, "text": p.text} for p in posts],
    }
    if passages := _known(agent, token, posts, facts.at):
        data["knowledge"] = passages
    corrs = [post.correlation_id for post in posts] or [_own_correlation(agent, token, facts.bucket)]
    try:
        answer = ask(
            purpose="generate", data=data, schema=Proposal, correlation_ids=corrs, agent=agent.name
        ).answer
    except MaxxitError as error:
        log.error("proposal_failed", agent=agent.name, token=token, error=str(error))
        return Declined("model_failed", str(error)[:200])
    return score.bound(made, answer, rules)


def _known(agent: Agent, token: str, posts: Sequence[CtPost], at: datetime) -> list[dict[str, str]]:
    """What the documents say about this trade, as of `at`. They help to judge; a trade does not wait for them."""
    question = " ".join([token, *words_by_token().get(token, ()), *(post.text for post in posts)])
    try:
        return [one.as_data() for one in retrieve.passages(question, at=at, token=token, agent=agent.name)]
    except MaxxitError as error:
        log.error("knowledge_away", agent=agent.name, token=token, error=str(error))
        return []


def _own_correlation(agent: Agent, token: str, bucket: datetime) -> UUID:
    """Of a signal that no post led to."""
    return correlation.derive_id("signal", agent.pk, token, bucket.isoformat())


def _store(agent: Agent, token: str, facts: Facts, made: Proposed, expires_at: datetime) -> bool:
    """Write the signal, its posts and its event; False when the bucket already had one."""
    scored = made.scored
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
                stop_loss_pct=made.stop_loss_pct,
                take_profit_pct=made.take_profit_pct,
                leverage=made.leverage,
                size_model=size_model(agent.sizing_preset, scored.confidence, len(scored.calls)),
                risk_model={
                    "evidence": {name: round(value, 6) for name, value in scored.evidence.items()},
                    "weights": agent.weights,
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


def _tell(
    agent: Agent,
    token: str,
    facts: Facts,
    made: Proposed | Declined,
    verdicts: dict[int, set[str]],
    heard: Sequence[Call],
) -> None:
    """Note for each post what came of its call, and record a declined pair as an event of each post."""
    calls = facts.calls(agent, token)
    if isinstance(made, Proposed):
        used = {call.post for call in made.scored.calls}
        for call in calls:
            unused = "candidate:opposed" if call in heard else "candidate:author_cap"
            verdicts[call.post].add("signal" if call.post in used else unused)
        return
    for call in calls:
        verdicts[call.post].add(f"candidate:{made.reason}")
    told: dict[str, Any] = {
        "agent": agent.name,
        "token": token,
        "reason": made.reason,
        "measured": made.measured,
        "limit": made.limit,
    }
    posts = [facts.posts[call.post] for call in calls]
    record_all("signal.declined", CtPost, ((post.pk, post.correlation_id, told) for post in posts))


def _note_unlisted(agent: Agent, tokens: Iterable[str], facts: Facts, verdicts: dict[int, set[str]]) -> None:
    """A followed call on a token that the agent does not trade."""
    listed = set(tokens)
    for post in facts.posts.values():
        if post.account_id in facts.followed.get(agent.pk, ()) and not listed & set(post.sides):
            verdicts[post.pk].add("candidate:not_on_venue")


def _close_posts(verdicts: dict[int, set[str]], *, whole: bool) -> None:
    """Raise each post's outcome; all that was decided for good is processed.

    `whole` says that every active agent was asked: only then does a post without a verdict have no follower, and
    only then is it done with.
    """
    by_outcome: dict[str, list[int]] = {}
    decided = []
    for pk, found in verdicts.items():
        if whole and not found:
            found = {"candidate:no_follower"}
        for outcome in found:
            by_outcome.setdefault(outcome, []).append(pk)
        if found and not {outcome.partition(":")[2] for outcome in found} & TRANSIENT:
            decided.append(pk)
    for outcome in sorted(by_outcome):
        raise_to(CtPost.objects.filter(pk__in=by_outcome[outcome]), outcome)
    if whole:
        CtPost.objects.filter(pk__in=decided).update(processed_for_signals=True)


def _let_go(policy: Generate, at: datetime) -> None:
    """Candidates that left the lookback window without a decision will not get one."""
    waiting = CtPost.objects.filter(is_signal_candidate=True, processed_for_signals=False)
    late = waiting.filter(posted_at__lte=at - timedelta(hours=policy.max_post_age_hours))
    gone = waiting.filter(ingested_at__lte=at - timedelta(hours=policy.lookback_hours))
    raise_to(late | gone, "candidate:too_old")
    (late | gone).update(processed_for_signals=True)
