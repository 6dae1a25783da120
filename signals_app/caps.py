"""Daily caps: how many signals one author or one token may cause per agent and UTC day."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, time

from agents.models import Agent
from signals_app.models import Signal
from signals_app.policy import Generate
from signals_app.score import Call, Declined


class Caps:
    """What each agent has used of its day so far. A signal that was withdrawn or skipped counts as well."""

    def __init__(self, agents: Iterable[Agent], policy: Generate, at: datetime) -> None:
        self._policy = policy
        midnight = datetime.combine(at.date(), time(), at.tzinfo)
        made = Signal.objects.filter(agent__in=list(agents), created_at__gte=midnight, created_at__lte=at)
        self._tokens = Counter(made.order_by().values_list("agent_id", "token"))
        authors_of = made.order_by().values_list("agent_id", "posts__account", "pk").distinct()
        self._authors = Counter((agent, author) for agent, author, _ in authors_of if author is not None)

    def heard(self, agent: Agent, calls: Sequence[Call]) -> tuple[Call, ...]:
        """The calls of authors who have not brought this agent their number of signals yet."""
        most = self._policy.max_signals_per_author_per_day
        return tuple(call for call in calls if self._authors[agent.pk, call.author] < most)

    def problem(self, agent: Agent, token: str, calls: Sequence[Call]) -> Declined | None:
        """Why nothing more may be made of these calls today."""
        limit, used = self._policy.max_signals_per_token_per_day, self._tokens[agent.pk, token]
        if used >= limit:
            return Declined("token_cap", str(used), str(limit))
        if calls and not self.heard(agent, calls) and agent.weight_tweet:
            used = max(self._authors[agent.pk, call.author] for call in calls)
            return Declined("author_cap", str(used), str(self._policy.max_signals_per_author_per_day))
        return None

    def took(self, agent: Agent, token: str, calls: Sequence[Call]) -> None:
        """A signal was made of these calls."""
        self._tokens[agent.pk, token] += 1
        self._authors.update({(agent.pk, call.author) for call in calls})
