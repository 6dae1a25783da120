"""The inputs of a generation pass: candidates, indicators, quotes and subscriptions at one moment, for all agents."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agents.evidence import FORECAST
from agents.models import Agent, Subscription
from maxxit.learning import forecasts
from maxxit.learning.forecasts import Direction
from maxxit.learning.reasons import NoForecast
from maxxit.market import quotes, snapshots
from maxxit.market.bars import Snapshot
from signals_app.evidence.base import Call, SocialFigures
from signals_app.models import CtPost
from signals_app.policy import Generate
from signals_app.social import store


@dataclass(frozen=True)
class Facts:
    """Everything that a decision may use; all of it was known at `at`."""

    at: datetime
    bucket: datetime
    posts: dict[int, CtPost]
    """Candidates of the lookback window that are not decided on yet."""
    markets: dict[str, Snapshot]
    prices: dict[str, quotes.Quote]
    snapshots: dict[str, int]
    """Token -> id of the stored market snapshot."""
    followed: dict[int, frozenset[int]]
    """Agent -> accounts it follows."""
    social: dict[str, SocialFigures]
    forecasts: dict[str, Direction | NoForecast]
    """Token -> the forecast of the direction model, or why there is none; empty where no agent weighs it."""

    def forecast(self, agent: Agent, token: str) -> Direction | NoForecast | None:
        """Return the forecast of the direction model, or why there is none; None where `agent` does not weigh it."""
        return self.forecasts.get(token) if agent.weights.get(FORECAST) else None

    def calls(self, agent: Agent, token: str) -> tuple[Call, ...]:
        """Return the calls on `token` by accounts that `agent` follows, oldest first."""
        accounts = self.followed.get(agent.pk, frozenset())
        return tuple(
            Call(
                post.pk,
                post.sides[token],
                post.confidence,
                post.account.impact_factor,
                post.account_id,
                _reactions(post),
            )
            for post in self.posts.values()
            if token in post.sides and post.account_id in accounts and post.confidence is not None
        )


def _reactions(post: CtPost) -> int | None:
    counts = [count for count in (post.likes, post.reposts, post.replies, post.quotes) if count is not None]
    return sum(counts) if counts else None


def gather(
    agents: Sequence[Agent], tokens: Iterable[str], policy: Generate, at: datetime, bucket: datetime
) -> Facts:
    """Read candidates, indicators, quotes and subscriptions as of `at`."""
    names = sorted(tokens)
    terms = snapshots.Terms(
        width=timedelta(minutes=policy.bar_minutes),
        count=policy.bars,
        warm_up=policy.warm_up_bars,
        window=timedelta(hours=policy.bucket_hours),
    )
    stored = snapshots.of(names, terms, at)
    followed: dict[int, set[int]] = defaultdict(set)
    pairs = Subscription.objects.filter(agent__in=agents, account__is_active=True)
    for agent, account in pairs.values_list("agent_id", "account_id"):
        followed[agent].add(account)
    posts = (
        CtPost.objects.filter(
            is_signal_candidate=True,
            processed_for_signals=False,
            ingested_at__gt=at - timedelta(hours=policy.lookback_hours),
            ingested_at__lte=at,
            posted_at__gt=at - timedelta(hours=policy.max_post_age_hours),
        )
        .select_related("account")
        .order_by("pk")
    )
    return Facts(
        at=at,
        bucket=bucket,
        posts={post.pk: post for post in posts},
        markets={token: snapshot.figures for token, snapshot in stored.items()},
        snapshots={token: snapshot.row for token, snapshot in stored.items()},
        prices=quotes.latest(names),
        followed={agent: frozenset(accounts) for agent, accounts in followed.items()},
        social=store.latest(names, at, timedelta(hours=policy.social_hours)),
        forecasts=forecasts.directions(names, policy.direction_forecast.horizon_hours, at)
        if any(agent.weights.get(FORECAST) for agent in agents)
        else {},
    )
