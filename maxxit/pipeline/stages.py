"""The machine on one page: which stage is which task, on which queue, woken by which event.

When a stage runs by the clock stands in `config/schedule.yaml`. Every stage is a sweep: it looks for rows that
are due, so a lost message costs at most one interval. The events only make it quick.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline."""

    name: str
    task: str
    queue: str
    what: str
    wakes_on: tuple[str, ...] = ()


STAGES = (
    Stage("ingest", "signals_app.tasks.ingest", "ingest", "fetch new posts of the followed accounts"),
    Stage(
        "classify",
        "signals_app.tasks.classify",
        "llm",
        "read new posts: candidate or not, which tokens, which side",
        wakes_on=("stage.ingest",),
    ),
    Stage(
        "generate",
        "signals_app.tasks.generate",
        "generate",
        "turn candidates and indicators into at most one signal per agent, token and 6 hours",
        wakes_on=("stage.classify",),
    ),
    Stage(
        "execute",
        "trading.tasks.execute",
        "execute",
        "fan signals out to deployments, check every gate and limit, send, settle entries",
        wakes_on=("stage.generate", "orders.waiting"),
    ),
    Stage(
        "monitor",
        "positions.tasks.monitor",
        "monitor",
        "book fills, open and close positions, book PnL, fees and profit share",
        wakes_on=(
            "execution.completed",
            "order.partially_filled",
            "order.rejected",
            "order.canceled",
            "order.expired",
            "execution.blocked",
        ),
    ),
)
"""In the order of the pipeline: a run is one Celery chain over these."""

EXITS = Stage(
    "exits",
    "positions.tasks.sweep_exits",
    "exits",
    "claim every exit that is due, place its closing order at once, settle closing orders",
    wakes_on=(
        "quotes.moved",
        "position.closing",
        "position.open",
        "exits.waiting",
        "kill_switch.pulled",
        "gate.opened",
        "gate.approved",
    ),
)
"""Beside the pipeline, on a worker of its own: it waits for no entry, no booking, no model and no delivery."""
SWEEPS = (*STAGES, EXITS)

QUEUES = (
    "exits", "ingest", "llm", "generate", "execute", "monitor", "guard", "market", "notify", "default",
)  # fmt: skip

ALERTS = (
    "kill_switch.pulled", "kill_switch.released", "gate.opened", "gate.closed", "gate.approved", "gate.revoked",
    "exits.paused", "exits.resumed", "order.quarantined", "ctpost.quarantined", "reconcile.unexplained",
    "login.blocked", "safe.entries_stopped", "flatten.unclosed", "approval.expiring", "approval.expired",
    "transaction.refused", "transaction.stuck", "transaction.fees_at_limit", "transaction.nonce_ahead",
    "transaction.replaced", "schedule.disabled", "executor.balance_low", "limits.changed",
)  # fmt: skip
"""Events that staff is told of at once."""

DELIVER, ALERT = "maxxit.notify.tasks.deliver", "maxxit.notify.tasks.alert"
_WAITING = (
    *((event, one.task) for one in SWEEPS for event in one.wakes_on),
    ("rule.matched", DELIVER),
    *((event, ALERT) for event in ALERTS),
)
WAKES = {event: tuple(task for name, task in _WAITING if name == event) for event, _ in _WAITING}
"""Event name -> tasks to wake."""

ROUTES = {one.task: {"queue": one.queue} for one in SWEEPS} | {
    "maxxit.knowledge.*": {"queue": "default"},
    "maxxit.market.*": {"queue": "market"},
    "maxxit.notify.*": {"queue": "notify"},
    "maxxit.pipeline.*": {"queue": "default"},
    # They read much and sign nothing: no order and no booking waits for them.
    "positions.tasks.watch_risk": {"queue": "guard"},
    "trading.tasks.reconcile": {"queue": "guard"},
    "trading.tasks.watch_approvals": {"queue": "guard"},
    "positions.*": {"queue": "monitor"},
    "trading.*": {"queue": "execute"},
}


def stage(name: str) -> Stage:
    """The stage of that name. Raises KeyError with the known names."""
    for one in SWEEPS:
        if one.name == name:
            return one
    raise KeyError(f"no stage {name!r}; known: {', '.join(s.name for s in SWEEPS)}")
