"""Daily caps: the maximum of signals per agent, author and UTC day, and per agent, token and UTC day."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, time

from agents.models import Agent
from signals_app.evidence.base import Call
from signals_app.models import Signal
from signals_app.policy import Generate
from signals_app.reasons import CandidateReason
from signals_app.score import Declined, uses_posts


class Caps:
    """Signals of each agent so far today, by token and by author; withdrawn and skipped ones count as well.

    Args:
        tokens: (agent, token) -> signals of the UTC day so far.
        authors: (agent, author) -> the same.
    """

    def __init__(
        self, policy: Generate, tokens: Counter[tuple[int, str]], authors: Counter[tuple[int, int]]
    ) -> None:
        self._policy = policy
        self._tokens, self._authors = tokens, authors

    @classmethod
    def read(cls, agents: Iterable[Agent], policy: Generate, at: datetime) -> "Caps":
        """Count the stored signals of the UTC day up to `at`."""
        midnight = datetime.combine(at.date(), time(), at.tzinfo)
        today = Signal.objects.filter(agent__in=list(agents), created_at__gte=midnight, created_at__lte=at)
        authors_of = today.order_by().values_list("agent_id", "posts__account", "pk").distinct()
        return cls(
            policy,
            Counter(today.order_by().values_list("agent_id", "token")),
            Counter((agent, author) for agent, author, _ in authors_of if author is not None),
        )

    def within_author_cap(self, agent: Agent, calls: Sequence[Call]) -> tuple[Call, ...]:
        """Select the calls of authors who are below their daily cap with this agent."""
        most = self._policy.max_signals_per_author_per_day
        return tuple(call for call in calls if self._authors[agent.pk, call.author] < most)

    def problem(self, agent: Agent, token: str, calls: Sequence[Call]) -> Declined | None:
        """Return the cap that forbids another signal from these calls today, or None."""
        limit, used = self._policy.max_signals_per_token_per_day, self._tokens[agent.pk, token]
        if used >= limit:
            return Declined(CandidateReason.TOKEN_CAP, str(used), str(limit))
        if calls and not self.within_author_cap(agent, calls) and uses_posts(agent.weights):
            used = max(self._authors[agent.pk, call.author] for call in calls)
            return Declined(
                CandidateReason.AUTHOR_CAP, str(used), str(self._policy.max_signals_per_author_per_day)
            )
        return None

    def count(self, agent: Agent, token: str, calls: Sequence[Call]) -> None:
        """Count a signal made of these calls."""
        self._tokens[agent.pk, token] += 1
        self._authors.update({(agent.pk, call.author) for call in calls})
