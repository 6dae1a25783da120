"""Doctor's check of Safes: red while a plan and the chain differ, with the Safes and what is different."""

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.errors import MaxxitError
from maxxit.reports.safes.wallet import plans_of
from trading.chain.models import SafePlan
from trading.venues.safe import snapshot
from trading.venues.safe.safes import safe_access

MOST = 500
"""Safes that are compared in one run, those of the newest deployments first."""
NAMED = 3
"""Safes that the check names."""


def differing() -> tuple[int, list[str]]:
    """Return how many Safes of deployments that have started were compared, and a sentence for each that differs.

    A plan that its owners have not signed yet differs as well: its Safe goes on under the plan in force. So does a
    chain that does not answer; the Safes on other chains are compared all the same.
    """
    started = Deployment.objects.filter(state__in=(DeploymentState.ACTIVE, DeploymentState.PAUSED))
    rows = list(started.exclude(safe_wallet="").select_related("agent").order_by("-pk")[:MOST])
    in_force, proposals = plans_of(rows)
    newest = in_force | proposals
    sentences: list[str] = []
    seen: set[tuple[int | None, str]] = set()
    for venue in sorted({row.agent.venue for row in rows}):
        own = [row for row in rows if row.agent.venue == venue]
        asked = {
            row.safe_wallet: snapshot.Asked(
                row.safe_wallet, row.module_address, newest.get((row.chain_id, row.safe_wallet))
            )
            for row in own
        }
        try:
            answers = snapshot.look(safe_access(own[0]), list(asked.values()))
        except MaxxitError as error:
            sentences.append(f"the Safes of {venue} cannot be read: {error}")
            continue
        for row in own:
            key = (row.chain_id, row.safe_wallet)
            if key in seen:
                continue
            seen.add(key)
            if text := _difference(row, asked[row.safe_wallet].plan, answers[row.safe_wallet]):
                sentences.append(text)
    return len(seen), sentences


def _difference(row: Deployment, plan: SafePlan | None, answer: snapshot.Seen) -> str:
    """Return how a Safe differs from its newest plan; empty where they agree."""
    name = f"deployment {row.pk}, Safe {row.safe_wallet}"
    if plan is None:
        return f"{name}: no plan"
    if answer.state is None or answer.problem:
        return f"{name}: the chain cannot be read: {answer.problem}"
    if not answer.state.created:
        return f"{name}: there is no Safe at this address"
    if answer.state.differences:
        proposed = (
            "a plan that waits for its delay" if answer.state.waits else "a plan that is not signed yet"
        )
        kind = proposed if plan.verified_at is None else "the plan in force"
        return f"{name}: {kind}: {answer.state.differences[0]}"
    if plan.verified_at is None:
        return f"{name}: the chain shows the new plan, which is not verified yet"
    return ""
