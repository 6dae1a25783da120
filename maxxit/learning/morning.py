"""The morning deployer: retire models whose live skill is lost, and move candidates on as far as their gates allow."""

from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from maxxit.core.errors import MaxxitError, Rejected
from maxxit.learning import gates, live, registry, shadow
from maxxit.learning.models import READING, TrainedModel
from maxxit.learning.states import ModelState
from maxxit.pipeline.interrupts import ends_the_pass

log = structlog.get_logger(__name__)

BY = "morning-deployer"


@dataclass
class Decision:
    """What became of one model."""

    model: int
    name: str
    state: str
    """Before."""
    entered: list[str] = field(default_factory=list)
    held_back: str = ""
    """Why it moved no further; empty where nothing holds it back."""
    checks: list[dict[str, Any]] = field(default_factory=list)
    """Value and limit of each check of its gate."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def deploy(*, dry_run: bool = False) -> list[Decision]:
    """Judge every model that serves, and every candidate; a failure of one does not stop the others.

    Args:
        dry_run: only say what each gate measures; no model moves.
    """
    made = []
    serving = TrainedModel.objects.filter(state=ModelState.SERVING).exclude(purpose=READING).order_by("pk")
    for step, rows in ((_review, list(serving)), (_promote, registry.candidates())):
        for row in rows:
            decision = Decision(row.pk, str(row), row.state)
            try:
                step(row, decision, dry_run)
            except MaxxitError as error:
                decision.held_back = str(error)
            except Exception as error:
                if ends_the_pass(error):
                    raise
                log.exception("deploy_failed", model=row.pk)
                decision.held_back = f"{type(error).__name__}: {error}"[:500]
            made.append(decision)
    return made


def _review(row: TrainedModel, decision: Decision, dry_run: bool) -> None:
    """Retire a model that serves where its live results show that its skill is lost."""
    if problem := lost_skill(row):
        decision.held_back = problem
        if not dry_run:
            registry.retire(row, by=BY, why=problem)
            decision.entered.append(ModelState.RETIRED)


def lost_skill(row: TrainedModel) -> str:
    """Return why a model that serves is to be retired, with its figures; empty where it is not."""
    if row.purpose == "direction":
        done = shadow.results(row)
        if done.trades >= gates.SHADOW_TRADES and done.net_return < 0:
            return f"live trades lose: {done.trades} trades returned {done.net_return * 100:.2f} % in sum"
        return ""
    found = live.live_skill(row)
    if found is None or not found.lost:
        return ""
    return (
        f"live skill is lost: {found.skill_pct:+.2f} % against EWMA ({found.low_pct:+.2f} to {found.high_pct:+.2f}) "
        f"in {found.forecasts} forecasts of {found.days:.0f} days"
    )


def _promote(row: TrainedModel, decision: Decision, dry_run: bool) -> None:
    """Move a candidate on, and retire older ones of its kind that it replaces."""
    _, found = registry.next_step(row)
    decision.checks = [check.as_json() for check in found.checks] if found else []
    if found is not None and not found.passed:
        decision.held_back = found.reason
        return
    if problem := live.health_problem(row, live.current()):
        decision.held_back = f"health check: {problem}"
        return
    if dry_run:
        return
    try:
        decision.entered = registry.promote(row, by=BY, person=False)
    except Rejected as error:
        if error.code != "no_step":
            raise
    if row.state == ModelState.SHADOW:
        decision.held_back = (
            "waits for the approval of a person: `manage.py models promote`, or the page of the model"
        )
    if row.purpose == "volatility" and decision.entered:
        for old in registry.superseded_by(row):
            registry.retire(old, by=BY, why=f"superseded by model {row.pk}")
